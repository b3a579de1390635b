// A server that says what a test wants, without a network.

import { createClient } from '../dist/index.js'
import { until } from './gateway.mjs'

export const LIMITS = {
  frameBytes: 1048576,
  contentBytes: 262144,
  metadataBytes: 16384,
  roomsPerUser: 10,
  pageRows: 200,
}

export const at = (seq, epoch = 1) => ({ epoch, seq })

export const message = (seq, fields = {}) => ({
  roomId: 'lobby',
  id: `m${seq}`,
  userId: 'bob',
  type: 'user',
  content: `text ${seq}`,
  metadata: {},
  createdAt: '2026-11-22T17:04:05.123Z',
  position: at(seq),
  ...fields,
})

export const joined = (fields = {}) => ({
  roomId: 'lobby',
  head: at(0),
  persisted: at(0),
  recovered: false,
  reset: false,
  hasMore: false,
  presence: {},
  presenceCount: 0,
  receipts: {},
  typing: {},
  unread: 0,
  messages: [],
  ...fields,
})

/** `answers[name](data)` returns a reply, or throws `{ code }`; without one nothing is said. */
export function fake(answers = {}, options = {}) {
  const server = {
    sockets: [],
    asked: [],
    get socket() {
      return server.sockets.at(-1)
    },
    /** What was asked under a name so far. */
    of: (name) => server.asked.filter(({ event }) => event === name),
    tell: (event, data) => server.socket.hear({ event, data }),
    close: (code, reason = '') => server.socket.onclose?.({ code, reason }),
  }
  const all = {
    'room:join': () => joined(),
    'room:leave': () => ({}),
    heartbeat: () => ({ heads: {} }),
    ...answers,
  }
  server.WebSocket = class {
    constructor(url) {
      this.url = url
      server.sockets.push(this)
      setTimeout(() => {
        this.onopen?.()
        if (!options.quiet) this.welcome()
      })
    }
    welcome(fields = {}) {
      this.hear({
        event: 'welcome',
        data: {
          protocol: 'roomcast.v1',
          connectionId: '1',
          userId: 'alice',
          heartbeatMs: 30000,
          limits: LIMITS,
          serverTime: new Date().toISOString(),
          ...fields,
        },
      })
    }
    hear(frame) {
      this.onmessage?.({ data: JSON.stringify(frame) })
    }
    send(text) {
      const frame = JSON.parse(text)
      server.asked.push(frame)
      const answer = all[frame.event]
      if (!answer) return
      queueMicrotask(() => {
        try {
          const data = answer(frame.data, this)
          if (data) this.hear({ event: 'reply', ref: frame.ref, data })
        } catch (error) {
          this.hear({ event: 'reply', ref: frame.ref, error: { message: error.code, ...error } })
        }
      })
    }
    close() {}
  }
  const { quiet, ...rest } = options
  const client = createClient({
    url: 'ws://fake',
    user: 'alice',
    WebSocket: server.WebSocket,
    ...rest,
  })
  return { server, client }
}

/** A client that is in the lobby. */
export async function inLobby(answers, options) {
  const { server, client } = fake(answers, options)
  const room = client.room('lobby')
  room.join()
  await until('in the lobby', () => room.snapshot().status === 'live')
  return {
    server,
    client,
    room,
    contents: () => room.snapshot().messages.map((each) => each.content),
  }
}
