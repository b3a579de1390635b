// A room's messages by SWR: `useSWRSubscription` is what it has for data that is pushed.

import type { ChatMessage, Client } from 'roomcast'
import useSWRSubscription from 'swr/subscription'
import type { SWRSubscriptionResponse } from 'swr/subscription'

export function useRoomMessages(
  client: Client,
  roomId: string,
): SWRSubscriptionResponse<readonly ChatMessage[], Error> {
  return useSWRSubscription<readonly ChatMessage[], Error, [string, string]>(
    ['roomcast', roomId],
    ([, id], { next }) => {
      const room = client.room(id)
      const update = () => {
        const { messages, error, status } = room.snapshot()
        if (status === 'refused' || status === 'kicked') next(error)
        else next(null, messages)
      }
      update()
      return room.subscribe(update)
    },
  )
}
