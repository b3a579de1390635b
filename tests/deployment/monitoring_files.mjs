// Rules, dashboards and the runbook agree with one another, and Prometheus understands them: what
// can be said of them without a fleet.
//
//   node tests/deployment/monitoring_files.mjs
//
// Ends with 0, with 1, or with 77 where all is well and there is no `promtool`, which Debian has in
// `prometheus`. As a module it gives `monitoring.mjs` what the files say.

import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";

import { Missing, main, program, source } from "./scope.mjs";

const ROOT = path.join(import.meta.dirname, "../..");
const PROMETHEUS = "deploy/prometheus";
const DASHBOARDS = "deploy/grafana/dashboards";
const RUNBOOK = "docs/RUNBOOK.md";
const RUNBOOK_URL = `https://github.com/roomcast/roomcast/blob/main/${RUNBOOK}#`;
const SEVERITIES = ["critical", "warning"];

/** Where metrics may be named; a folder is read with everything below it. */
const PLACES = [
  PROMETHEUS, DASHBOARDS, "k8s", "docs", "README.md", "ARCHITECTURE.md", "CHANGELOG.md",
  "CONTRIBUTING.md", "shared/PROTOCOL.md",
];

/** All labels that a query may name: those of Prometheus, and closed lists of the processes'. */
export const LABELS = [
  "alertname", "alertstate", "allowance", "code", "condition", "instance", "job", "le", "reason",
  "revision", "severity", "version",
];

/** What stands for Grafana's variables where a query is only read. */
export const READ_ONLY = { $__rate_interval: "5m", $__range: "1h", $instance: "gateway-1:9464" };

export function substitute(query, variables) {
  const names = Object.keys(variables).sort((a, b) => b.length - a.length);
  return names.reduce((text, name) => text.replaceAll(name, variables[name]), query);
}

/** The files below a place, as paths in the repository. */
function files(place) {
  const absolute = path.join(ROOT, place);
  if (!existsSync(absolute)) return [];
  if (/\.\w+$/.test(place)) return [place];
  const entries = readdirSync(absolute, { withFileTypes: true });
  return entries.flatMap((entry) => {
    const name = path.join(place, entry.name);
    return entry.isDirectory() ? files(name) : [name];
  });
}

/** Names of metrics in a text, recorded ones with their colons; an image's tag is none. */
export function metricNames(text) {
  const words = text.match(/[a-zA-Z_:][\w:]*/g) ?? [];
  return words.filter((word) => /^(\w+:)?roomcast_\w*[a-z0-9](:\w+)?$/.test(word)
    || /^roomcast:[a-z]+_\w+(:\w+)?$/.test(word));
}

/** Every metric that is named anywhere, with the files that do. */
export function namedMetrics() {
  const named = new Map();
  for (const file of PLACES.flatMap(files)) {
    for (const name of metricNames(source(file))) {
      if (!named.has(name)) named.set(name, new Set());
      named.get(name).add(file);
    }
  }
  return named;
}

/** The alerts of rules.yml, each with what stands below it; the file is written in one form. */
export function alerts() {
  const parts = source(`${PROMETHEUS}/rules.yml`).split(/^ +- (?=alert: |record: )/m).slice(1);
  return parts.filter((part) => part.startsWith("alert: ")).map((part) => {
    const field = (name) => part.match(new RegExp(`^ +${name}: *(.+)`, "m"))?.[1];
    return {
      name: part.match(/^alert: (\w+)/)[1],
      severity: field("severity"),
      summary: field("summary"),
      description: field("description"),
      runbook: field("runbook_url"),
    };
  });
}

export function recordedNames() {
  const text = source(`${PROMETHEUS}/rules.yml`);
  return [...text.matchAll(/^ +- record: (\S+)/gm)].map(([, name]) => name);
}

export function dashboards() {
  return files(DASHBOARDS).filter((file) => file.endsWith(".json")).map((file) => {
    const board = JSON.parse(source(file));
    const panels = board.panels.filter(({ type }) => type !== "row");
    const queries = panels.flatMap((panel) => panel.targets.map((target) => ({
      place: `${file}: ${panel.title}`, panel, ...target,
    })));
    return { file, board, panels, queries };
  });
}

