import type { Kernel } from "../../kernels/kernel.ts";
import type { ModelDefinition } from "../../models/definition.ts";
import { cellsDigest } from "../../models/digest.ts";
import { profiledSteps, STEP_ROWS, stepsPay } from "../../scheduler/several-steps.ts";
import { Fault } from "../core/faults.ts";
import type { Machine, Profile, ProfileSetting } from "../core/profile.ts";
import { type CellProfile, curveOf, kneeOf, uncosted } from "./profile.ts";

/**
 * Throws INVALID_REQUEST where a profile is not of this model on this machine. Other versions of Node.js and other versions of a
 * model with the same cells are taken: they do not change what a cell costs.
 */
export function checkProfile(profile: Profile, definition: ModelDefinition, machine: Machine): void {
  const { model, machine: measured } = profile;
  const refuse = (why: string) => {
    throw new Fault(
      "INVALID_REQUEST",
      `the profile of model '${model.name}' ${why}; measure again with 'cellbatch profile'`,
    );
  };
  const digest = cellsDigest(definition);
  if (model.digest !== digest) {
    refuse(
      `is of version ${model.version} with cells ${short(model.digest)}, what is loaded has ${short(digest)}`,
    );
  }
  for (const name of ["cpu", "cores", "onnxruntime"] as const) {
    if (measured[name] !== machine[name])
      refuse(`was measured with ${name} '${measured[name]}', this machine has '${machine[name]}'`);
  }
}

/** What was measured of every cell of a kernel, without measuring. Throws INVALID_REQUEST where the file lacks a cell or `threads`. */
export function storedProfiles(profile: Profile, kernel: Kernel, threads: number): CellProfile[] {
  return kernel.cells.map(({ name }, cell) => {
    const settings = settingsOf(profile, name, "cellular", threads);
    const points = settings.get(1)?.points.filter(({ rows }) => rows <= kernel.maxBatch);
    if (points?.[0]?.rows !== 1) {
      throw new Fault(
        "INVALID_REQUEST",
        `the profile of model '${profile.model.name}' has no single row of cell '${name}', one step per call`,
      );
    }
    const curve = curveOf(points.map(({ rows, us }) => [rows, us / 1000]));
    if (!curve) return uncosted(points.at(-1)!.rows);
    const steps = profiledSteps(kernel.stepSizes(cell));
    const callMs = new Map(settings.get(steps)?.points.map(({ rows, us }) => [rows, us / 1000]));
    let stepMs = curve.ms(1);
    let maxStepRows = 0;
    if (steps > 1) {
      for (const rows of STEP_ROWS) {
        const ms = callMs.get(rows);
        if (ms === undefined || rows > curve.maxRows) break;
        stepMs = Math.min(stepMs, ms / steps);
        if (!stepsPay(ms, steps, curve.ms(rows))) break;
        maxStepRows = rows;
      }
    }
    return { curve, knee: kneeOf(curve), maxStepRows, stepMs };
  });
}

/**
 * The least time of a whole graph for one request, in milliseconds, by its steps: a straight line between the sizes that were
 * measured, and beyond them the nearest.
 */
export function storedGraphTimes(profile: Profile, cell: string, threads: number): (steps: number) => number {
  const sizes = [...settingsOf(profile, cell, "graph", threads).values()]
    .map(({ size, points }) => ({ steps: size!, ms: points[0]!.us / 1000 }))
    .sort((a, b) => a.steps - b.steps);
  return (steps) => {
    const above = sizes.findIndex((one) => one.steps >= steps);
    const [low, high] = [sizes[above - 1], sizes[above]];
    if (!high) return sizes.at(-1)!.ms;
    if (!low) return high.ms;
    return low.ms + ((high.ms - low.ms) * (steps - low.steps)) / (high.steps - low.steps);
  };
}

/** By steps per call, or in the lane `graph` by size. */
function settingsOf(
  { model, cells }: Profile,
  name: string,
  lane: "cellular" | "graph",
  threads: number,
): ReadonlyMap<number, ProfileSetting> {
  const found = cells.find(({ cell, lane: its }) => cell === name && its === lane);
  if (!found) {
    throw new Fault(
      "INVALID_REQUEST",
      `the profile of model '${model.name}' has no cell '${name}' in the lane '${lane}'`,
    );
  }
  const settings = found.settings.filter((one) => one.threads === threads);
  if (settings.length === 0) {
    const measured = [...new Set(found.settings.map((one) => one.threads))].join(", ");
    throw new Fault(
      "INVALID_REQUEST",
      `the profile of model '${model.name}' was measured with ${measured} threads, not with ${threads}`,
    );
  }
  return new Map(settings.map((one) => [one.size ?? one.stepsPerCall, one]));
}

function short(digest: string): string {
  return digest.slice(0, "sha256:".length + 12);
}
