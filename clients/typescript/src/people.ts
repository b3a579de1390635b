// What of a room has no place in its order: who is there, who types, who has read how far. The
// server tells all of it anew with every join.

import type { ChatRoom } from './room.js'
import type { ChatMessage, RoomSnapshot } from './types.js'
import { compare } from './values.js'
import type { Events, JoinReply, Position, Presence, Receipt } from './wire.js'

const TYPING_AGAIN_MS = 3000
const TYPING_MS = 5000
const RECEIPT_MS = 400

type Table<T> = { readonly [userId: string]: T }

const without = <T extends object, K extends keyof T>(from: T, key: K): Omit<T, K> => {
  const { [key]: _, ...rest } = from
  return rest
}

export class People {
  private _presence: Table<Presence> = {}
  private _presenceCount = 0
  private _typing = new Map<string, ReturnType<typeof setTimeout>>()
  private _typers: readonly string[] = []
  private _receipts: Table<Receipt> = {}
  /** How far one has read, and how far the server knows of it. */
  private _upTo: Position | null = null
  private _told: Position | null = null
  private _unreadAtJoin = 0
  private _telling = false
  private _typedAt = 0
  private _activity: 'active' | 'idle' = 'active'
  /** Until when the server takes no more of what is said by the way. */
  private _hushed: { [name: string]: number } = {}

  constructor(private _room: ChatRoom) {}

  _joined(reply: JoinReply): void {
    this._list(reply)
    this._noneTypes()
    for (const { userId, expiresInMs } of Object.values(reply.typing)) {
      this._types(userId, expiresInMs)
    }
    const { receipts, head, unread } = reply
    const own = receipts[this._room._me]
    this._receipts = receipts
    this._told = own?.position ?? null
    this._unreadAtJoin = own ? unread : 0
    this._readTo(this._told)
    // Who comes for the first time owes nothing; a place that is not there is another database's.
    if (!this._upTo || compare(this._upTo, head) > 0) this._upTo = head
    // Whoever joins is taken for active.
    if (this._activity === 'idle') this._mention('presence:update', { status: 'idle' })
    this._tell()
  }

  /** Nobody is heard any more; who was here stays shown while one comes back. */
  _away(isGone: boolean): void {
    this._noneTypes()
    if (isGone) this._list({ presence: {}, presenceCount: 0 })
  }

  _event(name: keyof Events, data: never): void {
    switch (name) {
      case 'presence:list': return this._list(data)
      case 'presence:update': return this._person(data)
      case 'typing:start': {
        const { userId, expiresInMs } = data as Events['typing:start']
        return this._types(userId, expiresInMs)
      }
      // It ends with what was typed.
      case 'message:stream':
      case 'message:pending':
      case 'typing:stop': return this._types((data as Events['typing:stop']).userId, 0)
      case 'receipt:list':
        this._receipts = (data as Events['receipt:list']).receipts
        return
      case 'receipt:update': {
        const receipt = without(data as Events['receipt:update'], 'roomId')
        const { userId, position } = receipt
        if (compare(position, this._receipts[userId]?.position) <= 0) return
        this._receipts = { ...this._receipts, [userId]: receipt }
        if (userId === this._room._me) this._readTo(this._told = position)
      }
    }
  }

  private _list(
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

  private _noneTypes(): void {
    for (const user of [...this._typing.keys()]) this._types(user, 0)
  }

  /** A mark ends when its time is over, whether or not the server's word of it arrives. */
  _types(userId: string, forMs: number): void {
    clearTimeout(this._typing.get(userId))
    const had = this._typing.delete(userId)
    if (forMs && userId !== this._room._me) {
      this._typing.set(userId, setTimeout(() => this._types(userId, 0), forMs))
    } else if (!had) return
    this._typers = [...this._typing.keys()]
    this._room._changed()
  }

  /** Said by the way: lost without harm, and not said again before the server would take it. */
  private _mention(name: string, data: object): void {
    if (this._room._status !== 'live' || Date.now() < (this._hushed[name] ?? 0)) return
    this._room._ask(name, data, (error) => {
      if (error?.retryAt) this._hushed[name] = error.retryAt
    })
  }

  _startTyping(): void {
    const now = Date.now()
    if (now - this._typedAt < TYPING_AGAIN_MS) return
    this._typedAt = now
    this._mention('typing:start', {})
  }

  /** The server ends the mark by itself with a message, which `isSaid` tells. */
  _stopTyping(isSaid: boolean): void {
    if (!isSaid && Date.now() - this._typedAt < TYPING_MS) this._mention('typing:stop', {})
    this._typedAt = 0
  }

  _setPresence(status: 'active' | 'idle'): void {
    if (status === this._activity) return
    this._activity = status
    this._mention('presence:update', { status })
  }

  _markRead(messageId?: string): void {
    const { _standing } = this._room
    const message = messageId === undefined ? _standing.at(-1)
      : _standing.find(({ id }) => id === messageId)
    if (this._readTo(message?.position)) this._tell()
  }

  private _readTo(position: Position | null | undefined): boolean {
    if (!position || compare(position, this._upTo) <= 0) return false
    this._upTo = position
    this._room._changed()
    return true
  }

  /** What is read within a moment goes out as one receipt, and only for what others said. */
  private _tell(): void {
    const isDue = this._room._status === 'live' && this._room._standing.some(
      ({ userId, position }) => userId !== this._room._me
        && compare(position, this._told) > 0 && compare(position, this._upTo) <= 0)
    if (this._telling || !isDue) return
    this._telling = true
    setTimeout(() => {
      const position = this._upTo
      this._room._ask('receipt:update', { position }, (error) => {
        const again = (): void => {
          this._telling = false
          this._tell()
        }
        if (error?.code === 'disconnected') this._telling = false
        else if (error?.retryAt) setTimeout(again, error.retryAt - Date.now())
        else {
          if (compare(position, this._told) > 0) this._told = position
          again()
        }
      })
    }, RECEIPT_MS)
  }

  private _unread(): number {
    const { _standing, _hasOlder, _me } = this._room
    let unread = 0
    let at = _standing.length
    for (; at > 0; at--) {
      const { userId, position, deletedAt } = _standing[at - 1] as ChatMessage
      if (compare(position, this._upTo) <= 0) break
      if (!deletedAt && userId !== _me) unread++
    }
    return at || !_hasOlder ? unread : Math.max(unread, this._unreadAtJoin)
  }

  _seen(): Pick<
    RoomSnapshot, 'presence' | 'presenceCount' | 'typing' | 'receipts' | 'unread' | 'readUpTo'
  > {
    return {
      presence: this._presence, presenceCount: this._presenceCount, typing: this._typers,
      receipts: this._receipts, unread: this._unread(), readUpTo: this._upTo,
    }
  }
}
