import { z } from "zod";
import { Fault, type FaultCode, faultCodes } from "../core/faults.ts";
import type { RequestOptions, Result, Value, Values } from "../runtime/types.ts";

/** A tensor in JSON: its elements as base64 of little-endian bytes. */
const tensor = z.strictObject({
  dtype: z.enum(["float32", "int32"]),
  shape: z.array(z.number().int().min(0)),
  base64: z.string(),
});
const values = z.record(z.string(), z.union([z.string(), tensor]));

const invocation = z.strictObject({
  model: z.string(),
  requests: z.array(z.strictObject({ inputs: values, options: z.record(z.string(), z.number()) })).min(1),
});

const answer = z.strictObject({
  results: z.array(
    z.union([
      z.strictObject({
        outputs: values,
        usage: z.strictObject({ cells: z.number(), queueMs: z.number(), computeMs: z.number() }),
      }),
      z.strictObject({
        error: z.strictObject({ code: z.enum(faultCodes as [FaultCode]), message: z.string() }),
      }),
    ]),
  ),
});

/** A batch as it goes to a function: plain JSON. */
export type Invocation = z.infer<typeof invocation>;
/** What a function answers: one result or error per request, in their order. */
export type Answer = z.infer<typeof answer>;

/** One request of a batch. */
export interface FunctionRequest {
  readonly inputs: Values;
  readonly options: RequestOptions;
}

export function invocationOf(model: string, requests: readonly FunctionRequest[]): Invocation {
  return {
    model,
    requests: requests.map(({ inputs, options }) => ({
      inputs: packed(inputs),
      options: Object.fromEntries(Object.entries(options).filter(([, value]) => typeof value === "number")),
    })),
  };
}

/** Throws INVALID_REQUEST where it is no batch. */
export function readInvocation(json: unknown): {
  readonly model: string;
  readonly requests: FunctionRequest[];
} {
  const { data, error } = invocation.safeParse(json);
  if (!data)
    throw new Fault("INVALID_REQUEST", `the function was called with no batch: ${z.prettifyError(error)}`);
  return {
    model: data.model,
    requests: data.requests.map(({ inputs, options }) => ({
      inputs: unpacked(inputs),
      options: options as RequestOptions,
    })),
  };
}

export function answerOf(results: readonly (Result | Fault)[]): Answer {
  return {
    results: results.map((one) =>
      one instanceof Fault
        ? { error: { code: one.code, message: one.message } }
        : { outputs: packed(one.outputs), usage: { ...one.usage } },
    ),
  };
}

/** Throws INTERNAL where it is no answer to a batch of so many requests. */
export function readAnswer(json: unknown, requests: number): (Result | Fault)[] {
  const { data } = answer.safeParse(json);
  if (!data)
    throw new Fault(
      "INTERNAL",
      `the function answered what is no answer: ${JSON.stringify(json)?.slice(0, 200)}`,
    );
  if (data.results.length !== requests)
    throw new Fault("INTERNAL", `the function answered ${data.results.length} requests of ${requests}`);
  return data.results.map((one) =>
    "error" in one
      ? new Fault(one.error.code, one.error.message)
      : { outputs: unpacked(one.outputs), usage: one.usage },
  );
}

function packed(of: Values): Record<string, z.infer<typeof tensor> | string> {
  return Object.fromEntries(
    Object.entries(of).map(([name, value]) => {
      if (typeof value === "string") return [name, value];
      const { dtype, shape, data } = value;
      const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
      return [name, { dtype, shape: [...shape], base64: bytes.toString("base64") }];
    }),
  );
}

function unpacked(of: z.infer<typeof values>): Values {
  return Object.fromEntries(
    Object.entries(of).map(([name, value]) => {
      if (typeof value === "string") return [name, value];
      // Copied, because a buffer's bytes need not begin at a multiple of 4.
      const bytes = new Uint8Array(Buffer.from(value.base64, "base64")).buffer;
      if (bytes.byteLength !== 4 * value.shape.reduce((size, dim) => size * dim, 1))
        throw new Fault(
          "INVALID_INPUT",
          `'${name}' has ${bytes.byteLength} bytes for shape [${value.shape.join(", ")}]`,
        );
      const data = value.dtype === "int32" ? new Int32Array(bytes) : new Float32Array(bytes);
      return [name, { dtype: value.dtype, shape: value.shape, data } as Value];
    }),
  );
}
