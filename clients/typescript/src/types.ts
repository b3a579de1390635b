// What an application sees of the client.

import type {
  Commands, CreditBalance, Credits, Limits, Metadata, MessageType, Position, Presence, Receipt,
  RefusalCode,
} from './wire.js'
import type { RoomcastError } from './values.js'

/**
 * How it goes with the connection.
 *
 * | state | means |
 * |---|---|
 * | `idle` | nobody has asked for it yet |
 * | `connecting` | the first try is under way |
 * | `connected` | welcome |
 * | `reconnecting` | it broke; the next try is at `reconnectAt` |
 * | `offline` | the same, and the browser says that there is no network |
 * | `closed` | by `close()`, or for good by the server: see `error` |
 * | `unauthorized` | three tokens in a row were refused; `reauthenticate()` tries again |
 */
export type ConnectionState =
  | 'idle' | 'connecting' | 'connected' | 'reconnecting' | 'offline' | 'closed' | 'unauthorized'

/** A refusal of the server's, or one of the client's own. */
export type ErrorCode =
  | RefusalCode
  /** The room was taken from the person. */
  | 'kicked'
  /** The connection broke before the answer: the outcome is unknown. */
  | 'disconnected'
  /** The outbox has all the messages or bytes that it may have; nothing was sent. */
  | 'outbox_full'
  /** `getToken` or `getTicket` failed. */
  | 'token_failed'
  /** Thrown away by `discard`. */
  | 'discarded'
  /** The server closed the connection with a code that says to stay away. */
  | 'closed'

/**
 * How far a message has come.
 *
 * | state | means |
 * |---|---|
 * | `sending` | on offer; it outlives reconnects and, with IndexedDB, reloads |
 * | `pending` | a gateway's journal has it while Redis is away; people elsewhere see it later |
 * | `sent` | in the room's order, not yet known to be in the database |
 * | `persisted` | in the database; or somebody else's, and theirs to keep |
 * | `failed` | refused for good, see `error`; `retry` and `discard` are the ways out |
 * | `streaming` | an answer that is still being written |
 */
export type MessageState =
  | 'sending' | 'pending' | 'sent' | 'persisted' | 'failed' | 'streaming'

/** A message as this client knows it; never changed, but replaced by another object. */
export interface ChatMessage {
  readonly id: string
  readonly roomId: string
  readonly userId: string
  readonly type: MessageType
  readonly content: string
  readonly metadata?: Metadata
  /** Absent while it has no place in the order: on offer, pending, failed or being written. */
  readonly position?: Position
  readonly changedPosition?: Position
  readonly state: MessageState
  /** Why it failed, or, while it is `sending`, why it waits until `retryAt`. */
  readonly error?: RoomcastError
  /** An edit or a deletion of one's own that is not answered yet, or was refused. */
  readonly change?: PendingChange
  readonly createdAt: string
  readonly editedAt?: string
  readonly deletedAt?: string
  readonly credits?: number
}

/** `content` of the message already shows what a change without `error` says. */
export interface PendingChange {
  readonly type: 'edit' | 'delete'
  readonly content?: string
  /** Why it was refused: the message stands as it stood. */
  readonly error?: RoomcastError
  /** Why it waits until `retryAt`; then it is offered again by itself. */
  readonly waiting?: RoomcastError
  /** A gateway's journal has it while Redis is away. */
  readonly journaled?: true
}

export type RoomStatus = 'joining' | 'live' | 'left' | 'kicked' | 'refused'

/** A room at one moment; the same object until something in it changes. */
export interface RoomSnapshot {
  readonly id: string
  readonly status: RoomStatus
  /** In the room's order; behind it what is pending or being written, and one's own on offer. */
  readonly messages: readonly ChatMessage[]
  /** Messages and own changes that only a gateway's journal has: others see them later. */
  readonly journaled: number
  /** By user id; empty in a room of more than 500 people, where only `presenceCount` tells. */
  readonly presence: { readonly [userId: string]: Presence }
  readonly presenceCount: number
  /** Others who type. */
  readonly typing: readonly string[]
  readonly receipts: { readonly [userId: string]: Receipt }
  /** Messages of others behind one's own receipt. */
  readonly unread: number
  /** How far one has read. */
  readonly readUpTo: Position | null
  readonly hasOlder: boolean
  readonly error: RoomcastError | null
}

export interface ClientSnapshot {
  readonly state: ConnectionState
  readonly userId: string | null
  readonly limits: Limits | null
  /** The server's clock less this computer's. */
  readonly serverTimeOffsetMs: number
  /** Messages, edits and deletions that no answer has settled yet, in all rooms. */
  readonly pendingCount: number
  readonly error: RoomcastError | null
  /** When the next try is, in Unix milliseconds; null where none is waited for. */
  readonly reconnectAt: number | null
  /** One's credits, once the server has told. */
  readonly credits: CreditBalance | null
}

