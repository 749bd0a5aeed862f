import { z } from "zod";
import { Fault } from "../core/faults.ts";

const Id = z.string().min(1).max(128);

/** Elements are checked where they are read, once. */
const List = z.custom<readonly unknown[]>(Array.isArray, "expected an array");

const Value = z.union([
  z.string(),
  List,
  z.strictObject({
    datatype: z.string().max(8),
    shape: z.array(z.number().int().min(0)).max(8),
    data: List.optional(),
    parameters: z.strictObject({ binary_data_size: z.number().int().min(0) }).optional(),
  }),
]);

const Inputs = z.record(z.string().min(1).max(128), Value);

/** Bounds are those of the library, which names the value; here only the types count. */
const Parameters = z.strictObject({
  stream: z.boolean().optional(),
  priority: z.number().optional(),
  timeout_ms: z.number().optional(),
  max_steps: z.number().optional(),
  temperature: z.number().optional(),
  top_k: z.number().optional(),
  top_p: z.number().optional(),
  seed: z.number().optional(),
  beam_width: z.number().optional(),
  traceparent: z.string().max(128).optional(),
});

const ClientMessage = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("infer"),
    id: Id,
    model: z.string(),
    version: z.string().optional(),
    inputs: Inputs,
    parameters: Parameters.optional(),
  }),
  z.strictObject({
    type: z.literal("open"),
    id: Id,
    model: z.string(),
    version: z.string().optional(),
    parameters: Parameters.optional(),
    state: z.string().optional(),
    grace_ms: z.number().min(0).optional(),
  }),
  z.strictObject({
    type: z.literal("resume"),
    id: Id,
    token: z.string().min(1).max(64),
    step: z.number().int().min(0),
  }),
  z.strictObject({ type: z.literal("push"), id: Id, inputs: Inputs }),
  z.strictObject({ type: z.literal("end"), id: Id }),
  z.strictObject({
    type: z.literal("marker"),
    id: Id,
    marker: z
      .number()
      .int()
      .min(0)
      .max(2 ** 31 - 1),
  }),
  z.strictObject({ type: z.literal("keepalive"), id: Id }),
  z.strictObject({ type: z.literal("cancel"), id: Id }),
  z.strictObject({ type: z.literal("suspend"), id: Id }),
  z.strictObject({ type: z.literal("fork"), id: Id, as: Id }),
]);

export type ClientMessage = z.infer<typeof ClientMessage>;
export type ClientParameters = z.infer<typeof Parameters>;
export type ClientInputs = z.infer<typeof Inputs>;

/** Checks what a client sent. Throws INVALID_REQUEST that names the field. */
export function checkMessage(json: unknown): ClientMessage {
  const parsed = ClientMessage.safeParse(json);
  if (parsed.success) return parsed.data;
  const { path, message } = parsed.error.issues[0]!;
  const where = path.length > 0 ? `'${path.join(".")}': ` : "";
  throw new Fault("INVALID_REQUEST", `the message is malformed at ${where}${message}`);
}

/** The id of a message that is malformed otherwise, so that its error can name it. */
export function idOf(json: unknown): string | undefined {
  const id = (json as { id?: unknown } | null)?.id;
  return typeof id === "string" && id.length > 0 && id.length <= 128 ? id : undefined;
}
