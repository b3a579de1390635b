// What a browser adds before the first connect: an outbox on disk, and one socket for all tabs.

import type { ChatClient } from './client.js'
import type { Connection } from './connection.js'
import { inherit } from './inherit.js'
import { lockOf, openStore } from './storage.js'
import { SharedLink } from './tabs.js'
import { uuidv7 } from './values.js'

/** Whose page this was before it was loaded anew: shown until the server says who it is. */
const LAST_USER = 'roomcast:user'

/** Who a JSON Web Token says it is of; undefined for any other token. */
function subjectOf(token: string | undefined): string | undefined {
  try {
    const claims = token?.split('.')[1] ?? ''
    const bytes = atob(claims.replace(/-/g, '+').replace(/_/g, '/'))
    const text = new TextDecoder().decode(Uint8Array.from(bytes, (byte) => byte.charCodeAt(0)))
    return (JSON.parse(text) as { sub?: string }).sub
  } catch {
    return undefined
  }
}

/** Holds a lock for as long as this page lives; resolves once it is held. */
function holdLock(name: string): Promise<void> {
  return new Promise((held) => {
    void navigator.locks.request(name, () => {
      held()
      return new Promise<never>(() => {})
    })
  })
}

export async function prepare(client: ChatClient, own: Connection): Promise<void> {
  const { url, user, getToken, outbox, shareTabs = true } = client._options
  const tab = uuidv7(Date.now())
  const server = [url].flat().join(' ')
  if (navigator.locks) await holdLock(lockOf(tab))
  if (!user && getToken) {
    // Without a token now, connecting tries again and says what is wrong.
    try { own._token = await getToken() } catch { /* The next one may come. */ }
  }
  const known = user ?? subjectOf(own._token)
  if (outbox?.storage !== 'memory') {
    // Without IndexedDB, as in some private windows, what is on offer is kept in memory.
    try {
      client._store = await openStore(server, tab, () => void inherit(client))
    } catch { /* As said. */ }
    const last = known ?? sessionStorage.getItem(LAST_USER)
    if (last) client._become(last)
    await client._adopt()
    client.subscribe(() => {
      const { userId } = client.snapshot()
      if (userId) sessionStorage.setItem(LAST_USER, userId)
    })
  }
  // Only tabs of which it is sure that they are of one person share what comes to that person.
  if (shareTabs && known && navigator.locks && typeof BroadcastChannel === 'function') {
    client._link = new SharedLink(own, `roomcast ${server} ${known}`, tab, client)
  }
}
