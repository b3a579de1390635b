// What is on offer: kept until the server has settled it, in memory and, where it can be, on disk.

import type { ChatMessage } from './types.js'
import type { Credits, Metadata, MessageType } from './wire.js'
import type { RoomcastError } from './values.js'

/** One command that is offered until it is settled. Plain data, so that it can be stored. */
export interface Entry {
  readonly roomId: string
  /** Of the message; with `changeId` an edit, or without `content` a deletion, of it. */
  id: string
  readonly changeId?: string
  /** The message's sender, for a change. */
  readonly userId?: string
  readonly content?: string
  readonly type?: MessageType
  readonly metadata?: Metadata
  readonly credits?: number | Credits
  readonly createdAt: string
  /** Their order. */
  readonly at: number
  /** A refusal that is final; offered again only when a person says so. */
  error?: RoomcastError | undefined
}

/** An entry in the memory of this tab. */
export interface Offer extends Entry {
  /** The connection whose server has answered for it. */
  answeredOn?: number
  /** The database has it; it is kept until it stands here too. */
  isSafe?: boolean
  /** A change whose answer is awaited: what comes later cannot take its place. */
  isAsked?: boolean
  /** A change that a journal has. */
  isJournaled?: boolean
  /** Why a change is not made yet; what a message waits for is in its `view`. */
  waiting?: RoomcastError | undefined
  settle?: (message: ChatMessage) => void
  /** How it is shown. */
  view?: ChatMessage | undefined
}

/** What outlives this tab. */
export interface Store {
  /** What a person left behind in tabs that are gone; from now on it is this tab's. */
  adopt(userId: string): Promise<Entry[]>
  put(userId: string, offer: Offer): void
  remove(userId: string, offer: Offer): void
}
