// Asks for the article's numbers once a second while the page is seen, and says when they are not live.
const article = document.body.dataset.article;
const show = (id, text) => { document.getElementById(id).textContent = text; };

async function refresh() {
  try {
    const answer = await fetch(`/v1/articles/${encodeURIComponent(article)}`, { signal: AbortSignal.timeout(3000) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const numbers = await answer.json();
    // What is known only in part is not shown as the whole.
    show('views', numbers.views?.toLocaleString() ?? `at least ${numbers.at_least.toLocaleString()}`);
    show('readers', numbers.readers?.toLocaleString() ?? '–');
    show('state', numbers.degraded ?? 'live');
    document.body.classList.toggle('stale', numbers.degraded !== null);
  } catch {
    show('state', 'not live: the counters cannot be reached; trying again');
    document.body.classList.add('stale');
  }
}

setInterval(() => { if (!document.hidden) refresh(); }, 1000);
document.addEventListener('visibilitychange', () => { if (!document.hidden) refresh(); });
