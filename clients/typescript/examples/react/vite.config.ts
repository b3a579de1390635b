import { defineConfig } from 'vite'

export default defineConfig({
  // `gateway --dev` beside it; the page's own origin is the gateway's then.
  server: { proxy: { '/ws': { target: 'http://127.0.0.1:3001', ws: true } } },
})
