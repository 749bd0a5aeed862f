import { MessageChannel, Worker } from "node:worker_threads";
import { Fault, type FaultCode } from "../core/faults.ts";
import type { Engine } from "../engine/engine.ts";
import { type EngineConfig, type Loaded, loadEngine, type NumberedSource } from "../engine/load.ts";
import { shared, type WorkerData, type WorkerMessage, type WorkerOrder } from "../engine/thread.ts";

/** The way to one engine, wherever it runs. */
export interface Link {
  /** What it was started with, by number. */
  readonly loaded: ReadonlyMap<number, Loaded>;
  /** Loads a model while the engine runs; requests may name its number from then on. Rejects with the fault that kept it out. */
  load(model: NumberedSource): Promise<Loaded>;
  /** Takes a model out that no request is with. */
  unload(number: number): Promise<void>;
  send(packet: ArrayBuffer): void;
  counters(): EngineCounters;
  /** Ends the engine and its thread, whatever it is doing. */
  stop(): Promise<void>;
}

export interface EngineCounters {
  readonly cells: number;
  readonly tasks: number;
  readonly rows: number;
  /** Of weights, state rows and buffers. */
  readonly bytes: number;
}

export interface LinkEvents {
  packet(packet: ArrayBuffer): void;
  /** The engine is gone without having been stopped. */
  died(reason: string): void;
}

/** Runs an engine on this thread, one task per turn of the event loop. */
export async function openInline(
  sources: readonly NumberedSource[],
  config: EngineConfig,
  events: LinkEvents,
): Promise<Link> {
  const { engine, loaded, load } = await loadEngine(sources, config);
  const pause = () => new Promise<void>((resolve) => setImmediate(resolve));
  return inlineLink(engine, { loaded, load: (model) => load(model, pause) }, events);
}

/** The way to an engine on this thread, which has models `loaded` and gets others by `load`. */
export function inlineLink(engine: Engine, models: Pick<Link, "loaded" | "load">, events: LinkEvents): Link {
  const { stepped, ...ways } = pump(engine, events);
  return {
    ...models,
    ...ways,
    unload: async (number) => {
      await stepped();
      await engine.remove(number);
    },
  };
}

function pump(
  engine: Engine,
  events: LinkEvents,
): Pick<Link, "send" | "counters" | "stop"> & {
  /** Resolves once no step is under way. */
  stepped(): Promise<unknown>;
} {
  let running: boolean | Promise<boolean> = false;
  let turn: NodeJS.Immediate | undefined;
  let alarm: NodeJS.Timeout | undefined;
  let stopped = false;
  const publish = () => {
    if (!engine.outbox.isEmpty) events.packet(engine.outbox.take());
  };
  const step = async () => {
    running = engine.step();
    const ran = typeof running === "boolean" ? running : await running;
    turn = undefined;
    if (stopped) return;
    publish();
    if (ran) wake();
    else if (engine.nextWakeMs !== Number.POSITIVE_INFINITY) {
      const wait = Math.min(LONGEST_TIMEOUT_MS, Math.max(0, engine.nextWakeMs - performance.now()));
      alarm = setTimeout(wake, wait);
    }
  };
  const wake = () => {
    clearTimeout(alarm);
    turn ??= setImmediate(step);
  };
  return {
    stepped: async () => running,
    send: (packet) => {
      engine.receive(packet);
      wake();
    },
    counters: () => ({ cells: engine.cells, tasks: engine.tasks, rows: engine.rows, bytes: engine.bytes }),
    stop: async () => {
      stopped = true;
      if (turn) clearImmediate(turn);
      clearTimeout(alarm);
      await engine.dispose();
    },
  };
}

const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

/** Runs an engine on a thread of its own. Rejects with the fault that kept it from loading. */
export function openThread(
  sources: readonly NumberedSource[],
  config: EngineConfig,
  events: LinkEvents,
): Promise<Link> {
  const { port1: port, port2: theirs } = new MessageChannel();
  const memory = new SharedArrayBuffer(shared.bytes);
  const bell = new Int32Array(memory, 0, 1);
  const counters = new Float64Array(memory);
  const data: WorkerData = { sources, config, port: theirs, shared: memory };
  const worker = new Worker(workerFile(), { workerData: data, transferList: [theirs] });
  const exited = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
  const loads = new Map<number, Pending<Loaded>>();
  const unloads = new Map<number, Pending<void>>();
  let stopping = false;
  let reason = "its thread ended";
  let isGone = false;
  const ring = () => {
    Atomics.add(bell, 0, 1);
    Atomics.notify(bell, 0);
  };
  const order = <T>(pending: Map<number, Pending<T>>, number: number, message: WorkerOrder): Promise<T> =>
    new Promise((resolve, reject) => {
      if (isGone) return reject(new Fault("INTERNAL", `the engine died: ${reason}`));
      pending.set(number, { resolve, reject });
      port.postMessage(message);
      ring();
    });
  const settle = <T>(pending: Map<number, Pending<T>>, number: number, act: (one: Pending<T>) => void) => {
    const one = pending.get(number);
    pending.delete(number);
    if (one) act(one);
  };
  return new Promise((resolve, reject) => {
    worker.on("error", (error) => {
      reason = error.message;
    });
    worker.on("exit", () => {
      isGone = true;
      port.close();
      reject(new Fault("INTERNAL", `an engine could not start: ${reason}`));
      for (const one of [...loads.values(), ...unloads.values()])
        one.reject(new Fault("INTERNAL", `the engine died: ${reason}`));
      if (!stopping) events.died(reason);
    });
    port.on("message", (message: WorkerMessage) => {
      if (message.kind === "packet") events.packet(message.packet);
      else if (message.kind === "refused") {
        stopping = true;
        reject(new Fault(message.code as FaultCode, message.message));
        void worker.terminate();
      } else if (message.kind === "loaded")
        settle(loads, message.number, (one) => one.resolve(message.loaded));
      else if (message.kind === "load refused") {
        const fault = new Fault(message.code as FaultCode, message.message);
        settle(loads, message.number, (one) => one.reject(fault));
      } else if (message.kind === "unloaded") settle(unloads, message.number, (one) => one.resolve());
      else {
        resolve({
          loaded: message.loaded,
          load: (model) => order(loads, model.number, { kind: "load", ...model }),
          unload: (number) => order(unloads, number, { kind: "unload", number }),
          send: (packet) => {
            port.postMessage(packet, [packet]);
            ring();
          },
          counters: () => ({
            cells: counters[shared.cells]!,
            tasks: counters[shared.tasks]!,
            rows: counters[shared.rows]!,
            bytes: counters[shared.held]!,
          }),
          stop: async () => {
            stopping = true;
            port.postMessage({ kind: "stop" } satisfies WorkerOrder);
            ring();
            const timer = setTimeout(() => void worker.terminate(), STOP_MS);
            await exited;
            clearTimeout(timer);
          },
        });
      }
    });
  });
}

interface Pending<T> {
  readonly resolve: (value: T) => void;
  readonly reject: (fault: Fault) => void;
}

/** An engine that has not ended by itself after this long is ended. */
const STOP_MS = 2000;

/** The worker's built file: beside this one, or in `dist` where this runs from source. */
function workerFile(): URL {
  const isSource = import.meta.url.endsWith(".ts");
  return new URL(isSource ? "../../dist/src/engine/worker.js" : "../engine/worker.js", import.meta.url);
}
