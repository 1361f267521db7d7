// Views per minute: those before as MySQL had them, the present one kept live. A minute of which neither MySQL nor this
// page has seen everything is not known, and is not shown as a number.

import { Bars } from './chart.js';
import { read, REFRESH_MS } from './list.js';
import { say } from './words.js';

const LAST = 60;
const MINUTE_MS = 60000;
const MEMORY = 100;
// The longest time between two live numbers. If it is longer, there is a gap, and nobody knows in which minute the views
// in between were.
const GAP_MS_MAX = 5000;
// How old a list may be, see `reads.ttl_ms`. The views that the present minute lacks because of it come with the next list.
const LIST_MS_MAX = 15000;

const startOf = (ms) => Math.floor(ms / MINUTE_MS) * MINUTE_MS;

export class Minutes {
  #bars = null;
  // Minute -> views, as MySQL had them.
  #listed = new Map();
  // The minute that was the present one in the list, and how many views MySQL had in all then.
  #base = null;
  // By when they began: all views at the first and the last live number of a minute, and whether nothing of it was missed.
  #seen = new Map();
  // The last live number, if there is no gap since; and since when there was none.
  #now = null;
  #since = null;
  // Moments, and how many views MySQL had then.
  #stored = [];
  // What to add to the time of this page for that of the dashboard: its clock counts. Until it is known, ours does.
  #clock = performance.timeOrigin;
  #isClockKnown = false;
  #isAsked = false;
  #shown = { from: 0, views: 0 };
  #timer = 0;

  show(root) {
    this.#bars = new Bars(root, say("Views per minute"), say("Minute"));
    this.#render();
    this.#read();
  }

  // Call this after a gap in the live numbers.
  refresh() {
    this.#break();
    if (this.#bars !== null) this.#read();
  }

  hide() {
    this.#bars = null;
    clearTimeout(this.#timer);
  }

  update({ as_of: asOf, views, stored_views: stored }) {
    if (views === null) {
      this.#break();
      this.#render();
      return;
    }
    const at = Date.parse(asOf);
    const from = startOf(at);
    const before = this.#now;
    if (before === null || at - before.at > GAP_MS_MAX || at < before.at || views < before.views) {
      this.#break();
      this.#since = at;
      // A minute that was seen before the gap goes on with what is missing.
      const start = this.#seen.get(from)?.start ?? views;
      this.#seen.set(from, { start, views, isWhole: false, isOver: false });
    } else {
      const minute = this.#seen.get(from) ?? { start: before.views, views, isWhole: true, isOver: false };
      this.#seen.set(from, { ...minute, views });
      const last = this.#seen.get(startOf(before.at));
      if (startOf(before.at) < from) last.isOver = true;
    }
    this.#now = { at, views };
    this.#clock = at - performance.now();
    this.#isClockKnown = true;
    if (stored !== null) this.#stored.push({ at, stored });
    if (this.#stored.length > MEMORY) this.#stored.shift();
    for (const old of this.#seen.keys()) if (old < from - LAST * MINUTE_MS) this.#seen.delete(old);
    this.#render();
  }

  #break() {
    this.#now = null;
    this.#since = null;
    this.#stored = [];
  }

  async #read() {
    const bars = this.#bars;
    clearTimeout(this.#timer);
    try {
      const { minutes, read_at: readAt } = await read(`/v1/minutes?last=${LAST}`);
      if (this.#bars !== bars) return;
      this.#listed = new Map(minutes.map((span) => [Date.parse(span.from), span]));
      const from = Date.parse(minutes.at(-1).from);
      this.#base = { from, at: Date.parse(readAt) };
      if (!this.#isClockKnown) this.#clock = this.#base.at - performance.now();
    } catch {
      // The banner says what is the matter; minutes that were not seen stay unknown.
    }
    this.#isAsked = true;
    this.#render();
    if (this.#bars === bars) this.#timer = setTimeout(() => this.#read(), this.#now === null ? 1000 : REFRESH_MS);
  }

  // The present minute.
  get #latest() {
    return Math.max(startOf(this.#now?.at ?? performance.now() + this.#clock), this.#base?.from ?? 0);
  }

  // How many views there were in a minute when MySQL was asked in the middle of it; null if that is not known.
  #sinceListed(from, seen) {
    const listed = this.#listed.get(from);
    if (this.#base?.from !== from || listed.views === null) return null;
    if (seen === undefined || this.#since === null) return from === this.#latest ? listed.views : null;
    if (this.#since > this.#base.at + LIST_MS_MAX) return null;
    const stored = (this.#stored.findLast((moment) => moment.at <= this.#base.at) ?? this.#stored[0])?.stored;
    return stored === undefined ? listed.views : Math.max(listed.views, listed.views + seen.views - stored);
  }

  #span(from, latest) {
    const time = new Date(from).toISOString();
    const [listed, seen] = [this.#listed.get(from), this.#seen.get(from)];
    if (listed !== undefined && listed.views !== null && this.#base.from !== from) return listed;
    const isPresent = from === latest;
    const isSeen = isPresent ? this.#now !== null : seen?.isOver === true;
    const counts = [seen?.isWhole && isSeen ? seen.views - seen.start : null, isSeen || seen === undefined ? this.#sinceListed(from, seen) : null];
    const known = counts.filter((count) => count !== null);
    if (known.length > 0) {
      const views = Math.max(...known);
      // The present minute never shrinks: what was still pending is in MySQL later.
      if (isPresent) this.#shown = { from, views: this.#shown.from === from ? Math.max(views, this.#shown.views) : views };
      return { from: time, views: isPresent ? this.#shown.views : views, at_least: null };
    }
    const least = [listed?.views, listed?.at_least, seen && seen.views - seen.start].map((count) => count ?? 0);
    return { from: time, views: null, at_least: Math.max(...least) };
  }

  #render() {
    // Before the first list was asked for, nothing is drawn: the minutes are not unknown yet.
    if (!this.#isAsked) return;
    const latest = this.#latest;
    const first = latest - (LAST - 1) * MINUTE_MS;
    this.#bars?.set(Array.from({ length: LAST }, (_, index) => this.#span(first + index * MINUTE_MS, latest)));
  }
}
