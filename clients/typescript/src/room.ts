// One room: messages in the room's order, the cursor, what is on offer, and who is there.
//
// An own message is kept until it is *persisted* and offered again, under the same id, on every new
// connection; the server says of each offer whether it stands already. What the server told is kept
// with the position of its last change, so that it can be told again and counts once.

import type { ChatClient } from './client.js'
import type { Answered } from './connection.js'
import type { Offer } from './outbox.js'
import type { Answer } from './stream.js'
import type {
  ChatMessage, PendingChange, Room, RoomSnapshot, RoomStatus, SendOptions, Sent, StreamOptions,
  StreamWriter,
} from './types.js'
import type {
  Cursor, Events, HistoryReply, JoinReply, Position, Presence, Receipt, SendReply, WireMessage,
} from './wire.js'
import { RoomcastError, compare, covers, keyOf, placeOf, uuidv7 } from './values.js'

const PAGE = 50
/** Messages that are kept; of more the oldest are dropped, and read again when asked for. */
const KEPT = 2000
const LINGER_MS = 1000
const TYPING_AGAIN_MS = 3000
const TYPING_MS = 5000
const RECEIPT_MS = 400
/** An answer that is being written is told again soon after a join, or its end was missed. */
const LOST_MS = 5000

type Table<T> = { readonly [userId: string]: T }

/** What an event says, with the fields that are its room's taken out. */
const without = <T extends object, K extends keyof T>(from: T, key: K): Omit<T, K> => {
  const { [key]: _, ...rest } = from
  return rest
}

export class ChatRoom implements Room {
  /** How it stands in the server's eyes; `_wanted` says whether anybody wants to be in it. */
  _status: RoomStatus = 'left'
  /** In the order in which they are to be made. */
  _sends: Offer[] = []
  _changes: Offer[] = []
  private _error: RoomcastError | null = null
  private _listeners = new Set<() => void>()
  private _pinned = false
  private _snapshot: RoomSnapshot | null = null
  private _notified = true

  private _joins = 0
  private _cursor: Cursor | undefined
  private _persisted: Position | null = null
  private _standing: ChatMessage[] = []
  private _known = new Map<string, ChatMessage>()
  private _streams = new Map<string, ChatMessage>()
  private _lost = new Set<string>()
  private _hasOlder = false
  private _kept = KEPT
  /** Grows when messages are dropped: a page that was asked for before must not land. */
  private _generation = 0
  private _older: Promise<boolean> | undefined
  private _pumping = false

  private _presence: Table<Presence> = {}
  private _presenceCount = 0
  private _typing = new Map<string, ReturnType<typeof setTimeout>>()
  private _receipts: Table<Receipt> = {}
  private _upTo: Position | null = null
  private _toldUpTo: Position | null = null
  private _unreadAtJoin = 0
  private _telling = false
  private _typedAt = 0
  private _activity: 'active' | 'idle' = 'active'
  /** Until when the server takes no more of what is said by the way. */
  private _hushed: { [name: string]: number } = {}

  constructor(readonly id: string, private _client: ChatClient) {}

  // --- Being in it ---

  get _wanted(): boolean {
    return this._pinned || this._listeners.size > 0 || this._offers().some(({ error }) => !error)
  }

  _offers(): Offer[] {
    return [...this._sends, ...this._changes]
  }

  subscribe(listener: () => void): () => void {
    // A function of its own, so that the same listener may subscribe twice.
    const own = (): void => listener()
    this._listeners.add(own)
    this._enter()
    return () => {
      this._listeners.delete(own)
      // A component that is mounted twice, or moves, comes back at once.
      setTimeout(() => this._leaveUnwanted(), LINGER_MS)
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

  _leaveUnwanted(): void {
    if (!this._wanted) this._depart()
  }

  private _depart(): void {
    if (/^(live|joining)$/.test(this._status)) this._ask('room:leave', {}, () => {})
    this._away('left')
  }

  private _enter(): void {
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
    for (const user of this._typing.keys()) this._types(user, 0)
    for (const key of this._streams.keys()) this._lost.add(key)
    if (status !== 'joining') {
      this._presence = {}
      this._presenceCount = 0
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
        if (error.code === 'forbidden') for (const send of this._sends) this._refuse(send, error)
      }
      this._changed()
    })
  }

