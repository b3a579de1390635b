// The usual server by hand: ws for the sockets, one Redis channel for each room.

import { createServer } from "node:http";
import { Redis } from "ioredis";
import { WebSocketServer } from "ws";
import { announce, userOf } from "./token.mjs";

const publisher = new Redis(process.env.REDIS_URL);
const subscriber = new Redis(process.env.REDIS_URL);
const rooms = new Map();

subscriber.on("messageBuffer", (channel, text) => {
  for (const socket of rooms.get(channel.toString()) ?? []) {
    socket.send(text, { binary: false });
  }
});

async function join(socket, { roomId }) {
  let members = rooms.get(roomId);
  if (!members) {
    members = new Set();
    rooms.set(roomId, members);
    members.ready = subscriber.subscribe(roomId);
  }
  await members.ready;
  members.add(socket);
  socket.rooms.add(roomId);
  return { roomId, recovered: false, messages: [] };
}

async function send(socket, { roomId, id, content }) {
  if (!socket.rooms.has(roomId)) throw new Error("not_joined");
  const data = {
    roomId,
    id,
    userId: socket.userId,
    type: "user",
    content,
    createdAt: new Date().toISOString(),
  };
  await publisher.publish(roomId, JSON.stringify({ event: "message:new", data }));
  return { id, duplicate: false };
}

const commands = { "room:join": join, "message:send": send };

function connected(socket) {
  socket.rooms = new Set();
  socket.on("message", async (text) => {
    const { event, ref, data } = JSON.parse(text);
    try {
      const reply = await commands[event](socket, data);
      socket.send(JSON.stringify({ event: "reply", ref, data: reply }));
    } catch (error) {
      socket.send(JSON.stringify({ event: "reply", ref, error: { code: error.message } }));
    }
  });
  socket.on("close", () => {
    for (const room of socket.rooms) {
      const members = rooms.get(room);
      members.delete(socket);
      if (members.size === 0) {
        rooms.delete(room);
        subscriber.unsubscribe(room);
      }
    }
  });
  socket.send(JSON.stringify({ event: "welcome", data: { userId: socket.userId } }));
}

const server = createServer();
const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false });
server.on("upgrade", (request, stream, head) => {
  const userId = userOf(request.headers.authorization?.replace("Bearer ", ""));
  if (!userId) {
    stream.end("HTTP/1.1 401 Unauthorized\r\n\r\n");
    return;
  }
  sockets.handleUpgrade(request, stream, head, (socket) => {
    socket.userId = userId;
    connected(socket);
  });
});
announce(server);
