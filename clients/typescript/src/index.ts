// The client of Roomcast: rooms of a team chat over one connection that loses nothing.

import { ChatClient } from './client.js'
import type { Client, ClientOptions } from './types.js'

/** A client for one person. It connects when the first room is subscribed to or joined. */
export function createClient(options: ClientOptions): Client {
  return new ChatClient(options)
}

export { RoomcastError } from './values.js'
export type * from './types.js'
export type * from './wire.js'
