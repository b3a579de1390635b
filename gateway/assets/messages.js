// The active room's messages: a row per message, the reader's place kept whatever arrives.

import { $, copyOf, namesOf, reconcile, setAvatar, setText } from "./elements.js";
import { compare, show } from "./protocol.js";
import { clockTime, dayOf, left } from "./time.js";

const GROUP_MS = 5 * 60_000; // one author's messages closer than this stand together
const BOTTOM_PX = 48; // this near to the end one follows it
const SEEN_PX = 40; // so much of a message has to be in view for it to be seen
const READERS_MAX = 3; // faces by a message; the others are counted
const MARKS = {
  pending: ["", "Waiting to be accepted"], accepted: ["✓", "Accepted: it has its place"],
  persisted: ["✓✓", "Persisted: it is in the database"], refused: ["!", "Refused"],
};
const WAITS = { // why something goes out later, by itself
  "rate limited": "faster than this server takes",
  blocked: "this server takes nothing from you for a while",
  backpressure: "this server has too much to do",
  unavailable: "this server cannot take it now",
};

/** One message on the page. */
class MessageRow {
  constructor(list, room, message) {
    const { element, part } = Object.assign(this, { list, room, message }, copyOf("message-row"));
    const isAssistant = message.type === "assistant";
    setAvatar(part("avatar"), message.userId);
    if (isAssistant) setText(part("avatar"), "✦");
    if (!isAssistant) element.dataset.tone = part("avatar").dataset.tone;
    part("avatar").dataset.tone = isAssistant ? "assistant" : element.dataset.tone;
    element.dataset.id = message.id;
    element.dataset.type = message.type ?? "user";
    element.toggleAttribute("data-own", room.isMine(message));
    setText(part("name"), isAssistant ? "assistant" : message.userId);
    for (const name of ["retry", "discard"]) part(name).onclick = () => this.settle(name);
    part("edit").onclick = () => this.edit();
    part("delete").onclick = () => this.delete();
    part("delete").onblur = () => this.askToDelete(false);
    part("delete").onkeydown = ({ key }) => { if (key === "Escape") this.askToDelete(false); };
    part("bubble").onclick = ({ target }) => { // without a mouse nothing hovers
      if (!target.closest(".actions")) list.choose(this);
    };
  }
  update(first, last, readers) {
    const { room, message } = this;
    const { content, deletedAt, editedAt, position, streaming, lost, metadata } = message;
    const [mark, change] = [room.markOf(message), room.changes.of(message)];
    const note = this.note(change);
    const state = JSON.stringify([message, change, mark, first, last, note, readers]);
    if (state === this.state) return;
    this.state = state;
    const deleted = Boolean(deletedAt) || (change?.event === "message:delete" && !change.refused);
    const edited = !deleted && (editedAt || change?.content);
    const aborted = !deleted && (streaming === "aborted" || metadata?.aborted === true);
    const open = room.isMine(message) && room.isOpen(message) && !deleted;
    const writing = Boolean(streaming) && !aborted;
    const flags = { first, last, deleted, open, aborted, writing, lost };
    for (const name in flags) this.element.toggleAttribute(`data-${name}`, Boolean(flags[name]));
    this.part("bubble").ariaBusy = String(writing);
    this.element.dataset.mark = this.part("mark").dataset.mark = mark;
    const [sign, meaning] = MARKS[mark];
    this.part("mark").ariaLabel = meaning;
    this.part("mark").title = position ? `${meaning} (${show(position)})` : meaning;
    const texts = {
      mark: sign, text: deleted ? "This message was deleted" : (change?.content ?? content),
      edited: edited ? "edited · " : "",
      time: writing ? "writing…" : clockTime(message.createdAt),
      aside: this.aside(), reason: note,
      broken: aborted ? "broken off: whoever wrote this was lost" : "",
    };
    for (const [name, text] of Object.entries(texts)) setText(this.part(name), text);
    if (edited) this.part("edited").title = `edited ${editedAt ? clockTime(editedAt) : "now"}`;
    if (!open) this.close();
    this.showReaders(readers);
  }
  /** Under whose name an assistant speaks, and whether it is one at all. */
  aside() {
    const { type, userId, metadata } = this.message;
    if (type !== "assistant") return "";
    return `${metadata?.scripted ? "scripted demo, " : ""}called by ${userId}`;
  }
  /** Why something is not done, or not yet. */
  note(change) {
    const { refused, retryAt, retryWhy } = this.message;
    const waits = retryAt ? this.message : change;
    if (refused) return `not delivered: ${refused.reason ?? "refused"}`;
    if (change?.refused) return `not changed: ${change.refused.reason ?? "refused"}`;
    if (!waits?.retryAt) return "";
    const why = WAITS[waits.retryWhy] ?? waits.retryWhy ?? retryWhy;
    return `${why}: goes out by itself in ${left(waits.retryAt)}`;
  }
  /** By hand: what was refused is tried again, or given up. */
  settle(name) {
    const { room, message } = this;
    (message.refused ? room : room.changes)[name](message);
  }
  showReaders(readers) {
    const element = this.part("readers");
    const names = readers.join(" ");
    if (names === this.readers) return;
    this.readers = names;
    const faces = readers.length > READERS_MAX ? READERS_MAX - 1 : readers.length;
    const rest = readers.length - faces;
    element.replaceChildren(...readers.slice(0, faces).map((user) => {
      const face = document.createElement("span");
      face.className = "avatar face";
      setAvatar(face, user);
      return face;
    }));
    if (rest) element.append(`+${rest}`);
    element.title = element.ariaLabel = readers.length ? `Read by ${namesOf(readers, 8)}` : "";
    element.hidden = !readers.length;
  }
  edit() {
    if (!this.element.hasAttribute("data-open")) return;
    if (!this.editor) {
      this.editor = copyOf("message-editor");
      const { element, part } = this.editor;
      const text = part("editor-text");
      text.value = this.part("text").textContent;
      element.onsubmit = (event) => this.save(event, text.value.trim());
      part("cancel").onclick = () => this.close(true);
      text.onkeydown = (event) => {
        if (event.key === "Escape") this.close(true);
        else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
          this.save(event, text.value.trim());
        }
      };
      this.part("body").prepend(element);
      this.element.toggleAttribute("data-editing", true);
    }
    this.editor.part("editor-text").focus();
    this.list.choose(null);
    this.list.followEnd();
  }
  save(event, content) {
    event.preventDefault();
    const shown = this.part("text").textContent;
    if (content && content !== shown) this.room.changes.edit(this.message, content);
    this.close(true);
  }
  close(byHand) {
    if (!this.editor) return;
    this.editor.element.remove();
    this.editor = null;
    this.element.toggleAttribute("data-editing", false);
    if (byHand) $("text").focus();
  }
  /** The first press asks, the second one does it. */
  delete() {
    if (!this.part("delete").hasAttribute("data-sure")) return this.askToDelete(true);
    this.askToDelete(false);
    this.room.changes.delete(this.message);
    $("text").focus();
  }
  askToDelete(sure) {
    this.part("delete").toggleAttribute("data-sure", sure);
    setText(this.part("delete"), sure ? "Really delete?" : "Delete");
  }
}

