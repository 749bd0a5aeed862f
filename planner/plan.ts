import { z } from "zod";
import { Fault } from "../src/core/faults.ts";

const rate = z.array(z.array(z.number()));

/** One buffer of a plan; `upTo` is the largest size it takes, which only the last one may lack. */
const buffer = z.strictObject({
  upTo: z.number().positive().optional(),
  maxBatch: z.number().int().min(1),
  timeoutMs: z.number().min(0).max(60_000),
  memoryMb: z.number().int().min(1).optional(),
});

const schema = z.strictObject({
  format: z.literal(1),
  kind: z.literal("cellbatch.plan"),
  model: z.string().min(1),
  target: z.enum(["server", "functions"]),
  method: z.enum(["batch", "mbs"]),
  lane: z.enum(["cellular", "graph"]),
  goal: z.strictObject({
    percentile: z.number().gt(0).lt(100),
    ms: z.number().positive(),
    perSize: z.boolean(),
  }),
  /** What was planned for: the arrival process in events per second, and why it is this one. */
  arrivals: z.strictObject({ d0: rate, d1: rate, reason: z.string() }),
  /** Functions: what every call takes besides the model, in milliseconds. */
  overheadMs: z.number().min(0).optional(),
  /** Server: engines that are needed. */
  engines: z.number().int().min(1).optional(),
  /** Server, graph lane: whether a batch that is not full goes as soon as its engine is idle. */
  eager: z.boolean().optional(),
  /** Empty for the cellular lane of a server, which has no buffers. */
  buffers: z.array(buffer),
  /** Cellular lane: most rows of a task. */
  maxBatch: z.number().int().min(1).optional(),
  /** Functions, several buffers: which sizes go to which, in parts that sum to 1. */
  routing: z
    .array(
      z.strictObject({
        size: z.number().positive(),
        share: z.number().min(0).max(1),
        to: z
          .array(z.strictObject({ buffer: z.number().int().min(0), part: z.number().min(0).max(1) }))
          .min(1),
      }),
    )
    .optional(),
  predicted: z.strictObject({
    /** At the goal's percentile; per unit of size where the goal is. */
    latencyMs: z.number(),
    usdPerMillion: z.number(),
    meanBatch: z.number(),
    paddingShare: z.number(),
  }),
});

/** What `cellbatch plan batching` decides, and `cellbatch serve` and `cellbatch gateway` obey. */
export type Plan = z.infer<typeof schema>;

/** Reads the text of a plan file. Throws INVALID_REQUEST that names the file and the field that is wrong. */
export function parsePlan(text: string, file: string): Plan {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new Fault("INVALID_REQUEST", `plan ${file} is not JSON: ${(error as Error).message}`);
  }
  const { data, error } = schema.safeParse(json);
  if (!data) {
    const { path, message } = error.issues[0]!;
    const where = path.length > 0 ? ` at '${path.join(".")}'` : "";
    throw new Fault("INVALID_REQUEST", `plan ${file} is not a cellbatch plan${where}: ${message}`);
  }
  const wrong = data.routing?.flatMap(({ to }) => to).find((one) => one.buffer >= data.buffers.length);
  if (wrong)
    throw new Fault(
      "INVALID_REQUEST",
      `plan ${file} routes to buffer ${wrong.buffer} of ${data.buffers.length}`,
    );
  return data;
}
