import type { Kernel } from "../../kernels/kernel.ts";
import type { ModelDefinition, Unfold } from "../../models/definition.ts";
import { unfoldOf } from "../../models/programs.ts";
import type { CellType } from "../../scheduler/scheduler.ts";
import { allowedSteps } from "../../scheduler/several-steps.ts";
import { Fault } from "../core/faults.ts";
import { type ChainPlan, chainPlan } from "./chain-plan.ts";
import { knownStates } from "./known-states.ts";
import { OutputLists } from "./outputs.ts";
import { type CellProfile, profileCells } from "./profile.ts";
import { type TreePlan, treePlan } from "./tree-plan.ts";

/** A model on a device: its kernel, and what was measured of it. */
export interface LoadedModel {
  readonly definition: ModelDefinition;
  readonly kernel: Kernel;
  /** What its kernel holds. */
  readonly bytes: number;
  readonly unfold: Unfold;
  readonly outputs: OutputLists;
  /** Where requests can be rows of numbers. */
  readonly plan: ChainPlan | TreePlan | undefined;
  readonly profiles: readonly CellProfile[];
  /** By cell: the slot of its state after token 0, where the states of all tokens are kept from the start; see `knownStates`. */
  readonly known: readonly (number | undefined)[];
  /** A slot that is never written. */
  readonly zeroSlot: number;
  /** One per cell. */
  readonly types: readonly CellType[];
  /** The scheduler's number of its first cell. */
  firstType: number;
  /** Slots that hold nothing. */
  readonly freeSlots: number[];
  slots: number;
  /** Slots that the kernel has room for. */
  reserved: number;
}

export interface LoadOptions {
  /** Most rows of one task. @default where the measured rate reaches 97 % of the best */
  readonly maxBatch?: number;
  /** Waited for between measurements, so that others may use the thread. @default no wait */
  readonly pause?: () => void | Promise<void>;
  /** What the cells cost, by cell. @default it is measured, which takes some 50 ms per cell */
  readonly profiles?: readonly CellProfile[];
}

/** Makes a model ready to run on its kernel. Throws INVALID_REQUEST where `maxBatch` is beyond what its profile holds. */
export async function loadModel(
  definition: ModelDefinition,
  kernel: Kernel,
  options: LoadOptions = {},
): Promise<LoadedModel> {
  const profiles = options.profiles ?? (await profileCells(kernel, options.pause));
  const { known, slots: zeroSlot } = await knownStates(kernel);
  const slots = zeroSlot + 1;
  kernel.reserve(slots);
  const outputs = new OutputLists(definition);
  return {
    definition,
    kernel,
    get bytes() {
      return kernel.bytes ?? 0;
    },
    unfold: unfoldOf(definition),
    outputs,
    plan: chainPlan(definition, outputs) ?? treePlan(definition, outputs, known),
    profiles,
    known,
    zeroSlot,
    types: definition.cells.map((cell, priority) => {
      const profile = profiles[priority]!;
      const maxBatch = Math.min(options.maxBatch ?? profile.knee, kernel.maxBatch);
      const measured = profile.curve?.maxRows ?? maxBatch;
      if (maxBatch > measured) {
        throw new Fault(
          "INVALID_REQUEST",
          `the profile of model '${definition.name}' ends at ${measured} rows, 'maxBatch' is ${maxBatch}`,
        );
      }
      return {
        name: `${definition.name}/${cell.name}`,
        priority,
        maxBatch,
        ...(profile.curve ? { cost: profile.curve } : {}),
        stepSizes: allowedSteps(kernel.stepSizes(priority), profile.stepMs, profile.curve?.ms(maxBatch) ?? 0),
        maxStepRows: profile.maxStepRows,
        maxStepCells: kernel.maxBatch,
      };
    }),
    firstType: 0,
    freeSlots: [],
    slots,
    reserved: slots,
  };
}
