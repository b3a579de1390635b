// Roomcast's demo chat page: the native protocol (`roomcast.v1`), spoken by a plain browser.
//
//   Connection   one socket: refs to promises, heartbeat, when and whether to come back
//   Room, Chat   what is true: messages in the room's order, the cursor, what is on offer
//   Page         what is shown; reads Chat, changes nothing there by itself
//
// What a client has to do for the server's promises is small: hold an own message until it is
// *persisted*, offer it again under the same id after every reconnect, resume from a cursor.

const PAGE_LIMIT = 50;
const MESSAGES_MAX = 2000; // per room; older ones are dropped, scrolling up fetches them again
const [BACKOFF_MIN_MS, BACKOFF_MAX_MS] = [500, 15_000];
const WELCOME_TIMEOUT_MS = 10_000;
const HEARTBEAT_REPLY_MS = 8_000;
const STEADY_MS = 10_000; // a connection that lived this long starts the backoff anew
const GROUP_MS = 5 * 60_000; // one author's messages closer than this stand together
const RETRIED = ["rate_limited", "backpressure", "unavailable"];
const NEEDS_NEW_ID = ["rejected", "conflict", "bad_id"]; // under the old id the answer is the same
const FIELDS = "id userId content createdAt position changedPosition editedAt deletedAt".split(" ");

// ---- Small things -----------------------------------------------------------------------------
/** Orders two positions; a missing one is below every other. */
function compare(a, b) {
  if (!a || !b) return Number(Boolean(a)) - Number(Boolean(b));
  return a.epoch - b.epoch || a.seq - b.seq;
}
/** A watermark speaks for its own epoch only: an older epoch's message may be on offer anew. */
const covers = (upTo, position) => upTo?.epoch === position?.epoch && position?.seq <= upTo?.seq;
/** Where a message last changed: what the cursor counts. */
const placeOf = (message) => message.changedPosition ?? message.position;
/** An id alone is nobody's identity: two people may have chosen the same one. */
const keyOf = ({ userId, id }) => `${userId} ${id}`;
const show = (position) => (position ? `${position.epoch}:${position.seq}` : "–");
const words = (code) => code.replaceAll("_", " ");
const now = () => new Date().toISOString();
const sleepUntil = (at) => new Promise((resolve) => setTimeout(resolve, at - Date.now()));
const secondsUntil = (at) => Math.max(1, Math.ceil((at - Date.now()) / 1000));
/** Time-ordered (RFC 9562); chosen by the sender, so that a message offered twice is still one. */
function uuidv7() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  for (let i = 5, ms = Date.now(); i >= 0; i--, ms = Math.floor(ms / 256)) bytes[i] = ms % 256;
  bytes[6] = (bytes[6] & 0x0f) | 0x70;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
