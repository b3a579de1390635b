// The client of Roomcast: rooms of a team chat over one connection that loses nothing.

export { createClient } from './client.js'
export { RoomcastError } from './values.js'
export type * from './types.js'
export type * from './wire.js'
