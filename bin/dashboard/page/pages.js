// The pages of one article and of one reader, and of all of them.

import { Bars } from './chart.js';
import { Connection } from './connection.js';
import { byId, copy, linkTo, show } from './dom.js';
import { List, problem, read, REFRESH_MS } from './list.js';
import { searchField, tabs } from './ranking.js';
import { both, clock, counted, minute, say, whole } from './words.js';

const PAGE = 25;
const articleColumns = () => [say("Article"), say("Views"), say("Readers")];
const articleRow = ({ article, views, readers }) => [linkTo('article', article), whole(views), whole(readers)];

export function openArticles(main) {
  main.replaceChildren(copy('articles'));
  const orders = ['views', 'readers', 'name'];
  let list = null;
  const open = (query, nothing) => {
    list?.close();
    list = new List(byId('list'), { url: `/v1/articles?${query}&limit=${PAGE}`, entries: 'articles', columns: articleColumns(), row: articleRow, nothing });
  };
  const openBy = (order) => open(`by=${order}`, say("No views yet."));
  const choose = tabs(main, orders, byId('list'), (order) => {
    byId('search').value = '';
    openBy(order);
  });
  searchField(byId('search'), (prefix) => {
    choose(prefix === '' ? 'views' : null);
    if (prefix === '') openBy('views');
    else open(`prefix=${encodeURIComponent(prefix)}`, say("No matching articles."));
  });
  choose('views');
  openBy('views');
  return { title: say("All articles"), close: () => list.close(), update() {} };
}

export function openArticle(main, article) {
  main.replaceChildren(copy('article'));
  const path = `/v1/articles/${encodeURIComponent(article)}`;
  show(byId('name'), article);
  const list = new List(byId('list'), {
    url: `${path}/readers?limit=${PAGE}`,
    entries: 'readers',
    columns: [say("Reader"), say("Views")],
    row: ({ user, views }) => [linkTo('reader', user), whole(views)],
    nothing: say("No readers yet."),
  });
  const hours = openHours(byId('hours'), `${path}/hours?last=48`);
  const live = new Connection(`/realtime?article=${encodeURIComponent(article)}`, () => {
    const n = live.numbers;
    // These numbers have a time of their own: they may be old while those in the header are live.
    document.body.classList.toggle('old-article', live.state !== 'live' || n.views === null);
    if (n === null) return;
    show(byId('article-views'), counted(n));
    show(byId('article-readers'), whole(n.readers));
    show(byId('article-pending'), whole(n.pending));
    show(byId('article-note'), n.views === null ? both(n.degraded && say(n.degraded)) : say("# in MySQL + # pending", whole(n.views - n.pending), whole(n.pending)));
    show(byId('article-as-of'), both(n.as_of && say("as of #", clock(n.as_of)), n.views !== null && n.degraded && say(n.degraded)));
  });
  return {
    title: article,
    close() {
      list.close();
      hours.close();
      live.close();
      document.body.classList.remove('old-article');
    },
    update() {},
  };
}

function openHours(root, url) {
  const bars = new Bars(root, say("Views per hour"), say("Hour"), (time) => minute(time, true));
  let timer = 0;
  let isClosed = false;
  const refresh = async () => {
    try {
      const { hours } = await read(url);
      if (!isClosed) bars.set(hours);
    } catch (error) {
      if (!isClosed) bars.reading.replaceChildren(...problem(error).childNodes);
    }
    if (!isClosed) timer = setTimeout(refresh, REFRESH_MS);
  };
  refresh();
  return {
    close() {
      isClosed = true;
      clearTimeout(timer);
    },
  };
}

export function openReaders(main) {
  main.replaceChildren(copy('readers-page'));
  const list = new List(byId('list'), {
    url: `/v1/users?limit=${PAGE}`,
    entries: 'users',
    columns: [say("Reader")],
    row: ({ user }) => [linkTo('reader', user)],
    nothing: say("No readers yet."),
  });
  return { title: say("All readers"), close: () => list.close(), update() {} };
}

export function openReader(main, user) {
  main.replaceChildren(copy('reader'));
  show(byId('name'), user);
  const list = new List(byId('list'), {
    url: `/v1/users/${encodeURIComponent(user)}/articles?limit=${PAGE}`,
    entries: 'articles',
    columns: [say("Article"), say("Views")],
    row: ({ article, views }) => [linkTo('article', article), whole(views)],
    nothing: say("No articles yet."),
  });
  return { title: user, close: () => list.close(), update() {} };
}
