// What of a room has no place in its order: who is here, who types, who has read how far.
// All of it is told anew with every join, and forgotten where nobody tells it.

const GONE_MAX = 5; // those who left while one looked on, shown below those who are here

export class Company {
  constructor(me, changed) {
    Object.assign(this, { me, changed });
    this.people = new Map(); // user → {userId, status, lastActiveAt}
    this.gone = new Map(); // the same, of those who left
    this.count = 0; // in a large room people are counted and not listed
    this.receipts = new Map(); // user → {position, readAt}
    this.typing = new Map(); // user → when the mark ends
  }
  absorbJoin({ presence = {}, presenceCount = 0, receipts = {}, typing = {} }) {
    this.listPeople({ presence, presenceCount });
    this.listReceipts({ receipts });
    this.typing.clear();
    for (const mark of Object.values(typing)) this.types(mark);
  }
  /** Nobody is heard any more; who was here is left to be shown as of then. */
  lost() { this.typing.clear(); }

  listPeople({ presence, presenceCount }) {
    this.people = new Map(Object.entries(presence));
    this.count = Math.max(presenceCount, this.people.size);
    for (const user of this.people.keys()) this.gone.delete(user);
  }
  person({ presenceCount, ...person }) {
    const { userId, status } = person;
    this.count = presenceCount;
    if (!userId) return; // only the count is told
    const known = this.people.get(userId);
    this.gone.delete(userId);
    if (status !== "offline") this.people.set(userId, { ...known, ...person });
    else {
      this.people.delete(userId);
      this.typing.delete(userId);
      const lastActiveAt = person.lastActiveAt ?? known?.lastActiveAt;
      this.gone.set(userId, { ...person, lastActiveAt });
      if (this.gone.size > GONE_MAX) this.gone.delete(this.gone.keys().next().value);
    }
  }
  /** Those who are here, oneself first, then whoever does something, then by name. */
  here() {
    const rank = ({ userId, status }) => (userId === this.me ? 0 : status === "active" ? 1 : 2);
    const order = (a, b) => rank(a) - rank(b) || (a.userId < b.userId ? -1 : 1);
    return [...this.people.values()].sort(order);
  }

  types({ userId, expiresInMs = 5000 }) {
    this.typing.set(userId, Date.now() + expiresInMs);
    this.expireTyping();
  }
  typesNoMore({ userId }) { this.typing.delete(userId); }
  typers() { return [...this.typing.keys()].filter((user) => user !== this.me); }
  /** The server says when a mark ends; one whose end was lost on the way ends by itself. */
  expireTyping() {
    clearTimeout(this.timer);
    for (const [user, end] of this.typing) if (end <= Date.now()) this.typing.delete(user);
    if (!this.typing.size) return;
    const wait = Math.min(...this.typing.values()) - Date.now();
    this.timer = setTimeout(() => {
      this.expireTyping();
      this.changed();
    }, wait + 1);
  }

  listReceipts({ receipts }) { this.receipts = new Map(Object.entries(receipts)); }
  receipt({ userId, position, readAt }) { this.receipts.set(userId, { position, readAt }); }
}
