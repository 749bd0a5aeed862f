import { createRequire } from "node:module";
import { InferenceSession, type Tensor } from "onnxruntime-node";
import { Fault } from "../../src/core/faults.ts";

/** An ONNX Runtime session that runs on the calling thread. */
export interface Session {
  /** What it holds, where that is not about the size of its graph. */
  readonly bytes?: number;
  /** Reads `feeds` and writes into the arrays of `fetches`. A promise only where the synchronous binding is missing. */
  run(feeds: Tensors, fetches: Tensors): void | Promise<void>;
  /** Reads `feeds` and makes new tensors for the outputs of these names, for graphs whose sizes only the run tells. */
  infer(feeds: Tensors, names: readonly string[]): Tensors | Promise<Tensors>;
  dispose(): void | Promise<void>;
}

export type Tensors = Record<string, Tensor>;

export interface SessionOptions {
  /** Threads of one call, of which the caller's is one. */
  readonly threads: number;
  /** ONNX Runtime's execution providers in order of preference. @default ["cpu"] */
  readonly providers?: readonly string[];
  /**
   * Outputs that stay on the device, for `infer`: buffers of WebGPU, for ONNX Runtime's binding for Node knows no others. They
   * go in again as they are; `getData()` on one aborts the process, and `run` would leave the arrays of its fetches as they
   * are. @default none
   */
  readonly onDevice?: readonly string[];
}

/** Whether sessions run synchronously: the binding below ONNX Runtime's public interface can be loaded. */
export function isSynchronous(): boolean {
  return loadBinding() !== null;
}

/**
 * Loads a graph. Throws INVALID_REQUEST where a provider cannot be had. `InferenceSession.run` calls the native run inside `setImmediate`, which costs
 * 2 us and a turn of the event loop; the binding below it is synchronous, so an engine's loop takes that where it can be
 * loaded (it is no public interface) and the public one elsewhere.
 */
export async function loadSession(
  onnx: Uint8Array,
  { threads, providers = CPU, onDevice = [] }: SessionOptions,
): Promise<Session> {
  const locations = Object.fromEntries(onDevice.map((name) => [name, "gpu-buffer"] as const));
  const options = {
    ...OPTIONS,
    executionProviders: [...providers],
    intraOpNumThreads: threads,
    ...(onDevice.length > 0 ? { preferredOutputLocation: locations } : {}),
  };
  const refuse = (error: unknown): never => {
    if (providers === CPU) throw error;
    const reason = (error as Error).message.trim().split("\n").at(-1);
    throw new Fault(
      "INVALID_REQUEST",
      `ONNX Runtime cannot use the providers ${providers.map((name) => `'${name}'`).join(", ")} here: ${reason}`,
      { cause: error },
    );
  };
  const native = loadBinding();
  if (!native) {
    const session = await InferenceSession.create(onnx, options).catch(refuse);
    return {
      run: (feeds, fetches) => session.run(feeds, fetches).then(() => undefined),
      infer: (feeds, names) => session.run(feeds, names) as Promise<Tensors>,
      dispose: () => session.release(),
    };
  }
  const session = new native.InferenceSession();
  try {
    session.loadModel(onnx.buffer, onnx.byteOffset, onnx.byteLength, options);
  } catch (error) {
    refuse(error);
  }
  return {
    run: (feeds, fetches) => {
      session.run(feeds, fetches, RUN_OPTIONS);
    },
    infer: (feeds, names) =>
      session.run(feeds, Object.fromEntries(names.map((name) => [name, null])), RUN_OPTIONS),
    dispose: () => session.dispose(),
  };
}

/** Writes a graph as it is once constants and what depends on them alone have been folded. */
export async function writeOptimized(onnx: Uint8Array, file: string): Promise<void> {
  const session = await InferenceSession.create(onnx, {
    ...OPTIONS,
    executionProviders: [...CPU],
    graphOptimizationLevel: "basic",
    optimizedModelFilePath: file,
  });
  await session.release();
}

const CPU: readonly string[] = ["cpu"];
const OPTIONS = {
  interOpNumThreads: 1,
  executionMode: "sequential",
  graphOptimizationLevel: "all",
  // Errors reach the caller, who need not read them twice.
  logSeverityLevel: 4,
} as const;
const RUN_OPTIONS = {};

interface NativeSession {
  loadModel(buffer: ArrayBufferLike, offset: number, length: number, options: object): void;
  run(feeds: Tensors, fetches: Record<string, Tensor | null>, options: object): Tensors;
  dispose(): void;
}

interface Native {
  readonly InferenceSession: new () => NativeSession;
}

let cached: Native | null | undefined;

function loadBinding(): Native | null {
  if (cached === undefined) {
    try {
      const loaded = createRequire(import.meta.url)("onnxruntime-node/dist/binding.js");
      loaded.initOrt();
      cached = typeof loaded.binding.InferenceSession === "function" ? (loaded.binding as Native) : null;
    } catch {
      cached = null;
    }
  }
  return cached;
}
