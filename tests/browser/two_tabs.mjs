// Two people, two tabs, one room: the demo page in a real browser against a running gateway.
//
//   node two_tabs.mjs <baseUrl> <outDir> [room] [--restart-cmd '<shell command>']
//
// Alice and Bob talk both ways until every own message shows ✓✓; a third tab then reads the same room
// anew. With --restart-cmd the command is run while both tabs stay open (it should stop the gateway,
// start it again and return, or return while it starts): both must come back by themselves, show
// everything once, and go on talking. What was checked is printed, screenshots go to <outDir>.
//
// Needs playwright-core (a local node_modules or NODE_PATH) and chromium (CHROMIUM, or
// /usr/bin/chromium). Exit codes: 0 all held, 1 something did not (the reason is printed), 64 bad
// arguments, 77 skipped because one of the two is missing.

import { spawn } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { parseArgs } from "node:util";

const DEADLINE_MS = 60_000; // above the page's longest backoff, plus a slow machine
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const CHROMIUM_FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];

function end(code, reason) {
  console.error(reason);
  process.exit(code);
}

/** require, not import: only require looks at NODE_PATH. */
function loadChromium() {
  if (!existsSync(CHROMIUM)) end(77, `skipped: no chromium at ${CHROMIUM}`);
  try {
    return createRequire(import.meta.url)("playwright-core").chromium;
  } catch {
    return end(77, "skipped: playwright-core is neither in a local node_modules nor in NODE_PATH");
  }
}

/** Waits for a condition with a deadline; says what was seen last where it does not come. */
async function eventually(what, condition) {
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    const seen = await condition();
    if (seen === true) break;
    if (Date.now() > deadline) throw new Error(`${what}: not within ${DEADLINE_MS} ms; last seen: ${seen}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  console.log(`ok: ${what}`);
}

function expect(what, holds, seen) {
  if (!holds) throw new Error(`${what}; seen: ${JSON.stringify(seen)}`);
  console.log(`ok: ${what}`);
}

/** One person's tab. What is checked is what the page shows; its state only says when it is live. */
class Tab {
  static async open(context, { baseUrl, outDir, room }, user) {
    const tab = new Tab();
    Object.assign(tab, { user, room, outDir, errors: [], page: await context.newPage() });
    tab.page.on("pageerror", (error) => tab.errors.push(error.message));
    await tab.page.goto(`${baseUrl}/?${new URLSearchParams({ user, room })}`);
    return tab;
  }

  state() {
    return this.page.evaluate((room) => {
      const { phase, welcomes, rooms } = window.roomcast;
      return { phase, welcomes, room: rooms[room].phase };
    }, this.room);
  }

  /** Live in the room, by a connection later than the `welcomes`th. */
  async isLive(welcomes = 0) {
    const state = await this.state();
    const live = state.phase === "live" && state.room === "joined" && state.welcomes > welcomes;
    return live || JSON.stringify(state);
  }

  async say(text) {
    await this.page.getByRole("textbox", { name: "Message" }).fill(text);
    await this.page.keyboard.press("Enter");
  }

  /** The run's messages as shown, in order: text, mark, id. */
  shown(tag) {
    return this.page.locator("#messages .message").evaluateAll((rows, wanted) => rows
      .map((row) => ({
        text: row.querySelector(".text").textContent,
        mark: row.querySelector(".mark").textContent,
        id: row.dataset.id,
        own: row.hasAttribute("data-own"),
      }))
      .filter(({ text }) => text.includes(wanted)), tag);
  }

  async hasOnce(text) {
    const found = await this.shown(text);
    return found.length === 1 || `shown ${found.length} times`;
  }

  /** Every own message of the run is in the database, as far as this tab tells its user. */
  async allPersisted(tag) {
    const open = (await this.shown(tag)).filter(({ own, mark }) => own && mark !== "✓✓");
    return open.length === 0 || JSON.stringify(open);
  }

  async screenshot(name) {
    const file = path.join(this.outDir, `${this.user}-${name}.png`);
    await this.page.screenshot({ path: file });
    console.log(`screenshot: ${file}`);
  }
}

/** A few messages each way, until both have all of them and every sender sees ✓✓. */
async function talk(alice, bob, tag, part) {
  for (let i = 1; i <= 3; i++) {
    for (const [from, to] of [[alice, bob], [bob, alice]]) {
      const text = `${tag} ${part} ${i} from ${from.user}`;
      await from.say(text);
      await eventually(`${to.user} sees "${text}" once`, () => to.hasOnce(text));
    }
  }
  for (const tab of [alice, bob]) {
    await eventually(`${tab.user}'s messages show ✓✓`, () => tab.allPersisted(tag));
  }
}

