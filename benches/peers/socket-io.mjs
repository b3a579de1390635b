// Socket.IO with one of its two Redis adapters: ADAPTER is redis, or redis-streams.

import { createServer } from "node:http";
import { createAdapter as redisAdapter } from "@socket.io/redis-adapter";
import { createAdapter as streamsAdapter } from "@socket.io/redis-streams-adapter";
import { Redis } from "ioredis";
import { Server } from "socket.io";
import { announce, userOf } from "./token.mjs";

const redis = new Redis(process.env.REDIS_URL);
const adapter =
  process.env.ADAPTER === "redis-streams"
    ? streamsAdapter(redis)
    : redisAdapter(redis, redis.duplicate());

const server = createServer();
const io = new Server(server, { adapter, transports: ["websocket"], perMessageDeflate: false });

io.use((socket, next) => {
  socket.data.userId = userOf(socket.handshake.auth.token);
  next(socket.data.userId ? undefined : new Error("unauthenticated"));
});

io.on("connection", (socket) => {
  socket.on("room:join", async ({ roomId }, reply) => {
    await socket.join(roomId);
    reply({ roomId, recovered: false, messages: [] });
  });
  socket.on("message:send", ({ roomId, id, content }, reply) => {
    if (!socket.rooms.has(roomId)) {
      reply({ error: { code: "not_joined" } });
      return;
    }
    io.to(roomId).emit("message:new", {
      roomId,
      id,
      userId: socket.data.userId,
      type: "user",
      content,
      createdAt: new Date().toISOString(),
    });
    reply({ id, duplicate: false });
  });
});
announce(server);
