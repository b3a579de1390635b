// The page for everybody: what axe finds, on phones and wide screens, light and dark; and all of it
// by keys.
//
//   node accessible.mjs <baseUrl> <outDir>
//
// Against a running gateway in the development mode. Needs axe-core beside what two_tabs.mjs needs,
// and ends with the same codes. Screenshots of each width and colour scheme go to <outDir>.

import { check } from "./axe.mjs";
import { eventually, expect, is, main, Tab } from "./tab.mjs";

const WIDTHS = [390, 768, 1139, 1600];
const TEXT = "Hello **Bob**, see `code` and [a link](https://example.com).\n\n- one\n- two\n\n"
  + `> quoted\n\n\`\`\`js\nlet line = "${"a long line ".repeat(20)}";\n\`\`\``;

async function looks(browser, options, colorScheme) {
  const context = await browser.newContext({ colorScheme, viewport: { width: 1600, height: 900 } });
  const room = `axe-${colorScheme}-${Date.now().toString(36)}`;
  const [ann, ben] = [
    await Tab.open(context, { ...options, room }, "ann"),
    await Tab.open(context, { ...options, room }, "ben"),
  ];
  for (const tab of [ann, ben]) await eventually(`${tab.user} is live`, () => tab.isLive());
  for (const tab of [ann, ben, ann]) await tab.say(TEXT);
  await ann.say("to be deleted");
  await eventually("all is in the database", () => ann.allPersisted(""));
  const id = await ann.idOf("to be deleted");
  await ann.row(id).hover();
  for (let press = 0; press < 2; press++) await ann.row(id).locator(".delete").click();
  await eventually("one is deleted", async () => (await ann.looks(id)).deleted || "not yet");
  await ben.say("/ask what is there to see?");
  await eventually("an answer grows", async () =>
    is(await ann.page.locator(".message[data-writing]").count(), 1));
  for (const width of WIDTHS) {
    await ann.page.setViewportSize({ width, height: 900 });
    await check(ann.page, `a room, ${width} px, ${colorScheme}`);
    await ann.screenshot(`room-${width}-${colorScheme}`);
  }
  await ann.page.setViewportSize({ width: 390, height: 844 });
  await ann.page.getByRole("button", { name: "Rooms" }).click();
  await check(ann.page, `the rooms of a phone, ${colorScheme}`);
  await ann.screenshot(`rooms-390-${colorScheme}`);
  const page = await context.newPage();
  for (const width of [390, 1600]) {
    await page.setViewportSize({ width, height: 900 });
    await page.goto(`${options.baseUrl}/`);
    await check(page, `the welcome, ${width} px, ${colorScheme}`);
  }
  await context.close();
}

/** Presses Tab until something has the focus. */
async function tabTo(page, name) {
  for (let press = 0; press < 60; press++) {
    const seen = await page.evaluate(() => {
      const { ariaLabel, textContent, labels } = document.activeElement;
      return (ariaLabel ?? labels?.[0]?.textContent ?? textContent).trim();
    });
    if (seen === name) return;
    await page.keyboard.press("Tab");
  }
  throw new Error(`no way to ${name} with Tab`);
}

/** A person without a mouse enters a room, writes, edits, deletes, reads code and leaves. */
async function byKeys(browser, options) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 800 } });
  const room = `keys-${Date.now().toString(36)}`;
  const tab = await Tab.open(context, { ...options, room }, "kim");
  const { page } = tab;
  await eventually("kim is live", () => tab.isLive());
  await page.keyboard.type("first wrods");
  await page.keyboard.press("Enter");
  await eventually("what was typed at once is in the room", () => tab.hasOnce("first wrods"));
  await eventually("and in the database", () => tab.allPersisted("first wrods"));
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("Control+A");
  await page.keyboard.type("first words");
  await page.keyboard.press("Enter");
  await eventually("it was edited", () => tab.hasOnce("first words"));
  const id = await tab.idOf("first words");
  await tabTo(page, "Delete");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Enter");
  await eventually("and deleted", async () => (await tab.looks(id)).deleted || "not yet");
  await tabTo(page, "Join a room by name");
  await page.keyboard.type(`${room}-two`);
  await page.keyboard.press("Enter");
  const title = () => page.locator("#room-title").textContent();
  await eventually("another room is entered", async () => is(await title(), `# ${room}-two`));
  const leave = page.locator("#leave");
  expect("how to leave it is seen without pointing at it", await leave.isVisible(), "hidden");
  await tabTo(page, `Leave ${room}-two`);
  await page.keyboard.press("Enter");
  await eventually("and left", async () => is(await title(), `# ${room}`));
  const rooms = () => page.locator("#rooms .name").allTextContents();
  const left = await rooms();
  expect("it is no longer among the rooms", !left.includes(`${room}-two`), left);
  expect("no script error", tab.errors.length === 0, tab.errors);
  await context.close();
}

await main("accessible.mjs", async (browser, options) => {
  for (const scheme of ["light", "dark"]) await looks(browser, options, scheme);
  await byKeys(browser, options);
});
