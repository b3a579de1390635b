// Two people with a browser each, on two gateways of a cluster: the network of one is cut while
// both write, then a gateway is killed in mid-conversation. Every message once, in one order, on
// the screen of each, and in the database.
//
// Wants what browser.mjs and fleet.mjs want; ends with 77 without.
//
//   node test/browser_fleet.mjs      CUT_MS=60000 for how long the network is away

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { needPrograms, startFleet } from './cluster.mjs'
import { until } from './gateway.mjs'
import {
  CUT_MS,
  SHOTS,
  agree,
  audience,
  closePages,
  connected,
  lines,
  numbers,
  pages,
  send,
} from './pages.mjs'
import { startProxy } from './proxy.mjs'

/** Longer than a try that gets no answer and the longest pause after it, once for each address. */
const RETURN_MS = 100_000

needPrograms()
const fleet = await startFleet(
  ...['--gateways', '2', '--workers', '1'],
  ...['--gateway-env', `ROOMCAST_ALLOWED_ORIGINS=${pages.origin}`],
)

/** One person's own ways to both gateways, so that a network can be cut alone. */
const ports = fleet.addresses('gateway').map((url) => Number(new URL(url).port))
const network = () => Promise.all(ports.map((port) => startProxy(port)))

/** Writes one message after the other, and goes on while the page is looked at. */
const write = (page, texts, everyMs) =>
  page.evaluate(
    async ([texts, everyMs]) => {
      for (const text of texts) {
        window.client.room('lobby').send(text)
        await new Promise((done) => setTimeout(done, everyMs))
      }
    },
    [texts, everyMs],
  )

/** What a person sees: who wrote what, message by message. */
const screen = (page) =>
  page.$$eval('ol li', (rows) =>
    rows.map((row) => `${row.querySelector('b').textContent} ${row.childNodes[2].textContent}`),
  )

async function conversation(people) {
  const ways = { alice: await network(), bob: await network() }
  const alice = await people.open(await people.context(), 'alice', ways.alice)
  const bob = await people.open(await people.context(), 'bob', [...ways.bob].reverse())
  const both = [alice, bob]
  await Promise.all(both.map(connected))
  const used = () => [...ways.alice, ...ways.bob].map(({ count }) => count)
  assert.deepEqual(used(), [1, 0, 0, 1], 'each is on a gateway of their own')
  await send(alice, 'a: hello')
  await send(bob, 'b: hello')
  await agree(both, 2)

  // Half-open: nobody is told, and what alice says goes nowhere.
  for (const way of ways.alice) {
    way.swallow()
    way.mode = 'swallow'
  }
  const pauseMs = CUT_MS / 8
  await Promise.all([
    write(alice, numbers(8, 'a: cut '), pauseMs),
    write(bob, numbers(8, 'b: cut '), pauseMs),
  ])
  assert.equal((await lines(alice)).filter((line) => line.endsWith(':sending')).length, 8)
  await alice.screenshot({ path: join(SHOTS, 'cut.png') })
  // Back to the gateway that is killed next: her way to the other one opens later.
  const [first, second] = ways.alice
  second.mode = 'refuse'
  second.cut()
  first.mode = 'through'
  await agree(both, 18, RETURN_MS)
  second.mode = 'through'
  assert.deepEqual(used(), [1, 0, 0, 1], 'alice is on the first gateway again')

  const writing = Promise.all([
    write(alice, numbers(15, 'a: kill '), 20),
    write(bob, numbers(15, 'b: kill '), 20),
  ])
  await until('some of them are under way', async () => {
    const now = await lines(alice)
    return now.length > 20 && now.some((line) => line.endsWith(':sending'))
  })
  fleet.tell('kill', 'gateway', '1')
  await writing
  const all = await agree(both, 48, RETURN_MS)
  assert.deepEqual(used(), [0, 1, 0, 1], 'both are on the second gateway')
  for (const word of ['a', 'b']) {
    const own = all.filter((text) => text.startsWith(word))
    const [cut, kill] = [numbers(8, `${word}: cut `), numbers(15, `${word}: kill `)]
    assert.deepEqual(own, [`${word}: hello`, ...cut, ...kill], 'in the order of writing')
  }
  const seen = await screen(alice)
  assert.deepEqual(
    seen.map((row) => row.replace(/^\w+ /, '')),
    all,
  )
  assert.deepEqual(await screen(bob), seen)
  // Whoever comes later reads what the cluster has kept.
  const carol = await people.open(await people.context(), 'carol', [ways.bob[1]])
  assert.deepEqual(await agree([carol], 48), all)
  await alice.screenshot({ path: join(SHOTS, 'killed.png') })
  for (const way of [...ways.alice, ...ways.bob]) way.close()
}

let failed = 0
const people = audience()
const began = Date.now()
try {
  await conversation(people)
  await people.close()
  const tookS = ((Date.now() - began) / 1000).toFixed(1)
  console.log(`passed: 48 messages on two gateways, cut for ${CUT_MS} ms (${tookS} s)`)
} catch (error) {
  failed = 1
  console.log('FAILED:', error)
}
await closePages()
await fleet.stop()
process.exit(failed)
