import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { poissonProcess } from "../../planner/arrival-process.ts";
import { latencyAt } from "../../planner/batch.ts";
import { CorrectedModel } from "../../planner/buffer-model.ts";
import { quantile } from "../../planner/quantile.ts";
import { arrivalTimes } from "../../planner/synthesis.ts";
import { table } from "../../src/cli/table.ts";
import { wallClock } from "../../src/core/clock.ts";
import { Gateway } from "../../src/functions/gateway.ts";
import { LocalFunctions } from "../../src/functions/local.ts";
import { invocationOf } from "../../src/functions/payload.ts";
import { modelDefinition } from "../../src/runtime/create.ts";
import { servedModel } from "../../src/runtime/served-model.ts";
import type { Claims } from "./claims.ts";

/** Requests through a gateway to functions that are processes of this machine, against what the model predicts. */
const MOST_PER_SECOND = 20;
const SECONDS = 25;
const MAX_BATCH = 4;
const MEMORY_MB = 885;
/** Calls that run at a time on average, if each took one request: the machine is to be idle mostly, or calls slow each other. */
const LOAD = 0.6;
const WARM = 3;
const request = { inputs: { text: "internationalization" }, options: {} };

export async function realRun(claims: Claims): Promise<void> {
  const folder = dirname(fileURLToPath(import.meta.url));
  const model = join(folder, "..", "..", "..", "models", "g2p");
  const functions = new LocalFunctions({ model, concurrency: 4 });
  try {
    const warm = invocationOf("g2p", [request]);
    const never = new AbortController().signal;
    await Promise.all(Array.from({ length: WARM }, () => functions.invoke(warm, MEMORY_MB, never)));
    const before = await serviceTimes(functions);
    const perSecond = Math.min(MOST_PER_SECOND, (1000 * LOAD) / before[1]!);
    const setting = { maxBatch: MAX_BATCH, timeoutMs: Math.round(2400 / perSecond), memoryMb: MEMORY_MB };
    const served = await servedModel(await modelDefinition(model));
    const gateway = new Gateway({ model: served, buffers: [setting], invoker: functions, clock: wallClock });
    const measured = await drive(gateway, perSecond);
    // What a call takes changes on a machine that others use, so it is measured on both sides of the run.
    const after = await serviceTimes(functions);
    await gateway.close();
    const times = before.map((ms, n) => (ms + after[n]!) / 2);
    const buffer = new CorrectedModel(poissonProcess(perSecond), setting);
    const predicted = (share: number) => latencyAt((ms) => buffer.cdf(ms, (n) => times[n]!), share);
    const calls = times.slice(1).map((ms) => ms.toFixed(0));
    console.log(
      `\n6. A real run: g2p on local functions of ${MEMORY_MB} MB (half a CPU), ${perSecond.toFixed(1)} requests/s, batches of up to ${MAX_BATCH}, ${setting.timeoutMs} ms; a call of 1 to 4 takes ${calls.join(", ")} ms\n`,
    );
    console.log(
      table([
        ["ms", "predicted", "measured"],
        ...[0.5, 0.9, 0.95].map((share) => [
          `p${share * 100}`,
          predicted(share).toFixed(1),
          quantile(measured, share).toFixed(1),
        ]),
      ]),
    );
    claims.check("predicted p95 against measured", predicted(0.95) / quantile(measured, 0.95), {
      atLeast: 0.85,
      atMost: 1.15,
    });
  } finally {
    await functions.close();
  }
}

/** By requests of a batch: the median time of a call, way there and back included. */
async function serviceTimes(functions: LocalFunctions): Promise<number[]> {
  const never = new AbortController().signal;
  const times = [0];
  for (let n = 1; n <= MAX_BATCH; n++) {
    const batch = invocationOf("g2p", new Array(n).fill(request));
    const list: number[] = [];
    for (let i = 0; i < 15; i++) {
      const start = performance.now();
      await functions.invoke(batch, MEMORY_MB, never);
      list.push(performance.now() - start);
    }
    times.push(
      quantile(
        list.sort((a, b) => a - b),
        0.5,
      ),
    );
  }
  return times;
}

/** Milliseconds from when each request was due to its answer, ascending. */
async function drive(gateway: Gateway, perSecond: number): Promise<number[]> {
  const due = arrivalTimes({ kind: "poisson", perSecond }, SECONDS, 5);
  const start = performance.now() + 50;
  const latencies = Array.from(due, async (ms) => {
    await new Promise((resolve) => setTimeout(resolve, start + ms - performance.now()));
    await gateway.run("g2p", request.inputs);
    return performance.now() - start - ms;
  });
  return (await Promise.all(latencies)).sort((a, b) => a - b);
}
