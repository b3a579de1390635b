// One socket for all tabs of a person. The tab that holds the lock has it, and does for the others
// what they ask; when it goes, the next in the lock's queue takes over. Each tab keeps rooms,
// cursors and an outbox of its own: to them, another tab's socket is a connection like any other.

import type { ChatClient } from './client.js'
import type { Answered, Connection, Link, LinkStatus } from './connection.js'
import { RoomcastError } from './index.js'
import { inherit } from './inherit.js'
import { whenGone } from './storage.js'

/** A tab that answers nothing for so long is asked for a sign of life, and then loses the lead. */
const SILENCE_MS = 3000

type Plain = { readonly code: RoomcastError['code'], readonly message: string } | null

type Packet = { readonly from: string, readonly to?: string } & (
  | { readonly kind: 'hello' | 'leader' | 'live' | 'bye' | 'ping' | 'pong' | 'open' }
  | { readonly kind: 'reauthenticate' | 'nudge' }
  | { readonly kind: 'status', readonly status: LinkStatus, readonly error: Plain }
  | { readonly kind: 'event', readonly name: string, readonly data: unknown }
  | { readonly kind: 'ask', readonly ref: number, readonly name: string, readonly data: unknown }
  | {
    readonly kind: 'answer', readonly ref: number, readonly error: Plain,
    readonly reply: unknown,
  }
)

type Unsent = Packet extends infer P ? P extends Packet ? Omit<P, 'from'> : never : never

/** A clone would keep nothing of an error but its message. */
const plain = (error: RoomcastError | null): Plain => error && { ...error, message: error.message }
const revived = (error: Plain): RoomcastError | null =>
  error && new RoomcastError(error.code, error.message, error)

export class SharedLink implements Link {
  status: LinkStatus
  private _channel: BroadcastChannel | null = null
  private _leads = false
  private _heardAt = 0
  private _refs = 0
  private _waiting = new Map<number, Answered>()
  private _watch: ReturnType<typeof setTimeout> | undefined
  private _retry: ReturnType<typeof setTimeout> | undefined
  private _queue = new AbortController()
  private _release: () => void = () => {}
  /** Which tabs are in a room, and which of them are idle there. */
  private _members = new Map<string, Set<string>>()
  private _idle = new Map<string, Set<string>>()
  private _watched = new Set<string>()

  constructor(
    private _own: Connection, private _name: string, private _tab: string,
    private _client: ChatClient,
  ) {
    this.status = _own.status
    _own._on = {
      changed: () => {
        if (!this._leads) return
        this.status = _own.status
        _client.changed()
        this._tell()
      },
      live: () => {
        this._members.clear()
        this._idle.clear()
        _client.live()
        this._post({ kind: 'live' })
      },
      event: (name, data) => {
        _client.event(name, data)
        this._post({ kind: 'event', name, data })
      },
    }
    document.addEventListener('visibilitychange', () => this._nudge())
    addEventListener('online', () => this._nudge())
  }

  open(): void {
    if (!this._channel) {
      this._channel = new BroadcastChannel(this._name)
      this._channel.onmessage = ({ data }: MessageEvent<Packet>) => {
        if (data.from !== this._tab && (data.to ?? this._tab) === this._tab) this._receive(data)
      }
      this._set({ state: 'connecting', error: null })
      this._lineUp()
      this._post({ kind: 'hello' })
    } else if (this._leads) this._own.open()
    else this._post({ kind: 'open' })
  }

  close(): void {
    this._post({ kind: 'bye' })
    this._queue.abort()
    this._leads = false
    this._own.close()
    this._release()
    this._channel?.close()
    this._channel = null
    clearTimeout(this._retry)
    this._set({ state: 'closed', error: null })
    this._fail()
  }

  reauthenticate(): void {
    if (!this._channel) this.open()
    else if (this._leads) this._own.reauthenticate()
    else this._post({ kind: 'reauthenticate' })
  }

  ask(name: string, data: unknown, done: Answered): void {
    if (this.status.state !== 'connected') done(new RoomcastError('disconnected'))
    else if (this._leads) this._do(this._tab, name, data, done)
    else {
      const ref = ++this._refs
      this._waiting.set(ref, done)
      this._post({ kind: 'ask', ref, name, data })
      this._watch ??= setTimeout(() => this._look(), SILENCE_MS)
    }
  }

  // --- Who leads ---

  private _lineUp(steal = false): void {
    this._queue.abort()
    const { signal } = this._queue = new AbortController()
    const options = steal ? { steal } : { signal }
    navigator.locks.request(this._name, options, () => this._lead()).catch(() => {
      // Stolen, by a tab to which this one seemed dead; or this one has closed.
      if (!this._leads) return
      this._leads = false
      this._own.close()
      this._lost()
      this._lineUp()
      this._post({ kind: 'hello' })
    })
  }

  private _lead(): Promise<void> | undefined {
    if (!this._channel) return
    this._leads = true
    clearTimeout(this._retry)
    this._lost()
    this._own.open()
    this._post({ kind: 'leader' })
    return new Promise((release) => { this._release = release })
  }

