import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import type { ModelDefinition } from "../../models/definition.ts";
import { readModel } from "../../models/read-model.ts";
import type { PolicyName } from "../../scheduler/policy.ts";
import { Fault } from "../core/faults.ts";
import { type Profile, parseProfile } from "../core/profile.ts";
import { RECORDING_BYTES } from "../core/recording.ts";
import { definitionOf, type EngineConfig, type ModelSource } from "../engine/load.ts";
import type { OpenLink } from "./engines.ts";
import { openInline, openThread } from "./link.ts";
import { readOnThread } from "./read.ts";
import { beginRecording } from "./recording.ts";
import { EngineRuntime } from "./runtime.ts";
import { shareWeights } from "./share.ts";
import type { Runtime } from "./types.ts";

export interface RuntimeSettings {
  /**
   * What to serve: folders with a `model.json`, paths of modules (`.js`, `.mjs`) whose default export is a model, or
   * definitions. A definition with an `unfold` function cannot be sent to a thread and needs `inline`.
   */
  readonly models: readonly (string | ModelDefinition)[];
  /**
   * Threads that each run all models on one core; 1 or more. Each costs the weights once more.
   * @default one per core; 1 with the provider `webgpu`, where more are refused
   */
  readonly engines?: number;
  /** Threads of each engine's ONNX Runtime; more than 1 pays only where cores are free. @default 1 */
  readonly threads?: number;
  /**
   * Execution providers of ONNX Runtime in order of preference, `["cuda", "cpu"]` say. Throws INVALID_REQUEST for one that is
   * not there. With `webgpu` first, states stay on the device between steps; with others they cross to it and back. One runtime of a
   * process may use `webgpu`: ONNX Runtime crashes where two threads do. @default ["cpu"]
   */
  readonly providers?: readonly string[];
  /**
   * `cuda` runs the cells of LSTM, GRU, tree-LSTM and linear models on an NVIDIA GPU, and throws MODEL_NOT_READY where there is
   * none; `auto` falls back to the CPU. Other models stay on the CPU. @default "cpu"
   */
  readonly device?: EngineConfig["device"];
  /**
   * What a GPU multiplies: `tf32` and `bf16` on its tensor cores, off by some 1e-3 and 1e-2 of a state; sums and states are float32
   * with all of them. Throws INVALID_REQUEST for others than `fp32` where no GPU runs the cells. @default "fp32"
   */
  readonly numbers?: EngineConfig["numbers"];
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
   * Bytes of weights, state rows and buffers that all engines together may hold; a model that would take more is refused
   * with OVERLOADED. Without what ONNX Runtime adds, mostly as much again for packed weights. @default no limit
   */
  readonly memoryLimit?: number;
  /**
   * What cells cost here, measured earlier by `cellbatch profile`: files, or what is in them; at most one for each model. Models
   * without one are measured when they are loaded. A profile of another model or machine is refused.
   */
  readonly profiles?: readonly (string | Profile)[];
  /**
   * File to whose end every batch is written, and all that it followed from, for `cellbatch replay`: times, lengths, classes,
   * time limits and names of models; nothing of what requests hold. One server at a time writes to a file.
   * @default nothing is recorded
   */
  readonly record?: string;
  /** Bytes that the file may have; an engine that would make it larger says so on stderr and records no more. @default 1 GiB */
  readonly recordLimit?: number;
}

