import { OnnxKernel } from "../../kernels/onnx/onnx.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import { Fault } from "../core/faults.ts";
import { checkCell, type Finding } from "./cells.ts";
import { checkGraph, GRAPH_TOLERANCE } from "./graph.ts";

/** What was found of one model. */
export interface Verdict {
  readonly model: string;
  /** Largest difference that rounding may cause on this kernel. */
  readonly tolerance: number;
  readonly findings: readonly Finding[];
  /** Whether every difference is within the tolerance. */
  readonly independent: boolean;
}

export interface VerifyOptions {
  /** Of the random rows. @default 1 */
  readonly seed?: number;
}

/**
 * Whether the cells of a model give a row the same in any company: the ground on which requests may be batched. Each is run
 * on random rows alone, in batches, in another order, beside NaN, on slots that others used, and over several steps; a whole
 * graph on random requests alone, in batches, and padded beside longer ones.
 */
export async function verifyModel(
  definition: ModelDefinition,
  { seed = 1 }: VerifyOptions = {},
): Promise<Verdict> {
  const random = uniform(seed);
  if (definition.program.kind === "pipeline") {
    const models = definition.program.stages.map(({ model }) => `'${model}'`).join(", ");
    throw new Fault("INVALID_REQUEST", `'${definition.name}' is a pipeline: verify its models ${models}`);
  }
  if (definition.program.kind === "graph") {
    return verdictOf(definition.name, GRAPH_TOLERANCE, await checkGraph(definition, random));
  }
  const kernel = await OnnxKernel.load(definition.cells);
  try {
    const findings: Finding[] = [];
    for (let cell = 0; cell < definition.cells.length; cell++) {
      findings.push(...(await checkCell(kernel, cell, random)));
    }
    return verdictOf(definition.name, kernel.tolerance, findings);
  } finally {
    await kernel.dispose();
  }
}

function verdictOf(model: string, tolerance: number, findings: readonly Finding[]): Verdict {
  const independent = findings.every(({ difference }) => difference <= tolerance);
  return { model, tolerance, findings, independent };
}

/** Numbers from 0 to 1 by a linear congruential generator: the same rows on every machine. */
function uniform(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    return (state >>> 0) / 2 ** 32;
  };
}
