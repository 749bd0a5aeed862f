import { createRuntime } from "../../src/runtime/create.ts";
import { startServer } from "../../src/server/server.ts";
import { Ledger } from "./ledger.ts";
import { deadlyModule, models } from "./models.ts";

/** What the server's process says of itself. */
export interface Sample {
  readonly atMs: number;
  readonly heapMb: number;
  readonly rssMb: number;
  readonly active: number;
  readonly restarts: number;
  readonly accepted: number;
  readonly answered: number;
  readonly unanswered: number;
  readonly extra: number;
  /** Unhandled rejections and errors that were no faults, as text. */
  readonly errors: readonly string[];
}

export type FromServer =
  | { readonly kind: "ready"; readonly port: number }
  | { readonly kind: "sample"; readonly sample: Sample };

const errors: string[] = [];
const remember = (error: unknown) => errors.push(error instanceof Error ? `${error.stack}` : `${error}`);
process.on("unhandledRejection", remember);
process.on("uncaughtException", remember);

const runtime = await createRuntime({ models: [...models, deadlyModule], engines: 2, maxActive: 500 });
const ledger = new Ledger();
const server = await startServer({
  runtime: ledger.watch(runtime),
  port: 0,
  // Small, so that every bound is met within a minute.
  limits: {
    bufferedBytes: 65_536,
    slowMs: 3000,
    pingMs: 5000,
    idleMs: 4000,
    inputs: 64,
    openIds: 64,
    sessions: 100,
    graceMs: 5000,
    parked: 50,
    frameBytes: 2 ** 20,
    bodyBytes: 2 ** 20,
    sequences: 20,
  },
  unexpected: remember,
});

const say = (message: FromServer) => process.send!(message);

function sample(): void {
  globalThis.gc?.();
  const { heapUsed, rss } = process.memoryUsage();
  const { active, restarts } = runtime.stats();
  const { accepted, answered, unanswered, extra } = ledger;
  const memory = { heapMb: heapUsed / 2 ** 20, rssMb: rss / 2 ** 20 };
  const counts = { active, restarts, accepted, answered, unanswered, extra };
  say({ kind: "sample", sample: { atMs: performance.now(), ...memory, ...counts, errors } });
}

const samples = setInterval(sample, 1000);
process.on("message", async (message) => {
  if (message !== "stop") return;
  clearInterval(samples);
  await server.close(2000);
  await runtime.close(2000);
  sample();
  process.disconnect();
});
say({ kind: "ready", port: server.port });
