// Pages of history.

import type { ChatRoom } from './room.js'
import type { HistoryReply } from './wire.js'

const PAGE = 50

/** Reads the page before the oldest message; resolves with whether there are older ones still. */
export function loadOlder(room: ChatRoom): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const before = room._standing[0]?.position
    if (!room._hasOlder || !before) return resolve(false)
    const { _generation } = room
    room._ask('history:get', { before, limit: PAGE }, (error, reply) => {
      if (error) return reject(error)
      // Where messages were dropped meanwhile, this page would not join on to what is left.
      if (_generation === room._generation) {
        const { messages, hasMore } = reply as HistoryReply
        room._hasOlder = false
        room._kept += messages.length
        for (const message of messages) room._put(message)
        room._hasOlder = hasMore
        room._changed()
      }
      resolve(room._hasOlder)
    })
  })
}
