// The outbox on disk: what is on offer outlives a reload and a crash of the tab.
//
// Each entry belongs to the tab that wrote it for as long as that lives, which is as long as it
// holds a lock of its name. What a tab leaves behind is adopted by the next one, within one
// transaction, so that two tabs never take the same.

import type { Entry, Offer, Store } from './outbox.js'
import { RoomcastError } from './index.js'

interface Row {
  readonly key: string
  /** Whose it is, and at which server. */
  readonly scope: string
  readonly tab: string
  readonly entry: Entry
}

export const lockOf = (tab: string): string => `roomcast tab ${tab}`

/** Resolves behind the lock: within it, the tab would be taken to live. */
export const whenGone = (tab: string): Promise<void> =>
  navigator.locks.request(lockOf(tab), () => {})

const nameOf = ({ roomId, changeId, id }: Entry): string => `${roomId} ${changeId ?? id}`

/** Plain data: a clone would keep nothing of an error but its message. */
function plain(offer: Offer): Entry {
  const { settle, view, answeredOn, isAsked, isJournaled, waiting, error, ...entry } = offer
  return { ...entry, ...error && { error: { ...error, message: error.message } } }
}

function revived(entry: Entry): Entry {
  const { error } = entry
  return error ? { ...entry, error: new RoomcastError(error.code, error.message, error) } : entry
}

function open(): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open('roomcast', 1)
    request.onupgradeneeded = () => {
      request.result.createObjectStore('outbox', { keyPath: 'key' }).createIndex('scope', 'scope')
    }
    request.onsuccess = () => resolve(request.result)
    request.onerror = () => reject(request.error as Error)
  })
}

/** `orphaned` is called when a tab that has entries is gone: they may be adopted. */
export async function openStore(
  server: string, tab: string, orphaned: () => void,
): Promise<Store> {
  const database = await open()
  const watched = new Set<string>()
  // Its own lock is free once a tab is gone; a page that is loaded anew may still hold its old one.
  const watchOver = (other: string): void => {
    if (watched.has(other)) return
    watched.add(other)
    void whenGone(other).then(() => {
      watched.delete(other)
      orphaned()
    })
  }
  // A later version of this package in another tab is not kept waiting.
  database.onversionchange = () => database.close()
  const scopeOf = (userId: string): string => `${server} ${userId}`
  const keyOf = (userId: string, entry: Entry): string => `${scopeOf(userId)} ${nameOf(entry)}`

  /** Does something with the rows. Where the disk refuses, what is in memory is still offered. */
  const use = (what: (rows: IDBObjectStore) => void): void => {
    try {
      const change = database.transaction('outbox', 'readwrite')
      change.onabort = (event) => event.preventDefault()
      what(change.objectStore('outbox'))
      // Without waiting for events, which a page that is being left gets no more.
      change.commit()
    } catch { /* The database is closed, or the disk is full. */ }
  }

  return {
    put(userId, offer) {
      if (!userId) return
      const key = keyOf(userId, offer)
      const row: Row = { key, scope: scopeOf(userId), tab, entry: plain(offer) }
      use((rows) => rows.put(row))
    },
    remove(userId, offer) {
      use((rows) => rows.delete(keyOf(userId, offer)))
    },
    async adopt(userId) {
      const held = (await navigator.locks?.query())?.held ?? []
      const living = new Set(held.map(({ name }) => name))
      return new Promise<Entry[]>((resolve) => {
        const adopted: Entry[] = []
        let change: IDBTransaction
        try { change = database.transaction('outbox', 'readwrite') } catch { return resolve([]) }
        const rows = change.objectStore('outbox')
        const request = rows.index('scope').getAll(scopeOf(userId))
        request.onsuccess = () => {
          for (const row of request.result as Row[]) {
            if (row.tab === tab) continue
            if (living.has(lockOf(row.tab))) {
              watchOver(row.tab)
              continue
            }
            rows.put({ ...row, tab })
            adopted.push(revived(row.entry))
          }
        }
        change.oncomplete = () => resolve(adopted)
        change.onabort = change.onerror = () => resolve([])
      })
    },
  }
}
