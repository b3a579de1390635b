// While Redis is away a gateway's journal keeps what is sent: shown, without a place, until it has
// one.

import assert from 'node:assert/strict'
import test from 'node:test'
import { at, inLobby, joined, message } from './fake.mjs'
import { until } from './gateway.mjs'

const journaled = ({ id }) => ({
  id,
  position: null,
  duplicate: false,
  persisted: false,
  durability: 'journal',
})

const pending = (id, fields = {}) => {
  const { position, ...rest } = message(0, { id, content: id, ...fields })
  return rest
}

const states = (room) => room.snapshot().messages.map(({ id, state }) => [id, state])

/** A client in a lobby with one message, whose server is without Redis; `since` is kept. */
const withoutRedis = (answers = {}) =>
  inLobby({
    'room:join': ({ since }) =>
      joined(
        since
          ? { recovered: true, head: at(1) }
          : { messages: [message(1, { userId: 'alice' })], head: at(1) },
      ),
    'message:send': journaled,
    'message:edit': ({ changeId }) => ({ ...journaled({}), changeId }),
    'message:delete': ({ changeId }) => ({ ...journaled({}), changeId }),
    'typing:start': () => ({}),
    ...answers,
  })

test("one's own is pending until it has a place, and on offer until it is persisted", async () => {
  const { room, client, server } = await withoutRedis()
  const { id, settled } = room.send('hello', { metadata: { a: 1 } })
  await until('it is pending', () => room.snapshot().messages[1].state === 'pending')
  const [, shown] = room.snapshot().messages
  assert.deepEqual([shown.content, shown.metadata, shown.position], ['hello', { a: 1 }, undefined])
  assert.equal(room.snapshot().journaled, 1)
  assert.equal(client.snapshot().pendingCount, 1)
  assert.equal(server.of('message:send').length, 1)
  // The server tells its members of it, the sender among them.
  server.tell('message:pending', pending(id, { userId: 'alice', content: 'hello' }))
  assert.equal(room.snapshot().messages.length, 2)
  server.tell('message:new', message(2, { id, userId: 'alice', content: 'hello' }))
  assert.deepEqual(states(room), [
    ['m1', 'persisted'],
    [id, 'sent'],
  ])
  assert.equal(room.snapshot().journaled, 0)
  assert.equal(client.snapshot().pendingCount, 1)
  server.tell('message:persisted', { roomId: 'lobby', upTo: at(2), ids: [id] })
  assert.equal((await settled).state, 'persisted')
  assert.equal(client.snapshot().pendingCount, 0)
  client.close()
})

test('those of others stand behind the order, once each, and move no cursor', async () => {
  const { room, client, server } = await withoutRedis()
  server.tell('typing:start', { roomId: 'lobby', userId: 'bob', expiresInMs: 5000 })
  server.tell('message:pending', pending('b1'))
  server.tell('message:pending', pending('b2'))
  server.tell('message:pending', pending('b1'))
  await until('both are shown', () => room.snapshot().journaled === 2)
  assert.deepEqual(room.snapshot().typing, [], 'who has said it types no more')
  const { unread, readUpTo } = room.snapshot()
  assert.deepEqual([unread, readUpTo], [0, at(1)])
  // What has a place comes before them, and replaces what it is of.
  server.tell('message:new', message(2, { id: 'b2' }))
  assert.deepEqual(states(room), [
    ['m1', 'persisted'],
    ['b2', 'persisted'],
    ['b1', 'pending'],
  ])
  // The two may cross: what has a place keeps it.
  server.tell('message:pending', pending('b2'))
  assert.equal(room.snapshot().journaled, 1)
  assert.equal(room.snapshot().messages[1].position.seq, 2)
  server.close(1006)
  await until('back', () => server.of('room:join').length === 2)
  assert.deepEqual(server.of('room:join')[1].data.since, { ...at(2), messageId: 'b2' })
  client.close()
})

