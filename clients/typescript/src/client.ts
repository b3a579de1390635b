// One person's rooms and the one connection that they share.

import { Connection, socketUrl } from './connection.js'
import type { Answered, Link, LinkListener } from './connection.js'
import { entryOf, sizeOf } from './outbox.js'
import type { Entry, Offer, Store } from './outbox.js'
import { ChatRoom } from './room.js'
import type { Client, ClientOptions, ClientSnapshot, ConnectionState, Room } from './types.js'
import { RoomcastError } from './values.js'
import type { Commands, CreditBalance, Events } from './wire.js'

const MESSAGES_MAX = 1000
const BYTES_MAX = 4 * 1024 * 1024

/** Who a JSON Web Token says it is of; undefined for any other token. */
function subjectOf(token: string): string | undefined {
  try {
    const [, claims = ''] = token.split('.')
    const bytes = atob(claims.replace(/-/g, '+').replace(/_/g, '/'))
    const json = decodeURIComponent(escape(bytes))
    return (JSON.parse(json) as { sub?: string }).sub
  } catch {
    return undefined
  }
}

export class ChatClient implements Client, LinkListener {
  _link: Link
  /** Counts connections: an offer is made once on each. */
  _connection = 0
  _userId: string
  private _rooms = new Map<string, ChatRoom>()
  private _listeners = new Set<() => void>()
  private _snapshot: ClientSnapshot | null = null
  private _notified = true
  private _credits: CreditBalance | null = null
  private _store: Store | null = null
  private _offset = 0
  private _lastOrder = 0
  private _isClosed = false

  constructor(private _options: ClientOptions) {
    this._userId = _options.user ?? ''
    this._link = new Connection(_options, this)
  }

  get state(): ConnectionState {
    return this._link.status.state
  }

  connect(): void {
    this._isClosed = false
    this._link.open()
  }

  close(): void {
    this._isClosed = true
    this._link.close()
  }

  reauthenticate(): void {
    this._isClosed = false
    for (const room of this._rooms.values()) if (room._status === 'kicked') room.join()
    this._link.reauthenticate()
  }

  room(id: string): Room {
    return this._room(id)
  }

  request<Name extends keyof Commands>(
    name: Name, data: Commands[Name][0],
  ): Promise<Commands[Name][1]> {
    return new Promise((resolve, reject) => this._link.ask(name, data, (error, reply) => {
      if (error) reject(error)
      else resolve(reply as Commands[Name][1])
    }))
  }

  subscribe(listener: () => void): () => void {
    const own = (): void => listener()
    this._listeners.add(own)
    return () => this._listeners.delete(own)
  }

  snapshot(): ClientSnapshot {
    const { state, error, reconnectAt, welcome } = this._link.status
    return this._snapshot ??= {
      state, error, reconnectAt, userId: this._userId || null, limits: welcome?.limits ?? null,
      serverTimeOffsetMs: this._offset, credits: this._credits,
      pendingCount: this._pending().length,
    }
  }

  _room(id: string): ChatRoom {
    let room = this._rooms.get(id)
    if (!room) this._rooms.set(id, room = new ChatRoom(id, this))
    return room
  }

  /** A room wants to be joined. */
  _wake(): void {
    if (!this._isClosed) this._link.open()
  }

  // --- What the link tells ---

  changed(): void {
    const { state, serverTimeOffsetMs, welcome } = this._link.status
    if (state !== 'connected') {
      for (const room of this._rooms.values()) if (room._status === 'live') room._away('joining')
    } else if (welcome) {
      this._offset = serverTimeOffsetMs
      this._userId = welcome.userId
    }
    this._changed()
  }

  live(): void {
    this._connection++
    for (const room of this._rooms.values()) room._rejoin()
  }

  event(name: string, data: unknown): void {
    if (name === 'user:credits') {
      this._credits = data as CreditBalance
      this._changed()
    } else {
      const { roomId } = data as { roomId?: string }
      if (roomId) this._rooms.get(roomId)?._event(name as keyof Events, data as never)
    }
  }

  // --- The outbox ---

  private _pending(): Offer[] {
    return [...this._rooms.values()].flatMap((room) => room._offers().filter(({ error }) => !error))
  }

  /** Throws where an offer would be too much. */
  _admit(offer: Entry): void {
    const { maxMessages = MESSAGES_MAX, maxBytes = BYTES_MAX } = this._options.outbox ?? {}
    const limit = this._link.status.welcome?.limits.contentBytes
    const bytes = new TextEncoder().encode(offer.content).length
    if (limit && bytes > limit) {
      throw new RoomcastError('too_large', `a message has ${limit} bytes at most`, {
        field: 'content', limit,
      })
    }
    const kept = [...this._rooms.values()].flatMap((room) => room._offers())
    const size = kept.reduce((sum, each) => sum + sizeOf(each), sizeOf(offer))
    if (kept.length >= maxMessages || size > maxBytes) {
      throw new RoomcastError('outbox_full', 'too much waits to be sent; nothing more was taken', {
        limit: size > maxBytes ? maxBytes : maxMessages,
      })
    }
  }

  _keep(offer: Offer): void {
    this._store?.put(this._userId, entryOf(offer))
    this._changed()
  }

  _forget(offer: Offer): void {
    this._store?.remove(this._userId, entryOf(offer))
    this._changed()
  }

  /** Later offers have higher numbers, whatever the clock does. */
  _order(): number {
    return this._lastOrder = Math.max(Date.now(), this._lastOrder + 1)
  }

  // --- Time ---

  /** What time it is at the server. */
  _nowMs(): number {
    return Date.now() + this._offset
  }

  _now(): string {
    return new Date(this._nowMs()).toISOString()
  }

  _serverTime(time: string): void {
    this._offset = Date.parse(time) - Date.now()
    this._changed()
  }

  _changed(): void {
    this._snapshot = null
    if (!this._notified) return
    this._notified = false
    queueMicrotask(() => {
      this._notified = true
      for (const listener of [...this._listeners]) listener()
    })
  }
}

export function createClient(options: ClientOptions): Client {
  return new ChatClient(options)
}
