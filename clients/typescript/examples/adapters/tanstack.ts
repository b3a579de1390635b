// A room's messages in TanStack Query's cache, kept up to date as they come.

import { useQuery, useQueryClient } from '@tanstack/react-query'
import type { UseQueryResult } from '@tanstack/react-query'
import { useEffect } from 'react'
import type { ChatMessage, Client } from 'roomcast'

export const roomKey = (id: string) => ['roomcast', id, 'messages'] as const

export function useRoomMessages(
  client: Client,
  id: string,
): UseQueryResult<readonly ChatMessage[]> {
  const cache = useQueryClient()
  const room = client.room(id)
  useEffect(() => {
    const update = () => cache.setQueryData(roomKey(id), room.snapshot().messages)
    update()
    return room.subscribe(update)
  }, [cache, id, room])
  return useQuery({
    queryKey: roomKey(id),
    queryFn: () => room.snapshot().messages,
    // It is told of every change: there is nothing to fetch again.
    staleTime: Infinity,
  })
}
