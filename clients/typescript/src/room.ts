// One room: being in it, its messages in the room's order, and the cursor.
//
// What the server told is kept with the position of its last change, so that it can be told again
// and counts once.

import type { Changes } from './changes.js'
import type { ChatClient } from './client.js'
import type { Answered } from './connection.js'
import { Offers } from './offers.js'
import type { Offer } from './outbox.js'
import type { People } from './people.js'
import type { Answer } from './stream.js'
import type {
  ChatMessage, Room, RoomSnapshot, RoomStatus, SendOptions, Sent, StreamOptions, StreamWriter,
} from './types.js'
import type { Unplaced } from './unplaced.js'
import { RoomcastError, compare, keyOf, placeOf, uuidv7 } from './values.js'
import type { Cursor, Events, JoinReply, Metadata, Position, WireMessage } from './wire.js'

const PAGE = 50
/** Messages that are kept; of more the oldest are dropped, and read again when asked for. */
const KEPT = 2000
const LINGER_MS = 1000
const LOAD_AGAIN_MS = 5000

/** What is known of people before anything is. */
const NOBODY = {
  presence: {}, presenceCount: 0, typing: [], receipts: {}, unread: 0, readUpTo: null,
}

interface After {
  readonly people: People
  readonly changes: Changes
  readonly unplaced: Unplaced
}

interface EditOptions {
  readonly metadata?: Metadata
  readonly userId?: string
}

export class ChatRoom implements Room {
  /** How it stands in the server's eyes; `_wanted` says whether anybody wants to be in it. */
  _status: RoomStatus = 'left'
  readonly _offers = new Offers(this)
  _error: RoomcastError | null = null
  private _listeners = new Set<() => void>()
  private _pinned = false
  private _snapshot: RoomSnapshot | null = null
  private _notified = true

  private _joins = 0
  private _cursor: Cursor | undefined
  _standing: ChatMessage[] = []
  _known = new Map<string, ChatMessage>()
  _hasOlder = false
  _kept = KEPT
  /** Grows when messages are dropped: a page that was asked for before must not land. */
  _generation = 0
  private _older: Promise<boolean> | undefined
  private _shown: readonly ChatMessage[] = []

  _after: After | undefined
  private _forAfter: ((after: After) => void)[] = []

  constructor(readonly id: string, readonly _client: ChatClient) {}

  // --- Being in it ---

  get _me(): string {
    return this._client._userId
  }

  get _wanted(): boolean {
    return this._pinned || this._listeners.size > 0
      || this._offers._all().some(({ error }) => !error)
  }

  subscribe(listener: () => void): () => void {
    // A function of its own, so that the same listener may subscribe twice.
    const own = (): void => listener()
    this._listeners.add(own)
    this._enter()
    return () => {
      this._listeners.delete(own)
      this._leaveUnwanted()
    }
  }

  join(): void {
    this._pinned = true
    if (this._status === 'kicked' || this._status === 'refused') this._status = 'left'
    this._enter()
  }

  leave(): void {
    this._pinned = false
    this._depart()
  }

  /** After a while: a component that is mounted twice, or moves, comes back at once. */
  _leaveUnwanted(): void {
    if (this._wanted || this._status === 'left') return
    setTimeout(() => this._wanted || this._depart(), LINGER_MS)
  }

  private _depart(): void {
    if (this._status === 'left') return
    this._ask('room:leave', {}, () => {})
    this._away('left')
  }

  _enter(): void {
    if (this._status !== 'left') return
    this._status = 'joining'
    this._changed()
    this._client._wake()
    this._join()
  }

  /** The connection is gone, or the room is: nobody is heard any more. */
  _away(status: RoomStatus, error: RoomcastError | null = null): void {
    this._joins++
    this._status = status
    this._error = error
    // Before the first join there is nobody to forget, and nothing to load for it.
    if (this._after || this._forAfter[0]) {
      this._with(({ people, unplaced }) => {
        people._away(status !== 'joining')
        unplaced._away()
      })
    }
    this._changed()
  }

  /** A new connection, or somebody asked again for what had been refused. */
  _rejoin(): void {
    if (!this._wanted || this._status === 'kicked') return
    this._away('joining')
    this._join()
  }

  private _join(): void {
    const join = ++this._joins
    const since = this._cursor
    this._ask('room:join', { limit: PAGE, since }, (error, reply) => {
      if (join !== this._joins) return
      if (!error) this._joined(reply as JoinReply)
      else if (error.retryAt) {
        this._error = error
        setTimeout(() => join === this._joins && this._join(), error.retryAt - Date.now())
      } else if (error.code !== 'disconnected') {
        this._away('refused', error)
        // A room that is not one's own takes nothing: whoever wrote is told so.
        if (error.code === 'forbidden') {
          for (const send of this._offers._sends) this._offers._refuse(send, error)
        }
      }
      this._changed()
    })
  }

