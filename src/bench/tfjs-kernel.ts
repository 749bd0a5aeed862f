import type { KernelFactory } from "../../kernels/kernel.ts";
import { createTfjsKernel } from "../../kernels/tfjs/tfjs.ts";
import { installedTfjs } from "./model-arm.ts";

/** The kernel of whichever TensorFlow.js is installed; an engine's thread loads this file by its path. */
const load: KernelFactory = async (cells) => {
  const name = installedTfjs()!;
  const loaded = await import(name);
  if (!name.endsWith("wasm")) return createTfjsKernel(loaded.default ?? loaded)(cells);
  const core = await import("@tensorflow/tfjs-core" as string);
  await core.setBackend("wasm");
  await core.ready();
  return createTfjsKernel(core)(cells);
};

export default load;
