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
const PER_SECOND = 20;
const SECONDS = 25;
const SETTING = { maxBatch: 4, timeoutMs: 120, memoryMb: 885 };
const WARM = 3;
const TEXT = "internationalization";

export async function realRun(claims: Claims): Promise<void> {
  const folder = dirname(fileURLToPath(import.meta.url));
  const model = join(folder, "..", "..", "..", "models", "g2p");
  const functions = new LocalFunctions({ model, concurrency: 4 });
  try {
    const never = new AbortController().signal;
    const starts = await Promise.all(
      Array.from({ length: WARM }, () =>
        functions.invoke(
          invocationOf("g2p", [{ inputs: { text: TEXT }, options: {} }]),
          SETTING.memoryMb,
          never,
        ),
      ),
    );
    const gateway = new Gateway({
      model: await servedModel(await modelDefinition(model)),
      buffers: [SETTING],
      invoker: functions,
      clock: wallClock,
    });
    const service = await serviceTimes(functions, never);
    const before = await drive(gateway);
    // The machine is shared: what a call takes may have changed meanwhile, so it is measured on both sides of the run.
    const after = await serviceTimes(functions, never);
    const times = service.map((ms, n) => (ms + after[n]!) / 2);
    await gateway.close();
    const buffer = new CorrectedModel(poissonProcess(PER_SECOND), SETTING);
    const rows = [0.5, 0.95].map((share) => {
      const predicted = latencyAt((ms) => buffer.cdf(ms, (n) => times[n]!), share);
      const measured = quantile(before, share);
      return { share, predicted, measured };
    });
    console.log(
      `\n6. A real run: g2p on ${starts.length} local functions of ${SETTING.memoryMb} MB (half a CPU), ${PER_SECOND} requests/s, ms; a call of 1 to 4 takes ${times
        .slice(1)
        .map((ms) => ms.toFixed(0))
        .join(", ")}\n`,
    );
    console.log(
      table([
        ["", "predicted", "measured"],
        ...rows.map(({ share, predicted, measured }) => [
          `p${share * 100}`,
          predicted.toFixed(1),
          measured.toFixed(1),
        ]),
      ]),
    );
    const p95 = rows[1]!;
    claims.check("predicted p95 against measured", p95.predicted / p95.measured, {
      atLeast: 0.85,
      atMost: 1.15,
    });
  } finally {
    await functions.close();
  }
}

/** By requests of a batch: the median time of a call, way there and back included. */
async function serviceTimes(functions: LocalFunctions, signal: AbortSignal): Promise<number[]> {
  const times = [0];
  for (let n = 1; n <= SETTING.maxBatch; n++) {
    const batch = invocationOf(
      "g2p",
      Array.from({ length: n }, () => ({ inputs: { text: TEXT }, options: {} })),
    );
    const list: number[] = [];
    for (let i = 0; i < 15; i++) {
      const start = performance.now();
      await functions.invoke(batch, SETTING.memoryMb, signal);
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
async function drive(gateway: Gateway): Promise<number[]> {
  const due = arrivalTimes({ kind: "poisson", perSecond: PER_SECOND }, SECONDS, 5);
  const start = performance.now() + 50;
  const latencies = Array.from(due, async (ms) => {
    await new Promise((resolve) => setTimeout(resolve, start + ms - performance.now()));
    await gateway.run("g2p", { text: TEXT });
    return performance.now() - start - ms;
  });
  return (await Promise.all(latencies)).sort((a, b) => a - b);
}
