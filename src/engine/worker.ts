import { receiveMessageOnPort, workerData } from "node:worker_threads";
import { PublishPace } from "../../scheduler/publish-pace.ts";
import { Fault } from "../core/faults.ts";
import { loadEngine, type NumberedSource } from "./load.ts";
import { Pieces } from "./pieces.ts";
import { shared, type WorkerData, type WorkerMessage, type WorkerOrder } from "./thread.ts";

/** Longest sleep, so that a deadline on a clock that was set is not missed for long. */
const LONGEST_WAIT_MS = 1000;

async function main({ sources, config, port, shared: memory }: WorkerData): Promise<void> {
  const post = (message: WorkerMessage) => port.postMessage(message);
  const made = await loadEngine(sources, config).catch((error) => {
    const { code, message } = Fault.from(error);
    post({ kind: "refused", code, message });
    return undefined;
  });
  if (!made) return;
  const { engine, loaded, load: loadModel } = made;
  post({ kind: "ready", loaded });
  const bell = new Int32Array(memory, 0, 1);
  const counters = new Float64Array(memory);
  const pieces = new Pieces();
  const load = async ({ number, source }: NumberedSource) => {
    try {
      const loaded = await pieces.begin((pause) => loadModel({ number, source }, pause));
      post({ kind: "loaded", number, loaded });
    } catch (error) {
      const { code, message } = Fault.from(error);
      post({ kind: "load refused", number, code, message });
    }
  };
  let heard = -1;
  const pace = new PublishPace();
  for (;;) {
    const rung = Atomics.load(bell, 0);
    if (rung !== heard) {
      heard = rung;
      for (let got = receiveMessageOnPort(port); got; got = receiveMessageOnPort(port)) {
        const message = got.message as ArrayBuffer | WorkerOrder;
        if (message instanceof ArrayBuffer) engine.receive(message);
        else if (message.kind === "stop") return engine.dispose();
        else if (message.kind === "load") void load(message);
        else {
          await engine.remove(message.number);
          post({ kind: "unloaded", number: message.number });
        }
      }
    }
    const stepped = engine.step();
    const ran = typeof stepped === "boolean" ? stepped : await stepped;
    counters[shared.cells] = engine.cells;
    counters[shared.tasks] = engine.tasks;
    counters[shared.rows] = engine.rows;
    counters[shared.held] = engine.bytes;
    if (!engine.outbox.isEmpty) {
      const now = performance.now();
      if (!ran || pace.isDue(now)) {
        const packet = engine.outbox.take();
        port.postMessage({ kind: "packet", packet } satisfies WorkerMessage, [packet]);
        pace.published(now, performance.now(), engine.isBacklogged);
      }
    }
    if (pieces.isBusy) await pieces.turn(!ran);
    else if (!ran) {
      const from = performance.now();
      const wait = Math.min(LONGEST_WAIT_MS, engine.nextWakeMs - from);
      if (wait > 0 && Atomics.wait(bell, 0, heard, wait) !== "not-equal") pace.slept(from, performance.now());
    }
  }
}

// Not awaited: a model's module may import this package, and would wait for this module in turn.
void main(workerData as WorkerData);
