import type { KernelFactory } from "../../kernels/kernel.ts";
import { OnnxGraphKernel } from "../../kernels/onnx/onnx-graph.ts";
import type { SessionOptions } from "../../kernels/onnx/session.ts";
import type { ModelDefinition, WholeGraph } from "../../models/definition.ts";
import { type PolicyName, policies } from "../../scheduler/policy.ts";
import { wallClock } from "../core/clock.ts";
import { Fault } from "../core/faults.ts";
import type { Profile } from "../core/profile.ts";
import { Engine } from "./engine.ts";
import { GraphLane } from "./graph-lane.ts";
import { type Device, kernelsFor } from "./kernels.ts";
import { type LoadedModel, loadModel } from "./model.ts";
import { storedGraphTimes, storedProfiles } from "./stored-profile.ts";

/** Where an engine finds a model: the definition itself, or a module whose default export is one. */
export type ModelSource = { readonly definition: ModelDefinition } | { readonly module: string };

export interface EngineConfig {
  readonly policy: PolicyName;
  readonly maxBatch?: number;
  readonly threads: number;
  /** Execution providers of ONNX Runtime; its CPU provider where there are none. */
  readonly providers?: readonly string[];
  readonly device: Device;
  /** See `KernelChoice`. */
  readonly kernel?: string | KernelFactory;
  /** By name of the model: what its cells cost here. @default they are measured */
  readonly profiles?: Readonly<Record<string, Profile>>;
}

/** What a loaded model is to the runtime. */
export interface CellInfo {
  readonly name: string;
  readonly kind: string;
  readonly maxBatch: number;
}

/** Makes an engine on the calling thread, with all models loaded and measured. */
export async function loadEngine(
  sources: readonly ModelSource[],
  { policy, maxBatch, threads, providers, device, kernel: named, profiles = {} }: EngineConfig,
): Promise<{ engine: Engine; cells: CellInfo[][] }> {
  const session: SessionOptions = { threads, ...(providers ? { providers } : {}) };
  const load = await kernelsFor({ device, session, ...(named ? { kernel: named } : {}) });
  const models: (LoadedModel | GraphLane)[] = [];
  for (const source of sources) {
    const definition = await definitionOf(source);
    if (definition.program.kind === "graph") {
      models.push(await loadGraph(definition, session, profiles[definition.name]));
      continue;
    }
    const kernel = await load(definition.cells);
    const profile = profiles[definition.name];
    models.push(
      await loadModel(definition, kernel, {
        ...(maxBatch === undefined ? {} : { maxBatch }),
        ...(profile ? { profiles: storedProfiles(profile, kernel, threads) } : {}),
      }),
    );
  }
  return {
    engine: new Engine({ models, policy: policies[policy], clock: wallClock }),
    cells: models.map((model) =>
      model.definition.cells.map(({ name, body }, i) => ({
        name,
        kind: body.kind,
        maxBatch: model instanceof GraphLane ? model.maxBatch : model.types[i]!.maxBatch,
      })),
    ),
  };
}

async function loadGraph(
  definition: ModelDefinition,
  options: SessionOptions,
  profile: Profile | undefined,
): Promise<GraphLane> {
  const { cell: name } = definition.program as WholeGraph;
  const cell = definition.cells.find((one) => one.name === name);
  const leastMs = profile && storedGraphTimes(profile, name, options.threads);
  return new GraphLane(definition, await OnnxGraphKernel.load(cell!, options), leastMs);
}

/** The definition that a source names. Throws INVALID_REQUEST where a module exports none. */
export async function definitionOf(source: ModelSource): Promise<ModelDefinition> {
  if ("definition" in source) return source.definition;
  const loaded = (await import(source.module)) as { default?: ModelDefinition };
  if (typeof loaded.default?.name !== "string" || !Array.isArray(loaded.default.cells)) {
    throw new Fault("INVALID_REQUEST", `module '${source.module}' has no model as its default export`);
  }
  return loaded.default;
}
