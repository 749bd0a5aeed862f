import { receiveMessageOnPort, workerData } from "node:worker_threads";
import { Fault } from "../core/faults.ts";
import { loadEngine } from "./load.ts";
import { STOP, shared, type WorkerData, type WorkerMessage } from "./thread.ts";

/** Longest sleep, so that a deadline on a clock that was set is not missed for long. */
const LONGEST_WAIT_MS = 1000;

/**
 * To wake a thread that sleeps takes tens of microseconds on a virtual machine, so a busy engine publishes after every
 * step only where that is cheap: at most one part in this many of its time goes there. An idle one publishes at once.
 */
const PUBLISH_SHARE = 40;
/** What is believed of one publication at most, so that a preempted thread does not hold back outputs for long. */
const LONGEST_PUBLISH_MS = 0.04;

async function main({ sources, config, port, shared: memory }: WorkerData): Promise<void> {
  const post = (message: WorkerMessage) => port.postMessage(message);
  const loaded = await loadEngine(sources, config).catch((error) => {
    const { code, message } = Fault.from(error);
    post({ kind: "refused", code, message });
    return undefined;
  });
  if (!loaded) return;
  const { engine, cells } = loaded;
  post({ kind: "ready", cells });
  const bell = new Int32Array(memory, 0, 1);
  const counters = new Float64Array(memory);
  let heard = -1;
  let publishAt = 0;
  let publishMs = 0;
  for (;;) {
    const rung = Atomics.load(bell, 0);
    if (rung !== heard) {
      heard = rung;
      for (let got = receiveMessageOnPort(port); got; got = receiveMessageOnPort(port)) {
        if (got.message === STOP) return engine.dispose();
        engine.receive(got.message as ArrayBuffer);
      }
    }
    const stepped = engine.step();
    const ran = typeof stepped === "boolean" ? stepped : await stepped;
    counters[shared.cells] = engine.cells;
    counters[shared.tasks] = engine.tasks;
    counters[shared.rows] = engine.rows;
    if (!engine.outbox.isEmpty) {
      const now = performance.now();
      if (!ran || now >= publishAt) {
        const packet = engine.outbox.take();
        port.postMessage({ kind: "packet", packet } satisfies WorkerMessage, [packet]);
        const after = performance.now();
        publishMs += (Math.min(after - now, LONGEST_PUBLISH_MS) - publishMs) / 8;
        publishAt = after + publishMs * PUBLISH_SHARE;
      }
    }
    if (!ran) {
      const wait = Math.min(LONGEST_WAIT_MS, engine.nextWakeMs - performance.now());
      if (wait > 0) Atomics.wait(bell, 0, heard, wait);
    }
  }
}

// Not awaited: a model's module may import this package, and would wait for this module in turn.
void main(workerData as WorkerData);
