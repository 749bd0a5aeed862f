import type { GraphBuffer, ModelDefinition } from "../../models/definition.ts";
import type { Fault } from "../core/faults.ts";
import type { Tensor } from "../core/tensor.ts";
import type { EngineMeters } from "../engine/meters.ts";

export type { CellMeters, EngineMeters } from "../engine/meters.ts";

/** What goes into or comes out of a model: tensors, or text where the model declares a codec for it. */
export type Value = Tensor | string;
export type Values = Readonly<Record<string, Value>>;

/** What a caller may say about one request. */
export interface RequestOptions {
  /** Version of the model. @default the newest that is loaded */
  readonly version?: string;
  /** Class from 1 (first) to 9 (last); a lower number takes row places from a higher one at any step. @default 5 */
  readonly priority?: number;
  /** Longest time from now until the result, in milliseconds, above 0; past it the request fails with DEADLINE_EXCEEDED. No limit by default. */
  readonly timeoutMs?: number;
  /** Most cells that a generating program may run; 1 or more. The model's own limit by default and at most. */
  readonly maxSteps?: number;
  /** Sampling temperature; 0 takes the likeliest token. @default 0 */
  readonly temperature?: number;
  /** Sample among the `topK` likeliest tokens; 0 means all. @default 0 */
  readonly topK?: number;
  /** Sample among the likeliest tokens that hold this share of the probability, in (0, 1]. @default 1 */
  readonly topP?: number;
  /** Seed of the sampling, a 32-bit unsigned integer; the same seed gives the same tokens, in any company. @default 0 */
  readonly seed?: number;
  /** Hypotheses that a beam search keeps at every step, 1 to 64; each costs a row. 1 is greedy. @default the model's own */
  readonly beamWidth?: number;
}

/** What a request used. */
export interface Usage {
  readonly cells: number;
  /** From admission until its first cell ran. */
  readonly queueMs: number;
  /** From its first cell until its result. */
  readonly computeMs: number;
}

export interface Result {
  readonly outputs: Values;
  readonly usage: Usage;
}

/** The outputs of one step of one request or session. */
export interface StepOutput {
  /** Counts from 0 within the request. */
  readonly step: number;
  readonly outputs: Values;
}

/** Who hears about a request. Exactly one of `done`, `suspended` and `failed` is called, once, and last. */
export interface Listener {
  /** Present where the caller wants the outputs of every step. */
  readonly output?: (step: StepOutput) => void;
  readonly done: (result: Result) => void;
  readonly failed: (fault: Fault) => void;
  /** All input before a `marker` call has been processed. */
  readonly marker?: (marker: number) => void;
  /** How many pushed inputs of a session have been processed since the last call. */
  readonly consumed?: (inputs: number) => void;
  /** `replaced` where nobody asked: the session's model version was unloaded. */
  readonly suspended?: (state: string, evicted?: "replaced") => void;
}

export interface LoadOptions {
  /** Version to serve it as. @default what the model says */
  readonly version?: string;
  /** How long those that run on the same version, loaded before, may go on, in milliseconds; then as with `unload`. @default 10 000 */
  readonly drainMs?: number;
}

export interface UnloadOptions {
  /** Which version. @default all */
  readonly version?: string;
  /**
   * How long those that run may go on, in milliseconds, 0 or more; then sessions are suspended and their listeners get the
   * state, and requests fail with MODEL_NOT_READY. @default 10 000
   */
  readonly drainMs?: number;
}

/** A request that was handed over. */
export interface Handle {
  /** Ends it with CANCELLED; nothing happens if it has ended. */
  cancel(): void;
  /** Stops its cells from being scheduled, or lets them go on: for readers that are too slow. */
  pause(): void;
  resume(): void;
}

/** A session that was opened. */
export interface SessionHandle extends Handle {
  /** More input, of how many steps it answers: every tensor has a leading axis of steps or is exactly one step's value. Throws INVALID_INPUT. */
  push(inputs: Values): number;
  /** No more input: `done` follows once all of it has been processed. */
  end(): void;
  /** Asks to hear `listener.marker(marker)` after all earlier input. */
  marker(marker: number): void;
  /** Stops after the input that is there; `listener.suspended` gets the state, and the session is over. */
  suspend(): void;
  /** A second session that goes on from the state this one has after the input that is there. */
  fork(listener: Listener): SessionHandle;
}

export interface ValueSpec {
  readonly name: string;
  /** `text`, or the element type of a tensor. */
  readonly type: "text" | "float32" | "int32";
  /** -1 where any length fits; empty for text. */
  readonly shape: readonly number[];
}

/** What a user needs to know about a loaded model. */
export interface ModelInfo {
  readonly name: string;
  readonly version: string;
  readonly description: string;
  readonly program: string;
  /** Whether it takes sessions; else requests. */
  readonly streaming: boolean;
  readonly inputs: readonly ValueSpec[];
  readonly outputs: readonly ValueSpec[];
  /** Inputs to try it with. */
  readonly example?: Readonly<Record<string, string>>;
  readonly cells: readonly { readonly name: string; readonly kind: string; readonly maxBatch: number }[];
}

