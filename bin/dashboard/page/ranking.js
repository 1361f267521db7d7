// The most read articles: by views, live; by readers or by rise, as MySQL has them; or those whose name begins with the
// typed text.

import { draw, isStill, linkTo, make, set, show } from './dom.js';
import { age, problem, read, REFRESH_MS } from './list.js';
import { clock, counted, say, tenths, whole } from './words.js';

const LINES = 10;
const SEARCH_PAUSE_MS = 250;
// Ranks are compared with those of a minute ago.
const MEMORY_MS = 60000;
const SAMPLE_MS = 5000;

const numbers = (line) => ({ article: line.article, weight: line.views ?? line.at_least, cells: [counted(line), whole(line.readers)] });
const ORDERS = {
  views: { heads: ["Views", "Readers"], entry: numbers },
  readers: { heads: ["Views", "Readers"], entry: (article) => ({ ...numbers(article), weight: article.readers }), url: `/v1/articles?by=readers&limit=${LINES}` },
  rise: {
    heads: ["Last hour", "Increase per hour"],
    entry: ({ article, last_hour: lastHour, rise }) => ({ article, weight: rise, cells: [tenths(lastHour), `+${tenths(rise)}`] }),
    url: `/v1/articles?by=rise&limit=${LINES}`,
  },
  search: { heads: ["Views", "Readers"], entry: numbers },
};
const NOTHING = {
  views: "No views yet.",
  readers: "No views yet.",
  rise: "No article is rising.",
  search: "No matching articles.",
};

