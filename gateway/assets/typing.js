// What of the person at this tab is told to others: whether they do something, and that they type.
// Best effort: what is refused is not told again before the server would take it.

const IDLE_MS = 2 * 60_000; // without a key or a touch
const TYPING_AGAIN_MS = 3_000; // the server's mark ends after 5 s
const TYPING_MS = 5_000;
const SIGNS = ["pointerdown", "pointermove", "keydown", "wheel", "touchstart", "focus"];

/** Active or idle, told to every room in which it differs from what was told. */
export class Activity {
  constructor(chat) {
    Object.assign(this, { chat, status: document.hidden ? "idle" : "active", at: Date.now() });
    for (const sign of SIGNS) window.addEventListener(sign, () => this.sign(), { passive: true });
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.become("idle");
      else this.sign();
    });
    this.watch();
  }
  sign() {
    this.at = Date.now();
    if (this.status === "idle" && !document.hidden) this.become("active");
  }
  watch() {
    const left = this.at + IDLE_MS - Date.now();
    if (left <= 0) this.become("idle");
    setTimeout(() => this.watch(), Math.max(left, 1000));
  }
  become(status) {
    if (status === this.status) return;
    this.status = status;
    for (const room of this.chat.rooms.values()) this.tell(room);
  }
  /** A room that was just joined takes whoever joins for active. */
  joined(room) {
    room.toldStatus = "active";
    this.tell(room);
  }
  async tell(room) {
    const { status } = this;
    if (room.phase !== "joined" || room.toldStatus === status) return;
    room.toldStatus = status;
    const told = await room.mention("presence:update", { status });
    if (!told && room.toldStatus === status) room.toldStatus = null; // the next change tells it
  }
}

/** The typing mark of the composer. */
export class Typist {
  /** The composer's text is now this. */
  wrote(room, text) {
    if (!text || room !== this.room) this.stop();
    if (!text || !room || Date.now() - (this.at ?? 0) < TYPING_AGAIN_MS) return;
    Object.assign(this, { room, at: Date.now() });
    room.mention("typing:start");
  }
  /** Sent, left or emptied. */
  stop() {
    if (this.room && Date.now() - this.at < TYPING_MS) this.room.mention("typing:stop");
    Object.assign(this, { room: null, at: 0 });
  }
}
