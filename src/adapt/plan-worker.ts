import { parentPort, workerData } from "node:worker_threads";
import { planServer } from "../../planner/plan-server.ts";
import { ProfileTable } from "../../planner/profile.ts";
import { Fault } from "../core/faults.ts";
import type { Replan, Replanned, Reply } from "./plan-thread.ts";

function planned({ profile, cell, threads, trace, goal, engines, buffers }: Replan): Replanned {
  const table = new ProfileTable(profile, { cell, threads });
  const problem = { trace, profile, table, goal, buffers, engines: [engines], price: { perHour: 0 } };
  const { settings, latency } = planServer(problem).best;
  const { lane } = settings;
  if (lane.kind !== "graph")
    throw new Fault("INVALID_REQUEST", `cell '${cell}' has no buffers: it is no whole graph`);
  return {
    latencyMs: latency,
    eager: lane.workConserving ?? false,
    buffers: lane.buffers.map(({ maxBatch, timeoutMs, sizes }) => ({
      maxBatch,
      timeoutMs: Math.min(60_000, timeoutMs),
      ...(Number.isFinite(sizes[1]) ? { upTo: sizes[1] - 1 } : {}),
    })),
  };
}

const tell = (reply: Reply) => parentPort?.postMessage(reply);
try {
  tell({ plan: planned(workerData as Replan) });
} catch (error) {
  const { code, message } = Fault.from(error);
  tell({ code, message });
}
