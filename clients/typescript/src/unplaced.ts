// What is shown behind the room's order because it has no place in it yet: answers as they are
// written, and what only a journal has. The message that stands in the end is what counts.

import type { Offer } from './outbox.js'
import type { ChatRoom } from './room.js'
import type { ChatMessage } from './types.js'
import { keyOf } from './values.js'
import type { Events, PendingMessage } from './wire.js'

/** What goes on is told again soon after a join; of the rest the end was missed. */
const LOST_MS = 5000

export class Unplaced {
  readonly _parts = new Map<string, ChatMessage>()
  /** Of which nobody has told more since the connection broke. */
  private _lost = new Set<string>()

  constructor(private _room: ChatRoom) {}

  _event(name: keyof Events, data: never): void {
    if (name === 'message:pending') this._pending(data)
    else if (name === 'message:stream') this._part(data)
  }

  /** The two may cross: a message that stands is not pending any more. */
  _pending(message: PendingMessage): void {
    const key = keyOf(message)
    if (this._room._known.has(key)) return
    this._parts.set(key, { ...message, state: 'pending' })
    this._lost.delete(key)
  }

  /** How many messages and changes only a journal has. */
  _journaled(): number {
    const isKept = ({ isJournaled, error }: Offer): unknown => isJournaled && !error
    return [...this._parts.values()].filter(({ state }) => state === 'pending').length
      + this._room._offers._changes.filter(isKept).length
  }

  private _part(part: Events['message:stream']): void {
    const { offset, delta, id, userId, type } = part
    const { _room } = this
    const key = keyOf(part)
    const known = this._parts.get(key)
    if (_room._known.has(key) || known?.state === 'pending') return
    const message: ChatMessage = known ?? {
      id, userId, type, roomId: _room.id, content: '', createdAt: _room._now(), state: 'streaming',
    }
    const { content } = message
    // Beyond the end something was lost: what comes from the beginning, or the end, makes up for
    // it.
    const next = offset <= content.length ? content.slice(0, offset) + delta : content
    this._parts.set(key, { ...message, content: next })
    this._lost.delete(key)
  }

  _end(key: string): void {
    this._parts.delete(key)
    this._lost.delete(key)
  }

  _away(): void {
    for (const key of this._parts.keys()) this._lost.add(key)
  }

  _joined(): void {
    if (this._lost.size) setTimeout(() => this._forgetLost(), LOST_MS)
  }

  private _forgetLost(): void {
    // Away again: the next join decides.
    if (this._room._status !== 'live') return
    for (const key of this._lost) this._parts.delete(key)
    this._lost.clear()
    this._room._changed()
  }
}
