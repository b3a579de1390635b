// A new token before the old one expires, on the connection as it is.

import type { Connection } from './connection.js'

const AHEAD_MS = 30_000
const AGAIN_MS = 2000
const TIMER_MAX_MS = 2 ** 31 - 1

/** Until the socket is another one. What fails is tried again until the server closes with 4401. */
export function keepFresh(connection: Connection, getToken: () => string | Promise<string>): void {
  const { _socket } = connection
  let timer: ReturnType<typeof setTimeout>
  const isOver = (): boolean => _socket !== connection._socket
  const refreshIn = (ms: number): void => {
    clearTimeout(timer)
    timer = setTimeout(() => void refresh(), Math.min(ms, TIMER_MAX_MS))
  }
  const wait = (): void => {
    if (!connection._expiresAt) return
    const now = Date.now() + connection.status.serverTimeOffsetMs
    const leftMs = Date.parse(connection._expiresAt) - now
    refreshIn(Math.max(leftMs * 0.8, leftMs - AHEAD_MS))
  }
  const refresh = async (): Promise<void> => {
    if (isOver()) return
    try {
      const token = await getToken()
      if (isOver()) return
      connection.ask('auth', { token }, (error, reply) => {
        if (error) return refreshIn(AGAIN_MS)
        connection._expires(reply)
        wait()
      })
    } catch {
      refreshIn(AGAIN_MS)
    }
  }
  wait()
}
