import { Fault } from "../core/faults.ts";
import type { PipelinePlan, PlannedStage, StageOutput } from "./pipeline-plan.ts";
import type { Handle, Listener, RequestOptions, SessionHandle, Usage, Value, Values } from "./types.ts";

/** Begins a request of one stage, which is not counted: its pipeline is. */
export type Submit = (model: string, inputs: Values, options: RequestOptions, listener: Listener) => Handle;

/** Opens a session of one stage, likewise. */
export type Open = (
  model: string,
  options: RequestOptions & { readonly state?: string },
  listener: Listener,
) => SessionHandle;

export const NO_USAGE: Usage = { cells: 0, queueMs: 0, computeMs: 0 };

export function addUsage(a: Usage, b: Usage): Usage {
  return { cells: a.cells + b.cells, queueMs: a.queueMs + b.queueMs, computeMs: a.computeMs + b.computeMs };
}

/** The options of a stage that begins now: it has what is left of the pipeline's time. Throws DEADLINE_EXCEEDED. */
export function optionsNow(options: RequestOptions, startMs: number): RequestOptions {
  const { timeoutMs } = options;
  if (timeoutMs === undefined) return options;
  const left = timeoutMs - (performance.now() - startMs);
  if (left > 0) return { ...options, timeoutMs: left };
  throw new Fault("DEADLINE_EXCEEDED", `the time limit of ${timeoutMs} ms had passed before it began`);
}

/** The fault of a stage as the pipeline's caller sees it. */
export function stageFault({ name }: PlannedStage, fault: Fault): Fault {
  if (fault.code === "CANCELLED") return fault;
  return new Fault(fault.code, `stage '${name}': ${fault.message}`, { cause: fault });
}

/** What a pipeline gives, by name; without what no stage gave. */
export function givenBy(plan: PipelinePlan, find: (from: StageOutput) => Value | undefined): Values {
  const given: Record<string, Value> = {};
  for (const { name, from } of plan.outputs) {
    const value = find(from);
    if (value !== undefined) given[name] = value;
  }
  return given;
}