  private _joined(reply: JoinReply): void {
    const { messages, head } = reply
    this._status = 'live'
    this._error = null
    if (reply.reset || !reply.recovered) this._forget(reply.hasMore)
    // A page is not sorted by where its messages changed: all are compared with the cursor as it
    // was.
    const from = this._cursor
    for (const message of messages) {
      if (compare(placeOf(message), from) <= 0) continue
      this._put(message)
      this._advance(message)
    }
    this._cursor ??= head
    this._with(({ people, unplaced }) => {
      people._joined(reply)
      unplaced._joined()
    })
    this._offers._pump()
  }

  _ask(name: string, data: object, done: Answered): void {
    this._client._link.ask(name, { roomId: this.id, ...data }, done)
  }

  /** At once, or as soon as the code for it is there, which comes beside the first messages. */
  _with(use: (after: After) => void): void {
    if (this._after) return use(this._after)
    if (this._forAfter.push(use) > 1) return
    const load = (): void => {
      import('./after.js').then(({ People, Changes, Unplaced }) => {
        this._after = {
          people: new People(this), changes: new Changes(this), unplaced: new Unplaced(this),
        }
        for (const waiting of this._forAfter) waiting(this._after)
        this._changed()
      }, () => setTimeout(load, LOAD_AGAIN_MS))
    }
    load()
  }

  // --- What the server tells ---

  /** Before the join's reply nothing of the room counts: what happens meanwhile is in it. */
  _event(name: keyof Events, data: never): void {
    if (name === 'room:error') this._troubled(data)
    else if (this._status === 'live') this._tell(name, data)
    else return
    this._changed()
  }

  private _tell(name: keyof Events, data: never): void {
    switch (name) {
      case 'message:new': return this._new(data)
      case 'message:update': return this._change(data, false)
      case 'message:delete': return this._change(data, true)
      case 'message:persisted':
        return (data as Events['message:persisted']).ids.forEach((id) => {
          this._offers._settle(this._offers._of(this._ownKey(id)))
          this._offers._settleChange(id)
        })
      case 'message:rejected': return this._with(({ changes }) => changes._rejected(data))
      default: this._with(({ people, unplaced }) => {
        unplaced._event(name, data)
        people._event(name, data)
      })
    }
  }

  private _troubled({ code, message }: Events['room:error']): void {
    if (code === 'kicked') this._away('kicked', new RoomcastError(code, message))
    else if (code === 'reset') {
      this._cursor = undefined
      this._rejoin()
    }
  }

  /** Once each, in order: whatever lies at or before the cursor has been told already. */
  private _advance(entry: Partial<WireMessage> & { changeId?: string | undefined }): boolean {
    const place = placeOf(entry) as Position
    if (compare(place, this._cursor) <= 0) return false
    const messageId = entry.changeId ?? entry.id
    this._cursor = { ...place, ...messageId && { messageId } }
    return true
  }

  private _new(message: WireMessage): void {
    if (!this._advance(message)) return
    this._put(message)
    this._with(({ people }) => people._types(message.userId, 0))
    if (this._standing.length <= this._kept) return
    for (const old of this._standing.splice(0, PAGE)) this._known.delete(keyOf(old))
    this._hasOlder = true
    this._generation++
  }

  private _change(
    change: Events['message:update'] & Events['message:delete'], isDeleted: boolean,
  ): void {
    if (this._advance(change)) this._with(({ changes }) => changes._amend(change, isDeleted))
  }

  _replace(message: ChatMessage): void {
    this._known.set(keyOf(message), message)
    this._standing[this._indexOf(message.position) - 1] = message
  }

  /** How many stand at or before a position: nearly always all. */
  _indexOf(at: Position | undefined): number {
    return this._standing.findLastIndex(({ position }) => compare(position, at) <= 0) + 1
  }

  /** Takes in a message from anywhere. One that stands already is replaced by a later state. */
  _put(message: WireMessage): void {
    const key = keyOf(message)
    const old = this._known.get(key)
    const { position } = message
    if (old && compare(placeOf(message), placeOf(old)) < 0) return
    this._after?.unplaced._end(key)
    if (old) this._standing.splice(this._indexOf(old.position) - 1, 1)
    this._known.delete(key)
    const send = this._offers._of(key)
    // It stands, whatever was said of it before: an operator may have had a refused one tried
    // again.
    if (send?.error) this._offers._refuse(send, undefined)
    // What is older than the oldest loaded one would leave a hole: its page brings it.
    const first = this._standing[0]
    const isAfar = this._hasOlder && first && compare(position, first.position) < 0 && !old
    if (!isAfar) {
      // What others sent is theirs to keep.
      const next: ChatMessage = { ...message, state: send ? 'sent' : 'persisted' }
      this._known.set(key, next)
      this._standing.splice(this._indexOf(position), 0, next)
    }
    if (send?.isSafe) this._offers._settle(send)
  }

