// Elements. Everything is set as text or as an attribute, never as markup: an article may be called `<script>`.

import { sayAll } from './words.js';

export const byId = (id) => document.getElementById(id);

// Leaves a text that is the same untouched, so that nothing is laid out again and a selection stays.
export const show = (element, text) => { if (element.textContent !== text) element.textContent = text; };
export const set = (element, name, value) => {
  if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
};

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
export const draw = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);

// A symbol beside a word that shows its level: see `[data-level]` in app.css.
export const mark = () => make('i', { 'aria-hidden': 'true' });

// What a template of index.html holds, in the reader's language.
export function copy(template) {
  const content = byId(template).content.cloneNode(true);
  sayAll(content);
  return content;
}

// A link to the page of an article or a reader. Names can be of any script and direction.
export const linkTo = (page, name) =>
  make('a', { href: `#/${page}/${encodeURIComponent(name)}`, dir: 'auto', translate: 'no' }, name);

// Makes a list have one child per item, each made once and then updated.
export function fit(list, items, create, update) {
  while (list.children.length > items.length) list.lastElementChild.remove();
  while (list.children.length < items.length) list.append(create());
  items.forEach((item, index) => update(list.children[index], item));
}

const stillness = matchMedia('(prefers-reduced-motion: reduce)');
export const isStill = () => stillness.matches;
