// Processes that a test starts, in a folder of their own, and ends by their ids; and a fleet of
// Roomcast among them.

import { execFile, spawn } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

const run = promisify(execFile);
const ROOT = path.join(import.meta.dirname, "../..");
const GRACE_MS = 40_000;
/** Debian's packages, where they have another name than the program. */
const PACKAGES = { promtool: "prometheus", nginx: "nginx-light" };
/** Debian keeps the balancers' programs there, which is not on everybody's path. */
const MORE_PATHS = ["/usr/sbin", "/usr/local/sbin"];

/** What says that a test cannot run here; such a test ends with 77. */
export class Missing extends Error {}

/** Runs a test, ends what it started, and then the process: 77 where something is missing. */
export async function main(test) {
  const scope = new Scope();
  for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143]]) {
    process.once(signal, () => scope.end().finally(() => process.exit(code)));
  }
  let code = 0;
  try {
    await test(scope);
  } catch (error) {
    code = error instanceof Missing ? 77 : 1;
    console.error(code === 77 ? `skipped: ${error.message}` : error);
    if (code === 1) scope.showLogs();
  }
  const left = await scope.end();
  if (left.length > 0) {
    console.error(`these had to be killed: ${left.join(", ")}`);
    code ||= 1;
  }
  process.exit(code);
}

/** The path of a program of Debian's, or a reason to skip. */
export function program(name) {
  const folders = [...(process.env.PATH ?? "").split(":"), ...MORE_PATHS];
  const found = folders.map((folder) => path.join(folder, name)).find((file) => existsSync(file));
  if (found) return found;
  throw new Missing(`there is no ${name} (apt-get install ${PACKAGES[name] ?? name})`);
}

/** A program of the workspace, which has to be built. */
export function built(name) {
  const target = process.env.CARGO_TARGET_DIR ?? path.join(ROOT, "target");
  const file = path.join(target, "debug", name);
  if (!existsSync(file)) throw new Missing(`there is no ${file} (cargo build -p ${name})`);
  return file;
}

/** A file of the repository. */
export function source(name) {
  return readFileSync(path.join(ROOT, name), "utf8");
}

export function fail(text) {
  throw new Error(text);
}

export function expect(condition, text) {
  if (!condition) fail(text);
}

/** Waits until `probe` gives something true, and gives that. */
export async function eventually(what, probe, withinMs = 20_000) {
  const deadline = Date.now() + withinMs;
  let last;
  for (;;) {
    try {
      const got = await probe();
      if (got) return got;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) {
      throw new Error(`not within ${withinMs} ms: ${what}`, { cause: last });
    }
    await sleep(100);
  }
}

export async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A folder, and what runs in it. */
class Scope {
  #running = [];

  constructor() {
    this.folder = mkdtempSync(path.join(tmpdir(), "roomcast-deployment."));
    // Postgres, as a user of its own, has to get to its folder below.
    chmodSync(this.folder, 0o711);
  }

  path(name) {
    return path.join(this.folder, name);
  }

  /** Starts a program; what it says goes into a log in the folder. */
  start(name, file, args) {
    const log = this.path(`${name}.log`);
    const out = openSync(log, "a");
    // A group of its own, so that Ctrl-C reaches it through `end` alone.
    const child = spawn(file, args, {
      detached: true, cwd: this.folder, stdio: ["ignore", out, out],
    });
    const part = { name, child, log };
    part.ended = new Promise((resolve) => {
      child.once("exit", resolve);
      child.once("error", resolve);
    });
    this.#running.push(part);
    return part;
  }

  /** Ends one part, with SIGKILL if it takes too long; says whether it went by itself. */
  async stop(part, signal = "SIGTERM") {
    this.#running = this.#running.filter((other) => other !== part);
    if (!isRunning(part)) return true;
    part.child.kill(signal);
    const timeout = sleep(GRACE_MS, "late", { ref: false });
    if ((await Promise.race([part.ended, timeout])) !== "late") return true;
    part.child.kill("SIGKILL");
    await part.ended;
    return false;
  }

  /** Ends everything, the latest first; the names of those that had to be killed. */
  async end() {
    const left = [];
    for (const part of [...this.#running].reverse()) {
      if (!(await this.stop(part))) left.push(part.name);
    }
    if (!process.env.KEEP_FOLDER) rmSync(this.folder, { recursive: true, force: true });
    return left;
  }

  showLogs() {
    for (const { name, log } of this.#running) {
      const lines = readFileSync(log, "utf8").trimEnd().split("\n").slice(-30);
      console.error(`--- the last lines of ${name}\n${lines.join("\n")}`);
    }
  }

  /** A cluster, all of it ready; `words` say what it consists of. */
  async fleet(name, words, gatewayEnv) {
    const folder = this.path(name);
    const variables = Object.entries(gatewayEnv).map((pair) => `--gateway-env=${pair.join("=")}`);
    const part = this.start(`${name}-fleet`, built("fleet"), [
      "up", "--folder", folder, ...words, ...variables,
      "--gateway-program", built("gateway"), "--worker-program", built("sync-worker"),
    ]);
    await eventually("the fleet is ready", () => {
      expect(isRunning(part), `the fleet ended: ${readFileSync(part.log, "utf8")}`);
      return readFileSync(part.log, "utf8").includes("\nready; ");
    }, 120_000);
    return new Fleet(folder, part);
  }
}

function isRunning({ child }) {
  return child.pid !== undefined && child.exitCode === null && child.signalCode === null;
}

/** A fleet that runs. */
class Fleet {
  constructor(folder, part) {
    this.folder = folder;
    this.part = part;
  }

  /** `kill`, `start`, … and `gateway 2`. */
  async tell(...words) {
    const { stdout } = await run(built("fleet"), [...words, "--folder", this.folder]);
    return stdout;
  }

  /** Its nodes: `{ name, pid, state, port, operator }`, `port` of gateways only. */
  async nodes() {
    const table = await this.tell("status");
    const rows = table.split("\n").filter((row) => /^(gateway|worker)-\d/.test(row));
    return rows.map((row) => {
      const [, name, pid, state] = row.match(/^(\S+) +(\d+|-) +(ready|not ready|ended)/);
      const ports = [...row.matchAll(/http:\/\/127\.0\.0\.1:(\d+)/g)].map(([, at]) => Number(at));
      return { name, pid: Number(pid), state, port: ports.at(-2), operator: ports.at(-1) };
    });
  }

  async node(name) {
    return (await this.nodes()).find((node) => node.name === name);
  }
}