export class MessageList {
  constructor() {
    this.scroller = $("scroller");
    this.scroller.onscroll = () => this.scrolled();
    new ResizeObserver(() => this.followEnd()).observe(this.scroller);
    $("to-bottom").onclick = () => {
      this.toBottom();
      this.scroller.focus(); // the button goes, and would take the focus with it
    };
    this.line = copyOf("unread-row");
  }
  toBottom() { this.scroller.scrollTop = this.scroller.scrollHeight; }
  followEnd() { if (!this.room?.scrolledUp) this.toBottom(); }
  scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    if (!this.room) return;
    this.room.scrolledUp = scrollHeight - scrollTop - clientHeight > BOTTOM_PX;
    $("to-bottom").hidden = !this.room.scrolledUp;
    if (scrollTop < 240) this.room.loadOlder();
    this.see();
  }
  /** What is in view, in a tab that is looked at, has been read. */
  see() {
    if (document.hidden || this.room?.phase !== "joined") return;
    const { upTo } = this.room.reading;
    const bottom = this.scroller.scrollTop + this.scroller.clientHeight;
    const isSeen = ({ element }) =>
      element.offsetTop + Math.min(element.offsetHeight, SEEN_PX) <= bottom;
    const { messages } = this.room;
    for (let i = messages.length - 1; i >= 0; i--) {
      const [message, row] = [messages[i], this.rows.get(messages[i])];
      if (!message.position) continue;
      if (compare(message.position, upTo) <= 0) return;
      if (!row || !isSeen(row)) continue;
      this.room.reading.see(message.position);
      return this.room.chat.changed();
    }
  }
  /** Shows what can be done with this row's message, and with no other's. */
  choose(row) {
    this.chosen?.element.toggleAttribute("data-chosen", false);
    this.chosen = this.chosen === row ? null : row;
    this.chosen?.element.toggleAttribute("data-chosen", true);
  }
  /** The last own message that can be edited still. */
  editLast() {
    const mine = this.room?.messages.findLast((each) => this.room.isMine(each) && this.room.isOpen(each));
    this.rows?.get(mine)?.edit();
  }
  render(room) {
    if (room !== this.room) {
      Object.assign(this, { room, rows: new Map(), chosen: null }); // message → MessageRow
      if (room) Object.assign(room, { scrolledUp: false, isOpened: false });
    }
    if (room && !room.isOpened) room.reading.drawLine();
    const { scroller } = this;
    const end = (row) => row.offsetTop + row.offsetHeight; // its top shifts when it joins a group
    const inView = (row) => end(row) > scroller.scrollTop;
    const anchor = room?.scrolledUp ? [...$("messages").children].find(inView) : null;
    const before = anchor && end(anchor);
    reconcile($("messages"), this.elements(room?.messages ?? []));
    if (!room?.scrolledUp) this.toBottom();
    else if (anchor?.isConnected) scroller.scrollTop += end(anchor) - before;
    this.open(room);
    this.scrolled(); // also fills a page that is too short
    if (!room) return;
    const unread = room.reading.unread();
    if (unread) room.reading.drawLine();
    setText($("to-bottom-text"), unread ? `${unread} new` : "Latest");
  }
  /** A room that is opened, or came back, with more news than fit is shown from where they begin. */
  open(room) {
    if (!room || room.isOpened || room.phase !== "joined") return;
    room.isOpened = true;
    const { element } = this.line;
    if (element.isConnected && element.offsetTop < this.scroller.scrollTop) {
      this.scroller.scrollTop = element.offsetTop - SEEN_PX;
    }
  }
  /** Day separators, the line above what is new, and rows; a row knows whether it opens or ends its
   *  author's group. */
  elements(messages) {
    const days = messages.map(dayOf);
    const rows = new Map();
    const { first, count } = this.room?.reading.below() ?? {};
    const readers = this.readers(messages);
    const kind = ({ userId, type = "user" }) => `${type} ${userId}`;
    const isNear = (a, b) => Math.abs(Date.parse(b.createdAt) - Date.parse(a.createdAt)) < GROUP_MS;
    const joins = (i, a = messages[i - 1], b = messages[i]) => // the group of the one before it
      a && b && b !== first && kind(a) === kind(b) && days[i - 1] === days[i] && isNear(a, b);
    setText(this.line.part("unread-text"), `${count} new message${count === 1 ? "" : "s"}`);
    const elements = messages.flatMap((message, i) => {
      const row = this.rows.get(message) ?? new MessageRow(this, this.room, message);
      rows.set(message, row);
      row.update(!joins(i), !joins(i + 1), readers.get(message) ?? []);
      if (days[i] !== days[i - 1]) {
        row.day ??= copyOf("day-row").element;
        setText(row.day, days[i]);
      }
      const above = [days[i] !== days[i - 1] && row.day, message === first && this.line.element];
      return [...above.filter(Boolean), row.element];
    });
    this.rows = rows;
    return elements;
  }
  /** Others by the last message that they have read, or have written themselves. */
  readers(messages) {
    const placed = messages.filter(({ position }) => position);
    const byMessage = new Map();
    if (!this.room || !placed.length) return byMessage;
    const read = new Map();
    for (const [user, { position }] of this.room.company.receipts) read.set(user, position);
    for (const message of placed) {
      const { userId, position } = message;
      if (read.has(userId) && this.said(message) && compare(position, read.get(userId)) > 0) {
        read.set(userId, position);
      }
    }
    read.delete(this.room.chat.user);
    for (const [user, position] of read) {
      const last = placed.findLast((message) => compare(message.position, position) <= 0);
      if (last) byMessage.set(last, [...(byMessage.get(last) ?? []), user].sort());
    }
    return byMessage;
  }
  said({ type = "user" }) { return type === "user"; }
}
