// Pages of people in a real browser, for tests: the example's chat, built with what is shipped.
// Ends with 77 where there is no chromium.

import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { join, resolve } from 'node:path'
import { build } from 'esbuild'
import { chromium } from 'playwright-core'
import { freePort, until } from './gateway.mjs'

const HERE = resolve(import.meta.dirname, '..')
const PAGE = join(HERE, 'target/page')
export const SHOTS = process.env.SCREENSHOTS ?? join(HERE, 'target/screenshots')
/** Longer than the longest pause before a try, and for a machine that does much else. */
export const PATIENCE_MS = 60_000
/** For how long the network is away. */
export const CUT_MS = Number(process.env.CUT_MS ?? 3000)
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium'
export const SECRET = 'a secret that is long enough for HS256, and no secret at all'

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

export const tokens = { lifeMs: 3600_000, given: 0, isBad: false }

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
export const pages = await serve()
const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: ['--no-sandbox', '--disable-dev-shm-usage'],
})

/** Ends what the pages need. */
export async function closePages() {
  await browser.close()
  pages.close()
}

/** People with a browser each. */
export function audience() {
  const contexts = []
  const errors = []
  return {
    context: async () => {
      const context = await browser.newContext({ viewport: { width: 900, height: 700 } })
      contexts.push(context)
      return context
    },
    /** `ways` are proxies to gateways, the first one first. */
    open: async (context, user, ways, query = '') => {
      const page = await context.newPage()
      page.on('pageerror', (error) => errors.push(error))
      const urls = ways.map(({ url }) => `&url=${url}`).join('')
      await page.goto(`${pages.origin}/?user=${user}${urls}${query}`)
      return page
    },
    async close() {
      for (const context of contexts) await context.close()
      assert.deepEqual(errors, [])
    },
  }
}

export const state = (page) => page.evaluate(() => window.client.state)
export const lines = (page) =>
  page.evaluate(() =>
    window.client
      .room('lobby')
      .snapshot()
      .messages.map(({ content, state }) => `${content}:${state}`),
  )
export const send = (page, ...texts) =>
  page.evaluate((all) => {
    for (const text of all) window.client.room('lobby').send(text)
  }, texts)
export const connected = (page) =>
  until(
    'connected',
    async () =>
      (await state(page)) === 'connected' &&
      (await page.evaluate(() => window.client.room('lobby').snapshot().status === 'live')),
  )
export const shows = (page, texts, withinMs = PATIENCE_MS) => {
  const wanted = JSON.stringify(texts.map((text) => `${text}:persisted`))
  let last
  return until(
    () => `it shows ${texts}, not ${last}`,
    async () => {
      last = await lines(page)
      return JSON.stringify(last) === wanted
    },
    withinMs,
  )
}
/** All pages show as many messages, all persisted, and the same ones. */
export async function agree(asked, count, withinMs = PATIENCE_MS) {
  let seen
  await until(
    () => `all have ${count}: ${JSON.stringify(seen)}`,
    async () => {
      seen = await Promise.all(asked.map(lines))
      const isPersisted = (line) => line.endsWith(':persisted')
      return seen.every((each) => each.filter(isPersisted).length === count)
    },
    withinMs,
  )
  for (const each of seen) assert.deepEqual(each, seen[0])
  assert.equal(seen[0].length, count)
  return seen[0].map((line) => line.slice(0, line.lastIndexOf(':')))
}
export const numbers = (count, word = 'n') =>
  Array.from({ length: count }, (_, n) => `${word}${n}`)
