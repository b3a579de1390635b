// A room in a zustand store: what a selector does not pick renders nothing.

import type { Client, RoomSnapshot } from 'roomcast'
import { createStore } from 'zustand/vanilla'
import type { StoreApi } from 'zustand/vanilla'

export interface RoomSlice extends RoomSnapshot {
  readonly isConnected: boolean
  readonly send: (content: string) => void
}

/** The store of a room, and how to end it. In a component: `useStore(store, (s) => s.messages)`. */
export function roomStore(client: Client, id: string): [StoreApi<RoomSlice>, () => void] {
  const room = client.room(id)
  const slice = () => ({ ...room.snapshot(), isConnected: client.state === 'connected' })
  const store = createStore<RoomSlice>(() => ({
    ...slice(),
    send: (content) => {
      room.send(content)
    },
  }))
  const update = () => store.setState(slice())
  const ends = [client.subscribe(update), room.subscribe(update)]
  return [store, () => ends.forEach((end) => end())]
}
