// Shows what the WebSocket says. Everything is set as text: an article may be called `<script>`.

const byId = (id) => document.getElementById(id);
const show = (element, text) => { if (element.textContent !== text) element.textContent = text; };

const whole = new Intl.NumberFormat('en');
const tenths = new Intl.NumberFormat('en', { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const hundredths = new Intl.NumberFormat('en', { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const orDash = (format, value, unit = '') => (value === null ? '–' : format.format(value) + unit);
const plural = (count, one, many) => `${whole.format(count)} ${count === 1 ? one : many}`;
const duration = (ms) => {
  if (ms < 1000) return `${ms} ms`;
  if (ms < 60000) return `${tenths.format(ms / 1000)} s`;
  return `${whole.format(Math.floor(ms / 60000))} min`;
};
const clock = (time) => new Date(time).toLocaleTimeString([], { hour12: false });

// For each `stale.code`: how grave it is, and what a person can do about it.
const CASES = {
  starting: ['unknown', 'The first numbers arrive within seconds.'],
  redis_down: ['down', 'Check that Redis runs and that redis.url is right. The numbers go on by themselves.'],
  recovering: ['down', 'Nothing to do if it takes seconds; else check that MySQL, ingest and flusher run.'],
  mysql_down: ['degraded', 'Check that MySQL runs and that database.url is right. Views wait in Redis meanwhile.'],
  mysql_older: ['down', 'Was it restored from a backup? Counting stands still until a person decides.'],
  unsettled: ['degraded', 'Check that a flusher runs; it finishes the flush when it starts.'],
  catching_up: ['down', 'Ingest sends again what Redis lost. If it takes minutes, check that ingest runs.'],
};
const TITLES = { unknown: 'Starting', degraded: 'Degraded', down: 'Not live' };

// ---- the numbers ----

let numbers = null;
let connection = 'unknown';
let heardAt = 0;

function render() {
  const live = connection === 'ok';
  const known = numbers !== null && numbers.as_of !== null;
  const frozen = !known || CASES[numbers.stale?.code]?.[0] === 'down';
  document.body.classList.toggle('old', !live || frozen);
  document.body.classList.toggle('lost', !live);
  renderStatus(live);
  if (numbers === null) return;

  const n = numbers;
  const count = (value) => (known ? whole.format(value) : '–');
  show(byId('views'), count(n.views));
  show(byId('views-note'), known ? `${count(n.stored_views)} in MySQL + ${count(n.pending_views)} pending` : '');
  show(byId('rate'), orDash(tenths, n.views_per_second));
  show(byId('readers'), count(n.readers));
  show(byId('readers-note'), known ? `of ${plural(n.articles, 'article', 'articles')}, as of the last flush` : '');
  show(byId('pending'), count(n.pending_views));
  show(byId('lag'), known ? duration(n.lag_ms) : '–');
  for (const [id, hits] of [['query-hits', n.query_hits], ['redis-hits', n.redis_hits]]) {
    show(byId(id), orDash(hundredths, hits.minute ?? hits.total, ' %'));
    const since = `${orDash(hundredths, hits.total, ' %')} since start`;
    show(byId(`${id}-note`), hits.minute === null ? since : `last minute; ${since}`);
  }
  document.title = known ? `${whole.format(n.views)} views · Footfall` : 'Footfall';

  const quiet = n.views_per_second === 0;
  const receiving = { state: n.views_per_second === null ? 'unknown' : 'ok', reason: null };
  renderStep('ingest', receiving, quiet ? 'quiet' : 'counting', `${orDash(tenths, n.views_per_second)} views/s`);
  renderStep('redis', n.redis, 'ok', known ? `${count(n.pending_views)} pending, ${plural(n.sealed_generations, 'batch', 'batches')} sealed` : '');
  renderStep('flusher', n.flusher, n.pending_views === 0 && quiet ? 'nothing to do' : 'ok', known ? `lag ${duration(n.lag_ms)}` : '');
  renderStep('mysql', n.mysql, 'ok', known ? `${count(n.stored_views)} views in ${count(n.reader_pairs)} rows` : '');
  renderBooks(n.conservation);
  renderTop(n.top);
  show(byId('as-of'), known ? clock(n.as_of) : '–');
}

function renderStatus(live) {
  const status = byId('status');
  const set = (level, title, text) => {
    status.dataset.level = level;
    show(byId('status-title'), title);
    show(byId('status-text'), text);
  };
  if (!live) {
    const old = numbers?.as_of ? ` What you see is from ${clock(numbers.as_of)}.` : '';
    if (connection === 'unknown') set('unknown', 'Connecting', `Waiting for the first numbers.${old}`);
    else set('down', 'Not connected to the dashboard', `Trying again by itself.${old} If it lasts, check that footfall-dashboard runs.`);
  } else if (numbers.stale !== null) {
    const { code, reason, since } = numbers.stale;
    const [level, advice] = CASES[code] ?? ['degraded', ''];
    set(level, `${TITLES[level]} since ${clock(since)}`, `${reason} ${advice}`);
  } else if (numbers.flusher.state !== 'ok') {
    const advice = numbers.flusher.state === 'down' ? 'Start footfall-flusher.' : 'If it lasts, look at its log and at the load of MySQL.';
    set(numbers.flusher.state, 'Flushing is behind', `The flusher ${numbers.flusher.reason}. Views are counted and wait in Redis. ${advice}`);
  } else {
    set('ok', 'All is well', 'Every view is counted, and on its way to MySQL or there.');
  }
}

function renderStep(id, health, okWord, fact) {
  const step = byId(id);
  step.dataset.state = health.state;
  const word = health.state === 'ok' ? okWord : health.state;
  show(step.querySelector('.state span'), health.reason === null ? word : `${word}: ${health.reason}`);
  show(step.querySelector('.fact'), fact);
}

// Every view that was ever accepted is in exactly one of these places.
function renderBooks(books) {
  if (books === null) return show(byId('books'), '');
  const parts = ['stored', 'pending', 'journalled', 'quarantined', 'dropped', 'repeated', 'unaccounted'];
  const named = parts.filter((part, index) => index < 4 || books[part] !== 0);
  const sum = named.map((part) => `${whole.format(books[part])} ${part}`).join(' + ');
  return show(byId('books'), `${whole.format(books.accepted)} accepted = ${sum}`);
}

function renderTop(articles) {
  const body = byId('top');
  while (body.rows.length > articles.length) body.lastElementChild.remove();
  while (body.rows.length < articles.length) body.append(newLine());
  const most = articles[0]?.views ?? 0;
  articles.forEach((article, index) => {
    const [name, views, readers] = body.rows[index].cells;
    show(name.querySelector('span'), article.article);
    name.title = article.article;
    name.querySelector('rect').setAttribute('width', `${(100 * article.views) / most}%`);
    show(views, whole.format(article.views));
    show(readers, whole.format(article.readers));
  });
  byId('empty').hidden = articles.length > 0 || numbers.as_of === null;
  body.closest('table').hidden = articles.length === 0;
}

function newLine() {
  const line = document.createElement('tr');
  const name = document.createElement('th');
  name.scope = 'row';
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('aria-hidden', 'true');
  const bar = document.createElementNS('http://www.w3.org/2000/svg', 'rect');
  bar.setAttribute('height', '100%');
  bar.setAttribute('rx', '4');
  svg.append(bar);
  name.append(svg, document.createElement('span'));
  line.append(name, document.createElement('td'), document.createElement('td'));
  return line;
}

// ---- the connection ----

const SILENCE_MS_MAX = 5000;
let socket = null;
let attempts = 0;
let retry = 0;

function say(state, text) {
  connection = state;
  byId('connection').dataset.state = state;
  show(byId('connection').querySelector('span'), text);
  render();
}

function connect() {
  clearTimeout(retry);
  const url = new URL('/realtime', location.href);
  url.protocol = url.protocol.replace('http', 'ws');
  const mine = new WebSocket(url);
  socket = mine;
  heardAt = performance.now();
  mine.onmessage = ({ data }) => { if (socket === mine) receive(JSON.parse(data)); };
  mine.onclose = () => { if (socket === mine) lost(); };
}

function receive({ type, seq, ...fields }) {
  heardAt = performance.now();
  attempts = 0;
  if (type === 'snapshot') {
    numbers = { ...fields, seq };
  } else if (numbers !== null && seq === numbers.seq + 1) {
    Object.assign(numbers, fields, { seq });
  } else {
    // An update of something else than what is shown: begin anew with a whole snapshot.
    socket.close();
    return;
  }
  if (connection === 'ok') render();
  else say('ok', 'live');
}

function lost() {
  socket = null;
  say('down', 'not connected');
  // Up to 0.5 s, 1 s, 2 s, ... 15 s, at random, so that viewers do not all come back in one moment.
  const limit = Math.min(15000, 500 * 2 ** attempts);
  attempts += 1;
  retry = setTimeout(connect, limit * (0.5 + Math.random() / 2));
}

// The server speaks several times a second; a silent connection is a dead one, whatever TCP believes.
setInterval(() => {
  if (socket !== null && performance.now() - heardAt > SILENCE_MS_MAX) {
    const silent = socket;
    lost();
    silent.close();
  }
}, 1000);
addEventListener('online', () => { if (socket === null) connect(); });
addEventListener('offline', () => { if (socket !== null) { const gone = socket; lost(); gone.close(); } });

connect();
