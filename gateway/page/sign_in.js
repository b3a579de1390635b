// Who is asking, where the server wants a token: taken from the address's fragment, which no server
// and no log sees, and kept for this tab alone.

import { load, save } from "./storage.js";

const KEY = "roomcast:token";
const TIMEOUT_MS = 15_000;
const UNREACHABLE = "The server cannot be reached. Try again in a moment.";

/** What this tab was given, `{token, user}`: in the address, which is cleared of it, or before; and
 *  the room that the address names beside it. */
export function givenToken() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const [token, room] = [fragment.get("token"), fragment.get("room")];
  if (!token) return { ...load("sessionStorage", KEY, {}), room };
  history.replaceState(null, "", location.pathname + location.search);
  return { token, room };
}

export function keepToken(token, user) { save("sessionStorage", KEY, { token, user }); }
export function forgetToken() { save("sessionStorage", KEY, {}); }

/** Connects, and says who it is to the server. Rejects with an error in a person's words. */
export function signIn(client) {
  let stop;
  let timer;
  const answered = new Promise((resolve, reject) => {
    const look = () => {
      const { state, userId, error } = client.snapshot();
      if (state === "connected" && userId) resolve(userId);
      else if (error) reject(new Error(problemOf(error)));
      else if (state === "reconnecting" || state === "offline") reject(new Error(UNREACHABLE));
    };
    stop = client.subscribe(look);
    timer = setTimeout(() => reject(new Error(UNREACHABLE)), TIMEOUT_MS);
    client.connect();
  });
  return answered.finally(() => {
    stop();
    clearTimeout(timer);
  });
}

function problemOf({ code, message }) {
  if (code === "disconnected") return UNREACHABLE;
  return `${message[0].toUpperCase()}${message.slice(1)}.`;
}
