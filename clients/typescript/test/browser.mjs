// The client in a real browser: reloads, tabs, tokens, a cut network. Wants chromium, says so where
// it is missing and ends with 77.
//
//   node test/browser.mjs [SCENARIO]...      CUT_MS=60000 for how long the network is away

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { sleep, startGateway, until } from './gateway.mjs'
import {
  CUT_MS,
  PATIENCE_MS,
  SECRET,
  SHOTS,
  agree,
  audience,
  closePages,
  connected,
  lines,
  numbers,
  pages,
  send,
  shows,
  state,
  tokens,
} from './pages.mjs'
import { startProxy } from './proxy.mjs'

/** A gateway with a proxy in front, and how to open pages of people on it. */
async function stage(settings = { ROOMCAST_DEV: 'true' }) {
  const gateway = await startGateway({ ...settings, ROOMCAST_ALLOWED_ORIGINS: pages.origin })
  const proxy = await startProxy(gateway.port)
  const people = audience()
  return {
    gateway,
    proxy,
    context: people.context,
    open: (context, user, query = '', way = proxy) => people.open(context, user, [way], query),
    async close() {
      proxy.close()
      await gateway.stop()
      await people.close()
    },
  }
}

/** Tabs of alice, one opened after the other, so that the first has the socket. */
async function tabs(on, count) {
  const context = await on.context()
  const all = []
  while (all.length < count) {
    all.push(await on.open(context, 'alice'))
    await connected(all.at(-1))
  }
  return all
}

