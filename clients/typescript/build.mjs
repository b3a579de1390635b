// Builds `dist`: each entry as ESM and as CommonJS, with types. What is loaded on demand is an
// entry of its own, so that the files have names that do not change and nothing is in two of them.

import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { build } from 'esbuild'

process.chdir(import.meta.dirname)
const ENTRIES = {
  index: 'index', react: 'hooks', after: 'after', stream: 'stream', browser: 'browser',
}
const NAMES = Object.entries(ENTRIES)
const TYPES = ['index', 'types', 'wire', 'values', 'hooks']

rmSync('dist', { recursive: true, force: true })
mkdirSync('dist')

/** One entry refers to another by its file. */
const among = (extension) => ({
  name: 'entries',
  setup({ onResolve }) {
    onResolve({ filter: /^\.\/\w+\.js$/ }, ({ path, kind }) => {
      const found = NAMES.find(([, source]) => path === `./${source}.js`)
      if (kind === 'entry-point' || !found) return
      return { path: `./${found[0]}.${extension}`, external: true, sideEffects: false }
    })
  },
})

// What begins with an underscore is private to the package; its short name is the same everywhere.
let mangleCache = {}
for (const [format, extension] of [['esm', 'js'], ['cjs', 'cjs']]) {
  for (const [name, source] of NAMES) {
    const built = await build({
      entryPoints: [`src/${source}.ts`], outfile: `dist/${name}.${extension}`,
      bundle: true, minify: true, format, target: 'es2022',
      // Of CommonJS, Node wants to be told the names.
      platform: format === 'cjs' ? 'node' : 'neutral',
      external: ['react'], plugins: [among(extension)], mangleProps: /^_./, mangleCache,
      sourcemap: true, logLevel: 'warning',
    })
    mangleCache = built.mangleCache
  }
}

execFileSync('node_modules/.bin/tsc', [
  '-p', '.', '--noEmit', 'false', '--emitDeclarationOnly', '--declaration',
  '--outDir', 'dist/all', '--rootDir', '.',
], { stdio: 'inherit' })
for (const name of TYPES) {
  const text = readFileSync(`dist/all/src/${name}.d.ts`, 'utf8')
  const out = name === 'hooks' ? 'react' : name
  writeFileSync(`dist/${out}.d.ts`, text)
  writeFileSync(`dist/${out}.d.cts`, text.replace(/(from '\.\/\w+)\.js'/g, "$1.cjs'"))
}
rmSync('dist/all', { recursive: true })