// Tabs, as a keyboard expects them: one of them can be reached, the arrows go to the others. Answers how to choose one.
export function tabs(root, ids, panel, chosen) {
  const all = ids.map((id) => root.querySelector(`#by-${id}`));
  const choose = (id) => {
    all.forEach((tab, index) => {
      const isChosen = ids[index] === id;
      tab.setAttribute('aria-selected', isChosen);
      tab.tabIndex = isChosen ? 0 : -1;
    });
    if (id !== null) panel.setAttribute('aria-labelledby', `by-${id}`);
    else all[0].tabIndex = 0;
  };
  all.forEach((tab, index) => {
    tab.addEventListener('click', () => { choose(ids[index]); chosen(ids[index]); });
    tab.addEventListener('keydown', (event) => {
      const to = { ArrowLeft: index - 1, ArrowRight: index + 1, Home: 0, End: -1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      const next = all.at(to % all.length);
      next.focus();
      next.click();
    });
  });
  return choose;
}

// Calls `typed` when the user has stopped typing.
export function searchField(field, typed) {
  let pause = 0;
  field.form.addEventListener('submit', (event) => event.preventDefault());
  field.addEventListener('input', () => {
    clearTimeout(pause);
    pause = setTimeout(() => typed(field.value), SEARCH_PAUSE_MS);
  });
}

export class Ranking {
  #order = 'views';
  #prefix = '';
  #timer = 0;
  #asked = 0;
  #ranks = [];
  #isClosed = false;

  constructor(root) {
    this.panel = root.querySelector('#ranking');
    this.head = this.panel.querySelector('thead');
    this.body = this.panel.querySelector('tbody');
    this.note = this.panel.querySelector('#ranking-note');
    this.choose = tabs(root, ['views', 'readers', 'rise'], this.panel, (order) => {
      root.querySelector('#search').value = '';
      this.#open(order);
    });
    searchField(root.querySelector('#search'), (prefix) => {
      this.#prefix = prefix;
      this.choose(prefix === '' ? 'views' : null);
      this.#open(prefix === '' ? 'views' : 'search');
    });
    this.choose('views');
    this.#open('views');
  }

  close() {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  // `top`: the most viewed articles, live; `asOf`: when MySQL said which, null if it never did; `isCurrent`: whether it
  // can be asked.
  update(top, asOf, isCurrent) {
    if (this.#order !== 'views') return;
    this.#render(top.map(ORDERS.views.entry), this.#remember(top));
    const nothing = asOf !== null && top.length === 0 ? say(NOTHING.views) : '';
    show(this.note, isCurrent || asOf === null ? nothing : say("Readers and the choice of articles are from MySQL at #.", clock(asOf)));
    this.last = top;
  }

  #open(order) {
    clearTimeout(this.#timer);
    this.#order = order;
    const head = (text) => make('th', { scope: 'col' }, say(text));
    const [first, second] = ORDERS[order].heads;
    this.head.replaceChildren(make('tr', {}, make('th', { scope: 'col' }, make('span', { class: 'unseen' }, say("Rank"))), head("Article"), head(first), head(second)));
    this.body.replaceChildren();
    this.body.dataset.order = order;
    if (order === 'views') this.update(this.last ?? [], null, true);
    else this.#read();
  }

  async #read() {
    clearTimeout(this.#timer);
    const order = this.#order;
    this.#asked += 1;
    const asked = this.#asked;
    const url = ORDERS[order].url ?? `/v1/articles?prefix=${encodeURIComponent(this.#prefix)}&limit=${LINES}`;
    try {
      const list = await read(url);
      if (this.#isClosed || asked !== this.#asked || order !== this.#order) return;
      this.#render(list.articles.map(ORDERS[order].entry), new Map());
      const nothing = list.articles.length === 0 ? `${say(NOTHING[order])} ` : '';
      show(this.note, nothing + age(list));
    } catch (error) {
      if (this.#isClosed || asked !== this.#asked || order !== this.#order) return;
      this.note.replaceChildren(...problem(error).childNodes);
    }
    this.#timer = setTimeout(() => this.#read(), REFRESH_MS);
  }

  // The present ranks, and by how much each article rose within a minute; null for one that had no rank.
  #remember(top) {
    const now = performance.now();
    const ranks = new Map(top.map(({ article }, index) => [article, index]));
    if (top.length > 0 && !(now - this.#ranks.at(-1)?.at < SAMPLE_MS)) this.#ranks.push({ at: now, ranks });
    while (this.#ranks.length > 1 && now - this.#ranks[1].at > MEMORY_MS) this.#ranks.shift();
    const before = this.#ranks[0]?.ranks ?? ranks;
    return new Map(top.map(({ article }, index) => [article, before.has(article) ? before.get(article) - index : null]));
  }

  #render(entries, rises) {
    const before = new Map([...this.body.rows].map((row) => [row.dataset.article, { row, top: row.offsetTop }]));
    const most = Math.max(...entries.map(({ weight }) => weight), 1e-9);
    const rows = entries.map((entry, index) => {
      const row = before.get(entry.article)?.row ?? this.#row(entry.article);
      const [rank, name, ...cells] = row.cells;
      show(rank.firstElementChild, whole(index + 1));
      this.#mark(rank.lastElementChild, rises.get(entry.article) ?? (rises.has(entry.article) ? null : 0));
      set(name.querySelector('rect'), 'width', `${((100 * entry.weight) / most).toFixed(2)}%`);
      cells.forEach((cell, column) => show(cell, entry.cells[column]));
      return row;
    });
    // Rows are moved only if they must be: focus and selection stay where they are.
    rows.forEach((row, index) => { if (this.body.rows[index] !== row) this.body.insertBefore(row, this.body.rows[index] ?? null); });
    while (this.body.rows.length > rows.length) this.body.lastElementChild.remove();
    if (isStill() || document.hidden) return;
    for (const row of rows) {
      const way = (before.get(row.dataset.article)?.top ?? row.offsetTop) - row.offsetTop;
      if (way !== 0) row.animate([{ transform: `translateY(${way}px)` }, { transform: 'none' }], { duration: 350, easing: 'ease-out' });
    }
  }

  #row(article) {
    const bar = draw('svg', { 'aria-hidden': 'true' }, draw('rect', { height: '100%' }));
    const link = linkTo('article', article);
    link.title = article;
    const row = make('tr', {}, make('td', {}, make('span'), make('span', { class: 'change' })), make('th', { scope: 'row' }, bar, link), make('td'), make('td'));
    row.dataset.article = article;
    return row;
  }

  // An arrow, and the same in words for screen readers.
  #mark(element, rise) {
    const key = String(rise);
    if (element.dataset.rise === key) return;
    element.dataset.rise = key;
    if (rise === 0) return void element.replaceChildren();
    const [sign, words] = rise === null
      ? [say("new"), say("new within the last minute")]
      : rise > 0 ? [`▲${whole(rise)}`, say("up # within the last minute", whole(rise))] : [`▼${whole(-rise)}`, say("down # within the last minute", whole(-rise))];
    element.title = words;
    element.replaceChildren(make('span', { 'aria-hidden': 'true' }, sign), make('span', { class: 'unseen' }, words));
  }
}
