// The live connection: a snapshot, then deltas. What was missed is asked for by its sequence.

const FIRST_WAIT = 500;
const LONGEST_WAIT = 10000;
const JITTER = 1000;
const MOST_HELD = 200;

export class Stream {
  // handlers: snapshot, changed, delta, live(yes), catchUp(after) → Promise<sequence>
  constructor(address, handlers) {
    this.address = address;
    this.handlers = handlers;
    this.sequence = -1;
    this.held = [];
    this.catching = false;
    this.wait = FIRST_WAIT;
  }

  open() {
    const socket = new WebSocket(this.address);
    socket.addEventListener("open", () => {
      this.wait = FIRST_WAIT;
      this.handlers.live(true);
    });
    socket.addEventListener("message", (event) => this.hear(JSON.parse(event.data)));
    socket.addEventListener("close", (event) => {
      this.handlers.live(false);
      if (event.code === 4404) return; // not ours to see any more
      const pause = this.wait + Math.random() * JITTER;
      this.wait = Math.min(LONGEST_WAIT, this.wait * 2);
      setTimeout(() => this.open(), pause);
    });
  }

  hear(message) {
    if (message.kind === "snapshot") {
      this.handlers.snapshot(message);
      if (message.summary.sequence > this.sequence) this.catchUp();
    } else if (message.kind === "changed") {
      this.handlers.changed(message);
    } else if (this.catching || message.first > this.sequence + 1) {
      this.held.push(message);
      if (this.held.length > MOST_HELD) this.held.shift(); // leaves a hole, which is seen
      this.catchUp();
    } else {
      this.take(message);
    }
  }

  take(delta) {
    if (delta.sequence <= this.sequence) return;
    this.sequence = delta.sequence;
    this.handlers.delta(delta);
  }

  // Deltas wait meanwhile: behind a hole they would make it invisible.
  async catchUp() {
    if (this.catching) return;
    this.catching = true;
    try {
      this.sequence = Math.max(this.sequence, await this.handlers.catchUp(this.sequence));
    } catch {
      setTimeout(() => {
        this.catching = false;
        this.catchUp();
      }, FIRST_WAIT + Math.random() * JITTER);
      return;
    }
    this.catching = false;
    const held = this.held;
    this.held = [];
    for (const delta of held) this.hear(delta);
  }
}
