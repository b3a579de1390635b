// A TCP proxy that does to connections what networks do: cuts them, swallows what they say without
// a word, and delays it.

import { connect, createServer } from 'node:net'

export async function startProxy(port) {
  const pairs = new Set()
  const proxy = {
    /** `through`, or `refuse` newcomers. */
    mode: 'through',
    delayMs: 0,
    target: port,
    url: '',
    /** Ends connections, all or some. */
    cut(which = () => true) {
      for (const pair of [...pairs]) if (which(pair)) pair.end()
    },
    /** Lets them stay, and nothing through; nobody is told. */
    swallow(which = () => true) {
      for (const pair of pairs) if (which(pair)) pair.swallows = true
    },
    /** How many connections there are through which something goes. */
    get count() {
      return [...pairs].filter(({ swallows }) => !swallows).length
    },
    close() {
      proxy.cut()
      server.close()
    },
  }
  const server = createServer((client) => {
    if (proxy.mode === 'refuse') return client.destroy()
    const upstream = connect(proxy.target, '127.0.0.1')
    const pair = {
      swallows: proxy.mode === 'swallow',
      end() {
        pairs.delete(pair)
        client.destroy()
        upstream.destroy()
      },
    }
    pairs.add(pair)
    const pass = (from, to) => {
      // One after another, whatever the delay becomes meanwhile.
      let before = Promise.resolve()
      const later = (what) => {
        const due = new Promise((done) => setTimeout(done, proxy.delayMs))
        before = before
          .then(() => due)
          .then(() => {
            if (!pair.swallows) what()
          })
      }
      from.on('data', (bytes) => later(() => to.write(bytes)))
      from.on('end', () => later(() => to.end()))
      // What was said before the end still arrives.
      from.on('error', () => {})
      from.on('close', () => later(() => pair.end()))
    }
    client.setNoDelay(true)
    upstream.setNoDelay(true)
    pass(client, upstream)
    pass(upstream, client)
  })
  await new Promise((done) => server.listen(0, '127.0.0.1', done))
  proxy.port = server.address().port
  proxy.url = `ws://127.0.0.1:${proxy.port}/ws`
  return proxy
}
