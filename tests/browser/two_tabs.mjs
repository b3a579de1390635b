// Two people, two tabs, one room: the demo page in a real browser against a running gateway.
//
//   node two_tabs.mjs <baseUrl> <outDir> [room] [--restart-cmd '<shell command>']
//
// Alice and Bob talk both ways until every own message shows ✓✓, see each other come, go, type and
// read, change what they said, and watch a scripted answer grow; a third tab then reads the same room
// anew. With --restart-cmd the command is run while both tabs stay open (it should stop the gateway,
// start it again and return, or return while it starts): both must come back by themselves, show
// everything once, and go on talking. What was checked is printed, screenshots go to <outDir>.
//
// Needs playwright-core (a local node_modules or NODE_PATH) and chromium (CHROMIUM, or
// /usr/bin/chromium). An answer whose producer is gone is waited for: ROOMCAST_STREAM_TIMEOUT_MS of the
// gateway should be short. Exit codes: 0 all held, 1 something did not (the reason is printed), 64 bad
// arguments, 77 skipped because one of the two is missing.

import { spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { parseArgs } from "node:util";

import { beginAnswer, brokenOff, edits, expectAnswer, streamed } from "./changing.mjs";
import { company } from "./company.mjs";
import { eventually, expect, is, launch, Missing, Tab } from "./tab.mjs";

function end(code, reason) {
  console.error(reason);
  process.exit(code);
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
    await eventually(`${tab.user}'s open tab resumed by itself`, () => tab.isLive(before[i].connects));
  }
}

/** What both tabs had of each other is there again. */
async function expectCompany(alice, bob) {
  await eventually("alice sees that bob is here, after the restart",
    async () => is(await alice.status("bob"), "active"));
  await eventually("bob sees what alice has read, after the restart", async () =>
    (await bob.page.locator(".readers").evaluateAll((all) => all.map(({ title }) => title)))
      .some((title) => title.includes("alice")) || "no face of hers");
}

async function run(browser, options) {
  const tag = `run-${Date.now().toString(36)}`;
  const beside = `beside-${Date.now().toString(36)}`;
  const context = await browser.newContext({ viewport: { width: 1180, height: 760 } });
  const alice = await Tab.open(context, options, "alice");
  const bob = await Tab.open(context, options, "bob");
  const tabs = [alice, bob];
  try {
    for (const tab of tabs) await eventually(`${tab.user} is live`, () => tab.isLive());
    await talk(alice, bob, tag, "before");
    await expectSameRoom(tabs, tag, 6);
    for (const tab of tabs) await tab.screenshot("talk");
    await company(context, options, alice, bob, beside);
    await edits(alice, bob, beside);
    await streamed(context, options, alice, bob, beside);
    await brokenOff(context, options, tabs, beside);
    if (options.restartCommand) {
      await beginAnswer(alice, bob, beside);
      await restart(options.restartCommand, tabs);
      await expectSameRoom(tabs, tag, 6);
      await expectAnswer(tabs);
      await expectCompany(alice, bob);
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
mkdirSync(options.outDir, { recursive: true });
const browser = await Promise.resolve().then(launch).catch((error) => {
  if (error instanceof Missing) end(77, `skipped: ${error.message}`);
  throw error;
});
try {
  await run(browser, options);
  console.log("all held");
} catch (error) {
  process.exitCode = 1;
  console.error(`failed: ${error.message}`);
} finally {
  await browser.close();
}
