// The resonance network of network.py in Node.js: the same documents, flags and pages, and the same numbers to the last bit.
//
// Idea and argument are told there. What must not drift apart: the order of every floating-point operation, the 32-bit
// mixing, the order of ids in every sum. The tests let both languages take the same steps and compare.
// Needs Node.js 18 and nothing else.

import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { parseArgs } from "node:util";

const SMALLEST = 10;
const LARGEST = 50_000;
const REGIONS = ["alpha", "beta", "delta", "theta"];
const SECTORS = 8;
const CROWD = 1.5;
const REST_FREQUENCY = 0.013;
const COUPLING = 0.05;
const RELAXATION = 0.001;
const DRIFT = 0.0002;
const ADAPTATION = 0.05;
const MEMORY = 0.9;
const COMPUTED = ["clusters", "energy", "nodes", "order", "seed", "tick"];
const TURN_SQUARED = 39.47841760435743;
const [A, B, C, D, E, F, G, H] = [
  6.283185307179586, -1.0471975511965976, 0.05235987755982988, -0.001246663751424521,
  1.7314774325340572e-5, -1.574070393212779e-7, 1.0090194828287046e-9, -4.804854680136688e-12,
];

class StateNotUnderstood extends Error {}

// The network: pure functions.

function sine(turns) {
  let rest = turns - Math.floor(turns + 0.5);
  if (rest > 0.25) rest = 0.5 - rest;
  else if (rest < -0.25) rest = -0.5 - rest;
  const square = TURN_SQUARED * (rest * rest);
  return rest * (A + square * (B + square * (C + square * (D + square * (E + square * (F + square * (G + square * H)))))));
}

function chance(seed, tick, place, purpose) {
  let word = Math.imul(seed, 0x9e3779b1) + Math.imul(tick, 0x6c8e9cf5) + Math.imul(place, 0x2545f491);
  word = (word + Math.imul(purpose, 0x1b873593) + 0x5851f42d) >>> 0;
  word = Math.imul(word ^ (word >>> 16), 0x5bd1e995) >>> 0;
  word = Math.imul(word ^ (word >>> 13), 0x27d4eb2f) >>> 0;
  return (word ^ (word >>> 15)) >>> 0;
}

const share = (seed, tick, place, purpose) => chance(seed, tick, place, purpose) / 4294967296;

const commonDivisor = (a, b) => (b === 0 ? a : commonDivisor(b, a % b));

function changing(count, percent, tick) {
  const wanted = Math.ceil((count * percent) / 100);
  if (wanted >= count) return Array.from({ length: count }, (_, index) => index);
  let stride = Math.floor(count * 0.6180339887498949);
  while (commonDivisor(stride, count) !== 1) stride += 1;
  const start = (tick * wanted) % count;
  return Array.from({ length: wanted }, (_, offset) => (((start + offset) % count) * stride) % count);
}

function step(state) {
  const { nodes, metrics } = state;
  const { tick, seed, changePercent } = metrics;
  const ids = Object.keys(nodes).sort();
  const place = new Map(ids.map((name, index) => [name, index]));
  const cosines = ids.map((name) => sine(nodes[name].phase + 0.25));
  const sines = ids.map((name) => sine(nodes[name].phase));
  const following = {};
  for (const name of ids) following[name] = nodes[name];
  for (const index of changing(ids.length, changePercent, tick)) {
    const node = nodes[ids[index]];
    let real = 0;
    let imaginary = 0;
    for (const other of node.coupling) {
      const weight = nodes[other].amplitude;
      real += weight * cosines[place.get(other)];
      imaginary += weight * sines[place.get(other)];
    }
    real /= node.coupling.length;
    imaginary /= node.coupling.length;
    const noise = share(seed, tick, index, 7) - 0.5;
    const frequency = node.frequency + RELAXATION * (REST_FREQUENCY - node.frequency) + DRIFT * noise;
    let turned = node.phase + frequency + COUPLING * (imaginary * cosines[index] - real * sines[index]);
    turned -= Math.floor(turned);
    const nearby = Math.sqrt(real * real + imaginary * imaginary);
    const amplitude = node.amplitude + ADAPTATION * (0.3 + 0.7 * nearby - node.amplitude);
    following[ids[index]] = { ...node, amplitude, frequency, phase: turned >= 1 ? 0 : turned };
  }
  return observed({ ...state, nodes: following, metrics: { ...metrics, tick: tick + 1 } });
}

