// Redis is away: what the page shows of messages and changes that only a journal has.
//
//   node journal.mjs <baseUrl> <outDir>
//
// Against a running gateway in the development mode, which has no Redis to lose: between it and the
// browser somebody answers as a gateway's journal does, and gives the gateway what was kept once
// Redis is back. Needs what accessible.mjs needs, and ends with the same codes.

import { check } from "./axe.mjs";
import { eventually, expect, is, main, Tab } from "./tab.mjs";

const BANNER = /connection between our servers is interrupted.*kept safely here/;

/** From here on, a command is the journal's, and not the person's. */
const REPLAYED = 1_000_000;

/** What is between the browsers and their gateway. */
class Journal {
  constructor(room) { Object.assign(this, { room, isAway: false, kept: new Map(), sockets: new Set() }); }

  /** A person's context: all that is asked and told goes through here. */
  watch(context, user) { return context.routeWebSocket(/\/ws/, (socket) => this.#serve(socket, user)); }

  #serve(socket, user) {
    const server = socket.connectToServer();
    const link = { user, server, joins: new Set(), tell: (frame) => socket.send(JSON.stringify(frame)) };
    this.sockets.add(link);
    socket.onClose(() => {
      this.sockets.delete(link);
      server.close();
    });
    socket.onMessage((text) => {
      const { event, ref, data } = JSON.parse(text);
      if (event === "room:join" && data.roomId === this.room) link.joins.add(ref);
      const keeps = ["message:send", "message:edit"].includes(event) && data.roomId === this.room;
      if (this.isAway && keeps) this.#keep(link, { event, ref, data });
      else server.send(text);
    });
    server.onMessage((text) => {
      const { event, ref, data } = JSON.parse(text);
      if (event === "reply" && ref >= REPLAYED) return this.#placed(link, data);
      socket.send(text);
      // Right after its reply, whoever joins is told what is pending.
      if (event === "reply" && link.joins.delete(ref)) {
        for (const { pending } of this.kept.values()) if (pending) link.tell(pending);
      }
    });
  }

  #keep(link, { event, ref, data }) {
    const { roomId, id, changeId, type = "user", content, metadata } = data;
    const name = changeId ?? id;
    const said = { id, ...(changeId && { changeId }) };
    link.tell({ event: "reply", ref, data: {
      ...said, position: null, duplicate: false, persisted: false, durability: "journal",
    } });
    if (this.kept.has(name)) return;
    const createdAt = new Date().toISOString();
    const message = { roomId, id, userId: link.user, type, content, metadata: metadata ?? {}, createdAt };
    const pending = event === "message:send" && { event: "message:pending", data: message };
    this.kept.set(name, { user: link.user, frame: { event, data }, pending });
    if (pending) for (const each of this.sockets) each.tell(pending);
  }

  /** What the gateway has taken by now, it has in its database. */
  #placed(link, { id, changeId, position }) {
    const data = { roomId: this.room, upTo: position, ids: [changeId ?? id] };
    link.tell({ event: "message:persisted", data });
  }

  /** Redis is back: everything finds its place, in order. */
  replay() {
    this.isAway = false;
    [...this.kept.values()].forEach(({ user, frame }, n) => {
      const link = [...this.sockets].find((each) => each.user === user);
      link.server.send(JSON.stringify({ ...frame, ref: REPLAYED + n }));
    });
    this.kept.clear();
  }
}

/** How a message is marked, and whether it is seen to be. */
const markOf = (tab, id) => tab.row(id).evaluateAll(([row]) => row && {
  mark: row.dataset.mark, outline: getComputedStyle(row.querySelector(".bubble")).outlineStyle,
  meaning: row.querySelector(".mark").ariaLabel, isSeen: row.querySelector(".mark").checkVisibility(),
});

const PENDING = {
  mark: "pending-elsewhere", outline: "dashed", meaning: "Kept here; people elsewhere see it later",
  isSeen: true,
};

async function looksPending(tab, id) {
  return is(JSON.stringify(await markOf(tab, id)), JSON.stringify(PENDING));
}

/** The banner, as it is read out: politely, and without being asked for. */
async function banner(tab) {
  const status = tab.page.getByRole("status").filter({ hasText: BANNER });
  return is(await status.filter({ visible: true }).count(), 1);
}

async function noBanner(tab) {
  return is(await tab.page.getByText(BANNER).filter({ visible: true }).count(), 0);
}

async function run(browser, options, colorScheme) {
  const room = `journal-${colorScheme}-${Date.now().toString(36)}`;
  const journal = new Journal(room);
  const [alice, bob] = await Promise.all(["alice", "bob"].map(async (user) => {
    const context = await browser.newContext({ colorScheme, viewport: { width: 1180, height: 760 } });
    await journal.watch(context, user);
    return Tab.open(context, { ...options, room }, user);
  }));
  const both = [alice, bob];
  for (const tab of both) await eventually(`${tab.user} is live`, () => tab.isLive());
  await alice.say("before Redis went");
  await eventually("it is in the database", () => alice.allPersisted("before"));
  const before = await alice.idOf("before Redis went");
  for (const tab of both) expect(`nothing is said to ${tab.user}`, await noBanner(tab) === true);

  journal.isAway = true;
  await alice.say("kept by alice");
  await bob.say("kept by bob");
  const kept = [await alice.idOf("kept by alice"), await bob.idOf("kept by bob")];
  for (const tab of both) {
    for (const id of kept) {
      await eventually(`${tab.user} sees one as pending`, () => looksPending(tab, id));
    }
    await eventually(`${tab.user} is told why`, () => banner(tab));
  }
  await alice.row(before).hover();
  await alice.row(before).locator(".edit").click();
  await alice.page.keyboard.type(", edited");
  await alice.page.keyboard.press("Enter");
  await eventually("a change looks pending, too", () => looksPending(alice, before));
  for (const width of [1180, 390]) {
    await alice.page.setViewportSize({ width, height: 760 });
    await check(alice.page, `a room without Redis, ${width} px, ${colorScheme}`);
    await alice.screenshot(`journal-${width}-${colorScheme}`);
  }
  await bob.screenshot(`journal-${colorScheme}`);

  await alice.page.reload();
  await eventually("alice is back after a reload", () => alice.isLive());
  for (const id of [before, ...kept]) {
    await eventually("nothing of it is lost", () => looksPending(alice, id));
  }
  await eventually("and she is told why", () => banner(alice));

  journal.replay();
  for (const tab of both) {
    await eventually(`${tab.user}'s own are in the database`, () => tab.allPersisted("kept"));
    await eventually(`nothing is said to ${tab.user} any more`, () => noBanner(tab));
    for (const text of ["before Redis went, edited", "kept by alice", "kept by bob"]) {
      await eventually(`${tab.user} sees "${text}" once`, () => tab.hasOnce(text));
    }
    expect(`no script error in ${tab.user}'s tab`, tab.errors.length === 0, tab.errors);
    await tab.page.context().close();
  }
}

await main("journal.mjs", async (browser, options) => {
  for (const scheme of ["light", "dark"]) await run(browser, options, scheme);
});
