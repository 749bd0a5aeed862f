import type { Tensor } from "../../core/tensor.ts";

/** A parameter as it came: integers that JSON numbers cannot hold exactly are `bigint`. */
export type ParameterValue = string | number | bigint | boolean;
export type Parameters = ReadonlyMap<string, ParameterValue>;

/** Where the values of a tensor are. */
export type TensorSource =
  /** Little-endian, row-major, at any offset; BYTES elements each after their length in 4 bytes. */
  | { readonly kind: "bytes"; readonly bytes: Uint8Array }
  /** Values row-major, flat or nested as the shape says. */
  | { readonly kind: "values"; readonly values: readonly unknown[] };

/** A tensor as a client sent it; nothing about it is checked but the types. */
export interface InputTensor {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
  readonly source: TensorSource;
}

/** An inference request of the Open Inference Protocol, whichever door it came through. */
export interface InferRequest {
  readonly model: string;
  /** Any where it is undefined. */
  readonly version: string | undefined;
  /** Handed back with the answer. */
  readonly id: string;
  readonly parameters: Parameters;
  readonly inputs: readonly InputTensor[];
  /** Names of the outputs that are wanted, in order; all where it is undefined. */
  readonly outputs: readonly string[] | undefined;
  /** Of W3C Trace Context: the client's span. */
  readonly traceparent?: string | undefined;
}

/** One output of an answer: a tensor, or text elements with their shape. */
export type OutputTensor =
  | { readonly name: string; readonly tensor: Tensor }
  | { readonly name: string; readonly shape: readonly number[]; readonly texts: readonly string[] };

export interface InferAnswer {
  readonly id: string;
  readonly model: string;
  readonly version: string;
  readonly parameters: Readonly<Record<string, string | boolean>>;
  readonly outputs: readonly OutputTensor[];
}