function observed(state) {
  const ids = Object.keys(state.nodes);
  const count = ids.length;
  const sums = REGIONS.map(() => ({ members: 0, real: 0, imaginary: 0 }));
  const sectors = new Array(SECTORS).fill(0);
  let power = 0;
  ids.forEach((name, index) => {
    const node = state.nodes[name];
    const region = sums[Math.floor((index * REGIONS.length) / count)];
    region.members += 1;
    region.real += sine(node.phase + 0.25);
    region.imaginary += sine(node.phase);
    sectors[Math.floor(node.phase * SECTORS)] += 1;
    power += node.amplitude * node.amplitude;
  });
  const fields = {};
  let real = 0;
  let imaginary = 0;
  REGIONS.forEach((name, index) => {
    fields[name] = fieldOf(sums[index], state.fields[name] ?? {});
    real += sums[index].real;
    imaginary += sums[index].imaginary;
  });
  const patterns = {};
  sectors.forEach((members, sector) => {
    const name = `cluster-${sector}`;
    if (members >= (CROWD * count) / SECTORS) patterns[name] = patternOf(members, state.metrics.tick, state.patterns[name]);
  });
  real /= count;
  imaginary /= count;
  const order = Math.sqrt(real * real + imaginary * imaginary);
  const energy = 0.5 * (power / count) * (1 - order * order);
  const metrics = { ...state.metrics, nodes: count, order, energy, clusters: Object.keys(patterns).length };
  return inOrder({ ...state, fields, patterns, metrics: inOrder(metrics) });
}

function fieldOf({ members, real: realSum, imaginary: imaginarySum }, before) {
  const real = realSum / members;
  const imaginary = imaginarySum / members;
  const strength = Math.sqrt(real * real + imaginary * imaginary);
  const intensity = MEMORY * (before.intensity ?? strength) + (1 - MEMORY) * strength;
  return { imaginary, intensity, members, real, strength };
}

function patternOf(members, tick, before) {
  if (before === undefined) return { members, peak: members, since: tick };
  return { members, peak: Math.max(members, before.peak), since: before.since };
}

function inOrder(table) {
  const sorted = {};
  for (const name of Object.keys(table).sort()) sorted[name] = table[name];
  return sorted;
}

const isTable = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const tidy = (value) => (isTable(value) ? inOrder(value) : value);

function founded(count, seed, changePercent, bytesPerNode) {
  const idOf = (index) => `n${String(index % count).padStart(5, "0")}`;
  const words = Array.from({ length: 8192 }, (_, index) => chance(seed, 0, index, 6).toString(16).padStart(8, "0"));
  const noise = words.join("");
  const repeated = noise.repeat(2 + Math.floor(bytesPerNode / noise.length)); // one text that every node's part shares
  const nodes = {};
  for (let index = 0; index < count; index += 1) {
    const far = [3, 4].map((purpose) => 2 + (chance(seed, 0, index, purpose) % (count - 3)));
    const node = {
      amplitude: 0.5 + 0.5 * share(seed, 0, index, 0),
      coupling: [1, count - 1, ...far].map((offset) => idOf(index + offset)),
      frequency: 0.005 + 0.02 * share(seed, 0, index, 1),
      phase: share(seed, 0, index, 2),
    };
    const length = bytesPerNode - JSON.stringify(node).length - ',"pad":""'.length;
    if (length > 0) {
      const start = chance(seed, 0, index, 5) % noise.length;
      node.pad = repeated.slice(start, start + length);
    }
    nodes[idOf(index)] = inOrder(node);
  }
  return observed({ nodes, fields: {}, patterns: {}, metrics: { tick: 0, seed, changePercent } });
}

function understood(document) {
  if (!isTable(document)) throw new StateNotUnderstood("the document is not a JSON object");
  const { snapshot, ...state } = document;
  for (const kind of ["fields", "metrics", "nodes", "patterns"]) {
    if (!isTable(state[kind])) throw new StateNotUnderstood(`${kind}: an object is missing`);
  }
  for (const name of ["tick", "seed", "changePercent"]) {
    if (typeof state.metrics[name] !== "number") throw new StateNotUnderstood(`metrics.${name}: a number is missing`);
  }
  for (const [name, node] of Object.entries(state.nodes)) {
    const strange = (node.coupling ?? []).find((other) => !(other in state.nodes));
    if (strange !== undefined) throw new StateNotUnderstood(`nodes.${name}.coupling: '${strange}' is not a node`);
    if (!["amplitude", "coupling", "frequency", "phase"].every((part) => part in node)) {
      throw new StateNotUnderstood(`nodes.${name}: amplitude, coupling, frequency and phase are needed`);
    }
  }
  for (const kind of Object.keys(state)) {
    const table = inOrder(state[kind]);
    for (const name of Object.keys(table)) table[name] = tidy(table[name]);
    state[kind] = table;
  }
  return { state: inOrder(state), restoredFrom: snapshot?.id ?? "none" };
}

