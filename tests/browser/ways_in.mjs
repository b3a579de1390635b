// The ways into the demo page: by a name, by a token, on a computer whose clock is wrong; and a server
// that stands still.
//
//   node ways_in.mjs <gateway program> <outDir>
//
// Starts two gateways of its own, one in the development mode and one with a secret, and ends them.
// Needs what two_tabs.mjs needs, and ends with the same codes.

import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

import { eventually, expect, is, launch, Missing, Tab } from "./tab.mjs";

const SECRET = "a-secret-of-the-browser-test-of-32-bytes-and-more";
const FAST_MS = 6 * 60_000; // above the 5 minutes that an id may be ahead

const [program, outDir] = process.argv.slice(2);
if (!outDir) {
  console.error("usage: node ways_in.mjs <gateway program> <outDir>");
  process.exit(64);
}
mkdirSync(outDir, { recursive: true });
const folder = mkdtempSync(path.join(tmpdir(), "roomcast-ways-in."));
const running = [];

/** Starts a gateway on free ports; gives the address of its page, which it prints itself. */
function start(name, env) {
  const child = spawn(program, [], {
    env: {
      PATH: process.env.PATH, PORT: "0", ROOMCAST_OPERATOR_PORT: "0", ROOMCAST_BIND: "127.0.0.1",
      ROOMCAST_DATA_DIR: path.join(folder, name), ...env,
    },
    stdio: ["ignore", "pipe", "inherit"],
  });
  running.push(child);
  return new Promise((resolve, reject) => {
    let said = "";
    child.on("exit", (code) => reject(new Error(`the gateway ended with ${code}: ${said}`)));
    child.stdout.on("data", (text) => {
      said += text;
      const [, address] = said.match(/page\s+(http:\S+?)\/\s/) ?? [];
      if (address) resolve(address);
    });
  });
}

async function end(child) {
  const ended = new Promise((resolve) => child.on("exit", resolve));
  if (child.exitCode === null && child.kill("SIGTERM")) await ended;
}

/** What `gateway token` prints, for the gateway on that address. */
function token(address, ...words) {
  const env = { ROOMCAST_JWT_SECRET: SECRET, ROOMCAST_BIND: "127.0.0.1", PORT: new URL(address).port };
  return execFileSync(program, ["token", ...words], { env, encoding: "utf8" }).trim();
}

async function tabOf(browser, user, address, prepare = () => {}) {
  const context = await browser.newContext({ viewport: { width: 1000, height: 720 } });
  const page = await context.newPage();
  await prepare(page);
  const tab = Object.assign(new Tab(), { user, room: "lobby", outDir, errors: [], page });
  page.on("pageerror", (error) => tab.errors.push(error.message));
  await page.goto(address);
  return tab;
}

async function byName(browser, address) {
  const tab = await tabOf(browser, "zoe", `${address}/`);
  await tab.page.getByLabel("Or come in under your own name").fill("zoe");
  await tab.page.keyboard.press("Enter");
  await tab.page.waitForURL(/user=zoe/);
  await eventually("who typed a name and pressed Enter is in the room", () => tab.isLive());
  return tab;
}

async function byToken(browser, address) {
  const tab = await tabOf(browser, "ann", `${address}/?user=ann`);
  const field = tab.page.getByLabel(/Paste a token/);
  await field.waitFor();
  await tab.screenshot("asked-for-a-token");
  await field.fill("no.token.at-all");
  await field.press("Enter");
  await eventually("a token that does not hold is said to be none",
    async () => (await tab.page.locator("#token-problem").textContent()) !== "" || "nothing");
  await field.fill(token(address, "--user", "ann", "--room", "lobby"));
  await field.press("Enter");
  await eventually("who pastes a token is in the room", () => tab.isLive());
  return tab;
}

async function byAddress(browser, address) {
  const opened = token(address, "--user", "eve", "--room", "lobby", "--open");
  expect("the address to open names this page", opened.startsWith(`${address}/#token=`), opened);
  const tab = await tabOf(browser, "eve", opened);
  await eventually("who opens the address with a token is in the room", () => tab.isLive());
  expect("the token is gone from the address", !tab.page.url().includes("token"), tab.page.url());
  await tab.page.reload();
  await eventually("and is still in the room after a reload", () => tab.isLive());
  await tab.screenshot("by-a-token");
  return tab;
}

/** The clock of the person's computer is six minutes fast. */
async function fastClock(browser, address) {
  const fast = (page) => page.addInitScript((ms) => {
    const { now } = Date;
    Date.now = () => now() + ms;
  }, FAST_MS);
  const tab = await tabOf(browser, "fay", `${address}/?user=fay&room=lobby`, fast);
  await eventually("fay is live", () => tab.isLive());
  await tab.say("sent by a fast clock");
  await eventually("what is sent by a fast clock is in the database",
    () => tab.allPersisted("sent by a fast clock"));
  return tab;
}

/** A server that neither answers nor goes: whoever asks it something is told, and nothing is lost. */
async function frozen(tab, gateway) {
  const status = () => tab.page.locator("#status").getAttribute("data-phase");
  // A tab that was asleep asks at once whether anybody is there, and dials anew without an answer.
  const unheard = async () => {
    const phase = await status();
    return ["silent", "reconnecting"].includes(phase) || phase;
  };
  gateway.kill("SIGSTOP");
  try {
    await tab.say("said to a frozen server");
    const saidAt = Date.now();
    await eventually("the page says that there is no answer", unheard);
    console.log(`   after ${Date.now() - saidAt} ms`);
    await tab.screenshot("no-answer");
  } finally {
    gateway.kill("SIGCONT");
  }
  await eventually("and that it is live again", async () => is(await status(), "live"));
  await eventually("what was said meanwhile is in the database",
    () => tab.allPersisted("said to a frozen server"));
  await eventually("once", () => tab.hasOnce("said to a frozen server"));
}

let browser;
try {
  browser = await launch();
  const dev = await start("dev", {});
  const guarded = await start("guarded", { ROOMCAST_JWT_SECRET: SECRET });
  const tabs = [
    await byName(browser, dev), await byToken(browser, guarded), await byAddress(browser, guarded),
    await fastClock(browser, dev),
  ];
  await frozen(tabs[3], running[0]);
  await tabs[1].say("hello by a token");
  await eventually("both who came by a token see it", () => tabs[2].hasOnce("hello by a token"));
  for (const { user, errors } of tabs) expect(`no script error in ${user}'s tab`, !errors.length, errors);
  console.log("all held");
} catch (error) {
  console.error(`${error instanceof Missing ? "skipped" : "failed"}: ${error.message}`);
  process.exitCode = error instanceof Missing ? 77 : 1;
} finally {
  await browser?.close();
  for (const child of running) await end(child);
  rmSync(folder, { recursive: true, force: true });
}
