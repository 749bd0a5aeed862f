import { policies } from "../../scheduler/policy.ts";
import { Scheduler } from "../../scheduler/scheduler.ts";
import { median } from "../statistics.ts";

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

/** Microseconds and bytes of a subgraph that is added where a million wait. */
function queued(): { readonly us: number; readonly bytes: number } {
  globalThis.gc?.();
  const before = memory();
  const scheduler = open();
  const began = performance.now();
  for (let arrival = 0; arrival < QUEUED; arrival++) add(scheduler, arrival, 24);
  const us = ((performance.now() - began) * 1000) / QUEUED;
  globalThis.gc?.();
  const bytes = (memory() - before) / QUEUED;
  if (scheduler.size !== QUEUED) throw new Error(`${scheduler.size} subgraphs wait, not ${QUEUED}`);
  return { us, bytes };
}

function memory(): number {
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

for (const steps of [8, 24, 330]) {
  const values = Array.from({ length: REPEATS }, () => nsPerRowStep(steps));
  console.log(`${steps} steps: ${show(values, 1)} ns per row and step at ${ROWS} rows`);
}
const runs = Array.from({ length: REPEATS }, queued);
const us = runs.map((run) => run.us);
console.log(`${show(us, 2)} us to add a subgraph, ${QUEUED} waiting`);
const bytes = runs.map((run) => run.bytes);
console.log(`${show(bytes, 0)} bytes each${globalThis.gc ? "" : " (without --expose-gc: garbage included)"}`);

/** The median, then all values. */
function show(values: readonly number[], digits: number): string {
  return `${median(values).toFixed(digits)} (${values.map((value) => value.toFixed(digits)).join(" ")})`;
}
