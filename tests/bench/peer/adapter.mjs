// The adapter that apps write today, as a process that saves on command: one awaited HSET an entry, the metrics as a string,
// and the whole state once more as JSON on a list. Reads commands from standard input, one a line:
//   load FILE   read the state        save        save it, answer the milliseconds
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import Redis from 'ioredis';

const redis = new Redis({
  host: 'localhost',
  port: Number(process.env.PORT),
  username: process.env.USERNAME_,
  password: process.env.PASSWORD,
  tls: { ca: readFileSync(process.env.CA) },
  maxRetriesPerRequest: 0,
});
let state = {};

async function save() {
  const began = process.hrtime.bigint();
  for (const [kind, entries] of Object.entries(state)) {
    if (kind === 'metrics') continue;
    for (const [id, entry] of Object.entries(entries)) await redis.hset(`resonance:peer:${kind}`, id, JSON.stringify(entry));
  }
  if (state.metrics) await redis.set('resonance:peer:metrics', JSON.stringify(state.metrics));
  await redis.lpush('resonance:peer:snapshots', JSON.stringify(state));
  return Number(process.hrtime.bigint() - began) / 1e6;
}

redis.once('ready', () => console.log('ready'));
for await (const line of createInterface({ input: process.stdin })) {
  const [word, file] = line.split(' ');
  if (word === 'load') {
    state = JSON.parse(readFileSync(file, 'utf8'));
    console.log('loaded');
  } else if (word === 'save') {
    console.log(await save());
  }
}
redis.disconnect();
