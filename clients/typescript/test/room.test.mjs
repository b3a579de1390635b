// A room, told by a server that says what the test wants.

import assert from 'node:assert/strict'
import test from 'node:test'
import { RoomcastError } from '../dist/index.js'
import { at, fake, inLobby, joined, message } from './fake.mjs'
import { sleep, until } from './gateway.mjs'

const sent =
  (seq, more = {}) =>
  ({ id }) => ({
    id,
    position: at(seq),
    duplicate: false,
    persisted: true,
    durability: 'store',
    ...more,
  })

test('a message is shown at once, and settled when it is persisted', async () => {
  let seq = 0
  const { room, client, server } = await inLobby({
    'message:send': ({ id }) => sent(++seq, { persisted: false, durability: 'log' })({ id }),
  })
  const { id, settled } = room.send('hello', { metadata: { a: 1 } })
  const [shown] = room.snapshot().messages
  assert.equal(shown.state, 'sending')
  assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  assert.equal(client.snapshot().pendingCount, 1)
  await until('sent', () => room.snapshot().messages[0].state === 'sent')
  server.tell('message:persisted', { roomId: 'lobby', upTo: at(1), ids: [id] })
  assert.equal((await settled).state, 'persisted')
  assert.equal(client.snapshot().pendingCount, 0)
  client.close()
})

test('what has no answer is offered again, in order, under the same ids', async () => {
  let isDeaf = true
  let seq = 0
  const { room, client, server } = await inLobby({
    'message:send': ({ id }) => (isDeaf ? null : sent(++seq)({ id })),
  })
  const ids = ['one', 'two', 'three'].map((text) => room.send(text).id)
  await until('the first was offered', () => server.of('message:send').length === 1)
  isDeaf = false
  server.close(1006)
  await until('all stand', () =>
    room.snapshot().messages.every(({ state }) => state === 'persisted'),
  )
  const offered = server.of('message:send').map(({ data }) => data.id)
  assert.deepEqual(offered, [ids[0], ...ids])
  client.close()
})

test('a message is settled by its id alone, and shown until it stands', async () => {
  const { room, client, server } = await inLobby({ 'message:send': () => null })
  const { id, settled } = room.send('hello')
  await until('it is offered', () => server.of('message:send').length === 1)
  server.tell('message:persisted', { roomId: 'lobby', upTo: at(9), ids: ['another'] })
  server.tell('message:persisted', { roomId: 'lobby', upTo: at(5), ids: [id] })
  assert.equal(room.snapshot().messages[0].state, 'sending')
  assert.equal(client.snapshot().pendingCount, 1)
  server.tell('message:new', message(5, { id, userId: 'alice', content: 'hello' }))
  assert.equal((await settled).state, 'persisted')
  assert.equal(room.snapshot().messages.length, 1)
  assert.equal(client.snapshot().pendingCount, 0)
  client.close()
})

test('a final refusal fails a message; retry and discard are the ways out', async () => {
  let refusal = { code: 'insufficient_credits' }
  const { room, client, server } = await inLobby({
    'message:send': ({ id }) => {
      if (refusal) throw refusal
      return sent(1)({ id })
    },
  })
  const first = room.send('one')
  const failed = await first.settled
  assert.equal(failed.state, 'failed')
  assert.ok(failed.error instanceof RoomcastError)
  assert.equal(failed.error.code, 'insufficient_credits')
  assert.equal(client.snapshot().pendingCount, 0)
  refusal = null
  room.retry(first.id)
  await until('it stands', () => room.snapshot().messages[0].state === 'persisted')
  assert.equal(server.of('message:send')[1].data.id, first.id)
  refusal = { code: 'conflict' }
  const second = room.send('two')
  await second.settled
  room.retry(second.id)
  await until('offered again', () => server.of('message:send').length === 4)
  assert.notEqual(server.of('message:send')[3].data.id, second.id, 'a conflict needs a new id')
  await sleep(5)
  room.discard(room.snapshot().messages[1].id)
  assert.equal(room.snapshot().messages.length, 1)
  client.close()
})

test('whoever is too fast waits, and nothing is overtaken', async () => {
  let isBusy = true
  let seq = 0
  const { room, client, server } = await inLobby({
    'message:send': ({ id, content }) => {
      if (content === 'one' && isBusy) {
        isBusy = false
        throw { code: 'rate_limited', retryAfterMs: 60 }
      }
      return sent(++seq)({ id })
    },
  })
  room.send('one')
  room.send('two')
  await until('both stand', () => room.snapshot().messages.every(({ position }) => position))
  assert.deepEqual(
    server.of('message:send').map(({ data }) => data.content),
    ['one', 'one', 'two'],
  )
  client.close()
})

