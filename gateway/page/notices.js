// What stands in the way, in a person's words, and what they can do about it: one thing at a time,
// the worst first.

import { forgetToken } from "./sign_in.js";
import { left } from "./time.js";

const LONG_MS = 2_000; // a shorter break is over before it is read

/** `{text, action?, act?, tone?}`, or null where all is well. */
export function noticeOf(chat, open, connection, render) {
  return connectionNotice(chat, connection) ?? slowNotice(chat) ?? roomNotice(chat, open)
    ?? answerNotice(open, render) ?? journalNotice(open);
}

function connectionNotice(chat, { state, error, pendingCount }) {
  if (state === "unauthorized") {
    const text = "The server does not take your token any more: it has run out, was taken back, "
      + "or does not hold.";
    return { text, action: "Sign in again", act: signInAgain };
  }
  if (state === "closed") return { text: ended(error), action: "Try again", act: reload };
  if (state === "connected" || state === "idle") chat.brokenAt = null;
  else chat.brokenAt ??= Date.now();
  const kept = pendingCount ? `${pendingCount} waiting here.` : "";
  if (state === "offline") {
    const text = "You are offline. What you write is kept, and goes out by itself once there is a "
      + `network again. ${kept}`;
    return { text, tone: "calm" };
  }
  if (!chat.brokenAt || Date.now() - chat.brokenAt < LONG_MS) return null;
  const text = "There is no connection to the server. What you write is kept, and goes out by "
    + `itself. ${kept}`;
  return { text, tone: "calm", action: "Try now", act: () => chat.client.connect() };
}

function ended(error) {
  const { closeCode, message } = error ?? {};
  const texts = {
    4403: "the application has disconnected you",
    4429: "you were too fast for too long; come back in some minutes",
  };
  const why = texts[closeCode] ?? message ?? "it did not say why";
  return `The server ended this connection: ${why}.`;
}

function signInAgain() {
  forgetToken();
  reload();
}
function reload() { location.reload(); }

/** More was written than the server takes. */
function slowNotice({ rooms }) {
  const waits = ({ error }) => error?.retryAt > Date.now();
  const next = [...rooms.values()].flatMap(({ messages }) => messages).find(waits);
  if (!next) return null;
  const { code, retryAt } = next.error;
  const text = {
    blocked: "That was more than this server takes. It listens again in "
      + `${left(retryAt)}; what you write until then is kept and goes out by itself.`,
    rate_limited: "You write faster than this server takes. What waits goes out by itself, "
      + `the next in ${left(retryAt)}.`,
  }[code];
  return text ? { text, tone: "calm" } : null;
}

function roomNotice(chat, open) {
  const { status, error } = open?.snapshot ?? {};
  if (!error) return null;
  const { id, room } = open;
  if (error.retryAt) {
    const text = `#${id}: ${error.message}; trying again in ${left(error.retryAt)}.`;
    return { text, tone: "calm" };
  }
  const texts = {
    kicked: `You were removed from #${id}. Nothing new of it comes here.`,
    forbidden: `#${id} is not open to you.`,
  };
  if (status !== "refused" && status !== "kicked") return null;
  const text = texts[error.code] ?? `Joining #${id} was refused: ${error.message}.`;
  return { text, action: "Try again", act: () => room.join() };
}

/** The server has no way to the others: it keeps what is said in this room until it has. */
function journalNotice(open) {
  if (!open?.snapshot.journaled) return null;
  const text = "The connection between our servers is interrupted. What you write is kept safely "
    + "here and reaches people elsewhere when it is back.";
  return { text, tone: "calm" };
}

function answerNotice(open, render) {
  if (!open?.answerError) return null;
  const forget = () => {
    open.answerError = null;
    render();
  };
  const text = `The scripted answer came to no end: ${open.answerError.message}.`;
  return { text, action: "All right", act: forget };
}
