import { allRunNatively } from "../../kernels/cuda/cells.ts";
import { createCudaKernel } from "../../kernels/cuda/cuda.ts";
import { nativeStatus } from "../../kernels/cuda/native.ts";
import type { KernelFactory } from "../../kernels/kernel.ts";
import { OnnxKernel } from "../../kernels/onnx/onnx.ts";
import type { SessionOptions } from "../../kernels/onnx/session.ts";
import { Fault } from "../core/faults.ts";

/** `auto` takes an NVIDIA GPU where there is one; `cuda` refuses to start without. */
export type Device = "cpu" | "cuda" | "auto";

export interface KernelChoice {
  /** Models with cells that the GPU kernel cannot compute, such as ONNX graphs, stay on the CPU. */
  readonly device: Device;
  /** Of ONNX Runtime. */
  readonly session: SessionOptions;
  /** URL of a module whose default export loads the kernel of cells, or that function; overrides `device`. */
  readonly kernel?: string | KernelFactory;
}

/** What loads the kernels of an engine. Throws MODEL_NOT_READY where the device is not there. */
export async function kernelsFor({ device, session, kernel }: KernelChoice): Promise<KernelFactory> {
  if (typeof kernel === "function") return kernel;
  if (kernel !== undefined) return moduleFactory(kernel);
  const onCpu: KernelFactory = (cells) => OnnxKernel.load(cells, session);
  if (device === "cpu") return onCpu;
  const { reason, message } = nativeStatus();
  if (reason !== "ok") {
    if (device === "auto") return onCpu;
    throw new Fault("MODEL_NOT_READY", message);
  }
  const onGpu = createCudaKernel();
  return (cells) => (allRunNatively(cells) ? onGpu : onCpu)(cells);
}

async function moduleFactory(url: string): Promise<KernelFactory> {
  const { default: load } = (await import(url)) as { default?: KernelFactory };
  if (typeof load === "function") return load;
  throw new Fault(
    "INVALID_REQUEST",
    `module '${url}' has no function as its default export that loads a kernel`,
  );
}
