// Places in a room's order: compared as the client compares them, and shown.

export { compare, keyOf, placeOf } from "../../clients/typescript/src/values.js";

export const show = (position) => (position ? `${position.epoch}:${position.seq}` : "–");
