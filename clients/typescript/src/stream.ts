// Writing an answer bit by bit: what is written is kept until the end is answered, so that the
// answer goes on where the server has it after a reconnect, on any node.

import type { ChatRoom } from './room.js'
import type { StreamEnd, StreamOptions } from './types.js'
// From the whole, so that there is one class of errors however the package is cut.
import { RoomcastError } from './index.js'
import type { SendReply, StreamReply } from './wire.js'

/** Deltas gather for so long, and are of so many characters at most. */
const GATHER_MS = 30
const DELTA_MAX = 16_384
/** The server closes an answer whose writer says nothing for 30 s. */
const LIFE_MS = 10_000
/** Refusals in a row that no waiting heals. */
const IN_VAIN_MAX = 2

export interface Answer {
  readonly id: string
  readonly options: StreamOptions
  text: string
  end?: StreamEnd
  isAborted?: boolean
  /** Called when there is more of it. */
  wake: () => void
}

const sleep = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms))

/** So much from there as goes at once, and no half of a surrogate pair. */
function deltaOf(text: string, from: number): string {
  const delta = text.slice(from, from + DELTA_MAX)
  return /[\ud800-\udbff]$/.test(delta) ? delta.slice(0, -1) : delta
}

export async function write(room: ChatRoom, answer: Answer): Promise<void> {
  const ask = (name: string, data: object): Promise<unknown> =>
    new Promise((resolve, reject) => room._ask(name, data, (error, reply) => {
      if (error) reject(error)
      else resolve(reply)
    }))
  const { id, options } = answer
  // Unknown before `start` says it: at first, and after whatever went wrong.
  let offset: number | null = null
  let saidAt = 0
  for (let inVain = 0; ;) {
    if (answer.isAborted) throw new RoomcastError('discarded')
    try {
      if (room._status !== 'live') {
        await sleep(100)
        continue
      }
      const { end, text } = answer
      const delta = offset === null ? '' : deltaOf(text, offset)
      if (offset === null) {
        ({ offset } = await ask('message:stream:start', { id, ...options }) as StreamReply)
      } else if (delta || !end && Date.now() - saidAt > LIFE_MS) {
        saidAt = Date.now()
        const data = { id, delta, offset };
        ({ offset } = await ask('message:stream:append', data) as StreamReply)
        if (!answer.end) await sleep(GATHER_MS)
      } else if (end) {
        const said = await ask('message:stream:end', { id, content: text, ...end }) as SendReply
        return void said
      } else {
        await new Promise<void>((done) => {
          const timer = setTimeout(done, LIFE_MS)
          answer.wake = () => {
            clearTimeout(timer)
            done()
          }
        })
      }
      inVain = 0
    } catch (error) {
      const { code, retryAt } = error as RoomcastError
      if (code === 'not_joined') room._rejoin()
      else if (retryAt) await sleep(retryAt - Date.now())
      else if (code !== 'disconnected' && ++inVain > IN_VAIN_MAX) throw error
      // An end is offered again as it was, unless the server knows of no beginning.
      if (!answer.end || (offset ?? 0) < answer.text.length || code === 'not_found') offset = null
    }
  }
}
