// What of Markdown people write in a chat, read into a tree: code, links, bold, italics, struck-out
// text, headings, lists, quotes. Whatever is none of it stands as it was written. A tree is data:
// `formatted.js` makes nodes of it, and nothing here or there ever writes HTML.
//
// Time and depth are bounded, for the text is anybody's: each character is looked at a few times,
// nesting ends at `DEPTH_MAX`, and beyond `NODES_MAX` the rest of a message stays plain.

const DEPTH_MAX = 8;
const NODES_MAX = 4000;
const URL_MAX = 2048;

const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*(.*)$/;
const HEADING = /^(#{1,6})[ \t]+(\S.*)$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])([ \t]+)(?=\S)/;
const WEB_URL = /https?:\/\/[^\s<>"\\^`{|}[\]]+/iy;
const LINK_END = /\]\(<?(https?:\/\/[^\s<>()]*(?:\([^\s<>()]*\)[^\s<>()]*)*)>?\)/iy;
const ESCAPED = /[!-/:-@[-`{-~]/;
const PLAIN = /[^\\`*_~[\]<hH\n]+/y; // nothing in it begins anything

/** The blocks of a text, each with its `source`: what did not change need not be shown anew. */
export function parse(text) {
  return blocks(text.split("\n"), 0, { nodes: 0 });
}

function blocks(lines, depth, budget) {
  const found = [];
  for (let at = 0; at < lines.length;) {
    if (!lines[at].trim()) {
      at++;
      continue;
    }
    const isPlain = depth === DEPTH_MAX || ++budget.nodes > NODES_MAX;
    const block = isPlain ? null : blockAt(lines, at, depth, budget);
    const end = block?.end ?? (isPlain ? lines.length : paragraphEnd(lines, at));
    const source = lines.slice(at, end).join("\n");
    found.push({ ...(block?.node ?? { kind: "text", children: inline(source, budget) }), source });
    at = end;
  }
  return found;
}

function paragraphEnd(lines, at) {
  const interrupts = (i) => fenceAt(lines, i) || HEADING.test(lines[i]) || QUOTE.test(lines[i])
    || /^([-*+]|1[.)])$/.test(ITEM.exec(lines[i])?.[2]); // a line may well begin with a year
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && !interrupts(end)) end++;
  return end;
}

function blockAt(lines, at, depth, budget) {
  const line = lines[at];
  const fence = fenceAt(lines, at);
  if (fence) return codeBlock(lines, at, fence);
  const heading = HEADING.exec(line);
  if (heading) {
    return { end: at + 1, node: { kind: "heading", children: inline(heading[2], budget) } };
  }
  if (QUOTE.test(line)) {
    let end = at;
    while (end < lines.length && QUOTE.test(lines[end])) end++;
    const inner = lines.slice(at, end).map((each) => each.replace(QUOTE, ""));
    return { end, node: { kind: "quote", children: blocks(inner, depth + 1, budget) } };
  }
  return ITEM.test(line) ? list(lines, at, depth, budget) : null;
}

/** A fence that begins a code block: something follows it, and it is no code within a line. */
function fenceAt(lines, at) {
  const found = at + 1 < lines.length ? FENCE.exec(lines[at]) : null;
  return found && !found[2].includes("`") ? found : null;
}

/** Up to its fence, or to the end: an answer that is being written has no end yet. */
function codeBlock(lines, at, [, fence, about]) {
  const closes = (line) => {
    const end = line.trim();
    return end.length >= fence.length && end === fence[0].repeat(end.length);
  };
  let end = at + 1;
  while (end < lines.length && !closes(lines[end])) end++;
  const node = { kind: "code block", language: about.split(/\s/)[0] };
  node.text = lines.slice(at + 1, end).join("\n");
  return { end: Math.min(end + 1, lines.length), node };
}

