// Three people on a cluster of two gateways that are killed one after the other, while the worker
// that fills the database stands still for a moment: every message once, in order, and persisted.
//
// Wants the programs `fleet`, `gateway` and `sync-worker`, Redis and Postgres; ends with 77
// without.

import assert from 'node:assert/strict'
import WebSocket from 'ws'
import { createClient } from '../dist/index.js'
import { needPrograms, startFleet } from './cluster.mjs'
import { sleep, until } from './gateway.mjs'

const MESSAGES = 40
const PEOPLE = ['alice', 'bob', 'carol']

needPrograms()
const fleet = await startFleet('--gateways', '2', '--workers', '1')
const { tell } = fleet

let failed = 0
try {
  const urls = fleet.addresses('gateway')
  assert.equal(urls.length, 2)
  const clients = PEOPLE.map((user, at) =>
    createClient({
      url: at % 2 ? urls : [...urls].reverse(),
      user,
      WebSocket,
    }),
  )
  const rooms = clients.map((client) => client.room('lobby'))
  rooms.forEach((room) => room.join())
  await until('all are there', () => rooms.every((room) => room.snapshot().presenceCount === 3))
  const settled = []
  const sending = rooms.map(async (room, who) => {
    for (let n = 0; n < MESSAGES; n++) {
      settled.push(room.send(`${PEOPLE[who]} ${n}`).settled)
      await sleep(Math.random() * 300)
    }
  })
  await sleep(500)
  tell('stop', 'worker', '1')
  await until('something waits for the database', () =>
    rooms.some((room) => room.snapshot().messages.some(({ state }) => state === 'sent')),
  )
  tell('kill', 'gateway', '1')
  await sleep(1500)
  tell('cont', 'worker', '1')
  tell('start', 'gateway', '1')
  await sleep(1000)
  tell('kill', 'gateway', '2')
  await sleep(1000)
  tell('start', 'gateway', '2')
  await Promise.all(sending)
  const seen = () =>
    JSON.stringify(
      clients.map((client, at) => [
        client.state,
        client.snapshot().pendingCount,
        rooms[at].snapshot().messages.length,
      ]),
    )
  await until(
    () => `all stands: ${seen()}`,
    () =>
      clients.every(
        (client, at) =>
          client.snapshot().pendingCount === 0 &&
          rooms[at].snapshot().messages.length === PEOPLE.length * MESSAGES,
      ),
    60_000,
  )
  const [first, ...others] = rooms.map((room) =>
    room.snapshot().messages.map(({ content }) => content),
  )
  for (const other of others) assert.deepEqual(other, first)
  for (const person of PEOPLE) {
    const own = first.filter((content) => content.startsWith(person))
    assert.deepEqual(
      own,
      Array.from({ length: MESSAGES }, (_, n) => `${person} ${n}`),
    )
  }
  for (const { state } of await Promise.all(settled)) assert.equal(state, 'persisted')
  for (const client of clients) client.close()
  console.log(`passed: ${first.length} messages, once each, in one order`)
} catch (error) {
  failed = 1
  console.log('FAILED:', error)
}
await fleet.stop()
process.exit(failed)
