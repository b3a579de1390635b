'use client'
// React's way to a room. A component is rendered anew only for what it has read.

import {
  createContext, createElement, useContext, useMemo, useSyncExternalStore,
} from 'react'
import type { ReactElement, ReactNode } from 'react'
import type {
  ChatMessage, Client, ClientSnapshot, ConnectionState, MessageType, Metadata, Receipt, Presence,
  Room, RoomcastError, RoomStatus, Sent, StreamOptions, StreamWriter,
} from './index.js'

const Context = createContext<Client | null>(null)

export interface RoomcastProviderProps {
  readonly client: Client
  readonly children?: ReactNode
}

/** Gives every hook below it a client, made once with `createClient`. */
export function RoomcastProvider({ client, children }: RoomcastProviderProps): ReactElement {
  return createElement(Context.Provider, { value: client }, children)
}

/** The client of the nearest provider. */
export function useRoomcast(): Client {
  const client = useContext(Context)
  if (!client) throw new Error('roomcast: there is no <RoomcastProvider client={…}> around this')
  return client
}

const IDLE: ClientSnapshot = {
  state: 'idle', userId: null, limits: null, serverTimeOffsetMs: 0, pendingCount: 0, error: null,
  reconnectAt: null, credits: null,
}

/** How it goes with the connection, for a banner. */
export function useRoomcastStatus(): ClientSnapshot {
  const client = useRoomcast()
  const [subscribe, snapshot] = useMemo(() => [
    (listener: () => void) => client.subscribe(listener), () => client.snapshot(),
  ] as const, [client])
  return useSyncExternalStore(subscribe, snapshot, () => IDLE)
}

export interface TeamChatOptions {
  /** The room's id. */
  readonly teamChatId: string
  /** Whether to be in the room; true by default. */
  readonly enabled?: boolean
  /** Instead of the nearest provider's. */
  readonly client?: Client
}

/** What changes; a component that does not read a field is not rendered for it. */
export interface TeamChatValues {
  readonly isConnected: boolean
  readonly state: ConnectionState
  readonly status: RoomStatus
  readonly userId: string | null
  readonly messages: readonly ChatMessage[]
  readonly journaled: number
  readonly presence: { readonly [userId: string]: Presence }
  readonly presenceCount: number
  readonly typing: readonly string[]
  readonly receipts: { readonly [userId: string]: Receipt }
  readonly unread: number
  readonly hasOlder: boolean
  readonly pendingCount: number
  readonly error: RoomcastError | null
  readonly reconnectAt: number | null
}

type SameInRoom = 'retry' | 'discard' | 'loadOlder' | 'startTyping' | 'stopTyping' | 'setPresence'

/** What one does; the same functions as long as client and room are the same. */
export interface TeamChatActions extends Pick<Room, SameInRoom> {
  sendMessage(
    content: string, type?: MessageType, metadata?: Metadata, clientMessageId?: string,
  ): Sent
  editMessage(id: string, content: string): void
  deleteMessage(id: string): void
  updateReadReceipt(lastReadMessageId?: string): void
  streamMessage(options?: StreamOptions): StreamWriter
}

export interface TeamChat extends TeamChatValues, TeamChatActions {}

const EMPTY: TeamChatValues = {
  isConnected: false, state: 'idle', status: 'left', userId: null, messages: [], journaled: 0,
  presence: {}, presenceCount: 0, typing: [], receipts: {}, unread: 0, hasOlder: false,
  pendingCount: 0, error: null, reconnectAt: null,
}

const FIELDS = Object.keys(EMPTY) as (keyof TeamChatValues)[]

function actionsOf(room: Room): TeamChatActions {
  return {
    sendMessage: (content, type, metadata, id) => room.send(content, {
      ...type && { type }, ...metadata && { metadata }, ...id && { id },
    }),
    editMessage: (id, content) => room.edit(id, content),
    deleteMessage: (id) => room.delete(id),
    retry: (id) => room.retry(id),
    discard: (id) => room.discard(id),
    loadOlder: () => room.loadOlder(),
    startTyping: () => room.startTyping(),
    stopTyping: () => room.stopTyping(),
    updateReadReceipt: (id) => room.markRead(id),
    setPresence: (status) => room.setPresence(status),
    streamMessage: (options) => room.stream(options),
  }
}

/** A room as one component sees it: remembers which fields were read. */
function watch(client: Client, room: Room, enabled: boolean) {
  const used = new Set<keyof TeamChatValues>()
  const actions = actionsOf(room)
  let values = EMPTY
  const snapshot = (): TeamChatValues => {
    const { state, userId, pendingCount, error, reconnectAt } = client.snapshot()
    const seen = room.snapshot()
    const next: TeamChatValues = {
      ...seen, state, userId, pendingCount, reconnectAt, isConnected: state === 'connected',
      error: seen.error ?? error,
    }
    const differs = (field: keyof TeamChatValues): boolean => next[field] !== values[field]
    // What nobody has read is brought up to date in place: nobody is to be rendered for it.
    if (values === EMPTY || [...used].some(differs)) values = next
    else Object.assign(values, next)
    return values
  }
  return {
    snapshot,
    subscribe(listener: () => void): () => void {
      if (!enabled) return () => {}
      const ends = [client.subscribe(listener), room.subscribe(listener)]
      return () => ends.forEach((end) => end())
    },
    chat(current: TeamChatValues): TeamChat {
      const chat = { ...actions }
      for (const field of FIELDS) {
        Object.defineProperty(chat, field, {
          enumerable: true,
          get() {
            used.add(field)
            return current[field]
          },
        })
      }
      return chat as TeamChat
    },
  }
}

/** A room's messages and people, and all that one can do in it. */
export function useTeamChatWebSocket(options: TeamChatOptions): TeamChat {
  const { teamChatId, enabled = true } = options
  const given = useContext(Context)
  const client = options.client ?? given
  if (!client) throw new Error('roomcast: give a client, or a <RoomcastProvider client={…}>')
  const watched = useMemo(
    () => watch(client, client.room(teamChatId), enabled), [client, teamChatId, enabled],
  )
  const values = useSyncExternalStore(watched.subscribe, watched.snapshot, () => EMPTY)
  return useMemo(() => watched.chat(values), [watched, values])
}

export { useTeamChatWebSocket as useOptimizedTeamChatWebSocket }
