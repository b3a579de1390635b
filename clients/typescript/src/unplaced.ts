// What is shown behind the room's order because it has no place in it yet: answers that are being
// written, as they grow. The message that stands in the end is what counts.

import type { ChatRoom } from './room.js'
import type { ChatMessage } from './types.js'
import { keyOf } from './values.js'
import type { Events } from './wire.js'

/** One that is being written is told again soon after a join, or its end was missed. */
const LOST_MS = 5000

export class Unplaced {
  readonly _parts = new Map<string, ChatMessage>()
  /** Of which nobody has told more since the connection broke. */
  private _lost = new Set<string>()

  constructor(private _room: ChatRoom) {}

  _part(part: Events['message:stream']): void {
    const { offset, delta, id, userId, type } = part
    const { _room } = this
    const key = keyOf(part)
    if (_room._known.has(key)) return
    const message: ChatMessage = this._parts.get(key) ?? {
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
