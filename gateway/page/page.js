// Roomcast's page to chat in, on the client that anybody's page has: `clients/typescript`. Nothing
// of the protocol is here.
//
//   positions, time, storage     values: places, moments; what a browser keeps
//   markdown, formatted          what members write: read into a tree, shown as nodes
//   company, news, open_room     what only a page knows of a room: who has left meanwhile, the line
//                                above what is new
//   sign_in                      who is asking, where the server wants a token
//   chat, activity, assistant    the rooms of one user; what is told of the person; the demo
//   elements, messages, people   what is shown of a room
//   notices                      what stands in the way, in a person's words
//   rest                         of these, what is loaded behind the first messages
//   page                         everything around it; reads Chat, changes nothing there by itself

import { createClient } from "../../clients/typescript/src/index.js";
import { Chat } from "./chat.js";
import { $, asId, copyOf, reconcile, setAvatar, setText } from "./elements.js";
import { MessageList } from "./messages.js";
import { show } from "./positions.js";
import { forgetToken, givenToken, keepToken, signIn } from "./sign_in.js";
import { left } from "./time.js";

const ASK = "/ask ";
const AGO_MS = 30_000; // how often "active 4 min ago" is looked at again
const REST_MS = 5_000; // what is not needed for the first messages is loaded then at the latest
const PHASES = {
  connected: "live", idle: "connecting", closed: "refused", unauthorized: "refused",
};

const addressOf = (user, room) =>
  `${location.pathname}?${new URLSearchParams({ ...(user && { user }), ...(room && { room }) })}`;

