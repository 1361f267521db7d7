// The dashboard: one connection for the numbers of all pages, and one page at a time, named by what is behind `#/`.

import { offerChoices } from './choices.js';
import { Connection } from './connection.js';
import { byId, copy } from './dom.js';
import { History } from './history.js';
import { Minutes } from './minutes.js';
import { openOverview } from './overview.js';
import { openArticle, openArticles, openReader, openReaders } from './pages.js';
import { isLive, renderStatus } from './status.js';
import { about, say, sayAll } from './words.js';

const main = byId('main');
const history = new History();
const minutes = new Minutes();
let page = null;
let wasLive = false;

const connection = new Connection('/realtime', () => {
  const live = connection.state === 'live';
  if (live && !wasLive) {
    history.load().then(render);
    minutes.refresh();
  }
  wasLive = live;
  if (live) history.add(connection.numbers);
  // While the connection is away nothing is known: the charts show a gap.
  minutes.update(live ? connection.numbers : { views: null });
  render();
});

function render() {
  renderStatus(connection);
  page?.update(connection);
  const n = connection.numbers;
  const lead = isLive(connection) ? about(n.views, "# view", "# views") : connection.state === 'lost' ? say("Reconnecting") : null;
  const title = [page?.title, lead, 'Footfall'].filter(Boolean).join(' · ');
  if (document.title !== title) document.title = title;
}

function openPage() {
  const [place, ...names] = location.hash.replace(/^#\/?/, '').split('/');
  page?.close();
  let name = null;
  try {
    name = names.length === 1 && names[0] !== '' ? decodeURIComponent(names[0]) : null;
  } catch {
    // This page has never written such an id into an address.
  }
  if (place === '' && names.length === 0) page = openOverview(main, history, minutes);
  else if (place === 'articles' && names.length === 0) page = openArticles(main);
  else if (place === 'readers' && names.length === 0) page = openReaders(main);
  else if (place === 'article' && name !== null) page = openArticle(main, name);
  else if (place === 'reader' && name !== null) page = openReader(main, name);
  else {
    main.replaceChildren(copy('nothing'));
    page = { title: say("Page not found"), close() {}, update() {} };
  }
  const section = { article: '#/articles', reader: '#/readers' }[place] ?? `#/${place}`;
  for (const link of document.querySelectorAll('nav a')) {
    if (link.getAttribute('href') === section) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  render();
}

addEventListener('hashchange', () => {
  openPage();
  // Begin at the top, as if the page had been loaded anew: with the scroll position and with the focus.
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
});
// The fragment of the address names the page, so this link must not set it: it only moves the focus.
byId('skip').addEventListener('click', (event) => {
  event.preventDefault();
  main.focus();
});

offerChoices(() => {
  sayAll(document.body);
  openPage();
});
sayAll(document.body);
openPage();
