// An app that keeps its state across restarts: the whole of its side of the contract. Try `curl localhost:8080/`.
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";

const file = process.env.RESONANCE_RESTORE_FILE;
const { snapshot, ...state } = file && existsSync(file)
  ? JSON.parse(readFileSync(file, "utf8"))
  : { nodes: { a: { phase: 0.25 } }, metrics: { visits: 0 } };
const proof = {
  "Resonance-Incarnation": randomBytes(8).toString("hex"),
  "Resonance-Restored-From": snapshot?.id ?? "none",
};

createServer((request, response) => {
  if (request.url !== "/resonance/state") state.metrics.visits += 1; // every other page is a visit and changes the state
  response.writeHead(200, proof).end(JSON.stringify(state));
}).listen(process.env.PORT ?? 8080);
process.on("SIGTERM", () => process.exit(0)); // the first process of a container must say so itself
