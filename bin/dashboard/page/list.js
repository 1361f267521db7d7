// Lists that the dashboard reads from MySQL, page by page.

import { make, show } from './dom.js';
import { both, clock, say } from './words.js';

// For how long the first page of a list is shown before it is read again.
export const REFRESH_MS = 15000;

// Reads a list. Fails with a sentence and, if one is needed, `needsToken`.
export async function read(url) {
  const answer = await fetch(url).catch(() => null);
  if (answer === null) throw Object.assign(new Error(say("The dashboard does not respond.")), { needsToken: false });
  if (answer.status === 401) throw Object.assign(new Error(say("A token is required to see who reads what.")), { needsToken: true });
  const text = await answer.text();
  if (!answer.ok) throw Object.assign(new Error(say(text.trim())), { needsToken: false });
  return JSON.parse(text);
}

// Says how old a list is, and the reason if it is older than it should be.
export const age = ({ read_at: readAt, degraded }) =>
  both(say("Read from MySQL at #.", clock(readAt)), degraded && say("May be incomplete: #.", say(degraded)));

// Says what went wrong, and what to do about it.
export function problem(error) {
  const line = make('p', { 'class': 'problem', 'data-level': 'down' }, make('i', { 'aria-hidden': 'true' }), make('span', {}, error.message));
  if (error.needsToken) line.append(' ', make('a', { href: '/login' }, say("Log in")));
  return line;
}

// A table that grows by a page at a time. `columns`: the heads; `row` makes the cells of an entry, the first one its head.
export class List {
  #url;
  #entries;
  #row;
  #next = null;
  #pages = 0;
  #timer;
  #isClosed = false;

  // `entries`: their name in the answer. `nothing`: said if there are none.
  constructor(root, { url, entries, columns, row, nothing }) {
    this.#url = url;
    this.#entries = entries;
    this.#row = row;
    this.rows = make('tbody');
    this.table = make('table', { class: `columns-${columns.length}` }, make('thead', {}, make('tr', {}, ...columns.map((name) => make('th', { scope: 'col' }, name)))), this.rows);
    this.table.hidden = true;
    this.nothing = make('p', {}, nothing);
    this.nothing.hidden = true;
    this.problem = make('div', { role: 'alert' });
    this.more = make('button', { type: 'button' }, say("Load more"));
    this.more.hidden = true;
    this.more.addEventListener('click', () => this.#read());
    this.note = make('p', { class: 'note' }, say("Loading …"));
    root.replaceChildren(this.table, this.nothing, this.problem, make('p', { class: 'more' }, this.more), this.note);
    this.#read();
  }

  close() {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  async #read() {
    clearTimeout(this.#timer);
    const isFirst = this.#next === null;
    const separator = this.#url.includes('?') ? '&' : '?';
    const after = isFirst ? '' : `${separator}after=${encodeURIComponent(this.#next)}`;
    this.more.disabled = true;
    try {
      const page = await read(this.#url + after);
      if (this.#isClosed) return;
      const lines = page[this.#entries].map((entry) => make('tr', {}, ...this.#row(entry).map((cell, index) => (index === 0 ? make('th', { scope: 'row' }, cell) : make('td', {}, cell)))));
      if (isFirst) this.rows.replaceChildren(...lines);
      else this.rows.append(...lines);
      // The keyboard goes on where the new page begins.
      if (!isFirst) lines[0]?.querySelector('a')?.focus();
      this.#pages = isFirst ? 1 : this.#pages + 1;
      this.#next = page.next ?? null;
      this.more.hidden = this.#next === null;
      this.table.hidden = this.rows.rows.length === 0;
      this.nothing.hidden = !this.table.hidden;
      this.problem.replaceChildren();
      show(this.note, age(page));
    } catch (error) {
      if (this.#isClosed) return;
      this.problem.replaceChildren(problem(error));
      if (this.#pages === 0) show(this.note, '');
    }
    this.more.disabled = false;
    // A list with more than one page is not refreshed: its rows would move while somebody reads them.
    if (this.#pages <= 1) this.#timer = setTimeout(() => this.#again(), REFRESH_MS);
  }

  #again() {
    if (this.rows.contains(document.activeElement)) {
      this.#timer = setTimeout(() => this.#again(), REFRESH_MS);
      return;
    }
    this.#next = null;
    this.#read();
  }
}
