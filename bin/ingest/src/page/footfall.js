// Footfall: counts one view of the page that this is part of, and shows how often articles are read.
//
//   <script defer src="https://count.example/footfall.js" data-article="ARTICLE" data-user="USER"></script>
//   <b data-footfall-views="ARTICLE"></b> <b data-footfall-readers="ARTICLE"></b>
//
// Everything but `src` may be missing. Nothing is kept in the browser: no cookie, no storage. Whoever asks not to be
// followed (Global Privacy Control) is shown the numbers and not counted.
(() => {
  'use strict';
  const script = document.currentScript;
  const mark = Symbol.for('footfall');
  if (!script || window[mark]) return;
  window[mark] = true; // Once in a page, however often the tag is in it.

  const address = (path) => new URL(path, script.src);

  // The page's own name: an address may have several, the canonical one is the article's.
  function article() {
    if (script.dataset.article) return script.dataset.article;
    const canonical = document.querySelector('link[rel~="canonical" i][href]');
    let path = location.pathname;
    try {
      if (canonical) path = new URL(canonical.href).pathname;
      path = decodeURI(path);
    } catch {
      // No address, or percent signs that stand for no text: taken as it is.
    }
    return path;
  }

  // If it is sent twice, it is under one id: whichever arrives, the view counts once.
  async function count() {
    const bytes = Array.from(crypto.getRandomValues(new Uint8Array(16)));
    const id = bytes.map((byte) => byte.toString(16).padStart(2, '0')).join('');
    const view = JSON.stringify({ article: article(), user: script.dataset.user || undefined, id });
    try {
      if (!('keepalive' in Request.prototype)) throw 0;
      // It outlives the page. Its answer says nothing that is needed, so no site need be allowed to read it.
      const how = { method: 'POST', body: view, keepalive: true, mode: 'no-cors', credentials: 'omit' };
      await fetch(address('v1/views'), how);
    } catch {
      navigator.sendBeacon(address('v1/views'), view);
    }
  }

  async function numbers(name) {
    try {
      const answer = await fetch(address(`v1/articles/${encodeURIComponent(name)}`), { credentials: 'omit' });
      return answer.ok ? await answer.json() : {};
    } catch {
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

  const view = () => (navigator.globalPrivacyControl ? show() : count().finally(show));

  function start() {
    if (document.prerendering) document.addEventListener('prerenderingchange', view, { once: true });
    else view();
  }

  if (document.readyState === 'loading') document.addEventListener('DOMContentLoaded', start, { once: true });
  else start();
  // A page that comes back from the back/forward cache is not loaded again, but it is seen again.
  addEventListener('pageshow', (event) => { if (event.persisted) view(); });
})();
