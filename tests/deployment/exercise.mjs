// What people, assistants and the application's backend do in a cluster, over and over, so that
// every metric of gateways and workers has something to count.

import { setTimeout as sleep } from "node:timers/promises";

import { Client } from "./client.mjs";
import { expect } from "./scope.mjs";

const ROOMS = ["lobby", "kitchen"];

/** Keeps a fleet busy until it is stopped; a step that fails ends it, and `stop` says so. */
export class Exercise {
  #stopped = false;
  #round = 0;
  #rounds;

  constructor(gateways) {
    this.gateways = gateways;
    this.#rounds = this.#run();
    // It is looked at in `stop`.
    this.#rounds.catch(() => {});
  }

  async stop() {
    this.#stopped = true;
    await this.#rounds;
    expect(this.#round > 0, "not one round was done");
  }

  async #run() {
    while (!this.#stopped) {
      const users = this.gateways.map((_, number) => `user-${number}`);
      const clients = await Promise.all(this.gateways.map(({ port }, number) =>
        Client.connect(port, users[number])));
      for (const client of clients) await this.#enter(client);
      for (const client of clients) await this.#live(client);
      await this.#write(clients[0]);
      for (const gateway of this.gateways) {
        await this.#backend(gateway, users);
        await this.#mistakes(gateway);
      }
      await this.#comeBack(clients);
      this.#round += 1;
      await sleep(200);
    }
  }

  async #enter(client) {
    for (const roomId of ROOMS) await client.command("room:join", { roomId, limit: 10 });
  }

  /** Messages, one of them twice, a change, receipts, presence, typing, history. */
  async #live(client) {
    const [roomId] = ROOMS;
    const say = (content, id) => client.command("message:send", { roomId, content, id });
    const { id, position } = await say(`hello ${this.#round} of ${client.user}`);
    expect((await say(`hello ${this.#round} of ${client.user}`, id)).duplicate, "it stood already");
    await client.command("message:edit", { roomId, id, content: "good bye" });
    await client.command("message:delete", { roomId, id });
    await client.command("receipt:update", { roomId, position });
    for (const status of ["idle", "active"]) {
      await client.command("presence:update", { roomId, status });
    }
    await client.command("typing:start", { roomId });
    await client.command("typing:stop", { roomId });
    await client.command("history:get", { roomId, limit: 10 });
    await client.command("heartbeat", {});
    await client.command("credits:get", {});
    await client.until("message:delete", (data) => data.id === id);
  }

  /** An answer that is ended, with what it cost, and one whose producer falls silent. */
  async #write(client) {
    const [, roomId] = ROOMS;
    const begin = async () => {
      const { id } = await client.command("message:stream:start", { roomId, type: "assistant" });
      await client.command("message:stream:append", { roomId, id, delta: "It is ", offset: 0 });
      return id;
    };
    const id = await begin();
    const credits = { amount: 3, userId: client.user };
    await client.command("message:stream:end", { roomId, id, content: "It is noon.", credits });
    await begin();
  }

  async #backend({ port }, users) {
    const ask = async (method, path, body, status) => {
      const headers = { "Content-Type": "application/json" };
      const address = `http://127.0.0.1:${port}/api/${path}`;
      const answer = await fetch(address, { method, headers, body: body && JSON.stringify(body) });
      const text = await answer.text();
      expect(answer.status === status, `${method} ${path}: ${answer.status} ${text}`);
    };
    const [userId] = users;
    await ask("POST", `rooms/${ROOMS[0]}/messages`, { userId, content: "from the backend" }, 201);
    await ask("POST", "credits/track", { userId, amount: 1000, kind: "purchase" }, 201);
    await ask("GET", `credits/${userId}`, undefined, 200);
    await ask("GET", "nothing", undefined, 404);
  }

  /** A command that is refused, and a handshake. */
  async #mistakes({ port }) {
    const client = await Client.connect(port, "mallory");
    const said = client.command("message:send", { roomId: "elsewhere", content: "too early" });
    const refusal = await said.then(() => undefined, (error) => error);
    expect(refusal?.code === "not_joined", `not_joined was wanted: ${refusal}`);
    await client.close();
    if (this.#round % 20 === 0) {
      const answer = await fetch(`http://127.0.0.1:${port}/ws`);
      expect(answer.status === 426 || answer.status === 400, `a plain request: ${answer.status}`);
    }
  }

  /** All leave, and one comes back with a cursor. */
  async #comeBack(clients) {
    const [first] = clients;
    const last = first.events.filter(({ event }) => event === "message:new").at(-1).data;
    const { roomId, position } = last;
    for (const client of clients) await client.close();
    const again = await Client.connect(this.gateways[0].port, first.user);
    await again.command("room:join", { roomId, since: { ...position, messageId: last.id } });
    await again.close();
  }
}
