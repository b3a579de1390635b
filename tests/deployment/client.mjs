// A client of `roomcast.v1` over a bare socket: Node 20 has no WebSocket of its own.

import { randomBytes } from "node:crypto";
import http from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

const REPLY_WITHIN_MS = 15_000;

/** A handshake that was answered with something else than 101. */
export class Refused extends Error {
  constructor({ statusCode, headers }) {
    super(`the handshake was answered with ${statusCode}`);
    this.status = statusCode;
    this.headers = headers;
  }
}

export class Client {
  #socket;
  #buffer = Buffer.alloc(0);
  #parts = [];
  #waiting = new Map();
  #watchers = new Set();
  #ref = 0;

  /** All events, in the order in which they came. */
  events = [];

  /** Connects as somebody, from an address of the loopback, and waits to be welcomed. */
  static async connect(port, user, { from, headers = {} } = {}) {
    const request = http.get({
      port, host: "127.0.0.1", localAddress: from, agent: false,
      path: `/ws?user=${encodeURIComponent(user)}`,
      headers: {
        Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": randomBytes(16).toString("base64"),
        "Sec-WebSocket-Protocol": "roomcast.v1", ...headers,
      },
    });
    const client = await new Promise((resolve, reject) => {
      request.once("upgrade", (_, socket, head) => resolve(new Client(user, socket, head)));
      request.once("response", (response) => {
        response.resume();
        reject(new Refused(response));
      });
      request.once("error", reject);
    });
    await client.until("welcome");
    return client;
  }

  constructor(user, socket, head) {
    this.user = user;
    this.#socket = socket;
    /** `{ code }` once the connection has ended, 1006 where nobody said why. */
    this.closed = new Promise((resolve) => {
      socket.once("close", () => {
        this.code ??= 1006;
        for (const { reject } of this.#waiting.values()) reject(new Error("the connection ended"));
        for (const watcher of [...this.#watchers]) watcher();
        resolve({ code: this.code });
      });
    });
    socket.on("error", () => {});
    socket.on("data", (bytes) => this.#read(bytes));
    if (head.length > 0) this.#read(head);
  }

  /** Sends a command and gives the reply's data; a refusal is thrown, with its `code`. */
  command(event, data) {
    const ref = ++this.#ref;
    const replied = new Promise((resolve, reject) => this.#waiting.set(ref, { resolve, reject }));
    this.#send(1, Buffer.from(JSON.stringify({ event, ref, data })));
    const late = sleep(REPLY_WITHIN_MS, null, { ref: false }).then(() => {
      throw new Error(`no reply to ${event}`);
    });
    return Promise.race([replied, late]);
  }

  /** The first event of that name of which `test` is true, also of those that came already. */
  until(name, test = () => true, withinMs = REPLY_WITHIN_MS) {
    const find = () => this.events.find(({ event, data }) => event === name && test(data));
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => done(reject, new Error(`no ${name}`)), withinMs);
      const look = () => {
        const found = find();
        if (found) done(resolve, found.data);
        else if (this.code !== undefined) done(reject, new Error(`it ended before ${name}`));
      };
      const done = (how, what) => {
        clearTimeout(timer);
        this.#watchers.delete(look);
        how(what);
      };
      this.#watchers.add(look);
      look();
    });
  }

  async close() {
    if (this.code === undefined) this.#send(8, Buffer.from([1000 >> 8, 1000 & 255]));
    return this.closed;
  }

  #send(opcode, payload) {
    const mask = randomBytes(4);
    const { length } = payload;
    const head = Buffer.alloc(length < 126 ? 2 : length < 65536 ? 4 : 10);
    head[0] = 0x80 | opcode;
    head[1] = 0x80 | (length < 126 ? length : length < 65536 ? 126 : 127);
    if (head.length === 4) head.writeUInt16BE(length, 2);
    if (head.length === 10) head.writeBigUInt64BE(BigInt(length), 2);
    const masked = payload.map((byte, index) => byte ^ mask[index & 3]);
    this.#socket.write(Buffer.concat([head, mask, masked]));
  }

  #read(bytes) {
    this.#buffer = Buffer.concat([this.#buffer, bytes]);
    for (;;) {
      const buffer = this.#buffer;
      if (buffer.length < 2) return;
      const short = buffer[1] & 127;
      const start = short < 126 ? 2 : short === 126 ? 4 : 10;
      if (buffer.length < start) return;
      let length = short;
      if (short === 126) length = buffer.readUInt16BE(2);
      if (short === 127) length = Number(buffer.readBigUInt64BE(2));
      if (buffer.length < start + length) return;
      this.#buffer = buffer.subarray(start + length);
      this.#take(buffer[0], buffer.subarray(start, start + length));
    }
  }

  #take(first, payload) {
    const opcode = first & 15;
    if (opcode === 9) return this.#send(10, payload);
    if (opcode === 10) return;
    if (opcode === 8) {
      this.code = payload.length >= 2 ? payload.readUInt16BE(0) : 1005;
      this.#send(8, payload.subarray(0, 2));
      this.#socket.end();
      return;
    }
    this.#parts.push(payload);
    if (!(first & 0x80)) return;
    const frame = JSON.parse(Buffer.concat(this.#parts).toString());
    this.#parts = [];
    if (frame.event === "reply") {
      const { resolve, reject } = this.#waiting.get(frame.ref);
      this.#waiting.delete(frame.ref);
      if (!frame.error) return resolve(frame.data);
      return reject(Object.assign(new Error(frame.error.message), frame.error));
    }
    this.events.push(frame);
    for (const watcher of [...this.#watchers]) watcher();
  }
}
