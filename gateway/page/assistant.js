// A scripted AI answer for the demo: this tab plays the assistant's producer. What it says is
// canned; how it says it is what a real producer does, and the client carries it over a reconnect.

import { sleep } from "./time.js";

const WORD_MS = 45;
const WORDS_MAX = 30; // at a time
const METADATA = { scripted: true, model: "none: a script of the demo page" };

/** What is answered: the same whatever was asked, and it says so. */
function answerTo(question) {
  const about = question.length > 60 ? `${question.slice(0, 60)}…` : question;
  return [
    `This is a **scripted demo**: no model has thought about “${about}”.`,
    "A tab of this page plays the assistant and sends one word after the other,",
    "as a model would. Everybody in the room sees the text grow; whoever comes in the middle",
    "gets all of it so far.",
    "Only the finished answer goes into the log and into the database, as one message with one",
    "place",
    "in the room's order.",
    "\n\nIf the connection breaks now, the answer goes on where it stopped.",
    "If this tab closes, what there is of the answer stays, marked as broken off.",
  ].join(" ").replaceAll(" \n", "\n");
}
/** The next words from there, with the white space before them: never half of a character. */
const wordsAt = (text, offset, count) =>
  text.slice(offset).match(new RegExp(`^(\\s*\\S+){1,${count}}`))?.[0] ?? text.slice(offset);

/** Says an answer in a room, bit by bit; rejects with the error that ended it. */
export async function answer(room, question) {
  const text = answerTo(question);
  const writer = room.stream({ type: "assistant", metadata: METADATA });
  let at = Date.now(); // of the last word: a tab that nobody looks at wakes once a second only
  for (let offset = 0; offset < text.length;) {
    const due = Math.max(1, Math.round((Date.now() - at) / WORD_MS));
    at = Date.now();
    const words = wordsAt(text, offset, Math.min(due, WORDS_MAX));
    writer.append(words);
    offset += words.length;
    await sleep(WORD_MS);
  }
  await writer.end({ content: text, credits: { amount: text.split(/\s+/).length } });
}
