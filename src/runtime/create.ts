import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import type { ModelDefinition } from "../../models/definition.ts";
import { readModel } from "../../models/read-model.ts";
import type { PolicyName } from "../../scheduler/policy.ts";
import { Fault } from "../core/faults.ts";
import { type Profile, parseProfile } from "../core/profile.ts";
import { definitionOf, type EngineConfig, type ModelSource } from "../engine/load.ts";
import { thisMachine } from "../engine/machine.ts";
import { checkProfile } from "../engine/stored-profile.ts";
import { type LinkEvents, openInline, openThread } from "./link.ts";
import { isPipeline, type PipelineDefinition } from "./pipelines.ts";
import { EngineRuntime } from "./runtime.ts";
import { servedModel } from "./served-model.ts";
import type { Runtime } from "./types.ts";

export interface RuntimeSettings {
  /**
   * What to serve: folders with a `model.json`, paths of modules (`.js`, `.mjs`) whose default export is a model, or
   * definitions. A definition with an `unfold` function cannot be sent to a thread and needs `inline`.
   */
  readonly models: readonly (string | ModelDefinition)[];
  /** Threads that each run all models on one core; 1 or more. Each costs the weights once more. @default one per core */
  readonly engines?: number;
  /** Threads of each engine's ONNX Runtime; more than 1 pays only where cores are free. @default 1 */
  readonly threads?: number;
  /**
   * Execution providers of ONNX Runtime in order of preference, `["cuda", "cpu"]` say. Throws INVALID_REQUEST for one that is
   * not there. States cross to a device and back at every step. @default ["cpu"]
   */
  readonly providers?: readonly string[];
  /**
   * `cuda` runs the cells of LSTM, GRU, tree-LSTM and linear models on an NVIDIA GPU, and throws MODEL_NOT_READY where there is
   * none; `auto` falls back to the CPU. Other models stay on the CPU. @default "cpu"
   */
  readonly device?: EngineConfig["device"];
  /** Runs one engine on this thread, for scripts and tests; every step then blocks the event loop. @default false */
  readonly inline?: boolean;
  /** Most rows of one task. @default where the measured rate reaches 97 % of its best */
  readonly maxBatch?: number;
  /**
   * What runs the cells: `"onnx"`, or the path of a module (`.js`, `.mjs`) whose default export is a `KernelFactory`, loaded on
   * every engine's thread, or such a function itself, which needs `inline`. Models that are one graph stay with ONNX Runtime.
   * @default the native kernel where it was built and computes all cells of a model, else ONNX Runtime
   */
  readonly kernel?: EngineConfig["kernel"];
  /** How the next cell type is chosen. @default "cellular" */
  readonly policy?: PolicyName;
  /** Requests and sessions that may be active or queued; one more is refused with OVERLOADED. @default 10 000 */
  readonly maxActive?: number;
  /**
   * What cells cost here, measured earlier by `cellbatch profile`: files, or what is in them; at most one for each model. Models
   * without one are measured when they are loaded. A profile of another model or machine is refused.
   */
  readonly profiles?: readonly (string | Profile)[];
}

