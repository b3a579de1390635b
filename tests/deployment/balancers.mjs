// HAProxy and nginx, with the configurations of `deploy/`, in front of a fleet of two gateways, and
// clients through them: they are spread, chat across the nodes, and come back when a node is
// drained or killed. Only addresses, ports and the time limits of idle sockets are replaced.
//
//   node tests/deployment/balancers.mjs [haproxy] [nginx]
//
// Needs the programs of the workspace, built, and the servers' of `tests/run`. Ends with 0, or 77
// where something is missing, which it says.

import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import http from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

import { Client, Refused } from "./client.mjs";
import { eventually, expect, freePort, main, program, source } from "./scope.mjs";

const GATEWAYS = ["gateway-1", "gateway-2"];
const CLIENTS = 8;
const ROOM = "balanced";
const PER_ADDRESS = 4;
/** In the tests sockets may be idle for two seconds, and are pinged every half. */
const IDLE = "2s";
const PING_MS = 500;
/** As PROTOCOL.md has it: after so long without a sign of life a client is gone. */
const SILENT_S = 60;

const GATEWAY_ENV = {
  ROOMCAST_TRUSTED_PROXIES: "127.0.0.1",
  ROOMCAST_CONNECTIONS_PER_ADDRESS: `${PER_ADDRESS}`,
  ROOMCAST_HEARTBEAT_INTERVAL_MS: `${PING_MS}`,
  ROOMCAST_DRAIN_NOTICE_MS: "3000",
  WEBSOCKET_RATE_LIMIT_MESSAGE_SEND: "1000",
  WEBSOCKET_RATE_LIMIT_ROOM_JOIN: "1000",
};

/** Replaces what has to be there; how often is compared too. */
function replace(text, pattern, by, times) {
  const found = text.match(new RegExp(pattern, "gm")) ?? [];
  expect(found.length === times, `${pattern} is there ${found.length} times, not ${times}`);
  return text.replace(new RegExp(pattern, "gm"), by);
}

function seconds(text, pattern) {
  const [, number] = text.match(new RegExp(pattern)) ?? [];
  expect(number, `there is no ${pattern}`);
  return Number(number);
}

/** A balancer: its configuration for these nodes and that port, how to check and to start it. */
const BALANCERS = {
  haproxy: {
    file: "deploy/haproxy.cfg",
    idle: "timeout tunnel (\\d+)s",
    configure(text, nodes, port) {
      for (const { name, port: at, operator } of nodes) {
        text = replace(text, `${name}:3001$`, `127.0.0.1:${at} check port ${operator}`, 1);
      }
      text = replace(text, "bind :3001", `bind 127.0.0.1:${port}`, 1);
      text = replace(text, "timeout tunnel \\d+s", `timeout tunnel ${IDLE}`, 1);
      // Twice as many files as connections, which not every machine allows.
      const files = Number(execFileSync("sh", ["-c", "ulimit -Hn 200000 2>/dev/null; ulimit -Hn"]));
      if (files < 110_000) {
        console.log(`  (this machine allows ${files} files: maxconn is lowered)`);
        text = replace(text, "maxconn 50000", `maxconn ${Math.floor(files / 3)}`, 1);
      }
      return text;
    },
    check: (config) => ["-c", "-q", "-f", config],
    start: (config) => ["-db", "-f", config],
  },
  nginx: {
    file: "deploy/nginx.conf",
    idle: "proxy_read_timeout (\\d+)s",
    configure(text, nodes, port, folder) {
      for (const { name, port: at } of nodes) {
        text = replace(text, `server ${name}:3001`, `server 127.0.0.1:${at}`, 2);
      }
      text = replace(text, "listen 3001", `listen 127.0.0.1:${port}`, 1);
      text = replace(text, "proxy_read_timeout \\d+s", `proxy_read_timeout ${IDLE}`, 1);
      const ours = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
      const paths = ours.map((name) => `    ${name}_temp_path ${folder}/${name};\n`).join("");
      text = replace(text, "^http \\{\\n", `http {\n${paths}`, 1);
      return `daemon off;\npid ${folder}/nginx.pid;\n${text}`;
    },
    check: (config, folder) => ["-t", "-q", "-p", folder, "-c", config],
    start: (config, folder) => ["-p", folder, "-c", config],
  },
};

/** How many connections each gateway has. */
async function connections(fleet) {
  const nodes = (await fleet.nodes()).filter(({ port }) => port);
  return Promise.all(nodes.map(async ({ operator, state }) => {
    if (state === "ended") return 0;
    const stats = await fetch(`http://127.0.0.1:${operator}/stats`);
    return (await stats.json()).connections.activeConnections;
  }));
}

