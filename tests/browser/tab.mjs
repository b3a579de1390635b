// What a scenario needs: a browser, tabs with a person in each, and conditions with a deadline.

import { existsSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const DEADLINE_MS = 60_000; // above the page's longest backoff, plus a slow machine
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const CHROMIUM_FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];

/** A browser; throws a `Missing` where it cannot be had. */
export class Missing extends Error {}

export function launch() {
  if (!existsSync(CHROMIUM)) throw new Missing(`no chromium at ${CHROMIUM}`);
  let chromium;
  try { // require, not import: only require looks at NODE_PATH
    ({ chromium } = createRequire(import.meta.url)("playwright-core"));
  } catch {
    throw new Missing("playwright-core is neither in a local node_modules nor in NODE_PATH");
  }
  return chromium.launch({ executablePath: CHROMIUM, args: CHROMIUM_FLAGS });
}

/**
 * Runs a script that is called with `<baseUrl> <outDir>`, with a browser and these; ends with 77
 * where something is missing, and with 1 where something does not hold.
 */
export async function main(name, run) {
  const [address, outDir] = process.argv.slice(2);
  if (!outDir) {
    console.error(`usage: node ${name} <baseUrl> <outDir>`);
    process.exit(64);
  }
  mkdirSync(outDir, { recursive: true });
  let browser;
  try {
    browser = await launch();
    await run(browser, { baseUrl: new URL(address).origin, outDir });
    console.log("all held");
  } catch (error) {
    console.error(`${error instanceof Missing ? "skipped" : "failed"}: ${error.message}`);
    process.exitCode = error instanceof Missing ? 77 : 1;
  } finally {
    await browser?.close();
  }
}

/** Waits for a condition with a deadline; says what was seen last where it does not come. */
export async function eventually(what, condition) {
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    const seen = await condition();
    if (seen === true) break;
    if (Date.now() > deadline) throw new Error(`${what}: not within ${DEADLINE_MS} ms; last seen: ${seen}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  console.log(`ok: ${what}`);
}

export function expect(what, holds, seen) {
  if (!holds) throw new Error(`${what}; seen: ${JSON.stringify(seen)}`);
  console.log(`ok: ${what}`);
}

/** True, or what was there instead, for `eventually`. */
export const is = (seen, wanted) => seen === wanted || JSON.stringify(seen);

/** One person's tab. What is checked is what the page shows; its state only says when it is live. */
export class Tab {
  static async open(context, { baseUrl, outDir, room }, user) {
    const tab = new Tab();
    Object.assign(tab, { user, room, outDir, errors: [], page: await context.newPage() });
    tab.page.on("pageerror", (error) => tab.errors.push(error.message));
    await tab.page.goto(`${baseUrl}/?${new URLSearchParams({ user, room })}`);
    return tab;
  }

  close() { return this.page.close(); }

  /** Nothing where the page shows no room. */
  state() {
    return this.page.evaluate((room) => {
      if (!window.roomcast) return {};
      const { state, connects, rooms } = window.roomcast;
      return { state, connects, room: rooms[room] };
    }, this.room);
  }

  /** Live in the room, by a connection later than the `connects`th. */
  async isLive(connects = 0) {
    const seen = await this.state();
    const live = seen.state === "connected" && seen.room === "live" && seen.connects > connects;
    return live || JSON.stringify(seen);
  }

  composer() { return this.page.getByRole("textbox", { name: "Message", exact: true }); }

  async say(text) {
    await this.composer().fill(text);
    await this.composer().press("Enter");
  }

  /** Goes to another room by its name, as a person does. */
  async enter(room) {
    this.room = room;
    await this.page.getByRole("textbox", { name: "Join a room by name" }).fill(room);
    await this.page.keyboard.press("Enter");
  }

  /** The tab is put behind another one, or before it: headless, every tab takes itself for seen. */
  async look(isSeen) {
    await this.page.evaluate((hidden) => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }, !isSeen);
  }

  /** The messages with a text as shown, in order. */
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

  row(id) { return this.page.locator(`#messages .message[data-id="${id}"]`); }

  /** The id of the one message with this text. */
  async idOf(text) {
    await eventually(`${this.user} sees "${text}" once`, () => this.hasOnce(text));
    const [{ id }] = await this.shown(text);
    return id;
  }

  /** How a message looks: its text, what is said beside it, who has read it. */
  async looks(id) {
    const rows = await this.row(id).evaluateAll((found) => found.map((row) => ({
      text: row.querySelector(".text").textContent,
      edited: row.querySelector(".edited").textContent !== "",
      deleted: row.hasAttribute("data-deleted"),
      readers: row.querySelector(".readers").title,
    })));
    return rows[0] ?? {};
  }

  /** How somebody stands in the list of those who are here; null where they do not. */
  status(user) {
    return this.page.evaluate((wanted) => {
      const row = document.querySelector(`#people-list [data-user="${CSS.escape(wanted)}"]`);
      return row?.dataset.status ?? null;
    }, user);
  }

  async screenshot(name) {
    const file = path.join(this.outDir, `${this.user}-${name}.png`);
    await this.page.screenshot({ path: file });
    console.log(`screenshot: ${file}`);
  }
}