export interface ClientOptions {
  /** `wss://chat.example`, `https://chat.example/ws` or `/ws`; of a list each is tried in turn. */
  readonly url: string | readonly string[]
  /** A token for `auth`; asked before every connect, and before the token expires. */
  readonly getToken?: () => string | Promise<string>
  /** A one-time ticket from `POST /api/tickets`; asked before every connect. */
  readonly getTicket?: () => string | Promise<string>
  /**
   * Who it is. In the development mode the server believes it. Beside `getToken` or `getTicket`
   * it says whose tabs and whose outbox these are, before the server has told.
   */
  readonly user?: string
  readonly outbox?: OutboxOptions
  /** Whether this person's tabs share one socket; by default where the browser can. */
  readonly shareTabs?: boolean
  /** The WebSocket to use, where there is no global one (Node 20: that of `ws`). */
  readonly WebSocket?: WebSocketConstructor
}

export interface OutboxOptions {
  /** Where what is on offer is kept; by default `indexeddb` in a browser, else `memory`. */
  readonly storage?: 'indexeddb' | 'memory'
  /** Most messages that may be on offer; 1,000 by default. */
  readonly maxMessages?: number
  /** Most bytes of them; 4 MiB by default. */
  readonly maxBytes?: number
}

/** As much of a WebSocket as the client uses. */
export interface WebSocketLike {
  onopen: ((event: never) => void) | null
  onmessage: ((event: never) => void) | null
  onclose: ((event: never) => void) | null
  onerror: ((event: never) => void) | null
  send(text: string): void
  close(code?: number, reason?: string): void
}

export type WebSocketConstructor = new (url: string, protocol: string) => WebSocketLike

export interface SendOptions {
  /** An id of one's own; by default a `UUIDv7` by the server's time. */
  readonly id?: string
  readonly type?: MessageType
  readonly metadata?: Metadata
  readonly credits?: number | Credits
}

/** A message on its way. `settled` never rejects: the message is `persisted` or `failed` then. */
export interface Sent {
  readonly id: string
  readonly settled: Promise<ChatMessage>
}

export interface StreamOptions {
  readonly type?: MessageType
  readonly metadata?: Metadata
}

export interface StreamEnd {
  /** The whole text, where it is another than what was appended. */
  readonly content?: string
  readonly metadata?: Metadata
  readonly credits?: number | Credits
}

/** An answer that one writes bit by bit; it goes on by itself after a reconnect. */
export interface StreamWriter {
  readonly id: string
  append(delta: string): void
  /** Closes it. Resolves once the server has the message; rejects with a `RoomcastError`. */
  end(options?: StreamEnd): Promise<void>
  /** Says no more: what there is stands as a message, marked `aborted`, after the server's wait. */
  abort(): void
}

export interface Room {
  readonly id: string
  /** Calls back after any change of the snapshot, and joins the room for as long. */
  subscribe(listener: () => void): () => void
  snapshot(): RoomSnapshot
  /** Joins, and stays joined with or without subscribers until `leave()`. */
  join(): void
  leave(): void
  /** Throws a `RoomcastError` (`outbox_full`, `too_large`) where nothing was taken. */
  send(content: string, options?: SendOptions): Sent
  edit(id: string, content: string, options?: { metadata?: Metadata, userId?: string }): void
  delete(id: string, options?: { userId?: string }): void
  /** Offers a failed message, or a refused change, again. */
  retry(id: string): void
  /** Throws a failed or waiting message, or a refused change, away. */
  discard(id: string): void
  /** Reads an older page; resolves with whether there are still older ones. */
  loadOlder(): Promise<boolean>
  /** Call it with every key: it is told every 3 s at most, and ends by itself. */
  startTyping(): void
  stopTyping(): void
  /** Has read up to this message, by default the last; told together with what follows soon. */
  markRead(messageId?: string): void
  setPresence(status: 'active' | 'idle'): void
  stream(options?: StreamOptions): StreamWriter
}

export interface Client {
  readonly state: ConnectionState
  subscribe(listener: () => void): () => void
  snapshot(): ClientSnapshot
  /** Rooms do it by themselves; it is for whoever wants it earlier, or again after `close()`. */
  connect(): void
  close(): void
  /** Connects anew with a new token, and joins anew what was refused. */
  reauthenticate(): void
  /** The same object for the same id. */
  room(id: string): Room
  /** A command by itself and its answer; rejects with a `RoomcastError`. */
  request<Name extends keyof Commands>(
    name: Name, data: Commands[Name][0],
  ): Promise<Commands[Name][1]>
}
