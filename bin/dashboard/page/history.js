// The last ten minutes of a few numbers: first as the dashboard remembers them, then as they arrive.

const SAMPLES_MAX = 120;

export class History {
  samples = [];
  #periodMs = 5000;

  // What was before this page was opened, or while it was not connected.
  async load() {
    const answer = await fetch('/v1/history').catch(() => null);
    if (!answer?.ok) return;
    const { period_ms: periodMs, samples } = await answer.json();
    this.#periodMs = periodMs;
    this.samples = samples;
  }

  // `n`: the numbers of now.
  add(n) {
    // While nothing is known its time stands still, and there is a gap.
    if (n.as_of === null) return;
    const last = this.samples.at(-1);
    // Away in either direction: a clock that was set back must not end the samples.
    if (last && Math.abs(Date.parse(n.as_of) - Date.parse(last.at)) < this.#periodMs) return;
    this.samples.push({
      at: n.as_of,
      views: n.views,
      views_per_second: n.views_per_second,
      stored_views_per_second: n.stored_views_per_second,
      pending_views: n.pending_views,
      lag_ms: n.lag_ms,
      readers: n.readers,
      query_hits: n.query_hits.minute,
      redis_hits: n.redis_hits.minute,
    });
    if (this.samples.length > SAMPLES_MAX) this.samples.shift();
  }

  // The values of a field, null where there is none: a line does not go on over a time of which nothing was heard.
  of(name) {
    const values = [];
    let before = null;
    for (const { at, [name]: value } of this.samples) {
      const missed = before === null ? 0 : Math.round((Date.parse(at) - before) / this.#periodMs) - 1;
      if (missed > 1) values.push(...Array(Math.min(missed, SAMPLES_MAX)).fill(null));
      values.push(value);
      before = Date.parse(at);
    }
    return values.slice(-SAMPLES_MAX);
  }
}
