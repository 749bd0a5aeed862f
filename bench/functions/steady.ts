import { cpus } from "node:os";

/**
 * Says whether this machine was as quick all the time. Where processors are shared with machines that nobody sees, a core can be half
 * as quick for some seconds while all counters say that nobody else used it: only work of a known size shows it.
 */
export class SteadyMachine {
  readonly #others = othersOnThisMachine();
  #leastMs = 0;
  #mostMs = 0;
  #isAlone = true;

  /** A stretch of time begins, in which everything is to be compared. */
  begin(): void {
    this.#leastMs = this.#mostMs = probe();
    this.#others();
    this.#isAlone = true;
  }

  /** Looks once more: whether all was as quick as now since the beginning, and nobody else was busy. */
  wasSteady(): boolean {
    const ms = probe();
    this.#leastMs = Math.min(this.#leastMs, ms);
    this.#mostMs = Math.max(this.#mostMs, ms);
    this.#isAlone &&= this.#others() <= QUIET_CORES;
    return this.#isAlone && this.#mostMs <= STEADY * this.#leastMs;
  }
}

/** What interrupts one of a few for a moment does not count. */
function probe(): number {
  return Math.min(...Array.from({ length: PROBES }, spin));
}

/** Milliseconds of arithmetic that keeps a core's units busy: what waits for itself would not feel who shares them. */
function spin(): number {
  const values = new Float32Array(2048).fill(1.1);
  const from = performance.now();
  for (let round = 0; round < 4000; round++)
    for (let i = 0; i < 2048; i += 8) values[i] = values[i]! * 1.0001 + 0.5;
  return performance.now() - from;
}

/** Says how many cores others on this machine used since it was asked last. */
function othersOnThisMachine(): () => number {
  const seen = () => {
    const times = cpus().map((core) => core.times);
    const idleMs = times.reduce((sum, { idle }) => sum + idle, 0);
    const allMs = times.reduce(
      (sum, { idle, user, sys, nice, irq }) => sum + idle + user + sys + nice + irq,
      0,
    );
    const { user, system } = process.cpuUsage();
    return { atMs: performance.now(), othersMs: allMs - idleMs - (user + system) / 1000 };
  };
  let last = seen();
  return () => {
    const now = seen();
    const cores = (now.othersMs - last.othersMs) / (now.atMs - last.atMs);
    last = now;
    return Math.max(0, cores);
  };
}

const PROBES = 6;
const STEADY = 1.1;
/** Threads of ours wait for a core where others use more. */
const QUIET_CORES = 0.1;