function withMetrics(state, extra) {
  if (!isTable(extra)) throw new StateNotUnderstood("the body is not a JSON object");
  const computed = COMPUTED.find((name) => name in extra);
  if (computed) throw new StateNotUnderstood(`metrics.${computed}: the network computes it; choose another name`);
  const percent = extra.changePercent ?? 100;
  if (typeof percent !== "number" || percent < 0 || percent > 100) {
    throw new StateNotUnderstood(`metrics.changePercent: ${JSON.stringify(percent)} is not a number from 0 to 100`);
  }
  const merged = { ...state.metrics };
  for (const [name, value] of Object.entries(extra)) merged[name] = tidy(value);
  return { ...state, metrics: inOrder(merged) };
}

// The process: one thread, so a reader always sees a whole moment.

class Network {
  revision = 0;
  ready = false;
  ended = false;
  eaten = [];
  incarnation = randomBytes(8).toString("hex");
  #pieces = new Map();
  #encoded = { state: null, bytes: null };

  constructor({ state, restoredFrom }) {
    this.state = state;
    this.restoredFrom = restoredFrom;
  }

  change(following, times = 1) {
    for (let time = 0; time < times && !this.ended; time += 1) {
      this.state = following(this.state);
      this.revision += 1;
    }
    return !this.ended;
  }

  bytes() {
    if (this.#encoded.state !== this.state) this.#encoded = { state: this.state, bytes: Buffer.from(this.#whole()) };
    return this.#encoded.bytes;
  }

  #whole() {
    const kinds = Object.keys(this.state).map((kind) => {
      const text = kind === "nodes" ? this.#nodes(this.state.nodes) : JSON.stringify(this.state[kind]);
      return `${JSON.stringify(kind)}:${text}`;
    });
    return `{${kinds.join(",")}}`;
  }

  #nodes(nodes) {
    const texts = Object.keys(nodes).map((name) => {
      const known = this.#pieces.get(name);
      if (known?.node === nodes[name]) return known.text;
      const text = `${JSON.stringify(name)}:${JSON.stringify(nodes[name])}`;
      this.#pieces.set(name, { node: nodes[name], text });
      return text;
    });
    return `{${texts.join(",")}}`;
  }

  info() {
    const { incarnation, restoredFrom, ready } = this;
    return { incarnation, restoredFrom, pid: process.pid, tick: this.state.metrics.tick, ready };
  }
}

function handler(network, options) {
  const proof = options["no-proof-headers"]
    ? {}
    : { "Resonance-Incarnation": network.incarnation, "Resonance-Restored-From": network.restoredFrom };

  function send(response, status, body, headers = {}) {
    const about = status === 304 ? {} : { "Content-Type": "application/json", "Content-Length": body.length };
    response.writeHead(status, { ...proof, ...about, ...headers }).end(body);
  }
  const answer = (response, status, content) => send(response, status, Buffer.from(JSON.stringify(content)));
  const changed = (response, done) => answer(response, done ? 200 : 503, { tick: network.state.metrics.tick });

  function exported(request, response) {
    const tag = `"${network.incarnation}-${network.revision}"`;
    const seen = (request.headers["if-none-match"] ?? "").split(",").map((each) => each.trim());
    if (!network.ready) answer(response, 503, { error: "not ready to be captured" });
    else if (seen.includes(tag)) send(response, 304, undefined, { ETag: tag });
    else send(response, 200, network.bytes(), { ETag: tag });
  }

  const pages = {
    [`GET ${options.path}`]: exported,
    "GET /healthz": (_request, response) => answer(response, 200, { alive: true }),
    "GET /info": (_request, response) => answer(response, 200, network.info()),
    "POST /tick": (_request, response, url) => changed(response, network.change(step, whole(url, "n", 1))),
    "POST /set": (_request, response, _url, body) => {
      const extra = JSON.parse(body);
      changed(response, network.change((state) => withMetrics(state, extra)));
    },
    "POST /eat": (_request, response, url) => {
      for (let count = whole(url, "mb", 1); count > 0; count -= 1) network.eaten.push(Buffer.alloc(2 ** 20, 0xa5));
      answer(response, 200, { eatenMb: network.eaten.length });
    },
    "POST /die": (_request, _response, url) => process.exit(whole(url, "code", 1)),
  };

  return async (request, response) => {
    const url = new URL(request.url, "http://network");
    const page = pages[`${request.method} ${url.pathname}`];
    try {
      let body = "";
      for await (const piece of request) body += piece;
      if (page) page(request, response, url, body);
      else answer(response, 404, { error: `${url.pathname}: no such page` });
    } catch (problem) {
      answer(response, 400, { error: problem.message });
    }
  };
}