/** Somebody in the room who comes back whenever the connection ends, and notes what they see. */
class Person {
  seen = [];
  refusals = 0;
  returns = 0;
  leaves = false;

  constructor(port, number) {
    this.port = port;
    this.user = `user-${number}`;
    this.from = `127.0.1.${number + 1}`;
  }

  async enter() {
    this.client = await Client.connect(this.port, this.user, { from: this.from });
    const last = this.seen.at(-1);
    const since = last && { ...last.position, messageId: last.id };
    const joined = await this.client.command("room:join", { roomId: ROOM, since });
    expect(!since || joined.recovered, `${this.user} was told to begin anew`);
    this.seen.push(...joined.messages);
    this.taken = 0;
    this.client.closed.then(({ code }) => this.#comeBack(code));
  }

  async #comeBack(code) {
    this.look();
    if (this.leaves) return;
    this.code = code;
    const told = this.client.events.find(({ event }) => event === "reconnect");
    await sleep(told?.data.afterMs ?? 100);
    for (;;) {
      try {
        await this.enter();
        this.returns += 1;
        return;
      } catch {
        this.refusals += 1;
        await sleep(200);
      }
    }
  }

  /** Takes over the events that came since it last looked. */
  look() {
    const { events } = this.client;
    const news = events.slice(this.taken).filter(({ event }) => event === "message:new");
    this.taken = events.length;
    this.seen.push(...news.map(({ data }) => data));
    return this.seen;
  }

  say(content) {
    return this.client.command("message:send", { roomId: ROOM, content });
  }

  async leave() {
    this.leaves = true;
    await this.client.close();
  }
}

/** Everybody says something, and everybody sees all of it once, in one order. */
async function chat(people, word) {
  const before = people[0].look().length;
  await Promise.all(people.map((person) => person.say(`${word} of ${person.user}`)));
  const whole = before + people.length;
  await eventually(`all see all, after ${word}`, () =>
    people.every((person) => person.look().length >= whole));
  const ids = people.map((person) => person.seen.map(({ id }) => id).join());
  expect(new Set(ids).size === 1, `not everybody sees the same, after ${word}`);
  expect(people[0].seen.length === whole, `something was seen twice, after ${word}`);
}

/** Asks for the page and the API through the balancer. */
async function requests(port, people) {
  const page = await fetch(`http://127.0.0.1:${port}/`);
  expect(page.status === 200, `the page is answered with ${page.status}`);
  const before = people[0].look().length;
  const body = JSON.stringify({ userId: "api", content: "from the backend" });
  const headers = { "Content-Type": "application/json" };
  const address = `http://127.0.0.1:${port}/api/rooms/${ROOM}/messages`;
  const sent = await fetch(address, { method: "POST", body, headers });
  expect(sent.status === 201, `the API answers ${sent.status}`);
  await eventually("what the API said is seen", () =>
    people.every((person) => person.look().length === before + 1));
}

/** Clients are counted by their own address, whatever they say of themselves. */
async function addresses(port) {
  const greedy = [];
  const connect = (headers) => Client.connect(port, "greedy", { from: "127.0.0.9", headers });
  const forged = { "X-Forwarded-For": "198.51.100.7" };
  let refusal;
  while (!refusal) {
    expect(greedy.length <= GATEWAYS.length * PER_ADDRESS, "one address has too many connections");
    const headers = greedy.length % 2 ? forged : {};
    await connect(headers).then((client) => greedy.push(client), (error) => (refusal = error));
  }
  expect(refusal instanceof Refused && refusal.status === 429, `429 was wanted: ${refusal}`);
  expect(refusal.headers["retry-after"], "a refusal says when to come back");
  const other = await Client.connect(port, "modest", { from: "127.0.0.10" });
  await Promise.all([...greedy, other].map((client) => client.close()));
}

/** Connects over and over until told to stop; the refusals and errors that it got. */
function newcomers(port) {
  const trouble = [];
  let stopped = false;
  let count = 0;
  const loop = (async () => {
    while (!stopped) {
      count += 1;
      await Client.connect(port, "newcomer", { from: `127.0.2.${1 + (count % 200)}` })
        .then((client) => client.close(), (error) => trouble.push(error.message));
      await sleep(20);
    }
  })();
  return async () => {
    stopped = true;
    await loop;
    expect(count > 10, `only ${count} newcomers came`);
    return { trouble, count };
  };
}

