import type { PacketReader } from "./packet.ts";

/**
 * Records from the runtime to an engine. Each begins with its number and the request's; then:
 *
 * - SUBMIT: model, options, inputs (count, then for each: index, tensor).
 * - OPEN: model, options, state (0, or 1 and values).
 * - PUSH: inputs. MARKER: marker. FORK: the new session's request, options of it.
 * - BUFFERS (of no request: 0): model, whether eager, buffers (count, then for each: bound or -1, most requests, timeout).
 * - END, CANCEL, PAUSE, RESUME, SUSPEND: nothing.
 * - METERS, with a number of the runtime's own in place of a request's: nothing.
 * - WATCH: of no request; whether to tell of steps, and the runtime's time.
 */
export const command = {
  SUBMIT: 1,
  OPEN: 2,
  PUSH: 3,
  END: 4,
  CANCEL: 5,
  PAUSE: 6,
  RESUME: 7,
  MARKER: 8,
  SUSPEND: 9,
  FORK: 10,
  METERS: 11,
  BUFFERS: 12,
  WATCH: 13,
} as const;

/**
 * Records from an engine to the runtime. Each begins with its number and the request's; then:
 *
 * - OUTPUT: step, outputs (count, then for each: index, tensor). DONE: cells, queue ms, compute ms, outputs.
 * - FAILED: index of the fault code, message. MARKER: marker. SUSPENDED: values. METERS: see meters.ts.
 * - STEP, while somebody watches, of no request: see `StepWatch`.
 */
export const event = {
  OUTPUT: 1,
  DONE: 2,
  FAILED: 3,
  MARKER: 4,
  SUSPENDED: 5,
  METERS: 6,
  STEP: 7,
} as const;

/** What an engine knows about the wishes of a caller. */
export interface EngineOptions {
  readonly priority: number;
  /** From now; `Infinity` for no limit. */
  readonly timeoutMs: number;
  readonly maxSteps: number;
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly seed: number;
  /** 0 for the model's own. */
  readonly beamWidth: number;
  /** Whether outputs of every step are wanted. */
  readonly stream: boolean;
}

interface Writer {
  int(value: number): void;
  double(value: number): void;
}

export function writeOptions(to: Writer, options: EngineOptions): void {
  to.int(options.priority);
  to.double(options.timeoutMs);
  to.double(options.maxSteps);
  to.double(options.temperature);
  to.int(options.topK);
  to.double(options.topP);
  to.int(options.seed);
  to.int(options.beamWidth);
  to.int(options.stream ? 1 : 0);
}

/** Options as most callers leave them share one object: a million queued requests keep a million of them otherwise. */
export function readOptions(from: PacketReader): EngineOptions {
  if (from.skip(lastWords)) return last;
  const start = from.position;
  last = {
    priority: from.int(),
    timeoutMs: from.double(),
    maxSteps: from.double(),
    temperature: from.double(),
    topK: from.int(),
    topP: from.double(),
    seed: from.int() >>> 0,
    beamWidth: from.int(),
    stream: from.int() === 1,
  };
  lastWords = from.words.slice(start, from.position);
  return last;
}

let last: EngineOptions;
/** Of `last`; no record begins like these. */
let lastWords = Int32Array.of(-1);