/** Loads models, measures their cells and starts engines. Throws a `Fault` that names the model that cannot be loaded. */
export async function createRuntime(settings: RuntimeSettings): Promise<Runtime> {
  const { inline = false, threads = 1, maxBatch, policy = "cellular", maxActive = 10_000 } = settings;
  const engines = inline ? 1 : (settings.engines ?? availableParallelism());
  for (const [name, value] of Object.entries({ engines, threads, maxActive, maxBatch: maxBatch ?? 1 })) {
    if (!Number.isInteger(value) || value < 1) {
      throw new Fault("INVALID_REQUEST", `'${name}' is ${value}, it must be an integer of 1 or more`);
    }
  }
  const named = await Promise.all(settings.models.map(sourceOf));
  const { sources, pipelines } = await divide(named);
  const definitions = await Promise.all(sources.map(definitionOf));
  const names = new Set<string>();
  for (const { name } of [...definitions, ...pipelines]) {
    if (names.has(name)) throw new Fault("INVALID_REQUEST", `two models are named '${name}'`);
    names.add(name);
  }
  definitions.forEach(({ name, program }, i) => {
    if (!inline && program.kind === "custom" && "definition" in sources[i]!) {
      throw new Fault(
        "INVALID_REQUEST",
        `model '${name}' has a function and cannot be sent to a thread: give the path of its module, or 'inline: true'`,
      );
    }
  });
  const { kernel } = settings;
  if (typeof kernel === "function" && !inline) {
    throw new Fault(
      "INVALID_REQUEST",
      "a kernel that is a function cannot be sent to a thread: give the path of its module, or 'inline: true'",
    );
  }
  const { device = "cpu", providers } = settings;
  if (settings.profiles?.length && (kernel !== undefined || providers !== undefined || device !== "cpu")) {
    throw new Fault(
      "INVALID_REQUEST",
      "profiles are of the CPU's default kernel: leave out 'profiles', or 'kernel', 'providers' and 'device'",
    );
  }
  const profiles = await profilesOf(settings.profiles ?? [], definitions);
  const config: EngineConfig = {
    policy,
    threads,
    device,
    profiles,
    ...(maxBatch === undefined ? {} : { maxBatch }),
    ...(providers === undefined ? {} : { providers }),
    ...(kernel === undefined
      ? {}
      : { kernel: typeof kernel === "string" && kernel !== "onnx" ? moduleUrl(kernel) : kernel }),
  };
  const served = await Promise.all(definitions.map(servedModel));
  const open = (events: LinkEvents) =>
    (inline ? openInline : openThread)(sources.map(withoutTexts), config, events);
  const runtime = new EngineRuntime(served, pipelines, open, { engines, maxActive });
  await runtime.start();
  return runtime;
}

/** By name of the model. Throws INVALID_REQUEST where one is of no model here, or of another machine. */
async function profilesOf(
  given: readonly (string | Profile)[],
  definitions: readonly ModelDefinition[],
): Promise<Record<string, Profile>> {
  const profiles: Record<string, Profile> = {};
  for (const one of given) {
    const profile = typeof one === "string" ? await readProfile(one) : one;
    const { name } = profile.model;
    const definition = definitions.find((model) => model.name === name);
    if (!definition) {
      const names = definitions.map((model) => model.name).join(", ");
      throw new Fault("INVALID_REQUEST", `a profile is of model '${name}', loaded are ${names}`);
    }
    if (name in profiles) throw new Fault("INVALID_REQUEST", `two profiles are of model '${name}'`);
    checkProfile(profile, definition, thisMachine());
    profiles[name] = profile;
  }
  return profiles;
}

async function readProfile(file: string): Promise<Profile> {
  const text = await readFile(file, "utf8").catch((error: Error) => {
    throw new Fault("INVALID_REQUEST", `profile ${file} cannot be read: ${error.message}`);
  });
  return parseProfile(text, file);
}

/** The definition of a model that is named by its folder or the path of its module. */
export async function modelDefinition(model: string): Promise<ModelDefinition> {
  return definitionOf(await sourceOf(model));
}

/** What engines run, and the pipelines of that; models in a pipeline's folder are served as if they had been named too. */
async function divide(
  named: readonly ModelSource[],
): Promise<{ readonly sources: readonly ModelSource[]; readonly pipelines: readonly PipelineDefinition[] }> {
  const sources: ModelSource[] = [];
  const pipelines: PipelineDefinition[] = [];
  for (const source of named) {
    const definition = await definitionOf(source);
    if (!isPipeline(definition)) sources.push(source);
    else {
      pipelines.push(definition);
      sources.push(...(definition.parts ?? []).map((part) => ({ definition: part })));
    }
  }
  return { sources, pipelines };
}

/** What an engine needs: it knows tensors only, and a vocabulary may take megabytes on every thread. */
function withoutTexts(source: ModelSource): ModelSource {
  if (!("definition" in source)) return source;
  const { text: _, ...definition } = source.definition;
  return { definition };
}

async function sourceOf(model: string | ModelDefinition): Promise<ModelSource> {
  if (typeof model !== "string") return { definition: model };
  if (/\.[cm]?[jt]s$/.test(model)) return { module: moduleUrl(model) };
  return { definition: await readModel(model) };
}

function moduleUrl(path: string): string {
  return pathToFileURL(resolve(path)).href;
}
