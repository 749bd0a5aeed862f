import { BufferSet } from "../../scheduler/buffer.ts";
import type { Clock } from "../core/clock.ts";
import { Fault } from "../core/faults.ts";
import { engineOptions } from "../runtime/options.ts";
import { requestSize } from "../runtime/request-size.ts";
import type { ServedModel } from "../runtime/served-model.ts";
import { resultOf, stepsOf } from "../runtime/stream.ts";
import type {
  Handle,
  Listener,
  ModelInfo,
  RequestOptions,
  Runtime,
  RuntimeStats,
  SessionHandle,
  Values,
} from "../runtime/types.ts";
import { inputSpecs, outputSpecs, tensorsOf } from "../runtime/values.ts";
import type { Called, FunctionInvoker } from "./invoker.ts";
import { type FunctionRequest, invocationOf, readAnswer } from "./payload.ts";

export interface GatewaySettings {
  /** What `servedModel` makes of its definition. */
  readonly model: ServedModel;
  readonly buffers: readonly {
    readonly maxBatch: number;
    readonly timeoutMs: number;
    readonly memoryMb: number;
  }[];
  /** Which buffer takes a request of some size. @default the first takes all */
  readonly route?: (size: number) => number;
  readonly invoker: FunctionInvoker;
  readonly clock: Clock;
  /** Requests that may wait or run; one more is refused with OVERLOADED. @default 10 000 */
  readonly maxActive?: number;
  /** Hears of every call: which buffer's, how many requests, how long. @default nobody */
  readonly called?: (
    call: { readonly buffer: number; readonly requests: number } & Omit<Called, "answer">,
  ) => void;
}

interface Entry extends FunctionRequest {
  readonly id: number;
  readonly listener: Listener;
  readonly addedMs: number;
  readonly timer: NodeJS.Timeout | undefined;
}

/**
 * A buffer in front of stateless functions, as BATCH and MBS have it, that looks like a runtime: the same doors serve it.
 * Requests of a batch go to a function together; functions scale out, so batches never wait for each other here.
 */
export class Gateway implements Runtime {
  readonly models: readonly ModelInfo[];
  readonly #settings: GatewaySettings;
  readonly #set: BufferSet;
  readonly #waiting = new Map<number, Entry>();
  /** Requests that have not ended, waiting or with a function. */
  readonly #open = new Map<number, Entry>();
  readonly #calls = new Set<Promise<void>>();
  readonly #abort = new AbortController();
  #alarm: NodeJS.Timeout | undefined;
  #next = 0;
  #accepted = 0;
  #completed = 0;
  #failed = 0;
  #batches = 0;
  #rows = 0;
  #closing = false;

