// Who is here, and who types.

import { $, copyOf, namesOf, reconcile, setAvatar, setText } from "./elements.js";
import { ago } from "./time.js";

const FACES_MAX = 3; // beside the room's name; the panel shows all

export class PeopleList {
  constructor() { this.rows = new Map(); } // user → its copy of the template
  render(room) {
    const company = room?.company;
    const here = company?.here() ?? [];
    const gone = [...(company?.gone.values() ?? [])].reverse();
    const count = company?.count ?? 0;
    const isStale = !room?.isLive; // as of when one was cut off
    for (const id of ["people", "people-open"]) $(id).toggleAttribute("data-stale", isStale);
    setText($("people-count"), count ? String(count) : "");
    $("people-open").hidden = !count;
    const names = namesOf(here.map(({ userId }) => userId), 6) || "too many to list";
    const label = `${count} here: ${names}`;
    setText($("people-label"), label);
    $("people-open").title = label;
    setText($("people-title"), count ? `Here now · ${count}` : "Here now");
    const unlisted = count - here.length;
    setText($("people-rest"), unlisted > 0 ? `${here.length ? "and " : ""}${unlisted} people` : "");
    this.renderFaces(here.slice(0, FACES_MAX));
    const rows = [...here, ...gone].map((person) => this.row(person, room));
    reconcile($("people-list"), rows);
  }
  renderFaces(people) {
    const faces = people.map((person) => this.face(person));
    reconcile($("people-faces"), faces);
  }
  face({ userId, status }) {
    const known = (this.faces ??= new Map());
    if (!known.has(userId)) {
      const face = document.createElement("span");
      face.className = "avatar face";
      setAvatar(face, userId);
      known.set(userId, face);
    }
    known.get(userId).dataset.status = status;
    return known.get(userId);
  }
  row({ userId, status, lastActiveAt }, room) {
    if (!this.rows.has(userId)) {
      const row = copyOf("person-row");
      setAvatar(row.part("avatar"), userId);
      this.rows.set(userId, row);
    }
    const { element, part } = this.rows.get(userId);
    const was = lastActiveAt ? ago(lastActiveAt) : "";
    const states = {
      active: "active", idle: `idle · active ${was}`, offline: `gone · active ${was}`,
    };
    element.dataset.user = userId;
    element.dataset.status = status;
    setText(part("person-name"), userId === room.me ? `${userId} (you)` : userId);
    setText(part("person-state"), states[status] ?? status);
    return element;
  }
}

/** The line above the composer: it keeps its place whether somebody types or not. */
export function renderTyping(room) {
  const typers = room?.snapshot.typing ?? [];
  $("typing").toggleAttribute("data-typing", typers.length > 0);
  const verb = typers.length === 1 ? "is" : "are";
  const names = typers.length > 3 ? `${typers.length} people` : namesOf(typers);
  setText($("typing-text"), typers.length ? `${names} ${verb} typing…` : "");
}
