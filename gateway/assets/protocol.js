// The protocol's values: positions, ids, refusals. Nothing here knows of a connection or a page.

const RETRIED = ["rate_limited", "blocked", "backpressure", "unavailable"];

/** Orders two positions; a missing one is below every other. */
export function compare(a, b) {
  if (!a || !b) return Number(Boolean(a)) - Number(Boolean(b));
  return a.epoch - b.epoch || a.seq - b.seq;
}
/** The later of two positions. */
export const later = (a, b) => (compare(a, b) >= 0 ? a : b);
/** A watermark speaks for its own epoch only: an older epoch's message may be on offer anew. */
export const covers = (upTo, position) =>
  upTo?.epoch === position?.epoch && position?.seq <= upTo?.seq;
/** Where a message last changed: what the cursor counts. */
export const placeOf = (message) => message.changedPosition ?? message.position;
/** An id alone is nobody's identity: two people may have chosen the same one. */
export const keyOf = ({ userId, id }) => `${userId} ${id}`;
export const show = (position) => (position ? `${position.epoch}:${position.seq}` : "–");
export const words = (code) => code.replaceAll("_", " ");

/** Time-ordered (RFC 9562); chosen by the sender, so that a message offered twice is still one.
 *  `nowMs` is the server's time: this computer's clock may be wrong. */
export function uuidv7(nowMs) {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  for (let i = 5, ms = nowMs; i >= 0; i--, ms = Math.floor(ms / 256)) bytes[i] = ms % 256;
  bytes[6] = (bytes[6] & 0x0f) | 0x70;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
/** What the protocol allows as the id of a room or a user; null where it does not. */
export function asId(text) {
  const id = (text ?? "").trim().replace(/^#/, "").replace(/\s+/g, "-");
  return /^[^\s{}\p{Cc}]+$/u.test(id) && new TextEncoder().encode(id).length <= 128 ? id : null;
}

/** A command that was not done. `disconnected` means unknown, not failed: ask again, same id. */
export class Refusal extends Error {
  constructor({ code = "internal", message, retryAfterMs, field, limit, serverTime }) {
    super(message || words(code));
    Object.assign(this, { code, field, limit, serverTime });
    const delayMs = (retryAfterMs ?? (RETRIED.includes(code) ? 2000 : NaN)) + Math.random() * 250;
    this.retryAt = Date.now() + delayMs || null; // null if a person has to decide
  }
}
