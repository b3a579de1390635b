// Who is asking, where the server wants a token: taken from the address's fragment, which no server
// and no log sees, and kept for this tab alone.

import { SOCKET_URL } from "./connection.js";
import { load, save } from "./storage.js";

const KEY = "roomcast:token";
const TIMEOUT_MS = 15_000;

/** The token in the address, which is cleared of it, or the one this tab was given before; and the
 *  room that the address names beside it. */
export function tokenOf() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const [token, room] = [fragment.get("token"), fragment.get("room")];
  if (!token) return { token: load("sessionStorage", KEY, null), room };
  history.replaceState(null, "", location.pathname + location.search);
  return { token, room };
}

export function forgetToken() { save("sessionStorage", KEY, null); }

/** Asks the server whose token this is. Rejects with an error in a person's words. */
export function signIn(token) {
  const socket = new WebSocket(SOCKET_URL, "roomcast.v1");
  return new Promise((resolve, reject) => {
    let problem = "The server cannot be reached. Try again in a moment.";
    const timer = setTimeout(() => socket.close(), TIMEOUT_MS);
    socket.onopen = () => socket.send(JSON.stringify({ event: "auth", ref: 1, data: { token } }));
    socket.onmessage = ({ data }) => {
      const { event, data: { userId } = {}, error } = JSON.parse(data);
      if (error) problem = `${error.message[0].toUpperCase()}${error.message.slice(1)}.`;
      if (event !== "welcome") return;
      save("sessionStorage", KEY, token);
      resolve(userId);
      socket.close();
    };
    socket.onclose = ({ code }) => {
      clearTimeout(timer);
      if (code === 4401) forgetToken();
      reject(new Error(problem)); // without effect once it was resolved
    };
  });
}
