// What is shipped: two module systems with the same in them, types without `any`, no dependency.

import assert from 'node:assert/strict'
import { readFileSync, readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import test from 'node:test'

const HERE = resolve(import.meta.dirname, '..')
const DIST = join(HERE, 'dist')
const read = (name) => readFileSync(join(DIST, name), 'utf8')
const require = createRequire(import.meta.url)

test('both module systems export the same', async () => {
  for (const [name, wanted] of [
    ['roomcast', ['RoomcastError', 'createClient']],
    [
      'roomcast/react',
      [
        'RoomcastProvider',
        'useOptimizedTeamChatWebSocket',
        'useRoomcast',
        'useRoomcastStatus',
        'useTeamChatWebSocket',
      ],
    ],
  ]) {
    assert.deepEqual(Object.keys(await import(name)).sort(), wanted)
    assert.deepEqual(Object.keys(require(name)).sort(), wanted)
  }
})

test('nothing that is exported is of type any', () => {
  const files = readdirSync(DIST).filter((name) => /\.d\.c?ts$/.test(name))
  assert.ok(files.length >= 10)
  for (const name of files) {
    const code = read(name).replace(/\/\*[\s\S]*?\*\//g, '')
    assert.doesNotMatch(code, /\bany\b/, name)
    assert.doesNotMatch(code, /\b_\w+[?:(]/, `${name} tells nothing private`)
  }
})

test('the hook is for the client side of a framework, and the core is not', () => {
  for (const name of ['react.js', 'react.cjs'])
    assert.match(read(name), /^("use strict";)?"use client"/)
  assert.doesNotMatch(read('index.js'), /use client|from"react"/)
})

test('there is no dependency, and React is optional', () => {
  const { dependencies, peerDependenciesMeta } = JSON.parse(
    readFileSync(join(HERE, 'package.json')),
  )
  assert.equal(dependencies, undefined)
  assert.equal(peerDependenciesMeta.react.optional, true)
})

test('CommonJS finds what is loaded on demand', async () => {
  const { createClient } = require('roomcast')
  const { fake } = await import('./fake.mjs')
  const { server, client: other } = fake()
  other.close()
  const client = createClient({ url: 'ws://fake', user: 'alice', WebSocket: server.WebSocket })
  const room = client.room('lobby')
  await new Promise((done) => room.subscribe(() => room.snapshot().status === 'live' && done()))
  room.startTyping()
  const { until } = await import('./gateway.mjs')
  await until('typing was told', () => server.of('typing:start').length === 1)
  client.close()
})
