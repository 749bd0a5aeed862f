import { Fault } from "../../core/faults.ts";
import type { ModelInfo, Runtime, ValueSpec } from "../../runtime/types.ts";
import { wireNames } from "../datatypes.ts";

/** Extensions of the protocol that both doors implement, in Triton's words. */
export const extensions = [
  "sequence",
  "sequence(string_id)",
  "model_repository",
  "schedule_policy",
  "model_configuration",
  "binary_tensor_data",
  "parameters",
  "statistics",
] as const;

/** The version of a model that is asked for; with undefined or "" the newest. Throws MODEL_NOT_FOUND. */
export function modelOf({ models }: Pick<Runtime, "models">, name: string, version?: string): ModelInfo {
  const versions = models.filter((one) => one.name === name);
  const model = version ? versions.find((one) => one.version === version) : versions[0];
  if (model) return model;
  if (versions.length === 0) {
    const known = [...new Set(models.map((one) => one.name))].join(", ") || "none";
    throw new Fault("MODEL_NOT_FOUND", `there is no model '${name}'; there are ${known}`);
  }
  const loaded = versions.map((one) => one.version).join(", ");
  throw new Fault(
    "MODEL_NOT_FOUND",
    `model '${name}' has no version '${version}'; version ${loaded} is loaded`,
  );
}

export interface TensorMetadata {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
}

export interface ModelMetadata {
  readonly name: string;
  readonly versions: readonly string[];
  readonly platform: string;
  readonly inputs: readonly TensorMetadata[];
  readonly outputs: readonly TensorMetadata[];
}

/**
 * What a client must send to a model and will get, and which of its versions are there. The first axis of an input is steps, of which a request may have any number: there
 * is no batch axis, because the server batches. A model for sessions answers every step, so its outputs have that axis too.
 */
export function metadataOf(
  { name, inputs, outputs, streaming }: ModelInfo,
  { models }: Pick<Runtime, "models">,
): ModelMetadata {
  return {
    name,
    versions: models.filter((one) => one.name === name).map(({ version }) => version),
    platform: "cellbatch_cells",
    inputs: inputs.map((spec) => tensorMetadata(spec)),
    outputs: outputs.map((spec) => {
      const { shape, ...rest } = tensorMetadata(spec);
      if (!streaming) return { ...rest, shape };
      return { ...rest, shape: spec.type === "text" ? [-1] : [-1, ...shape] };
    }),
  };
}

function tensorMetadata({ name, type, shape }: ValueSpec): TensorMetadata {
  return { name, datatype: wireNames[type], shape: type === "text" ? [1] : shape };
}

/** Triton's `ModelConfig` with the names of its proto; what both doors answer. Says the same as the metadata. */
export function configOf(
  model: ModelInfo,
  runtime: Pick<Runtime, "models">,
  limits: { readonly idleMs: number; readonly sequences: number },
): Record<string, unknown> {
  const { versions, inputs, outputs, platform } = metadataOf(model, runtime);
  return {
    name: model.name,
    platform,
    backend: "cellbatch",
    runtime: "",
    version_policy: { latest: { num_versions: versions.length } },
    // Not a limit of ours: 0 says that requests have no batch axis.
    max_batch_size: 0,
    input: inputs.map(({ name, datatype, shape }) => ({
      name,
      data_type: configNames[datatype],
      format: "FORMAT_NONE",
      dims: shape,
      is_shape_tensor: false,
      allow_ragged_batch: false,
      optional: false,
    })),
    output: outputs.map(({ name, datatype, shape }) => ({
      name,
      data_type: configNames[datatype],
      dims: shape,
      label_filename: "",
      is_shape_tensor: false,
    })),
    default_model_filename: "",
    metric_tags: {},
    parameters: {
      description: { string_value: model.description },
      program: { string_value: model.program },
    },
    model_transaction_policy: { decoupled: false },
    response_cache: { enable: false },
    ...(model.streaming
      ? {
          sequence_batching: {
            max_sequence_idle_microseconds: Math.round(limits.idleMs * 1000),
            control_input: [],
            state: [],
            iterative_sequence: false,
            oldest: {
              max_candidate_sequences: limits.sequences,
              preferred_batch_size: [],
              max_queue_delay_microseconds: 0,
              preserve_ordering: true,
            },
          },
        }
      : {}),
  };
}

/** The configuration says TYPE_STRING where the wire says BYTES. */
const configNames: Readonly<Record<string, string>> = {
  FP32: "TYPE_FP32",
  INT32: "TYPE_INT32",
  BYTES: "TYPE_STRING",
};