test('an id from a clock that is ahead is made anew by the time of the server', async () => {
  const serverTime = '2020-01-01T00:00:00.000Z'
  const { room, client, server } = await inLobby({
    'message:send': ({ id }) => {
      if (parseInt(id.replace('-', '').slice(0, 12), 16) > Date.parse(serverTime) + 60_000) {
        throw { code: 'bad_id', field: 'id', serverTime }
      }
      return sent(1)({ id })
    },
  })
  const { settled } = room.send('hello')
  assert.equal((await settled).state, 'persisted')
  assert.equal(server.of('message:send').length, 2)
  client.close()
})

test('a full outbox and a text that is too long are refused before anything is taken', async () => {
  const { room, client } = await inLobby({}, { outbox: { maxMessages: 2, maxBytes: 10_000 } })
  room.send('one')
  assert.throws(() => room.send('x'.repeat(10_001)), { code: 'outbox_full', limit: 10_000 })
  assert.throws(() => room.send('x'.repeat(262_145)), { code: 'too_large', field: 'content' })
  room.send('two')
  assert.throws(() => room.send('three'), { name: 'RoomcastError', code: 'outbox_full', limit: 2 })
  assert.equal(room.snapshot().messages.length, 2)
  client.close()
})

test('a cursor resumes; edits move it; what was told is not told twice', async () => {
  const { room, client, server, contents } = await inLobby({
    'room:join': ({ since }) =>
      since
        ? joined({ recovered: true, messages: [message(3)], head: at(3) })
        : joined({ messages: [message(1)], head: at(1) }),
  })
  server.tell('message:update', {
    roomId: 'lobby',
    id: 'm1',
    userId: 'bob',
    changeId: 'c1',
    content: 'edited',
    position: at(2),
    editedAt: '2026-11-22T17:05:00.000Z',
  })
  server.close(1006)
  await until(
    'back',
    () => server.of('room:join').length === 2 && room.snapshot().status === 'live',
  )
  assert.deepEqual(server.of('room:join')[1].data.since, { ...at(2), messageId: 'c1' })
  assert.deepEqual(contents(), ['edited', 'text 3'])
  server.tell('message:new', message(3))
  server.tell('message:new', message(1, { content: 'old' }))
  assert.deepEqual(contents(), ['edited', 'text 3'])
  client.close()
})

test('a reset, in a reply or as an event, forgets what was there', async () => {
  let page = [message(1)]
  const { room, client, server, contents } = await inLobby({
    'room:join': ({ since }) => joined({ reset: Boolean(since), messages: page, head: at(1) }),
  })
  page = [message(7)]
  server.tell('room:error', { roomId: 'lobby', code: 'reset', message: 'join anew' })
  await until('joined anew', () => contents()[0] === 'text 7')
  assert.equal(server.of('room:join')[1].data.since, undefined)
  page = [message(9, { position: at(9, 2) })]
  server.close(1006)
  await until('forgotten', () => contents()[0] === 'text 9')
  assert.equal(contents().length, 1)
  client.close()
})

test('what was deleted stays deleted, and a later change counts', async () => {
  const { room, client, server } = await inLobby({
    'room:join': () => joined({ messages: [message(1)], head: at(1) }),
  })
  const change = { roomId: 'lobby', id: 'm1', userId: 'bob' }
  server.tell('message:delete', { ...change, changeId: 'c1', position: at(2), deletedAt: 'now' })
  server.tell('message:update', { ...change, changeId: 'c2', position: at(3), content: 'back' })
  const [deleted] = room.snapshot().messages
  assert.equal(deleted.content, '')
  assert.equal(deleted.deletedAt, 'now')
  client.close()
})

test('a replay of something older than what is loaded makes no hole', async () => {
  const { room, client, server, contents } = await inLobby({
    'room:join': () =>
      joined({ messages: [message(50), message(51)], head: at(51), hasMore: true }),
    'history:get': () => ({ messages: [message(48), message(49)], hasMore: true }),
  })
  server.tell('message:new', message(20, { changedPosition: at(52), editedAt: 'x' }))
  assert.deepEqual(contents(), ['text 50', 'text 51'])
  assert.equal(await room.loadOlder(), true)
  assert.deepEqual(server.of('history:get')[0].data.before, at(50))
  assert.deepEqual(contents(), ['text 48', 'text 49', 'text 50', 'text 51'])
  client.close()
})

