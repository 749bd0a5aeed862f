import { writeSync } from "node:fs";
import { threadId } from "node:worker_threads";
import type { KernelFactory, Pause } from "../../kernels/kernel.ts";
import { bytesOfCells, FORM_LIMITS } from "../../kernels/onnx/forms.ts";
import { OnnxGraphKernel } from "../../kernels/onnx/onnx-graph.ts";
import type { SessionOptions } from "../../kernels/onnx/session.ts";
import type { ModelDefinition, WholeGraph } from "../../models/definition.ts";
import { type PolicyName, policies } from "../../scheduler/policy.ts";
import { wallClock } from "../core/clock.ts";
import { Fault } from "../core/faults.ts";
import type { Profile } from "../core/profile.ts";
import { DecisionLog } from "./decision-log.ts";
import { Engine } from "./engine.ts";
import { GraphLane } from "./graph-lane.ts";
import { type Device, type KernelChoice, kernelsFor } from "./kernels.ts";
import { thisMachine } from "./machine.ts";
import { type LoadedModel, loadModel } from "./model.ts";
import { RecordingFile } from "./recording-file.ts";
import { checkProfile, storedGraphTimes, storedProfiles } from "./stored-profile.ts";

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
  readonly numbers?: KernelChoice["numbers"];
  /** See `KernelChoice`. */
  readonly kernel?: string | KernelFactory;
  /** By name of the model: what its cells cost here. @default they are measured */
  readonly profiles?: Readonly<Record<string, Profile>>;
  /** File to whose end decisions are written, and bytes that it may have; see src/core/recording.ts. @default they are not written */
  readonly record?: { readonly path: string; readonly limit: number };
}

/** A model to load, and the number by which requests will name it. */
export interface NumberedSource {
  readonly number: number;
  readonly source: ModelSource;
}

/** What one cell of a loaded model is to the runtime. */
export interface CellInfo {
  readonly name: string;
  readonly kind: string;
  readonly maxBatch: number;
}

/** What a model became on one engine. */
export interface Loaded {
  readonly cells: readonly CellInfo[];
  /** Bytes of weights, state rows and buffers. */
  readonly bytes: number;
}

/** An engine that can be given more models. */
export interface LoadingEngine {
  readonly engine: Engine;
  /** What it was made with, by number. */
  readonly loaded: ReadonlyMap<number, Loaded>;
  /**
   * Loads a model, measures its cells, which also warms them up, and adds it to the engine, which may be running. Waits for
   * `pause` between the pieces.
   */
  load(model: NumberedSource, pause?: Pause): Promise<Loaded>;
}

/** Makes an engine on the calling thread, with all models loaded and measured. */
export async function loadEngine(
  sources: readonly NumberedSource[],
  {
    policy,
    maxBatch,
    threads,
    providers,
    device,
    numbers,
    kernel: choice,
    profiles = {},
    record,
  }: EngineConfig,
): Promise<LoadingEngine> {
  const session: SessionOptions = { threads, ...(providers ? { providers } : {}) };
  const kernelOf = await kernelsFor({
    ...{ device, session },
    ...(numbers === undefined ? {} : { numbers }),
    ...(choice ? { kernel: choice } : {}),
  });
  const log = record === undefined ? undefined : logTo(record, policy);
  const settings = { models: [], policy: policies[policy], clock: wallClock };
  const engine = new Engine(log ? { ...settings, log } : settings);
  const load: LoadingEngine["load"] = async ({ number, source }, pause) => {
    const definition = await definitionOf(source);
    const profile = profiles[definition.name];
    if (profile) checkProfile(profile, definition, thisMachine());
    let model: LoadedModel | GraphLane;
    if (definition.program.kind === "graph") model = await loadGraph(definition, session, profile);
    else {
      const kernel = await kernelOf(definition.cells, pause ? { pause } : {});
      try {
        model = await loadModel(definition, kernel, {
          ...(pause ? { pause } : {}),
          ...(maxBatch === undefined ? {} : { maxBatch }),
          ...(profile ? { profiles: storedProfiles(profile, kernel, threads) } : {}),
        });
      } catch (error) {
        await kernel.dispose();
        throw error;
      }
    }
    await pause?.();
    engine.add(number, model);
    return { cells: cellsOf(model), bytes: model.bytes };
  };
  const loaded = new Map<number, Loaded>();
  for (const one of sources) loaded.set(one.number, await load(one));
  return { engine, loaded, load };
}

function logTo(record: NonNullable<EngineConfig["record"]>, policy: PolicyName): DecisionLog {
  // An engine's thread never comes to the turn of its event loop in which a warning would be written.
  const failed = ({ message }: Error) => writeSync(2, `cellbatch: an engine records no more: ${message}\n`);
  const file = new RecordingFile({ ...record, life: threadId, failed });
  return new DecisionLog(file, wallClock, { policy, epochMs: performance.timeOrigin });
}

function cellsOf(model: LoadedModel | GraphLane): CellInfo[] {
  return model.definition.cells.map(({ name, body }, i) => ({
    name,
    kind: body.kind,
    maxBatch: model instanceof GraphLane ? model.maxBatch : model.types[i]!.maxBatch,
  }));
}

async function loadGraph(
  definition: ModelDefinition,
  options: SessionOptions,
  profile: Profile | undefined,
): Promise<GraphLane> {
  const { cell: name } = definition.program as WholeGraph;
  const cell = definition.cells.find((one) => one.name === name);
  const leastMs = profile && storedGraphTimes(profile, name, options.threads);
  const lane = new GraphLane(definition, await OnnxGraphKernel.load(cell!, options), leastMs);
  await lane.warmUp();
  return lane;
}

/** About how many bytes one engine will hold for a model once it is loaded and has no sessions. */
export function bytesToLoad({ cells, program }: ModelDefinition): number {
  // Measuring takes as many slots.
  const slots = program.kind === "graph" ? 0 : 2 * FORM_LIMITS.maxBatch + 1;
  return bytesOfCells(cells, slots);
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
