import { atRate, mmpp, poissonProcess } from "../../planner/arrival-process.ts";
import {
  type Form,
  type Goal,
  modelOf,
  type Prediction,
  predict,
  type Setting,
} from "../../planner/batch.ts";
import { CorrectedModel } from "../../planner/buffer-model.ts";
import { lambdaPrices, lambdaPricesOf2020 } from "../../planner/cost.ts";
import { summarize } from "../../planner/outcome.ts";
import type { Service } from "../../planner/service.ts";
import { simulateFunctions } from "../../planner/simulate-functions.ts";
import { arrivalTimes } from "../../planner/synthesis.ts";
import { table } from "../../src/cli/table.ts";
import { inception, NYS_DAY, PUBLISHED, small } from "./batch-laws.ts";
import { Claims } from "./claims.ts";
import { realRun } from "./real-run.ts";

/** What BATCH shows of one buffer in front of functions, with its hourly arrivals and its law of service; then a real run. */
const claims = new Claims();
const nys = PUBLISHED["NYS Thruway, hour 8"]!;
const P95 = 95;

function predicted(
  process: typeof nys,
  service: Service,
  setting: Setting,
  form: Form = "corrected",
): Prediction {
  const prices = lambdaPricesOf2020;
  return predict(modelOf(form, process, setting), setting, {
    service,
    size: 1,
    prices,
    form,
    percentile: P95,
  });
}

function costOfBatches(): void {
  const rows = [1, 2, 4, 8, 12, 16, 20].map((maxBatch) => ({
    maxBatch,
    usd: predicted(nys, inception, { maxBatch, timeoutMs: 490, memoryMb: 3008 }).usdPerMillion,
  }));
  console.log("1. Cost by batch size: Inception-V4, 3,008 MB, NYS hour 8\n");
  console.log(
    table([
      ["requests of a batch", "USD a million"],
      ...rows.map(({ maxBatch, usd }) => [String(maxBatch), usd.toFixed(1)]),
    ]),
  );
  const usd = (maxBatch: number) => rows.find((row) => row.maxBatch === maxBatch)!.usd;
  claims.check("cost falls from 1 to 8 requests, times", usd(1) / usd(8), { atLeast: 1.5 });
  claims.check(
    "and flattens: what 8 to 20 saves of what 1 to 8 saved",
    (usd(8) - usd(20)) / (usd(1) - usd(8)),
    { atMost: 0.3 },
  );
}

function latencyByTimeout(): void {
  const timeouts = [5, 10, 20, 40, 80, 160, 320];
  const times = arrivalTimes({ kind: "map", process: PUBLISHED["Twitter, hour 8"]! }, 120, 1);
  const p95 = (timeoutMs: number, concurrency?: number) =>
    summarize(
      simulateFunctions(
        { timesMs: times },
        {
          buffers: [{ maxBatch: 16, timeoutMs, memoryMb: 1769 }],
          service: small,
          prices: lambdaPrices,
          ...(concurrency === undefined ? {} : { concurrency }),
        },
      ),
    ).p95;
  const rows = timeouts.map((timeoutMs) => ({ timeoutMs, free: p95(timeoutMs), capped: p95(timeoutMs, 2) }));
  console.log("\n2. p95 by timeout: batches of up to 16, Twitter hour 8, small model, ms\n");
  console.log(
    table([
      ["timeout, ms", "functions scale out", "two at a time"],
      ...rows.map(({ timeoutMs, free, capped }) => [String(timeoutMs), free.toFixed(0), capped.toFixed(0)]),
    ]),
  );
  const least = rows.reduce((a, b) => (b.capped < a.capped ? b : a));
  claims.check(
    "U shape where few run at a time: shortest timeout against the best, times",
    rows[0]!.capped / least.capped,
    { atLeast: 1.3 },
  );
  claims.check("and longest against the best, times", rows.at(-1)!.capped / least.capped, { atLeast: 1.02 });
  claims.check(
    "no queue, no U: longest against shortest where functions scale out, times",
    rows.at(-1)!.free / rows[0]!.free,
    { atLeast: 1 },
  );
}