  private _joined(reply: JoinReply): void {
    const { messages, persisted, head, receipts, unread } = reply
    this._status = 'live'
    this._error = null
    if (reply.reset || !reply.recovered) this._forget(reply.hasMore)
    // A page is not sorted by where its messages changed: all are compared with the cursor as it was.
    const from = this._cursor
    this._persist(persisted)
    for (const message of messages) {
      if (compare(placeOf(message), from) <= 0) continue
      this._put(message, true)
      this._advance(message)
    }
    this._cursor ??= head
    this._listPresence(reply)
    for (const user of this._typing.keys()) this._types(user, 0)
    for (const { userId, expiresInMs } of Object.values(reply.typing)) {
      this._types(userId, expiresInMs)
    }
    const own = receipts[this._client._userId]
    this._receipts = receipts
    this._toldUpTo = own?.position ?? null
    this._unreadAtJoin = own ? unread : 0
    this._readTo(this._toldUpTo)
    // Who comes for the first time owes nothing; a place that is not there is another database's.
    if (!this._upTo || compare(this._upTo, head) > 0) this._upTo = head
    if (this._activity === 'idle') this._mention('presence:update', { status: 'idle' })
    this._tellRead()
    this._pump()
    const { _joins } = this
    setTimeout(() => {
      if (_joins !== this._joins) return
      for (const key of this._lost) this._streams.delete(key)
      this._lost.clear()
      this._changed()
    }, LOST_MS)
  }

  _ask(name: string, data: object, done: Answered): void {
    this._client._link.ask(name, { roomId: this.id, ...data }, done)
  }

  /** Said by the way: lost without harm, and not said again before the server would take it. */
  private _mention(name: string, data: object): void {
    if (this._status !== 'live' || Date.now() < (this._hushed[name] ?? 0)) return
    this._ask(name, data, (error) => {
      if (error?.retryAt) this._hushed[name] = error.retryAt
    })
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
      case 'message:stream': return this._part(data)
      case 'message:persisted':
        return this._persist((data as Events['message:persisted']).upTo)
      case 'message:rejected': return this._reject(data)
      case 'presence:list': return this._listPresence(data)
      case 'presence:update': return this._person(data)
      case 'typing:start': {
        const { userId, expiresInMs } = data as Events['typing:start']
        return this._types(userId, expiresInMs)
      }
      case 'typing:stop': return this._types((data as Events['typing:stop']).userId, 0)
      case 'receipt:list':
        this._receipts = (data as Events['receipt:list']).receipts
        return
      case 'receipt:update': {
        const receipt = without(data as Events['receipt:update'], 'roomId')
        const { userId, position } = receipt
        if (compare(position, this._receipts[userId]?.position) <= 0) return
        this._receipts = { ...this._receipts, [userId]: receipt }
        if (userId === this._client._userId) this._readTo(this._toldUpTo = position)
      }
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
    this._types(message.userId, 0)
    if (this._standing.length <= this._kept) return
    for (const old of this._standing.splice(0, PAGE)) this._known.delete(keyOf(old))
    this._hasOlder = true
    this._generation++
  }

  private _change(
    change: Events['message:update'] & Events['message:delete'], isDeleted: boolean,
  ): void {
    if (this._advance(change)) this._amend(change, isDeleted)
  }

  /** Of two changes the later one counts; what was deleted stays deleted. */
  private _amend(
    change: Partial<Events['message:update']> & { deletedAt?: string | undefined }
      & { userId: string, id: string, position: Position },
    isDeleted: boolean,
  ): void {
    const old = this._known.get(keyOf(change))
    if (!old || compare(change.position, placeOf(old)) <= 0) return
    const { content, metadata, editedAt, deletedAt, position: changedPosition } = change
    const now = this._client._now()
    let next: ChatMessage = { ...old, changedPosition }
    if (isDeleted) next = { ...next, content: '', deletedAt: deletedAt ?? now }
    else if (!old.deletedAt) {
      next = {
        ...next, content: content ?? old.content, editedAt: editedAt ?? now,
        ...metadata && { metadata },
      }
    }
    this._replace(next)
  }

