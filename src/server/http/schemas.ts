import { z } from "zod";
import type { ParameterValue } from "../oip/types.ts";

/** Tensors of one request; more are refused before they are read. */
const MAX_TENSORS = 256;
const MAX_AXES = 16;

/** A parameter: JSON's scalars, and integers beyond 2^53 that the parser kept whole. */
const Parameter = z
  .custom<ParameterValue>(
    (value) => ["string", "boolean", "bigint"].includes(typeof value) || Number.isFinite(value),
    "expected a string, a number or a boolean",
  )
  .meta({ anyOf: [{ type: "string" }, { type: "number" }, { type: "boolean" }] });

const Parameters = z.record(z.string(), Parameter);

const Shape = z
  .array(
    z
      .number()
      .int()
      .min(0)
      .max(2 ** 31 - 1),
  )
  .max(MAX_AXES);

const Values = z
  .custom<readonly unknown[]>(Array.isArray, "expected an array")
  .meta({ type: "array", items: {}, description: "Row-major, flat or nested as the shape says." });

const Size = z.number().int().min(0);

const InferInput = z.object({
  name: z.string(),
  datatype: z.string(),
  shape: Shape,
  parameters: z
    .object({ binary_data_size: Size.optional(), shared_memory_region: z.unknown().optional() })
    .optional(),
  data: Values.optional(),
});

const InferOutput = z.object({
  name: z.string(),
  parameters: z
    .object({
      binary_data: z.boolean().optional(),
      classification: z.unknown().optional(),
      shared_memory_region: z.unknown().optional(),
    })
    .optional(),
});

export const InferBody = z.object({
  id: z.string().optional(),
  parameters: Parameters.optional(),
  inputs: z.array(InferInput).max(MAX_TENSORS),
  outputs: z.array(InferOutput).max(MAX_TENSORS).optional(),
});
export type InferBody = z.infer<typeof InferBody>;

export const GenerateBody = z
  .looseObject({ id: z.string().optional(), parameters: Parameters.optional() })
  .meta({ description: "Inputs of the model by name, and parameters by name." });
export type GenerateBody = z.infer<typeof GenerateBody>;

export const ModelPath = z.object({ model: z.string(), version: z.string().optional() });
export type ModelPath = z.infer<typeof ModelPath>;

/** No body reaches its schema as null. */
export const IndexBody = z.object({ ready: z.boolean().optional() }).nullish();
export type IndexBody = z.infer<typeof IndexBody>;

export const RepositoryBody = z
  .object({ parameters: z.record(z.string(), z.unknown()).optional() })
  .nullish();
export type RepositoryBody = z.infer<typeof RepositoryBody>;

/** What is answered; for the documentation, answers are not checked. */
export const ErrorReply = z.object({ error: z.string() });

const OutputReply = z.object({
  name: z.string(),
  datatype: z.string(),
  shape: z.array(z.number().int()),
  parameters: z.object({ binary_data_size: Size }).optional(),
  data: z.array(z.unknown()).optional(),
});

export const InferReply = z.object({
  id: z.string().optional(),
  model_name: z.string(),
  model_version: z.string(),
  parameters: z.record(z.string(), z.unknown()).optional(),
  outputs: z.array(OutputReply),
});

export const GenerateReply = z.looseObject({ model_name: z.string(), model_version: z.string() });

export const EventsReply = z.string().meta({ description: "Lines `data: {...}`, an empty line after each." });

export const LiveReply = z.object({ live: z.boolean() });
export const ReadyReply = z.object({ ready: z.boolean() });
export const ModelReadyReply = z.object({ name: z.string(), ready: z.boolean() });

export const ServerReply = z.object({
  name: z.string(),
  version: z.string(),
  extensions: z.array(z.string()),
});

const TensorMetadata = z.object({
  name: z.string(),
  datatype: z.string(),
  shape: z.array(z.number().int()),
});

export const ModelReply = z.object({
  name: z.string(),
  versions: z.array(z.string()),
  platform: z.string(),
  inputs: z.array(TensorMetadata),
  outputs: z.array(TensorMetadata),
});

export const ConfigReply = z.looseObject({ name: z.string(), max_batch_size: z.number().int() });

export const StatsReply = z.object({
  model_stats: z.array(
    z.looseObject({
      name: z.string(),
      version: z.string(),
      inference_count: z.number().int(),
      execution_count: z.number().int(),
    }),
  ),
});

export const IndexReply = z.array(
  z.object({ name: z.string(), version: z.string(), state: z.string(), reason: z.string() }),
);
