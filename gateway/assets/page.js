// Roomcast's demo chat page: the native protocol (`roomcast.v1`), spoken by a plain browser.
//
//   protocol, time, storage          values: positions, ids, refusals; moments; what a browser keeps
//   connection                       one socket: refs to promises, when and whether to come back
//   room, receipts, changes, presence what is true of a room: its messages, how far one has read, what
//                                    is on offer; who is here, who types
//   sign_in                          who is asking, where the server wants a token
//   chat, typing, assistant          the rooms of one user; what is told of the person; the scripted demo
//   elements, messages, people       what is shown of a room
//   page                             everything around it; reads Chat, changes nothing there by itself

import { Typist } from "./typing.js";
import { Chat } from "./chat.js";
import { $, copyOf, reconcile, setAvatar, setText } from "./elements.js";
import { MessageList } from "./messages.js";
import { People, renderTyping } from "./people.js";
import { asId, show } from "./protocol.js";
import { forgetToken, signIn, tokenOf } from "./sign_in.js";
import { left } from "./time.js";

const ASK = "/ask ";
const AGO_MS = 30_000; // how often "active 4 min ago" is looked at again

const addressOf = (user, room) =>
  `${location.pathname}?${new URLSearchParams({ ...(user && { user }), ...(room && { room }) })}`;

/** Everything around the messages: the rooms, the connection's state, the composer. */
class Page {
  constructor(identity, firstRoom) {
    const { user } = identity;
    $("app").hidden = false;
    setAvatar($("me-avatar"), user);
    setText($("me-name"), user);
    this.hasToken = Boolean(identity.token);
    this.chat = new Chat(identity, firstRoom, () => this.schedule());
    this.list = new MessageList();
    this.people = new People();
    this.typist = new Typist();
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
      if (event.key !== "ArrowUp" || $("text").value) return;
      event.preventDefault();
      this.list.editLast();
    };
    $("text").oninput = () => this.typist.wrote(this.chat.active, $("text").value.trim());
    $("text").onblur = () => this.typist.stop();
    const look = () => {
      connection.nudge();
      if (!document.hidden) this.chat.active?.reopen();
      this.render();
    };
    window.ononline = look;
    $("status-now").onclick = () => {
      look();
      $("text").focus(); // the button goes, and would take the focus with it
    };
    const sidebar = $("sidebar");
    sidebar.ontoggle = ({ newState }) => { if (newState === "open") sidebar.querySelector("button").focus(); };
    sidebar.onkeydown = (event) => { // a drawer lies over everything else: Tab leads out of it and closes it
      const within = [...sidebar.querySelectorAll("button, input, a")];
      const end = event.shiftKey ? within[0] : within.at(-1);
      if (event.key !== "Tab" || event.target !== end || !sidebar.matches(":popover-open")) return;
      event.preventDefault();
      sidebar.hidePopover();
      $("text").focus();
    };
    document.addEventListener("visibilitychange", look);
    $("notice-action").onclick = () => this.notice?.act();
    setInterval(() => this.counting && this.render(), 500);
    setInterval(() => this.schedule(), AGO_MS);
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
    this.list.render(room); // first: what it shows is read
    this.renderRooms([...rooms.values()], room);
    this.renderRoom(room, connection);
    this.renderCredits();
    this.people.render(room, connection.phase === "live");
    renderTyping(room);
    if (room === this.shown) return;
    this.shown = room;
    if (this.hasToken) return history.replaceState(null, "", addressOf(null, room?.id));
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
      const unread = room.reading.unread();
      total += unread;
      element.toggleAttribute("data-closed", room.phase === "refused");
      part("room-open").ariaCurrent = String(room === active);
      part("unread").hidden = !unread;
      setText(part("unread"), unread > 99 ? "99+" : String(unread));
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
    row.part("room-leave").onclick = () => {
      this.chat.leave(room);
      this.openRoom(null);
    };
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
    this.renderStatus(connection);
    this.renderNotice(room, connection);
    const waits = (each) => each.retryAt;
    this.counting = connection.phase === "reconnecting" || refusal?.retryAt
      || this.chat.blockedUntil > Date.now() || messages.some(waits)
      || room?.changes.waiting.some(waits);
    $("text").placeholder = room ? `Message #${id}` : "";
    $("text").disabled = $("send").disabled =
      !room || [connection.phase, room.phase].includes("refused");
    if (this.mayTakeFocus && $("text").disabled) $("notice-action").focus();
  }
  renderStatus({ phase, retryAt, silent }) {
    const waits = phase === "reconnecting";
    $("status").dataset.phase = silent ? "silent" : phase;
    setText($("status-text"), silent ? "no answer" : phase);
    setText($("status-wait"), waits ? `in ${left(retryAt)}` : "");
    $("status-now").hidden = !waits;
  }
  /** One thing that stands in the way, and what a person can do about it. */
  renderNotice(room, connection) {
    this.notice = this.noticeOf(room, connection);
    const { text = "", action = "", tone = "bad" } = this.notice ?? {};
    const appears = Boolean(action) && $("notice-action").hidden;
    $("notice").hidden = !text;
    $("notice").dataset.tone = tone;
    setText($("notice-text"), text);
    setText($("notice-action"), action);
    $("notice-action").hidden = !action;
    // Who was writing can go on with a key where writing is of no use any more.
    this.mayTakeFocus = appears && document.activeElement === $("text");
  }
  noticeOf(room, { phase, code, reason }) {
    if (phase === "refused") {
      const texts = {
        4401: "your token has run out, was taken back, or does not hold",
        4429: "you were too fast for too long; come back in some minutes",
      };
      const why = texts[code] ?? reason;
      const reload = () => {
        if (code === 4401) forgetToken();
        location.reload();
      };
      return { text: `The server ended this connection: ${why}.`, action: "Try again", act: reload };
    }
    const { blockedUntil } = this.chat;
    if (blockedUntil > Date.now()) {
      const text = "That was more than this server takes. It listens again in "
        + `${left(blockedUntil)}; what you write until then is kept and goes out by itself.`;
      return { text, tone: "calm" };
    }
    if (room?.refusal) return this.refusalNotice(room);
    const next = room?.messages.find((each) => each.retryAt && each.retryWhy === "rate limited");
    if (next) {
      const text = "You write faster than this server takes. What waits goes out by itself, "
        + `the next in ${left(next.retryAt)}.`;
      return { text, tone: "calm" };
    }
    if (!room?.answerRefusal) return null;
    const forget = () => {
      room.answerRefusal = null;
      this.render();
    };
    const text = `The scripted answer came to no end: ${room.answerRefusal.message}.`;
    return { text, action: "All right", act: forget };
  }
  refusalNotice(room) {
    const { code, message, retryAt } = room.refusal;
    if (retryAt) {
      return { text: `#${room.id}: ${message}; trying again in ${left(retryAt)}.`, tone: "calm" };
    }
    const texts = {
      kicked: `You were removed from #${room.id}. Nothing new of it comes here.`,
      forbidden: `#${room.id} is not open to you.`,
    };
    const text = texts[code] ?? `Joining #${room.id} was refused: ${message}.`;
    return { text, action: "Try again", act: () => room.join() };
  }
  renderCredits() {
    const { balance = 0, unsynced = 0 } = this.chat.credits ?? {};
    const rest = balance - unsynced;
    const text = `${rest.toLocaleString().replace("-", "−")} credits`;
    setText($("credits"), balance || unsynced ? text : "");
    $("credits").title = unsynced ? `${unsynced} of them on the way into the ledger` : "In the ledger";
  }
  send(event) {
    event.preventDefault();
    const content = $("text").value.trim();
    const { active: room } = this.chat;
    if (!content || !room) return;
    $("text").value = "";
    this.typist.stop();
    room.say(content);
    if (content.startsWith(ASK)) this.chat.play(room, content.slice(ASK.length).trim());
    $("text").focus();
  }
  openRoom(id) {
    this.typist.stop();
    if (id) this.chat.add(id);
    $("sidebar").hidePopover(); // on a phone the rooms lie over the chat
    $("text").focus();
  }
}
/** What a test needs to see: copies, nothing to change the page with. */
function stateOf({ user, connection, rooms, credits, activity }) {
  const stateOfRoom = (room) => ({
    phase: room.phase, cursor: room.cursor, persisted: room.persisted,
    readUpTo: room.reading.upTo, told: room.reading.told,
    changes: room.changes.waiting.length,
    people: Object.fromEntries(room.company.people), count: room.company.count,
    receipts: Object.fromEntries(room.company.receipts), typing: room.company.typers(),
    messages: room.messages.map((each) => ({ ...each, mark: room.markOf(each) })),
  });
  const states = [...rooms].map(([id, room]) => [id, stateOfRoom(room)]);
  const { phase, session: welcomes } = connection;
  const { status } = activity;
  return structuredClone(
    { user, phase, welcomes, status, credits, rooms: Object.fromEntries(states) });
}

