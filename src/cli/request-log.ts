import type { Logger } from "pino";
import type { Value, Values } from "../runtime/types.ts";
import type { Served } from "../server/oip/statistics.ts";

/**
 * Logs a line for every request at `debug`, and those that failed for no fault of their caller at `error`, with the cause.
 * What callers sent, and sentences that may quote it, are logged only with `withInputs`.
 */
export function requestLog(log: Logger, withInputs: boolean): (model: string, served: Served) => void {
  return (model, served) => {
    const { code, fault, totalMs, queueMs, computeMs, cells } = served;
    if (code === "INTERNAL") log.error({ model, err: fault }, "a request failed inside the server");
    if (!log.isLevelEnabled("debug")) return;
    const inputs = withInputs && served.inputs ? { inputs: shown(served.inputs) } : {};
    const why = withInputs && fault ? { why: fault.message } : {};
    const times = { ms: round(totalMs), queue_ms: round(queueMs), compute_ms: round(computeMs) };
    log.debug({ model, code, ...times, cells, ...why, ...inputs }, "request");
  };
}

function shown(inputs: Values): Record<string, unknown> {
  return Object.fromEntries(Object.entries(inputs).map(([name, value]) => [name, shownValue(value)]));
}

/** Text as it is; the beginning of a tensor. */
function shownValue(value: Value): unknown {
  if (typeof value === "string") return value;
  const { shape, data } = value;
  return { shape, data: Array.from(data.subarray(0, MOST_VALUES)) };
}

const MOST_VALUES = 16;

function round(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
