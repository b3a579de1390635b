// The frames of `roomcast.v1` as types. A test checks them against the JSON blocks of PROTOCOL.md.

/** A place in a room's order; compared by `epoch` first. */
export interface Position {
  readonly epoch: number
  readonly seq: number
}

/** Where a client stands in a room: the last logged event that it got. */
export interface Cursor extends Position {
  readonly messageId?: string
}

/** A JSON object, as an application attaches it to a message. */
export type Metadata = { readonly [key: string]: unknown }

export type MessageType = 'user' | 'assistant' | 'system'

/** A message as it comes from the server: live, in a join's reply, in history. */
export interface WireMessage {
  readonly roomId: string
  readonly id: string
  readonly userId: string
  readonly type: MessageType
  readonly content: string
  readonly metadata?: Metadata
  readonly createdAt: string
  readonly position: Position
  /** The place of its last change, where it has changed. */
  readonly changedPosition?: Position
  readonly editedAt?: string
  readonly deletedAt?: string
  readonly credits?: number
}

/** A message that only a gateway's journal has, while Redis is away: it has no place yet. */
export type PendingMessage = Omit<WireMessage, 'position' | 'changedPosition'>

/** What keeps an entry: the database, Redis's log, or a gateway's journal while Redis is away. */
export type Durability = 'store' | 'log' | 'journal'

export type PresenceStatus = 'active' | 'idle' | 'offline'

/** Somebody in a room. */
export interface Presence {
  readonly userId: string
  readonly status: PresenceStatus
  readonly isActive: boolean
  readonly lastActiveAt?: string
  readonly lastSeenMessageId?: string | null
}

/** How far somebody has read. */
export interface Receipt {
  readonly userId: string
  readonly position: Position
  readonly lastReadMessageId?: string
  readonly readAt?: string
}

/** What a message costs, and whom. */
export interface Credits {
  readonly amount: number
  readonly userId?: string
  readonly metadata?: Metadata
}

/** What is left; `unsynced` is spent and not yet in `balance`. */
export interface CreditBalance {
  readonly userId: string
  readonly balance: number
  readonly unsynced: number
}

/** What one connection may do. */
export interface Limits {
  readonly frameBytes: number
  readonly contentBytes: number
  readonly metadataBytes: number
  readonly roomsPerUser: number
  readonly pageRows: number
}

export type RefusalCode =
  | 'bad_request' | 'unknown_event' | 'invalid_field' | 'bad_id' | 'too_large'
  | 'unauthenticated' | 'forbidden' | 'not_joined' | 'conflict' | 'too_many_rooms'
  | 'backpressure' | 'unavailable' | 'rejected' | 'not_found' | 'rate_limited' | 'blocked'
  | 'insufficient_credits' | 'internal'

/** Why a command was not done; `message` is for people. */
export interface Refusal {
  readonly code: RefusalCode
  readonly message: string
  readonly field?: string
  readonly limit?: number
  readonly retryAfterMs?: number
  readonly serverTime?: string
}

export interface Welcome {
  readonly protocol: string
  readonly connectionId: string
  readonly userId: string
  readonly heartbeatMs: number
  readonly limits: Limits
  readonly serverTime: string
}

export interface JoinReply {
  readonly roomId: string
  readonly head: Position
  readonly persisted: Position
  readonly recovered: boolean
  readonly reset: boolean
  readonly hasMore: boolean
  readonly presence: { readonly [userId: string]: Presence }
  readonly presenceCount: number
  readonly receipts: { readonly [userId: string]: Receipt }
  readonly typing: { readonly [userId: string]: Typing }
  readonly unread: number
  readonly messages: readonly WireMessage[]
}

export interface Typing {
  readonly userId: string
  readonly expiresInMs: number
}

export interface SendReply {
  readonly id: string
  /** Null while only a journal has the message. */
  readonly position: Position | null
  readonly duplicate: boolean
  readonly persisted: boolean
  readonly durability: Durability
}

export interface ChangeReply {
  readonly changeId: string
  /** Null while only a journal has the change. */
  readonly position: Position | null
  readonly duplicate: boolean
  readonly persisted: boolean
  readonly durability?: Durability
}

export interface StreamReply {
  readonly id: string
  readonly offset: number
}

export interface HistoryReply {
  readonly hasMore: boolean
  readonly messages: readonly WireMessage[]
}

export interface Heads {
  readonly heads: { readonly [roomId: string]: Position }
}

/** Nothing but that it was done. */
export type Done = { readonly [key: string]: never }

