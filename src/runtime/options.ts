import { Fault } from "../core/faults.ts";
import type { EngineOptions } from "../engine/messages.ts";
import type { RequestOptions } from "./types.ts";

/** Fills in defaults. Throws INVALID_REQUEST for a value out of bounds. */
export function engineOptions(options: RequestOptions, stream: boolean): EngineOptions {
  const {
    priority = 5,
    timeoutMs = Number.POSITIVE_INFINITY,
    maxSteps = Number.POSITIVE_INFINITY,
    temperature = 0,
    topK = 0,
    topP = 1,
    seed = 0,
    beamWidth,
  } = options;
  check(
    "priority",
    priority,
    Number.isInteger(priority) && priority >= 1 && priority <= 9,
    "an integer from 1 to 9",
  );
  check("timeoutMs", timeoutMs, timeoutMs > 0, "above 0");
  const steps = maxSteps === Number.POSITIVE_INFINITY || Number.isInteger(maxSteps);
  check("maxSteps", maxSteps, steps && maxSteps >= 1, "an integer of 1 or more");
  check("temperature", temperature, temperature >= 0 && temperature <= 100, "from 0 to 100");
  check("topK", topK, Number.isInteger(topK) && topK >= 0 && topK < 2 ** 31, "an integer of 0 or more");
  check("topP", topP, topP > 0 && topP <= 1, "above 0 and at most 1");
  check(
    "seed",
    seed,
    Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32,
    "an integer from 0 to 4294967295",
  );
  const width = beamWidth ?? 1;
  check("beamWidth", width, Number.isInteger(width) && width >= 1 && width <= 64, "an integer from 1 to 64");
  return { priority, timeoutMs, maxSteps, temperature, topK, topP, seed, beamWidth: beamWidth ?? 0, stream };
}

function check(name: string, value: number, fits: boolean, bounds: string): void {
  if (!fits) throw new Fault("INVALID_REQUEST", `'${name}' is ${value}, it must be ${bounds}`);
}
