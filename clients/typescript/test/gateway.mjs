// Gateways of the embedded mode for tests: each with data and ports of its own.

import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

const ROOT = resolve(import.meta.dirname, '../../..')
const TARGET = process.env.CARGO_TARGET_DIR ?? join(ROOT, 'target')
export const PROGRAM = process.env.GATEWAY ?? join(TARGET, 'debug/gateway')

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms))

/** Waits until something holds; says what it waited for where it does not. */
export async function until(what, holds, withinMs = 20_000) {
  const end = Date.now() + withinMs
  for (;;) {
    const held = await holds()
    if (held) return held
    if (Date.now() > end) {
      throw new Error(`not within ${withinMs} ms: ${typeof what === 'function' ? what() : what}`)
    }
    await sleep(20)
  }
}

export function freePort() {
  return new Promise((done) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address()
      server.close(() => done(port))
    })
  })
}

/** Settings that keep no test waiting. */
const SETTINGS = {
  ROOMCAST_OPERATOR_PORT: '0',
  ROOMCAST_DRAIN_NOTICE_MS: '0',
  ROOMCAST_LOG: 'warn',
  WEBSOCKET_RATE_LIMIT_MESSAGE_SEND: '1000000',
  WEBSOCKET_RATE_LIMIT_ROOM_JOIN: '1000000',
  ROOMCAST_RATE_LIMIT_RESUME: '1000000',
}

const living = new Set()
process.on('exit', () => {
  for (const child of living) child.kill('SIGKILL')
})

/** A gateway in the development mode, or with `settings` of another one. */
export async function startGateway(settings = { ROOMCAST_DEV: 'true' }) {
  const folder = mkdtempSync(join(tmpdir(), 'roomcast-client-'))
  const port = await freePort()
  let child
  const gateway = {
    port,
    url: `ws://127.0.0.1:${port}/ws`,
    log: '',
    async start() {
      child = spawn(PROGRAM, [], {
        env: {
          ...process.env,
          ...SETTINGS,
          ...settings,
          PORT: `${port}`,
          ROOMCAST_DATA_DIR: folder,
        },
        stdio: ['ignore', 'ignore', 'pipe'],
      })
      living.add(child)
      child.stderr.on('data', (text) => {
        gateway.log += text
      })
      await until(
        () => `the gateway listens\n${gateway.log}`,
        async () => {
          try {
            return (await fetch(`http://127.0.0.1:${port}/`)).ok
          } catch {
            return false
          }
        },
      )
    },
    async end(signal) {
      const ended = new Promise((done) => child.once('exit', done))
      child.kill(signal)
      await ended
      living.delete(child)
    },
    kill: () => gateway.end('SIGKILL'),
    async stop() {
      await gateway.kill()
      rmSync(folder, { recursive: true, force: true })
    },
  }
  await gateway.start()
  return gateway
}
