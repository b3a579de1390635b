// One WebSocket: refs and replies, signs of life, tokens, when and whether to come back.

import type {
  ClientOptions, ConnectionState, WebSocketConstructor, WebSocketLike,
} from './types.js'
import type { Refusal, Welcome } from './wire.js'
import { RoomcastError, refused } from './values.js'

const BACKOFF_MIN_MS = 1000
const BACKOFF_MAX_MS = 30_000
const WELCOME_MS = 10_000
/** How often a living connection is looked at. */
const TICK_MS = 2000
/** A question without an answer for so long asks for a sign of life. */
const UNANSWERED_MS = 3000
/** So long may a sign of life take. */
const LIFE_MS = 4000
const SILENCE_MS = 25_000
/** A connection that lived this long starts the back-off anew. */
const STEADY_MS = 10_000
const BLOCKED_MS = 300_000

/** What is called with a reply or with why there is none; at once, before any later event. */
export type Answered = (error: RoomcastError | null, reply?: unknown) => void

export interface LinkStatus {
  readonly state: ConnectionState
  readonly error: RoomcastError | null
  readonly reconnectAt: number | null
  readonly welcome: Welcome | null
  readonly serverTimeOffsetMs: number
}

export interface LinkListener {
  /** The status is another one. */
  changed(): void
  /** A new connection: every room is to be joined anew. */
  live(): void
  event(name: string, data: unknown): void
}

/** What rooms speak through: a socket of this tab's own, or one that another tab has. */
export interface Link {
  status: LinkStatus
  ask(name: string, data: unknown, done: Answered): void
  open(): void
  close(): void
  reauthenticate(): void
}

interface Waiting {
  readonly done: Answered
  readonly askedAt: number
}

/** `ws://host/ws`, from any address that a person would write. */
export function socketUrl(url: string): URL {
  const page = typeof location === 'object' ? location.href : undefined
  const whole = new URL(url, page)
  whole.protocol = whole.protocol.replace('http', 'ws')
  if (whole.pathname === '/') whole.pathname = '/ws'
  return whole
}

export class Connection implements Link {
  status: LinkStatus = {
    state: 'idle', error: null, reconnectAt: null, welcome: null, serverTimeOffsetMs: 0,
  }
  _socket: WebSocketLike | null = null
  private _waiting = new Map<number, Waiting>()
  private _refs = 0
  /** Counts tries to connect, so that what an older one awaited comes to nothing. */
  private _dials = 0
  /** Failures in a row: how long to wait, and which address comes next. */
  private _failures = 0
  private _address = 0
  private _unauthorized = 0
  /** One that was asked for already; for one connect. */
  _token: string | undefined
  private _afterMs: number | undefined
  private _blockedMs = BLOCKED_MS
  private _lifeMs = LIFE_MS
  private _liveAt = 0
  private _heardAt = 0
  private _tickAt = 0
  _expiresAt: string | undefined
  private _timer: ReturnType<typeof setTimeout> | undefined
  private _ticks: ReturnType<typeof setInterval> | undefined
  private _life: ReturnType<typeof setTimeout> | undefined

  constructor(private _options: ClientOptions, public _on: LinkListener) {}

  open(): void {
    if (/^(idle|closed|unauthorized)$/.test(this.status.state)) {
      this._failures = this._unauthorized = 0
      this._listen(true)
      this._set({ state: 'connecting', error: null })
      void this._dial()
    }
  }

  close(): void {
    this._end('closed', null)
  }

  reauthenticate(): void {
    this._drop()
    this._failures = this._unauthorized = 0
    this._listen(true)
    this._set({ state: 'connecting', error: null })
    this._fail()
    void this._dial()
  }

  ask(name: string, data: unknown, done: Answered): void {
    if (this.status.state !== 'connected') done(new RoomcastError('disconnected'))
    else this._say(name, data, done)
  }

  private _say(event: string, data: unknown, done: Answered): void {
    const ref = ++this._refs
    this._waiting.set(ref, { done, askedAt: Date.now() })
    this._socket?.send(JSON.stringify({ event, ref, data }))
  }

  private _set(status: Partial<LinkStatus>): void {
    this.status = { ...this.status, reconnectAt: null, ...status }
    this._on.changed()
  }

  private async _dial(): Promise<void> {
    const { getToken, getTicket, user, url } = this._options
    const dial = ++this._dials
    clearTimeout(this._timer)
    if (this.status.reconnectAt) this._set({})
    const urls = typeof url === 'string' ? [url] : url
    let token = this._token
    let address: URL
    this._token = undefined
    try {
      address = socketUrl(urls[this._address % urls.length] as string)
      if (getToken) token ??= await getToken()
      else if (getTicket) address.searchParams.set('ticket', await getTicket())
      else if (user) address.searchParams.set('user', user)
      if (getToken && !token) throw new Error('no token')
    } catch (cause) {
      const { message } = cause as Error
      if (dial === this._dials) this._later(new RoomcastError('token_failed', message, { cause }))
      return
    }
    if (dial !== this._dials) return
    const Socket = this._options.WebSocket ?? (globalThis.WebSocket as WebSocketConstructor)
    const socket = this._socket = new Socket(address.href, 'roomcast.v1')
    this._timer = setTimeout(() => this._dead(), WELCOME_MS)
    this._afterMs = this._expiresAt = undefined
    socket.onopen = () => {
      if (token) this._say('auth', { token }, (_, reply) => this._expires(reply))
    }
    socket.onmessage = ({ data }: { data: string }) => this._receive(data)
    socket.onclose = ({ code, reason }: { code: number, reason: string }) => {
      this._closed(code, reason)
    }
    // The close that follows says all there is to say; without this, Node would throw.
    socket.onerror = () => {}
  }

