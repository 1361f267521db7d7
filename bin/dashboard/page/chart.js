// Charts as SVG: positions are attributes, because the page's policy allows no inline style.

import { draw, fit, make, set, show } from './dom.js';
import { about, counted, minute, say, whole } from './words.js';

// A line without axes: the shape of the last minutes, with gaps where nothing was known. Values that hardly change in
// proportion to their size are not drawn from zero, which would make them a flat line whatever happens.
export function sparkline(svg, values, isFromZero) {
  const known = values.filter((value) => value !== null);
  const least = isFromZero ? 0 : Math.min(...known);
  const range = Math.max(1, Math.max(...known) - least);
  const y = (value) => 38 - (36 * (value - least)) / range;
  const x = (index) => (100 * index) / Math.max(1, values.length - 1);
  let path = '';
  let wasKnown = false;
  values.forEach((value, index) => {
    const isKnown = value !== null;
    if (isKnown) path += `${wasKnown ? 'L' : 'M'}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
    wasKnown = isKnown;
  });
  if (svg.childElementCount === 0) {
    set(svg, 'viewBox', '0 0 100 40');
    set(svg, 'preserveAspectRatio', 'none');
    svg.append(draw('path'));
  }
  set(svg.firstElementChild, 'd', known.length > 1 ? path : '');
}

// The least round number that is not below `value`.
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, value)));
  return [1, 1.2, 1.5, 2, 3, 4, 6, 8, 10].map((factor) => factor * power).find((round) => round >= value);
}

// Bars over time, the last one still growing. Each can be read by pointing at it or with the arrow keys, and all as a table.
export class Bars {
  #title;
  #unit;
  #spans = [];
  #chosen = null;
  #said = null;

  // `unit`: what a span is called, in the head of the table. `time` says when a span begins.
  constructor(root, title, unit, time = minute) {
    this.#title = title;
    this.#unit = unit;
    this.time = time;
    this.reading = make('span', { class: 'reading' });
    this.svg = draw('svg', { 'aria-hidden': 'true' });
    this.most = make('span', { class: 'most' });
    this.plot = make('div', {
      'class': 'plot', 'role': 'slider', 'tabindex': '0', 'aria-label': title, 'aria-valuemin': 0, 'aria-valuemax': 0, 'aria-valuenow': 0,
    }, this.svg, this.most);
    this.axis = make('div', { 'class': 'axis', 'aria-hidden': 'true' }, make('span'), make('span'), make('span'));
    this.rows = make('tbody');
    const head = make('tr', {}, make('th', { scope: 'col' }, unit), make('th', { scope: 'col' }, say("Views")));
    this.table = make('details', {}, make('summary', {}, say("Show as table")), make('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': title },
      make('table', { class: 'plain' }, make('thead', {}, head), this.rows)));
    root.classList.add('chart');
    root.append(make('div', { class: 'line' }, make('h2', {}, title), this.reading), this.plot, this.axis, this.table);

    this.plot.addEventListener('pointermove', (event) => {
      const { left, width } = this.plot.getBoundingClientRect();
      this.#choose(Math.floor((this.#spans.length * (event.clientX - left)) / width));
    });
    this.plot.addEventListener('pointerleave', () => this.#choose(null));
    this.plot.addEventListener('blur', () => this.#choose(null));
    this.plot.addEventListener('keydown', (event) => {
      const last = this.#spans.length - 1;
      const now = this.#chosen ?? last;
      const to = { ArrowLeft: now - 1, ArrowDown: now - 1, ArrowRight: now + 1, ArrowUp: now + 1, PageDown: now - 10, PageUp: now + 10, Home: 0, End: last }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      this.#choose(to);
    });
    this.table.addEventListener('toggle', () => this.#render());
  }

  // `spans`: the oldest first, each with `from` and `views`, which is null where it is not known, with `at_least`.
  set(spans) {
    this.#spans = spans;
    this.#render();
  }

  #choose(index) {
    this.#chosen = index === null ? null : Math.max(0, Math.min(this.#spans.length - 1, index));
    this.#render();
  }

  #render() {
    const spans = this.#spans;
    if (spans.length === 0) return;
    const last = spans.length - 1;
    const height = ({ views, at_least: atLeast }) => views ?? atLeast;
    const highest = spans.reduce((best, span) => (height(span) > height(best) ? span : best));
    const top = ceiling(height(highest));
    const step = 100 / spans.length;
    fit(this.svg, spans, () => draw('rect'), () => {});
    spans.forEach(({ views }, index) => {
      const bar = this.svg.children[index];
      // A small number must not look like zero, and an unknown one like neither: it gets an outline without height.
      const height = views === null ? 100 : views === 0 ? 0 : Math.max(1, (100 * views) / top);
      set(bar, 'x', `${(step * (index + 0.12)).toFixed(3)}%`);
      set(bar, 'width', `${(step * 0.76).toFixed(3)}%`);
      set(bar, 'y', `${(100 - height).toFixed(2)}%`);
      set(bar, 'height', `${height.toFixed(2)}%`);
      set(bar, 'class', [views === null ? 'unknown' : index === last ? 'growing' : 'whole', index === this.#chosen ? 'chosen' : ''].join(' '));
    });
    show(this.most, whole(top));
    const read = (span) => (span.views === null
      ? about(span.at_least, "#: unknown, at least # view", "#: unknown, at least # views", this.time(span.from))
      : about(span.views, "#: # view", "#: # views", this.time(span.from)));
    const chosen = spans[this.#chosen ?? last];
    const summary = say("now # · highest # at #", counted(spans[last]), counted(highest), this.time(highest.from));
    show(this.reading, this.#chosen === null ? summary : read(chosen));
    // While this has the focus, screen readers read each change of it: it changes when the user moves, not with each view.
    if (document.activeElement !== this.plot || this.#said !== this.#chosen) {
      this.#said = this.#chosen;
      set(this.plot, 'aria-valuemax', last);
      set(this.plot, 'aria-valuenow', this.#chosen ?? last);
      set(this.plot, 'aria-valuetext', this.reading.textContent);
    }
    [spans[0], spans[Math.floor(spans.length / 2)]].forEach((span, index) => show(this.axis.children[index], this.time(span.from)));
    show(this.axis.children[2], say("now"));
    if (!this.table.open) return;
    fit(this.rows, spans.toReversed(), () => make('tr', {}, make('th', { scope: 'row' }), make('td')), ({ cells }, span) => {
      show(cells[0], this.time(span.from));
      show(cells[1], counted(span));
    });
  }
}
