// The rooms of one user in this browser, and the one client they share.

import { OpenRoom } from "./open_room.js";
import { load, save } from "./storage.js";

const UNANSWERED_MS = 4_000; // after so long without a word, whoever said something is told

export class Chat {
  constructor(client, user, firstRoom, changed) {
    Object.assign(this, { client, user, changed, connects: 0, credits: null, told: null });
    this.heardAt = Date.now(); // when anything changed last
    const ids = new Set([...load("localStorage", this.key(), []), firstRoom]);
    this.rooms = new Map([...ids].map((id) => [id, this.open(id)]));
    this.active = this.rooms.get(firstRoom);
    this.saveRooms();
    this.activity = null; // what is told of the person, once the page has loaded the rest
    client.subscribe(() => this.connection());
    this.connection();
    client.connect();
  }
  key() { return `roomcast:${this.user}:rooms`; }
  saveRooms() { save("localStorage", this.key(), [...this.rooms.keys()]); }
  open(id) { return new OpenRoom(this.client.room(id), this.user, () => this.heard()); }
  heard() {
    this.heardAt = Date.now();
    this.changed();
  }
  connection() {
    const { state, credits } = this.client.snapshot();
    if (state === "connected" && this.state !== state) {
      this.connects++;
      this.askCredits();
    }
    if (credits !== this.told) this.credits = this.told = credits;
    this.state = state;
    this.heard();
  }
  /** The balance comes by itself where it changes, and not before. */
  async askCredits() {
    try {
      this.credits = await this.client.request("credits:get");
      this.changed();
    } catch { /* a server without credits: none are shown */ }
  }
  /** Something was said, and the server says nothing at all, though nothing has told it gone. */
  isSilent() {
    return this.state === "connected" && Date.now() - this.heardAt > UNANSWERED_MS
      && this.isWaiting();
  }
  isWaiting() {
    const waits = ({ state, error, change }) =>
      (state === "sending" && !error) || (change && !change.error && !change.journaled);
    return [...this.rooms.values()].some(({ isLive, messages }) => isLive && messages.some(waits));
  }
  /** Lets this tab play an assistant that answers in the room. */
  async play(open, question) {
    open.answerError = null;
    try {
      const { answer } = await import("./assistant.js");
      await answer(open.room, question);
    } catch (error) {
      open.answerError = error;
    }
    this.changed();
  }
  activate(id) {
    this.active?.news.erase();
    this.active = this.rooms.get(id);
    this.changed();
  }
  add(id) {
    if (!this.rooms.has(id)) {
      this.rooms.set(id, this.open(id));
      this.activity?.tell(this.rooms.get(id));
      this.saveRooms();
    }
    this.activate(id);
  }
  leave(open) {
    open.leave();
    this.rooms.delete(open.id);
    this.saveRooms();
    this.activate(this.active === open ? [...this.rooms.keys()][0] : this.active?.id);
  }
}