/** What the protocol allows as the id of a room or a user; null where it does not. */
function asId(text) {
  const id = (text ?? "").trim().replace(/^#/, "").replace(/\s+/g, "-");
  return /^[^\s{}\p{Cc}]+$/u.test(id) && new TextEncoder().encode(id).length <= 128 ? id : null;
}
/** Browser storage may be full or forbidden; then the page still works, it only forgets. */
function load(storage, key, other) {
  try { return JSON.parse(window[storage].getItem(key)) ?? other; } catch { return other; }
}
function save(storage, key, value) {
  try { window[storage].setItem(key, JSON.stringify(value)); } catch { /* forgets */ }
}

/** A command that was not done. `disconnected` means unknown, not failed: ask again, same id. */
class Refusal extends Error {
  constructor({ code = "internal", message, retryAfterMs }) {
    super(message || words(code));
    this.code = code;
    const delayMs = (retryAfterMs ?? (RETRIED.includes(code) ? 2000 : NaN)) + Math.random() * 250;
    this.retryAt = Date.now() + delayMs || null; // null if a person has to decide
  }
}

// ---- Connection -------------------------------------------------------------------------------
/** One socket at a time to the gateway, and the decision when and whether to open the next. */
class Connection {
  /** `on.phase(connection)`, `on.live()`, `on.event(name, data)`. */
  constructor(url, on) {
    Object.assign(this, { url, on, attempts: 0, refs: 0 });
    this.phase = "connecting"; // live | reconnecting (at `retryAt`) | refused (for `reason`)
    this.session = 0; // welcomes so far; what is done once per connection counts by it
    this.waiting = new Map(); // ref → {resolve, reject}
  }
  enter(phase, details) { this.on.phase(Object.assign(this, { phase }, details)); }
  open() {
    clearTimeout(this.timer);
    this.enter("connecting", { leaveAfterMs: null });
    this.socket = new WebSocket(this.url, "roomcast.v1");
    this.socket.onmessage = (frame) => this.receive(frame.data);
    this.socket.onclose = (close) => this.closed(close.code, close.reason);
    this.timer = setTimeout(() => this.dead(), WELCOME_TIMEOUT_MS);
  }
  /** A command and its one answer; rejects with a `Refusal`. */
  request(event, data) {
    if (this.phase !== "live") return Promise.reject(new Refusal({ code: "disconnected" }));
    const ref = ++this.refs;
    this.socket.send(JSON.stringify({ event, ref, data }));
    return new Promise((resolve, reject) => this.waiting.set(ref, { resolve, reject }));
  }
  receive(text) {
    const { event, ref, data = {}, error } = JSON.parse(text);
    if (event === "reply") {
      const { resolve, reject } = this.waiting.get(ref) ?? {};
      this.waiting.delete(ref);
      if (error) reject?.(new Refusal(error));
      else resolve?.(data);
    } else if (event === "welcome") {
      clearTimeout(this.timer);
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
    if (this.phase === "live" && Date.now() - this.liveSince > STEADY_MS) this.attempts = 0;
    if (code >= 4400 && code <= 4499) {
      this.enter("refused", { reason: reason || `code ${code}` });
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

// ---- Rooms ------------------------------------------------------------------------------------
/** One room as this tab knows it. A message has the protocol's fields and this tab's: `offered` (an
 *  own one that the database may not have yet), `taken` (the session whose server answered for it),
 *  `accepted`, `persisted`, `refused` {code, reason}, `retryAt` and `retryWhy`. */
class Room {
  constructor(id, chat) {
    Object.assign(this, { id, chat });
    this.phase = "away"; // joining | joined | refused (for `refusal`)
    this.joins = 0; // tells an overtaken join's answer from the latest one's
    this.persisted = null; // how far the database has the room
    this.readUpTo = load("localStorage", this.key("read"), null);
    this.generation = 0; // grows when messages are dropped: a page asked for before must not land
    this.messages = []; // by position; those without one last, as they were written
    this.clear();
    for (const entry of load("sessionStorage", this.key("offered"), [])) this.offer(entry);
  }
  ask(name, data) { return this.chat.connection.request(name, { roomId: this.id, ...data }); }
  key(name) { return `roomcast:${this.chat.user}:${name}:${this.id}`; }
  isOwn({ userId }) { return userId === this.chat.user; }
  own(id) { return this.known.get(keyOf({ userId: this.chat.user, id })); }
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
  }
  /** The server says that this room cannot go on as it is. */
  troubled({ code }) {
    if (code === "kicked") this.away(new Refusal({ code, message: "you were removed from it" }));
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
      this.phase = "joined";
      this.pump();
    } catch (refusal) {
      if (attempt !== this.joins || refusal.code === "disconnected") return;
      this.refusal = refusal;
      if (!refusal.retryAt) this.phase = "refused";
      else sleepUntil(refusal.retryAt).then(() => attempt === this.joins && this.join());
    }
    this.chat.changed();
  }
  absorbJoin({ messages, persisted, reset, recovered, hasMore }) {
    this.refusal = null;
    if (reset || !recovered) this.clear(hasMore);
    // Compared with the cursor as it was: a page is not sorted by where its messages *changed*.
    const from = this.cursor;
    const news = messages.filter((message) => compare(placeOf(message), from) > 0);
    this.absorbPage(news, persisted);
    news.forEach((message) => this.advance(message));
    this.absorbPersisted(persisted);
    this.readUpTo ??= this.lastPosition() ?? { epoch: 0, seq: 0 };
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
    const message = changes ? this.messages.find(({ id }) => id === entry.id) : this.upsert(entry);
    if (message && compare(entry.position, placeOf(message)) > 0) {
      Object.assign(message, changes, { changedPosition: entry.position });
    }
    if (this.messages.length <= MESSAGES_MAX || this.scrolledUp) return; // somebody reads back
    for (const old of this.messages.splice(0, MESSAGES_MAX / 2)) this.known.delete(keyOf(old));
    this.hasOlder = true;
    this.generation++;
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
    Object.assign(message, { accepted: true, retryAt: null });
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
  offered() {
    const entry = ({ id, content, createdAt, refused }) => ({ id, content, createdAt, refused });
    return this.messages.filter((message) => message.offered).map(entry);
  }
  saveOffered() { save("sessionStorage", this.key("offered"), this.offered()); }
  /** Shows an own message as waiting; `pump` sends it. */
  offer({ refused, ...entry }) {
    Object.assign(this.upsert({ ...entry, userId: this.chat.user }), { offered: true, refused });
  }
  say(content, id = uuidv7()) {
    this.scrolledUp = false;
    this.offer({ id, content, createdAt: now() });
    this.saveOffered();
    this.pump();
    this.chat.changed();
  }
  retry(message) { // by hand
    this.discard(message);
    this.say(message.content, NEEDS_NEW_ID.includes(message.refused.code) ? uuidv7() : message.id);
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
  unread() {
    const isNew = ({ position }) => compare(position, this.readUpTo) > 0;
    return this.messages.filter((each) => isNew(each) && !this.isOwn(each)).length;
  }
  read() {
    const last = this.lastPosition();
    if (this.phase !== "joined" || compare(last, this.readUpTo) <= 0) return;
    this.readUpTo = last;
    save("localStorage", this.key("read"), last);
  }
  markOf({ refused, persisted, accepted }) {
    return refused ? "refused" : persisted ? "persisted" : accepted ? "accepted" : "pending";
  }
}

/** The rooms of one user in this browser, and the one connection they share. */
class Chat {
  constructor(user, firstRoom, changed) {
    Object.assign(this, { user, changed });
    const ids = new Set([...load("localStorage", `roomcast:${user}:rooms`, []), firstRoom]);
    this.rooms = new Map([...ids].map((id) => [id, new Room(id, this)]));
    this.active = this.rooms.get(firstRoom);
    this.saveRooms();
    const url = `${location.protocol.replace("http", "ws")}//${location.host}/ws`;
    this.connection = new Connection(`${url}?user=${encodeURIComponent(user)}`, {
      phase: ({ phase }) => {
        if (phase !== "live") this.rooms.forEach((room) => room.away());
        this.changed();
      },
      live: () => this.rooms.forEach((room) => room.join()),
      event: (name, data) => this.receive(name, data),
    });
  }
  saveRooms() { save("localStorage", `roomcast:${this.user}:rooms`, [...this.rooms.keys()]); }
  /** Before its join's reply nothing of a room counts: what happens meanwhile is in that reply. */
  receive(name, data) {
    const room = this.rooms.get(data.roomId);
    if (name === "room:error") room?.troubled(data.error ?? data);
    else if (room?.phase === "joined") this.roomEvent(room, room.own(data.id), name, data);
    this.changed();
  }
  roomEvent(room, own, name, data) {
    const { content, editedAt = now(), deletedAt = now() } = data;
    const edit = content === undefined ? { editedAt } : { content, editedAt };
    if (name === "message:new") room.logged(data);
    else if (name === "message:update") room.logged(data, edit);
    else if (name === "message:delete") room.logged(data, { content: "", deletedAt });
    else if (name === "message:pending") room.upsert({ ...data, position: null }).accepted = true;
    else if (name === "message:persisted") room.absorbPersisted(data.upTo);
    else if (name === "message:rejected" && own) {
      room.refuse(own, { code: "rejected", message: data.error?.message });
    }
  }
  activate(id) {
    this.active = this.rooms.get(id);
    this.changed();
  }
  add(id) {
    if (!this.rooms.has(id)) {
      this.rooms.set(id, new Room(id, this));
      this.saveRooms();
      if (this.connection.phase === "live") this.rooms.get(id).join();
    }
    this.activate(id);
  }
  leave(room) {
    room.away();
    this.rooms.delete(room.id);
    this.saveRooms();
    room.ask("room:leave").catch(() => { /* left with the connection, then */ });
    this.activate(this.active === room ? [...this.rooms.keys()][0] : this.active?.id);
  }
}

// ---- Page -------------------------------------------------------------------------------------
const $ = (id) => document.getElementById(id);
const MARKS = {
  pending: ["", "Waiting to be accepted"], accepted: ["✓", "Accepted: it has its place"],
  persisted: ["✓✓", "Persisted: it is in the database"], refused: ["!", "Refused"],
};
/** Writes only what changed, and only ever as text: nothing on this page parses HTML. */
function setText(element, text) { if (element.textContent !== text) element.textContent = text; }
/** The first letter on one of ten colours, always the same one for the same user. */
function setAvatar(element, user) {
  let hash = 1;
  for (const char of user) hash = (hash * 131 + char.codePointAt(0)) % 1_000_003;
  element.dataset.tone = hash % 10;
  setText(element, [...user][0].toUpperCase());
}
/** A copy of a template's element, and its parts by class. */
function copyOf(template) {
  const element = $(template).content.firstElementChild.cloneNode(true);
  return { element, part: (name) => element.querySelector(`.${name}`) };
}
/** Makes `rows` the children of `parent`, touching only what differs. */
function reconcile(parent, rows) {
  let next = parent.firstElementChild;
  for (const row of rows) {
    if (row !== next) parent.insertBefore(row, next);
    next = row.nextElementSibling;
  }
  while (parent.childElementCount > rows.length) parent.lastElementChild.remove();
}
function dayOf({ createdAt }) {
  const ago = (days) => new Date(Date.now() - days * 86_400_000).toDateString();
  const date = new Date(createdAt);
  const day = { [ago(0)]: "Today", [ago(1)]: "Yesterday" }[date.toDateString()];
  return day ?? date.toLocaleDateString([], { weekday: "long", day: "numeric", month: "long" });
}
const addressOf = (user, room) =>
  `${location.pathname}?${new URLSearchParams({ user, ...(room && { room }) })}`;

/** One message on the page. */
class MessageRow {
  constructor(room, message) {
    const { element, part } = Object.assign(this, copyOf("message-row"));
    setAvatar(part("avatar"), message.userId);
    element.dataset.tone = part("avatar").dataset.tone;
    element.dataset.id = message.id;
    element.toggleAttribute("data-own", room.isOwn(message));
    setText(part("author"), message.userId);
    for (const name of ["retry", "discard"]) part(name).onclick = () => room[name](message);
  }
  update(room, message, first, last) {
    const { content, deletedAt, editedAt, position, refused, retryAt, retryWhy } = message;
    const mark = room.markOf(message);
    const [sign, meaning] = MARKS[mark];
    const wait = retryAt ? `${retryWhy}, trying again in ${secondsUntil(retryAt)} s` : "";
    const state = JSON.stringify([message, mark, first, last, wait]);
    if (state === this.state) return;
    this.state = state;
    const flags = { first, last, deleted: Boolean(deletedAt) };
    for (const name in flags) this.element.toggleAttribute(`data-${name}`, flags[name]);
    this.element.dataset.mark = this.part("mark").dataset.mark = mark;
    this.part("mark").ariaLabel = meaning;
    this.part("mark").title = position ? `${meaning} (${show(position)})` : meaning;
    const texts = {
      mark: sign, text: deletedAt ? "This message was deleted" : content,
      edited: editedAt && !deletedAt ? "edited · " : "",
      time: new Date(message.createdAt).toLocaleTimeString([], { timeStyle: "short" }),
      reason: refused ? `not delivered: ${refused.reason ?? "refused"}` : wait,
    };
    for (const [name, text] of Object.entries(texts)) setText(this.part(name), text);
  }
}

/** The active room's messages: a row per message, the reader's place kept whatever arrives. */
class MessageList {
  constructor() {
    this.scroller = $("scroller");
    this.scroller.onscroll = () => this.scrolled();
    new ResizeObserver(() => this.room?.scrolledUp || this.toBottom()).observe(this.scroller);
    $("to-bottom").onclick = () => this.toBottom();
  }
  toBottom() { this.scroller.scrollTop = this.scroller.scrollHeight; }
  scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    if (!this.room) return;
    this.room.scrolledUp = scrollHeight - scrollTop - clientHeight > 48;
    $("to-bottom").hidden = !this.room.scrolledUp;
    if (scrollTop < 240) this.room.loadOlder();
  }
  render(room) {
    if (room !== this.room) {
      Object.assign(this, { room, rows: new Map() }); // message → MessageRow
      if (room) room.scrolledUp = false;
    }
    const { scroller } = this;
    const end = (row) => row.offsetTop + row.offsetHeight; // its top shifts when it joins a group
    const inView = (row) => end(row) > scroller.scrollTop;
    const anchor = room?.scrolledUp ? [...$("messages").children].find(inView) : null;
    const before = anchor && end(anchor);
    reconcile($("messages"), this.elements(room?.messages ?? []));
    if (!room?.scrolledUp) this.toBottom();
    else if (anchor?.isConnected) scroller.scrollTop += end(anchor) - before;
    this.scrolled(); // also fills a page that is too short
  }
  /** Day separators and rows; a row knows whether it opens or ends its author's group. */
  elements(messages) {
    const days = messages.map(dayOf);
    const rows = new Map();
    const isNear = (a, b) => Math.abs(Date.parse(b.createdAt) - Date.parse(a.createdAt)) < GROUP_MS;
    const joins = (i, a = messages[i - 1], b = messages[i]) => // the group of the one before it
      a && a.userId === b?.userId && days[i - 1] === days[i] && isNear(a, b);
    const elements = messages.flatMap((message, i) => {
      const row = this.rows.get(message) ?? new MessageRow(this.room, message);
      rows.set(message, row);
      row.update(this.room, message, !joins(i), !joins(i + 1));
      if (days[i] === days[i - 1]) return [row.element];
      row.day ??= copyOf("day-row").element;
      setText(row.day, days[i]);
      return [row.day, row.element];
    });
    this.rows = rows;
    return elements;
  }
}

/** Everything around the messages: the rooms, the connection's state, the composer. */
class Page {
  constructor(user, firstRoom) {
    $("app").hidden = false;
    setAvatar($("me-avatar"), user);
    setText($("me-name"), user);
    this.chat = new Chat(user, firstRoom, () => this.schedule());
    this.list = new MessageList();
    this.roomRows = new Map(); // room → its copy of the template
    this.listen(this.chat.connection);
    this.chat.connection.open();
    this.render();
    $("text").focus();
  }
  listen(connection) {
    $("composer").onsubmit = (event) => this.send(event);
    $("room-form").onsubmit = (event) => {
      event.preventDefault();
      this.openRoom(asId($("room-name").value));
      event.target.reset();
    };
    $("text").onkeydown = (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) this.send(event);
    };
    $("status-now").onclick = window.ononline = document.onvisibilitychange = () => {
      connection.nudge();
      this.render();
    };
    $("notice-action").onclick = () => {
      if (connection.phase === "refused") location.reload();
      else this.chat.active?.join();
    };
    setInterval(() => this.counting && this.render(), 500);
  }
  /** Once per frame however much arrived; a hidden tab has no frames, but its title counts on. */
  schedule() {
    if (this.scheduled) return;
    this.scheduled = true;
    (document.hidden ? setTimeout : requestAnimationFrame)(() => this.render());
  }
  render() {
    this.scheduled = false;
    const { active: room, rooms, connection } = this.chat;
    if (!document.hidden) room?.read();
    this.renderRooms([...rooms.values()], room);
    this.renderRoom(room, connection);
    this.list.render(room);
    if (room === this.shown) return;
    this.shown = room;
    const other = this.chat.user === "alice" ? "bob" : "alice";
    history.replaceState(null, "", addressOf(this.chat.user, room?.id));
    $("open-other").href = addressOf(other, room?.id);
    setText($("open-other"), `Open as ${other} ↗`);
  }
  renderRooms(rooms, active) {
    let total = 0;
    for (const room of rooms) {
      if (!this.roomRows.has(room)) this.roomRows.set(room, this.roomRow(room));
      const { element, part } = this.roomRows.get(room);
      const unread = room.unread();
      total += unread;
      part("room-open").ariaCurrent = String(room === active);
      part("unread").hidden = !unread;
      setText(part("unread"), String(Math.min(unread, 99)));
      part("unread").ariaLabel = `${unread} unread`;
    }
    reconcile($("rooms"), rooms.map((room) => this.roomRows.get(room).element));
    $("menu").toggleAttribute("data-unread", total > 0);
    document.title = `${total ? `(${total}) ` : ""}${active ? `#${active.id} · ` : ""}Roomcast`;
  }
  roomRow(room) {
    const row = copyOf("room-row");
    setText(row.part("name"), room.id);
    row.part("room-open").onclick = () => this.openRoom(room.id);
    row.part("room-leave").onclick = () => this.chat.leave(room);
    row.part("room-leave").ariaLabel = `Leave ${room.id}`;
    return row;
  }
  renderRoom(room, connection) {
    const { id, cursor, messages = [], hasOlder, refusal, persisted } = room ?? {};
    const quiet = room?.phase === "joined" && !messages.length;
    const beginning = messages.length ? `The beginning of #${id}` : "";
    const texts = {
      "room-title": room ? `# ${id}` : "No room",
      "room-position": cursor ? `at ${show(cursor)} · in the database: ${show(persisted)}` : "",
      "list-top": hasOlder ? "Loading earlier messages…" : beginning,
      empty: quiet ? `It is quiet in #${id}. Say something.` : room ? "" : "Join a room.",
    };
    for (const [name, text] of Object.entries(texts)) setText($(name), text);
    const isWaiting = this.renderState(room, connection) || refusal?.retryAt;
    this.counting = isWaiting || messages.some((message) => message.retryAt);
    $("text").placeholder = room ? `Message #${id}` : "";
  }
  /** What the connection and the room's join are at; whether there is a countdown to go on with. */
  renderState(room, { phase, retryAt, reason }) {
    const waits = phase === "reconnecting";
    $("status").dataset.phase = phase;
    setText($("status-text"), phase);
    setText($("status-wait"), waits ? `in ${secondsUntil(retryAt)} s` : "");
    $("status-now").hidden = !waits;
    const { refusal } = room ?? {};
    const again = refusal?.retryAt ? `; trying again in ${secondsUntil(refusal.retryAt)} s` : "";
    let notice = refusal ? `Joining #${room.id} was refused: ${refusal.message}${again}.` : "";
    if (phase === "refused") notice = `The server refused this connection: ${reason}.`;
    setText($("notice-text"), notice);
    $("notice").hidden = !notice;
    $("notice-action").hidden = Boolean(again);
    $("text").disabled = $("send").disabled = !room || [phase, room.phase].includes("refused");
    return waits;
  }
  send(event) {
    event.preventDefault();
    const content = $("text").value.trim();
    const { active: room } = this.chat;
    if (!content || !room) return;
    $("text").value = "";
    room.say(content);
    $("text").focus();
  }
  openRoom(id) {
    if (id) this.chat.add(id);
    $("sidebar").hidePopover(); // on a phone the rooms lie over the chat
    $("text").focus();
  }
}
/** What a test needs to see: copies, nothing to change the page with. */
function stateOf({ user, connection, rooms }) {
  const states = [...rooms].map(([id, room]) => [id, {
    phase: room.phase, cursor: room.cursor, persisted: room.persisted,
    messages: room.messages.map((each) => ({ ...each, mark: room.markOf(each) })),
  }]);
  const { phase, session: welcomes } = connection;
  return structuredClone({ user, phase, welcomes, rooms: Object.fromEntries(states) });
}

const query = new URLSearchParams(location.search);
const [user, firstRoom] = [asId(query.get("user")), asId(query.get("room")) ?? "lobby"];
if (user) {
  const page = new Page(user, firstRoom);
  Object.defineProperty(window, "roomcast", { get: () => stateOf(page.chat) });
} else { // what this is, and ways in
  for (const name of ["alice", "bob"]) $(`open-${name}`).href = addressOf(name, firstRoom);
  $("name-room").value = firstRoom;
  $("welcome").hidden = false;
}
