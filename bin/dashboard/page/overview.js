// The page of now.

import { sparkline } from './chart.js';
import { byId, copy, show } from './dom.js';
import { renderEvents, renderHits, renderInstances, renderShards } from './operations.js';
import { Path } from './path.js';
import { Ranking } from './ranking.js';
import { isLive } from './status.js';
import { duration, percent, say, tenths, whole } from './words.js';

const LINES = [
  ['rate', 'views_per_second', true],
  ['readers', 'readers', false],
  ['pending', 'pending_views', true],
  ['lag', 'lag_ms', true],
  ['query-hits', 'query_hits', false],
  ['redis-hits', 'redis_hits', false],
];

export function openOverview(main, history, minutes) {
  main.replaceChildren(copy('overview'));
  const ranking = new Ranking(main);
  minutes.show(byId('minutes'));
  const path = new Path(byId('path'), byId('books'));
  return {
    title: null,
    close() {
      ranking.close();
      minutes.hide();
    },
    update(connection) {
      const n = connection.numbers;
      if (n === null) return;
      const live = isLive(connection);
      renderTiles(n, history);
      ranking.update(n.top, n.as_of !== null);
      path.update(n, live, connection.state === 'live');
      renderHits(n);
      renderEvents(n.events);
      renderInstances(n.instances);
      renderShards(n.shards);
    },
  };
}

function renderTiles(n, history) {
  const known = n.as_of !== null;
  const count = (value) => (known ? whole(value) : '–');
  show(byId('views'), count(n.views));
  show(byId('views-note'), known ? say("# in MySQL + # pending", whole(n.stored_views), whole(n.pending_views)) : '');
  show(byId('rate'), tenths(n.views_per_second));
  show(byId('rate-note'), say("# per second into MySQL", tenths(n.stored_views_per_second)));
  show(byId('readers'), count(n.readers));
  show(byId('readers-note'), known ? say(n.articles === 1 ? "of # article, as of the last flush" : "of # articles, as of the last flush", whole(n.articles)) : '');
  show(byId('pending'), count(n.pending_views));
  show(byId('lag'), known ? duration(n.lag_ms) : '–');
  for (const [id, hits] of [['query-hits', n.query_hits], ['redis-hits', n.redis_hits]]) {
    show(byId(id), percent(hits.minute ?? hits.total));
    show(byId(`${id}-note`), hits.minute === null ? say("# since start", percent(hits.total)) : say("last minute; # since start", percent(hits.total)));
  }
  for (const [id, name, isFromZero] of LINES) sparkline(byId(`${id}-spark`), history.of(name), isFromZero);
}
