import { policies } from "../../scheduler/policy.ts";
import { Scheduler } from "../../scheduler/scheduler.ts";
import { median } from "../../src/load/statistics.ts";

const ROWS = 256;
const TASKS = 4_000;
const QUEUED = 1_000_000;
const REPEATS = 7;

/** A scheduler of one type; the warm-up and all repeats use one each. */
function open(): Scheduler {
  return new Scheduler({
    types: [{ name: "lstm", priority: 0, maxBatch: ROWS }],
    policy: policies.cellular,
  });
}

function add(scheduler: Scheduler, arrival: number, steps: number): void {
  scheduler.add({ type: 0, steps, priority: 1, deadlineMs: Number.POSITIVE_INFINITY, arrival });
}

/** Nanoseconds per row and step of `next` and `complete`, where a newcomer takes the place of every leaver. */
function nsPerRowStep(steps: number): number {
  const scheduler = open();
  let arrival = 0;
  const refill = () => add(scheduler, arrival++, steps);
  // Lengths differ at first, so that rows do not all leave at once.
  for (let row = 0; row < ROWS; row++) add(scheduler, arrival++, 1 + (row % steps));
  const run = (tasks: number) => {
    for (let i = 0; i < tasks; i++) scheduler.complete(scheduler.next(0)!, refill);
  };
  run(TASKS / 4);
  const began = performance.now();
  run(TASKS);
  return ((performance.now() - began) * 1e6) / (TASKS * ROWS);
}

/** Microseconds to add a subgraph until a million wait. */
function usPerSubgraph(): number {
  const scheduler = open();
  const began = performance.now();
  for (let arrival = 0; arrival < QUEUED; arrival++) add(scheduler, arrival, 24);
  return ((performance.now() - began) * 1000) / QUEUED;
}

/** Bytes of one subgraph of a million that wait. */
function bytesPerSubgraph(): number {
  const scheduler = open();
  globalThis.gc?.();
  const before = memory();
  for (let arrival = 0; arrival < QUEUED; arrival++) add(scheduler, arrival, 24);
  globalThis.gc?.();
  const bytes = (memory() - before) / QUEUED;
  if (scheduler.size !== QUEUED) throw new Error(`${scheduler.size} subgraphs wait, not ${QUEUED}`);
  return bytes;
}

function memory(): number {
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

// First, while the process is fresh: buffers of an earlier scheduler are given back late and would be subtracted.
const bytes = bytesPerSubgraph();
console.log(
  `${bytes.toFixed(0)} bytes per subgraph, ${QUEUED} waiting${globalThis.gc ? "" : " (without --expose-gc: with garbage)"}`,
);
const us = Array.from({ length: REPEATS }, usPerSubgraph);
console.log(`${show(us, 2)} us to add one`);
for (const steps of [8, 24, 330]) {
  const values = Array.from({ length: REPEATS }, () => nsPerRowStep(steps));
  console.log(`${steps} steps: ${show(values, 1)} ns per row and step at ${ROWS} rows`);
}

/** The median, then all values. */
function show(values: readonly number[], digits: number): string {
  return `${median(values).toFixed(digits)} (${values.map((value) => value.toFixed(digits)).join(" ")})`;
}