  private _replace(message: ChatMessage): void {
    this._known.set(keyOf(message), message)
    this._standing[this._indexOf(message.position) - 1] = message
  }

  /** How many stand at or before a position. */
  private _indexOf(position: Position | undefined): number {
    let [low, high] = [0, this._standing.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if (compare(this._standing[middle]?.position, position) <= 0) low = middle + 1
      else high = middle
    }
    return low
  }

  /** Takes in a message from anywhere. One that stands already is replaced by a later state. */
  private _put(message: WireMessage, inPage = false): void {
    const key = keyOf(message)
    const old = this._known.get(key)
    const { position } = message
    if (old && compare(placeOf(message), placeOf(old)) < 0) return
    this._streams.delete(key)
    this._lost.delete(key)
    if (old) this._standing.splice(this._indexOf(old.position) - 1, 1)
    this._known.delete(key)
    const send = this._sendOf(key)
    // It stands, whatever was said of it before: an operator may have had a refused one tried again.
    if (send?.error) this._refuse(send, undefined)
    // What is older than the oldest loaded one would leave a hole: its page brings it.
    const first = this._standing[0]
    const isAfar = this._hasOlder && first && compare(position, first.position) < 0 && !old
    if (!isAfar) {
      // A page shows what stands: older epochs in it are settled too, but for what is on offer.
      const isPersisted = covers(this._persisted, position)
        || inPage && !send && compare(position, this._persisted) <= 0
      const next: ChatMessage = { ...message, state: isPersisted ? 'persisted' : 'sent' }
      this._known.set(key, next)
      this._standing.splice(this._indexOf(position), 0, next)
    }
    if (covers(this._persisted, position)) this._settle(send)
  }

  /** A watermark has moved: everything of its epoch up to it is in the database. */
  private _persist(upTo: Position): void {
    if (compare(upTo, this._persisted) <= 0) return
    for (let at = this._indexOf(upTo); at-- > 0;) {
      const message = this._standing[at] as ChatMessage
      if (covers(this._persisted, message.position)) break
      if (!covers(upTo, message.position)) break
      if (message.state !== 'sent') continue
      this._replace({ ...message, state: 'persisted' })
      this._settle(this._sendOf(keyOf(message)))
    }
    this._persisted = upTo
  }

  private _reject({ id, userId, changeId, error }: Events['message:rejected']): void {
    const key = keyOf({ id, userId })
    const message = this._known.get(key)
    const cause = new RoomcastError('rejected', error?.message)
    if (changeId) {
      // The message stands as it stood, and a reset follows that reads it anew.
      if (message) this._error = cause
      return
    }
    this._streams.delete(key)
    if (message) {
      this._known.delete(key)
      this._standing.splice(this._indexOf(message.position) - 1, 1)
    }
    let send = this._sendOf(key)
    if (!send && message && userId === this._client._userId && error) {
      // Another tab of this person's wrote it; here it can be offered again as well.
      this._sends.push(send = { ...message, at: this._client._order() })
    }
    if (send) this._refuse(send, cause)
  }

  private _part(part: Events['message:stream']): void {
    const { offset, delta, id, userId, type } = part
    const key = keyOf(part)
    if (this._known.has(key)) return
    const createdAt = this._client._now()
    const message: ChatMessage = this._streams.get(key)
      ?? { id, userId, type, roomId: this.id, content: '', createdAt, state: 'streaming' }
    const { content } = message
    // Beyond the end something was lost: what comes from the beginning, or the end, makes up for it.
    const next = offset <= content.length ? content.slice(0, offset) + delta : content
    this._streams.set(key, { ...message, content: next })
    this._lost.delete(key)
    this._types(userId, 0)
  }

  /** Forgets all but what is on offer: the page that follows says whether that stands. */
  private _forget(hasOlder: boolean): void {
    this._standing = []
    this._known.clear()
    this._streams.clear()
    this._lost.clear()
    this._cursor = undefined
    this._persisted = null
    this._hasOlder = hasOlder
    this._kept = KEPT
    this._generation++
  }

