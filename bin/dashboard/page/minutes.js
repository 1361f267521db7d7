// Views per minute: the past as MySQL had it, the current minute kept live.

import { Bars } from './chart.js';
import { read, REFRESH_MS } from './list.js';
import { say } from './words.js';

const LAST = 60;
const MINUTE_MS = 60000;
const MEMORY = 100;

const startOf = (ms) => Math.floor(ms / MINUTE_MS) * MINUTE_MS;

export class Minutes {
  #bars = null;
  #past = [];
  // Views that had been counted in all when the last bar had `#base`.
  #counted = null;
  #base = 0;
  #now = null;
  // When MySQL had how many views: a list may be some seconds old.
  #seen = [];
  #timer = 0;

  show(root) {
    this.#bars = new Bars(root, say("Views per minute"), say("Minute"));
    this.#render();
    this.#read();
  }

  // After a time of which nothing was heard.
  refresh() {
    if (this.#bars !== null) this.#read();
  }

  hide() {
    this.#bars = null;
    clearTimeout(this.#timer);
  }

  update(numbers) {
    if (numbers.as_of === null) return;
    this.#now = { at: Date.parse(numbers.as_of), views: numbers.views };
    this.#seen.push({ at: this.#now.at, stored: numbers.stored_views });
    if (this.#seen.length > MEMORY) this.#seen.shift();
    this.#render();
  }

  async #read() {
    const bars = this.#bars;
    clearTimeout(this.#timer);
    try {
      const { minutes, read_at: readAt } = await read(`/v1/minutes?last=${LAST}`);
      if (this.#bars !== bars) return;
      const at = Date.parse(readAt);
      const stored = (this.#seen.findLast((seen) => seen.at <= at) ?? this.#seen[0])?.stored;
      const before = this.#past.at(-1);
      const last = minutes.at(-1);
      // The same minute never shrinks: what was still pending is in MySQL later.
      const shown = before?.from === last.from ? before.views : 0;
      this.#past = minutes;
      if (stored !== undefined) [this.#counted, this.#base] = [stored, last.views];
      last.views = Math.max(last.views, shown);
      this.#render();
    } catch {
      // The banner says what is the matter; the bars stay as they are.
    }
    if (this.#bars === bars) this.#timer = setTimeout(() => this.#read(), this.#now === null ? 1000 : REFRESH_MS);
  }

  #render() {
    if (this.#past.length === 0) return;
    if (this.#now !== null) {
      if (this.#counted === null) [this.#counted, this.#base] = [this.#now.views, this.#past.at(-1).views];
      // No more than are shown: the server's clock may have been set ahead by years.
      const next = Math.max(Date.parse(this.#past.at(-1).from) + MINUTE_MS, startOf(this.#now.at) - LAST * MINUTE_MS);
      for (let from = next; from <= startOf(this.#now.at); from += MINUTE_MS) {
        this.#past.push({ from: new Date(from).toISOString(), views: 0 });
        [this.#counted, this.#base] = [this.#now.views, 0];
      }
      this.#past = this.#past.slice(-LAST);
      const last = this.#past.at(-1);
      last.views = Math.max(last.views, this.#base + this.#now.views - this.#counted);
    }
    this.#bars?.set(this.#past);
  }
}
