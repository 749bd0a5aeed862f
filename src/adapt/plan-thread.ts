import { Worker } from "node:worker_threads";
import type { SizedGoal } from "../../planner/multi-buffer.ts";
import type { Trace } from "../../planner/trace.ts";
import { Fault, type FaultCode } from "../core/faults.ts";
import type { Profile } from "../core/profile.ts";
import type { BufferChange } from "../runtime/types.ts";

/** What is planned for a server that runs. */
export interface Replan {
  readonly profile: Profile;
  readonly cell: string;
  readonly threads: number;
  readonly trace: Trace;
  readonly goal: SizedGoal;
  readonly engines: number;
  /** Numbers of buffers that are tried. */
  readonly buffers: readonly number[];
}

export interface Replanned extends BufferChange {
  /** At the goal's percentile. */
  readonly latencyMs: number;
}

/** What the thread says, once. */
export type Reply = { readonly plan: Replanned } | { readonly code: FaultCode; readonly message: string };

/** Plans on a thread of its own, because that takes seconds. Rejects with the fault that kept it from a plan, or when aborted. */
export function planInThread(replan: Replan, signal: AbortSignal): Promise<Replanned> {
  const isSource = import.meta.url.endsWith(".ts");
  const file = new URL(isSource ? "../../dist/src/adapt/plan-worker.js" : "plan-worker.js", import.meta.url);
  return new Promise((resolve, reject) => {
    const worker = new Worker(file, { workerData: replan });
    const stop = () => {
      void worker.terminate();
      reject(new Fault("CANCELLED", "planning was ended"));
    };
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) stop();
    worker.once("message", (reply: Reply) => {
      if ("plan" in reply) resolve(reply.plan);
      else reject(new Fault(reply.code, reply.message));
    });
    worker.once("error", (error) => reject(Fault.from(error)));
    worker.once("exit", () => {
      signal.removeEventListener("abort", stop);
      reject(new Fault("INTERNAL", "planning ended without a plan"));
    });
  });
}
