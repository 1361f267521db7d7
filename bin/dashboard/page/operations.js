// The page for operators: instances, shards, events, hit rates.

import { byId, draw, fit, make, mark, set, show } from './dom.js';
import { stateWord } from './path.js';
import { clock, duration, percent, say, whole } from './words.js';

const cells = (count) => () => make('tr', {}, make('th', { scope: 'row' }), ...Array.from({ length: count - 1 }, () => make('td')));

const INTERFACES = { article: "single articles", lists: "article lists", readers: "readers of an article", users: "users and their articles" };

export function renderHits({ query_hits: all, redis_hits: redis, interface_hits: interfaces }) {
  const lines = [
    ["all reads", all],
    ...Object.entries(interfaces).map(([name, hits]) => [INTERFACES[name] ?? name, hits]),
    ["Redis lookups", redis],
  ];
  fit(byId('hits'), lines, cells(3), ({ cells: [name, minute, total] }, [text, hits]) => {
    show(name, say(text));
    show(minute, percent(hits.minute));
    show(total, percent(hits.total));
  });
}

export function renderEvents(events) {
  const create = () => make('li', {}, mark(), make('time'), make('p', {}, make('b', { translate: 'no' }), make('span')));
  fit(byId('events'), events, create, (line, { at, level, text, name, detail }) => {
    const [, time, what] = line.children;
    set(line, 'data-level', level);
    set(time, 'datetime', at);
    show(time, clock(at));
    show(what.firstElementChild, name === null ? '' : `${name} `);
    show(what.lastElementChild, detail === null ? say(text) : say("#: #", say(text), say(detail)));
  });
}

export function renderInstances(instances) {
  const create = () => make('li', {}, mark(), make('b', { translate: 'no' }), make('span', { translate: 'no' }), make('span'), make('span', { class: 'note' }), make('p'));
  fit(byId('instances'), instances, create, (line, { role, name, version, since, state, reason }) => {
    const [, what, where, how, more, why] = line.children;
    set(line, 'data-level', state);
    show(what, role);
    show(where, name);
    show(how, stateWord(state));
    show(why, reason === null ? '' : say(reason));
    show(more, say("since # · version #", clock(since), version));
  });
}

export function renderShards(shards) {
  const most = Math.max(1, ...shards.map((shard) => shard.pending_views ?? 0));
  const create = () => {
    const row = cells(6)();
    row.cells[1].append(draw('svg', { 'aria-hidden': 'true' }, draw('rect', { height: '100%' })), make('span'));
    return row;
  };
  fit(byId('shards'), shards, create, ({ cells: [name, pending, entries, lag, epoch, position] }, shard) => {
    show(name, whole(shard.shard));
    set(pending.querySelector('rect'), 'width', `${((100 * shard.pending_views) / most).toFixed(1)}%`);
    show(pending.lastElementChild, whole(shard.pending_views));
    show(entries, whole(shard.log_entries));
    show(lag, duration(shard.lag_ms));
    show(epoch, whole(shard.epoch));
    show(position, whole(shard.position));
  });
}
