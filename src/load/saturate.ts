import type { Service } from "./service.ts";

export interface SaturateOptions {
  readonly lengths: Int32Array;
  /** Requests that are always there; many more than fit a batch. */
  readonly inFlight: number;
  /** At least; until the first answers. */
  readonly warmSeconds: number;
  /** At least; until something was answered. */
  readonly seconds: number;
}

export interface Saturated {
  /**
   * Steps of answered requests per second over the mean length: not answers, because a server that puts long requests off
   * would look quicker than it is.
   */
  readonly requestsPerSecond: number;
  readonly stepsPerSecond: number;
  /** As the service counts them. */
  readonly cellsPerSecond: number;
  /** Rows of a task, on average. */
  readonly rows: number;
}

/** Keeps a service busy with a backlog that does not end. Throws the first error of a request. */
export async function saturate(service: Service, options: SaturateOptions): Promise<Saturated> {
  const { lengths, inFlight, warmSeconds, seconds } = options;
  let next = 0;
  let steps = 0;
  let answered = 0;
  let error: Error | undefined;
  let running = true;
  const open = new Map<number, () => void>();
  const ask = () => {
    const number = next++;
    const length = lengths[number % lengths.length]!;
    const cancel = service.ask(number, length, (usage) => {
      open.delete(number);
      if (!running) return;
      if (usage instanceof Error) error ??= usage;
      else {
        answered++;
        steps += length;
      }
      if (!error) ask();
    });
    open.set(number, cancel);
  };
  for (let i = 0; i < inFlight; i++) ask();
  const warmFrom = performance.now();
  await sleep(warmSeconds);
  // A busy or slow machine may take longer to its first answers.
  const isCold = () => answered < FIRST_ANSWERS && performance.now() - warmFrom < LONGEST_WARM_MS;
  while (isCold() && !error) await sleep(0.01);
  const before = { steps, answered, ...service.counts(), at: performance.now() };
  await sleep(seconds);
  const isEmpty = () => answered === before.answered && performance.now() - before.at < LONGEST_WARM_MS;
  while (isEmpty() && !error) await sleep(0.01);
  const elapsed = (performance.now() - before.at) / 1000;
  const stepsPerSecond = (steps - before.steps) / elapsed;
  const { cells, tasks } = service.counts();
  running = false;
  for (const cancel of open.values()) cancel();
  while (open.size > 0 && !error) await sleep(0.01);
  if (error) throw error;
  const mean = lengths.reduce((a, b) => a + b, 0) / lengths.length;
  return {
    requestsPerSecond: stepsPerSecond / mean,
    stepsPerSecond,
    cellsPerSecond: (cells - before.cells) / elapsed,
    rows: (cells - before.cells) / Math.max(1, tasks - before.tasks),
  };
}

const FIRST_ANSWERS = 20;
const LONGEST_WARM_MS = 20_000;

function sleep(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}
