import type { Service } from "./service.ts";

export interface SaturateOptions {
  readonly lengths: Int32Array;
  /** Requests that are always there; many more than fit a batch. */
  readonly inFlight: number;
  readonly warmSeconds: number;
  readonly seconds: number;
}

export interface Saturated {
  /**
   * Steps of answered requests per second over the mean length: not answers, because a server that puts long requests off
   * would look quicker than it is.
   */
  readonly requestsPerSecond: number;
  readonly stepsPerSecond: number;
  /** Rows of a task, on average. */
  readonly rows: number;
}

/** Keeps a service busy with a backlog that does not end. Throws the first error of a request. */
export async function saturate(service: Service, options: SaturateOptions): Promise<Saturated> {
  const { lengths, inFlight, warmSeconds, seconds } = options;
  let next = 0;
  let steps = 0;
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
      else steps += length;
      if (!error) ask();
    });
    open.set(number, cancel);
  };
  for (let i = 0; i < inFlight; i++) ask();
  await sleep(warmSeconds);
  const before = { steps, ...service.counts(), at: performance.now() };
  await sleep(seconds);
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
    rows: (cells - before.cells) / (tasks - before.tasks),
  };
}

function sleep(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}