test("a message that the database refused is taken away, one of one's own fails", async () => {
  const { room, client, server } = await inLobby({
    'message:send': sent(2, { persisted: false, durability: 'log' }),
    'room:join': () => joined({ messages: [message(1)], head: at(1) }),
  })
  const { id, settled } = room.send('mine')
  await until('sent', () => room.snapshot().messages[1].state === 'sent')
  server.tell('message:rejected', { roomId: 'lobby', id: 'm1', userId: 'bob' })
  server.tell('message:rejected', { roomId: 'lobby', id, userId: 'alice' })
  server.tell('message:rejected', {
    roomId: 'lobby',
    id,
    userId: 'alice',
    error: { code: 'rejected', message: 'no' },
  })
  const [mine] = room.snapshot().messages
  assert.equal(mine.state, 'failed')
  assert.equal(mine.error.message, 'no')
  assert.equal((await settled).state, 'failed')
  client.close()
})

test('an edit is shown at once, made once, and offered again', async () => {
  let isDeaf = true
  const { room, client, server } = await inLobby({
    'room:join': ({ since }) =>
      joined(
        since
          ? { recovered: true, head: at(1) }
          : { messages: [message(1, { userId: 'alice' })], head: at(1) },
      ),
    'message:edit': ({ changeId }) =>
      isDeaf ? null : { changeId, position: at(2), duplicate: false },
    'message:delete': () => {
      throw { code: 'forbidden' }
    },
  })
  room.edit('m1', 'better')
  await until('offered', () => server.of('message:edit').length === 1)
  const [shown] = room.snapshot().messages
  assert.equal(shown.content, 'better')
  assert.deepEqual(shown.change, { type: 'edit', content: 'better' })
  assert.equal(room.snapshot().messages, room.snapshot().messages)
  assert.equal(client.snapshot().pendingCount, 1)
  isDeaf = false
  server.close(1006)
  await until('made', () => client.snapshot().pendingCount === 0)
  const [first, second] = server.of('message:edit')
  assert.equal(first.data.changeId, second.data.changeId)
  assert.equal(room.snapshot().messages[0].change, undefined)
  assert.equal(room.snapshot().messages[0].content, 'better')
  room.delete('m1')
  await until('refused', () => room.snapshot().messages[0].change?.error)
  assert.equal(room.snapshot().messages[0].content, 'better')
  room.discard('m1')
  assert.equal(room.snapshot().messages[0].change, undefined)
  client.close()
})

test('an edit does not take the place of a deletion that waits', async () => {
  let isBusy = true
  const { room, client, server } = await inLobby({
    'room:join': () => joined({ messages: [message(1, { userId: 'alice' })], head: at(1) }),
    'message:delete': ({ changeId }) => {
      if (!isBusy) return { changeId, position: at(2), duplicate: false }
      isBusy = false
      throw { code: 'backpressure', retryAfterMs: 50 }
    },
  })
  room.delete('m1')
  await until('it waits', () => room.snapshot().messages[0].change.waiting)
  const { deletedAt, change } = room.snapshot().messages[0]
  assert.ok(deletedAt, 'what waits is shown')
  assert.deepEqual([change.type, change.waiting.code], ['delete', 'backpressure'])
  assert.ok(change.waiting.retryAt > Date.now() - 1000)
  assert.equal(change.error, undefined)
  room.edit('m1', 'late')
  await until('deleted', () => client.snapshot().pendingCount === 0)
  assert.equal(server.of('message:edit').length, 0)
  assert.ok(room.snapshot().messages[0].deletedAt)
  client.close()
})

test('an edit never overtakes the message that it is of', async () => {
  let seq = 1
  const { room, client, server } = await inLobby({
    'room:join': () => joined({ messages: [message(1, { userId: 'alice' })], head: at(1) }),
    'message:send': ({ id }) => {
      seq++
      setTimeout(() => server.tell('message:new', message(seq, { id, userId: 'alice' })), 5)
      return sent(seq)({ id })
    },
    'message:edit': ({ changeId }) => ({ changeId, position: at(++seq), duplicate: false }),
  })
  room.edit('m1', 'first')
  const { id } = room.send('new')
  room.edit(id, 'new, edited')
  await until('all is made', () => client.snapshot().pendingCount === 0)
  const order = server.asked.filter(({ event }) => /^message/.test(event))
  const of = (event) => order.findIndex((each) => each.event === event && each.data.id === id)
  assert.ok(of('message:send') < of('message:edit'))
  client.close()
})

