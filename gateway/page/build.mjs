// What `build` does: bundles, makes smaller, compresses, and writes or compares.
//
//   node build.mjs [--check] FOLDER
//
// The same sources make the same bytes: esbuild's version is exact, and nothing of the time, the
// machine or a path goes into a file.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import {
  brotliCompressSync, brotliDecompressSync, constants, gunzipSync, gzipSync,
} from "node:zlib";

const esbuild = createRequire(import.meta.url)("esbuild"); // require looks at NODE_PATH
const page = path.dirname(fileURLToPath(import.meta.url));
const client = path.join(page, "../../clients/typescript/src/index.ts");
const words = process.argv.slice(2);
const isCheck = words[0] === "--check";
const folder = words.at(-1);

// What begins with an underscore is private to the client; its short name is the same everywhere.
let mangleCache = {};
const onDemand = new Set();

/** What is imported on demand comes from the one script for that; what has to be there before the
 *  first connect is in the page's own. */
const fromLater = {
  name: "later",
  setup(build) {
    build.onResolve({ filter: /^\.\// }, ({ kind, path: name, resolveDir }) => {
      if (kind !== "dynamic-import" || name === "./browser.js") return null;
      onDemand.add(path.join(resolveDir, name).replace(/\.js$/, ""));
      return { path: "./later.js", external: true };
    });
  },
};

/** One script of all that it imports. */
async function bundle(entry, plugins = []) {
  const built = await esbuild.build({
    entryPoints: [entry], absWorkingDir: page, bundle: true, format: "esm", minify: true,
    mangleProps: /^_./, mangleCache, target: "es2022", charset: "utf8", legalComments: "none",
    tsconfigRaw: "{}", plugins, metafile: true, write: false,
  });
  mangleCache = built.mangleCache;
  const [{ exports }] = Object.values(built.metafile.outputs);
  return { text: built.outputFiles[0].text, exports };
}
/** The page's script, and the one with what it imports on demand. */
async function scripts() {
  const first = await bundle(path.join(page, "page.js"), [fromLater]);
  const later = await bundle(path.join(page, "later.js"));
  // Two modules that export one name would export neither.
  const wanted = [];
  for (const name of onDemand) {
    const [file] = [`${name}.ts`, `${name}.js`].filter(existsSync);
    wanted.push(...(await bundle(file)).exports);
  }
  if (wanted.sort().join() !== later.exports.toSorted().join()) {
    throw new Error(`later.js has ${later.exports}, and these are imported on demand: ${wanted}`);
  }
  return { "page.js": first.text, "later.js": later.text };
}
function style(name) {
  const loader = { loader: "css", minify: true, charset: "utf8", target: "chrome120" };
  return esbuild.transformSync(readFileSync(path.join(page, name), "utf8"), loader).code;
}
/** Without comments and indents; what is left means the same, for nothing here is preformatted. */
function html(name) {
  const text = readFileSync(path.join(page, name), "utf8");
  return text.replaceAll(/<!--.*?-->/gs, "").replaceAll(/\s*\n\s*/g, "\n");
}

async function files() {
  // First, so that its bytes depend on its own sources alone.
  const { text: clientScript } = await bundle(client);
  const index = html("index.html");
  return {
    "index.html": index,
    // The same page where nobody may name themselves: it asks for a token.
    "index.token.html": index.replace("<body>", '<body data-sign-in="token">'),
    "style.css": style("style.css"),
    ...await scripts(),
    "client.js": clientScript,
  };
}

/** What has to come before the first message is shown, compressed: 4 s at 50 kbit/s. */
const FIRST = ["index.html", "style.css", "page.js"];
const FIRST_BYTES_MAX = 25_000;

const PACKERS = {
  br: {
    pack: (bytes) => brotliCompressSync(bytes, {
      params: {
        [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY,
        [constants.BROTLI_PARAM_MODE]: constants.BROTLI_MODE_TEXT,
        [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length,
      },
    }),
    unpack: brotliDecompressSync,
  },
  gz: { pack: (bytes) => gzipSync(bytes, { level: 9 }), unpack: gunzipSync },
};

function write(name, text) {
  const bytes = Buffer.from(text);
  writeFileSync(path.join(folder, name), bytes);
  const sizes = Object.entries(PACKERS).map(([ending, { pack }]) => {
    const packed = pack(bytes);
    writeFileSync(path.join(folder, `${name}.${ending}`), packed);
    return `${ending} ${packed.length}`;
  });
  console.log(`${name}: ${bytes.length} bytes, ${sizes.join(", ")}`);
}

/** Which of a file and its compressed forms are not as they would be built. */
function differing(name, text) {
  const bytes = Buffer.from(text);
  const packed = Object.entries(PACKERS)
    .map(([ending, { unpack }]) => [`${name}.${ending}`, unpack]);
  const forms = [[name, (held) => held], ...packed];
  const isSame = ([form, unpack]) => {
    const file = path.join(folder, form);
    try {
      return existsSync(file) && unpack(readFileSync(file)).equals(bytes);
    } catch {
      return false; // not even a compressed file
    }
  };
  return forms.filter((form) => !isSame(form)).map(([form]) => form);
}

function checkBudget(all) {
  const sizes = FIRST.map((name) => PACKERS.gz.pack(Buffer.from(all[name])).length);
  const sum = sizes.reduce((total, size) => total + size, 0);
  if (sum > FIRST_BYTES_MAX) {
    throw new Error(`${FIRST.join(", ")} are ${sum} bytes compressed, ${FIRST_BYTES_MAX} at most`);
  }
}

const all = await files();
checkBudget(all);
const built = Object.entries(all);
if (isCheck) {
  const differ = built.flatMap(([name, text]) => differing(name, text));
  for (const name of differ) console.error(`${path.join(folder, name)} is not what is built`);
  if (differ.length) console.error("build it: gateway/page/build");
  process.exitCode = differ.length ? 1 : 0;
} else {
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of built) write(name, text);
}
