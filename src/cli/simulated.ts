import { readFile } from "node:fs/promises";
import { cellularLaneOf } from "../../planner/cellular-lane.ts";
import { lambdaPrices } from "../../planner/cost.ts";
import type { Outcome } from "../../planner/outcome.ts";
import { overheadsOf } from "../../planner/overheads.ts";
import { type Plan, parsePlan } from "../../planner/plan.ts";
import type { ProfileTable } from "../../planner/profile.ts";
import { router } from "../../planner/routing.ts";
import { tableService } from "../../planner/service.ts";
import { simulateFunctions } from "../../planner/simulate-functions.ts";
import { type ServerSettings, simulateServer } from "../../planner/simulate-server.ts";
import type { Trace } from "../../planner/trace.ts";
import type { BufferSettings } from "../../scheduler/buffer.ts";
import type { Profile } from "../core/profile.ts";

interface Settings {
  readonly plan?: string;
  readonly engines: number;
  readonly maxBatch: number;
  readonly timeoutMs: number;
  readonly eager: boolean;
}

/** Simulates a server, or the functions of a plan. */
export async function outcomeOf(
  profile: Profile,
  table: ProfileTable,
  trace: Trace,
  settings: Settings,
): Promise<Outcome> {
  const plan =
    settings.plan === undefined ? undefined : parsePlan(await readFile(settings.plan, "utf8"), settings.plan);
  if (plan?.target === "functions")
    return simulateFunctions(trace, {
      buffers: plan.buffers.map((buffer) => ({ ...buffer, memoryMb: buffer.memoryMb ?? 1769 })),
      ...(plan.routing ? { route: router(plan.routing, 1) } : {}),
      service: tableService(table, { byMemory: true, overheadMs: plan.overheadMs ?? 0 }),
      prices: lambdaPrices,
    });
  return simulateServer(trace, {
    engines: plan?.engines ?? settings.engines,
    overheads: overheadsOf(profile),
    lane:
      table.lane === "graph"
        ? graphLane(table, settings, plan)
        : cellularLaneOf(profile, {
            cell: table.cell,
            threads: table.threads,
            maxBatch: plan?.maxBatch ?? settings.maxBatch,
          }),
  });
}

function graphLane(table: ProfileTable, settings: Settings, plan: Plan | undefined): ServerSettings["lane"] {
  const { maxBatch, timeoutMs } = settings;
  return {
    kind: "graph",
    buffers: plan
      ? bufferSettings(plan.buffers)
      : [{ maxBatch, timeoutMs, sizes: [0, Number.POSITIVE_INFINITY] as const }],
    service: tableService(table),
    workConserving: plan?.eager ?? settings.eager,
  };
}

/** The buffers of a server's plan, each from where the one before ends. */
function bufferSettings(buffers: Plan["buffers"]): BufferSettings[] {
  return buffers.map(({ maxBatch, timeoutMs, upTo }, i) => ({
    maxBatch,
    timeoutMs,
    sizes: [
      i === 0 ? 0 : buffers[i - 1]!.upTo! + 1,
      upTo === undefined ? Number.POSITIVE_INFINITY : upTo + 1,
    ],
  }));
}
