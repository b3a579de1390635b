// Edits and deletions of one's own messages: on offer until they are answered, under one `changeId`
// however often, so that each is made once. They outlive a reconnect and a reload of the tab.

import { words } from "./protocol.js";
import { load, save } from "./storage.js";
import { now, sleepUntil } from "./time.js";

export class Changes {
  constructor(room) {
    this.room = room;
    this.waiting = load("sessionStorage", room.key("changes"), []);
  }
  /** The latest of a message that is not answered yet. */
  of({ id }) { return this.waiting.findLast((change) => change.id === id); }
  edit({ id }, content) { this.offer({ event: "message:edit", id, content }); }
  delete({ id }) { this.offer({ event: "message:delete", id }); }
  /** A later change of the same message makes an earlier one that waits superfluous. */
  offer(change) {
    const isLeft = (older) => older.id !== change.id || older.sending;
    this.waiting = this.waiting.filter(isLeft);
    this.waiting.push({ changeId: this.room.newId(), ...change });
    this.changed();
    this.pump();
  }
  retry(message) { // by hand
    this.of(message).refused = null;
    this.changed();
    this.pump();
  }
  discard(message) { this.drop(this.of(message)); }
  drop(change) {
    this.waiting = this.waiting.filter((other) => other !== change);
    this.changed();
  }
  changed() {
    const entry = ({ event, id, changeId, content, refused }) =>
      ({ event, id, changeId, content, refused });
    save("sessionStorage", this.room.key("changes"), this.waiting.map(entry));
    this.room.chat.changed();
  }
  /** One by one: of two changes of a message the later one has to come later. */
  async pump() {
    if (this.pumping) return;
    this.pumping = true;
    const isDue = ({ refused }) => !refused;
    const next = () => (this.room.phase === "joined" ? this.waiting.find(isDue) : null);
    for (let due = next(); due; due = next()) {
      due.sending = true;
      await this.make(due);
      due.sending = false;
    }
    this.pumping = false;
  }
  async make(change) {
    const { event, id, changeId, content } = change;
    try {
      const { position } = await this.room.ask(event, { id, userId: this.room.chat.user, changeId, content });
      const made = event === "message:edit" ? { content, editedAt: now() } : { content: "", deletedAt: now() };
      this.room.amend({ id, userId: this.room.chat.user }, position, made); // the event says the same, now or soon
      this.drop(change);
    } catch (refusal) {
      if (refusal.code === "disconnected") return; // unknown: the next join offers it again
      if (refusal.code === "not_joined") return this.room.join();
      if (!refusal.retryAt) change.refused = { code: refusal.code, reason: refusal.message };
      else Object.assign(change, { retryAt: refusal.retryAt, retryWhy: words(refusal.code) });
      this.changed();
      if (!refusal.retryAt) return;
      await sleepUntil(refusal.retryAt);
      change.retryAt = null;
    }
  }
}