function list(lines, at, depth, budget) {
  const isOrdered = (item) => /\d/.test(item[2]);
  const first = ITEM.exec(lines[at]);
  const ordered = isOrdered(first);
  const items = [];
  let end = at;
  while (end < lines.length) {
    const item = ITEM.exec(lines[end]);
    if (!item || isOrdered(item) !== ordered) break;
    const inner = [lines[end].slice(item[0].length)];
    // People set in by two spaces, or by as many as the mark takes.
    const least = " ".repeat(item[1].length + 2);
    const indent = Math.max(item[1].length + item[2].length + 1, least.length);
    const isWithin = (line) => line?.startsWith(least);
    for (end++; end < lines.length; end++) {
      // An empty line ends an item, unless what follows is set in like the item's text.
      if (!lines[end].trim() ? !isWithin(lines[end + 1]) : !isWithin(lines[end])) break;
      inner.push(unindented(lines[end], indent));
    }
    items.push({ kind: "item", children: blocks(inner, depth + 1, budget) });
    // Items may stand apart by an empty line.
    if (end + 1 < lines.length && !lines[end].trim() && ITEM.test(lines[end + 1])) end++;
  }
  const start = ordered ? Number.parseInt(first[2], 10) : null;
  return { end, node: { kind: "list", ordered, start, children: items } };
}

function unindented(line, most) {
  let spaces = 0;
  while (spaces < most && line[spaces] === " ") spaces++;
  return line.slice(spaces);
}

/** What stands within a line or several. */
function inline(text, budget) {
  return new Inline(text, budget).read();
}