function memory(): void {
  const sizes = [1280, 1536, 1792, 2048, 2304, 2560, 2816, 3008];
  const rows = sizes.map((memoryMb) => ({
    memoryMb,
    ...predicted(nys, inception, { maxBatch: 1, timeoutMs: 10, memoryMb }),
    full: predicted(nys, inception, { maxBatch: 8, timeoutMs: 100, memoryMb }),
  }));
  console.log("\n3. Memory: Inception-V4, single requests and batches of up to 8, 100 ms\n");
  console.log(
    table([
      ["MB", "p95, s", "USD a million", "p95 of 8, s", "USD a million of 8"],
      ...rows.map((row) => [
        String(row.memoryMb),
        (row.latencyMs / 1000).toFixed(2),
        row.usdPerMillion.toFixed(1),
        (row.full.latencyMs / 1000).toFixed(2),
        row.full.usdPerMillion.toFixed(1),
      ]),
    ]),
  );
  const least = Math.min(...rows.map(({ usdPerMillion }) => usdPerMillion));
  claims.check("p95 at the most memory against the least", rows.at(-1)!.latencyMs / rows[0]!.latencyMs, {
    atMost: 0.7,
  });
  claims.check(
    "cost is least between the ends: the least memory against it",
    rows[0]!.usdPerMillion / least,
    { atLeast: 1.001 },
  );
  claims.check(
    "and the most memory against it",
    Math.max(...rows.slice(-3).map((row) => row.usdPerMillion)) / least,
    { atLeast: 1.02 },
  );
}

function accuracy(): void {
  const service: Service = { maxRows: 20, ms: (rows) => 10 + 34 * rows };
  const bursty = mmpp(
    [100, 10],
    [
      [0, 0.5],
      [0.5, 0],
    ],
  );
  const rows: string[][] = [];
  const errors = {
    paper: [] as number[],
    corrected: [] as number[],
    bursty: [] as number[],
    burstyPaper: [] as number[],
  };
  for (const [name, process] of [...Object.entries(PUBLISHED), ["MMPP 100/10 a second", bursty] as const]) {
    const times = arrivalTimes({ kind: "map", process }, 600, 3);
    for (const [maxBatch, timeoutMs] of [
      [8, 50],
      [8, 200],
      [20, 100],
    ] as const) {
      const setting = { maxBatch, timeoutMs, memoryMb: 1769 };
      const seen = summarize(
        simulateFunctions({ timesMs: times }, { buffers: [setting], service, prices: lambdaPrices }),
      );
      const [paper, corrected] = (["paper", "corrected"] as const).map(
        (form) => predicted(process, service, setting, form).latencyMs / seen.p95 - 1,
      ) as [number, number];
      (process === bursty ? errors.bursty : errors.corrected).push(Math.abs(corrected));
      (process === bursty ? errors.burstyPaper : errors.paper).push(Math.abs(paper));
      const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
      rows.push([
        name,
        `${maxBatch}, ${timeoutMs} ms`,
        seen.p95.toFixed(1),
        percent(paper),
        percent(corrected),
      ]);
    }
  }
  console.log("\n4. Predicted p95 against simulated (600 s)\n");
  console.log(table([["arrivals", "batch", "simulated, ms", "paper", "corrected"], ...rows]));
  const mean = (list: number[]) => (100 * list.reduce((sum, one) => sum + one, 0)) / list.length;
  claims.check("mean error on the published hours, paper, %", mean(errors.paper), { atMost: 10 });
  claims.check("corrected, %", mean(errors.corrected), { atMost: 6 });
  claims.check("on bursty arrivals, corrected, %", mean(errors.bursty), { atMost: 6 });
  claims.check("paper, for comparison, %", mean(errors.burstyPaper), { atMost: 25 });
}

const GRID = {
  maxBatch: [1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 32],
  timeoutMs: [5, 10, 20, 30, 40, 60, 80, 100, 130, 160, 200, 250, 300, 400],
  memoryMb: [512, 768, 1024, 1280, 1536, 1769, 2304, 3008],
};

