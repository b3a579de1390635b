// One socket to the gateway: refs to promises, heartbeat, when and whether to come back.

import { Refusal } from "./protocol.js";

export const SOCKET_URL = `${location.protocol.replace("http", "ws")}//${location.host}/ws`;

const [BACKOFF_MIN_MS, BACKOFF_MAX_MS] = [500, 15_000];
const WELCOME_TIMEOUT_MS = 10_000;
const HEARTBEAT_REPLY_MS = 8_000;
const UNANSWERED_MS = 4_000; // after so long without a word, whoever asked something is told
const STEADY_MS = 10_000; // a connection that lived this long starts the backoff anew

/** One socket at a time to the gateway, and the decision when and whether to open the next. */
export class Connection {
  /** `token` is null where the address says who is asking. `on.phase(connection)`, `on.live()`,
   *  `on.event(name, data)`. */
  constructor(url, token, on) {
    Object.assign(this, { url, token, on, attempts: 0, refs: 0 });
    this.phase = "connecting"; // live | reconnecting (at `retryAt`) | refused (for `reason`)
    this.session = 0; // welcomes so far; what is done once per connection counts by it
    this.waiting = new Map(); // ref → {resolve, reject, askedAt}
    this.silent = false; // something was asked, and the server says nothing at all
    this.aheadMs = 0; // by how much this computer's clock is ahead of the server's
  }
  setServerTime(time) { this.aheadMs = Date.now() - (Date.parse(time) || Date.now()); }
  /** What time it is at the server, in Unix milliseconds. */
  serverNowMs() { return Math.round(Date.now() - this.aheadMs); }
  enter(phase, details) { this.on.phase(Object.assign(this, { phase }, details)); }
  open() {
    clearTimeout(this.timer);
    this.enter("connecting", { leaveAfterMs: null });
    this.socket = new WebSocket(this.url, "roomcast.v1");
    if (this.token) this.socket.onopen = () => this.say("auth", { token: this.token });
    this.socket.onmessage = (frame) => this.receive(frame.data);
    this.socket.onclose = (close) => this.closed(close.code, close.reason);
    this.timer = setTimeout(() => this.dead(), WELCOME_TIMEOUT_MS);
  }
  say(event, data) {
    const ref = ++this.refs;
    this.socket.send(JSON.stringify({ event, ref, data }));
    return ref;
  }
  /** A command and its one answer; rejects with a `Refusal`. */
  request(event, data) {
    if (this.phase !== "live") return Promise.reject(new Refusal({ code: "disconnected" }));
    const ref = this.say(event, data);
    this.patience ??= setTimeout(() => this.unanswered(), UNANSWERED_MS);
    const askedAt = Date.now();
    return new Promise((resolve, reject) => this.waiting.set(ref, { resolve, reject, askedAt }));
  }
  /** A server that has stopped keeps its sockets: whoever waits is told long before it is given up. */
  unanswered() {
    this.patience = null;
    const [oldest] = this.waiting.values(); // refs ascend
    if (this.phase !== "live" || !oldest) return;
    const leftMs = oldest.askedAt + UNANSWERED_MS - Date.now();
    this.patience = setTimeout(() => this.unanswered(), leftMs > 0 ? leftMs : UNANSWERED_MS);
    if (leftMs > 0 || this.silent || this.heardAt > oldest.askedAt) return;
    this.enter("live", { silent: true });
    this.beat();
  }
  receive(text) {
    this.heardAt = Date.now();
    if (this.silent) this.enter(this.phase, { silent: false });
    const { event, ref, data = {}, error } = JSON.parse(text);
    if (event === "reply") {
      const { resolve, reject } = this.waiting.get(ref) ?? {};
      this.waiting.delete(ref);
      if (error) reject?.(new Refusal(error));
      else resolve?.(data);
    } else if (event === "welcome") {
      clearTimeout(this.timer);
      this.setServerTime(data.serverTime);
      this.beats = setInterval(() => this.beat(), data.heartbeatMs ?? 25_000);
      this.enter("live", { liveSince: Date.now(), session: this.session + 1 });
      this.on.live();
    } else if (event === "reconnect") this.leaveAfterMs = data.afterMs ?? 0;
    else this.on.event(event, data);
  }
  /** A socket can be dead without saying so (sleep, another network): silence is the only sign. */
  beat() {
    if (this.phase !== "live" || this.silence) return;
    this.silence = setTimeout(() => this.dead(), HEARTBEAT_REPLY_MS);
    const alive = () => { this.silence = clearTimeout(this.silence); };
    this.request("heartbeat", {}).then(alive, alive); // a refusal is a sign of life, too
  }
  /** Gives the socket up without waiting for a close that a dead peer never sends. */
  dead() {
    this.socket?.close();
    this.closed(1006, "");
  }
  closed(code, reason) {
    if (!this.socket) return;
    this.socket.onmessage = this.socket.onclose = this.socket = null;
    clearTimeout(this.timer);
    clearInterval(this.beats);
    this.patience = clearTimeout(this.patience);
    this.silent = false;
    if (this.phase === "live" && Date.now() - this.liveSince > STEADY_MS) this.attempts = 0;
    if (code >= 4400 && code <= 4499) {
      this.enter("refused", { code, reason: reason || `code ${code}` });
    } else {
      const delayMs = (code === 1012 ? this.leaveAfterMs : null) ?? this.backoffMs();
      this.timer = setTimeout(() => this.open(), delayMs);
      this.enter("reconnecting", { retryAt: Date.now() + delayMs });
    }
    // After `enter`: whoever hears of it finds the connection gone and does not ask again at once.
    for (const { reject } of this.waiting.values()) reject(new Refusal({ code: "disconnected" }));
    this.waiting.clear();
  }
  /** Full jitter: a node's thousands of clients must not all return in the same moment. */
  backoffMs() {
    const ceiling = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** ++this.attempts);
    return BACKOFF_MIN_MS + Math.random() * (ceiling - BACKOFF_MIN_MS);
  }
  /** Back online, or looked at again: find out now rather than at the next beat or retry. */
  nudge() { return this.phase === "reconnecting" ? this.open() : this.beat(); }
}
