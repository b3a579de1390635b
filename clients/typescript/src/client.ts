// One person's rooms and the one connection that they share.

import { Connection } from './connection.js'
import type { Link, LinkListener } from './connection.js'
import type { Entry, Offer, Store } from './outbox.js'
import { ChatRoom } from './room.js'
import type { Client, ClientOptions, ClientSnapshot, ConnectionState, Room } from './types.js'
import { RoomcastError } from './values.js'
import type { Commands, CreditBalance, Events } from './wire.js'

const MESSAGES_MAX = 1000
const BYTES_MAX = 4 * 1024 * 1024

const bytesOf = ({ content, metadata }: Entry): number =>
  new TextEncoder().encode((content ?? '') + JSON.stringify(metadata ?? '')).length

export class ChatClient implements Client, LinkListener {
  _link: Link
  _store: Store | null = null
  /** Counts connections: an offer is made once on each. */
  _connection = 0
  _userId = ''
  readonly _rooms = new Map<string, ChatRoom>()
  private _listeners = new Set<() => void>()
  private _snapshot: ClientSnapshot | null = null
  private _notified = true
  private _credits: CreditBalance | null = null
  private _offset = 0
  private _lastOrder = 0
  private _prepared: Promise<void> | boolean = false
  private _isClosed = false

  constructor(readonly _options: ClientOptions) {
    this._become(_options.user ?? '')
    this._link = new Connection(_options, this)
  }

  get state(): ConnectionState {
    return this.snapshot().state
  }

  connect(): void {
    this._isClosed = false
    if (this._prepared === true) this._link.open()
    if (this._prepared) return
    const { outbox, shareTabs } = this._options
    const isPlain = typeof document !== 'object'
      || outbox?.storage === 'memory' && shareTabs === false
    const prepared = isPlain ? Promise.resolve()
      : import('./browser.js').then(({ prepare }) => prepare(this, this._link as Connection))
    this._prepared = prepared.catch(() => {}).then(() => {
      this._prepared = true
      if (!this._isClosed) this._link.open()
      this._changed()
    })
    this._changed()
  }

  close(): void {
    this._isClosed = true
    this._link.close()
  }

  reauthenticate(): void {
    this._isClosed = false
    for (const room of this._rooms.values()) if (room._status === 'kicked') room.join()
    if (this._prepared === true) this._link.reauthenticate()
    else this.connect()
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
      state: state === 'idle' && this._prepared ? 'connecting' : state, error, reconnectAt,
      userId: this._userId || null, limits: welcome?.limits ?? null,
      serverTimeOffsetMs: this._offset, credits: this._credits,
      pendingCount: this._offers().filter((offer) => !offer.error).length,
    }
  }

  private _room(id: string): ChatRoom {
    let room = this._rooms.get(id)
    if (!room) this._rooms.set(id, room = new ChatRoom(id, this))
    return room
  }

  /** A room wants to be joined. */
  _wake(): void {
    if (!this._isClosed) this.connect()
  }

  /** Who this is, as far as is known. What another person has on offer is no more this one's. */
  _become(userId: string): void {
    const before = this._userId
    this._userId = userId
    if (before === userId) return
    for (const room of this._rooms.values()) {
      if (before) room._reset()
      else for (const offer of room._offers._all()) this._keep(offer)
    }
  }

  // --- What the link tells ---

  changed(): void {
    const { state, serverTimeOffsetMs, welcome } = this._link.status
    if (state !== 'connected') {
      for (const room of this._rooms.values()) if (room._status === 'live') room._away('joining')
    } else if (welcome) {
      this._offset = serverTimeOffsetMs
      this._become(welcome.userId)
    }
    this._changed()
  }

  live(): void {
    const connection = ++this._connection
    // What was left behind comes first.
    void this._adopt().then(() => {
      if (connection !== this._connection) return
      for (const room of this._rooms.values()) room._rejoin()
    })
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

  private _offers(): Offer[] {
    return [...this._rooms.values()].flatMap((room) => room._offers._all())
  }

  /** Takes in what tabs that are gone had on offer. */
  async _adopt(): Promise<void> {
    const { _userId } = this
    const entries = await this._store?.adopt(_userId) ?? []
    if (_userId !== this._userId) return
    for (const entry of entries) this._room(entry.roomId)._offers._take(entry)
  }

  /** Throws where an offer would be too much. */
  _admit(offer: Entry): void {
    const { maxMessages = MESSAGES_MAX, maxBytes = BYTES_MAX } = this._options.outbox ?? {}
    const limit = this._link.status.welcome?.limits.contentBytes
    if (limit && new TextEncoder().encode(offer.content).length > limit) {
      throw new RoomcastError('too_large', `more than ${limit} bytes`, { field: 'content', limit })
    }
    const offers = [offer, ...this._offers()]
    const isFull = offers.length > maxMessages
    if (isFull || offers.reduce((sum, each) => sum + bytesOf(each), 0) > maxBytes) {
      throw new RoomcastError('outbox_full', 'too much waits to be sent', {
        limit: isFull ? maxMessages : maxBytes,
      })
    }
  }

  _keep(offer: Offer): void {
    this._store?.put(this._userId, offer)
  }

  _remove(offer: Offer): void {
    this._store?.remove(this._userId, offer)
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