/** By hour, then setting: what happens. Hours of the trace are nearly Poisson. */
function dayOf(): Prediction[][] {
  return NYS_DAY.map((rate) =>
    GRID.maxBatch.flatMap((maxBatch) =>
      GRID.timeoutMs.flatMap((timeoutMs) => {
        const model = new CorrectedModel(poissonProcess(rate), { maxBatch, timeoutMs });
        return GRID.memoryMb.map((memoryMb) =>
          predict(
            model,
            { maxBatch, timeoutMs, memoryMb },
            { service: small, size: 1, prices: lambdaPrices, form: "corrected", percentile: P95 },
          ),
        );
      }),
    ),
  );
}

function day(): void {
  const hours = dayOf();
  console.log(
    "\n5. A day of the NYS Thruway trace, small model: planned again every hour, against one setting for the day\n",
  );
  const rows: string[][] = [];
  for (const ms of [200, 300, 500]) {
    const goal: Goal = { kind: "latency", percentile: P95, ms };
    const best = hours.map((hour) => cheapest(hour.filter((one) => one.latencyMs <= goal.ms)));
    const usdOf = (pick: (hour: number) => Prediction) =>
      NYS_DAY.reduce((sum, rate, hour) => sum + (pick(hour).usdPerMillion * rate * 3600) / 1e6, 0);
    const planned = usdOf((hour) => best[hour]!);
    const fixed = hours[0]!.map((_, i) => ({
      i,
      usd: usdOf((hour) => hours[hour]![i]!),
      late: hours.filter((hour) => hour[i]!.latencyMs > ms).length,
    }));
    const kept = fixed.filter(({ late }) => late === 0).sort((a, b) => a.usd - b.usd);
    const busiest = NYS_DAY.indexOf(Math.max(...NYS_DAY));
    const peak = fixed[hours[busiest]!.indexOf(best[busiest]!)]!;
    const bad = fixed.filter(({ late, usd }) => late > 0 || usd >= 1.1 * planned).length / fixed.length;
    let late = 0;
    best.forEach(({ setting }, hour) => {
      const times = arrivalTimes({ kind: "map", process: atRate(nys, NYS_DAY[hour]!) }, 200, hour);
      const seen = summarize(
        simulateFunctions({ timesMs: times }, { buffers: [setting], service: small, prices: lambdaPrices }),
      );
      if (seen.p95 > 1.02 * ms) late++;
    });
    rows.push([
      String(ms),
      planned.toFixed(2),
      String(late),
      (kept[0]!.usd / planned).toFixed(3),
      String(peak.late),
      (kept[Math.floor(kept.length / 2)]!.usd / planned).toFixed(2),
      `${(100 * bad).toFixed(1)} %`,
    ]);
    claims.check(
      `goal ${ms} ms: hours in which the planned setting misses it by 2 % or more, simulated`,
      late,
      { atMost: 0 },
    );
    claims.check(`goal ${ms} ms: fixed settings that miss it in some hour or cost 10 % more, %`, 100 * bad, {
      atLeast: 95,
    });
    claims.check(
      `goal ${ms} ms: even the best fixed setting, known only after the day, costs more, times`,
      kept[0]!.usd / planned,
      { atLeast: 1.01 },
    );
  }
  console.log(
    table([
      [
        "goal, ms",
        "planned, USD a day",
        "late hours",
        "best fixed, times",
        "late hours of the peak's setting",
        "median fixed, times",
        "miss or cost 10 % more",
      ],
      ...rows,
    ]),
  );
}

function cheapest(predictions: readonly Prediction[]): Prediction {
  return predictions.reduce((a, b) => (b.usdPerMillion < a.usdPerMillion ? b : a));
}

const began = performance.now();
costOfBatches();
latencyByTimeout();
memory();
accuracy();
day();
await realRun(claims);
claims.end();
console.log(`${((performance.now() - began) / 1000).toFixed(0)} s`);