test('an answer grows, is cut where parts overlap, and ends as the message', async () => {
  const { room, client, server, contents } = await inLobby()
  const part = (offset, delta) =>
    server.tell('message:stream', {
      roomId: 'lobby',
      id: 's1',
      userId: 'bot',
      type: 'assistant',
      offset,
      delta,
      state: 'streaming',
    })
  part(0, 'It is ')
  await until('it is shown', () => contents()[0] === 'It is ')
  part(3, 'is noon')
  assert.equal(contents()[0], 'It is noon')
  part(40, 'lost')
  assert.equal(contents()[0], 'It is noon')
  part(0, 'It was ')
  assert.equal(contents()[0], 'It was ')
  assert.equal(room.snapshot().messages[0].state, 'streaming')
  server.tell('message:new', message(4, { id: 's1', userId: 'bot', content: 'It was noon.' }))
  part(0, 'late')
  assert.deepEqual(contents(), ['It was noon.'])
  client.close()
})

test('people, typing and receipts', async () => {
  const { room, client, server } = await inLobby({
    'room:join': () =>
      joined({
        messages: [message(1), message(2), message(3)],
        head: at(3),
        unread: 2,
        presence: { bob: { userId: 'bob', status: 'active', isActive: true } },
        presenceCount: 1,
        receipts: { alice: { userId: 'alice', position: at(1) } },
        typing: { bob: { userId: 'bob', expiresInMs: 100 } },
      }),
    'receipt:update': ({ position }) => ({ position }),
    'typing:start': () => ({}),
  })
  await until('people are known', () => room.snapshot().presenceCount === 1)
  assert.deepEqual(room.snapshot().typing, ['bob'])
  assert.equal(room.snapshot().unread, 2)
  await until('the mark ends by itself', () => room.snapshot().typing.length === 0, 1000)
  room.markRead('m2')
  room.markRead()
  room.markRead('m1')
  assert.equal(room.snapshot().unread, 0)
  await until('told', () => server.of('receipt:update').length)
  await sleep(500)
  assert.deepEqual(
    server.of('receipt:update').map(({ data }) => data.position),
    [at(3)],
  )
  room.startTyping()
  room.startTyping()
  assert.equal(server.of('typing:start').length, 1)
  server.tell('presence:update', {
    roomId: 'lobby',
    presenceCount: 0,
    userId: 'bob',
    status: 'offline',
  })
  assert.deepEqual(room.snapshot().presence, {})
  client.close()
})

test('kicked out, and refused at the door', async () => {
  const { room, client, server } = await inLobby()
  server.tell('room:error', { roomId: 'lobby', code: 'kicked', message: 'gone' })
  assert.equal(room.snapshot().status, 'kicked')
  assert.equal(room.snapshot().error.code, 'kicked')
  client.close()
  const other = fake({
    'room:join': () => {
      throw { code: 'forbidden', field: 'roomId' }
    },
  })
  const closed = other.client.room('lobby')
  const { settled } = closed.send('hello')
  assert.equal((await settled).error.code, 'forbidden')
  assert.equal(closed.snapshot().status, 'refused')
  other.client.close()
})

test('a room is left some time after its last listener, and not between two', async () => {
  const { server, client } = fake()
  const room = client.room('lobby')
  const first = room.subscribe(() => {})
  await until('in it', () => room.snapshot().status === 'live')
  first()
  const second = room.subscribe(() => {})
  await sleep(1200)
  assert.equal(room.snapshot().status, 'live')
  second()
  await until('left', () => room.snapshot().status === 'left', 3000)
  assert.equal(server.of('room:leave').length, 1)
  client.close()
})

test('snapshots are the same objects until something in them changes', async () => {
  const { room, client, server } = await inLobby()
  await until('people are known', () => server.of('room:join').length === 1)
  await sleep(20)
  const before = room.snapshot()
  assert.equal(room.snapshot(), before)
  server.tell('typing:start', { roomId: 'lobby', userId: 'bob', expiresInMs: 5000 })
  const after = room.snapshot()
  assert.notEqual(after, before)
  assert.equal(after.messages, before.messages)
  assert.equal(client.snapshot(), client.snapshot())
  client.close()
})
