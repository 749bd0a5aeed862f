import { MessageChannel, Worker } from "node:worker_threads";
import { Fault, type FaultCode } from "../core/faults.ts";
import type { Engine } from "../engine/engine.ts";
import { type CellInfo, type EngineConfig, loadEngine, type ModelSource } from "../engine/load.ts";
import { STOP, shared, type WorkerData, type WorkerMessage } from "../engine/thread.ts";

/** The way to one engine, wherever it runs. */
export interface Link {
  readonly cells: readonly (readonly CellInfo[])[];
  send(packet: ArrayBuffer): void;
  counters(): { cells: number; tasks: number; rows: number };
  /** Ends the engine and its thread, whatever it is doing. */
  stop(): Promise<void>;
}

export interface LinkEvents {
  packet(packet: ArrayBuffer): void;
  /** The engine is gone without having been stopped. */
  died(reason: string): void;
}

/** Runs an engine on this thread, one task per turn of the event loop. */
export async function openInline(
  sources: readonly ModelSource[],
  config: EngineConfig,
  events: LinkEvents,
): Promise<Link> {
  const { engine, cells } = await loadEngine(sources, config);
  return { cells, ...pump(engine, events) };
}

function pump(engine: Engine, events: LinkEvents): Omit<Link, "cells"> {
  let turn: NodeJS.Immediate | undefined;
  let alarm: NodeJS.Timeout | undefined;
  let stopped = false;
  const publish = () => {
    if (!engine.outbox.isEmpty) events.packet(engine.outbox.take());
  };
  const step = async () => {
    const stepped = engine.step();
    const ran = typeof stepped === "boolean" ? stepped : await stepped;
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
    send: (packet) => {
      engine.receive(packet);
      wake();
    },
    counters: () => ({ cells: engine.cells, tasks: engine.tasks, rows: engine.rows }),
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
  sources: readonly ModelSource[],
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
  let stopping = false;
  const ring = () => {
    Atomics.add(bell, 0, 1);
    Atomics.notify(bell, 0);
  };
  return new Promise((resolve, reject) => {
    let reason = "its thread ended";
    worker.on("error", (error) => {
      reason = error.message;
    });
    worker.on("exit", () => {
      port.close();
      reject(new Fault("INTERNAL", `an engine could not start: ${reason}`));
      if (!stopping) events.died(reason);
    });
    port.on("message", (message: WorkerMessage) => {
      if (message.kind === "packet") events.packet(message.packet);
      else if (message.kind === "refused") {
        stopping = true;
        reject(new Fault(message.code as FaultCode, message.message));
        void worker.terminate();
      } else {
        resolve({
          cells: message.cells,
          send: (packet) => {
            port.postMessage(packet, [packet]);
            ring();
          },
          counters: () => ({
            cells: counters[shared.cells]!,
            tasks: counters[shared.tasks]!,
            rows: counters[shared.rows]!,
          }),
          stop: async () => {
            stopping = true;
            port.postMessage(STOP);
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

/** An engine that has not ended by itself after this long is ended. */
const STOP_MS = 2000;

/** The worker's built file: beside this one, or in `dist` where this runs from source. */
function workerFile(): URL {
  const isSource = import.meta.url.endsWith(".ts");
  return new URL(isSource ? "../../dist/src/engine/worker.js" : "../engine/worker.js", import.meta.url);
}