  private _receive(text: string): void {
    this._heardAt = Date.now()
    const { event, ref, data = {}, error } = JSON.parse(text) as {
      event: string, ref: number, data?: unknown, error?: Refusal,
    }
    if (event === 'reply') {
      const waiting = this._waiting.get(ref)
      this._waiting.delete(ref)
      if (error?.code === 'blocked') this._blockedMs = error.retryAfterMs ?? BLOCKED_MS
      waiting?.done(error ? refused(error) : null, data)
    } else if (event === 'welcome') this._welcome(data as Welcome)
    else if (event === 'reconnect') this._afterMs = (data as { afterMs?: number }).afterMs
    else this._on.event(event, data)
  }

  private _welcome(welcome: Welcome): void {
    clearTimeout(this._timer)
    this._unauthorized = 0
    this._liveAt = this._tickAt = Date.now()
    const serverTimeOffsetMs = Date.parse(welcome.serverTime) - this._liveAt
    this._ticks = setInterval(() => this._tick(), TICK_MS)
    this._set({ state: 'connected', error: null, welcome, serverTimeOffsetMs })
    const { getToken } = this._options
    if (getToken && this._expiresAt) {
      void import('./after.js').then(({ keepFresh }) => keepFresh(this, getToken), () => {})
    }
    this._on.live()
  }

  /** A socket can be dead without saying so (sleep, a black hole): only silence tells. */
  private _tick(): void {
    const now = Date.now()
    const slept = now - this._tickAt > 2 * TICK_MS
    this._tickAt = now
    const [oldest] = this._waiting.values()
    const unanswered = oldest && now - Math.max(oldest.askedAt, this._heardAt) > UNANSWERED_MS
    if (slept || unanswered || now - this._heardAt > SILENCE_MS) this._beat()
  }

  private _beat(): void {
    if (this.status.state !== 'connected' || this._life) return
    const askedAt = Date.now()
    const wait = (): void => {
      this._life = setTimeout(() => {
        // What lies before the answer on a slow line is a sign of life, too.
        if (this._heardAt > askedAt && Date.now() - this._heardAt < this._lifeMs) wait()
        else {
          // One big frame may take longer than that: the next connection is given more time.
          this._lifeMs = Math.min(2 * this._lifeMs, BACKOFF_MAX_MS)
          this._dead()
        }
      }, this._lifeMs)
    }
    wait()
    this.ask('heartbeat', {}, (error) => {
      clearTimeout(this._life)
      this._life = undefined
      if (error?.code !== 'disconnected') this._lifeMs = LIFE_MS
    })
  }

  /** Back online, or looked at again: find out now. */
  private _look = ({ type }: { type: string }): void => {
    if (type === 'offline' && this.status.reconnectAt) this._set({ ...this.status, state: type })
    else if (typeof document !== 'object' || !document.hidden) this._nudge()
  }

  _nudge(): void {
    if (this.status.reconnectAt) void this._dial()
    else this._beat()
  }

  private _listen(on: boolean): void {
    if (typeof addEventListener !== 'function') return
    const listen = on ? addEventListener : removeEventListener
    for (const name of ['online', 'offline', 'pageshow', 'visibilitychange']) {
      listen(name, this._look)
    }
  }

  _expires(reply: unknown): void {
    this._expiresAt = (reply as { expiresAt?: string } | undefined)?.expiresAt
  }

  /** Gives the socket up without waiting for a close that a dead peer never sends. */
  private _dead(): void {
    this._socket?.close()
    this._closed(1006, '')
  }

  private _closed(closeCode: number, reason: string): void {
    if (!this._socket) return
    this._drop()
    const error = new RoomcastError(
      closeCode === 4429 ? 'blocked' : closeCode === 4401 ? 'unauthenticated' : 'closed',
      reason || 'close code ' + closeCode, { closeCode },
    )
    const { getToken, getTicket } = this._options
    if (closeCode === 4401) {
      if (++this._unauthorized > 2 || !(getToken || getTicket)) this._end('unauthorized', error)
      else this._later(error, this._unauthorized < 2 ? 0 : undefined)
    } else if (closeCode === 4429) this._later(error, this._blockedMs)
    else if (closeCode > 4399 || /^100[237]$/.test('' + closeCode)) this._end('closed', error)
    else this._later(null, closeCode === 1012 ? this._afterMs : undefined)
  }

  /** Comes back after a while; by default by full jitter, so that thousands do not come at once. */
  private _later(error: RoomcastError | null, afterMs?: number): void {
    if (this._liveAt && Date.now() - this._liveAt > STEADY_MS) this._failures = 0
    this._liveAt = 0
    this._address++
    const ceiling = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** this._failures++)
    const delayMs = afterMs ?? Math.random() * ceiling
    clearTimeout(this._timer)
    this._timer = setTimeout(() => void this._dial(), delayMs)
    const offline = typeof navigator === 'object' && navigator.onLine === false
    const state = offline ? 'offline' : 'reconnecting'
    this._set({ state, error, reconnectAt: Date.now() + delayMs })
    this._fail()
  }

  private _end(state: 'closed' | 'unauthorized', error: RoomcastError | null): void {
    this._drop()
    this._listen(false)
    this._set({ state, error })
    this._fail()
  }

  /** Lets go of the socket and of everything that was timed for it. */
  private _drop(): void {
    this._dials++
    const socket = this._socket
    this._socket = null
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null
      socket.close()
    }
    clearTimeout(this._timer)
    clearTimeout(this._life)
    clearInterval(this._ticks)
    this._life = undefined
  }

  /** After the state says so: whoever hears of it does not ask again at once. */
  private _fail(): void {
    const waiting = [...this._waiting.values()]
    this._waiting.clear()
    for (const { done } of waiting) done(new RoomcastError('disconnected'))
  }
}
