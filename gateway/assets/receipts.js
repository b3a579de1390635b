// How far one has read a room: told to the server, shown as a count and as a line in the room.

import { compare, later } from "./protocol.js";
import { load, save } from "./storage.js";
import { sleep, sleepUntil } from "./time.js";

const GATHER_MS = 400; // what is seen within this goes out as one receipt

export class Reading {
  constructor(room) {
    this.room = room;
    this.upTo = load("localStorage", room.key("read"), null); // seen here, or by one's own receipt
    this.told = null; // what the server has
    this.line = null; // the position that "new messages" stand behind
    this.lineTo = null; // the last of them, once somebody looks: what comes then is not counted
    this.unreadAtJoin = 0; // counted by the server: not all of them are loaded
  }
  absorbJoin({ receipts = {}, head, unread = 0 }) {
    const own = receipts[this.room.chat.user];
    this.told = own?.position ?? null;
    this.unreadAtJoin = own ? unread : 0;
    this.upTo = later(this.upTo, this.told) ?? head; // who comes for the first time owes nothing
    if (compare(this.upTo, head) > 0) this.upTo = head; // of a database that is there no more
    this.drawLine();
    this.tell();
  }
  /** One's own receipt, perhaps from another tab. */
  receipt({ position }) {
    this.told = later(this.told, position);
    this.upTo = later(this.upTo, position);
  }
  isUnread(message) {
    const { position, deletedAt } = message;
    return !deletedAt && compare(position, this.upTo) > 0 && !this.room.isOwn(message);
  }
  unread() {
    const { messages, hasOlder } = this.room;
    const loaded = messages.filter((message) => this.isUnread(message)).length;
    const first = messages[0]?.position;
    const all = !hasOlder || (first && compare(first, this.upTo) <= 0);
    return all ? loaded : Math.max(loaded, this.unreadAtJoin);
  }
  /** Whatever came while nobody looked stands below a line, until one has been elsewhere, or has read
   *  it all and more has come. */
  drawLine() {
    const isRead = this.lineTo && compare(this.upTo, this.lineTo) >= 0;
    if (this.unread() && (!this.line || isRead)) this.#setLine(this.upTo);
  }
  eraseLine() { this.#setLine(null); }
  #setLine(position) { Object.assign(this, { line: position, lineTo: null }); }
  /** The first message below the line, and how many there are. */
  below() {
    const isNew = (each) => !this.room.isOwn(each) && compare(each.position, this.line) > 0
      && (!this.lineTo || compare(each.position, this.lineTo) <= 0);
    const news = this.line ? this.room.messages.filter(isNew) : [];
    return { first: news[0], count: news.length };
  }
  /** A message was before somebody's eyes. */
  see(position) {
    if (this.room.phase !== "joined" || compare(position, this.upTo) <= 0) return;
    if (this.line) this.lineTo ??= this.room.lastPosition();
    this.upTo = position;
    save("localStorage", this.room.key("read"), position);
    this.tell();
  }
  /** Only what others said is worth a receipt. */
  isDue() {
    if (this.room.phase !== "joined" || compare(this.upTo, this.told) <= 0) return false;
    return this.room.messages.some((each) => !this.room.isOwn(each)
      && compare(each.position, this.told) > 0 && compare(each.position, this.upTo) <= 0);
  }
  async tell() {
    if (this.telling || !this.isDue()) return;
    this.telling = true;
    await sleep(GATHER_MS);
    while (this.isDue()) {
      const position = this.upTo;
      try {
        await this.room.ask("receipt:update", { position });
        this.told = later(this.told, position);
      } catch (refusal) {
        if (refusal.code === "disconnected") break; // due again after the join
        if (refusal.retryAt) await sleepUntil(refusal.retryAt);
        else this.told = later(this.told, position); // no server will take it: not again
      }
    }
    this.telling = false;
  }
}
