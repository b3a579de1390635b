// A bot for Node 20 and later: says the time when it is asked, word by word, and greets by name.
//
//   npm i roomcast ws
//   ROOMCAST_URL=ws://127.0.0.1:3001/ws ROOMCAST_TOKEN=… node bot.mjs lobby
//
// Without a token it is `?user=clock`, which a gateway in the development mode believes.

import { createClient } from 'roomcast'

// Node 22 and later have a WebSocket of their own.
const WebSocket = globalThis.WebSocket ?? (await import('ws')).default
const { ROOMCAST_URL: url = 'ws://127.0.0.1:3001/ws', ROOMCAST_TOKEN: token } = process.env
const [roomId = 'lobby'] = process.argv.slice(2)

const client = createClient({
  url,
  WebSocket,
  ...(token ? { getToken: () => token } : { user: 'clock' }),
})
const room = client.room(roomId)
const seen = new Set()
let isCaughtUp = false

client.subscribe(() => {
  const { state, error } = client.snapshot()
  console.log(state, error?.message ?? '')
  if (error && (state === 'unauthorized' || state === 'closed')) process.exitCode = 1
})

async function answer(question) {
  const stream = room.stream({ type: 'assistant', metadata: { about: question.id } })
  const words = `It is ${new Date().toLocaleTimeString()}, ${question.userId}.`.split(/(?= )/)
  for (const word of words) {
    stream.append(word)
    await new Promise((done) => setTimeout(done, 100))
  }
  await stream.end()
}

room.subscribe(() => {
  const { messages, status } = room.snapshot()
  if (status !== 'live') return
  for (const message of messages) {
    // What stood before the bot came, and what is not in the room's order yet, is not answered.
    const key = `${message.userId} ${message.id}`
    if (!message.position || seen.has(key)) continue
    seen.add(key)
    if (!isCaughtUp || message.userId === client.snapshot().userId) continue
    if (/what time/i.test(message.content)) {
      answer(message).catch((error) => console.error('no answer:', error.code))
    } else if (/^(hello|hi)\b/i.test(message.content)) {
      room.send(`Hello, ${message.userId}.`)
    }
  }
  isCaughtUp = true
  room.markRead()
})

process.once('SIGINT', () => client.close())
