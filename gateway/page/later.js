// What nobody needs before the first messages are there: one script more, loaded beside them. The
// build sends here what the client, or the page, imports on demand.

export * from "./assistant.js";
export * from "./rest.js";
export * from "../../clients/typescript/src/after.js";
export * from "../../clients/typescript/src/stream.js";
