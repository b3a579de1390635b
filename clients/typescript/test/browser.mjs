// The client in a real browser: reloads, tabs, tokens, a cut network. Wants chromium, says so where
// it is missing and ends with 77.
//
//   node test/browser.mjs [SCENARIO]...      CUT_MS=60000 for how long the network is away

import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { join, resolve } from 'node:path'
import { build } from 'esbuild'
import { chromium } from 'playwright-core'
import { freePort, sleep, startGateway, until } from './gateway.mjs'
import { startProxy } from './proxy.mjs'

const HERE = resolve(import.meta.dirname, '..')
const PAGE = join(HERE, 'target/page')
const SHOTS = process.env.SCREENSHOTS ?? join(HERE, 'target/screenshots')
const CUT_MS = Number(process.env.CUT_MS ?? 3000)
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium'
const SECRET = 'a secret that is long enough for HS256, and no secret at all'

if (!existsSync(CHROMIUM)) {
  console.log(`there is no ${CHROMIUM}`)
  process.exit(77)
}

async function bundle() {
  rmSync(PAGE, { recursive: true, force: true })
  await build({
    entryPoints: [join(HERE, 'test/page.tsx')],
    outdir: PAGE,
    bundle: true,
    splitting: true,
    format: 'esm',
    jsx: 'automatic',
    logLevel: 'warning',
    // What is shipped is what is tested.
    alias: { roomcast: join(HERE, 'dist/index.js'), 'roomcast/react': join(HERE, 'dist/react.js') },
    tsconfigRaw: '{}',
    define: { 'process.env.NODE_ENV': '"production"' },
  })
}

const base64 = (text) => Buffer.from(text).toString('base64url')

function tokenFor(sub, lifeMs) {
  const claims = { sub, exp: Math.ceil((Date.now() + lifeMs) / 1000), rooms: ['*'] }
  const body = `${base64('{"alg":"HS256","typ":"JWT"}')}.${base64(JSON.stringify(claims))}`
  return `${body}.${createHmac('sha256', SECRET).update(body).digest('base64url')}`
}

const tokens = { lifeMs: 3600_000, given: 0, isBad: false }

async function serve() {
  const types = { js: 'text/javascript', css: 'text/css', html: 'text/html' }
  const style = readFileSync(join(HERE, 'examples/react/src/style.css'), 'utf8')
  const html =
    `<!doctype html><html lang="en"><title>Roomcast</title><style>${style}</style>` +
    '<div id="root"></div><script type="module" src="/page.js"></script>'
  const server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url, 'http://page')
    if (pathname === '/token') {
      tokens.given++
      return response.end(
        tokens.isBad ? 'no.token.atall' : tokenFor(searchParams.get('user'), tokens.lifeMs),
      )
    }
    const file = join(PAGE, pathname)
    const isFile = pathname !== '/' && existsSync(file)
    response.setHeader('Content-Type', types[isFile ? pathname.split('.').pop() : 'html'])
    response.end(isFile ? readFileSync(file) : html)
  })
  const port = await freePort()
  await new Promise((done) => server.listen(port, '127.0.0.1', done))
  return { origin: `http://127.0.0.1:${port}`, close: () => server.close() }
}

await bundle()
mkdirSync(SHOTS, { recursive: true })
const pages = await serve()
const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: ['--no-sandbox', '--disable-dev-shm-usage'],
})

/** A gateway with a proxy in front, and how to open pages of people on it. */
async function stage(settings = { ROOMCAST_DEV: 'true' }) {
  const gateway = await startGateway({ ...settings, ROOMCAST_ALLOWED_ORIGINS: pages.origin })
  const proxy = await startProxy(gateway.port)
  const contexts = []
  const errors = []
  return {
    gateway,
    proxy,
    errors,
    context: async () => {
      const context = await browser.newContext({ viewport: { width: 900, height: 700 } })
      contexts.push(context)
      return context
    },
    open: async (context, user, query = '') => {
      const page = await context.newPage()
      page.on('pageerror', (error) => errors.push(error))
      await page.goto(`${pages.origin}/?user=${user}&url=${proxy.url}${query}`)
      return page
    },
    async close() {
      for (const context of contexts) await context.close()
      proxy.close()
      await gateway.stop()
      assert.deepEqual(errors, [])
    },
  }
}

const state = (page) => page.evaluate(() => window.client.state)
const lines = (page) =>
  page.evaluate(() =>
    window.client
      .room('lobby')
      .snapshot()
      .messages.map(({ content, state }) => `${content}:${state}`),
  )
const send = (page, ...texts) =>
  page.evaluate((all) => {
    for (const text of all) window.client.room('lobby').send(text)
  }, texts)
const connected = (page) =>
  until(
    'connected',
    async () =>
      (await state(page)) === 'connected' &&
      (await page.evaluate(() => window.client.room('lobby').snapshot().status === 'live')),
  )
const persisted = (texts) => texts.map((text) => `${text}:persisted`)
const shows = (page, texts, withinMs = 20_000) => {
  let last
  return until(
    () => `it shows ${texts}, not ${last}`,
    async () => {
      last = await lines(page)
      return JSON.stringify(last) === JSON.stringify(persisted(texts))
    },
    withinMs,
  )
}
const numbers = (count, word = 'n') => Array.from({ length: count }, (_, n) => `${word}${n}`)

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
    await until('shown as sending', async () => (await lines(page)).length === 200)
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

  async 'tabs of one person share a socket, and another takes over'() {
    const on = await stage()
    const context = await on.context()
    const first = await on.open(context, 'alice')
    await connected(first)
    const second = await on.open(context, 'alice')
    await connected(second)
    const third = await on.open(context, 'alice')
    await connected(third)
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
    const context = await on.context()
    const first = await on.open(context, 'alice')
    await connected(first)
    const second = await on.open(context, 'alice')
    await connected(second)
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
    const context = await on.context()
    const bob = await context.newPage()
    await bob.goto(`${pages.origin}/?user=bob&url=${other.url}`)
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
    const count = async (page) =>
      (await lines(page)).filter((line) => line.endsWith(':persisted')).length
    await until(
      'both have all',
      async () => (await count(alice)) === 11 && (await count(bob)) === 11,
      40_000,
    )
    assert.deepEqual(await lines(alice), await lines(bob))
    await on.gateway.kill()
    await send(alice, 'a6')
    await send(bob, 'b5')
    await sleep(500)
    await alice.screenshot({ path: join(SHOTS, 'reconnecting.png') })
    await on.gateway.start()
    await until(
      'both have all again',
      async () => (await count(alice)) === 13 && (await count(bob)) === 13,
      40_000,
    )
    assert.deepEqual(await lines(alice), await lines(bob))
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
    await until('the answer stands', async () => (await count(alice)) === 15, 20_000)
    assert.deepEqual(await lines(alice), await lines(bob))
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
await browser.close()
pages.close()
process.exit(failed ? 1 : 0)
