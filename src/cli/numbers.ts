import { InvalidArgumentError } from "commander";
import type { SizedGoal } from "../../planner/multi-buffer.ts";

/** Parses a number above 0. */
export function positive(text: string): number {
  const value = Number(text);
  if (text.trim() !== "" && Number.isFinite(value) && value > 0) return value;
  throw new InvalidArgumentError("It must be a number above 0.");
}

/** Parses a goal such as `p95=200ms`, `p99=1.5s`, or `p95=300ms/size` for milliseconds per unit of a request's size. */
export function goalOf(text: string): SizedGoal {
  const match = /^p(\d+(?:\.\d+)?)=(\d+(?:\.\d+)?)(ms|s)(\/size)?$/.exec(text.trim());
  const percentile = Number(match?.[1]);
  const ms = Number(match?.[2]) * (match?.[3] === "s" ? 1000 : 1);
  if (!match || !(percentile > 0 && percentile < 100) || !(ms > 0))
    throw new InvalidArgumentError(
      "It must be a percentile and a time, as p95=200ms, p99=1.5s or p95=30ms/size.",
    );
  return { percentile, ms, perSize: match[4] !== undefined };
}
