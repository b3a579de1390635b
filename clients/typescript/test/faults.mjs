// Random faults between clients and a gateway: every message once, in order, nothing lost.
//
//   RUNS=10 SEED=… node test/faults.mjs
//
// Each run has a gateway and a proxy of its own, three people who write, edit and delete, and a
// plan of faults that its seed decides: connections cut, half-open or slow, newcomers refused, the
// gateway killed and started again. When all is well again, everybody has to see the same.

import assert from 'node:assert/strict'
import WebSocket from 'ws'
import { createClient } from '../dist/index.js'
import { sleep, startGateway, until } from './gateway.mjs'
import { startProxy } from './proxy.mjs'

const RUNS = Number(process.env.RUNS ?? 10)
const SEED = Number(process.env.SEED ?? Math.floor(Math.random() * 1e9))
const AT_ONCE = Number(process.env.AT_ONCE ?? 10)
const PEOPLE = ['alice', 'bob', 'carol']
const MESSAGES = 25
const FAULTS_MS = 5000

/** A small generator (mulberry32): the same numbers for the same seed. */
function randomOf(seed) {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

async function run(seed) {
  const random = randomOf(seed)
  const between = (low, high) => low + Math.floor(random() * (high - low))
  const gateway = await startGateway()
  const proxy = await startProxy(gateway.port)
  const faults = {
    cut: () => proxy.cut(() => random() < 0.7),
    swallow: async () => {
      proxy.swallow(() => random() < 0.5)
      // Most break soon after; who only writes finds the others out by their silence.
      await sleep(between(100, 1500))
      if (random() < 0.7) proxy.cut()
    },
    slow: async () => {
      proxy.delayMs = between(20, 400)
      await sleep(between(100, 800))
      proxy.delayMs = 0
    },
    refuse: async () => {
      proxy.mode = 'refuse'
      proxy.cut()
      await sleep(between(100, 1200))
      proxy.mode = 'through'
    },
    kill: async () => {
      await gateway.kill()
      await sleep(between(0, 500))
      await gateway.start()
    },
  }
  const clients = PEOPLE.map((user) => createClient({ url: proxy.url, user, WebSocket }))
  const rooms = clients.map((client) => client.room('lobby'))
  rooms.forEach((room) => room.join())
  const said = PEOPLE.map(() => [])
  const settled = []
  const expected = new Map()
  const happened = []

  const chaos = (async () => {
    const end = Date.now() + FAULTS_MS
    while (Date.now() < end) {
      await sleep(between(50, 700))
      const name = Object.keys(faults)[between(0, 5)]
      happened.push(name)
      await faults[name]()
    }
  })()
  const writing = rooms.map(async (room, who) => {
    for (let n = 0; n < MESSAGES; n++) {
      await sleep((random() * 2 * FAULTS_MS) / MESSAGES)
      const content = `${PEOPLE[who]} ${n}`
      const sent = room.send(content)
      said[who].push(sent.id)
      settled.push(sent.settled)
      expected.set(sent.id, content)
      const own = said[who][between(0, said[who].length)]
      const chance = random()
      if (chance < 0.1) {
        room.edit(own, `${content} edited`)
        if (expected.get(own) !== null) expected.set(own, `${content} edited`)
      } else if (chance < 0.14) {
        room.delete(own)
        expected.set(own, null)
      }
    }
  })
  await Promise.all([chaos, ...writing])
  proxy.mode = 'through'
  proxy.delayMs = 0

  const late = createClient({ url: gateway.url, user: 'dave', WebSocket })
  try {
    const total = PEOPLE.length * MESSAGES
    const places = (messages) =>
      messages.map(({ position: at }) => (at ? `${at.epoch}/${at.seq}` : '-')).join(' ')
    const state = () =>
      clients
        .map((client, at) => {
          const { status, hasOlder, messages } = rooms[at].snapshot()
          return `\n${JSON.stringify(client.snapshot())} ${status}, ${messages.length} messages, ${
            hasOlder ? 'and older' : 'the first'
          }: ${places(messages)}${loading[at]}`
        })
        .join('') + `\n${happened.join(' ')}\n${gateway.log}`
    // What came of reading older pages.
    const loading = PEOPLE.map(() => '')
    await until(
      () => `everything stands: ${state()}`,
      () =>
        clients.every((client, at) => {
          const { messages, status, hasOlder } = rooms[at].snapshot()
          // Who was away for long, or first came late, has the latest page and reads the rest.
          if (hasOlder)
            rooms[at].loadOlder().then(
              (more) => {
                loading[at] = `, last read: ${more}`
              },
              // The next look tries again.
              (error) => {
                loading[at] = `, last read: ${error.message}`
              },
            )
          return (
            client.snapshot().pendingCount === 0 && status === 'live' && messages.length === total
          )
        }),
      90_000,
    )
    const fresh = late.room('lobby')
    fresh.join()
    await until('somebody new is there', () => fresh.snapshot().status === 'live')
    while (fresh.snapshot().hasOlder) await fresh.loadOlder()
    const plain = ({ id, userId, content, position, deletedAt }) => ({
      id,
      userId,
      content,
      position,
      isDeleted: Boolean(deletedAt),
    })
    const truth = fresh.snapshot().messages.map(plain)
    assert.equal(truth.length, total, 'every message stands once')
    for (const [at, room] of rooms.entries()) {
      await until(
        () => `${PEOPLE[at]} sees what stands`,
        () => {
          try {
            assert.deepEqual(room.snapshot().messages.map(plain), truth)
            return true
          } catch (error) {
            room.differs = error
            return false
          }
        },
        10_000,
      ).catch(() => {
        throw room.differs
      })
      const own = truth.filter(({ userId }) => userId === PEOPLE[at]).map(({ id }) => id)
      assert.deepEqual(own, said[at], `${PEOPLE[at]}'s messages stand in the order of sending`)
    }
    for (const { id, content, isDeleted } of truth) {
      const wanted = expected.get(id)
      assert.equal(isDeleted ? null : content, wanted, `what ${id} says`)
    }
    for (const { state: reached } of await Promise.all(settled)) assert.equal(reached, 'persisted')
  } finally {
    for (const client of [...clients, late]) client.close()
    proxy.close()
    await gateway.stop()
  }
  return happened
}

let next = 0
let failed = 0
const began = Date.now()
console.log(`${RUNS} runs from seed ${SEED}`)
await Promise.all(
  Array.from({ length: Math.min(AT_ONCE, RUNS) }, async () => {
    while (next < RUNS) {
      const seed = SEED + next++
      try {
        await run(seed)
      } catch (error) {
        failed++
        console.log(`seed ${seed} failed (SEED=${seed} RUNS=1 node test/faults.mjs):`, error)
      }
    }
  }),
)
console.log(
  `${RUNS - failed} of ${RUNS} runs passed in ${Math.round((Date.now() - began) / 1000)} s`,
)
process.exit(failed ? 1 : 0)