test('two people may have chosen one id: each message is pending by itself', async () => {
  const { room, client, server } = await withoutRedis()
  server.tell('message:pending', pending('x'))
  server.tell('message:pending', pending('x', { userId: 'carol' }))
  await until('both are shown', () => room.snapshot().journaled === 2)
  server.tell('message:new', message(2, { id: 'x', userId: 'carol' }))
  assert.deepEqual(
    room.snapshot().messages.map(({ userId, state }) => [userId, state]),
    [
      ['alice', 'persisted'],
      ['carol', 'persisted'],
      ['bob', 'pending'],
    ],
  )
  client.close()
})

test('what is refused in the end is taken away, and fails with its sender', async () => {
  const { room, client, server } = await withoutRedis()
  const { id, settled } = room.send('mine')
  server.tell('message:pending', pending('b1'))
  await until('both are pending', () => room.snapshot().journaled === 2)
  room.discard(id)
  assert.equal(room.snapshot().journaled, 2, 'what a journal has cannot be thrown away')
  server.tell('message:rejected', { roomId: 'lobby', id: 'b1', userId: 'bob' })
  const error = { code: 'rejected', message: 'no' }
  server.tell('message:rejected', { roomId: 'lobby', id, userId: 'alice', error })
  assert.equal((await settled).state, 'failed')
  assert.deepEqual(states(room), [
    ['m1', 'persisted'],
    [id, 'failed'],
  ])
  assert.equal(room.snapshot().journaled, 0)
  room.retry(id)
  await until('it is offered again, and journaled', () => room.snapshot().journaled === 1)
  const [, again] = server.of('message:send')
  assert.notEqual(again.data.id, id)
  const second = { roomId: 'lobby', id: again.data.id, userId: 'alice', error }
  server.tell('message:rejected', second)
  room.discard(second.id)
  assert.deepEqual(states(room), [['m1', 'persisted']])
  client.close()
})

test('it is offered again on every connection, and shown as pending meanwhile', async () => {
  let isBack = false
  const { room, client, server } = await withoutRedis({
    'message:send': ({ id }) =>
      isBack
        ? { id, position: at(2), duplicate: true, persisted: true, durability: 'store' }
        : journaled({ id }),
  })
  const { id } = room.send('hello')
  await until('it is pending', () => room.snapshot().journaled === 1)
  server.close(1006)
  assert.deepEqual(states(room)[1], [id, 'pending'])
  await until('offered again', () => server.of('message:send').length === 2)
  await until('it is on offer', () => client.snapshot().pendingCount === 1)
  assert.deepEqual(states(room)[1], [id, 'pending'])
  isBack = true
  server.close(1006)
  await until('it stands', () => room.snapshot().messages[1].state === 'persisted')
  assert.deepEqual(
    server.of('message:send').map(({ data }) => data.id),
    [id, id, id],
  )
  assert.equal(room.snapshot().messages.length, 2)
  assert.deepEqual([room.snapshot().journaled, client.snapshot().pendingCount], [0, 0])
  client.close()
})

test('a node that knows nothing of what another has journaled does not keep it shown', async () => {
  const { room, client, server } = await withoutRedis()
  server.tell('message:pending', pending('b1'))
  server.tell('message:pending', pending('b2'))
  await until('both are shown', () => room.snapshot().journaled === 2)
  server.close(1006)
  await until(
    'back',
    () => server.of('room:join').length === 2 && room.snapshot().status === 'live',
  )
  // It is told right after the join what this node's journal has.
  server.tell('message:pending', pending('b2'))
  assert.equal(room.snapshot().journaled, 2)
  await until('the other is gone', () => room.snapshot().journaled === 1, 8000)
  assert.deepEqual(states(room)[1], ['b2', 'pending'])
  client.close()
})

test('a final refusal on another node shows a journaled message as failed', async () => {
  let refusal = null
  const { room, client, server } = await withoutRedis({
    'message:send': ({ id }) => {
      if (refusal) throw refusal
      return journaled({ id })
    },
  })
  const { settled } = room.send('hello')
  await until('it is pending', () => room.snapshot().journaled === 1)
  refusal = { code: 'forbidden' }
  server.close(1006)
  assert.equal((await settled).state, 'failed')
  assert.equal(room.snapshot().messages[1].state, 'failed')
  assert.equal(room.snapshot().messages.length, 2)
  client.close()
})