/** The anchors that GitHub gives the headings of a document. */
function anchors(text) {
  const headings = [...text.matchAll(/^#+ (.+)$/gm)].map(([, heading]) => heading);
  return headings.map((heading) =>
    heading.toLowerCase().replace(/[^\p{L}\p{N}\- _]/gu, "").replaceAll(" ", "-"));
}

function checkAlerts() {
  const runbook = source(RUNBOOK);
  const known = anchors(runbook);
  const found = alerts();
  const complaints = [];
  if (found.length < 30) complaints.push(`only ${found.length} alerts were read`);
  for (const { name, severity, summary, description, runbook: url } of found) {
    const say = (what) => complaints.push(`${PROMETHEUS}/rules.yml: ${name}: ${what}`);
    if (!/^Roomcast[A-Z]/.test(name)) say("a name begins with Roomcast");
    if (!SEVERITIES.includes(severity)) say(`severity is one of ${SEVERITIES}`);
    if (!summary) say("no summary");
    if (!description) say("no description");
    const anchor = name.toLowerCase();
    if (url !== RUNBOOK_URL + anchor) say(`runbook_url is to be ${RUNBOOK_URL}${anchor}`);
    if (!known.includes(anchor)) say(`${RUNBOOK} has no chapter of that name`);
  }
  const names = found.map(({ name }) => name);
  for (const name of names) {
    if (names.indexOf(name) !== names.lastIndexOf(name)) complaints.push(`${name} is there twice`);
  }
  const chapters = [...runbook.matchAll(/^#+ (Roomcast[A-Z]\w+)$/gm)].map(([, name]) => name);
  for (const name of chapters.filter((chapter) => !names.includes(chapter))) {
    complaints.push(`${RUNBOOK}: ${name} is no alert`);
  }
  return complaints;
}

/** Each alert has a case in which it fires and one in which it is quiet. */
function checkCases() {
  const text = source(`${PROMETHEUS}/rules_test.yml`);
  const quiet = text.matchAll(/\{eval_time: \w+, alertname: (\w+), exp_alerts: \[\]\}/g);
  const firing = text.matchAll(/alertname: (\w+)\n +exp_alerts:\n +- exp_labels:/g);
  const tried = { quiet: names(quiet), firing: names(firing) };
  function names(matches) {
    return new Set([...matches].map(([, name]) => name));
  }
  return alerts().flatMap(({ name }) =>
    Object.keys(tried).filter((kind) => !tried[kind].has(name))
      .map((kind) => `${PROMETHEUS}/rules_test.yml: ${name} has no case in which it is ${kind}`));
}

function checkPanel({ title, type, description, gridPos, fieldConfig, targets }) {
  const complaints = [];
  if (!title || !description) complaints.push("a panel has a title and a description");
  if (!fieldConfig?.defaults?.unit) complaints.push("no unit");
  if (!(gridPos?.x + gridPos?.w <= 24)) complaints.push("it is not within the 24 columns");
  const legends = targets.map(({ legendFormat }) => legendFormat);
  if (!["stat", "table"].includes(type) && legends.some((legend) => !legend)) {
    complaints.push("a query has no legend");
  }
  for (const { expr } of targets) {
    if (/\[\d+\w\]/.test(expr)) complaints.push(`$__rate_interval is wanted: ${expr}`);
    complaints.push(...unknownLabels(expr).map((label) => `unknown label ${label}: ${expr}`));
  }
  return complaints;
}

/** Labels that a query names and that are not on the list. */
function unknownLabels(query) {
  const groups = [...query.matchAll(/\b(?:by|without|on|ignoring) ?\(([^)]*)\)/g)];
  const grouped = groups.flatMap(([, list]) => list.split(",").map((label) => label.trim()));
  const matched = [...query.matchAll(/(\w+) ?(?:=~|!~|!=|=) ?"/g)].map(([, label]) => label);
  return [...grouped, ...matched].filter((label) => label && !LABELS.includes(label));
}

function overlap(a, b) {
  return a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
}

function checkDashboards() {
  const complaints = [];
  const all = dashboards();
  if (all.length < 3) complaints.push(`only ${all.length} dashboards were found`);
  const uids = all.map(({ board }) => board.uid);
  if (new Set(uids).size !== uids.length) complaints.push("two dashboards have one uid");
  for (const { file, board, panels } of all) {
    const ids = board.panels.map(({ id }) => id);
    if (new Set(ids).size !== ids.length) complaints.push(`${file}: two panels have one id`);
    for (const [index, panel] of board.panels.entries()) {
      const above = board.panels.slice(0, index);
      const under = above.find(({ gridPos }) => overlap(gridPos, panel.gridPos));
      if (under) complaints.push(`${file}: ${panel.title} lies over ${under.title}`);
    }
    for (const panel of panels) {
      complaints.push(...checkPanel(panel).map((text) => `${file}: ${panel.title}: ${text}`));
    }
  }
  return complaints;
}

/** Runs promtool; what it complains of. */
function promtool(args) {
  const tool = program("promtool");
  try {
    execFileSync(tool, args, { cwd: ROOT, stdio: "pipe" });
    return [];
  } catch (error) {
    return [`promtool ${args.join(" ")}\n${error.stdout}${error.stderr}`];
  }
}

/** The queries of all dashboards, as rules for promtool to read. */
function queriesAsRules() {
  const rules = dashboards().flatMap(({ queries, board }) => [
    ...queries.map(({ expr }) => expr), ...board.annotations.list.map(({ expr }) => expr),
  ]).map((expr, index) => ({ record: `query_${index}`, expr: substitute(expr, READ_ONLY) }));
  return JSON.stringify({ groups: [{ name: "dashboards", rules }] });
}

function checkWithPromtool(scope) {
  const queries = scope.path("queries.yml");
  writeFileSync(queries, queriesAsRules());
  return [
    ["check", "rules", "--lint=all", "--lint-fatal", `${PROMETHEUS}/rules.yml`],
    ["test", "rules", `${PROMETHEUS}/rules_test.yml`],
    ["check", "config", `${PROMETHEUS}/prometheus.yml`],
    ["check", "rules", queries],
  ].flatMap(promtool);
}

/** Recorded names that no rule records. */
function checkRecorded() {
  const recorded = recordedNames();
  const named = [...namedMetrics()].filter(([name]) => name.includes(":"));
  const strange = named.filter(([name]) => !recorded.includes(name));
  return strange.map(([name, where]) => `${[...where]}: nothing records ${name}`);
}

if (process.argv[1] === import.meta.filename) {
  await main((scope) => {
    const complaints = [
      ...checkAlerts(), ...checkCases(), ...checkDashboards(), ...checkRecorded(),
    ];
    let missing;
    try {
      complaints.push(...checkWithPromtool(scope));
    } catch (error) {
      if (!(error instanceof Missing)) throw error;
      missing = error;
    }
    if (complaints.length > 0) throw new Error(`${complaints.length}:\n${complaints.join("\n")}`);
    const panels = dashboards().reduce((sum, board) => sum + board.panels.length, 0);
    console.log(`compared: ${alerts().length} alerts, ${panels} panels`);
    if (missing) throw missing;
  });
}
