import { availableParallelism, cpus } from "node:os";
import { env } from "onnxruntime-node";
import type { Machine } from "../core/profile.ts";

/** What times of cells depend on, of the machine that this runs on. */
export function thisMachine(): Machine {
  return {
    cpu: cpus()[0]?.model.trim() || process.arch,
    cores: availableParallelism(),
    node: process.versions.node,
    onnxruntime: env.versions.node ?? env.versions.common,
  };
}
