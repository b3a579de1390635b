// What becomes of messages that were sent: edits, deletions, refusals, and second thoughts.
//
// One's own are on offer under one `changeId` until they are answered, so that each is made once.

import type { Offer } from './outbox.js'
import type { ChatRoom } from './room.js'
import type { ChatMessage, PendingChange } from './types.js'
import { RoomcastError } from './index.js'
import { compare, keyOf, placeOf } from './values.js'
import type { ChangeReply, Events, Position } from './wire.js'

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
    const earlier = room._offers._changes.filter(({ id, userId = _me }) => id === change.id
      && userId === (change.userId ?? _me))
    // What is being deleted is edited no more.
    if (earlier.some(({ content, error }) => content === undefined && !error)) return
    // A later change makes an earlier one superfluous, unless it is under way.
    for (const other of earlier) if (!other.isAsked) room._offers._drop(other)
    room._offers._add({ ...change, ...room._offers._new(), changeId: room._newId(), id: change.id })
  }

  _delete(id: string, userId?: string): void {
    if (this._room._offers._sends.some((send) => send.id === id && send.error)) this._discard(id)
    else this._alter({ id, ...userId && { userId } })
  }

  _retry(id: string): void {
    const room = this._room
    const failed = room._offers._all().filter((offer) => offer.id === id && offer.error)
    for (const offer of failed) {
      room._offers._drop(offer)
      const name = offer.changeId ? 'changeId' : 'id'
      const renews = NEEDS_NEW_ID.test(offer.error?.code ?? '')
      const { at } = room._offers._new()
      // It may have been taken before it was refused: it is offered on this connection, too.
      const { answeredOn, isJournaled, ...anew } = offer
      room._offers._add({
        ...anew, error: undefined, at, ...renews && { [name]: room._newId() },
      })
    }
    if (failed.length && room._status === 'refused') room.join()
  }

  /** What stands in the room, or a journal has, is not thrown away, only what is on offer. */
  _discard(id: string): void {
    const room = this._room
    for (const offer of room._offers._all()) {
      const isKept = room._stands(id) || room._after?.unplaced._parts.has(room._ownKey(id))
      if (offer.id !== id || !offer.changeId && isKept) continue
      room._offers._drop(offer)
      offer.error ??= new RoomcastError('discarded')
      offer.settle?.(room._offers._view(offer))
    }
  }

  /** One by one: of two changes of a message the later one has to come later. */
  _pump(): void {
    const room = this._room
    const { _connection } = room._client
    const offer = room._offers._changes.find(({ error, answeredOn }) => !error
      && answeredOn !== _connection)
    // It may be of a message that is on offer itself, and has no place yet.
    if (this._pumping || room._status !== 'live' || !offer || room._offers._due()) return
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
      } else if (error && error.code !== 'disconnected') room._offers._refuse(offer, error)
      else if (!error && room._offers._changes.includes(offer)) {
        const { position } = reply as ChangeReply
        offer.isJournaled = !position
        offer.answeredOn = _connection
        if (position) {
          this._amend({
            id, userId, changeId, position, ...isEdit && { content }, ...metadata && { metadata },
          }, !isEdit)
        }
        room._changed()
      }
      next()
    })
  }

  /** Of two changes the later one counts; what was deleted stays deleted. */
  _amend(
    change: Partial<Events['message:update']> & { deletedAt?: string | undefined }
      & { userId: string, id: string, position: Position },
    isDeleted: boolean,
  ): void {
    const room = this._room
    const own = room._offers._changes.find(({ changeId }) => changeId === change.changeId)
    if (own) room._offers._drop(own)
    const old = room._known.get(keyOf(change))
    if (!old || compare(change.position, placeOf(old)) <= 0) return
    const { content, metadata, editedAt, deletedAt, position: changedPosition } = change
    const now = room._now()
    let next: ChatMessage = { ...old, changedPosition }
    if (isDeleted) next = { ...next, content: '', deletedAt: deletedAt ?? now }
    else if (!old.deletedAt) {
      next = {
        ...next, content: content ?? old.content, editedAt: editedAt ?? now,
        ...metadata && { metadata },
      }
    }
    room._replace(next)
  }

  /** The database has refused a message, or a change, that stood. */
  _rejected({ id, userId, changeId, error }: Events['message:rejected']): void {
    const room = this._room
    const key = keyOf({ id, userId })
    const message = room._known.get(key)
    const cause = new RoomcastError('rejected', error?.message)
    // Of a change: the message stands as it stood, and a reset follows that reads it anew.
    if (changeId) {
      room._error = cause
      const own = room._offers._changes.find((each) => each.changeId === changeId)
      if (own) room._offers._refuse(own, cause)
    } else {
      room._after?.unplaced._end(key)
      if (message) room._standing.splice(room._indexOf(message.position) - 1, 1)
      room._known.delete(key)
      const send = room._offers._of(key)
      if (send) room._offers._refuse(send, cause)
    }
  }

  /** A message with what a change of it will make of it. */
  _view(message: ChatMessage): ChatMessage {
    const { _me, _offers } = this._room
    const change = _offers._changes.findLast(({ id, userId = _me }) => id === message.id
      && userId === message.userId)
    if (!change) return message
    const { content, error, waiting, isJournaled, metadata, createdAt } = change
    const known = this._views.get(change)
    const why = error ?? waiting ?? isJournaled
    if (known?.of === message && known.why === why) return known.view
    const isEdit = content !== undefined
    const pending: PendingChange = {
      type: isEdit ? 'edit' : 'delete', ...isEdit && { content },
      ...error ? { error } : waiting ? { waiting } : isJournaled && { journaled: true },
    }
    const view: ChatMessage = error ? { ...message, change: pending } : {
      ...message, change: pending, content: content ?? '', ...metadata && { metadata },
      ...isEdit ? { editedAt: createdAt } : { deletedAt: createdAt },
    }
    this._views.set(change, { of: message, why, view })
    return view
  }
}