/** Everything around the messages: the rooms, the connection's state, the composer. */
class Page {
  constructor(client, { user, token }, firstRoom) {
    $("app").hidden = false;
    setAvatar($("me-avatar"), user);
    setText($("me-name"), user);
    Object.assign(this, { client, hasToken: Boolean(token) });
    this.roomRows = new Map(); // room → its copy of the template
    this.list = new MessageList();
    this.rest = null; // what comes behind the first messages
    this.chat = new Chat(client, user, firstRoom, () => this.schedule());
    this.listen();
    this.render();
    $("text").focus();
    setTimeout(() => this.loadRest(), REST_MS);
  }
  /** Markdown, who is here, what is told of the person, words for what stands in the way. */
  async loadRest() {
    if (this.isLoading) return;
    this.isLoading = true;
    try {
      const rest = await import("./rest.js");
      const { Activity, PeopleList, noticeOf, renderTyping, setFormatted } = rest;
      this.list.showContentWith(setFormatted);
      this.rest = { people: new PeopleList(), noticeOf, renderTyping };
      this.chat.activity = new Activity(this.chat);
    } catch { // the connection breaks just now
      setTimeout(() => { this.isLoading = false; }, REST_MS);
    }
    this.schedule();
  }
  listen() {
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
    $("text").oninput = () => {
      const { room } = this.chat.active ?? {};
      if ($("text").value.trim()) room?.startTyping();
      else room?.stopTyping();
    };
    $("text").onblur = () => this.chat.active?.room.stopTyping();
    $("leave").onclick = () => this.leave(this.chat.active);
    const look = () => {
      if (!document.hidden) this.chat.active?.reopen();
      this.render();
    };
    $("status-now").onclick = () => {
      this.client.connect();
      $("text").focus(); // the button goes, and would take the focus with it
    };
    const sidebar = $("sidebar");
    sidebar.ontoggle = ({ newState }) => {
      if (newState === "open") sidebar.querySelector("button").focus();
    };
    // A drawer lies over everything else: Tab leads out of it and closes it.
    sidebar.onkeydown = (event) => {
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
    const { active: room, rooms } = this.chat;
    const connection = this.client.snapshot();
    this.list.render(room); // first: what it shows is read
    this.renderRooms([...rooms.values()], room);
    this.renderRoom(room, connection);
    this.renderCredits();
    this.rest?.people.render(room);
    this.rest?.renderTyping(room);
    const isUnderWay = ["idle", "connecting", "connected"].includes(connection.state);
    if (room?.isLive || !isUnderWay) this.loadRest();
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
      const unread = room.unread();
      total += unread;
      element.toggleAttribute("data-closed", ["refused", "kicked"].includes(room.snapshot.status));
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
    row.part("room-leave").onclick = () => this.leave(room);
    row.part("room-leave").ariaLabel = `Leave ${room.id}`;
    return row;
  }
  renderRoom(room, connection) {
    const { id, messages = [], snapshot } = room ?? {};
    const { at, persisted } = room?.positions() ?? {};
    const quiet = room?.isLive && !messages.length;
    const beginning = messages.length ? `The beginning of #${id}` : "";
    const texts = {
      "room-title": room ? `# ${id}` : "No room",
      "room-position": at ? `at ${show(at)} · in the database: ${show(persisted)}` : "",
      "list-top": snapshot?.hasOlder ? "Loading earlier messages…" : beginning,
      empty: quiet ? `It is quiet in #${id}. Say something.` : room ? "" : "Join a room.",
    };
    for (const [name, text] of Object.entries(texts)) setText($(name), text);
    $("leave").hidden = !room;
    $("leave").ariaLabel = `Leave ${id}`;
    this.renderStatus(connection);
    this.renderNotice(room, connection);
    this.counting = connection.state !== "connected" || snapshot?.error || this.chat.isWaiting()
      || messages.some(({ error }) => error?.retryAt);
    $("text").placeholder = room ? `Message #${id}` : "";
    const isShut = ["closed", "unauthorized"].includes(connection.state);
    $("text").disabled = $("send").disabled =
      !room || isShut || ["refused", "kicked"].includes(snapshot.status);
    if (this.mayTakeFocus && $("text").disabled) $("notice-action").focus();
  }
  renderStatus({ state, reconnectAt }) {
    const silent = this.chat.isSilent();
    const phase = PHASES[state] ?? state;
    $("status").dataset.phase = silent ? "silent" : phase;
    setText($("status-text"), silent ? "no answer" : phase);
    setText($("status-wait"), reconnectAt ? `in ${left(reconnectAt)}` : "");
    $("status-now").hidden = !reconnectAt;
  }
  /** One thing that stands in the way, and what a person can do about it. */
  renderNotice(room, connection) {
    const render = () => this.render();
    this.notice = this.unsent ?? this.rest?.noticeOf(this.chat, room, connection, render);
    const { text = "", action = "", tone = "bad" } = this.notice ?? {};
    const appears = Boolean(action) && $("notice-action").hidden;
    $("notice").hidden = !text;
    $("notice").dataset.tone = tone;
    $("notices").role = tone === "calm" ? "status" : "alert";
    setText($("notice-text"), text);
    setText($("notice-action"), action);
    $("notice-action").hidden = !action;
    // Who was writing can go on with a key where writing is of no use any more.
    this.mayTakeFocus = appears && document.activeElement === $("text");
  }
  renderCredits() {
    const { balance = 0, unsynced = 0 } = this.chat.credits ?? {};
    const rest = balance - unsynced;
    const text = `${rest.toLocaleString().replace("-", "−")} credits`;
    setText($("credits"), balance || unsynced ? text : "");
    const where = unsynced ? `${unsynced} of them on the way into the ledger` : "In the ledger";
    $("credits").title = where;
  }
  send(event) {
    event.preventDefault();
    const content = $("text").value.trim();
    const { active: room } = this.chat;
    if (!content || !room) return;
    this.unsent = null;
    room.scrolledUp = false;
    room.news.erase();
    room.room.stopTyping();
    try {
      room.room.send(content);
      $("text").value = "";
      if (content.startsWith(ASK)) this.chat.play(room, content.slice(ASK.length).trim());
    } catch ({ message }) { // nothing was taken: it stays where it was written
      const act = () => {
        this.unsent = null;
        this.render();
      };
      this.unsent = { text: `That was not sent: ${message}.`, action: "All right", act };
      this.render();
    }
    $("text").focus();
  }
  openRoom(id) {
    this.chat.active?.room.stopTyping();
    if (id) this.chat.add(id);
    $("sidebar").hidePopover(); // on a phone the rooms lie over the chat
    $("text").focus();
  }
  leave(room) {
    this.chat.leave(room);
    this.openRoom(null);
  }
}
/** What a test needs to see: copies, nothing to change the page with. */
function stateOf({ user, client, connects, rooms }) {
  const states = [...rooms].map(([id, { snapshot }]) => [id, snapshot.status]);
  const { state } = client.snapshot();
  return { user, state, connects, rooms: Object.fromEntries(states) };
}

/** Shows the room, and to a test what it needs to see. */
function enter(client, identity, room) {
  $("welcome").hidden = true;
  const page = new Page(client, identity, room);
  Object.defineProperty(window, "roomcast", { get: () => stateOf(page.chat) });
}

/** What this is, and ways in. */
function welcome(room, problem = "") {
  for (const name of ["alice", "bob"]) $(`open-${name}`).href = addressOf(name, room);
  $("name-room").value = room;
  $("ways-in").hidden = $("name-form").hidden = asksForToken;
  $("token-form").hidden = !asksForToken;
  setText($("token-problem"), problem);
  $("token-form").onsubmit = (event) => {
    event.preventDefault();
    enterWith($("token").value.trim(), null, room);
  };
  $("welcome").hidden = false;
  if (asksForToken) $("token").focus();
}

/** By a token. Whose it is only the server knows, unless this tab was in before. */
async function enterWith(token, user, room) {
  const client = createClient({ url: "/ws", getToken: () => token, ...(user && { user }) });
  if (user) return enter(client, { user, token }, room);
  try {
    const whose = await signIn(client);
    keepToken(token, whose);
    enter(client, { user: whose, token }, room);
  } catch (error) {
    client.close();
    forgetToken();
    welcome(room, error.message);
  }
}

const asksForToken = document.body.dataset.signIn === "token";
const query = new URLSearchParams(location.search);
const { token, user: known, room: tokenRoom } = givenToken();
const room = asId(query.get("room")) ?? asId(tokenRoom) ?? "lobby";
const user = asId(query.get("user"));
if (token) enterWith(token, known, room);
else if (user && !asksForToken) enter(createClient({ url: "/ws", user }), { user }, room);
else welcome(room);