/** Shows the room, and to a test what it needs to see. */
function enter(identity, room) {
  $("welcome").hidden = true;
  const page = new Page(identity, room);
  Object.defineProperty(window, "roomcast", { get: () => stateOf(page.chat) });
}

/** What this is, and ways in. */
function welcome(room, problem = "") {
  const asksForToken = document.body.dataset.signIn === "token";
  for (const name of ["alice", "bob"]) $(`open-${name}`).href = addressOf(name, room);
  $("name-room").value = room;
  $("ways-in").hidden = $("name-form").hidden = asksForToken;
  $("token-form").hidden = !asksForToken;
  setText($("token-problem"), problem);
  $("token-form").onsubmit = (event) => {
    event.preventDefault();
    enterWith($("token").value.trim(), room);
  };
  $("welcome").hidden = false;
  if (asksForToken) $("token").focus();
}

async function enterWith(token, room) {
  try {
    enter({ user: await signIn(token), token }, room);
  } catch (error) {
    welcome(room, error.message);
  }
}

const query = new URLSearchParams(location.search);
const { token, room: tokenRoom } = tokenOf();
const room = asId(query.get("room")) ?? asId(tokenRoom) ?? "lobby";
const user = asId(query.get("user"));
if (token) enterWith(token, room);
else if (user && document.body.dataset.signIn !== "token") enter({ user }, room);
else welcome(room);
