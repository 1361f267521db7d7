// The last ten minutes of a few numbers: first as the dashboard remembers them, then as they arrive.

const SAMPLES_MAX = 120;

export class History {
  samples = [];
  #periodMs = 5000;

  // Samples from before this page was opened, or from while it was not connected.
  async load() {
    const answer = await fetch('/v1/history').catch(() => null);
    if (!answer?.ok) return;
    const { period_ms: periodMs, samples } = await answer.json();
    this.#periodMs = periodMs;
    this.samples = samples;
  }

  // `n`: the present numbers.
  add(n) {
    // While the dashboard knows nothing new, `as_of` stands still, and the line has a gap.
    if (n.as_of === null) return;
    const last = this.samples.at(-1);
    // Compared in both directions, because a clock that was set back must not end the sampling.
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

  // The values of a field, null where there is none: a line has a gap where no samples came.
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