function whole(url, name, otherwise) {
  const number = Number(url.searchParams.get(name) ?? otherwise);
  if (!Number.isInteger(number)) throw new RangeError(`${name}: not a whole number`);
  return number;
}

function startingState(options) {
  const file = process.env.RESONANCE_RESTORE_FILE;
  if (file && existsSync(file) && !options["ignore-restore"]) return understood(JSON.parse(readFileSync(file, "utf8")));
  const [count, seed, percent, bytes] = ["nodes", "seed", "change-percent", "bytes-per-node"].map((flag) => options[flag]);
  return { state: founded(count, seed, percent, bytes), restoredFrom: "none" };
}

function writeFinal(state, options) {
  const name = process.env.RESONANCE_FINAL_FILE;
  if (!name || options["no-final"]) return;
  const unfinished = `${name}.${process.pid}.tmp`;
  writeFileSync(unfinished, state);
  renameSync(unfinished, name);
}

function serve(options) {
  let network;
  const end = () => {
    network.ended = true;
    if (network.ready) writeFinal(network.bytes(), options);
    process.exit(0);
  };
  for (const name of ["SIGTERM", "SIGINT"]) {
    process.once(name, () => setTimeout(end, network.ready ? options["linger-ms"] : 0));
  }
  try {
    network = new Network(startingState(options));
  } catch (problem) {
    fail(1, `$RESONANCE_RESTORE_FILE cannot be restored: ${problem.message}. Not starting empty.`);
  }
  const server = createServer({ keepAliveTimeout: 120_000 }, handler(network, options));
  server.listen(options.port, options.bind, () => {
    console.log(JSON.stringify({ event: "serving", port: server.address().port, ...network.info() }));
    const becomeReady = () => {
      network.ready = true;
      if (options["tick-ms"]) setInterval(() => network.change(step), options["tick-ms"]);
    };
    if (options["startup-delay-ms"]) setTimeout(becomeReady, options["startup-delay-ms"]);
    else becomeReady();
  });
}

// The command line.

const DEFAULTS = {
  port: 8080, bind: "0.0.0.0", path: "/resonance/state", nodes: 100, seed: 1, "tick-ms": 1000, "change-percent": 100,
  "bytes-per-node": 0, "startup-delay-ms": 0, "linger-ms": 0, "ignore-restore": false, "no-proof-headers": false, "no-final": false,
};

function serveOptions(args, environment) {
  const flags = Object.keys(DEFAULTS);
  const kindOf = (flag) => (typeof DEFAULTS[flag] === "boolean" ? "boolean" : "string");
  const { values } = parseArgs({ args, options: Object.fromEntries(flags.map((flag) => [flag, { type: kindOf(flag) }])) });
  const options = {};
  for (const flag of flags) {
    const given = values[flag] ?? environment[`NETWORK_${flag.replaceAll("-", "_").toUpperCase()}`] ?? DEFAULTS[flag];
    if (kindOf(flag) === "boolean") options[flag] = given === true || !["", "0", false].includes(given);
    else options[flag] = typeof DEFAULTS[flag] === "number" ? Number(given) : given;
    if (Number.isNaN(options[flag])) fail(2, `--${flag}: '${given}' is not a number`);
  }
  const within = (flag, least, most) => {
    if (options[flag] < least || options[flag] > most) fail(2, `--${flag}: ${options[flag]} is not allowed: ${least} to ${most}`);
  };
  within("nodes", SMALLEST, LARGEST);
  within("change-percent", 0, 100);
  within("seed", 0, 0xffffffff);
  return options;
}

function printStep(args) {
  const { values } = parseArgs({ args, options: { from: { type: "string" }, ticks: { type: "string", default: "1" } } });
  if (values.from === undefined) fail(2, "--from: name a state or a restore file; - for standard input");
  try {
    let { state } = understood(JSON.parse(readFileSync(values.from === "-" ? 0 : values.from, "utf8")));
    for (let left = Number(values.ticks); left > 0; left -= 1) state = step(state);
    console.log(JSON.stringify(state));
  } catch (problem) {
    fail(1, `--from ${values.from}: ${problem.message}`);
  }
}

function fail(code, message) {
  console.error(`network: ${message}`);
  process.exit(code);
}

function main([verb, ...rest]) {
  try {
    if (verb === "step") printStep(rest);
    else serve(serveOptions(verb === "serve" ? rest : process.argv.slice(2), process.env));
  } catch (problem) {
    fail(2, problem.message);
  }
}

main(process.argv.slice(2));