class Inline {
  constructor(text, budget) {
    Object.assign(this, { text, budget, at: 0, nodes: [] });
    this.open = []; // {kind, index in `nodes`}: what may be closed yet, outermost first
    this.counts = new Map(); // kind → how many of them are open
    this.ticks = null; // length of a run of backticks → where such runs begin
  }
  read() {
    const { text } = this;
    while (this.at < text.length) {
      if (this.budget.nodes > NODES_MAX) {
        this.plain(text.slice(this.at));
        break;
      }
      this.step(text[this.at]);
    }
    return this.nodes;
  }
  step(char) {
    const { text } = this;
    if (char === "\\" && ESCAPED.test(text[this.at + 1] ?? "")) {
      this.plain(text[this.at + 1]);
      this.at += 2;
    } else if (char === "`") this.code();
    else if (char === "*" || char === "_" || char === "~") this.emphasis(char);
    else if (char === "[") this.opens("[", 1);
    else if (char === "]") this.linkEnd();
    else if (char === "h" || char === "H") this.url();
    else {
      PLAIN.lastIndex = this.at;
      this.take(PLAIN.exec(text)?.[0] ?? char);
    }
  }
  /** Goes on behind a text, which stands as it is. */
  take(text) {
    this.plain(text);
    this.at += text.length;
  }
  plain(text) {
    const last = this.nodes.at(-1);
    if (last?.kind === "plain" && !this.isOpener(last)) last.text += text;
    else this.add({ kind: "plain", text });
  }
  isOpener(node) { return this.open.at(-1)?.node === node; }
  add(node) {
    this.budget.nodes++;
    this.nodes.push({ depth: 0, ...node });
  }
  runLength(char, at) {
    let end = at;
    while (this.text[end] === char) end++;
    return end - at;
  }
  code() {
    const length = this.runLength("`", this.at);
    this.ticks ??= this.findTicks();
    const runs = this.ticks.get(length);
    while (runs.next < runs.length && runs[runs.next] <= this.at) runs.next++;
    const close = runs[runs.next];
    if (close === undefined) return this.take("`".repeat(length));
    let code = this.text.slice(this.at + length, close);
    if (code.startsWith(" ") && code.endsWith(" ") && code.trim()) code = code.slice(1, -1);
    this.add({ kind: "code", text: code });
    this.at = close + length;
  }
  findTicks() {
    const found = new Map();
    for (const { 0: run, index } of this.text.matchAll(/`+/g)) {
      if (!found.has(run.length)) found.set(run.length, Object.assign([], { next: 0 }));
      found.get(run.length).push(index);
    }
    return found;
  }
  /** A run of stars, underscores or tildes: closes what it can, opens with the rest. */
  emphasis(char) {
    const { text } = this;
    let left = this.runLength(char, this.at);
    const [before, after] = [text[this.at - 1] ?? " ", text[this.at + left] ?? " "];
    if (left > 3 || (char === "~" && left !== 2)) return this.take(char.repeat(left));
    const closes = (size) => !/\s/.test(before) && (isFree(char, size) || !/\w/.test(after));
    const opens = (size) => !/\s/.test(after) && (isFree(char, size) || !/\w/.test(before));
    while (left > 0) {
      const size = this.nearest(char, left);
      if (!size || !closes(size)) break;
      this.close(char.repeat(size), size === 1 ? "italic" : char === "~" ? "struck" : "bold");
      this.at += size;
      left -= size;
    }
    while (left > 0) {
      const size = Math.min(left, 2);
      if (opens(size)) this.opens(char.repeat(size), size);
      else this.take(char.repeat(size));
      left -= size;
    }
  }
  /** How long the innermost open mark of this character is; 0 where a run of `most` closes none. */
  nearest(char, most) {
    const sizes = [1, 2].filter((size) => size <= most && this.counts.get(char.repeat(size)) > 0);
    if (sizes.length < 2) return sizes[0] ?? 0;
    return this.open.findLast(({ kind }) => kind[0] === char).kind.length;
  }
  opens(kind, size) {
    const node = { kind: "plain", text: kind, depth: 0 };
    this.budget.nodes++;
    this.nodes.push(node);
    this.open.push({ kind, node, index: this.nodes.length - 1 });
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1);
    this.at += size;
  }
  /** Makes one node of all since the innermost such mark; what was opened in it opened nothing. */
  close(kind, as, more) {
    let opener;
    do {
      opener = this.open.pop();
      this.counts.set(opener.kind, this.counts.get(opener.kind) - 1);
    } while (opener.kind !== kind);
    const children = this.nodes.splice(opener.index + 1);
    const depth = 1 + children.reduce((most, child) => Math.max(most, child.depth), 0);
    if (depth <= DEPTH_MAX && children.length) {
      this.nodes.pop();
      this.nodes.push({ kind: as, children, depth, ...more });
    } else this.nodes.push(...children, { kind: "plain", text: kind, depth: 0 });
  }
  linkEnd() {
    if (!this.counts.get("[")) return this.take("]");
    LINK_END.lastIndex = 0;
    const found = LINK_END.exec(this.text.slice(this.at, this.at + URL_MAX));
    const url = found && webUrl(found[1]);
    if (url) this.at += found[0].length;
    if (url) return this.close("[", "link", { url });
    // It closes its bracket, and is no link.
    const opener = this.open.findLast(({ kind }) => kind === "[");
    if (this.open.at(-1) === opener) {
      this.open.pop();
      this.counts.set("[", this.counts.get("[") - 1);
    }
    this.take("]");
  }
  /** An address that just stands there, without what ends the sentence around it. */
  url() {
    WEB_URL.lastIndex = this.at;
    const isWithinWord = /\w/.test(this.text[this.at - 1] ?? "");
    const found = isWithinWord ? null : WEB_URL.exec(this.text)?.[0];
    const address = found && withoutEnd(found);
    const url = address && address.length <= URL_MAX && webUrl(address);
    if (!url) {
      PLAIN.lastIndex = this.at + 1;
      const rest = found?.slice(1) ?? PLAIN.exec(this.text)?.[0] ?? "";
      return this.take(this.text[this.at] + rest);
    }
    const children = [{ kind: "plain", text: address, depth: 0 }];
    this.add({ kind: "link", url, children, depth: 1 });
    this.at += address.length;
  }
}

/** Two stars or tildes mean it within a word too, which not every script sets apart by spaces. */
const isFree = (char, size) => size === 2 && char !== "_";

/** Without closing marks at its end; a closing bracket belongs to it if its opening one does. */
function withoutEnd(address) {
  let end = address.length;
  let unopened = 0;
  for (const char of address) unopened += char === ")" ? 1 : char === "(" ? -1 : 0;
  for (; end > 0; end--) {
    const last = address[end - 1];
    if (last === ")" && unopened > 0) unopened--;
    else if (!/[.,:;!?'*_~]/.test(last)) break;
  }
  return address.slice(0, end);
}

/** The address as a browser takes it, of the web and of nothing else; null where it is not. */
function webUrl(address) {
  if (!URL.canParse(address)) return null;
  const { protocol, href } = new URL(address);
  return protocol === "http:" || protocol === "https:" ? href : null;
}
