// The examples do what they say, against a gateway: the adapters and the bot.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { join, resolve } from 'node:path'
import { build } from 'esbuild'
import { JSDOM } from 'jsdom'
import WebSocket from 'ws'
import { createClient } from '../dist/index.js'
import { startGateway, until } from './gateway.mjs'

const HERE = resolve(import.meta.dirname, '..')
const OUT = join(HERE, 'target/adapters')

const dom = new JSDOM('<div></div>', { url: 'http://localhost/' })
const gateway = await startGateway()
// The development mode lets anybody be whoever they say.
const clientOf = (user) =>
  createClient({
    url: gateway.url,
    user,
    WebSocket,
    outbox: { storage: 'memory' },
    shareTabs: false,
  })
const bob = clientOf('bob')
bob.room('lobby').join()

await build({
  entryPoints: ['zustand', 'swr', 'tanstack'].map((name) =>
    join(HERE, `examples/adapters/${name}.ts`),
  ),
  outdir: OUT,
  bundle: true,
  format: 'esm',
  platform: 'node',
  packages: 'external',
  outExtension: { '.js': '.mjs' },
  tsconfigRaw: '{}',
  logLevel: 'warning',
})

async function zustand() {
  const { roomStore } = await import(`${OUT}/zustand.mjs`)
  const alice = clientOf('alice')
  const [store, end] = roomStore(alice, 'lobby')
  await until('connected', () => store.getState().isConnected)
  store.getState().send('by zustand')
  await until('it stands', () => store.getState().messages.at(-1)?.state === 'persisted')
  assert.equal(store.getState().messages.at(-1).content, 'by zustand')
  end()
  alice.close()
}

/** Renders a hook's messages until they hold the last one. */
async function rendered(useMessages, wrap = (element) => element) {
  Object.assign(globalThis, { window: dom.window, document: dom.window.document })
  globalThis.navigator ??= dom.window.navigator
  const { createElement } = await import('react')
  const { createRoot } = await import('react-dom/client')
  const alice = clientOf('alice')
  const container = document.createElement('div')
  const root = createRoot(container)
  const Messages = () => {
    const { data } = useMessages(alice, 'lobby')
    return (data ?? []).map(({ content }) => content).join('|')
  }
  root.render(wrap(createElement(Messages), createElement))
  const text = `said at ${Date.now()}`
  bob.room('lobby').send(text)
  await until(
    () => `it is shown: ${container.textContent}`,
    () => container.textContent.endsWith(text),
  )
  root.unmount()
  alice.close()
}

async function swr() {
  await rendered((await import(`${OUT}/swr.mjs`)).useRoomMessages)
}

async function tanstack() {
  const { QueryClient, QueryClientProvider } = await import('@tanstack/react-query')
  const client = new QueryClient()
  const { useRoomMessages } = await import(`${OUT}/tanstack.mjs`)
  await rendered(useRoomMessages, (element, create) =>
    create(QueryClientProvider, { client }, element),
  )
}

async function bot() {
  const child = spawn(process.execPath, [join(HERE, 'examples/bot.mjs'), 'lobby'], {
    env: { ...process.env, ROOMCAST_URL: gateway.url },
    stdio: 'ignore',
  })
  const room = bob.room('lobby')
  await until('the bot is there', () => room.snapshot().presence.clock)
  const { id } = room.send('What time is it?')
  const answer = await until('it answers', () =>
    room
      .snapshot()
      .messages.find(({ metadata, state }) => metadata?.about === id && state === 'persisted'),
  )
  assert.match(answer.content, /^It is .*, bob\.$/)
  assert.equal(answer.type, 'assistant')
  const ended = new Promise((done) => child.once('exit', done))
  child.kill('SIGINT')
  assert.equal(await ended, 0)
}

let failed = 0
for (const example of [zustand, bot, swr, tanstack]) {
  try {
    await example()
    console.log(`passed: ${example.name}`)
  } catch (error) {
    failed++
    console.log(`FAILED: ${example.name}:`, error)
  }
}
bob.close()
await gateway.stop()
process.exit(failed ? 1 : 0)
