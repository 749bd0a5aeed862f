import type { KernelFactory } from "../../kernels/kernel.ts";
import { allRunNatively } from "../../kernels/native/cells.ts";
import { createNativeKernel } from "../../kernels/native/kernel.ts";
import { type Numbers, nativeStatus } from "../../kernels/native/load.ts";
import { OnnxKernel } from "../../kernels/onnx/onnx.ts";
import type { SessionOptions } from "../../kernels/onnx/session.ts";
import { Fault } from "../core/faults.ts";

/** `auto` takes an NVIDIA GPU where there is one; `cuda` refuses to start without. */
export type Device = "cpu" | "cuda" | "auto";

export interface KernelChoice {
  /** Models with cells that the native kernel cannot compute, such as ONNX graphs, stay on the CPU. */
  readonly device: Device;
  /** What a GPU multiplies; others than `fp32` are refused where there is none, or where a module's kernel takes its place. */
  readonly numbers?: Numbers;
  /** Of ONNX Runtime. */
  readonly session: SessionOptions;
  /**
   * `onnx`, or the URL of a module whose default export loads the kernel of cells, or that function; a function or module
   * overrides `device`. By default the native kernel where it was built and computes all cells of a model, else `onnx`.
   */
  readonly kernel?: string | KernelFactory;
}

/** What loads the kernels of an engine. Throws MODEL_NOT_READY where the device is not there, INVALID_REQUEST for numbers it has not. */
export async function kernelsFor({
  device,
  numbers = "fp32",
  session,
  kernel,
}: KernelChoice): Promise<KernelFactory> {
  const isModule = kernel !== undefined && kernel !== "onnx";
  if (numbers !== "fp32" && (device === "cpu" || isModule))
    throw onlyOnGpus(numbers, isModule ? "a kernel of your own was given" : "the device is 'cpu'");
  if (typeof kernel === "function") return kernel;
  if (kernel !== undefined && kernel !== "onnx") return moduleFactory(kernel);
  const { reason, message, vectorBits } = nativeStatus();
  // What was asked of ONNX Runtime by name is left to it.
  const programs = kernel === undefined ? {} : { vectorBits: 0 };
  const onnx: KernelFactory = (cells, options) =>
    OnnxKernel.load(cells, { ...session, ...programs, ...options });
  // It runs on one thread.
  const isNative = kernel === undefined && vectorBits > 0 && session.threads === 1 && !session.providers;
  const native = createNativeKernel({ device: "cpu" });
  const onCpu: KernelFactory = (cells, options) =>
    (isNative && allRunNatively(cells) ? native : onnx)(cells, options);
  if (device === "cpu") return onCpu;
  if (reason !== "ok") {
    if (device === "auto" && numbers !== "fp32") throw onlyOnGpus(numbers, message);
    if (device === "auto") return onCpu;
    throw new Fault("MODEL_NOT_READY", message);
  }
  const onGpu = createNativeKernel({ device: "cuda", numbers });
  return (cells, options) => (allRunNatively(cells) ? onGpu : onCpu)(cells, options);
}

function onlyOnGpus(numbers: Numbers, instead: string): Fault {
  return new Fault(
    "INVALID_REQUEST",
    `numbers '${numbers}' are multiplied by the CUDA kernel alone, and ${instead}; leave them out, or take 'fp32'`,
  );
}

async function moduleFactory(url: string): Promise<KernelFactory> {
  const { default: load } = (await import(url)) as { default?: KernelFactory };
  if (typeof load === "function") return load;
  throw new Fault(
    "INVALID_REQUEST",
    `module '${url}' has no function as its default export that loads a kernel`,
  );
}
