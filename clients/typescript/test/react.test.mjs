// The hook in React itself: what it renders, how often, in StrictMode and on a server.

import assert from 'node:assert/strict'
import test, { after } from 'node:test'
import { JSDOM } from 'jsdom'

const dom = new JSDOM('<div id="root"></div>', { url: 'http://localhost/' })
// React looks for them; the client is told to use neither tabs nor IndexedDB.
globalThis.window = dom.window
globalThis.document = dom.window.document
globalThis.navigator ??= dom.window.navigator
globalThis.IS_REACT_ACT_ENVIRONMENT = true

const { StrictMode, act, createElement: h } = await import('react')
const { createRoot, hydrateRoot } = await import('react-dom/client')
const { renderToString } = await import('react-dom/server')
const { RoomcastProvider, useOptimizedTeamChatWebSocket, useRoomcastStatus, useTeamChatWebSocket } =
  await import('../dist/react.js')
const { fake, joined, message, at } = await import('./fake.mjs')
const { sleep, until } = await import('./gateway.mjs')

const PLAIN = { outbox: { storage: 'memory' }, shareTabs: false }
after(() => dom.window.close())

const settle = () => act(() => sleep(30))

async function mounted(element, answers) {
  const { server, client } = fake(answers, PLAIN)
  const container = document.createElement('div')
  const root = createRoot(container)
  await act(() => root.render(h(RoomcastProvider, { client }, element)))
  await act(() => until('connected', () => client.state === 'connected'))
  await settle()
  return { server, client, container, root, text: () => container.textContent }
}

test('it returns what the predecessor returned, and more', async () => {
  let seen
  const Chat = () => {
    seen = useTeamChatWebSocket({ teamChatId: 'lobby', enabled: true })
    return seen.isConnected ? 'on' : 'off'
  }
  const { text, root, client } = await mounted(h(Chat))
  assert.equal(text(), 'on')
  assert.equal(useOptimizedTeamChatWebSocket, useTeamChatWebSocket)
  for (const name of [
    'sendMessage',
    'startTyping',
    'stopTyping',
    'updateReadReceipt',
    'editMessage',
    'deleteMessage',
    'retry',
    'discard',
    'loadOlder',
  ])
    assert.equal(typeof seen[name], 'function', name)
  assert.equal(seen.state, 'connected')
  assert.deepEqual(seen.messages, [])
  assert.deepEqual([seen.typing, seen.receipts, seen.unread], [[], {}, 0])
  assert.equal(seen.pendingCount, 0)
  assert.equal(seen.error, null)
  await act(() => root.unmount())
  client.close()
})

test('a banner hears of what only a journal has, and of nothing else', async () => {
  let renders = 0
  const Banner = () => {
    renders++
    const { journaled } = useTeamChatWebSocket({ teamChatId: 'lobby' })
    return journaled ? `kept: ${journaled}` : 'all is well'
  }
  const { text, root, client, server } = await mounted(h(Banner))
  assert.equal(text(), 'all is well')
  const { position, ...pending } = message(1)
  await act(() => server.tell('message:pending', { ...pending, roomId: 'lobby' }))
  assert.equal(text(), 'kept: 1')
  const before = renders
  await act(() => server.tell('message:new', message(2, { roomId: 'lobby' })))
  assert.equal(renders, before)
  await act(() => server.tell('message:new', message(3, { id: 'm1' })))
  assert.equal(text(), 'all is well')
  await act(() => root.unmount())
  client.close()
})

test('what is sent is shown at once; functions stay the same', async () => {
  const functions = new Set()
  let chat
  const Chat = () => {
    chat = useTeamChatWebSocket({ teamChatId: 'lobby' })
    functions.add(chat.sendMessage)
    return chat.messages.map(({ id, content, state }) => h('p', { key: id }, `${content} ${state}`))
  }
  const { text, root, client } = await mounted(h(Chat), {
    'message:send': ({ id }) => ({
      id,
      position: at(1),
      duplicate: false,
      persisted: true,
      durability: 'store',
    }),
  })
  let sent
  await act(async () => {
    sent = chat.sendMessage('hello', 'user', { timestamp: 'now' })
    await null
  })
  assert.ok(sent.id)
  await settle()
  assert.equal(text(), 'hello persisted')
  assert.equal(functions.size, 1)
  await act(() => root.unmount())
  client.close()
})

