// Edits and deletions of messages, and second thoughts: on offer under one `changeId` until they
// are answered, so that each is made once.

import type { Offer } from './outbox.js'
import type { ChatRoom } from './room.js'
import type { ChatMessage, PendingChange } from './types.js'
import { RoomcastError } from './index.js'
import type { ChangeReply } from './wire.js'

/** Under the old id the answer would be the same. */
const NEEDS_NEW_ID = /^(rejected|conflict|bad_id)$/

export class Changes {
  private _pumping = false
  /** Views of messages by the offer that changes them, so that the same is the same object. */
  private _views = new WeakMap<Offer, { of: ChatMessage, why: unknown, view: ChatMessage }>()

  constructor(private _room: ChatRoom) {}

  _alter(change: Pick<Offer, 'id' | 'content' | 'metadata' | 'userId'>): void {
    const room = this._room
    const { _me } = room
    const earlier = room._changes.filter(({ id, userId = _me }) => id === change.id
      && userId === (change.userId ?? _me))
    // What is being deleted is edited no more.
    if (earlier.some(({ content, error }) => content === undefined && !error)) return
    // A later change makes an earlier one superfluous, unless it is under way.
    for (const other of earlier) if (!other.isAsked) room._drop(other)
    room._offer({ ...change, ...room._newOffer(), changeId: room._newId(), id: change.id })
  }

  _delete(id: string, userId?: string): void {
    if (this._room._sends.some((send) => send.id === id && send.error)) this._discard(id)
    else this._alter({ id, ...userId && { userId } })
  }

  _retry(id: string): void {
    const room = this._room
    const failed = room._offers().filter((offer) => offer.id === id && offer.error)
    for (const offer of failed) {
      room._drop(offer)
      const name = offer.changeId ? 'changeId' : 'id'
      const renews = NEEDS_NEW_ID.test(offer.error?.code ?? '')
      const { at } = room._newOffer()
      room._offer({
        ...offer, error: undefined, at, ...renews && { [name]: room._newId() },
      })
    }
    if (failed.length && room._status === 'refused') room.join()
  }

  /** What stands in the room is not thrown away, only what is on offer. */
  _discard(id: string): void {
    const room = this._room
    for (const offer of room._offers()) {
      if (offer.id !== id || !offer.changeId && room._stands(id)) continue
      room._drop(offer)
      offer.error ??= new RoomcastError('discarded')
      offer.settle?.(room._view(offer))
    }
  }

  /** One by one: of two changes of a message the later one has to come later. */
  _pump(): void {
    const room = this._room
    const offer = room._changes.find(({ error }) => !error)
    // It may be of a message that is on offer itself, and has no place yet.
    if (this._pumping || room._status !== 'live' || !offer || room._due()) return
    this._pumping = offer.isAsked = true
    const { id, userId = room._me, changeId, content, metadata } = offer
    const isEdit = content !== undefined
    const name = isEdit ? 'message:edit' : 'message:delete'
    room._ask(name, { id, userId, changeId, content, metadata }, (error, reply) => {
      const next = (): void => {
        this._pumping = false
        this._pump()
      }
      offer.isAsked = false
      offer.waiting = error?.retryAt ? error : undefined
      if (error?.code === 'not_joined') room._rejoin()
      else if (error?.retryAt) {
        room._changed()
        return void setTimeout(next, error.retryAt - Date.now())
      } else if (error && error.code !== 'disconnected') room._refuse(offer, error)
      else if (!error && room._changes.includes(offer)) {
        const { position } = reply as ChangeReply
        room._amend({
          id, userId, position, ...isEdit && { content }, ...metadata && { metadata },
        }, !isEdit)
        room._drop(offer)
      }
      next()
    })
  }

  /** A message with what a change of it will make of it. */
  _view(message: ChatMessage): ChatMessage {
    const { _me, _changes } = this._room
    const change = _changes.findLast(({ id, userId = _me }) => id === message.id
      && userId === message.userId)
    if (!change) return message
    const { content, error, waiting, metadata, createdAt } = change
    const known = this._views.get(change)
    const why = error ?? waiting
    if (known?.of === message && known.why === why) return known.view
    const isEdit = content !== undefined
    const pending: PendingChange = {
      type: isEdit ? 'edit' : 'delete', ...isEdit && { content },
      ...error ? { error } : waiting && { waiting },
    }
    const view: ChatMessage = error ? { ...message, change: pending } : {
      ...message, change: pending, content: content ?? '', ...metadata && { metadata },
      ...isEdit ? { editedAt: createdAt } : { deletedAt: createdAt },
    }
    this._views.set(change, { of: message, why, view })
    return view
  }
}