  private _listPresence(
    { presence, presenceCount }: { presence: Table<Presence>, presenceCount: number },
  ): void {
    this._presence = presence
    this._presenceCount = presenceCount
  }

  private _person(event: Events['presence:update']): void {
    const { roomId, presenceCount, ...person } = event
    this._presenceCount = presenceCount
    const { userId, status } = person
    if (!userId) return
    if (status === 'offline') {
      this._presence = without(this._presence, userId)
      this._types(userId, 0)
    } else {
      const known = { ...this._presence[userId], ...person } as Presence
      this._presence = { ...this._presence, [userId]: known }
    }
  }

  /** A mark ends when its time is over, whether or not the server's word of it arrives. */
  private _types(userId: string, forMs: number): void {
    clearTimeout(this._typing.get(userId))
    this._typing.delete(userId)
    if (!forMs || userId === this._client._userId) return
    this._typing.set(userId, setTimeout(() => {
      this._typing.delete(userId)
      this._changed()
    }, forMs))
  }

  // --- What one says ---

  send(content: string, options: SendOptions = {}): Sent {
    const { id = this._newId(), type, metadata, credits } = options
    const offer: Offer = {
      roomId: this.id, id, content, createdAt: this._client._now(), at: this._client._order(),
      ...type && { type }, ...metadata && { metadata }, ...credits && { credits },
    }
    this._client._admit(offer)
    const settled = new Promise<ChatMessage>((resolve) => { offer.settle = resolve })
    this._typedAt = 0
    this._offer(offer)
    return { id, settled }
  }

  edit(
    id: string, content: string, options: { metadata?: WireMessage['metadata'], userId?: string } = {},
  ): void {
    this._alter({ id, content, ...options })
  }

  delete(id: string, options: { userId?: string } = {}): void {
    if (this._sends.some((send) => send.id === id && send.error)) this.discard(id)
    else this._alter({ id, ...options })
  }

  private _alter(change: Pick<Offer, 'id' | 'content' | 'metadata' | 'userId'>): void {
    const offer: Offer = {
      ...change, roomId: this.id, changeId: this._newId(),
      createdAt: this._client._now(), at: this._client._order(),
    }
    this._client._admit(offer)
    // A later change of the same message makes an earlier one superfluous, unless it is under way.
    for (const other of this._changes.filter((each) => each.id === change.id && !each.isAsked)) {
      this._drop(other)
    }
    this._offer(offer)
  }

  _offer(offer: Offer): void {
    const offers = offer.changeId ? this._changes : this._sends
    offers.push(offer)
    offers.sort((a, b) => a.at - b.at)
    this._client._keep(offer)
    this._enter()
    this._changed()
    this._pump()
  }

  retry(id: string): void {
    const failed = this._offers().filter((offer) => offer.id === id && offer.error)
    for (const offer of failed) {
      const { code } = offer.error as RoomcastError
      this._drop(offer)
      // Under the old id the answer would be the same.
      const renews = /^(rejected|conflict|bad_id)$/.test(code)
      const name = offer.changeId ? 'changeId' : 'id'
      this._offer({
        ...offer, error: undefined, at: this._client._order(),
        ...renews && { [name]: this._newId() },
      })
    }
    if (failed.length && this._status === 'refused') this.join()
  }

  discard(id: string): void {
    for (const offer of this._offers().filter((each) => each.id === id)) {
      if (offer.changeId || !this._known.has(this._ownKey(id))) {
        this._drop(offer)
        offer.error ??= new RoomcastError('discarded')
        offer.settle?.(this._view(offer))
      }
    }
    this._changed()
  }

  private _newId(): string {
    return uuidv7(this._client._nowMs())
  }

  private _ownKey(id: string): string {
    return keyOf({ userId: this._client._userId, id })
  }

  private _sendOf(key: string): Offer | undefined {
    return this._sends.find((send) => this._ownKey(send.id) === key)
  }

  private _drop(offer: Offer): void {
    const others = (each: Offer): boolean => each !== offer
    this._sends = this._sends.filter(others)
    this._changes = this._changes.filter(others)
    this._client._forget(offer)
    setTimeout(() => this._leaveUnwanted(), LINGER_MS)
  }

