// The pipeline as a picture: what flows, what waits, and how each part does. Below it the conservation check: every view that
// was ever accepted is in exactly one place.

import { draw, fit, isStill, make, mark, set, show } from './dom.js';
import { isBroken } from './status.js';
import { about, clock, duration, say, tenths, together, whole } from './words.js';

const PARTS = ['ingest', 'redis', 'flusher', 'mysql'];
const NAMES = { ingest: 'ingest', redis: 'Redis', flusher: 'flusher', mysql: 'MySQL' };
const STATES = { ok: "OK", degraded: "degraded", down: "down", unknown: "unknown" };
export const stateWord = (state) => say(STATES[state] ?? state);

// Parts that are not there get no text.
const some = (count, one, many) => (count > 0 ? about(count, one, many) : null);

export class Path {
  #flows = [];

  constructor(root, books) {
    this.books = books;
    this.parts = Object.fromEntries(PARTS.map((part) => [part, this.#part(part)]));
    this.pipes = PARTS.slice(1).map(() => this.#pipe());
    PARTS.forEach((part, index) => root.append(...(index === 0 ? [] : [this.pipes[index - 1].root]), this.parts[part].root));
  }

  #part(part) {
    const root = make('div', { 'class': 'part', 'data-level': 'unknown', 'id': `part-${part}` });
    const state = make('span');
    const facts = make('p', { class: 'note' });
    root.append(make('h3', { translate: 'no' }, NAMES[part]), make('p', { class: 'state' }, mark(), state), facts);
    return { root, state, facts };
  }

  // Two lines, of which the style shows the one that fits the width of the page.
  #pipe() {
    const lines = [['across', { x1: '0', y1: '50%', x2: '100%', y2: '50%' }], ['down', { x1: '50%', y1: '0', x2: '50%', y2: '100%' }]];
    const flows = [];
    const drawn = lines.flatMap(([name, ends]) => {
      const flow = draw('line', { class: `flow ${name}`, ...ends });
      flows.push(flow);
      return [draw('line', { class: `tube ${name}`, ...ends }), flow];
    });
    this.#flows.push(flows.map((flow) => {
      const moving = flow.animate([{ strokeDashoffset: 12 }, { strokeDashoffset: 0 }], { duration: 1000, iterations: Infinity });
      moving.pause();
      return moving;
    }));
    const heads = [draw('svg', { 'class': 'head', 'viewBox': '0 0 10 10', 'aria-hidden': 'true' }, draw('path', { d: 'M1 1L9 5L1 9Z' }))];
    const fact = make('p', { class: 'fact' });
    return { root: make('div', { class: 'pipe' }, fact, make('div', { class: 'way' }, draw('svg', { 'aria-hidden': 'true' }, ...drawn), ...heads)), fact };
  }

  // `n`: the last numbers. `isLive`: whether they are current; `isConnected`: whether at least the states are.
  update(n, isLive, isConnected) {
    const quiet = n.views_per_second === 0;
    const ingest = n.views_per_second === null ? { state: 'unknown', reason: null } : { state: 'ok', reason: null };
    const sides = n.conservation?.is_current ? n.conservation : null;
    this.#show('ingest', ingest, quiet ? say("idle") : say("active"), together(some(sides?.journalled, "# view only in a journal", "# views only in a journal")));
    this.#show('redis', n.redis, null, together(some(n.pending_views, "# view waits", "# views wait"), some(n.log_entries, "# log entry", "# log entries")));
    const inQuarantine = some(sides?.quarantined, "# view in quarantine", "# views in quarantine");
    this.#show('flusher', n.flusher, n.pending_views === 0 && quiet ? say("idle") : null, together(n.lag_ms !== null && say("lag #", duration(n.lag_ms)), inQuarantine));
    this.#show('mysql', n.mysql, null, n.stored_views !== null ? together(about(n.stored_views, "# view", "# views"), about(n.reader_pairs, "# row", "# rows")) : '');

    const rates = [n.views_per_second, n.stored_views_per_second, n.stored_views_per_second];
    rates.forEach((rate, index) => {
      show(this.pipes[index].fact, say("# views/s", tenths(rate)));
      this.#flow(index, isLive && isConnected ? rate ?? 0 : 0);
    });
    this.#book(n.conservation);
  }

  #show(part, { state, reason }, okWord, facts) {
    const { root, state: line, facts: note } = this.parts[part];
    set(root, 'data-level', state);
    const word = state === 'ok' && okWord !== null ? okWord : stateWord(state);
    show(line, reason === null ? word : say("#: #", word, say(reason)));
    show(note, facts);
  }

  // More views make the dots faster, but only ten times as fast for a thousand times as many: nobody can tell a hundred
  // dots per second from a thousand.
  #flow(index, rate) {
    const speed = rate > 0 ? 0.35 + Math.log10(1 + rate) : 0;
    set(this.pipes[index].root, 'data-flow', speed > 0 ? 'on' : 'off');
    for (const moving of this.#flows[index]) {
      if (speed === 0 || isStill()) {
        if (moving.playState === 'running') moving.pause();
      } else {
        if (moving.playState !== 'running') moving.play();
        moving.updatePlaybackRate(speed);
      }
    }
  }

  #book(books) {
    this.books.hidden = books === null;
    if (books === null) return;
    const always = [["accepted", books.accepted], ["stored", books.stored], ["pending", books.pending], ["journalled", books.journalled], ["quarantined", books.quarantined]];
    const sometimes = [["dropped", books.dropped], ["repeated", books.repeated], ["unaccounted", books.unaccounted]];
    const terms = [...always, ...sometimes.filter(([, count]) => count !== 0)];
    const isWrong = isBroken(books);
    // The conservation check is made less often than the rest, and not at all while a store is away, so it shows its time.
    this.books.classList.toggle('old-books', !books.is_current);
    if (this.sum === undefined) {
      this.sum = make('p', { class: 'sum' });
      this.verdict = make('p', { class: 'verdict' }, mark(), make('span'));
      this.books.append(this.sum, this.verdict);
    }
    const create = () => make('span', { class: 'term' }, make('span', { class: 'sign' }), make('b'), make('span', { class: 'word' }));
    fit(this.sum, terms, create, (term, [name, count]) => {
      const [sign, value, word] = term.children;
      show(sign, name === 'accepted' ? '' : name === 'stored' ? ' = ' : ' + ');
      show(value, whole(count));
      show(word, ` ${say(name)}`);
    });
    set(this.verdict, 'data-level', isWrong ? 'down' : books.is_current ? 'ok' : 'unknown');
    const [added, differed] = books.is_current
      ? ["Balanced: every accepted view is in exactly one place.", "out of balance by #"]
      : ["Currently unknown. Balanced at the last check.", "Currently unknown. Out of balance by # at the last check."];
    const verdict = isWrong ? say(differed, whole(books.unaccounted)) : say(added);
    show(this.verdict.lastElementChild, together(verdict, say("as of #", clock(books.as_of))));
  }
}
