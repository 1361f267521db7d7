// Sentences, numbers and times in the language of the reader.
//
// In these files, "double quotes" hold what people read, and each such sentence is in chinese.js; 'single quotes' hold
// everything else. A test keeps both.

import { CHINESE } from './chinese.js';
import { language } from './choices.js';

// Says a sentence, with a value for each `#`. What comes from the server has its numbers in it already: they are taken
// out, and put back where the other language has them. A sentence that nobody has translated is said as it is, and
// of `shard 1: known words: an error of Redis` at least what is known is.
export function say(sentence, ...values) {
  if (language() === 'en' && values.length === 0) return sentence;
  const holes = values.length > 0 ? values : sentence.match(/\d+/g) ?? [];
  const key = values.length > 0 ? sentence : sentence.replace(/\d+/g, '#');
  const known = language() === 'en' ? key : CHINESE[key];
  if (known !== undefined) {
    let next = 0;
    return known.replace(/#/g, () => holes[next++]);
  }
  const colon = sentence.indexOf(': ');
  if (colon < 0) return sentence;
  const parts = [sentence.slice(0, colon), sentence.slice(colon + 2)];
  const said = parts.map((part) => say(part));
  return said.some((part, index) => part !== parts[index]) ? said.join('：') : sentence;
}

// Sentences one after the other; Chinese has no space between them.
export const both = (...sentences) => sentences.filter(Boolean).join(language() === 'en' ? ' ' : '');

// Facts beside each other.
export const together = (...facts) => facts.filter(Boolean).join(' · ');

// Says everything below `root` that is written in the page itself.
export function sayAll(root) {
  for (const element of root.querySelectorAll('[data-say]')) {
    element.dataset.say ||= element.textContent;
    element.textContent = say(element.dataset.say);
  }
  for (const [mark, attribute] of [['sayLabel', 'aria-label'], ['sayPlaceholder', 'placeholder']]) {
    const name = mark.replace(/[A-Z]/, (letter) => `-${letter.toLowerCase()}`);
    for (const element of root.querySelectorAll(`[data-${name}]`)) {
      element.dataset[mark] ||= element.getAttribute(attribute);
      element.setAttribute(attribute, say(element.dataset[mark]));
    }
  }
}

const formats = new Map();
function format(Kind, options) {
  const key = `${language()} ${JSON.stringify(options)}`;
  if (!formats.has(key)) formats.set(key, new Kind(language(), options));
  return formats.get(key);
}

const isNothing = (value) => value === null || value === undefined;
const decimals = (count) => ({ minimumFractionDigits: count, maximumFractionDigits: count });
export const whole = (value) => (isNothing(value) ? '–' : format(Intl.NumberFormat, {}).format(value));
// A number; where only a part of it is known, it is shown as a lower bound.
export function counted({ views, at_least: atLeast }) {
  if (!isNothing(views)) return whole(views);
  return atLeast > 0 ? `≥ ${whole(atLeast)}` : '–';
}
// Says a sentence about so many of something: one sentence is about a single one, the other about several. Values that come
// before that number in the sentence are last here.
export const about = (count, one, many, ...before) => say(count === 1 ? one : many, ...before, whole(count));
export const tenths = (value) => (isNothing(value) ? '–' : format(Intl.NumberFormat, decimals(1)).format(value));
export const percent = (value) => (isNothing(value) ? '–' : `${format(Intl.NumberFormat, decimals(2)).format(value)} %`);

export function duration(ms) {
  if (isNothing(ms)) return '–';
  if (ms < 1000) return say("# ms", whole(ms));
  if (ms < 60000) return say("# s", tenths(ms / 1000));
  return say("# min", whole(Math.floor(ms / 60000)));
}

const TIME = { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' };
const SECONDS = { ...TIME, second: '2-digit' };
const DAY = { month: 'short', day: 'numeric' };
const isToday = (date) => date.toDateString() === new Date().toDateString();

// `Intl` throws for an invalid time, so this is checked first.
const formatted = (date, options) => (Number.isNaN(date.getTime()) ? '–' : format(Intl.DateTimeFormat, options).format(date));

// A time to the second, with the date if it is not today.
export function clock(time) {
  const date = new Date(time);
  return formatted(date, isToday(date) ? SECONDS : { ...DAY, ...SECONDS });
}

// A time to the minute; with the date if it is not today and the date is wanted.
export function minute(time, withDay = false) {
  const date = new Date(time);
  return formatted(date, withDay && !isToday(date) ? { ...DAY, ...TIME } : TIME);
}
