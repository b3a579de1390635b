// What a back end's author writes against the types that openapi-typescript makes of the API's
// description: it has to compile as strictly as TypeScript can be told to, and to work.
//
//   node client.js <base URL> <API key>

import createClient from "openapi-fetch";
import type { paths } from "./api.js";

const [baseUrl, key] = process.argv.slice(2);
if (baseUrl === undefined || key === undefined) throw new Error("usage: client.js <base URL> <API key>");
const api = createClient<paths>({ baseUrl, headers: { authorization: `Bearer ${key}` } });

/** What was answered, or an end with the problem as the server put it. */
function sure<T>(outcome: { data?: T; error?: unknown }): T {
  if (outcome.data === undefined) throw new Error(JSON.stringify(outcome.error));
  return outcome.data;
}

const path = { room: "made-by-a-generator" };
const body = { userId: "helper", type: "assistant", content: "It is noon." } as const;
const said = sure(await api.POST("/api/rooms/{room}/messages", { params: { path }, body }));
const { messages } = sure(await api.GET("/api/rooms/{room}/messages", { params: { path } }));
const found = messages.find((message) => message.id === said.id);
if (found?.content !== body.content) throw new Error(`not found: ${JSON.stringify(messages)}`);
sure(await api.POST("/api/tickets", { body: { userId: "alice" } }));
const { balance } = sure(await api.GET("/api/credits/{user}", { params: { path: { user: "alice" } } }));
if (balance !== 0) throw new Error(`alice has ${balance}`);
const refused = await api.POST("/api/revoke", { body: {} as never });
if (refused.error?.code !== "invalid_field" && refused.error?.code !== "bad_request") throw new Error(JSON.stringify(refused));
