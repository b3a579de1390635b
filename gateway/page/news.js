// The line above what came while nobody looked. How far one has read is the client's to know; this
// is only where the line stands, and until when.

import { compare } from "./positions.js";

export class News {
  constructor(open) {
    this.open = open;
    this.line = null; // the position that "new messages" stand behind
    this.lineTo = null; // the last of them, once somebody looks: what comes then is not counted
  }
  /** Whatever came while nobody looked stands below a line, until one has been elsewhere, or has
   *  read it all and more has come. */
  draw() {
    const { readUpTo } = this.open.snapshot;
    const isRead = this.lineTo && compare(readUpTo, this.lineTo) >= 0;
    if (this.open.unread() && (!this.line || isRead)) this.#set(readUpTo);
  }
  erase() { this.#set(null); }
  #set(position) { Object.assign(this, { line: position, lineTo: null }); }
  /** The first message below the line, and how many there are. */
  below() {
    const isNew = (each) => !this.open.isOwn(each) && compare(each.position, this.line) > 0
      && (!this.lineTo || compare(each.position, this.lineTo) <= 0);
    const news = this.line ? this.open.messages.filter(isNew) : [];
    return { first: news[0], count: news.length };
  }
  /** A message was before somebody's eyes. */
  see(message) {
    if (this.line) this.lineTo ??= this.open.lastPosition();
    this.open.room.markRead(message.id);
    this.open.take(); // it is read at once
  }
}
