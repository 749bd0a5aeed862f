import type { ClientParameters } from "./messages.ts";
import type { DoorOptions } from "./oip/statistics.ts";

/** The options that a message asks for. */
export function optionsOf(message: {
  readonly version?: string | undefined;
  readonly parameters?: ClientParameters | undefined;
}): DoorOptions {
  const { version, parameters = {} } = message;
  const { priority, timeout_ms, max_steps, temperature, top_k, top_p, seed, beam_width } = parameters;
  const { traceparent } = parameters;
  return {
    ...(version === undefined ? {} : { version }),
    ...(traceparent === undefined ? {} : { traceparent }),
    ...(priority ? { priority } : {}),
    ...(timeout_ms === undefined ? {} : { timeoutMs: timeout_ms }),
    ...(max_steps === undefined ? {} : { maxSteps: max_steps }),
    ...(temperature === undefined ? {} : { temperature }),
    ...(top_k === undefined ? {} : { topK: top_k }),
    ...(top_p === undefined ? {} : { topP: top_p }),
    ...(seed === undefined ? {} : { seed }),
    ...(beam_width === undefined ? {} : { beamWidth: beam_width }),
  };
}
