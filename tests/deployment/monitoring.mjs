// Prometheus with the rules and the dashboards' queries, on a fleet that is at work: every metric
// that is named anywhere is there, every panel shows something, nothing alerts while all is well,
// and what is broken on purpose is noticed.
//
//   node tests/deployment/monitoring.mjs
//
// Needs the programs of the workspace, built, Debian's `prometheus`, and the servers of
// `tests/run`. Ends with 0, 1, or 77 where something is missing. Grafana is not needed: what is
// tried of a dashboard are its queries.

import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { Exercise } from "./exercise.mjs";
import {
  LABELS, dashboards, namedMetrics, recordedNames, substitute,
} from "./monitoring_files.mjs";
import { eventually, expect, freePort, main, program, source } from "./scope.mjs";

const RULES = path.join(import.meta.dirname, "../../deploy/prometheus/rules.yml");

/** Alerts that a machine which is busy with something else may bring about. */
const SLOW = /Slow$/;
/** How often in a row, a second apart, nothing may alert. */
const QUIET_LOOKS = 6;
/** Rates over so many seconds, while the fleet is scraped each second. */
const RATE_INTERVAL = "15s";
const GATEWAY_ENV = {
  ROOMCAST_STREAM_TIMEOUT_MS: "2000",
  ROOMCAST_DRAIN_NOTICE_MS: "6000",
  WEBSOCKET_RATE_LIMIT_MESSAGE_SEND: "100000",
  WEBSOCKET_RATE_LIMIT_TYPING_EVENTS: "100000",
  WEBSOCKET_RATE_LIMIT_ROOM_JOIN: "100000",
  WEBSOCKET_RATE_LIMIT_PRESENCE_UPDATE: "100000",
  ROOMCAST_RATE_LIMIT_RESUME: "100000",
  ROOMCAST_RATE_LIMIT_STREAM: "100000",
  ROOMCAST_RATE_LIMIT_HISTORY: "100000",
};

const problems = [];

/** Notes what is wrong and goes on: one run says everything. */
function complain(text) {
  console.log(`  wrong: ${text}`);
  problems.push(text);
}

const page = async ({ operator }) => (await fetch(`http://127.0.0.1:${operator}/metrics`)).text();

/** Names of the families on a page, and their samples' names where they are histograms. */
function families(text) {
  return [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].flatMap(([, name, kind]) =>
    kind === "histogram" ? [name, ...["bucket", "sum", "count"].map((end) => `${name}_${end}`)]
      : [name]);
}

