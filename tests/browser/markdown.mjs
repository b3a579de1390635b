// What members write, as the page shows it: Markdown as people expect it, and hostile text as text.
//
//   node markdown.mjs <baseUrl> <outDir>
//
// The reader of Markdown is tried by itself first; then the page of a running gateway in the
// development mode. Needs what two_tabs.mjs needs, and ends with the same codes.

import { parse } from "../../gateway/page/markdown.js";
import { eventually, expect, is, main, Tab } from "./tab.mjs";

const CONTENT_BYTES = 262_144; // the most that a message may have
const LINEAR_MS = 800; // some milliseconds, and room for a slow machine; squared it is minutes
const PATIENCE_MS = 20_000; // of a page that shows such a message

/** A tree in one line: `(bold …)`, and texts as they are. */
function shown(nodes) {
  return nodes.map(({ kind, text, url, children }) => {
    if (kind === "plain") return text;
    return `(${[kind, url].filter(Boolean).join(" ")}: ${text ?? shown(children)})`;
  }).join("");
}

const READ = [
  ["plain *italic* **bold _both_** ~~old~~",
    "(text: plain (italic: italic) (bold: bold (italic: both)) (struck: old))"],
  ["***all***", "(text: (bold: (italic: all)))"],
  ["snake_case_name, 2*3*4 and a * b", "(text: snake_case_name, 2*3*4 and a * b)"],
  ["**中文**字", "(text: (bold: 中文)字)"],
  ["`a*b*` ``c`d`` `e", "(text: (code: a*b*) (code: c`d) `e)"],
  ["see https://a.example/b_c_d). ok",
    "(text: see (link https://a.example/b_c_d: https://a.example/b_c_d)). ok)"],
  ["https://a.example/B_(c)", "(text: (link https://a.example/B_(c): https://a.example/B_(c)))"],
  ["[*a*](https://b.example)", "(text: (link https://b.example/: (italic: a)))"],
  ["- a\n- b\n  1. c\n\n- d", "(list: (item: (text: a))(item: (text: b)(list: (item: (text: c))))"
    + "(item: (text: d)))"],
  ["> a\n> > b\nc", "(quote: (text: a)(quote: (text: b)))(text: c)"],
  ["```js\n<b>*a*\n\n```\nb", "(code block: <b>*a*\n)(text: b)"],
  ["```\nnot closed *yet*", "(code block: not closed *yet*)"],
  ["# a\nb\n\nc", "(heading: a)(text: b)(text: c)"],
  ["in\n1984. it", "(text: in\n1984. it)"],
  // What is not closed, not an address of the web, or escaped, stands as it was written.
  ["**a *b", "(text: **a *b)"],
  ["[a](b", "(text: [a](b)"],
  ["\\*a\\* C:\\temp", "(text: *a* C:\\temp)"],
  ["[a](javascript:alert(1))", "(text: [a](javascript:alert(1)))"],
  ["[a](JavaScript:alert(1)) [b](data:text/html,x)",
    "(text: [a](JavaScript:alert(1)) [b](data:text/html,x))"],
  ["[a](//b.example) [c](/d) ftp://e.example",
    "(text: [a](//b.example) [c](/d) ftp://e.example)"],
  ["<img src=x onerror=alert(1)>", "(text: <img src=x onerror=alert(1)>)"],
];

/** Texts that a careless reader needs minutes for, or a deep stack. */
function heavy() {
  const filled = (text) => text.repeat(Math.floor(CONTENT_BYTES / text.length));
  const runs = Array.from({ length: 700 }, (_, i) => "`".repeat(i + 1)).join(" ");
  const same = ["`", "*", "*a ", "_a_", "**a *b ", "[", "[](", "[a](http://x", "](", "> ", "- ",
    "- a\n", "1. ", "\n", "a\n\n", "~~~\n", "`a``b```c", "http://", "\\", "# ", "* *\n", "\t"];
  return [
    ...same.map((text) => [JSON.stringify(text), filled(text)]),
    ["runs of backticks", runs],
    ["a fence that is none", `\`\`\`${"a".repeat(CONTENT_BYTES - 4)}\``],
    ["brackets behind an address", `http://x${")".repeat(CONTENT_BYTES - 8)}`],
    ["lists within lists", Array.from({ length: 700 }, (_, i) => `${" ".repeat(i)}- a`).join("\n")],
    ["opened, then closed", "*a **b ".repeat(20_000) + "** *".repeat(20_000)],
  ];
}

/** How deep a tree is. */
const depthOf = ({ children = [] }) => 1 + children.reduce((most, each) =>
  Math.max(most, depthOf(each)), 0);

/** What it takes of a processor, whatever else the machine does meanwhile. */
function tookMs(act) {
  const began = process.cpuUsage();
  act();
  return Math.round(process.cpuUsage(began).user / 1000);
}