test('typing in one room renders nothing of another, nor whoever does not show it', async () => {
  const renders = { a: 0, b: 0, connected: 0 }
  const Room = ({ id }) => {
    const { typing, messages } = useTeamChatWebSocket({ teamChatId: id })
    renders[id]++
    return `${typing.length} ${messages.length}`
  }
  const Light = () => {
    const { isConnected } = useTeamChatWebSocket({ teamChatId: 'a' })
    renders.connected++
    return isConnected ? 'on' : 'off'
  }
  const { server, root, client } = await mounted(
    [h(Room, { id: 'a', key: 1 }), h(Room, { id: 'b', key: 2 }), h(Light, { key: 3 })],
    { 'room:join': ({ roomId }) => joined({ roomId }) },
  )
  await settle()
  const before = { ...renders }
  for (const userId of ['bob', 'carol', 'dave']) {
    await act(async () => {
      server.tell('typing:start', { roomId: 'b', userId, expiresInMs: 5000 })
      await sleep(5)
    })
  }
  assert.deepEqual(renders, { ...before, b: before.b + 3 })
  await act(async () => {
    server.tell('message:new', message(1, { roomId: 'a' }))
    server.tell('message:new', message(2, { roomId: 'a' }))
    await sleep(5)
  })
  assert.equal(renders.a, before.a + 1, 'two messages in one task are one rendering')
  assert.equal(renders.connected, before.connected)
  await act(() => root.unmount())
  client.close()
})

test('StrictMode mounts twice and joins once', async () => {
  const Chat = () => useTeamChatWebSocket({ teamChatId: 'lobby' }).state
  const { server, root, client } = await mounted(h(StrictMode, null, h(Chat)))
  await act(() => sleep(1200))
  assert.equal(server.sockets.length, 1)
  assert.equal(server.of('room:join').length, 1)
  assert.equal(server.of('room:leave').length, 0)
  await act(() => root.unmount())
  await until('it leaves', () => server.of('room:leave').length === 1, 3000)
  client.close()
})

test('not enabled, it is in no room; another room is another room', async () => {
  const Chat = ({ id, enabled }) => useTeamChatWebSocket({ teamChatId: id, enabled }).status
  const { server, client } = fake({ 'room:join': ({ roomId }) => joined({ roomId }) }, PLAIN)
  const root = createRoot(document.createElement('div'))
  const render = (props) => act(() => root.render(h(RoomcastProvider, { client }, h(Chat, props))))
  await render({ id: 'a', enabled: false })
  await settle()
  assert.equal(client.state, 'idle')
  await render({ id: 'a', enabled: true })
  await settle()
  await render({ id: 'b', enabled: true })
  await settle()
  assert.deepEqual(
    server.of('room:join').map(({ data }) => data.roomId),
    ['a', 'b'],
  )
  await act(() => root.unmount())
  client.close()
})

test('a server renders it without a connection, and a browser takes that over', async () => {
  const Chat = () => {
    const { messages, isConnected, state } = useTeamChatWebSocket({ teamChatId: 'lobby' })
    return h('p', null, `${state} ${isConnected} ${messages.length} ${useRoomcastStatus().state}`)
  }
  const { client, server } = fake({}, PLAIN)
  const element = h(RoomcastProvider, { client }, h(Chat))
  const html = renderToString(element)
  assert.equal(html, '<p>idle false 0 idle</p>')
  assert.equal(server.sockets.length, 0)
  const container = document.createElement('div')
  container.innerHTML = html
  const errors = []
  let root
  await act(() => {
    root = hydrateRoot(container, element, { onRecoverableError: (e) => errors.push(e) })
  })
  await act(() => until('connected', () => client.state === 'connected'))
  await settle()
  assert.deepEqual(errors, [])
  assert.equal(container.textContent, 'connected true 0 connected')
  await act(() => root.unmount())
  client.close()
})

test('without a provider it says what is missing', () => {
  const Chat = () => useTeamChatWebSocket({ teamChatId: 'lobby' }).state
  assert.throws(() => renderToString(h(Chat)), /RoomcastProvider/)
})
