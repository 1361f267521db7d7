// A WebSocket that comes back: a whole snapshot first, then what changed. Each message has a number, and an update is
// taken only on top of the one before; otherwise all begins anew with a snapshot.

// The server sends several messages a second, so a silent connection is dead, even if TCP does not know it yet.
const SILENCE_MS_MAX = 5000;
const RETRY_MS_MAX = 15000;

export class Connection {
  // The last snapshot with all updates since; null before the first one.
  numbers = null;
  // `connecting`, `live`, `lost`, or `denied`: it needs a token.
  state = 'connecting';

  #path;
  #changed;
  #socket = null;
  #heardAt = 0;
  #attempts = 0;
  #retry = 0;
  #watch;
  #online = () => { if (this.#socket === null) this.#connect(); };
  #offline = () => this.#lose();

  // Calls `changed` whenever `numbers` or `state` has changed.
  constructor(path, changed) {
    this.#path = path;
    this.#changed = changed;
    this.#watch = setInterval(() => { if (performance.now() - this.#heardAt > SILENCE_MS_MAX) this.#lose(); }, 500);
    addEventListener('online', this.#online);
    addEventListener('offline', this.#offline);
    this.#connect();
  }

  close() {
    clearInterval(this.#watch);
    clearTimeout(this.#retry);
    removeEventListener('online', this.#online);
    removeEventListener('offline', this.#offline);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #connect() {
    clearTimeout(this.#retry);
    const url = new URL(this.#path, location.href);
    url.protocol = url.protocol.replace('http', 'ws');
    const socket = new WebSocket(url);
    this.#socket = socket;
    this.#heardAt = performance.now();
    socket.onmessage = ({ data }) => { if (this.#socket === socket) this.#receive(JSON.parse(data)); };
    socket.onclose = () => { if (this.#socket === socket) this.#lose(); };
  }

  #receive({ type, seq, ...fields }) {
    this.#heardAt = performance.now();
    if (type === 'snapshot') {
      this.numbers = { ...fields, seq };
    } else if (this.numbers !== null && seq === this.numbers.seq + 1) {
      Object.assign(this.numbers, fields, { seq });
    } else {
      this.#lose();
      return;
    }
    this.#attempts = 0;
    this.state = 'live';
    this.#changed();
  }

  #lose() {
    const socket = this.#socket;
    if (socket === null) return;
    this.#socket = null;
    socket.close();
    if (this.state !== 'denied') this.state = 'lost';
    this.#changed();
    this.#askWhy();
    // Up to 0.5 s, 1 s, 2 s, ... at random, so that viewers do not all come back in one moment.
    const limit = Math.min(RETRY_MS_MAX, 500 * 2 ** this.#attempts);
    this.#attempts += 1;
    this.#retry = setTimeout(() => this.#connect(), limit * (0.5 + Math.random() / 2));
  }

  // A WebSocket does not say why it was refused.
  async #askWhy() {
    const answer = await fetch('/v1/stats', { method: 'HEAD' }).catch(() => null);
    if (this.state === 'live' || answer?.status !== 401) return;
    this.state = 'denied';
    this.#changed();
  }
}
