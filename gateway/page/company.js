// Who is here, in the order of the list, and who has just left while one looked on.

const GONE_MAX = 5;

export class Company {
  constructor(me) {
    this.me = me;
    this.people = {}; // by user id, as told last: shown on, and marked as old, when one is cut off
    this.count = 0;
    this.gone = new Map(); // user → how they were last
  }
  /** Takes in what the room's snapshot says. */
  take({ status, presence, presenceCount }) {
    if (status !== "live" || presence === this.people) return;
    // In a large room nobody is listed; that all are gone from the list says nothing.
    const isListed = Object.keys(presence).length > 0;
    for (const [user, person] of Object.entries(this.people)) {
      if (isListed && !presence[user]) this.gone.set(user, { ...person, status: "offline" });
    }
    for (const user of Object.keys(presence)) this.gone.delete(user);
    while (this.gone.size > GONE_MAX) this.gone.delete(this.gone.keys().next().value);
    this.people = presence;
    this.count = presenceCount;
  }
  /** Those who are here, oneself first, then whoever does something, then by name. */
  here() {
    const rank = ({ userId, status }) => (userId === this.me ? 0 : status === "active" ? 1 : 2);
    const order = (a, b) => rank(a) - rank(b) || (a.userId < b.userId ? -1 : 1);
    return Object.values(this.people).sort(order);
  }
}
