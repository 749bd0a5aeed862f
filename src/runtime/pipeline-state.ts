import { z } from "zod";
import { Fault } from "../core/faults.ts";
import type { GateState } from "./gate.ts";
import type { PipelinePlan } from "./pipeline-plan.ts";

/** One stage of a suspended session. */
export interface StageState {
  readonly gate: GateState;
  /** Of its session; undefined where it had none. */
  readonly state: string | undefined;
}

/** A suspended session of a pipeline as a string: JSON in base64url. */
export function packStages({ name, version, stages }: PipelinePlan, states: readonly StageState[]): string {
  const packed = stages.map((stage, at) => ({ stage: stage.name, ...states[at]! }));
  return Buffer.from(JSON.stringify({ model: name, version, stages: packed })).toString("base64url");
}

/** The inverse of `packStages`. Throws INVALID_REQUEST where the state is another model's or is damaged. */
export function unpackStages({ name, version, stages }: PipelinePlan, state: string): readonly StageState[] {
  const refuse = (found: string) =>
    new Fault("INVALID_REQUEST", `the state is ${found}, this model is '${name}' ${version}`);
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(state, "base64url").toString());
  } catch {
    throw refuse("damaged");
  }
  const parsed = Packed.safeParse(json);
  if (!parsed.success) throw refuse("of no pipeline");
  const { data } = parsed;
  if (data.model !== name || data.version !== version) throw refuse(`of '${data.model}' ${data.version}`);
  if (String(data.stages.map(({ stage }) => stage)) !== String(stages.map((stage) => stage.name))) {
    throw refuse(`of stages ${data.stages.map(({ stage }) => stage).join(", ")}`);
  }
  return data.stages.map(({ gate, state: own }) => ({ gate, state: own }));
}

const Packed = z.strictObject({
  model: z.string(),
  version: z.string(),
  stages: z.array(
    z.strictObject({
      stage: z.string(),
      gate: z.strictObject({ isOpen: z.boolean(), left: z.number().int().min(0) }),
      state: z.string().optional(),
    }),
  ),
});
