// A cluster that the program `fleet` runs, with Redis and Postgres of its own.

import { execFileSync, spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { PROGRAM, until } from './gateway.mjs'

/** One of the programs that lie beside the gateway. */
export const program = (name) => join(dirname(PROGRAM), name)

/** Ends with 77 where a program is missing. */
export function needPrograms() {
  for (const name of ['fleet', 'gateway', 'sync-worker']) {
    if (existsSync(program(name))) continue
    console.log(`there is no ${program(name)}`)
    process.exit(77)
  }
}

/**
 * Starts a fleet with these arguments of `fleet up`, and waits until all of it is ready. Ends with
 * 77 where Redis or Postgres is missing.
 */
export async function startFleet(...options) {
  const place = mkdtempSync(join(tmpdir(), 'roomcast-client-fleet-'))
  const folder = join(place, 'fleet')
  // Postgres runs as another user where this is root.
  chmodSync(place, 0o755)
  const words = ['--folder', folder]
  for (const name of ['gateway', 'worker']) {
    words.push(`--${name}-program`, program(name === 'worker' ? 'sync-worker' : name))
  }
  const up = spawn(program('fleet'), ['up', ...options, ...words])
  let said = ''
  for (const output of [up.stdout, up.stderr]) {
    output.on('data', (text) => {
      said += text
    })
  }
  let hasEnded = false
  const ended = new Promise((done) => up.once('exit', done)).then(() => {
    hasEnded = true
  })
  const fleet = {
    folder,
    /** Says something to it, such as `kill gateway 1`. */
    tell: (...what) => execFileSync(program('fleet'), [...what, '--folder', folder]).toString(),
    /** The addresses of a part, such as `gateway`, in the order of their numbers. */
    addresses: (part) =>
      [...said.matchAll(new RegExp(`^${part}\\S* +\\d+ +\\w+ +(\\S+)`, 'gm'))].map(([, at]) => at),
    async stop() {
      up.kill('SIGINT')
      await ended
      rmSync(place, { recursive: true, force: true })
    },
  }
  try {
    await until(
      () => `the fleet is up:\n${said}`,
      () => said.includes('ready;') || hasEnded,
      60_000,
    )
  } catch (error) {
    await fleet.stop()
    throw error
  }
  if (!hasEnded) return fleet
  await fleet.stop()
  if (!said.includes('is missing')) throw new Error(said)
  console.log(said)
  process.exit(77)
}