/** Counts and gauges of one runtime, summed over its engines. */
export interface RuntimeStats {
  readonly engines: number;
  /** Requests and sessions that were accepted and have not ended. */
  readonly active: number;
  readonly accepted: number;
  readonly completed: number;
  readonly failed: number;
  readonly cells: number;
  readonly tasks: number;
  /** Rows of the last task of every engine. */
  readonly rows: number;
  readonly restarts: number;
  /** Bytes of weights, state rows and buffers that engines hold, without what ONNX Runtime adds. */
  readonly bytes: number;
}

/** Buffers to put in place of those of a model that is one graph; see `GraphBuffer`. */
export interface BufferChange {
  /** By ascending `upTo`, which only the last one lacks. */
  readonly buffers: readonly GraphBuffer[];
  /** Whether a batch that is not full goes as soon as its engine has nothing else to do. */
  readonly eager: boolean;
}

/** One batched cell that has run, as told to who watches. */
export interface WatchedStep {
  readonly engine: number;
  readonly model: string;
  readonly cell: string;
  /** When it began, on this thread's `performance.now()`, to within a task's length; and how long it took, in milliseconds. */
  readonly startMs: number;
  readonly ms: number;
  readonly rows: number;
  /** Steps of every row in this one call. */
  readonly steps: number;
  /** Requests and sessions of the first 64 rows, numbered from 1 in the order in which they were accepted. */
  readonly requests: readonly number[];
  /** What ran since the last step that was told: a busy engine tells of a part of its steps. */
  readonly leftOut: { readonly tasks: number; readonly cells: number };
}

/** Who looks on; may be called many times a second. */
export interface Watcher {
  step(step: WatchedStep): void;
  /** A request or session has ended. `ms` is the time until the result of a request, queueing included, if it came to one. */
  ended(request: number, model: string, ms: number | undefined): void;
}

/** Serves models inside this process. */
export interface Runtime {
  /** Those that new requests may name; the newest version of a model comes first. */
  readonly models: readonly ModelInfo[];
  /**
   * Loads a model while others run, and resolves once every engine has measured and thereby warmed it up and new requests
   * get it. Who began on the same version, loaded before, finishes on that. Rejects with the fault that keeps it out; then
   * nothing has changed.
   */
  load(model: string | ModelDefinition, options?: LoadOptions): Promise<ModelInfo>;
  /** Takes a model from new requests at once, and resolves when those that run have ended and nothing of it is left. */
  unload(model: string, options?: UnloadOptions): Promise<void>;
  /** One request; resolves with its result or rejects with a `Fault`. */
  run(
    model: string,
    inputs: Values,
    options?: RequestOptions & { readonly signal?: AbortSignal },
  ): Promise<Result>;
  /** One request, step by step; ends after the last step or throws its `Fault`. */
  stream(
    model: string,
    inputs: Values,
    options?: RequestOptions & { readonly signal?: AbortSignal },
  ): AsyncIterable<StepOutput>;
  /** An open-ended request of a streaming model. */
  session(model: string, options?: RequestOptions & { readonly state?: string }): Session;
  /** One request, told to a listener; what `run` and `stream` and the server stand on. Throws a `Fault` at once. */
  submit(model: string, inputs: Values, options: RequestOptions, listener: Listener): Handle;
  /** A session, told to a listener. Throws a `Fault` at once. */
  open(
    model: string,
    options: RequestOptions & { readonly state?: string },
    listener: Listener,
  ): SessionHandle;
  /** Puts other buffers in place of a graph's; nobody who waits is lost. Throws INVALID_REQUEST where they are wrong. */
  setBuffers(model: string, change: BufferChange): void;
  stats(): RuntimeStats;
  /** What every engine has counted, by its index. Resolves within a second, without an engine that does not answer. */
  meters(): Promise<ReadonlyMap<number, EngineMeters>>;
  /** Tells of steps and answers until the function that is returned is called. Costs nothing while nobody watches. */
  watch(watcher: Watcher): () => void;
  /** Stops admitting, waits for what runs up to `drainMs` (default 10 000), then stops the engines. */
  close(drainMs?: number): Promise<void>;
}

/** A session as an async iterable of its outputs; leaving the loop cancels it. */
export interface Session extends AsyncIterable<StepOutput> {
  push(inputs: Values): void;
  /** No more input; resolves when all of it has been processed. */
  end(): Promise<Result>;
  /** Resolves once all input so far has been processed. */
  flush(): Promise<void>;
  /** Ends it here and resolves with its state, for `runtime.session(model, { state })` here or elsewhere. */
  suspend(): Promise<string>;
  fork(): Session;
  cancel(): void;
}
