// Holds the sizes: minified and gzipped, as an application's bundler would take the package in.

import { gzipSync } from 'node:zlib'
import { readFileSync } from 'node:fs'
import { build } from 'esbuild'

process.chdir(import.meta.dirname)
const KB = 1024
const LIMITS = { core: 6 * KB, 'core and hook': 8 * KB, all: 14 * KB }

const ON_DEMAND = ['after', 'stream', 'browser']

const CORE =
  "import { createClient } from './dist/index.js'; globalThis.made = createClient({ url: '/ws' })"
const HOOK = `${CORE}
import { RoomcastProvider, useTeamChatWebSocket } from './dist/react.js'
globalThis.used = [RoomcastProvider, useTeamChatWebSocket]`
const UNUSED = "import { createClient } from './dist/index.js'"

async function bundled(contents) {
  const {
    outputFiles: [{ contents: bytes }],
  } = await build({
    stdin: { contents, resolveDir: '.' },
    bundle: true,
    minify: true,
    format: 'esm',
    write: false,
    target: 'es2022',
    platform: 'browser',
    external: ['react', ...ON_DEMAND.map((name) => `./${name}.js`)],
  })
  return bytes
}
const gzipped = (bytes) => gzipSync(bytes, { level: 9 }).length

const core = gzipped(await bundled(CORE))
const hook = gzipped(await bundled(HOOK))
const onDemand = ON_DEMAND.map((name) => gzipped(readFileSync(`dist/${name}.js`)))
const sizes = { core: core, 'core and hook': hook, all: hook + onDemand.reduce((a, b) => a + b) }
let isOver = false
for (const [name, size] of Object.entries(sizes)) {
  const over = size > LIMITS[name]
  isOver ||= over
  console.log(`${name}: ${size} bytes of ${LIMITS[name]}${over ? ', TOO MUCH' : ''}`)
}
const left = (await bundled(UNUSED)).length
if (left > 40) {
  console.log(`not shaken off: ${left} bytes of a client that nobody uses`)
  isOver = true
}
process.exitCode = isOver ? 1 : 0
