// What a room has beside its messages, as two people see it of each other: who is here, who types,
// who has read how far.

import { eventually, expect, is, Tab } from "./tab.mjs";

/** Somebody comes, looks away, looks again and goes. */
async function presence(context, options, alice, bob) {
  await eventually("alice sees that bob is here", async () => is(await alice.status("bob"), "active"));
  const dave = await Tab.open(context, options, "dave");
  await eventually("alice sees dave come", async () => is(await alice.status("dave"), "active"));
  await eventually("dave sees who was here before him", async () => is(await dave.status("bob"), "active"));
  await dave.look(false);
  await eventually("alice sees that dave looks away", async () => is(await alice.status("dave"), "idle"));
  await alice.screenshot("presence");
  await dave.look(true);
  await eventually("alice sees that dave is back", async () => is(await alice.status("dave"), "active"));
  await dave.close();
  await eventually("alice sees dave go", async () => is(await alice.status("dave"), "offline"));
}

/** The line above the composer comes, and goes by itself. */
async function typing(alice, bob) {
  const line = () => alice.page.locator("#typing-text").textContent();
  await bob.composer().pressSequentially("w");
  await eventually("alice sees that bob types", async () => is(await line(), "bob is typing…"));
  await alice.screenshot("typing");
  await eventually("the mark expires when bob writes no more", async () => is(await line(), ""));
  await bob.composer().pressSequentially("w");
  await eventually("it comes again", async () => is(await line(), "bob is typing…"));
  await bob.composer().fill("");
  await eventually("and goes when bob takes it all back", async () => is(await line(), ""));
}

/** A face stands by the last message that was before somebody's eyes. */
async function receipts(alice, bob, tag) {
  const [first, second] = [`${tag} seen at once`, `${tag} seen later`];
  const readers = async (id) => (await alice.looks(id)).readers;
  await alice.say(first);
  await eventually("bob has the first message", () => bob.hasOnce(first));
  const seen = await alice.idOf(first);
  await eventually("alice sees that bob has read it", async () => is(await readers(seen), "Read by bob"));
  await bob.look(false);
  await alice.say(second);
  await eventually("bob's tab has the second one", () => bob.hasOnce(second));
  const later = await alice.idOf(second);
  await eventually("bob's title counts it", async () =>
    (await bob.page.title()).startsWith("(1) ") || bob.page.title());
  expect("bob's face stays by the first one", await readers(seen) === "Read by bob", await readers(later));
  await eventually("bob's tab draws a line above it", async () =>
    is(await bob.page.locator(".unread-line").innerText(), "1 new message"));
  await bob.look(true);
  await eventually("bob's face moves when he looks", async () => is(await readers(later), "Read by bob"));
  expect("and is no longer by the first one", await readers(seen) === "", await readers(seen));
  await eventually("bob's title counts nothing", async () =>
    !(await bob.page.title()).startsWith("(") || bob.page.title());
  await alice.screenshot("receipts");
  await bob.screenshot("new-messages");
}

export async function company(context, options, alice, bob, tag) {
  await presence(context, options, alice, bob);
  await typing(alice, bob);
  await receipts(alice, bob, tag);
}
