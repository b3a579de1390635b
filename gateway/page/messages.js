// The active room's messages: a row per message, the reader's place kept whatever arrives.

import { $, copyOf, namesOf, reconcile, setAvatar, setPlain, setText } from "./elements.js";
import { compare, keyOf, show } from "./positions.js";
import { clockTime, dayOf, left } from "./time.js";

const GROUP_MS = 5 * 60_000; // one author's messages closer than this stand together
const BOTTOM_PX = 48; // this near to the end one follows it
const SEEN_PX = 40; // so much of a message has to be in view for it to be seen
const READERS_MAX = 3; // faces by a message; the others are counted
const MARKS = {
  pending: ["", "Waiting to be accepted"], accepted: ["✓", "Accepted: it has its place"],
  persisted: ["✓✓", "Persisted: it is in the database"], refused: ["!", "Refused"],
  "pending-elsewhere": ["", "Kept here; people elsewhere see it later"],
};
const MARK_OF = {
  sending: "pending", pending: "pending-elsewhere", sent: "accepted", persisted: "persisted",
  failed: "refused",
};
const WAITS = { // why something goes out later, by itself
  rate_limited: "faster than this server takes",
  blocked: "this server takes nothing from you for a while",
  backpressure: "this server has too much to do",
  unavailable: "this server cannot take it now",
};

/** One message on the page. */
class MessageRow {
  constructor(list, open, message) {
    const { element, part } = Object.assign(this, { list, open, message }, copyOf("message-row"));
    const isAssistant = message.type === "assistant";
    setAvatar(part("avatar"), message.userId);
    if (isAssistant) setText(part("avatar"), "✦");
    if (!isAssistant) element.dataset.tone = part("avatar").dataset.tone;
    part("avatar").dataset.tone = isAssistant ? "assistant" : element.dataset.tone;
    element.dataset.id = message.id;
    element.dataset.type = message.type ?? "user";
    element.toggleAttribute("data-own", open.isMine(message));
    setText(part("name"), isAssistant ? "assistant" : message.userId);
    for (const name of ["retry", "discard"]) part(name).onclick = () => this.settle(name);
    part("edit").onclick = () => this.edit();
    part("delete").onclick = () => this.delete();
    part("delete").onblur = () => this.askToDelete(false);
    part("delete").onkeydown = ({ key }) => { if (key === "Escape") this.askToDelete(false); };
    part("bubble").onclick = ({ target }) => { // without a mouse nothing hovers
      if (!target.closest(".actions, a, button")) list.choose(this);
    };
  }
  /** A message is another object once anything in it has changed. */
  update(message, first, last, readers) {
    this.showReaders(readers);
    const waits = (message.error ?? message.change?.error)?.retryAt;
    if (message === this.shown && first === this.first && last === this.last && !waits) return;
    Object.assign(this, { message, shown: message, first, last });
    const { content, change, editedAt, position, state, metadata } = message;
    const { open } = this;
    const deleted = isDeleted(message);
    const edited = !deleted && (editedAt || change?.type === "edit");
    const aborted = !deleted && metadata?.aborted === true;
    const mine = open.isMine(message) && open.isOpen(message) && !deleted;
    const writing = state === "streaming";
    const flags = { first, last, deleted, open: mine, aborted, writing };
    for (const name in flags) this.element.toggleAttribute(`data-${name}`, Boolean(flags[name]));
    this.part("bubble").ariaBusy = String(writing);
    const changing = change?.journaled ? "pending" : change && "sending";
    this.showMark(change?.error ? "refused" : MARK_OF[changing ?? state], position);
    if (deleted) setPlain(this.part("text"), "This message was deleted");
    else this.list.setContent(this.part("text"), content);
    const texts = {
      edited: edited ? "edited · " : "",
      time: writing ? "writing…" : clockTime(message.createdAt),
      aside: this.aside(), reason: this.note(),
      broken: aborted ? "broken off: whoever wrote this was lost" : "",
    };
    for (const [name, words] of Object.entries(texts)) setText(this.part(name), words);
    if (edited) this.part("edited").title = `edited ${editedAt ? clockTime(editedAt) : "now"}`;
    if (!mine) this.close();
  }
  showMark(mark, position) {
    const element = this.part("mark");
    const [sign, meaning] = MARKS[mark] ?? ["", "Being written"];
    this.element.dataset.mark = element.dataset.mark = mark ?? "";
    setText(element, sign);
    element.ariaLabel = meaning;
    element.title = position ? `${meaning} (${show(position)})` : meaning;
  }
  /** Under whose name an assistant speaks, and whether it is one at all. */
  aside() {
    const { type, userId, metadata } = this.message;
    if (type !== "assistant") return "";
    return `${metadata?.scripted ? "scripted demo, " : ""}called by ${userId}`;
  }
  /** Why something is not done, or not yet. */
  note() {
    const { state, error, change } = this.message;
    const waiting = error ?? change?.error;
    if (state === "failed") return `not delivered: ${error?.message ?? "refused"}`;
    if (!waiting || waiting.retryAt < Date.now()) return ""; // it is under way again
    if (!waiting.retryAt) return `not changed: ${waiting.message}`;
    const why = WAITS[waiting.code] ?? waiting.message;
    return `${why}: goes out by itself in ${left(waiting.retryAt)}`;
  }
  /** By hand: what was refused is tried again, or given up. */
  settle(name) {
    this.open.room[name](this.message.id);
    $("text").focus(); // the button goes, and would take the focus with it
  }
  showReaders(readers) {
    const element = this.part("readers");
    const names = readers.join(" ");
    if (names === (this.readers ?? "")) return;
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
      text.value = this.message.content;
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
    const { id, userId, content: shown } = this.message;
    if (content && content !== shown) this.open.room.edit(id, content, { userId });
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
    const { id, userId } = this.message;
    this.open.room.delete(id, { userId });
    $("text").focus();
  }
  askToDelete(sure) {
    this.part("delete").toggleAttribute("data-sure", sure);
    setText(this.part("delete"), sure ? "Really delete?" : "Delete");
  }
}

