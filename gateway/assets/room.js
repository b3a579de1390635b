// One room as this tab knows it: messages in the room's order, the cursor, what is on offer.
//
// What a client has to do for the server's promises is small: hold an own message until it is
// *persisted*, offer it again under the same id after every reconnect, resume from a cursor.

import { Changes } from "./changes.js";
import { Company } from "./presence.js";
import {
  Refusal, compare, covers, keyOf, placeOf, uuidv7, words,
} from "./protocol.js";
import { Reading } from "./receipts.js";
import { load, save } from "./storage.js";
import { now, sleep, sleepUntil } from "./time.js";

const PAGE_LIMIT = 50;
const MESSAGES_MAX = 2000; // per room; older ones are dropped, scrolling up fetches them again
const LOST_MS = 5_000; // an answer that is written is told again soon after a join, or not at all
const NEEDS_NEW_ID = ["rejected", "conflict", "bad_id"]; // under the old id the answer is the same
const FIELDS = ["id", "userId", "type", "content", "metadata", "createdAt", "position",
  "changedPosition", "editedAt", "deletedAt"];

/** A message has the protocol's fields and this tab's: `offered` (an own one that the database may
 *  not have yet), `taken` (the session whose server answered for it), `accepted`, `persisted`,
 *  `refused` {code, reason}, `retryAt` and `retryWhy`; while an answer is being written `streaming`
 *  (the protocol's `state`) and `lost` (nobody has told more of it since the connection broke). */