/** All tabs show the same messages of this run, each once, in the same order. */
async function expectSameRoom(tabs, tag, count) {
  const [first, ...others] = await Promise.all(tabs.map((tab) => tab.shown(tag)));
  const ids = first.map(({ id }) => id);
  expect(`${tabs[0].user} shows all ${count} messages once`,
    ids.length === count && new Set(ids).size === count, first);
  others.forEach((shown, i) => expect(`${tabs[i + 1].user} shows the same, in the same order`,
    JSON.stringify(shown.map(({ id }) => id)) === JSON.stringify(ids), shown));
}

/** Runs the command while both tabs stay open: they have to notice and to come back by themselves. */
async function restart(command, tabs) {
  const before = await Promise.all(tabs.map((tab) => tab.state()));
  const child = spawn("sh", ["-c", command], { stdio: ["ignore", "inherit", "inherit"] });
  const code = await new Promise((resolve) => child.on("exit", resolve));
  expect(`the restart command ended with 0`, code === 0, code);
  for (const [i, tab] of tabs.entries()) {
    await eventually(`${tab.user}'s open tab resumed by itself`, () => tab.isLive(before[i].welcomes));
  }
}

async function run(browser, options) {
  const tag = `run-${Date.now().toString(36)}`;
  const context = await browser.newContext({ viewport: { width: 1100, height: 760 } });
  const alice = await Tab.open(context, options, "alice");
  const bob = await Tab.open(context, options, "bob");
  const tabs = [alice, bob];
  try {
    for (const tab of tabs) await eventually(`${tab.user} is live`, () => tab.isLive());
    await talk(alice, bob, tag, "before");
    await expectSameRoom(tabs, tag, 6);
    for (const tab of tabs) await tab.screenshot("talk");
    if (options.restartCommand) {
      await restart(options.restartCommand, tabs);
      await expectSameRoom(tabs, tag, 6);
      await talk(alice, bob, tag, "after");
    }
    const carol = await Tab.open(context, options, "carol");
    tabs.push(carol);
    await eventually("carol, who comes later, is live", () => carol.isLive());
    const total = options.restartCommand ? 12 : 6;
    await eventually("carol has the history", async () => (await carol.shown(tag)).length >= total);
    await expectSameRoom(tabs, tag, total);
    if (options.restartCommand) for (const tab of tabs) await tab.screenshot("resumed");
    for (const { user, errors } of tabs) expect(`no script error in ${user}'s tab`, !errors.length, errors);
  } catch (error) {
    for (const tab of tabs) await tab.screenshot("failed");
    throw error;
  }
}

function parseOptions() {
  const usage = "usage: node two_tabs.mjs <baseUrl> <outDir> [room] [--restart-cmd '<command>']";
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: { "restart-cmd": { type: "string" } },
    });
    const [baseUrl, outDir, room = "lobby", ...rest] = positionals;
    if (!baseUrl || !outDir || rest.length > 0) return end(64, usage);
    return { baseUrl: new URL(baseUrl).origin, outDir, room, restartCommand: values["restart-cmd"] };
  } catch (error) {
    return end(64, `${error.message}\n${usage}`);
  }
}

const options = parseOptions();
const chromium = loadChromium();
mkdirSync(options.outDir, { recursive: true });
const browser = await chromium.launch({ executablePath: CHROMIUM, args: CHROMIUM_FLAGS });
try {
  await run(browser, options);
  console.log("all held");
} catch (error) {
  process.exitCode = 1;
  console.error(`failed: ${error.message}`);
} finally {
  await browser.close();
}