const scenarios = {
  async 'a reload with a full outbox'() {
    const on = await stage()
    const page = await on.open(await on.context(), 'alice')
    await connected(page)
    on.proxy.mode = 'refuse'
    on.proxy.cut()
    const texts = numbers(200)
    await send(page, ...texts)
    await page.screenshot({ path: join(SHOTS, 'offline.png') })
    await page.reload()
    let shown
    await until(
      () => `all 200 are shown as sending, not ${shown.length}: ${shown.slice(-3)}`,
      async () => {
        shown = await lines(page)
        return shown.length === 200
      },
      PATIENCE_MS,
    )
    assert.deepEqual(
      await lines(page),
      texts.map((text) => `${text}:sending`),
    )
    await send(page, 'last')
    on.proxy.mode = 'through'
    await shows(page, [...texts, 'last'])
    await page.reload()
    await until(
      'nothing is on offer any more',
      async () => (await page.evaluate(() => window.client.snapshot().pendingCount)) === 0,
      PATIENCE_MS,
    )
    await on.close()
  },

  async 'a tab that is closed leaves its outbox to the next'() {
    const on = await stage()
    const context = await on.context()
    const page = await on.open(context, 'alice')
    await connected(page)
    on.proxy.mode = 'refuse'
    on.proxy.cut()
    await send(page, 'one', 'two')
    await page.evaluate(() =>
      window.client
        .room('lobby')
        .edit(window.client.room('lobby').snapshot().messages[1].id, 'two!'),
    )
    await sleep(100)
    await page.close()
    on.proxy.mode = 'through'
    const next = await on.open(context, 'alice')
    await shows(next, ['one', 'two!'])
    await on.close()
  },

  async 'a tab that is closed leaves its outbox to one that is open'() {
    const on = await stage()
    const context = await on.context()
    const first = await on.open(context, 'alice')
    await connected(first)
    on.proxy.mode = 'refuse'
    on.proxy.cut()
    await send(first, 'one', 'two')
    await first.screenshot({ path: join(SHOTS, 'left-behind.png') })
    const second = await on.open(context, 'alice')
    await until('the second would connect', async () => (await state(second)) !== 'idle')
    await second.screenshot({ path: join(SHOTS, 'not-yet.png') })
    assert.deepEqual(await lines(second), [], 'they are the first tab\'s as long as it lives')
    await first.close()
    // Without a connection, which would have it look for what was left behind anyhow.
    await until('the second has them', async () => (await lines(second)).length === 2)
    assert.deepEqual(await lines(second), ['one:sending', 'two:sending'])
    on.proxy.mode = 'through'
    await shows(second, ['one', 'two'])
    await on.close()
  },

  async 'what waits in a tab that is closed is sent by the one that is connected'() {
    // 20 of the development mode's go at once.
    const on = await stage({
      ROOMCAST_DEV: 'true',
      WEBSOCKET_RATE_LIMIT_MESSAGE_SEND: '1',
      ROOMCAST_RATE_WINDOW_MESSAGE_SEND_MS: '3000',
    })
    const [first, second] = await tabs(on, 2)
    const texts = numbers(30)
    await send(second, ...texts)
    await until('most are there', async () => (await lines(first)).length === 20)
    await second.close()
    await shows(first, texts)
    await on.close()
  },

  async 'tabs of one person share a socket, and another takes over'() {
    const on = await stage()
    const [first, second, third] = await tabs(on, 3)
    const sockets = () => on.proxy.count
    assert.equal(sockets(), 1)
    const stranger = await on.open(await on.context(), 'bob', '&alone')
    await connected(stranger)
    await send(second, 'from the second')
    await shows(first, ['from the second'])
    await shows(third, ['from the second'])
    await first.screenshot({ path: join(SHOTS, 'chat.png') })
    // What is under way when the first goes is not lost, and nothing stands twice.
    const texts = numbers(30)
    await send(second, ...texts)
    await first.close()
    const began = Date.now()
    await connected(second)
    const tookMs = Date.now() - began
    await shows(second, ['from the second', ...texts])
    await shows(stranger, ['from the second', ...texts])
    await shows(third, ['from the second', ...texts])
    assert.equal(sockets(), 2)
    console.log(`  taken over within ${tookMs} ms`)
    assert.ok(tookMs < 1000, `${tookMs} ms`)
    // A tab that only follows leaves no trace but what it had on offer.
    await third.close()
    await send(second, 'still there')
    await shows(stranger, ['from the second', ...texts, 'still there'])
    await on.close()
  },

  async 'a tab that stands still loses the lead'() {
    const on = await stage()
    const [first, second] = await tabs(on, 2)
    // Never comes back to its events until the test lets it.
    const stuck = first.evaluate(() => {
      const end = Date.now() + 15_000
      while (Date.now() < end) {
        /* It computes. */
      }
    })
    await sleep(200)
    await send(second, 'is anybody there?')
    await shows(second, ['is anybody there?'], 14_000)
    await stuck
    await connected(first)
    await shows(first, ['is anybody there?'])
    await on.close()
  },

  async 'a token is replaced before it expires, and after'() {
    const on = await stage({ ROOMCAST_JWT_SECRET: SECRET })
    tokens.lifeMs = 3000
    tokens.given = 0
    const page = await on.open(await on.context(), 'alice', '&token&alone')
    await connected(page)
    await page.evaluate(() => {
      window.states = []
      window.client.subscribe(() => window.states.push(window.client.state))
    })
    await sleep(6000)
    assert.ok(tokens.given >= 3, `${tokens.given} tokens`)
    assert.deepEqual(
      await page.evaluate(() => window.states.filter((each) => each !== 'connected')),
      [],
    )
    await send(page, 'still here')
    await shows(page, ['still here'])
    // It expires while nobody can be reached, as on a laptop that sleeps.
    on.proxy.swallow()
    await sleep(3500)
    on.proxy.cut()
    await connected(page)
    await send(page, 'and here')
    await shows(page, ['still here', 'and here'])
    tokens.isBad = true
    on.proxy.cut()
    const said = () => page.evaluate(() => JSON.stringify(window.client.snapshot()))
    let last
    await until(
      () => `unauthorized: ${last}`,
      async () => {
        last = await said()
        return (await state(page)) === 'unauthorized'
      },
    )
    tokens.isBad = false
    await page.evaluate(() => window.client.reauthenticate())
    await connected(page)
    tokens.lifeMs = 3600_000
    await on.close()
  },

  async 'the network is cut in mid-conversation, and a gateway killed'() {
    const on = await stage()
    const other = await startProxy(on.gateway.port)
    const alice = await on.open(await on.context(), 'alice')
    const bob = await on.open(await on.context(), 'bob', '', other)
    await Promise.all([connected(alice), connected(bob)])
    await bob.fill('[aria-label=Message]', 'typing')
    await alice.waitForSelector('text=bob …')
    await alice.screenshot({ path: join(SHOTS, 'typing.png') })
    // Half-open: nobody is told, and what is said meanwhile goes nowhere.
    on.proxy.swallow()
    on.proxy.mode = 'swallow'
    await send(alice, ...numbers(5, 'a'))
    await send(bob, ...numbers(5, 'b'))
    await sleep(CUT_MS)
    await send(alice, 'a5')
    on.proxy.mode = 'through'
    await agree([alice, bob], 11)
    await on.gateway.kill()
    await send(alice, 'a6')
    await send(bob, 'b5')
    await sleep(500)
    await alice.screenshot({ path: join(SHOTS, 'reconnecting.png') })
    await on.gateway.start()
    await agree([alice, bob], 13)
    let here
    await until(
      () => `both are there, not only ${here}`,
      async () => {
        here = await alice.evaluate(() =>
          Object.keys(window.client.room('lobby').snapshot().presence),
        )
        return here.length === 2
      },
    )
    await bob.fill('[aria-label=Message]', '/ask the time')
    await bob.keyboard.press('Enter')
    await alice.waitForSelector('li.streaming')
    await alice.screenshot({ path: join(SHOTS, 'streaming.png') })
    await agree([alice, bob], 15)
    other.close()
    await on.close()
  },
}

const asked = process.argv.slice(2)
let failed = 0
for (const [name, scenario] of Object.entries(scenarios)) {
  if (asked.length && !asked.some((word) => name.includes(word))) continue
  const began = Date.now()
  try {
    await scenario()
    console.log(`passed: ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)`)
  } catch (error) {
    failed++
    console.log(`FAILED: ${name}:`, error)
  }
}
await closePages()
process.exit(failed ? 1 : 0)
