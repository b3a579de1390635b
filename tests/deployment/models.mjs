// Checks rendered manifests against the models of Kubernetes and of the custom resources.
//
//   node models.mjs FILE...
//
// Twice: the models' own validators find missing fields, wrong types and values, and the compiler
// of TypeScript, given each manifest as a literal of its type, finds fields that do not exist. Ends
// with 1 if there is a complaint. Kinds that no model is known of are said, and not checked.

import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import * as yaml from 'js-yaml';
import ts from 'typescript';

const CUSTOM = new Map([
  ['gateway.networking.k8s.io', '@kubernetes-models/gateway-api'],
  ['keda.sh', '@kubernetes-models/keda'],
  ['monitoring.coreos.com', '@kubernetes-models/prometheus-operator'],
]);
const UNKNOWN = new Set(['postgresql.cnpg.io']);

const here = path.dirname(fileURLToPath(import.meta.url));
const complaints = [];
const unchecked = new Set();

/** The module of a manifest's kind, or null where no model is known. */
function moduleOf({ apiVersion, kind }) {
  const [group, version] = apiVersion.includes('/') ? apiVersion.split('/') : ['', apiVersion];
  if (UNKNOWN.has(group)) return null;
  const own = CUSTOM.get(group);
  return own ? `${own}/${group}/${version}/${kind}` : `kubernetes-models/${apiVersion}/${kind}`;
}

function read(file) {
  const manifests = yaml.loadAll(fs.readFileSync(file, 'utf8')).filter(Boolean);
  return manifests.map((manifest) => {
    const place = `${path.basename(file)}: ${manifest.kind} ${manifest.metadata?.name}`;
    const from = moduleOf(manifest);
    if (!from) unchecked.add(manifest.kind);
    return { manifest, place, from };
  });
}

async function validate({ manifest, place, from }) {
  try {
    const model = await import(from);
    new model[manifest.kind](manifest).validate();
  } catch (error) {
    complaints.push(`${place}: ${error.message}`);
  }
}

/** One constant in a line for each manifest, so that a line says which it is. */
function compile(all) {
  const name = path.join(here, 'manifests.ts');
  const text = all
    .map(({ manifest: { kind, ...rest }, from }, number) => {
      const literal = JSON.stringify({ kind, ...rest });
      return `export const m${number}: import("${from}").I${kind} = ${literal};`;
    })
    .join('\n');
  const options = {
    noEmit: true,
    strict: true,
    skipLibCheck: true,
    types: [],
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
  };
  const host = ts.createCompilerHost(options);
  const { readFile, fileExists, getSourceFile } = host;
  host.readFile = (file) => (file === name ? text : readFile(file));
  host.fileExists = (file) => file === name || fileExists(file);
  host.getSourceFile = (file, version) =>
    file === name ? ts.createSourceFile(file, text, version) : getSourceFile(file, version);
  for (const found of ts.getPreEmitDiagnostics(ts.createProgram([name], options, host))) {
    const message = ts.flattenDiagnosticMessageText(found.messageText, '\n');
    const line = found.file?.getLineAndCharacterOfPosition(found.start).line;
    const place = found.file?.fileName === name ? all[line].place : found.file?.fileName;
    complaints.push(`${place}: ${message}`);
  }
}

const all = process.argv.slice(2).flatMap(read);
const checked = all.filter(({ from }) => from);
for (const one of checked) await validate(one);
compile(checked);

for (const complaint of complaints) console.error(complaint);
for (const kind of unchecked) console.log(`not checked, no model is known of it: ${kind}`);
console.log(`${checked.length} manifests, ${complaints.length} complaints`);
process.exit(complaints.length ? 1 : 0);