  /** Another person is here now. */
  _reset(): void {
    this._forget(false)
    this._offers._sends = []
    this._offers._changes = []
    this._changed()
  }

  /** Forgets all but what is on offer: the page that follows says whether that stands. */
  private _forget(hasOlder: boolean): void {
    this._standing = []
    this._known.clear()
    this._after?.unplaced._parts.clear()
    this._cursor = undefined
    this._hasOlder = hasOlder
    this._kept = KEPT
    this._generation++
  }

  // --- What one says ---

  send(content: string, options: SendOptions = {}): Sent {
    const { id, type, metadata, credits } = options
    const offer: Offer = {
      ...this._offers._new(), ...id && { id }, content,
      ...type && { type }, ...metadata && { metadata }, ...credits && { credits },
    }
    this._client._admit(offer)
    const settled = new Promise<ChatMessage>((resolve) => { offer.settle = resolve })
    this._with(({ people }) => people._stopTyping(true))
    this._offers._add(offer)
    return { id: offer.id, settled }
  }

  edit(id: string, content: string, options: EditOptions = {}): void {
    this._client._admit({ ...this._offers._new(), content })
    this._with(({ changes }) => changes._alter({ id, content, ...options }))
  }

  delete(id: string, options: { userId?: string } = {}): void {
    this._with(({ changes }) => changes._delete(id, options.userId))
  }

  retry(id: string): void {
    this._with(({ changes }) => changes._retry(id))
  }

  discard(id: string): void {
    this._with(({ changes }) => changes._discard(id))
  }

  startTyping(): void {
    this._with(({ people }) => people._startTyping())
  }

  stopTyping(): void {
    this._with(({ people }) => people._stopTyping(false))
  }

  setPresence(status: 'active' | 'idle'): void {
    this._with(({ people }) => people._setPresence(status))
  }

  markRead(messageId?: string): void {
    this._with(({ people }) => people._markRead(messageId))
  }

  loadOlder(): Promise<boolean> {
    return this._older ??= import('./after.js').then(({ loadOlder }) => loadOlder(this))
      .finally(() => { this._older = undefined })
  }

  stream(options: StreamOptions = {}): StreamWriter {
    const answer: Answer = { id: this._newId(), options, text: '', wake: () => {} }
    // On demand: few who chat write answers bit by bit.
    const written = import('./stream.js').then(({ write }) => write(this, answer))
    // Whoever never calls `end` is not to be told of an unhandled rejection.
    written.catch(() => {})
    return {
      id: answer.id,
      append: (delta) => {
        if (!answer.end) answer.text += delta
        answer.wake()
      },
      end: (end = {}) => {
        answer.end ??= end
        answer.wake()
        return written
      },
      abort: () => {
        answer.isAborted = true
        answer.wake()
      },
    }
  }

  // --- The outbox ---

  _newId(): string {
    return uuidv7(this._client._nowMs())
  }

  _now(): string {
    return new Date(this._client._nowMs()).toISOString()
  }

  /** Whether an own message has its place in the room. */
  _stands(id: string): ChatMessage | undefined {
    return this._known.get(this._ownKey(id))
  }

  _ownKey(id: string): string {
    return keyOf({ userId: this._me, id })
  }

  // --- What is seen ---

  snapshot(): RoomSnapshot {
    return this._snapshot ??= {
      id: this.id, status: this._status, error: this._error, messages: this._messages(),
      journaled: this._after?.unplaced._journaled() ?? 0, hasOlder: this._hasOlder,
      ...this._after?.people._seen() ?? NOBODY,
    }
  }

  /** The same array as before where nothing in it is another. */
  private _messages(): readonly ChatMessage[] {
    const parts = this._after?.unplaced._parts
    const waiting = this._offers._sends.filter(({ id }) => !this._stands(id)
      && !parts?.has(this._ownKey(id)))
    let all = [
      ...this._standing, ...parts?.values() ?? [],
      ...waiting.map((send) => this._offers._view(send)),
    ]
    const changes = this._offers._changes.length && this._after?.changes
    if (changes) all = all.map((message) => changes._view(message))
    const before = this._shown
    const isSame = all.length === before.length
      && all.every((message, at) => message === before[at])
    return isSame ? before : this._shown = all
  }

  /** Listeners are called once for all that happens within a task. */
  _changed(): void {
    this._snapshot = null
    this._client._changed()
    if (!this._notified) return
    this._notified = false
    queueMicrotask(() => {
      this._notified = true
      for (const listener of [...this._listeners]) listener()
    })
  }
}