export class Room {
  constructor(id, chat) {
    Object.assign(this, { id, chat });
    this.phase = "away"; // joining | joined | refused (for `refusal`)
    this.joins = 0; // tells an overtaken join's answer from the latest one's
    this.persisted = null; // how far the database has the room
    this.generation = 0; // grows when messages are dropped: a page asked for before must not land
    this.messages = []; // by position; those without one last, as they were written
    this.company = new Company(chat.user, () => chat.changed());
    this.changes = new Changes(this);
    this.reading = new Reading(this);
    this.hushed = new Map(); // what is said by the way → when the server takes it again
    this.clear();
    for (const entry of load("sessionStorage", this.key("offered"), [])) this.offer(entry);
  }
  /** A command about this room and its answer; rejects with a `Refusal`. */
  async ask(name, data) {
    try {
      return await this.chat.connection.request(name, { roomId: this.id, ...data });
    } catch (refusal) {
      if (refusal.code === "blocked") this.chat.blocked(refusal);
      throw refusal;
    }
  }
  /** Something said by the way: asked once, and not before the server would take it again. Answers
   *  whether it was taken. */
  async mention(name, data) {
    if (this.phase !== "joined" || Date.now() < (this.hushed.get(name) ?? 0)) return false;
    try {
      await this.ask(name, data);
      return true;
    } catch ({ retryAt }) {
      if (retryAt) this.hushed.set(name, retryAt);
      return false;
    }
  }
  key(name) { return `roomcast:${this.chat.user}:${name}:${this.id}`; }
  isOwn({ userId }) { return userId === this.chat.user; }
  /** Said by this person, and not by an assistant under their name. */
  isMine(message) { return this.isOwn(message) && message.type !== "assistant"; }
  /** Whether its author may still change it. */
  isOpen(message) { return message.position && !message.deletedAt && !message.refused; }
  own(id) { return this.known.get(keyOf({ userId: this.chat.user, id })); }
  /** The place of the last message that has one. */
  lastPosition() { return this.messages.findLast(({ position }) => position)?.position; }
  /** Forgets all but what is on offer: the fresh page or a reply says whether that still stands. */
  clear(hasOlder = false) {
    const offered = this.offered();
    this.messages = [];
    this.known = new Map(); // `keyOf` → message
    this.cursor = undefined; // {epoch, seq, messageId} of the last logged event
    this.hasOlder = hasOlder;
    this.generation++;
    for (const entry of offered) this.offer(entry);
  }
  away(refusal = null) {
    Object.assign(this, { phase: refusal ? "refused" : "away", refusal, joins: this.joins + 1 });
    this.company.lost();
    for (const message of this.messages) if (message.streaming) message.lost = true;
  }
  /** Somebody looks at the room again: more news than fit are shown from where they begin. */
  reopen() { if (this.reading.unread()) this.isOpened = false; }
  /** Resolves when the room is joined, now or after however many reconnects. */
  whenJoined() {
    if (this.phase === "joined") return Promise.resolve();
    return new Promise((resolve) => (this.joinWaiters ??= []).push(resolve));
  }
  /** The server says that this room cannot go on as it is. */
  troubled({ code }) {
    if (code === "kicked") {
      this.company.listPeople({ presence: {}, presenceCount: 0 });
      this.away(new Refusal({ code, message: "you were removed from it" }));
    }
    if (code !== "reset") return;
    this.cursor = undefined; // joins anew without `since`: the fresh page replaces what is shown
    this.join();
  }
  async join() {
    const attempt = ++this.joins;
    this.phase = "joining";
    try {
      const reply = await this.ask("room:join", { limit: PAGE_LIMIT, since: this.cursor });
      if (attempt !== this.joins) return;
      this.absorbJoin(reply);
      this.joined();
    } catch (refusal) {
      if (attempt !== this.joins || refusal.code === "disconnected") return;
      this.refusal = refusal;
      if (!refusal.retryAt) this.phase = "refused";
      else sleepUntil(refusal.retryAt).then(() => attempt === this.joins && this.join());
    }
    this.chat.changed();
  }
  joined() {
    for (const resolve of this.joinWaiters?.splice(0) ?? []) resolve();
    this.chat.activity.joined(this);
    this.pump().then(() => this.changes.pump()); // a change may be of a message that is on offer
    sleep(LOST_MS).then(() => this.phase === "joined" && this.forgetLost());
  }
  /** Answers that the server, asked anew, says nothing of: their end is somewhere else, or nowhere. */
  forgetLost() {
    const lost = this.messages.filter((message) => message.lost);
    for (const message of lost) this.discard(message);
  }
  absorbJoin(reply) {
    const { messages, persisted, reset, recovered, hasMore } = reply;
    this.refusal = null;
    this.phase = "joined";
    if (reset || !recovered) this.clear(hasMore);
    // Compared with the cursor as it was: a page is not sorted by where its messages *changed*.
    const from = this.cursor;
    const news = messages.filter((message) => compare(placeOf(message), from) > 0);
    this.absorbPage(news, persisted);
    news.forEach((message) => this.advance(message));
    this.absorbPersisted(persisted);
    this.company.absorbJoin(reply);
    this.reading.absorbJoin(reply);
    this.reopen();
  }
  /** A page shows what stands, so older epochs in it are settled too, but for what is on offer. */
  absorbPage(messages, persisted) {
    for (const incoming of messages) {
      const message = this.upsert(incoming);
      if (!message.offered && compare(message.position, persisted) <= 0) message.persisted = true;
    }
  }
  /** A logged event: once, in order. With `changes` it is about a message that stands already; one
   *  that is not loaded brings them along when its page is. */
  logged(entry, changes) {
    if (compare(placeOf(entry), this.cursor) <= 0) return;
    this.advance(entry);
    if (changes) this.amend(entry, entry.position, changes);
    else {
      this.upsert(entry);
      this.company.typesNoMore(entry);
    }
    if (this.messages.length <= MESSAGES_MAX || this.scrolledUp) return; // somebody reads back
    for (const old of this.messages.splice(0, MESSAGES_MAX / 2)) this.known.delete(keyOf(old));
    this.hasOlder = true;
    this.generation++;
  }
  /** A change of a message, unless a later one is known already. */
  amend(changed, position, changes) {
    const message = this.known.get(keyOf(changed));
    if (!message?.position || compare(position, placeOf(message)) <= 0) return;
    Object.assign(message, changes, { changedPosition: position });
  }
  /** A part of an answer that is being written. Its message, once it stands, is what counts. */
  streamed({ id, userId, type, offset, delta, state }) {
    const part = { id, userId, type };
    const message = this.known.get(keyOf(part))
      ?? this.upsert({ ...part, content: "", createdAt: now() });
    if (message.position) return;
    const { content } = message;
    // Beyond the end something was lost: what comes next from the beginning makes up for it.
    if (offset <= content.length) message.content = content.slice(0, offset) + delta;
    Object.assign(message, { streaming: state, lost: false });
    this.company.typesNoMore(part);
  }
  advance(entry) {
    const cursor = { ...placeOf(entry), messageId: entry.changeId ?? entry.id };
    if (compare(cursor, this.cursor) > 0) this.cursor = cursor;
  }
  /** Takes in a message from anywhere: the same one never stands twice, a newer state replaces. */
  upsert(incoming) {
    const key = keyOf(incoming);
    const message = this.known.get(key) ?? {};
    if (compare(placeOf(incoming), placeOf(message)) < 0) return message;
    const moves = !this.known.has(key) || compare(incoming.position, message.position) > 0;
    this.known.set(key, message);
    for (const field of FIELDS) if (incoming[field] != null) message[field] = incoming[field];
    if (moves) this.place(message);
    if (message.position) this.stands(message);
    return message;
  }
  /** Puts a message where it belongs; nearly always that is the end. */
  place(message) {
    const isBefore = ({ position }) => position && compare(position, message.position) < 0;
    const others = this.messages.filter((other) => other !== message);
    const at = message.position ? others.findLastIndex(isBefore) + 1 : others.length;
    this.messages = others.toSpliced(at, 0, message);
  }
  /** It has its place: an earlier refusal or wait is over, only a dead letter's verdict stays. */
  stands(message) {
    Object.assign(message, { accepted: true, retryAt: null, streaming: null, lost: false });
    if (message.refused && message.refused.code !== "rejected") this.refuse(message, null);
    if (covers(this.persisted, message.position)) this.settle(message);
  }
  settle(message) {
    if (message.persisted || message.refused) return;
    const { offered } = message;
    Object.assign(message, { persisted: true, accepted: true, offered: false });
    if (offered) this.saveOffered();
  }
  absorbPersisted(upTo) {
    if (compare(upTo, this.persisted) > 0) this.persisted = upTo;
    for (const message of this.messages) if (covers(upTo, message.position)) this.settle(message);
  }
  refuse(message, refusal) {
    message.refused = refusal && { code: refusal.code, reason: refusal.message };
    this.saveOffered();
  }
  /** The database refused a message for good, after it had been accepted: another's goes away. */
  rejected({ id, userId, changeId, error }) {
    if (changeId) return; // its message stands as it was, and a reset follows
    const message = this.known.get(keyOf({ userId, id }));
    if (!message) return;
    if (userId !== this.chat.user) this.discard(message);
    else if (error || !message.refused) this.refuse(message, { code: "rejected", message: error?.message });
  }
  offered() {
    const entry = ({ id, content, createdAt, refused }) => ({ id, content, createdAt, refused });
    return this.messages.filter((message) => message.offered).map(entry);
  }
  saveOffered() { save("sessionStorage", this.key("offered"), this.offered()); }
  /** Shows an own message as waiting; `pump` sends it. */
  offer({ refused, ...entry }) {
    Object.assign(this.upsert({ ...entry, userId: this.chat.user }), { offered: true, refused });
  }
  newId() { return uuidv7(this.chat.connection.serverNowMs()); }
  say(content, id = this.newId()) {
    this.scrolledUp = false;
    this.reading.eraseLine();
    this.offer({ id, content, createdAt: now() });
    this.saveOffered();
    this.pump();
    this.chat.changed();
  }
  retry(message) { // by hand
    this.discard(message);
    this.say(message.content, NEEDS_NEW_ID.includes(message.refused.code) ? this.newId() : message.id);
  }
  discard(message) {
    this.known.delete(keyOf(message));
    this.messages = this.messages.filter((other) => other !== message);
    this.saveOffered();
    this.chat.changed();
  }
  /** Sends what is on offer and was not answered for in this session, accepted before or not. One
   *  by one: a message that waits to be retried must not be overtaken. */
  async pump() {
    if (this.pumping) return;
    this.pumping = true;
    const { connection } = this.chat;
    const isDue = (each) => each.offered && !each.refused && each.taken !== connection.session;
    const next = () => (this.phase === "joined" ? this.messages.find(isDue) : null);
    for (let due = next(); due; due = next()) {
      await this.send(due, connection.session);
      this.chat.changed();
    }
    this.pumping = false;
  }
  async send({ id, content }, session) {
    try {
      const { position, persisted } = await this.ask("message:send", { id, content });
      if (!this.own(id)) return; // discarded meanwhile
      const message = this.upsert({ userId: this.chat.user, id, position });
      Object.assign(message, { taken: session, accepted: true }); // perhaps without a place yet
      if (persisted) this.settle(message);
    } catch (refusal) {
      const message = this.own(id);
      if (!message || refusal.code === "disconnected") return;
      if (refusal.code === "not_joined") return this.join();
      if (refusal.serverTime) { // the id was made by this computer's clock, before the server told
        this.chat.connection.setServerTime(refusal.serverTime);
        this.discard(message);
        return this.say(content);
      }
      if (!refusal.retryAt) return this.refuse(message, refusal);
      Object.assign(message, { retryAt: refusal.retryAt, retryWhy: words(refusal.code) });
      this.chat.changed();
      await sleepUntil(refusal.retryAt);
      message.retryAt = null;
    }
  }
  async loadOlder() {
    const before = this.messages[0]?.position;
    if (!this.hasOlder || !before || this.loadingOlder || this.phase !== "joined") return;
    this.loadingOlder = true;
    const { generation } = this;
    try {
      const { messages, hasMore } = await this.ask("history:get", { before, limit: PAGE_LIMIT });
      if (generation === this.generation) {
        this.absorbPage(messages, this.persisted);
        this.hasOlder = hasMore;
      }
    } catch (refusal) {
      await sleepUntil(refusal.retryAt ?? Date.now() + 1000); // scrolling asks again, not sooner
    }
    this.loadingOlder = false;
    this.chat.changed();
  }
  markOf(message) {
    const { refused, persisted, accepted } = message;
    const change = this.changes.of(message);
    if (refused || change?.refused) return "refused";
    if (change) return "pending";
    return persisted ? "persisted" : accepted ? "accepted" : "pending";
  }
}
