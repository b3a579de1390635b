// Whether the person at this tab does something, told to every room.

const IDLE_MS = 2 * 60_000; // without a key or a touch
const SIGNS = ["pointerdown", "pointermove", "keydown", "wheel", "touchstart", "focus"];

export class Activity {
  constructor(chat) {
    Object.assign(this, { chat, status: document.hidden ? "idle" : "active", at: Date.now() });
    for (const sign of SIGNS) window.addEventListener(sign, () => this.sign(), { passive: true });
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.become("idle");
      else this.sign();
    });
    if (document.hidden) this.tellAll();
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
    this.tellAll();
  }
  tellAll() { for (const open of this.chat.rooms.values()) this.tell(open); }
  tell({ room }) { room.setPresence(this.status); }
}