/** Loads models, measures their cells and starts engines. Throws a `Fault` that names the model that cannot be loaded. */
export async function createRuntime(settings: RuntimeSettings): Promise<Runtime> {
  const { inline = false, threads = 1, maxBatch, policy = "cellular", maxActive = 10_000 } = settings;
  const { memoryLimit = Number.POSITIVE_INFINITY, recordLimit = RECORDING_BYTES } = settings;
  const { device = "cpu", providers } = settings;
  const usesWebGpu = providers?.includes("webgpu") === true;
  const engines = inline ? 1 : (settings.engines ?? (usesWebGpu ? 1 : availableParallelism()));
  for (const [name, value] of Object.entries({
    engines,
    threads,
    maxActive,
    maxBatch: maxBatch ?? 1,
    recordLimit,
  })) {
    if (!Number.isInteger(value) || value < 1) {
      throw new Fault("INVALID_REQUEST", `'${name}' is ${value}, it must be an integer of 1 or more`);
    }
  }
  const { kernel, record } = settings;
  if (typeof kernel === "function" && !inline) {
    throw new Fault(
      "INVALID_REQUEST",
      "a kernel that is a function cannot be sent to a thread: give the path of its module, or 'inline: true'",
    );
  }
  if (usesWebGpu && engines > 1) {
    throw new Fault(
      "INVALID_REQUEST",
      `'engines' is ${engines}, with the provider 'webgpu' it must be 1: ONNX Runtime crashes where two threads use WebGPU`,
    );
  }
  if (settings.profiles?.length && (kernel !== undefined || providers !== undefined || device !== "cpu")) {
    throw new Fault(
      "INVALID_REQUEST",
      "profiles are of the CPU's default kernel: leave out 'profiles', or 'kernel', 'providers' and 'device'",
    );
  }
  const profiles = await profilesOf(settings.profiles ?? []);
  const config: EngineConfig = {
    policy,
    threads,
    device,
    profiles,
    ...(maxBatch === undefined ? {} : { maxBatch }),
    ...(settings.numbers === undefined ? {} : { numbers: settings.numbers }),
    ...(providers === undefined ? {} : { providers }),
    ...(record === undefined ? {} : { record: { path: record, limit: recordLimit } }),
    ...(kernel === undefined
      ? {}
      : { kernel: typeof kernel === "string" && kernel !== "onnx" ? moduleUrl(kernel) : kernel }),
  };
  if (record !== undefined) await beginRecording(record, { engines, policy });
  const open: OpenLink = (models, events) => (inline ? openInline : openThread)(models, config, events);
  const runtime = new EngineRuntime(open, {
    engines,
    maxActive,
    memoryLimit,
    sourceOf: inline ? sourceOf : (model) => sourceForThreads(model, readModel),
    sourceWhileRunning: inline ? sourceOf : (model) => sourceForThreads(model, readOnThread),
  });
  await runtime.start(settings.models);
  try {
    refuseUnused(profiles, runtime);
  } catch (error) {
    await runtime.close(0);
    throw error;
  }
  return runtime;
}

/** By name of the model. */
async function profilesOf(given: readonly (string | Profile)[]): Promise<Record<string, Profile>> {
  const profiles: Record<string, Profile> = {};
  for (const one of given) {
    const profile = typeof one === "string" ? await readProfile(one) : one;
    const { name } = profile.model;
    if (name in profiles) throw new Fault("INVALID_REQUEST", `two profiles are of model '${name}'`);
    profiles[name] = profile;
  }
  return profiles;
}

/** Throws INVALID_REQUEST where a profile is of no model that was loaded. */
function refuseUnused(profiles: Readonly<Record<string, Profile>>, { models }: Runtime): void {
  const unused = Object.keys(profiles).find((name) => !models.some((model) => model.name === name));
  if (unused === undefined) return;
  const names = models.map(({ name }) => name).join(", ");
  throw new Fault("INVALID_REQUEST", `a profile is of model '${unused}', loaded are ${names}`);
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

async function sourceOf(model: string | ModelDefinition): Promise<ModelSource> {
  if (typeof model !== "string") return { definition: model };
  if (MODULE.test(model)) return { module: moduleUrl(model) };
  return { definition: await readModel(model) };
}

function moduleUrl(path: string): string {
  return pathToFileURL(resolve(path)).href;
}

/** As `sourceOf`, for threads; `read` reads a folder. Throws INVALID_REQUEST where the definition cannot be sent to one. */
async function sourceForThreads(
  model: string | ModelDefinition,
  read: (folder: string) => Promise<ModelDefinition>,
): Promise<ModelSource> {
  const isFolder = typeof model === "string" && !MODULE.test(model);
  const source = isFolder ? { definition: await read(model) } : await sourceOf(model);
  if ("module" in source) return source;
  const { name, program } = source.definition;
  if (program.kind !== "custom") return { definition: shareWeights(source.definition) };
  throw new Fault(
    "INVALID_REQUEST",
    `model '${name}' has a function and cannot be sent to a thread: give the path of its module, or 'inline: true'`,
  );
}

const MODULE = /\.[cm]?[jt]s$/;