  private _refuse(offer: Offer, error: RoomcastError | undefined): void {
    offer.error = error
    this._client._keep(offer)
    if (error && !offer.changeId) offer.settle?.(this._view(offer))
    this._changed()
  }

  /** The database has it. */
  private _settle(send: Offer | undefined): void {
    if (!send || send.error) return
    this._drop(send)
    const message = this._known.get(this._ownKey(send.id)) ?? this._view(send)
    send.settle?.({ ...message, state: 'persisted' })
  }

  /**
   * Offers one after the other: one that waits must not be overtaken. Changes come last, as they may
   * be of a message that is on offer itself.
   */
  private _pump(): void {
    if (this._pumping || this._status !== 'live') return
    const { _connection } = this._client
    const isDue = (offer: Offer): boolean => !offer.error && offer.answeredOn !== _connection
    const offer = this._sends.find(isDue) ?? this._changes.find(isDue)
    if (!offer) return
    this._pumping = true
    const { id, changeId, content, type, metadata, credits } = offer
    const data = { id, content, type, metadata, credits }
    const done: Answered = (error, reply) => {
      offer.isAsked = false
      const waitMs = this._answered(offer, error, reply as SendReply)
      const next = (): void => {
        this._pumping = false
        this._pump()
      }
      if (waitMs) setTimeout(next, waitMs)
      else next()
      this._changed()
    }
    if (changeId) {
      offer.isAsked = true
      const userId = offer.userId ?? this._client._userId
      const name = content === undefined ? 'message:delete' : 'message:edit'
      this._ask(name, { id, userId, changeId, content, metadata }, done)
    } else {
      this._ask('message:send', data, (error, reply) => {
        // Before `answeredOn` is set a lost connection leaves it due.
        if (!error) offer.answeredOn = _connection
        done(error, reply)
      })
    }
  }

  /** What came of an offer; how long to wait before the next. */
  private _answered(offer: Offer, error: RoomcastError | null, reply: SendReply): number {
    // Discarded meanwhile, or settled by an event.
    if (!this._offers().includes(offer)) return 0
    if (error) {
      if (error.code === 'disconnected') return 0
      if (error.code === 'not_joined') this._rejoin()
      else if (error.retryAt) return Math.max(1, error.retryAt - Date.now())
      else if (error.code === 'bad_id' && error.serverTime) {
        // The id was made by this computer's clock, before the server had told the time.
        this._client._serverTime(error.serverTime)
        this._drop(offer)
        this._offer({ ...offer, [offer.changeId ? 'changeId' : 'id']: this._newId() })
      } else this._refuse(offer, error)
      return 0
    }
    const userId = this._client._userId
    const { id, content = '', type = 'user', metadata, createdAt, changeId } = offer
    const { position } = reply
    if (changeId) {
      this._drop(offer)
      const by = { userId: offer.userId ?? userId, id, position: position as Position }
      this._amend({ ...by, ...metadata && { metadata }, content }, offer.content === undefined)
      return 0
    }
    // The event says the same, now or soon.
    if (position && !this._known.has(this._ownKey(id))) {
      this._put({
        roomId: this.id, id, userId, type, content, createdAt, position,
        ...metadata && { metadata },
      })
    }
    if (reply.persisted) {
      const message = this._known.get(this._ownKey(id))
      if (message) this._replace({ ...message, state: 'persisted' })
      this._settle(offer)
    }
    return 0
  }

  startTyping(): void {
    const now = Date.now()
    if (now - this._typedAt < TYPING_AGAIN_MS) return
    this._typedAt = now
    this._mention('typing:start', {})
  }

  stopTyping(): void {
    if (Date.now() - this._typedAt < TYPING_MS) this._mention('typing:stop', {})
    this._typedAt = 0
  }

