import { useEffect, useState } from 'react'
import type { FormEvent, ReactElement } from 'react'
import type { ChatMessage } from 'roomcast'
import { useRoomcastStatus, useTeamChatWebSocket } from 'roomcast/react'

const ROOMS = ['lobby', 'design', 'support']

export function App(): ReactElement {
  const [room, setRoom] = useState('lobby')
  return (
    <main>
      <Banner />
      <nav aria-label="Rooms">
        {ROOMS.map((id) => (
          <RoomButton key={id} id={id} current={room} onOpen={setRoom} />
        ))}
      </nav>
      <Chat key={room} id={room} />
    </main>
  )
}

function Banner(): ReactElement | null {
  const { state, pendingCount, error } = useRoomcastStatus()
  if (state === 'connected' || state === 'idle') return null
  const waiting = pendingCount ? ` ${pendingCount} to be sent once it is back.` : ''
  const words = {
    connecting: 'Connecting…',
    reconnecting: 'The connection broke; coming back.',
    offline: 'You are offline.',
    closed: 'Closed.',
    unauthorized: 'Please sign in again.',
  }
  return (
    <p role="status" className="banner">
      {words[state]}
      {waiting} {error?.message}
    </p>
  )
}

function RoomButton({
  id,
  current,
  onOpen,
}: {
  id: string
  current: string
  onOpen: (id: string) => void
}): ReactElement {
  const { unread } = useTeamChatWebSocket({ teamChatId: id })
  return (
    <button aria-current={id === current} onClick={() => onOpen(id)}>
      {id}
      {unread > 0 && ` (${unread})`}
    </button>
  )
}

function Chat({ id }: { id: string }): ReactElement {
  const chat = useTeamChatWebSocket({ teamChatId: id })
  const { messages, presence, typing, hasOlder, updateReadReceipt } = chat
  const last = messages.at(-1)?.id
  useEffect(() => {
    if (last) updateReadReceipt()
  }, [last, updateReadReceipt])
  return (
    <section aria-label={id}>
      <p className="people">
        {Object.keys(presence).join(', ') || 'Nobody else'} in {id}
      </p>
      <p role="status" className={chat.journaled ? 'banner' : undefined}>
        {chat.journaled > 0 && 'The servers are cut off: what is new reaches others later.'}
      </p>
      {hasOlder && <button onClick={() => void chat.loadOlder()}>Older messages</button>}
      <ol>
        {messages.map((message) => (
          <Line
            key={message.userId + message.id}
            message={message}
            onRetry={chat.retry}
            readBy={readersOf(message, chat.receipts)}
          />
        ))}
      </ol>
      <p className="typing" aria-live="polite">
        {typing.length > 0 && `${typing.join(', ')} …`}
      </p>
      <Composer chat={chat} />
    </section>
  )
}

function readersOf(
  message: ChatMessage,
  receipts: ReturnType<typeof useTeamChatWebSocket>['receipts'],
) {
  return Object.values(receipts)
    .filter(
      ({ userId, lastReadMessageId }) =>
        lastReadMessageId === message.id && userId !== message.userId,
    )
    .map(({ userId }) => userId)
}

function Line({
  message,
  onRetry,
  readBy,
}: {
  message: ChatMessage
  onRetry: (id: string) => void
  readBy: string[]
}): ReactElement {
  const { id, userId, content, state, editedAt, deletedAt, error } = message
  return (
    <li className={state} data-id={id}>
      <b>{userId}</b> {deletedAt ? <i>deleted</i> : content}
      {editedAt && !deletedAt && <small> edited</small>}
      {state === 'failed' ? (
        <small>
          {' '}
          {error?.message} <button onClick={() => onRetry(id)}>Try again</button>
        </small>
      ) : (
        <small> {state === 'persisted' ? '✓' : state}</small>
      )}
      {readBy.length > 0 && <small> read by {readBy.join(', ')}</small>}
    </li>
  )
}

function Composer({ chat }: { chat: ReturnType<typeof useTeamChatWebSocket> }): ReactElement {
  const [text, setText] = useState('')
  const [problem, setProblem] = useState('')
  const submit = (event: FormEvent): void => {
    event.preventDefault()
    if (!text) return
    try {
      chat.sendMessage(text)
      setText('')
      setProblem('')
      if (text.startsWith('/ask ')) void answer(chat, text.slice(5))
    } catch (error) {
      // The outbox is full, or the text too long: it stays in the composer.
      setProblem((error as Error).message)
    }
  }
  return (
    <form onSubmit={submit}>
      <input
        aria-label="Message"
        value={text}
        placeholder="A message, or /ask something"
        onChange={({ target }) => {
          setText(target.value)
          chat.startTyping()
        }}
      />
      <button>Send</button>
      {problem && <p role="alert">{problem}</p>}
    </form>
  )
}

/** A scripted answer, as a model would stream it. */
async function answer(
  chat: ReturnType<typeof useTeamChatWebSocket>,
  question: string,
): Promise<void> {
  const stream = chat.streamMessage({ type: 'assistant', metadata: { model: 'script' } })
  for (const word of `No model has thought about “${question}”; this is a script.`.split(/(?= )/)) {
    stream.append(word)
    await new Promise((done) => setTimeout(done, 60))
  }
  await stream.end()
}
