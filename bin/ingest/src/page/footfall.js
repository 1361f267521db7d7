// Footfall: counts one view of the page that this is part of, and shows how often articles are read.
//
//   <script defer src="https://count.example/footfall.js" data-article="ARTICLE" data-user="USER"></script>
//   <b data-footfall-views="ARTICLE"></b> <b data-footfall-readers="ARTICLE"></b>
//
// Everything but `src` may be missing. Nothing is kept in the browser: no cookie, no storage. Whoever asks not to be
// followed (Global Privacy Control) is shown the numbers and not counted. A view that is not counted is said in the
// console.
(() => {
  'use strict';
  const script = document.currentScript;
  const mark = Symbol.for('footfall');
  if (!script || window[mark]) return;
  window[mark] = true; // Once in a page, however often the tag is in it.

  const address = (path) => new URL(path, script.src);

  // How a page is named: see docs/site.md. count_views.py does it alike, and one table tests both.
  const PARAMETERS = 'article id p page_id post t tid title topic';

  const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });
  const decode = (path) => path.replace(/(?:%[0-9a-f]{2})+/gi, (run) => {
    const bytes = run.slice(1).split('%').map((byte) => parseInt(byte, 16));
    return utf8.decode(Uint8Array.from(bytes));
  });

  function name({ pathname, searchParams }) {
    const names = (script.dataset.query ?? PARAMETERS).split(/[\s,]+/);
    const counted = names.filter((name) => searchParams.get(name)).map((name) => `${name}=${searchParams.get(name)}`);
    return decode(pathname) + (counted.length > 0 ? `?${counted.join('&')}` : '');
  }

  // An address may be one of several of the same page: the canonical one names it, unless that is of another site.
  function article() {
    if (script.dataset.article) return script.dataset.article;
    const here = new URL(location.href);
    const site = ({ protocol, host }) => protocol.startsWith('http') && host.replace(/^www\./, '');
    try {
      const canonical = new URL(document.head.querySelector('link[rel~="canonical" i][href]').href);
      if (site(canonical) === site(here)) return name(canonical);
    } catch {
      // There is none, or it is no address.
    }
    return name(here);
  }

  const REASONS = {
    bot: 'this browser calls itself a bot (ingest.bots)',
    gpc: 'this browser asks that nobody is followed (Global Privacy Control)',
    prefetch: 'the page is fetched ahead',
  };
  const notCounted = (why) => console.debug(`Footfall: this view is not counted: ${REASONS[why] ?? why}`);

  let isSaid = false;
  function unread() {
    if (isSaid) return;
    isSaid = true;
    const { origin } = address('');
    console.warn(`Footfall: ${origin} does not answer, or this page may not read it. If it runs, ingest.allowed_origins`
      + ` must name ${location.origin}, or this page's Content-Security-Policy must name ${origin} in connect-src.`);
  }

  // If it is sent twice, it is under one id: whichever arrives, the view counts once.
  async function count() {
    const bytes = Array.from(crypto.getRandomValues(new Uint8Array(16)));
    const id = bytes.map((byte) => byte.toString(16).padStart(2, '0')).join('');
    const view = JSON.stringify({ article: article(), user: script.dataset.user || undefined, id });
    try {
      if (!('keepalive' in Request.prototype)) throw 0;
      // It outlives the page.
      const answer = await fetch(address('v1/views'), { method: 'POST', body: view, keepalive: true, credentials: 'omit' });
      const why = answer.headers.get('footfall-not-counted');
      if (why) notCounted(why);
      if (!answer.ok) console.warn(`Footfall: this view is not counted: ${(await answer.text()).trim()}`);
    } catch {
      // It may have arrived all the same, where only the answer may not be read.
      navigator.sendBeacon(address('v1/views'), view);
    }
  }

  async function numbers(name) {
    try {
      const answer = await fetch(address(`v1/articles/${encodeURIComponent(name)}`), { credentials: 'omit' });
      return answer.ok ? await answer.json() : {};
    } catch {
      unread();
      return {};
    }
  }

  // Fills the elements that ask for numbers. What cannot be read, or only in part, stays as it was written.
  function show() {
    const known = new Map();
    for (const what of ['views', 'readers']) {
      const attribute = `data-footfall-${what}`;
      for (const element of document.querySelectorAll(`[${attribute}]`)) {
        const name = element.getAttribute(attribute) || article();
        if (!known.has(name)) known.set(name, numbers(name));
        known.get(name).then((found) => {
          if (typeof found[what] === 'number') element.textContent = found[what].toLocaleString();
        });
      }
    }
  }

  function view() {
    if (!navigator.globalPrivacyControl) return count().finally(show);
    notCounted('gpc');
    return show();
  }

  function start() {
    if (document.prerendering) document.addEventListener('prerenderingchange', view, { once: true });
    else view();
  }

  if (document.readyState === 'loading') document.addEventListener('DOMContentLoaded', start, { once: true });
  else start();
  // A page that comes back from the back/forward cache is not loaded again, but it is seen again.
  addEventListener('pageshow', (event) => { if (event.persisted) view(); });
})();