  constructor(settings: GatewaySettings) {
    const { definition } = settings.model;
    const { buffers } = settings;
    if (definition.program.kind === "session")
      throw new Fault("UNSUPPORTED", `model '${definition.name}' takes sessions, functions keep no state`);
    this.#settings = settings;
    this.#set = new BufferSet(
      buffers.map(({ maxBatch, timeoutMs }) => ({
        maxBatch,
        timeoutMs,
        sizes: [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY],
      })),
    );
    const most = Math.max(...buffers.map(({ maxBatch }) => maxBatch));
    this.models = [
      {
        name: definition.name,
        version: definition.version,
        description: definition.description,
        program: definition.program.kind,
        streaming: false,
        inputs: inputSpecs(definition),
        outputs: outputSpecs(definition),
        ...(definition.example ? { example: definition.example } : {}),
        cells: definition.cells.map(({ name, body }) => ({ name, kind: body.kind, maxBatch: most })),
      },
    ];
  }

  run(model: string, inputs: Values, options: RequestOptions & { readonly signal?: AbortSignal } = {}) {
    return resultOf((listener) => this.submit(model, inputs, options, listener), options.signal);
  }

  stream(model: string, inputs: Values, options: RequestOptions & { readonly signal?: AbortSignal } = {}) {
    return stepsOf((listener) => this.submit(model, inputs, options, listener), options.signal);
  }

  session(model: string): never {
    throw noSessions(model);
  }

  open(model: string): SessionHandle {
    throw noSessions(model);
  }

  submit(model: string, inputs: Values, options: RequestOptions, listener: Listener): Handle {
    const { model: served, clock, maxActive = 10_000, route = () => 0 } = this.#settings;
    const { definition } = served;
    if (model !== definition.name)
      throw new Fault("MODEL_NOT_FOUND", `there is no model '${model}'; there are ${definition.name}`);
    if (this.#closing) throw new Fault("SHUTTING_DOWN", "the gateway is closing and takes no more requests");
    if (this.#open.size >= maxActive)
      throw new Fault("OVERLOADED", `${maxActive} requests are active, which is the most`);
    const { priority, timeoutMs } = engineOptions(options, false);
    // Refused here where it can be, before it costs a call.
    tensorsOf(served, inputs, false);
    const size = requestSize(inputs);
    const now = clock.now();
    const entry: Entry = {
      id: this.#next++,
      inputs,
      options,
      listener,
      addedMs: now,
      timer: Number.isFinite(timeoutMs)
        ? setTimeout(() => this.#expire(entry, timeoutMs), timeoutMs)
        : undefined,
    };
    this.#accepted++;
    this.#open.set(entry.id, entry);
    this.#waiting.set(entry.id, entry);
    this.#set.add({ id: entry.id, size, priority, deadlineMs: now + timeoutMs }, now, route(size));
    this.#dispatch();
    const nothing = () => {};
    return {
      cancel: () => this.#drop(entry, new Fault("CANCELLED", "the request was cancelled")),
      pause: nothing,
      resume: nothing,
    };
  }

  load(): never {
    throw new Fault("UNSUPPORTED", "a gateway serves the model of its plan, no other");
  }

  unload(): never {
    throw new Fault("UNSUPPORTED", "a gateway serves the model of its plan until it is closed");
  }

  /** It has no engines: what runs is counted where it runs. */
  async meters(): ReturnType<Runtime["meters"]> {
    return new Map();
  }

  setBuffers(model: string): never {
    throw new Fault("UNSUPPORTED", `the buffers of model '${model}' are those of the gateway's plan`);
  }

  /** Nothing is told: the steps are taken elsewhere. */
  watch(): () => void {
    return () => {};
  }

  stats(): RuntimeStats {
    return {
      engines: 0,
      active: this.#open.size,
      accepted: this.#accepted,
      completed: this.#completed,
      failed: this.#failed,
      cells: this.#completed,
      tasks: this.#batches,
      rows: this.#rows,
      restarts: 0,
      bytes: 0,
    };
  }

  async close(drainMs = 10_000): Promise<void> {
    this.#closing = true;
    const given = AbortSignal.timeout(Math.max(1, drainMs));
    given.addEventListener("abort", () => this.#abort.abort(), { once: true });
    if (drainMs === 0) this.#abort.abort();
    while (this.#open.size > 0 && !this.#abort.signal.aborted) {
      const next = this.#set.nextDue() - this.#settings.clock.now();
      if (this.#calls.size > 0) await Promise.race(this.#calls);
      else await new Promise((resolve) => setTimeout(resolve, Math.min(Math.max(next, 1), drainMs)));
    }
    clearTimeout(this.#alarm);
    for (const entry of this.#open.values())
      this.#drop(entry, new Fault("SHUTTING_DOWN", "the gateway was closed"));
    await this.#settings.invoker.close();
    await Promise.allSettled(this.#calls);
  }

  #expire(entry: Entry, timeoutMs: number): void {
    this.#drop(entry, new Fault("DEADLINE_EXCEEDED", `the request took longer than ${timeoutMs} ms`));
  }

  /** Ends a request before its answer; what a function still says of it is not heard. */
  #drop(entry: Entry, fault: Fault): void {
    if (this.#waiting.delete(entry.id)) this.#set.remove(entry.id);
    this.#end(entry, () => entry.listener.failed(fault));
  }

  #end(entry: Entry, tell: () => void, isSuccess = false): void {
    if (!this.#open.delete(entry.id)) return;
    clearTimeout(entry.timer);
    if (isSuccess) this.#completed++;
    else this.#failed++;
    tell();
  }

  /** Sends every batch that is due, and sets the alarm for the next one. */
  #dispatch(): void {
    const { clock } = this.#settings;
    for (let batch = this.#set.due(clock.now(), false); batch; batch = this.#set.due(clock.now(), false)) {
      const call = this.#call(batch.buffer, this.#take(batch.ids)).finally(() => this.#calls.delete(call));
      this.#calls.add(call);
    }
    clearTimeout(this.#alarm);
    const wait = this.#set.nextDue() - clock.now();
    if (wait !== Number.POSITIVE_INFINITY)
      this.#alarm = setTimeout(() => this.#dispatch(), Math.max(0, wait));
  }

  #take(ids: readonly number[]): Entry[] {
    return ids.map((id) => {
      const entry = this.#waiting.get(id)!;
      this.#waiting.delete(id);
      return entry;
    });
  }

  async #call(buffer: number, entries: readonly Entry[]): Promise<void> {
    const { invoker, model, buffers, clock, called } = this.#settings;
    this.#batches++;
    this.#rows = entries.length;
    const startMs = clock.now();
    try {
      const { memoryMb } = buffers[buffer]!;
      const batch = invocationOf(model.definition.name, entries);
      const { answer, ...call } = await invoker.invoke(batch, memoryMb, this.#abort.signal);
      called?.({ buffer, requests: entries.length, ...call });
      const results = readAnswer(answer, entries.length);
      entries.forEach((entry, i) => {
        const one = results[i]!;
        if (one instanceof Fault) this.#end(entry, () => entry.listener.failed(one));
        else {
          const usage = { ...one.usage, queueMs: startMs - entry.addedMs + one.usage.queueMs };
          this.#end(
            entry,
            () => {
              entry.listener.output?.({ step: 0, outputs: one.outputs });
              entry.listener.done({ outputs: one.outputs, usage });
            },
            true,
          );
        }
      });
    } catch (error) {
      const fault = this.#abort.signal.aborted
        ? new Fault("SHUTTING_DOWN", "the gateway was closed")
        : Fault.from(error);
      for (const entry of entries) this.#end(entry, () => entry.listener.failed(fault));
    }
  }
}

function noSessions(model: string): Fault {
  return new Fault("INVALID_REQUEST", `model '${model}' takes single requests, functions keep no sessions`);
}
