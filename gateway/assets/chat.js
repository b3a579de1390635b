// The rooms of one user in this browser, and the one connection they share. What the server tells goes
// from here to the room that it is about.

import { Activity } from "./typing.js";
import { answer } from "./assistant.js";
import { Connection, SOCKET_URL } from "./connection.js";
import { Room } from "./room.js";
import { load, save } from "./storage.js";
import { now } from "./time.js";

export class Chat {
  constructor({ user, token }, firstRoom, changed) {
    Object.assign(this, { user, changed });
    this.blockedUntil = 0; // by the server, for having been too fast too often
    this.credits = null; // {balance, unsynced}, once the server has told
    const ids = new Set([...load("localStorage", `roomcast:${user}:rooms`, []), firstRoom]);
    this.rooms = new Map([...ids].map((id) => [id, new Room(id, this)]));
    this.active = this.rooms.get(firstRoom);
    this.saveRooms();
    this.activity = new Activity(this);
    const url = token ? SOCKET_URL : `${SOCKET_URL}?user=${encodeURIComponent(user)}`;
    this.connection = new Connection(url, token, {
      phase: ({ phase }) => {
        if (phase !== "live") this.rooms.forEach((room) => room.away());
        this.changed();
      },
      live: () => {
        this.rooms.forEach((room) => room.join());
        this.askCredits();
      },
      event: (name, data) => this.receive(name, data),
    });
  }
  saveRooms() { save("localStorage", `roomcast:${this.user}:rooms`, [...this.rooms.keys()]); }
  async askCredits() {
    try {
      this.credits = await this.connection.request("credits:get", {});
      this.changed();
    } catch { /* a server without credits: none are shown */ }
  }
  blocked({ retryAt }) {
    this.blockedUntil = retryAt;
    this.changed();
  }
  /** Lets this tab play an assistant that answers in the room. */
  async play(room, question) {
    room.answerRefusal = null;
    try {
      await answer(room, question);
    } catch (refusal) {
      room.answerRefusal = refusal;
    }
    this.changed();
  }
  /** Before its join's reply nothing of a room counts: what happens meanwhile is in that reply. */
  receive(name, data) {
    const room = this.rooms.get(data.roomId);
    if (name === "room:error") room?.troubled(data.error ?? data);
    else if (name === "user:credits") this.credits = data;
    else if (room?.phase === "joined") this.roomEvent(room, name, data);
    this.changed();
  }
  roomEvent(room, name, data) {
    const { company, reading } = room;
    const own = data.userId === this.user;
    switch (name) {
      case "message:new": return room.logged(data);
      case "message:update": return room.logged(data, changesOf(data));
      case "message:delete": return room.logged(data, { content: "", deletedAt: data.deletedAt ?? now() });
      case "message:stream": return room.streamed(data);
      case "message:pending": room.upsert({ ...data, position: null }).accepted = true; return;
      case "message:persisted": return room.absorbPersisted(data.upTo);
      case "message:rejected": return room.rejected(data);
      case "presence:list": return company.listPeople(data);
      case "presence:update": return company.person(data);
      case "typing:start": return company.types(data);
      case "typing:stop": return company.typesNoMore(data);
      case "receipt:list": return company.listReceipts(data);
      case "receipt:update":
        company.receipt(data);
        if (own) reading.receipt(data);
    }
  }
  activate(id) {
    this.active?.reading.eraseLine();
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

/** What an edit says, as fields of a message; one that is silent on something leaves it. */
function changesOf({ content, metadata, editedAt = now() }) {
  const changes = Object.entries({ content, metadata, editedAt });
  return Object.fromEntries(changes.filter(([, value]) => value !== undefined));
}
