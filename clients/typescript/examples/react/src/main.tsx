import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import { createClient } from 'roomcast'
import { RoomcastProvider } from 'roomcast/react'
import { App } from './App.js'

// In the development mode anybody is whoever they say; an application gives `getToken` instead.
const asked = new URLSearchParams(location.search)
const user = asked.get('user') ?? `guest-${Math.floor(Math.random() * 1000)}`
const client = createClient({ url: asked.get('url') ?? '/ws', user })

createRoot(document.getElementById('root') as HTMLElement).render(
  <StrictMode>
    <RoomcastProvider client={client}>
      <App />
    </RoomcastProvider>
  </StrictMode>,
)
