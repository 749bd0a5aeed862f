import { Fault } from "../../core/faults.ts";
import type { RequestOptions } from "../../runtime/types.ts";
import type { Parameters, ParameterValue } from "./types.ts";

/** Which sequence a request belongs to. */
export interface SequenceParameters {
  /** The client's id with its type, since the number 42 and the string "42" are different; undefined where it gave none. */
  readonly key: string | undefined;
  /** The id as it came, for messages. */
  readonly id: string;
  readonly start: boolean;
  readonly end: boolean;
}

const MAX_ID_LENGTH = 1024;

/** Throws INVALID_REQUEST for a value of a wrong type or out of bounds. 0 and "" are no id. */
export function sequenceOf(parameters: Parameters): SequenceParameters {
  const id = parameters.get("sequence_id");
  const start = flag(parameters, "sequence_start");
  const end = flag(parameters, "sequence_end");
  if (id === undefined || id === 0 || id === "") return { key: undefined, id: "", start, end };
  if (typeof id === "string") {
    if (id.length > MAX_ID_LENGTH)
      throw unable("sequence_id", `${id.length} characters, at most ${MAX_ID_LENGTH}`);
    return { key: `s${id}`, id, start, end };
  }
  const number = unsigned("sequence_id", id);
  return { key: `n${number}`, id: `${number}`, start, end };
}

/** What a request says to the scheduler and to a generating model. Throws INVALID_REQUEST. */
export function optionsOf(parameters: Parameters): RequestOptions {
  const priority = integer(parameters, "priority");
  const timeoutUs = integer(parameters, "timeout");
  const maxSteps = integer(parameters, "max_steps");
  const topK = integer(parameters, "top_k");
  const seed = integer(parameters, "seed");
  const beamWidth = integer(parameters, "beam_width");
  const temperature = decimal(parameters, "temperature");
  const topP = decimal(parameters, "top_p");
  return {
    // 0 is the default class, and no time limit, as in Triton.
    ...(priority ? { priority } : {}),
    ...(timeoutUs ? { timeoutMs: timeoutUs / 1000 } : {}),
    ...(maxSteps === undefined ? {} : { maxSteps }),
    ...(temperature === undefined ? {} : { temperature }),
    ...(topK === undefined ? {} : { topK }),
    ...(topP === undefined ? {} : { topP }),
    ...(seed === undefined ? {} : { seed }),
    ...(beamWidth === undefined ? {} : { beamWidth }),
  };
}

/** A switch that is off by default. Throws INVALID_REQUEST unless it is a boolean. */
export function flag(parameters: Parameters, name: string): boolean {
  const value = parameters.get(name) ?? false;
  if (typeof value === "boolean") return value;
  throw unable(name, `${show(value)} is no boolean`);
}

/** Throws INVALID_REQUEST for a parameter whose name is kept for the protocol, unless it is among `allowed`. */
export function refuseReserved(parameters: Parameters, allowed: readonly string[]): void {
  for (const name of parameters.keys()) {
    if (!name.startsWith("triton_") || allowed.includes(name)) continue;
    const why =
      allowed.length === 0
        ? "parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified."
        : `parameter keys starting with 'triton_' are reserved for Triton usage. Only the following keys starting with 'triton_' are allowed: ${allowed.join(", ")}`;
    throw new Fault("INVALID_REQUEST", `${why} Got '${name}'`);
  }
}

function integer(parameters: Parameters, name: string): number | undefined {
  const value = parameters.get(name);
  return value === undefined ? undefined : Number(unsigned(name, value));
}

function decimal(parameters: Parameters, name: string): number | undefined {
  const value = parameters.get(name);
  if (value === undefined) return undefined;
  if (typeof value !== "number" && typeof value !== "bigint")
    throw unable(name, `${show(value)} is no number`);
  return Number(value);
}

/** An unsigned 64-bit integer, exact. */
function unsigned(name: string, value: ParameterValue): bigint {
  if (typeof value !== "bigint" && !(typeof value === "number" && Number.isSafeInteger(value))) {
    throw unable(name, `${show(value)} is no unsigned 64-bit integer`);
  }
  const integer = BigInt(value);
  if (integer < 0n) throw unable(name, `invalid value for '${name}', expected value >= 0., got ${integer}`);
  if (integer >= 1n << 64n) throw unable(name, `${integer} is no unsigned 64-bit integer`);
  return integer;
}

function unable(name: string, why: string): Fault {
  return new Fault("INVALID_REQUEST", `Unable to parse '${name}': ${why}`);
}

function show(value: ParameterValue): string {
  return typeof value === "string" ? JSON.stringify(value.slice(0, 80)) : `${value}`;
}
