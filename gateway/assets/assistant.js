// A scripted AI answer for the demo: this tab plays the assistant's producer. What it says is canned;
// how it says it is what a real producer does, a reconnect in the middle included.

import { sleep, sleepUntil } from "./time.js";

const WORD_MS = 45;
const WORDS_MAX = 30; // at a time
const IN_VAIN_MAX = 2; // refusals in a row that no waiting heals
const METADATA = { scripted: true, model: "none: a script of the demo page" };

/** What is answered: the same whatever was asked, and it says so. */
function answerTo(question) {
  const about = question.length > 60 ? `${question.slice(0, 60)}…` : question;
  return [
    `This is a scripted demo: no model has thought about “${about}”.`,
    "A tab of this page plays the assistant and sends one word after the other, as a model would.",
    "Everybody in the room sees the text grow; whoever comes in the middle gets all of it so far.",
    "Only the finished answer goes into the log and into the database, as one message with one place in the room's order.",
    "\n\nIf the connection breaks now, the answer goes on where it stopped.",
    "If this tab closes, what there is of the answer stays, marked as broken off.",
  ].join(" ").replaceAll(" \n", "\n");
}
/** The next words from there, with the white space before them: never half of a character. */
const wordsAt = (text, offset, count) =>
  text.slice(offset).match(new RegExp(`^(\\s*\\S+){1,${count}}`))?.[0] ?? text.slice(offset);

/** Says an answer in a room, bit by bit; rejects with the refusal that ended it. */
export async function answer(room, question) {
  const [id, text] = [room.newId(), answerTo(question)];
  const credits = { amount: text.split(/\s+/).length };
  let offset = null; // unknown: `start` says it, at first and after whatever went wrong
  let said = 0; // what a server that forgot it is told again at once
  let at = Date.now(); // of the last word: a tab that nobody looks at wakes once a second only
  for (let inVain = 0; ;) {
    try {
      if (offset === null) {
        const start = { id, type: "assistant", metadata: METADATA };
        ({ offset } = await room.ask("message:stream:start", start));
      } else if (offset < text.length) {
        const due = Math.max(1, Math.round((Date.now() - at) / WORD_MS));
        const delta = text.slice(offset, said) || wordsAt(text, offset, Math.min(due, WORDS_MAX));
        at = Date.now();
        ({ offset } = await room.ask("message:stream:append", { id, delta, offset }));
        said = Math.max(said, offset);
        await sleep(WORD_MS);
        inVain = 0;
      } else {
        return await room.ask("message:stream:end", { id, content: text, credits });
      }
    } catch (refusal) {
      if (refusal.code === "disconnected") await room.whenJoined();
      else if (refusal.retryAt) await sleepUntil(refusal.retryAt);
      else if (++inVain > IN_VAIN_MAX) throw refusal;
      // An end is offered again as it was, unless the server knows of no beginning.
      if (offset < text.length || refusal.code === "not_found") offset = null;
    }
  }
}
