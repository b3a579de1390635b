// What one has on offer in a room: messages until they are persisted, and changes of messages.
//
// An own message is kept until it is *persisted* and offered again, under the same id, on every new
// connection; the server says of each offer whether it stands already.

import type { Entry, Offer } from './outbox.js'
import type { ChatRoom } from './room.js'
import type { ChatMessage } from './types.js'
import type { RoomcastError } from './values.js'
import type { SendReply } from './wire.js'

export class Offers {
  /** In the order in which they are to be made. */
  _sends: Offer[] = []
  _changes: Offer[] = []
  private _pumping = false

  constructor(private _room: ChatRoom) {}

  _all(): Offer[] {
    return [...this._sends, ...this._changes]
  }

  _new(): Entry {
    const { _room } = this
    return {
      roomId: _room.id, id: _room._newId(), createdAt: _room._now(), at: _room._client._order(),
    }
  }

  _add(offer: Offer): void {
    this._take(offer)
    this._room._client._keep(offer)
    this._room._enter()
    this._pump()
  }

  /** Takes an offer in where it belongs; what was left behind by a tab lies before what is new. */
  _take(offer: Offer): void {
    const offers = offer.changeId ? this._changes : this._sends
    offers.push(offer)
    offers.sort((a, b) => a.at - b.at)
    this._room._changed()
  }

  _drop(offer: Offer): void {
    const isOther = (each: Offer): boolean => each !== offer
    this._sends = this._sends.filter(isOther)
    this._changes = this._changes.filter(isOther)
    this._room._client._remove(offer)
    this._room._changed()
    this._room._leaveUnwanted()
  }

  _refuse(offer: Offer, error: RoomcastError | undefined): void {
    offer.error = error
    offer.view = undefined
    // It may have been in a journal that is not asked any more.
    if (!offer.changeId) this._room._after?.unplaced._end(this._room._ownKey(offer.id))
    this._room._client._keep(offer)
    if (error) offer.settle?.(this._view(offer))
    this._room._changed()
  }

  /** The own message with a key. */
  _of(key: string): Offer | undefined {
    return this._sends.find((send) => this._room._ownKey(send.id) === key)
  }

  /** The database has it. One that does not stand here yet is shown as on offer until it does. */
  _settle(send: Offer | undefined): void {
    if (!send || send.error) return
    send.isSafe = true
    const message = this._room._stands(send.id)
    if (!message) return
    const settled: ChatMessage = { ...message, state: 'persisted' }
    this._room._replace(settled)
    this._drop(send)
    send.settle?.(settled)
  }

  /** The database has a change, of which a journal may have been told alone. */
  _settleChange(id: string): void {
    const change = this._changes.find((each) => each.changeId === id && each.isJournaled)
    if (change) this._drop(change)
  }

  /** The first message that the server of this connection has not answered for. */
  _due(): Offer | undefined {
    const { _connection } = this._room._client
    return this._sends.find((send) => !send.error && send.answeredOn !== _connection)
  }

  /** Sends one after the other: one that waits must not be overtaken. */
  _pump(): void {
    const { _room } = this
    if (this._pumping || _room._status !== 'live') return
    const send = this._due()
    if (!send) {
      // A change may be of a message that was on offer itself.
      if (this._changes.length) _room._with(({ changes }) => changes._pump())
      return
    }
    this._pumping = true
    const { id, content, type, metadata, credits } = send
    _room._ask('message:send', { id, content, type, metadata, credits }, (error, reply) => {
      const next = (): void => {
        this._pumping = false
        this._pump()
      }
      // A lost connection leaves it due.
      if (!error) send.answeredOn = _room._client._connection
      if (error?.retryAt) {
        // Still on offer, and shown with why it waits, until there is another answer.
        send.view = { ...this._view(send), error }
        setTimeout(next, error.retryAt - Date.now())
      } else {
        // Discarded meanwhile, or settled by an event, where it is not among them.
        if (this._sends.includes(send)) this._answered(send, error, reply as SendReply)
        next()
      }
      _room._changed()
    })
  }

  private _answered(send: Offer, error: RoomcastError | null, reply: SendReply): void {
    const { _room } = this
    const { id, content = '', type = 'user', metadata, createdAt, roomId } = send
    if (error?.code === 'disconnected') return
    if (error?.code === 'not_joined') _room._rejoin()
    else if (error?.serverTime) {
      // The id was made by this computer's clock, before the server had told the time.
      _room._client._serverTime(error.serverTime)
      this._drop(send)
      this._add({ ...send, id: _room._newId(), view: undefined })
    } else if (error) this._refuse(send, error)
    else {
      const { position, persisted } = reply
      const said = {
        roomId, id, userId: _room._me, type, content, createdAt, ...metadata && { metadata },
      }
      // The event says the same, now or soon.
      if (!position) _room._with(({ unplaced }) => unplaced._pending(said))
      else if (!_room._stands(id)) _room._put({ ...said, position })
      if (persisted) this._settle(send)
    }
  }

  /** An offer as the message that it will be. */
  _view(offer: Offer): ChatMessage {
    const { roomId, id, type = 'user', content = '', metadata, createdAt, error } = offer
    return offer.view ??= {
      roomId, id, type, content, createdAt, userId: this._room._me,
      state: error ? 'failed' : 'sending', ...metadata && { metadata }, ...error && { error },
    }
  }
}