  /** The tab that led is gone: what it was asked has an outcome that nobody knows. */
  private _lost(): void {
    const { state } = this.status
    if (state === 'connected') this._set({ state: 'reconnecting', error: null })
    this._fail()
  }

  private _fail(): void {
    const waiting = [...this._waiting.values()]
    this._waiting.clear()
    for (const done of waiting) done(new RoomcastError('disconnected'))
  }

  /** A tab that stands still keeps its lock: whoever waits for it takes the lead. */
  private _look(): void {
    this._watch = undefined
    if (this._leads || !this._waiting.size) return
    const silentMs = Date.now() - this._heardAt
    if (silentMs > 2 * SILENCE_MS) this._lineUp(true)
    else {
      if (silentMs > SILENCE_MS - 500) this._post({ kind: 'ping' })
      this._watch = setTimeout(() => this._look(), SILENCE_MS)
    }
  }

  // --- What is said between tabs ---

  private _post(packet: Unsent): void {
    this._channel?.postMessage({ from: this._tab, ...packet })
  }

  private _tell(to?: string): void {
    const error = plain(this.status.error)
    const status = { ...this.status, error: null }
    this._post({ kind: 'status', status, error, ...to && { to } })
  }

  private _set(status: Partial<LinkStatus>): void {
    this.status = { ...this.status, reconnectAt: null, ...status }
    this._client.changed()
  }

  private _nudge(): void {
    if (!document.hidden && !this._leads) this._post({ kind: 'nudge' })
  }

  private _receive(packet: Packet): void {
    if (this._leads) this._serve(packet)
    else this._follow(packet)
  }

  private _follow(packet: Packet): void {
    const { kind } = packet
    if (/^(leader|live|status|event|answer|pong)$/.test(kind)) this._heardAt = Date.now()
    if (kind === 'leader') {
      this._lost()
      this._post({ kind: 'hello' })
    } else if (kind === 'status') {
      const { status, error } = packet
      clearTimeout(this._retry)
      // The leading tab may be hidden, and its timers late.
      if (status.reconnectAt) {
        const inMs = status.reconnectAt - Date.now() + 250
        this._retry = setTimeout(() => this._nudge(), inMs)
      }
      this.status = { ...status, error: revived(error) }
      this._client.changed()
    } else if (kind === 'live') this._client.live()
    else if (kind === 'event') this._client.event(packet.name, packet.data)
    else if (kind === 'answer') {
      const done = this._waiting.get(packet.ref)
      this._waiting.delete(packet.ref)
      done?.(revived(packet.error), packet.reply)
    }
  }

  private _serve(packet: Packet): void {
    const { from, kind } = packet
    if (kind === 'hello') {
      this._tell(from)
      if (this.status.state === 'connected') this._post({ kind: 'live', to: from })
      this._watchOver(from)
    } else if (kind === 'ask') {
      const { ref, name, data } = packet
      this._do(from, name, data, (error, reply) => {
        this._post({ kind: 'answer', to: from, ref, error: plain(error), reply })
      })
    } else if (kind === 'ping') this._post({ kind: 'pong', to: from })
    else if (kind === 'open') this._own.open()
    else if (kind === 'nudge') this._own._nudge()
    else if (kind === 'reauthenticate') this._own.reauthenticate()
    else if (kind === 'bye') this._gone(from)
  }

  // --- What a tab does for others ---

  /** A tab's own lock is free once it is gone. */
  private _watchOver(tab: string): void {
    if (this._watched.has(tab)) return
    this._watched.add(tab)
    void whenGone(tab).then(() => {
      this._gone(tab)
      void inherit(this._client)
    })
  }

  private _gone(tab: string): void {
    if (!this._leads) return
    for (const [roomId, tabs] of this._members) {
      if (tabs.has(tab)) this._do(tab, 'room:leave', { roomId }, () => {})
    }
  }

  private _in(rooms: Map<string, Set<string>>, roomId: string): Set<string> {
    let tabs = rooms.get(roomId)
    if (!tabs) rooms.set(roomId, tabs = new Set())
    return tabs
  }

  /** One connection stands for all tabs: it leaves a room, and is idle, with the last of them. */
  private _do(tab: string, name: string, data: unknown, done: Answered): void {
    const { roomId = '', status } = (data ?? {}) as { roomId?: string, status?: string }
    const members = this._in(this._members, roomId)
    const idle = this._in(this._idle, roomId)
    if (name === 'room:leave') {
      members.delete(tab)
      idle.delete(tab)
      if (members.size) return done(null, {})
    } else if (name === 'room:join') {
      members.add(tab)
      idle.delete(tab)
    } else if (name === 'presence:update') {
      if (status === 'idle') idle.add(tab)
      else idle.delete(tab)
      if (status === 'idle' && idle.size < members.size) return done(null, {})
    }
    this._own.ask(name, data, done)
  }
}