test('an edit and a deletion are shown as made, and on offer until they have a place', async () => {
  const { room, client, server } = await withoutRedis()
  room.edit('m1', 'better')
  await until('it is journaled', () => room.snapshot().messages[0].change?.journaled)
  const [shown] = room.snapshot().messages
  assert.equal(shown.content, 'better')
  assert.deepEqual(shown.change, { type: 'edit', content: 'better', journaled: true })
  assert.equal(room.snapshot().messages[0], shown, 'the same until something changes')
  assert.deepEqual([room.snapshot().journaled, client.snapshot().pendingCount], [1, 1])
  // Nothing waits behind it.
  room.delete('m1')
  await until('so is the deletion', () => room.snapshot().messages[0].change?.type === 'delete')
  await until('it is journaled', () => room.snapshot().messages[0].change.journaled)
  const [first] = server.of('message:edit')
  const [second] = server.of('message:delete')
  const change = { roomId: 'lobby', id: 'm1', userId: 'alice' }
  server.tell('message:update', {
    ...change,
    changeId: first.data.changeId,
    content: 'better',
    position: at(2),
  })
  assert.equal(room.snapshot().messages[0].content, '', 'the deletion is still to come')
  server.tell('message:delete', {
    ...change,
    changeId: second.data.changeId,
    position: at(3),
    deletedAt: 'now',
  })
  const [deleted] = room.snapshot().messages
  assert.deepEqual([deleted.change, deleted.deletedAt], [undefined, 'now'])
  assert.deepEqual([room.snapshot().journaled, client.snapshot().pendingCount], [0, 0])
  client.close()
})

test('a journaled edit is offered again, or ends once the database has it', async () => {
  let isBack = false
  const { room, client, server } = await withoutRedis({
    'message:edit': ({ changeId }) =>
      isBack
        ? { changeId, position: at(2), duplicate: true, persisted: true }
        : { ...journaled({}), changeId },
  })
  room.edit('m1', 'better')
  await until('it is journaled', () => room.snapshot().journaled === 1)
  isBack = true
  server.close(1006)
  await until('it is made', () => client.snapshot().pendingCount === 0)
  const [first, second] = server.of('message:edit')
  assert.equal(first.data.changeId, second.data.changeId)
  assert.deepEqual(room.snapshot().messages[0].changedPosition, at(2))
  isBack = false
  room.edit('m1', 'best')
  await until('it is journaled', () => room.snapshot().journaled === 1)
  const { changeId } = server.of('message:edit')[2].data
  server.tell('message:persisted', { roomId: 'lobby', upTo: at(3), ids: [changeId] })
  assert.deepEqual([room.snapshot().journaled, client.snapshot().pendingCount], [0, 0])
  client.close()
})

test('a journaled edit that is refused is offered again when a person says so', async () => {
  const { room, client, server } = await withoutRedis()
  room.edit('m1', 'better')
  await until('it is journaled', () => room.snapshot().journaled === 1)
  const { changeId } = server.of('message:edit')[0].data
  const error = { code: 'rejected', message: 'no' }
  server.tell('message:rejected', { roomId: 'lobby', id: 'm1', userId: 'alice', changeId, error })
  const [refused] = room.snapshot().messages
  assert.deepEqual([refused.content, refused.change.error.message], ['text 1', 'no'])
  assert.deepEqual([room.snapshot().journaled, client.snapshot().pendingCount], [0, 0])
  room.retry('m1')
  await until('it is journaled again', () => room.snapshot().journaled === 1)
  assert.notEqual(server.of('message:edit')[1].data.changeId, changeId)
  client.close()
})

test('an answer that was written bit by bit may end in a journal', async () => {
  const { room, client, server } = await withoutRedis()
  const part = { roomId: 'lobby', id: 'a1', userId: 'bob', type: 'assistant', offset: 0 }
  server.tell('message:stream', { ...part, delta: 'It is ', state: 'streaming' })
  await until('it is shown', () => room.snapshot().messages.length === 2)
  server.tell('message:pending', pending('a1', { type: 'assistant', content: 'It is so.' }))
  server.tell('message:stream', { ...part, delta: 'It was ', state: 'streaming' })
  const [, answer] = room.snapshot().messages
  assert.deepEqual([answer.state, answer.content], ['pending', 'It is so.'])
  client.close()
})
