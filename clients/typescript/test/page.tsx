// The example's chat as a page that a test can ask: `window.client`, and settings from the address.

import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import { createClient } from 'roomcast'
import type { Client } from 'roomcast'
import { RoomcastProvider } from 'roomcast/react'
import { App } from '../examples/react/src/App.js'

declare global {
  interface Window { client: Client }
}

const asked = new URLSearchParams(location.search)
const url = asked.getAll('url')
const user = asked.get('user') ?? 'alice'
const getToken = async (): Promise<string> => (await fetch(`/token?user=${user}`)).text()

window.client = createClient({
  url, ...asked.has('token') ? { getToken } : { user }, shareTabs: !asked.has('alone'),
})
createRoot(document.getElementById('root') as HTMLElement).render(
  <StrictMode>
    <RoomcastProvider client={window.client}>
      <App />
    </RoomcastProvider>
  </StrictMode>,
)