/** Deleted, or about to be: what is on offer is shown as if it had been taken. */
const isDeleted = ({ deletedAt, change }) =>
  Boolean(deletedAt) || (change?.type === "delete" && !change.error);

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
    this.setContent = setPlain; // until what knows of Markdown is there
  }
  /** From now on messages are shown in this way. */
  showContentWith(setContent) {
    this.setContent = setContent;
    for (const row of this.rows?.values() ?? []) row.shown = null;
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
    if (document.hidden || !this.room?.isLive) return;
    const { messages, snapshot: { readUpTo } } = this.room;
    const bottom = this.scroller.scrollTop + this.scroller.clientHeight;
    const isSeen = ({ element }) =>
      element.offsetTop + Math.min(element.offsetHeight, SEEN_PX) <= bottom;
    for (let i = messages.length - 1; i >= 0; i--) {
      const [message, row] = [messages[i], this.rows.get(keyOf(messages[i]))];
      if (!message.position) continue;
      if (compare(message.position, readUpTo) <= 0) return;
      if (row && isSeen(row)) return this.room.news.see(message);
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
    const { room: open } = this;
    const mine = open?.messages.findLast((each) => open.isMine(each) && open.isOpen(each)
      && !isDeleted(each));
    if (mine) this.rows.get(keyOf(mine))?.edit();
  }
  render(open) {
    if (open !== this.room) {
      Object.assign(this, { room: open, rows: new Map(), chosen: null }); // `keyOf` → MessageRow
      if (open) Object.assign(open, { scrolledUp: false, isOpened: false });
    }
    if (open && !open.isOpened) open.news.draw();
    const { scroller } = this;
    const end = (row) => row.offsetTop + row.offsetHeight; // its top shifts when it joins a group
    const inView = (row) => end(row) > scroller.scrollTop;
    const anchor = open?.scrolledUp ? [...$("messages").children].find(inView) : null;
    const before = anchor && end(anchor);
    reconcile($("messages"), this.elements(open?.messages ?? []));
    if (!open?.scrolledUp) this.toBottom();
    else if (anchor?.isConnected) scroller.scrollTop += end(anchor) - before;
    this.showNews(open);
    this.scrolled(); // also fills a page that is too short
    if (!open) return;
    const unread = open.unread();
    if (unread) open.news.draw();
    setText($("to-bottom-text"), unread ? `${unread} new` : "Latest");
  }
  /** A room that is opened, or came back, with more news than fit begins where they begin. */
  showNews(open) {
    if (!open || open.isOpened || !open.isLive) return;
    open.isOpened = true;
    const { element } = this.line;
    if (element.isConnected && element.offsetTop < this.scroller.scrollTop) {
      this.scroller.scrollTop = element.offsetTop - SEEN_PX;
    }
  }
  /** Day separators, the line above what is new, and rows; a row knows whether it opens or ends
   *  its author's group. */
  elements(messages) {
    const days = messages.map(dayOf);
    const rows = new Map();
    const { first, count } = this.room?.news.below() ?? {};
    const readers = this.readers(messages);
    const kind = ({ userId, type = "user" }) => `${type} ${userId}`;
    const isNear = (a, b) => Math.abs(Date.parse(b.createdAt) - Date.parse(a.createdAt)) < GROUP_MS;
    const joins = (i, a = messages[i - 1], b = messages[i]) => // the group of the one before it
      a && b && b !== first && kind(a) === kind(b) && days[i - 1] === days[i] && isNear(a, b);
    setText(this.line.part("unread-text"), `${count} new message${count === 1 ? "" : "s"}`);
    const elements = messages.flatMap((message, i) => {
      const row = this.rows.get(keyOf(message)) ?? new MessageRow(this, this.room, message);
      rows.set(keyOf(message), row);
      row.update(message, !joins(i), !joins(i + 1), readers.get(message) ?? []);
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
    const { receipts } = this.room.snapshot;
    for (const [user, { position }] of Object.entries(receipts)) read.set(user, position);
    for (const message of placed) {
      const { userId, position } = message;
      const said = (message.type ?? "user") === "user";
      if (read.has(userId) && said && compare(position, read.get(userId)) > 0) {
        read.set(userId, position);
      }
    }
    read.delete(this.room.me);
    for (const [user, position] of read) {
      const last = placed.findLast((message) => compare(message.position, position) <= 0);
      if (last) byMessage.set(last, [...(byMessage.get(last) ?? []), user].sort());
    }
    return byMessage;
  }
}
