// docs/MIGRATION.md, done as its "In which order" says: an old server's database, its rows and its
// ledger, the programs of this repository beside it, and a front end that moves.
//
// Wants the programs `fleet`, `gateway` and `sync-worker`, Redis, Postgres and `psql`; ends with 77
// without.

import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { createHmac } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import WebSocket from 'ws'
import { createClient } from '../dist/index.js'
import { needPrograms, program, startFleet } from './cluster.mjs'
import { freePort, until } from './gateway.mjs'

const GUIDE = readFileSync(resolve(import.meta.dirname, '../../../docs/MIGRATION.md'), 'utf8')
const SECRET = 'a secret that is long enough for HS256, and no secret at all'

/** What the fork's migrations make, with the foreign keys that they have. */
const OLD_TABLES = `
  CREATE TABLE users (id text PRIMARY KEY);
  CREATE TABLE team_chats (id text PRIMARY KEY);
  CREATE TABLE team_chat_messages (
    id text PRIMARY KEY NOT NULL,
    team_chat_id text NOT NULL REFERENCES team_chats (id) ON DELETE CASCADE,
    user_id text NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    content text,
    message_type text DEFAULT 'user',
    metadata jsonb DEFAULT '{}',
    accessed_at timestamptz DEFAULT now() NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL
  );
  CREATE TABLE credits (
    id text PRIMARY KEY, user_id text NOT NULL REFERENCES users (id), message_id text,
    amount integer NOT NULL, timestamp timestamptz DEFAULT now(), metadata jsonb
  );
  CREATE TABLE user_credits (
    id text PRIMARY KEY, user_id text NOT NULL UNIQUE REFERENCES users (id),
    balance integer DEFAULT 0, last_updated timestamptz
  );
  INSERT INTO users VALUES ('alice'), ('bob');
  INSERT INTO team_chats VALUES ('lobby');
  INSERT INTO credits VALUES ('c1', 'alice', NULL, 5), ('c2', 'alice', NULL, 7);
  INSERT INTO user_credits VALUES ('u1', 'alice', 88, now()), ('u2', 'bob', 100, now());
  INSERT INTO team_chat_messages (id, team_chat_id, user_id, content, created_at)
    SELECT md5(n::text), 'lobby', CASE n % 2 WHEN 0 THEN 'alice' ELSE 'bob' END, 'old ' || n,
      timestamptz '2025-01-01T00:00:00Z' + n * interval '1 minute'
    FROM generate_series(1, 60) AS n;`

/** The old server saying something: an INSERT that knows nothing of new columns. */
const INSERT = (id, content) =>
  `INSERT INTO team_chat_messages (id, team_chat_id, user_id, content)
   VALUES ('${id}', 'lobby', 'bob', '${content}')`

if (spawnSync('psql', ['--version']).error) {
  console.log('there is no psql: apt-get install postgresql-client')
  process.exit(77)
}
needPrograms()
const fleet = await startFleet('--gateways', '0', '--workers', '0')
const running = []

const [redis] = fleet.addresses('redis')
const database = new URL(fleet.addresses('postgres')[0])
database.username = 'roomcast'
database.pathname = '/roomcast'
const sql = (text) =>
  execFileSync('psql', [database.href, '-XAqt', '-v', 'ON_ERROR_STOP=1', '-c', text])
    .toString()
    .trim()

/** Of the guide's blocks the one of a language under a heading. */
function blockOf(heading, language) {
  const [, rest = ''] = GUIDE.split(`\n## ${heading}\n`)
  const [, block] = rest.split('\n## ')[0].split('```' + language + '\n')
  assert.ok(block, `the guide has ${language} under "${heading}"`)
  return block.split('```')[0]
}

const environment = {
  PATH: process.env.PATH,
  NEXT_PUBLIC_APP_URL: 'https://app.example.com',
  WEBSOCKET_RATE_LIMIT_MESSAGE_SEND: '10',
  WEBSOCKET_RATE_LIMIT_TYPING_EVENTS: '30',
  WEBSOCKET_RATE_LIMIT_ROOM_JOIN: '5',
  WEBSOCKET_RATE_LIMIT_PRESENCE_UPDATE: '20',
  REDIS_URL: 'https://eu1-old-1.upstash.io',
  REDIS_TOKEN: 'the token of the old one',
  DATABASE_URL: database.href,
}

function run(name, ...words) {
  const { status, stdout, stderr } = spawnSync(program(name), words, { env: environment })
  return { status, said: `${stdout}${stderr}` }
}

