// Elements of the page. Text is only ever written as text: nothing here parses HTML.

export const $ = (id) => document.getElementById(id);
/** Writes only what changed; where text only grew, only its end. */
export function setText(element, text) {
  const { textContent, firstChild } = element;
  if (textContent === text) return;
  const grew = textContent && text.startsWith(textContent) && element.childNodes.length === 1;
  if (grew) firstChild.appendData(text.slice(textContent.length));
  else element.textContent = text;
}
/** Shows a text as it is, where `setFormatted` may have been before. */
export function setPlain(element, text) {
  if (element.formatted?.plain === text) return;
  element.textContent = text;
  element.formatted = { plain: text };
}
/** The first letter on one of ten colours, always the same one for the same user. */
export function setAvatar(element, user) {
  let hash = 1;
  for (const char of user) hash = (hash * 131 + char.codePointAt(0)) % 1_000_003;
  element.dataset.tone = hash % 10;
  setText(element, [...user][0].toUpperCase());
}
/** A copy of a template's element, and its parts by class. */
export function copyOf(template) {
  const element = $(template).content.firstElementChild.cloneNode(true);
  return { element, part: (name) => element.querySelector(`.${name}`) };
}
/** Makes `rows` the children of `parent`, touching only what differs. */
export function reconcile(parent, rows) {
  let next = parent.firstElementChild;
  for (const row of rows) {
    if (row !== next) parent.insertBefore(row, next);
    next = row.nextElementSibling;
  }
  while (parent.childElementCount > rows.length) parent.lastElementChild.remove();
}
/** `bob`, `bob and carol`, `bob, carol and 3 more`. */
export function namesOf(users, most = 3) {
  const shown = users.length > most ? users.slice(0, most - 1) : users;
  const rest = users.length - shown.length;
  const all = rest ? [...shown, `${rest} more`] : shown;
  return all.length > 1 ? `${all.slice(0, -1).join(", ")} and ${all.at(-1)}` : (all[0] ?? "");
}
/** What the server allows as the id of a room or a user; null where it does not. */
export function asId(text) {
  const id = (text ?? "").trim().replace(/^#/, "").replace(/\s+/g, "-");
  return /^[^\s{}\p{Cc}]+$/u.test(id) && new TextEncoder().encode(id).length <= 128 ? id : null;
}