async function drained(fleet, port, people) {
  const node = await fleet.node("gateway-1");
  const stop = newcomers(port);
  process.kill(node.pid, "SIGTERM");
  await eventually("the node has gone", async () =>
    (await fleet.node("gateway-1")).state === "ended");
  const moved = people.filter(({ code }) => code !== undefined);
  await eventually("its clients are back", () => moved.every(({ returns }) => returns === 1));
  const { trouble, count } = await stop();
  expect(trouble.length === 0, `${trouble.length} of ${count} newcomers: ${trouble[0]}`);
  expect(moved.length >= CLIENTS / 4, `only ${moved.length} clients were moved`);
  expect(moved.every(({ code }) => code === 1012), "they were told that the node restarts");
  const refused = moved.reduce((sum, { refusals }) => sum + refusals, 0);
  expect(refused === 0, `clients of the drained node were refused ${refused} times`);
  console.log(`  drained: ${moved.length} clients moved, ${count} newcomers, nobody was refused`);
  for (const person of moved) person.code = undefined;
}

async function killed(fleet, port, people) {
  await fleet.tell("start", "gateway", "1");
  await eventually("it is ready", async () => (await fleet.node("gateway-1")).state === "ready");
  // Newcomers go where the fewest are, once the balancer has seen that it is back.
  await eventually("the balancer uses it again", async () => {
    const guest = await Client.connect(port, "guest", { from: "127.0.3.1" });
    const [first] = await connections(fleet);
    await guest.close();
    return first > 0;
  });
  const began = Date.now();
  const returned = people.map(({ returns }) => returns);
  await fleet.tell("kill", "gateway", "2");
  await eventually("all come back", () =>
    people.every(({ returns, client }, n) => returns > returned[n] && client.code === undefined));
  console.log(`  killed: all ${people.length} clients were back within ${Date.now() - began} ms`);
  await fleet.tell("start", "gateway", "2");
  await eventually("it is ready", async () => (await fleet.node("gateway-2")).state === "ready");
}

/** No node is left: whoever comes is told when to try again. */
async function noneLeft(fleet, port) {
  for (const name of GATEWAYS) await fleet.tell("kill", name);
  const refusal = await Client.connect(port, "late").then(() => undefined, (error) => error);
  expect(refusal instanceof Refused && refusal.status === 503, `503 was wanted: ${refusal}`);
  for (const name of GATEWAYS) await fleet.tell("start", name);
  await eventually("all are ready again", async () =>
    (await fleet.nodes()).every(({ state }) => state === "ready"));
  const back = await eventually("the balancer lets in again", () =>
    Client.connect(port, "late"));
  await back.close();
}

async function balancer(scope, fleet, name) {
  console.log(name);
  const { file, idle, configure, check, start } = BALANCERS[name];
  const command = program(name);
  const text = source(file);
  const limit = seconds(text, idle);
  expect(limit > SILENT_S, `${file} cuts sockets after ${limit} s, before the gateway does`);

  const port = await freePort();
  const folder = scope.path(name);
  mkdirSync(folder);
  const config = `${folder}/${name}.conf`;
  const gateways = (await fleet.nodes()).filter((node) => node.port);
  writeFileSync(config, configure(text, gateways, port, folder));
  execFileSync(command, check(config, folder), { stdio: ["ignore", "inherit", "pipe"] });
  const part = scope.start(name, command, start(config, folder));
  await eventually("the balancer answers", () => new Promise((resolve, reject) => {
    http.get({ port, path: "/", agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    }).once("error", reject);
  }));

  const people = Array.from({ length: CLIENTS }, (_, number) => new Person(port, number));
  for (const person of people) await person.enter();
  const spread = await connections(fleet);
  expect(spread.every((count) => count >= CLIENTS / 4), `clients are spread as ${spread}`);
  console.log(`  spread: ${spread.join(" and ")} clients`);
  await chat(people, "hello");
  await requests(port, people);
  await addresses(port);
  await sleep(3_000);
  await chat(people, "still here");
  expect(people.every(({ code }) => code === undefined), "idle clients were cut, pings or not");
  await drained(fleet, port, people);
  await chat(people, "after the drain");
  await killed(fleet, port, people);
  await chat(people, "after the kill");
  for (const person of people) await person.leave();
  await noneLeft(fleet, port);
  expect(await scope.stop(part, name === "nginx" ? "SIGTERM" : "SIGUSR1"), `${name} did not end`);
}

await main(async (scope) => {
  const named = process.argv.slice(2);
  const names = named.length > 0 ? named : Object.keys(BALANCERS);
  for (const name of names) program(name);
  program("redis-server");
  const fleet = await scope.fleet("cluster", ["--gateways=2", "--workers=1"], GATEWAY_ENV);
  for (const name of names) await balancer(scope, fleet, name);
  console.log(`passed: ${names.join(", ")}`);
});
