// When the client comes back, when it stays away, and how it notices that a connection is dead.

import assert from 'node:assert/strict'
import test from 'node:test'
import { fake, inLobby } from './fake.mjs'
import { sleep, until } from './gateway.mjs'

test('idle, connecting, connected, reconnecting, closed', async () => {
  const { server, client } = fake()
  const states = []
  client.subscribe(() => {
    if (client.state !== states.at(-1)) states.push(client.state)
  })
  assert.equal(client.state, 'idle')
  client.connect()
  await until('connected', () => client.state === 'connected')
  server.close(1006)
  assert.equal(client.state, 'reconnecting')
  assert.ok(client.snapshot().reconnectAt <= Date.now() + 1000)
  await until('back', () => client.state === 'connected')
  client.close()
  assert.equal(client.state, 'closed')
  await sleep(0)
  assert.deepEqual(states, ['connecting', 'connected', 'reconnecting', 'connected', 'closed'])
  client.connect()
  await until('again', () => client.state === 'connected')
  client.close()
})

test('addresses are tried in turn', async () => {
  const { server, client } = fake({}, { url: ['https://a.example', 'wss://b.example/path'] })
  client.connect()
  await until('connected', () => client.state === 'connected')
  server.close(1006)
  await until('back', () => server.sockets.length === 2)
  assert.deepEqual(
    server.sockets.map(({ url }) => url),
    ['wss://a.example/ws?user=alice', 'wss://b.example/path?user=alice'],
  )
  client.close()
})

test('reconnect says when to come back', async () => {
  const { server, client } = fake()
  client.connect()
  await until('connected', () => client.state === 'connected')
  server.tell('reconnect', { afterMs: 300 })
  const at = Date.now()
  server.close(1012, 'restart')
  await until('back', () => server.sockets.length === 2)
  assert.ok(Date.now() - at >= 290 && Date.now() - at < 600, `${Date.now() - at} ms`)
  client.close()
})

test('a code that says to stay away ends it, and connect() begins anew', async () => {
  for (const code of [4403, 4409, 1002, 1003, 1007]) {
    const { server, client } = fake()
    client.connect()
    await until('connected', () => client.state === 'connected')
    server.close(code, 'why')
    assert.equal(client.state, 'closed')
    assert.equal(client.snapshot().error.closeCode, code)
    client.connect()
    await until('again', () => client.state === 'connected')
    client.close()
  }
})

test('codes that ask to come back', async () => {
  for (const code of [1000, 1006, 1008, 1009, 1011, 1012, 1013, 4008, 4030]) {
    const { server, client } = fake()
    client.connect()
    await until('connected', () => client.state === 'connected')
    server.close(code)
    assert.equal(client.state, 'reconnecting', `${code}`)
    client.close()
  }
})

test('who is blocked stays away for as long as was said', async () => {
  const { server, client } = fake({
    'credits:get': () => {
      throw { code: 'blocked', retryAfterMs: 9000 }
    },
  })
  client.connect()
  await until('connected', () => client.state === 'connected')
  await assert.rejects(client.request('credits:get', undefined), { code: 'blocked' })
  server.close(4429)
  const inMs = client.snapshot().reconnectAt - Date.now()
  assert.ok(inMs > 8000 && inMs <= 9000, `${inMs} ms`)
  assert.equal(client.snapshot().error.code, 'blocked')
  client.close()
})

test('three tokens that are refused in a row are enough', async () => {
  let asked = 0
  const { server, client } = fake(
    {
      auth: (_, socket) => {
        setTimeout(() => socket.onclose?.({ code: 4401, reason: '' }))
        throw { code: 'unauthenticated' }
      },
    },
    { quiet: true, user: undefined, getToken: () => `token ${++asked}` },
  )
  client.connect()
  await until('unauthorized', () => client.state === 'unauthorized')
  assert.equal(asked, 3)
  assert.deepEqual(
    server.of('auth').map(({ data }) => data.token),
    ['token 1', 'token 2', 'token 3'],
  )
  assert.equal(client.snapshot().error.code, 'unauthenticated')
  client.reauthenticate()
  await until('asked again', () => asked > 3)
  client.close()
})

test('a token is replaced before it expires', async () => {
  let asked = 0
  const expiresAt = () => new Date(Date.now() + 500).toISOString()
  const { server, client } = fake(
    {
      auth: (_, socket) => {
        if (asked === 1) setTimeout(() => socket.welcome())
        return { expiresAt: asked === 1 ? expiresAt() : undefined }
      },
    },
    { quiet: true, user: undefined, getToken: async () => `token ${++asked}` },
  )
  client.connect()
  await until('connected', () => client.state === 'connected')
  await until('a second one', () => server.of('auth').length === 2, 2000)
  assert.equal(server.sockets.length, 1)
  assert.equal(client.state, 'connected')
  client.close()
})

test('a ticket goes into the address, and one that cannot be had is asked for again', async () => {
  let asked = 0
  const getTicket = async () => {
    if (++asked === 1) throw new Error('no network')
    return `rct_${asked}`
  }
  const { server, client } = fake({}, { user: undefined, getTicket })
  client.connect()
  await until('it failed', () => client.snapshot().error?.code === 'token_failed')
  await until('connected', () => client.state === 'connected')
  assert.equal(server.sockets.length, 1)
  assert.equal(server.socket.url, 'ws://fake/ws?ticket=rct_2')
  client.close()
})

test('a half-open socket is found out within 10 s by whoever asks something', async () => {
  let isDeaf = false
  const { server, client, room } = await inLobby({
    heartbeat: () => (isDeaf ? null : { heads: {} }),
    'message:send': ({ id }) =>
      isDeaf
        ? null
        : {
            id,
            position: { epoch: 1, seq: 1 },
            persisted: true,
            duplicate: false,
            durability: 'store',
          },
  })
  isDeaf = true
  const began = Date.now()
  const { settled } = room.send('hello?')
  await until('given up', () => client.state === 'reconnecting', 10_000)
  const tookMs = Date.now() - began
  isDeaf = false
  assert.equal((await settled).state, 'persisted')
  assert.ok(server.of('heartbeat').length >= 1)
  assert.ok(tookMs < 10_000, `${tookMs} ms`)
  client.close()
})

test('a machine that slept asks at once whether the connection lives', async (t) => {
  const { server, client } = await inLobby({ heartbeat: () => null })
  const { now } = Date
  t.after(() => {
    Date.now = now
  })
  // The clock jumps, as it does over a sleep; timers go on.
  Date.now = () => now() + 3_600_000
  await until('asked', () => server.of('heartbeat').length === 1, 3000)
  const began = now()
  await until('given up', () => client.state === 'reconnecting', 10_000)
  assert.ok(now() - began < 8000)
  client.close()
})
