// What a room needs a moment after it was joined; loaded beside the first messages.

export { Changes } from './changes.js'
export { loadOlder } from './older.js'
export { People } from './people.js'
export { keepFresh } from './refresh.js'
export { Unplaced } from './unplaced.js'
