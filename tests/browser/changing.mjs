// Messages that change after they were said: edited, deleted, written bit by bit.

import { eventually, expect, is, Tab } from "./tab.mjs";

/** One edit and one deletion, seen in the other tab. */
export async function edits(alice, bob, tag) {
  const [typo, mistake] = [`${tag} a tpyo`, `${tag} a mistake`];
  for (const text of [typo, mistake]) await alice.say(text);
  await eventually("bob has what alice will change", () => bob.hasOnce(mistake));
  await eventually("alice's messages are in the database", () => alice.allPersisted(tag));
  const [edited, deleted] = [await alice.idOf(typo), await alice.idOf(mistake)];

  await alice.row(edited).hover();
  await alice.row(edited).getByRole("button", { name: "Edit" }).click();
  const editor = alice.row(edited).getByRole("textbox", { name: "Edit the message" });
  await editor.fill(`${tag} a typo, mended`);
  await alice.screenshot("editing");
  await editor.press("Enter");
  await eventually("bob sees the edit", async () => is((await bob.looks(edited)).text, `${tag} a typo, mended`));
  expect("and that it is one", (await bob.looks(edited)).edited, await bob.looks(edited));

  await alice.row(deleted).hover();
  const remove = alice.row(deleted).locator(".delete");
  await remove.press("Enter");
  expect("a deletion is asked for twice", await remove.innerText() === "Really delete?", await remove.innerText());
  await remove.press("Escape");
  expect("Escape takes it back", await remove.innerText() === "Delete", await remove.innerText());
  for (let press = 0; press < 2; press++) await remove.click();
  for (const tab of [bob, alice]) {
    await eventually(`${tab.user} sees that it was deleted`, async () => {
      const { text, deleted: isDeleted } = await tab.looks(deleted);
      return (isDeleted && text === "This message was deleted") || text;
    });
  }
  await eventually("bob sees no way to change what alice said", async () =>
    is(await bob.row(edited).locator(".actions").isVisible(), false));
  await bob.screenshot("changed");
}

/** The assistant's latest answer as a tab shows it; null before there is one. */
function answer(tab) {
  return tab.page.evaluate(() => {
    const row = [...document.querySelectorAll('.message[data-type="assistant"]')].at(-1);
    return row && {
      id: row.dataset.id,
      text: row.querySelector(".text").textContent,
      author: row.querySelector(".author").textContent,
      writing: row.hasAttribute("data-writing"),
      broken: row.hasAttribute("data-aborted"),
    };
  });
}

/** Waits until an answer other than `old` is being written and some of it is there. */
async function beginsIn(tab, old = null) {
  await eventually(`${tab.user} sees an answer begin`, async () => {
    const seen = await answer(tab);
    return (seen && seen.id !== old && seen.writing && seen.text !== "") || JSON.stringify(seen);
  });
}

async function endsIn(tabs, check) {
  for (const tab of tabs) {
    await eventually(`${tab.user} sees its end`, async () => {
      const seen = await answer(tab);
      return (!seen.writing && check(seen)) || JSON.stringify(seen);
    });
  }
  const texts = await Promise.all(tabs.map(async (tab) => (await answer(tab)).text));
  expect("all see the same text", texts.every((text) => text === texts[0]), texts);
}

/** A scripted answer grows in both tabs, and in one that comes in the middle. */
export async function streamed(context, options, alice, bob, tag) {
  // Loaded before, so that coming into the room takes a moment and not the whole answer.
  const erin = await Tab.open(context, { ...options, room: `${options.room}-next-door` }, "erin");
  await eventually("erin is live next door", () => erin.isLive());
  await alice.say(`/ask ${tag} what does one see?`);
  for (const tab of [alice, bob]) await beginsIn(tab);
  const { text: early } = await answer(bob);
  await eventually("bob sees it grow", async () => {
    const { text } = await answer(bob);
    return (text.length > early.length && text.startsWith(early)) || text;
  });
  await erin.enter(options.room);
  await eventually("erin, who comes late, sees the text so far while it is written", async () => {
    const seen = await answer(erin);
    return (seen?.writing && seen.text.startsWith(early)) || JSON.stringify(seen);
  });
  await bob.composer().pressSequentially("w"); // so that one picture shows all that a room has
  await eventually("alice sees bob type meanwhile", async () =>
    is(await alice.page.locator("#typing-text").textContent(), "bob is typing…"));
  await Promise.all([alice, bob, erin].map((tab) => tab.screenshot("answer-grows")));
  await bob.composer().fill("");
  const isWhole = ({ text, author }) =>
    text.endsWith("marked as broken off.") && author.includes("scripted demo");
  await endsIn([alice, bob, erin], isWhole);
  await alice.screenshot("answer");
  await erin.close();
}

/** Whoever asked is gone: what there was of the answer stays, marked. */
export async function brokenOff(context, options, tabs, tag) {
  const [first] = tabs;
  const { id: old } = (await answer(first)) ?? {};
  const frank = await Tab.open(context, options, "frank");
  await eventually("frank is live", () => frank.isLive());
  await frank.say(`/ask ${tag} and if you go?`);
  for (const tab of tabs) await beginsIn(tab, old);
  await frank.close();
  await endsIn(tabs, ({ broken, text }) => broken && text !== "");
  await first.screenshot("broken-off");
}

/** Asked right before the node is killed: the answer goes on with the node that comes. */
export async function beginAnswer(alice, bob, tag) {
  const { id: old } = (await answer(alice)) ?? {};
  await alice.say(`/ask ${tag} and if the node is killed?`);
  for (const tab of [alice, bob]) await beginsIn(tab, old);
}
export async function expectAnswer(tabs) {
  await endsIn(tabs, ({ text, broken }) => !broken && text.endsWith("marked as broken off."));
}