  setPresence(status: 'active' | 'idle'): void {
    if (status === this._activity) return
    this._activity = status
    this._mention('presence:update', { status })
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

  // --- Reading ---

  loadOlder(): Promise<boolean> {
    return this._older ??= new Promise<boolean>((resolve, reject) => {
      const before = this._standing[0]?.position
      if (!this._hasOlder || !before) return resolve(false)
      const { _generation } = this
      this._ask('history:get', { before, limit: PAGE }, (error, reply) => {
        if (error) return reject(error)
        const { messages, hasMore } = reply as HistoryReply
        if (_generation === this._generation) {
          this._hasOlder = false
          this._kept += messages.length
          for (const message of messages) this._put(message, true)
          this._hasOlder = hasMore
          this._changed()
        }
        resolve(this._hasOlder)
      })
    }).finally(() => { this._older = undefined })
  }

  markRead(messageId?: string): void {
    const message = messageId === undefined ? this._standing.at(-1)
      : this._standing.find(({ id }) => id === messageId)
    if (this._readTo(message?.position)) this._tellRead()
  }

  private _readTo(position: Position | null | undefined): boolean {
    if (!position || compare(position, this._upTo) <= 0) return false
    this._upTo = position
    this._changed()
    return true
  }

  /** What is read within a moment goes out as one receipt, and only for what others said. */
  private _tellRead(): void {
    const isDue = this._status === 'live' && compare(this._upTo, this._toldUpTo) > 0
      && this._standing.some(({ userId, position }) => userId !== this._client._userId
        && compare(position, this._toldUpTo) > 0 && compare(position, this._upTo) <= 0)
    if (this._telling || !isDue) return
    this._telling = true
    setTimeout(() => {
      const position = this._upTo
      this._ask('receipt:update', { position }, (error) => {
        const again = (): void => {
          this._telling = false
          this._tellRead()
        }
        if (error?.code === 'disconnected') this._telling = false
        else if (error?.retryAt) setTimeout(again, error.retryAt - Date.now())
        else {
          if (compare(position, this._toldUpTo) > 0) this._toldUpTo = position
          again()
        }
      })
    }, RECEIPT_MS)
  }

  private _unread(): number {
    let unread = 0
    let at = this._standing.length
    for (; at > 0; at--) {
      const { userId, position, deletedAt } = this._standing[at - 1] as ChatMessage
      if (compare(position, this._upTo) <= 0) break
      if (!deletedAt && userId !== this._client._userId) unread++
    }
    return at || !this._hasOlder ? unread : Math.max(unread, this._unreadAtJoin)
  }

  // --- What is seen ---

  /** An offer as the message that it will be. */
  private _view(offer: Offer): ChatMessage {
    const { roomId, id, type = 'user', content = '', metadata, createdAt, error } = offer
    return {
      roomId, id, type, content, createdAt, userId: this._client._userId,
      state: error ? 'failed' : 'sending', ...metadata && { metadata }, ...error && { error },
    }
  }

  /** A message with what a change of it will make of it. */
  private _changedView(message: ChatMessage): ChatMessage {
    const { _userId } = this._client
    const change = this._changes.findLast((each) => each.id === message.id
      && (each.userId ?? _userId) === message.userId)
    if (!change) return message
    const { content, error, metadata, createdAt } = change
    const type = content === undefined ? 'delete' : 'edit'
    const pending: PendingChange = {
      type, ...content !== undefined && { content }, ...error && { error },
    }
    if (error) return { ...message, change: pending }
    return {
      ...message, change: pending, content: content ?? '', ...metadata && { metadata },
      ...content === undefined ? { deletedAt: createdAt } : { editedAt: createdAt },
    }
  }

  snapshot(): RoomSnapshot {
    return this._snapshot ??= {
      id: this.id, status: this._status, error: this._error,
      messages: this._messages(),
      presence: this._presence, presenceCount: this._presenceCount,
      typing: [...this._typing.keys()],
      receipts: this._receipts, unread: this._unread(), readUpTo: this._upTo,
      hasOlder: this._hasOlder,
    }
  }

  private _messages(): readonly ChatMessage[] {
    const waiting = this._sends.filter(({ id }) => !this._known.has(this._ownKey(id)))
    const all = [
      ...this._standing, ...this._streams.values(), ...waiting.map((send) => this._view(send)),
    ]
    return this._changes.length ? all.map((message) => this._changedView(message)) : all
  }

  /** Listeners are called once for all that happens within a task. */
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