function reads() {
  for (const [text, wanted] of READ) {
    const seen = shown(parse(text));
    expect(`reads ${JSON.stringify(text)}`, seen === wanted, seen);
  }
  for (const [name, text] of heavy()) {
    const depth = depthOf({ children: parse(text) });
    const ms = Math.min(...[1, 2].map(() => tookMs(() => parse(text))));
    expect(`${CONTENT_BYTES} bytes of ${name} take no time, nor a deep stack`,
      ms < LINEAR_MS && depth < 40, { ms, depth });
  }
}

const HOSTILE = [
  "<script>window.harmed = 1</script>",
  "<img src=x onerror='window.harmed = 1'>",
  "[a](javascript:window.harmed=1) [b](JAVASCRIPT&colon;alert(1)) [c](java\nscript:alert(1))",
  "[d](https://good.example\" onmouseover=\"window.harmed=1) <svg/onload=window.harmed=1>",
  "[e](https://good.example/?<b>) **[f](https://good.example)**",
  "[g [h](http://h.example)](http://g.example)",
  "```<script>window.harmed = 1</script>\n</code></pre><img src=x onerror=window.harmed=1>\n```",
  "[https://good.example](https://bad.example) https://user@good.example/#<script>",
];

/** Everything in the messages that could do something. */
function findings() {
  const within = [...document.querySelectorAll("#messages .text *")];
  const ALLOWED = ["A", "P", "STRONG", "EM", "S", "CODE", "PRE", "UL", "OL", "LI", "BLOCKQUOTE",
    "DIV", "BUTTON"];
  const strange = within.filter(({ tagName, attributes }) => !ALLOWED.includes(tagName)
    || [...attributes].some(({ name }) => name.startsWith("on") || name === "style"));
  const links = within.filter(({ tagName }) => tagName === "A");
  const isSafe = ({ protocol, rel, target }) => ["http:", "https:"].includes(protocol)
    && rel === "noopener noreferrer" && target === "_blank";
  return {
    harmed: window.harmed ?? null,
    strange: strange.map(({ outerHTML }) => outerHTML),
    links: links.map(({ href }) => href),
    unsafe: links.filter((link) => !isSafe(link)).map(({ outerHTML }) => outerHTML),
    nested: links.filter((link) => link.querySelector("a")).length,
    liar: links.find(({ hostname }) => hostname === "bad.example")?.textContent ?? null,
  };
}

/** Said by somebody else, through the API: a composer takes less. */
async function said(baseUrl, room, content) {
  const answer = await fetch(`${baseUrl}/api/rooms/${room}/messages`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ userId: "mallory", content }),
  });
  expect(`the server takes ${content.length} characters`, answer.ok, answer.status);
}

async function shows(browser, { baseUrl, outDir }) {
  const room = `markdown-${Date.now().toString(36)}`;
  const context = await browser.newContext({ viewport: { width: 1000, height: 800 } });
  const tab = await Tab.open(context, { baseUrl, outDir, room }, "ann");
  await eventually("ann is live", () => tab.isLive());
  await tab.say("Hello **Bob**, see `code`:\n\n- one\n- two\n\n> quoted\n\n```js\nlet a = 1;\n```");
  await eventually("a message is shown with its forms", () => tab.page.evaluate(() => {
    const text = document.querySelector("#messages .text");
    const has = (part) => Boolean(text?.querySelector(part));
    return ["strong", "p > code", "ul > li + li", "blockquote", "pre > code"].every(has);
  }));
  for (const text of HOSTILE) await said(baseUrl, room, text);
  await eventually("all that is hostile is there", async () =>
    is(await tab.page.locator("#messages .message").count(), HOSTILE.length + 1));
  const seen = await tab.page.evaluate(findings);
  expect("nothing of it ran", seen.harmed === null, seen);
  expect("nothing but text and its forms is there", seen.strange.length === 0, seen.strange);
  expect("links are of the web, and give nothing away", seen.unsafe.length === 0, seen);
  expect("no link is within another", seen.nested === 0 && seen.links.length > 3, seen.links);
  expect("a link whose words lie says where it goes", seen.liar === "https://bad.example/", seen);
  await tab.screenshot("hostile");
  for (const text of ["`".repeat(CONTENT_BYTES), "*a **b ".repeat(CONTENT_BYTES / 8)]) {
    const before = await tab.page.locator("#messages .message").count();
    const began = Date.now();
    await said(baseUrl, room, text);
    await eventually("a message of all the bytes there may be is shown", async () =>
      is(await tab.page.locator("#messages .message").count(), before + 1));
    expect("soon", Date.now() - began < PATIENCE_MS, Date.now() - began);
  }
  await tab.say("still *here*");
  await eventually("and the page goes on", () => tab.hasOnce("still here"));
  expect("no script error", tab.errors.length === 0, tab.errors);
}

await main("markdown.mjs", async (browser, options) => {
  reads();
  await shows(browser, options);
});