/** What promtool says of a page, and labels that are on no closed list. */
function checkPage(name, text) {
  try {
    execFileSync(program("promtool"), ["check", "metrics"], { input: text, stdio: "pipe" });
  } catch (error) {
    complain(`promtool check metrics, ${name}: ${error.stdout}${error.stderr}`.trim());
  }
  const labels = new Set([...text.matchAll(/[{,](\w+)="/g)].map(([, label]) => label));
  const unknown = [...labels].filter((label) => !LABELS.includes(label));
  if (unknown.length > 0) complain(`${name} has labels that are on no list: ${unknown}`);
}

function checkNames(known) {
  for (const [name, where] of namedMetrics()) {
    if (!known.has(name)) complain(`nothing has the metric ${name}: ${[...where].join(", ")}`);
  }
}

/** Prometheus on a port of its own. */
class Prometheus {
  static async start(scope, nodes) {
    const port = await freePort();
    const config = scope.path("prometheus.yml");
    writeFileSync(config, configure(nodes));
    const part = scope.start("prometheus", program("prometheus"), [
      `--config.file=${config}`, `--storage.tsdb.path=${scope.path(`tsdb-${port}`)}`,
      `--web.listen-address=127.0.0.1:${port}`,
    ]);
    const prometheus = new Prometheus(port, part);
    await eventually("Prometheus is ready", async () =>
      (await fetch(`http://127.0.0.1:${port}/-/ready`)).ok);
    return prometheus;
  }

  constructor(port, part) {
    this.port = port;
    this.part = part;
  }

  async ask(what, parameters = {}) {
    const query = new URLSearchParams(parameters);
    const answer = await fetch(`http://127.0.0.1:${this.port}/api/v1/${what}?${query}`);
    const { status, data, error } = await answer.json();
    expect(status === "success", `${what} ${JSON.stringify(parameters)}: ${error}`);
    return data;
  }

  /** The samples of a query that are numbers. */
  async query(query) {
    const { result } = await this.ask("query", { query });
    return result.filter(({ value: [, value] }) => value !== "NaN");
  }

  /** Alerts that wait or fire, by name, each with its labels. */
  async alerts() {
    const { alerts } = await this.ask("alerts");
    return alerts.map(({ labels }) => labels);
  }

  async rules() {
    const { groups } = await this.ask("rules");
    return groups.flatMap(({ rules }) => rules);
  }
}

/** The configuration of `deploy/`, with this fleet's addresses, and a look each second. */
function configure(nodes) {
  const targets = (kind) => nodes.filter(({ name }) => name.startsWith(kind))
    .map(({ operator }) => `127.0.0.1:${operator}`).join(", ");
  const replaced = source("deploy/prometheus/prometheus.yml")
    .replace(/targets: \[gateway-1[^\]]*\]/, `targets: [${targets("gateway")}]`)
    .replace(/targets: \[worker[^\]]*\]/, `targets: [${targets("worker")}]`)
    .replace(/^ {2}- rules\.yml$/m, `  - ${RULES}`)
    .replace(/^( {2}\w+): 1[05]s$/gm, "$1: 1s");
  expect(!/gateway-1|worker:|1[05]s\n/.test(replaced), `not all was replaced:\n${replaced}`);
  return replaced;
}

/** Each query of each panel gives something, with the labels that its legend names. */
async function checkPanels(prometheus, instance) {
  const variables = {
    $__rate_interval: RATE_INTERVAL, $__range: "1m", $instance: instance,
  };
  let waiting = dashboards().flatMap(({ queries }) => queries);
  const count = waiting.length;
  const deadline = Date.now() + 60_000;
  while (waiting.length > 0 && Date.now() < deadline) {
    await sleep(1_000);
    const results = await Promise.all(waiting.map(({ expr }) =>
      prometheus.query(substitute(expr, variables))));
    waiting.forEach(({ place, expr, legendFormat }, index) => {
      const [first] = results[index];
      const wanted = [...(legendFormat ?? "").matchAll(/\{\{(\w+)\}\}/g)].map(([, label]) => label);
      const missing = first ? wanted.filter((label) => !(label in first.metric)) : [];
      if (missing.length > 0) complain(`${place}: the legend names ${missing}: ${expr}`);
    });
    waiting = waiting.filter((query, index) => results[index].length === 0);
  }
  for (const { place, expr } of waiting) complain(`${place} is empty: ${expr}`);
  console.log(`  ${count - waiting.length} of ${count} queries show something`);
}

async function checkRules(prometheus) {
  const rules = await eventually("all rules were looked at", async () => {
    const all = await prometheus.rules();
    return all.every(({ health }) => health !== "unknown") && all;
  });
  for (const { name, health, lastError } of rules) {
    if (health !== "ok") complain(`the rule ${name}: ${lastError}`);
  }
  for (const name of recordedNames()) {
    const found = async () => (await prometheus.query(name)).length > 0;
    await eventually(name, found).catch(() => complain(`the rule ${name} records nothing`));
  }
}

/** While all is well nothing alerts. */
async function checkQuiet(prometheus, when) {
  let last = [];
  for (let quiet = 0, looks = 0; quiet < QUIET_LOOKS; looks += 1) {
    const alerts = (await prometheus.alerts()).filter(({ alertname }) => !SLOW.test(alertname));
    last = alerts.map(({ alertname, instance }) => `${alertname} ${instance ?? ""}`);
    quiet = last.length === 0 ? quiet + 1 : 0;
    if (looks === 30) return complain(`${when}: ${last.join(", ")}`);
    await sleep(1_000);
  }
  console.log(`  nothing alerts ${when}`);
}

async function expectAlerts(prometheus, what, names) {
  const seen = new Set();
  const all = async () => {
    for (const { alertname } of await prometheus.alerts()) seen.add(alertname);
    return names.every((name) => seen.has(name));
  };
  await eventually(what, all, 20_000).then(
    () => console.log(`  ${what}: ${names.join(", ")}`),
    () => complain(`${what}: ${names.filter((name) => !seen.has(name))} do not alert`),
  );
}

/** Breaks one thing after the other; what alerts has begun to wait for its time. */
async function breakThings(prometheus, fleet) {
  const broken = [
    ["worker 1", "kill", "start", ["RoomcastNodeDown", "RoomcastNoSyncWorker"]],
    ["gateway 2", "kill", "start", ["RoomcastNodeDown", "RoomcastFewGatewaysReady"]],
    ["redis", "stop", "cont", ["RoomcastRedisAway"]],
    ["postgres", "stop", "cont", ["RoomcastDatabaseAway"]],
  ];
  for (const [part, verb, back, alerts] of broken) {
    await fleet.tell(verb, ...part.split(" "));
    await expectAlerts(prometheus, `${verb} ${part}`, alerts);
    await fleet.tell(back, ...part.split(" "));
    await eventually(`all are ready after ${verb} ${part}`, async () =>
      (await fleet.nodes()).every(({ state }) => state === "ready"), 40_000);
  }
  const { pid } = await fleet.node("gateway-1");
  process.kill(pid, "SIGTERM");
  await expectAlerts(prometheus, "drain gateway 1", ["RoomcastDrainStuck"]);
}

/** A gateway that is its own database needs no worker, and no alert says that it has none. */
async function alone(scope) {
  const fleet = await scope.fleet("embedded", ["--embedded"], GATEWAY_ENV);
  const nodes = await fleet.nodes();
  const prometheus = await Prometheus.start(scope, nodes);
  const exercise = new Exercise(nodes);
  await checkQuiet(prometheus, "with an embedded gateway");
  await exercise.stop();
}

await main(async (scope) => {
  for (const name of ["promtool", "prometheus", "redis-server"]) program(name);
  const fleet = await scope.fleet("cluster", ["--gateways=2", "--workers=1"], GATEWAY_ENV);
  const nodes = await fleet.nodes();
  const gateways = nodes.filter(({ port }) => port);
  const prometheus = await Prometheus.start(scope, nodes);
  const exercise = new Exercise(gateways);

  const instance = `127.0.0.1:${gateways[0].operator}`;
  await checkPanels(prometheus, instance);
  await checkRules(prometheus);
  const known = new Set(recordedNames());
  for (const node of nodes) {
    const text = await page(node);
    checkPage(node.name, text);
    for (const name of families(text)) known.add(name);
  }
  checkNames(known);
  await checkQuiet(prometheus, "while all is well");
  await exercise.stop();
  await breakThings(prometheus, fleet);
  await scope.stop(prometheus.part);
  await scope.stop(fleet.part);
  await alone(scope);

  const listed = problems.map((text) => `\n- ${text}`).join("");
  expect(problems.length === 0, `${problems.length} things are wrong:${listed}`);
  console.log("passed");
});