/** Starts a program and waits until its operator port says that it is ready. */
async function start(name, port) {
  const operatorPort = await freePort()
  const env = { ...environment, PORT: `${port}`, ROOMCAST_OPERATOR_PORT: `${operatorPort}` }
  const child = spawn(program(name), [], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  for (const output of [child.stdout, child.stderr]) {
    output.on('data', (text) => {
      said += text
    })
  }
  running.push({ child, ended: new Promise((done) => child.once('exit', done)) })
  await until(
    () => `${name} is ready:\n${said}`,
    async () => {
      const answer = await fetch(`http://127.0.0.1:${operatorPort}/readyz`).catch(() => null)
      return answer?.ok
    },
    60_000,
  )
}

function tokenOf(sub, role) {
  const base64 = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const claims = { sub, exp: Math.ceil(Date.now() / 1000) + 3600, rooms: ['lobby'], role }
  const body = `${base64({ alg: 'HS256', typ: 'JWT' })}.${base64(claims)}`
  return `${body}.${createHmac('sha256', SECRET).update(body).digest('base64url')}`
}

async function migrate() {
  sql(OLD_TABLES)

  // 1. What is wrong with the old environment is said, each with what to write instead.
  for (const name of ['sync-worker', 'gateway']) {
    const { status, said } = run(name, '--check-config')
    assert.equal(status, 64, said)
    const wrong = said.trim().split('\n').map((line) => line.split(':')[0])
    wrong.sort()
    const expected = ['REDIS_URL', ...(name === 'gateway' ? ['ROOMCAST_JWT_SECRET'] : [])]
    assert.deepEqual(wrong, expected, said)
  }
  // 2. A Redis of Roomcast's own.
  environment.REDIS_URL = `redis://${redis}`
  delete environment.REDIS_TOKEN
  environment.ROOMCAST_JWT_SECRET = SECRET
  for (const name of ['sync-worker', 'gateway']) {
    const { status, said } = run(name, '--check-config')
    assert.equal(status, 0, said)
  }

  // 3. The old server goes on working.
  await start('sync-worker')
  const columns = sql(
    `SELECT count(*) FROM information_schema.columns
     WHERE table_name = 'team_chat_messages' AND column_name IN ('epoch', 'seq', 'metadata_hash')`,
  )
  assert.equal(columns, '3')
  sql(INSERT('x1', 'old 61'))

  const ports = [await freePort(), await freePort()]
  await Promise.all(ports.map((port) => start('gateway', port)))

  // Somebody tries the new address before the old server is gone.
  const clientOf = (...who) =>
    createClient({
      url: ports.map((port) => `ws://127.0.0.1:${port}/ws`),
      getToken: async () => tokenOf(...who),
      WebSocket,
    })
  const client = clientOf('alice')
  const room = client.room('lobby')
  room.join()
  const contents = () => room.snapshot().messages.map(({ content }) => content)
  const old = Array.from({ length: 61 }, (_, n) => `old ${n + 1}`)
  await until(
    () => `in the room: ${JSON.stringify(client.snapshot())}`,
    () => room.snapshot().status === 'live',
  )
  assert.deepEqual(contents(), old.slice(-50))
  await room.loadOlder()
  assert.deepEqual(contents(), old)
  assert.ok(room.snapshot().messages.every(({ state }) => state === 'persisted'))

  sql(INSERT('x2', 'old 62'))
  await until(
    () => `what the old server said is seen: ${contents().slice(-2)}`,
    () => contents().at(-1) === 'old 62',
  )
  // 5. The old server has stopped.
  const before = run('sync-worker', 'reconcile')
  assert.equal(before.status, 1, before.said)
  sql(blockOf('Tables', 'sql'))
  assert.equal(sql(`SELECT balance FROM user_credits WHERE user_id = 'alice'`), '88')
  assert.equal(sql(`SELECT sum(amount) FROM credits WHERE user_id = 'alice'`), '88')

  const { id, settled } = room.send('new 63')
  assert.equal((await settled).state, 'persisted')
  assert.equal(
    sql(`SELECT content FROM team_chat_messages WHERE id = '${id}' AND user_id = 'alice'`),
    'new 63',
  )
  const assistant = clientOf('bob', 'assistant')
  const answer = assistant
    .room('lobby')
    .send('new 64', { type: 'assistant', credits: { amount: 3, userId: 'alice' } })
  assert.equal((await answer.settled).state, 'persisted')
  assert.equal(sql(`SELECT balance FROM user_credits WHERE user_id = 'alice'`), '85')
  await until('the answer is seen', () => contents().at(-1) === 'new 64')
  // Whoever reads the table in the old server's way has the order that members see.
  const rows = sql(`SELECT content FROM team_chat_messages ORDER BY created_at`).split('\n')
  assert.deepEqual(rows, contents())
  client.close()
  assistant.close()

  // 6.
  const after = run('sync-worker', 'reconcile')
  assert.equal(after.status, 0, after.said)
  return contents().length
}

let failed = 0
try {
  console.log(`passed: moved a room of ${await migrate()} messages`)
} catch (error) {
  failed = 1
  console.log('FAILED:', error)
}
for (const { child } of running) child.kill('SIGTERM')
await Promise.all(running.map(({ ended }) => ended))
await fleet.stop()
process.exit(failed)
