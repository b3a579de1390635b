// A room that is open on this page: the client's room, and what only a page knows of it.

import { Company } from "./company.js";
import { News } from "./news.js";
import { compare, placeOf } from "./positions.js";

const OLDER_AGAIN_MS = 1_000;

export class OpenRoom {
  constructor(room, me, changed) {
    Object.assign(this, { room, me, changed, id: room.id });
    this.company = new Company(me);
    this.news = new News(this);
    this.scrolledUp = false; // somebody reads back: what comes does not move the page
    this.isOpened = false; // whether it was shown from where its news begin
    this.answerError = null; // why a scripted answer came to no end
    this.take();
    this.unsubscribe = room.subscribe(() => {
      this.take();
      changed();
    });
  }
  /** Keeps what the room is now; whatever comes anew is shown from where it begins. */
  take() {
    const was = this.snapshot?.status;
    this.snapshot = this.room.snapshot();
    this.company.take(this.snapshot);
    if (was === "live" || this.snapshot.status !== "live") return;
    this.news.draw();
    this.reopen();
  }
  get messages() { return this.snapshot.messages; }
  get isLive() { return this.snapshot.status === "live"; }
  /** Somebody looks at the room again: more news than fit are shown from where they begin. */
  reopen() { if (this.unread()) this.isOpened = false; }
  unread() { return this.snapshot.unread; }
  isOwn({ userId }) { return userId === this.me; }
  /** Said by this person, and not by an assistant under their name. */
  isMine(message) { return this.isOwn(message) && message.type !== "assistant"; }
  /** Whether its author may still change it. */
  isOpen({ position, deletedAt, state }) { return position && !deletedAt && state !== "failed"; }
  /** The place of the last message that has one. */
  lastPosition() { return this.messages.findLast(({ position }) => position)?.position; }
  /** Where the room stands here, and how far the database has it. */
  positions() {
    const last = (holds) => this.messages.reduce((most, message) => {
      const place = placeOf(message);
      return holds(message) && compare(place, most) > 0 ? place : most;
    }, null);
    return { at: last(() => true), persisted: last(({ state }) => state === "persisted") };
  }
  async loadOlder() {
    if (!this.snapshot.hasOlder || this.isLoading || !this.isLive) return;
    this.isLoading = true;
    try {
      await this.room.loadOlder();
    } catch { // scrolling asks again, not sooner
      await new Promise((resolve) => setTimeout(resolve, OLDER_AGAIN_MS));
    }
    this.isLoading = false;
    this.changed();
  }
  leave() {
    this.unsubscribe();
    this.room.leave();
  }
}