/** Each command: what goes with it, and what its reply brings. */
export interface Commands {
  'auth': [data: { token: string }, reply: { readonly expiresAt?: string }]
  'room:join': [data: { roomId: string, limit?: number, since?: Cursor }, reply: JoinReply]
  'room:leave': [data: { roomId: string }, reply: Done]
  'message:send': [
    data: {
      roomId: string, content: string, id?: string, type?: MessageType, metadata?: Metadata,
      credits?: number | Credits,
    },
    reply: SendReply,
  ]
  'message:edit': [
    data: {
      roomId: string, id: string, content: string, userId?: string, changeId?: string,
      metadata?: Metadata,
    },
    reply: ChangeReply,
  ]
  'message:delete': [
    data: { roomId: string, id: string, userId?: string, changeId?: string },
    reply: ChangeReply,
  ]
  'message:stream:start': [
    data: { roomId: string, id: string, type?: MessageType, metadata?: Metadata },
    reply: StreamReply,
  ]
  'message:stream:append': [
    data: { roomId: string, id: string, delta: string, offset: number },
    reply: StreamReply,
  ]
  'message:stream:end': [
    data: {
      roomId: string, id: string, content?: string, metadata?: Metadata,
      credits?: number | Credits,
    },
    reply: SendReply | ChangeReply,
  ]
  'typing:start': [data: { roomId: string }, reply: Done]
  'typing:stop': [data: { roomId: string }, reply: Done]
  'receipt:update': [
    data: { roomId: string, lastReadMessageId?: string, position?: Position },
    reply: { readonly position: Position, readonly durability?: Durability },
  ]
  'presence:update': [data: { roomId: string, status: 'active' | 'idle' }, reply: Done]
  'credits:get': [data: { userId?: string } | undefined, reply: CreditBalance]
  'credits:track': [
    data: {
      userId: string, amount: number, kind: 'usage' | 'purchase' | 'refund', id: string,
      messageId?: string, metadata?: Metadata,
    },
    reply: { readonly id: string, readonly duplicate: boolean, readonly durability?: Durability },
  ]
  'history:get': [
    data: { roomId: string, before?: Position, after?: Position, limit?: number },
    reply: HistoryReply,
  ]
  'heartbeat': [data: Partial<Heads>, reply: Heads]
}

/** Each event that comes unasked. */
export interface Events {
  'welcome': Welcome
  'message:new': WireMessage
  'message:pending': PendingMessage
  'message:update': {
    readonly roomId: string, readonly id: string, readonly userId: string,
    readonly changeId?: string, readonly content?: string, readonly metadata?: Metadata,
    readonly editedAt?: string, readonly position: Position,
  }
  'message:delete': {
    readonly roomId: string, readonly id: string, readonly userId: string,
    readonly changeId?: string, readonly deletedAt?: string, readonly position: Position,
  }
  'message:stream': {
    readonly roomId: string, readonly id: string, readonly userId: string,
    readonly type: MessageType, readonly offset: number, readonly delta: string,
    readonly state: 'streaming' | 'ended' | 'aborted',
  }
  'message:persisted': {
    readonly roomId: string, readonly upTo: Position, readonly ids: readonly string[],
  }
  'message:rejected': {
    readonly roomId: string, readonly id: string, readonly userId: string,
    readonly changeId?: string, readonly error?: Refusal,
  }
  'presence:list': {
    readonly roomId: string, readonly presence: { readonly [userId: string]: Presence },
    readonly presenceCount: number,
  }
  'presence:update': { readonly roomId: string, readonly presenceCount: number }
    & Partial<Presence>
  'typing:start': { readonly roomId: string } & Typing
  'typing:stop': { readonly roomId: string, readonly userId: string }
  'receipt:list': {
    readonly roomId: string, readonly receipts: { readonly [userId: string]: Receipt },
  }
  'receipt:update': { readonly roomId: string } & Receipt
  'user:credits': CreditBalance
  'room:error': {
    readonly roomId?: string, readonly code: RefusalCode | 'reset' | 'kicked',
    readonly message: string, readonly field?: string, readonly limit?: number,
    readonly retryAfterMs?: number, readonly serverTime?: string,
  }
  'heartbeat': Heads
  'reconnect': { readonly afterMs: number }
}

/** A frame from a client. */
export type CommandFrame = {
  [Name in keyof Commands]: { event: Name, ref?: number, data?: Commands[Name][0] }
}[keyof Commands]

/** The answer to a command with a `ref`. */
export type ReplyFrame =
  | { event: 'reply', ref: number, data: Commands[keyof Commands][1] }
  | { event: 'reply', ref: number, error: Refusal }

/** A frame that comes unasked. */
export type EventFrame = {
  [Name in keyof Events]: { event: Name, data: Events[Name] }
}[keyof Events]
