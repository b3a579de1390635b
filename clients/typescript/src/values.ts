// Positions, ids and errors: values without a connection.

import type { ErrorCode } from './types.js'
import type { Position, Refusal } from './wire.js'

/** Orders two positions; a missing one is below every other. */
export function compare(a: Position | null | undefined, b: Position | null | undefined): number {
  return a && b ? a.epoch - b.epoch || a.seq - b.seq : Number(!!a) - Number(!!b)
}

/** The place of a message's last change: what a cursor counts. */
export function placeOf<P extends Position | undefined>(
  message: { readonly position?: P, readonly changedPosition?: Position },
): Position | P {
  return message.changedPosition ?? message.position as P
}

/** Two people may choose the same id, so that an id alone names no message. */
export const keyOf = (message: { readonly userId: string, readonly id: string }): string =>
  message.userId + ' ' + message.id

/** A time-ordered id (RFC 9562). */
export function uuidv7(nowMs: number): string {
  const time = Math.floor(nowMs).toString(16).padStart(12, '0')
  let random = ''
  for (const byte of crypto.getRandomValues(new Uint8Array(9))) {
    random += (byte + 256).toString(16).slice(1)
  }
  const [a, b, c] = [random.slice(0, 3), random.slice(3, 6), random.slice(6)]
  return `${time.slice(0, 8)}-${time.slice(8)}-7${a}-a${b}-${c}`
}

/** Why something was not done. `message` is for people and may change, `code` does not. */
export class RoomcastError extends Error {
  readonly code: ErrorCode
  /** The field at fault. */
  declare readonly field?: string
  /** The limit that was passed. */
  declare readonly limit?: number
  /** When it may be tried again, in Unix milliseconds of this computer's clock. */
  declare readonly retryAt?: number
  /** The WebSocket's close code, where there was one. */
  declare readonly closeCode?: number
  /** What time it is at the server, where a clock is at fault. */
  declare readonly serverTime?: string

  constructor(code: ErrorCode, message?: string, details?: object) {
    super(message || code.replaceAll('_', ' '))
    this.name = 'RoomcastError'
    this.code = code
    Object.assign(this, details)
  }
}

/** What heals by itself, even where the server names no time. */
const HEALS = /^(rate_limited|blocked|backpressure|unavailable|internal)$/

export function refused({ code, message, retryAfterMs, ...details }: Refusal): RoomcastError {
  // A little chance, so that those who were refused together do not come back together.
  const retryAt = retryAfterMs != null || HEALS.test(code)
    ? Date.now() + (retryAfterMs ?? 2000) + Math.random() * 250 : undefined
  return new RoomcastError(code, message, { ...details, retryAt })
}
