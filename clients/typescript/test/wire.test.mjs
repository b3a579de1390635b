// The types of the wire against the protocol's own page: each of its JSON blocks has to fit,
// without a field too many, and every event and command that the page shows has to have a type.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import test from 'node:test'

const HERE = resolve(import.meta.dirname, '..')
const PAGE = join(HERE, '../../shared/PROTOCOL.md')

function blocks() {
  const text = readFileSync(PAGE, 'utf8')
  return [...text.matchAll(/^```json\n([\s\S]*?)^```/gm)].map(([, json]) => JSON.parse(json))
}

/** The type of each block: a reply is one of the command with its `ref`. */
function typed() {
  const commands = new Map()
  return blocks().map((frame) => {
    const { event, ref, error } = frame
    const literal = JSON.stringify(frame)
    if (event === 'reply') {
      const data = error
        ? 'ReplyFrame & { error: Refusal }'
        : `{ event: 'reply', ref: number, data: Commands['${commands.get(ref)}'][1] }`
      return `${literal} satisfies ${data}`
    }
    if (ref === undefined) {
      return `${literal} satisfies { event: '${event}', data: Events['${event}'] }`
    }
    commands.set(ref, event)
    return `${literal} satisfies { event: '${event}', ref: number, data?: Commands['${event}'][0] }`
  })
}

test('every JSON block of PROTOCOL.md fits the types', () => {
  const frames = typed()
  assert.ok(frames.length > 40, `${frames.length} blocks`)
  const folder = join(HERE, 'target')
  mkdirSync(folder, { recursive: true })
  const file = join(folder, 'wire.ts')
  const source = ["import type { Commands, Events, Refusal, ReplyFrame } from '../src/wire.js'"]
  frames.forEach((frame, at) => source.push(`export const frame${at} = ${frame}`))
  writeFileSync(file, source.join('\n') + '\n')
  writeFileSync(
    join(folder, 'tsconfig.json'),
    JSON.stringify({
      extends: '../tsconfig.json',
      include: ['wire.ts'],
      compilerOptions: { types: [] },
    }),
  )
  try {
    execFileSync(join(HERE, 'node_modules/.bin/tsc'), ['-p', folder], { encoding: 'utf8' })
  } catch ({ stdout }) {
    assert.fail(stdout)
  }
})

test('every command, event and refusal that the page names has a type', () => {
  const page = readFileSync(PAGE, 'utf8')
  const wire = readFileSync(join(HERE, 'src/wire.ts'), 'utf8')
  const names = new Set(
    blocks()
      .map(({ event }) => event)
      .filter((event) => event !== 'reply'),
  )
  for (const name of names) assert.ok(wire.includes(`'${name}'`), name)
  const table = page.split('## Refusals')[1].split('## How often')[0]
  const codes = [...table.matchAll(/^\| `(\w+)` \|/gm)].map(([, code]) => code)
  assert.ok(codes.length > 10)
  for (const code of codes) assert.ok(wire.includes(`'${code}'`), code)
})
