// A message's text as nodes of the page, from the tree that `markdown.js` reads. Each node is made
// by its name, each text is set as text: nothing that a member says is ever read as HTML.

import { parse } from "./markdown.js";

const TAGS = {
  bold: "strong", italic: "em", struck: "s", code: "code", quote: "blockquote", item: "li",
  text: "p", heading: "p",
};
const COPIED_MS = 1500;

/** Shows a text in an element. Blocks that are shown already stay, so that a selection in an answer
 *  that is being written lasts, and only its end is made anew. */
export function setFormatted(element, text) {
  if (element.formatted?.text === text) return;
  const blocks = parse(text);
  const shown = element.formatted?.blocks ?? [];
  let same = 0;
  while (same < blocks.length && shown[same]?.source === blocks[same].source) same++;
  while (element.childNodes.length > same) element.lastChild.remove();
  element.append(...blocks.slice(same).map((block) => nodeOf(block)));
  element.formatted = { text, blocks: blocks.map(({ source }) => ({ source })) };
}

function nodeOf(node, inLink = false) {
  const { kind, text, children = [], url } = node;
  if (kind === "plain") return document.createTextNode(text);
  if (kind === "code block") return codeBlock(node);
  if (kind === "link" && inLink) return fragmentOf(children, inLink);
  const tag = kind === "link" ? "a" : kind === "list" ? (node.ordered ? "ol" : "ul") : TAGS[kind];
  const element = document.createElement(tag);
  if (kind === "code") element.textContent = text;
  if (kind === "heading") element.className = "heading";
  if (kind === "list" && node.start > 1) element.start = node.start;
  if (kind === "link") {
    Object.assign(element, { href: url, target: "_blank", rel: "noopener noreferrer", title: url });
    if (isElsewhere(textOf(children), url)) return Object.assign(element, { textContent: url });
  }
  element.append(fragmentOf(children, inLink || kind === "link"));
  return element;
}

/** Whether the words of a link are an address, and of another place than it leads to. */
const isElsewhere = (words, url) =>
  URL.canParse(words) && new URL(words).host !== new URL(url).host;

function fragmentOf(children, inLink) {
  const fragment = document.createDocumentFragment();
  fragment.append(...children.map((child) => nodeOf(child, inLink)));
  return fragment;
}

const textOf = (nodes) => nodes.map(({ text, children }) => text ?? textOf(children)).join("");

/** Long lines are scrolled to, with keys too. */
function codeBlock({ language, text }) {
  const tags = ["div", "div", "pre", "code"];
  const [block, bar, pre, code] = tags.map((tag) => document.createElement(tag));
  block.className = "code-block";
  bar.className = "code-bar";
  bar.textContent = language;
  if (navigator.clipboard) bar.append(copyButton(text)); // there is none without TLS
  pre.tabIndex = 0;
  code.textContent = text;
  pre.append(code);
  block.append(bar, pre);
  return block;
}

function copyButton(text) {
  const button = document.createElement("button");
  Object.assign(button, { type: "button", className: "copy", textContent: "Copy" });
  button.ariaLabel = "Copy this code";
  button.onclick = async () => {
    await navigator.clipboard.writeText(text).catch(() => {});
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, COPIED_MS);
  };
  return button;
}
