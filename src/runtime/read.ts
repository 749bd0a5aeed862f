import { Worker } from "node:worker_threads";
import type { ModelDefinition } from "../../models/definition.ts";
import { Fault, type FaultCode } from "../core/faults.ts";

export type ReadMessage =
  | { readonly definition: ModelDefinition }
  | { readonly code: FaultCode; readonly message: string };

/**
 * Reads the model of a folder on a thread of its own, since the weights of a large one take long to convert; they come in
 * shared memory. Rejects as `readModel` does.
 */
export function readOnThread(folder: string): Promise<ModelDefinition> {
  const isSource = import.meta.url.endsWith(".ts");
  const file = isSource ? "../../dist/src/runtime/read-worker.js" : "./read-worker.js";
  const worker = new Worker(new URL(file, import.meta.url), { workerData: folder });
  return new Promise<ModelDefinition>((resolve, reject) => {
    const unexpected = (why: string) =>
      reject(new Fault("INTERNAL", `the thread that reads '${folder}' ${why}`));
    const timer = setTimeout(() => unexpected(`took longer than ${READ_MS} ms`), READ_MS);
    worker.once("message", (message: ReadMessage) => {
      if ("definition" in message) resolve(message.definition);
      else reject(new Fault(message.code, message.message));
    });
    worker.once("error", (error) => unexpected(`failed: ${error.message}`));
    worker.once("exit", () => {
      clearTimeout(timer);
      unexpected("ended");
    });
  }).finally(() => worker.terminate());
}

/** Longest time for reading one model. */
const READ_MS = 300_000;
