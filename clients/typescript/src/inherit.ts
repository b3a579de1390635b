// What a tab that is gone had on offer goes on in this one, at once where that is connected.

import type { ChatClient } from './client.js'

export async function inherit(client: ChatClient): Promise<void> {
  await client._adopt()
  for (const room of client._rooms.values()) {
    if (room._wanted) room._enter()
    room._offers._pump()
  }
}
