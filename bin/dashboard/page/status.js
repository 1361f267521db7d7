// The banner: what is wrong, and what to do about it, in one sentence above everything else.

import { byId, set, show } from './dom.js';
import { both, clock, say } from './words.js';

// What to do, by `stale.code`.
const ADVICE = {
  starting: "The first data arrives within seconds.",
  redis_down: "Check that Redis is running and that redis.url is correct. The numbers resume automatically.",
  recovering: "No action is needed if it takes seconds; otherwise check that MySQL, ingest and flusher are running.",
  schema: "The reason next to MySQL below says what differs and how to fix it. Views wait in Redis meanwhile.",
  mysql_down: "Check that MySQL is running and that database.url is correct. Views wait in Redis meanwhile.",
  mysql_older: "Was it restored from a backup? Counting is paused until an operator decides.",
  unsettled: "Check that a flusher is running; it completes the flush when it starts.",
  journalled: "They arrive as soon as Redis has room and ingest reaches it.",
  catching_up: "Ingest resends what Redis lost. If it takes minutes, check that ingest is running.",
};
const SINCE = { unknown: "Starting since #", degraded: "Degraded since #", down: "Not live since #" };

// Whether the numbers are current.
export function isLive({ state, numbers }) {
  return state === 'live' && numbers.views !== null && numbers.stale?.level !== 'down';
}

function judge({ state, numbers }) {
  if (state !== 'live') {
    const old = numbers?.as_of ? say("Showing data from #.", clock(numbers.as_of)) : null;
    if (state === 'connecting') return ['unknown', say("Connecting"), say("Waiting for the first data.")];
    if (state === 'denied') return ['down', say("Not logged in"), both(say("Your session has expired."), old), '/login'];
    return ['down', say("Connection to the dashboard lost"), both(say("Reconnecting automatically."), old, say("If this persists, check that footfall-dashboard is running."))];
  }
  const { stale, flusher, conservation } = numbers;
  if (stale !== null) {
    const advice = ADVICE[stale.code];
    return [stale.level, say(SINCE[stale.level], clock(stale.since)), both(say(stale.reason), advice && say(advice))];
  }
  if (flusher.state !== 'ok') {
    const advice = flusher.state === 'down' ? "Start footfall-flusher." : "If this persists, check its log and the load on MySQL.";
    return [flusher.state, say("Flushing is behind"), both(say("The flusher #.", say(flusher.reason ?? '')), say("Views are counted and wait in Redis."), say(advice))];
  }
  if (conservation?.is_current && isBroken(conservation)) {
    return ['down', say("Conservation check failed"), both(say("Views are missing or counted more than once: see Pipeline below."), say("Run footfall verify and keep the logs."))];
  }
  return ['ok', say("All systems operational"), say("Every view is counted, and stored in MySQL or about to be.")];
}

// Repeats in Redis are known only once they are flushed.
export const isBroken = (books) => books.unaccounted < 0 || (books.pending === 0 && books.unaccounted !== 0);

const WORDS = { connecting: "connecting", live: "live", lost: "reconnecting", denied: "not logged in" };
let announced = '';

export function renderStatus(connection) {
  const { state, numbers } = connection;
  const [level, title, text, way] = judge(connection);
  const live = isLive(connection);
  set(byId('status'), 'data-level', level);
  show(byId('status-title'), title);
  const line = byId('status-text');
  if (way === undefined) show(line, text);
  else if (line.querySelector('a') === null || line.dataset.text !== text) {
    const link = document.createElement('a');
    link.href = way;
    link.textContent = say("Log in");
    line.dataset.text = text;
    line.replaceChildren(text, ' ', link);
  }
  // Screen readers read a change of the banner once, not again each second.
  if (announced !== title) {
    announced = title;
    byId('announcement').textContent = both(`${title}.`, text);
  }
  const word = state === 'live' && !live ? "not live" : WORDS[state];
  set(byId('connection'), 'data-level', { connecting: 'unknown', live: live ? 'ok' : 'degraded', lost: 'down', denied: 'down' }[state]);
  show(byId('connection').lastElementChild, say(word));
  document.body.classList.toggle('old', !live);
  document.body.classList.toggle('lost', state !== 'live');
  const asOf = numbers?.as_of;
  show(byId('as-of'), asOf ? say("Updated at #", clock(asOf)) : '');
}
