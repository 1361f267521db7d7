// The live page.

import { sparkline } from './chart.js';
import { byId, copy, show } from './dom.js';
import { renderEvents, renderHits, renderInstances, renderShards } from './operations.js';
import { Path } from './path.js';
import { Ranking } from './ranking.js';
import { isLive } from './status.js';
import { clock, counted, duration, percent, say, tenths, whole } from './words.js';

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
      ranking.update(n.top, n.top_as_of, n.mysql.state === 'ok');
      path.update(n, live, connection.state === 'live');
      renderHits(n);
      renderEvents(n.events);
      renderInstances(n.instances);
      renderShards(n.shards);
    },
  };
}

// A lag below this is not shown: the flusher keeps up.
const LAG_MS_MAX = 5000;

function renderTiles(n, history) {
  show(byId('views'), counted(n));
  const parts = n.views === null ? '' : say("# in MySQL + # pending", whole(n.stored_views), whole(n.pending_views));
  show(byId('views-note'), n.views === null && n.at_least > 0 ? say("lower bound; the exact number is unknown") : parts);
  show(byId('rate'), tenths(n.views_per_second));
  show(byId('rate-note'), say("# per second into MySQL", tenths(n.stored_views_per_second)));
  show(byId('readers'), whole(n.readers));
  const flushed = n.lag_ms > LAG_MS_MAX ? clock(Date.parse(n.as_of) - n.lag_ms) : null;
  const [one, many] = flushed === null
    ? ["of # article, as of the last flush", "of # articles, as of the last flush"]
    : ["of # article, as of the last flush: #", "of # articles, as of the last flush: #"];
  show(byId('readers-note'), n.articles === null ? '' : say(n.articles === 1 ? one : many, whole(n.articles), flushed));
  show(byId('pending'), whole(n.pending_views));
  show(byId('lag'), duration(n.lag_ms));
  for (const [id, hits] of [['query-hits', n.query_hits], ['redis-hits', n.redis_hits]]) {
    show(byId(id), percent(hits.minute));
    show(byId(`${id}-note`), say("last minute; # since start", percent(hits.total)));
  }
  for (const [id, name, isFromZero] of LINES) sparkline(byId(`${id}-spark`), history.of(name), isFromZero);
}
