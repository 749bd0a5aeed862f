import { z } from "zod";
import { Fault } from "./faults.ts";

/** Most rows, steps and threads that a file may speak of: far above what runs, so that a wrong unit is noticed. */
const MOST = 1_000_000;
const count = z.number().int().min(1).max(MOST);
const us = z.number().min(0).finite();

/** One call: the median time in microseconds, and the distance between its quartiles. */
const point = z.strictObject({ rows: count, us, spreadUs: us });

const points = z
  .array(point)
  .min(1)
  .refine((all) => all.every(({ rows }, i) => i === 0 || rows > all[i - 1]!.rows), {
    message: "rows must ascend",
  });

/** `size` is the steps of the padded batch, in the lane `graph` only; there `stepsPerCall` is 1. */
const setting = z.strictObject({ threads: count, stepsPerCall: count, size: count.optional(), points });

const cell = z
  .strictObject({
    cell: z.string().min(1),
    lane: z.enum(["cellular", "graph"]),
    settings: z.array(setting).min(1),
  })
  .refine(({ lane, settings }) => settings.every(({ size }) => (size !== undefined) === (lane === "graph")), {
    message: "settings have a size in the lane 'graph', and only there",
  });

/** What an engine and its threads add to the calls of a kernel; all in microseconds but `afterMs`. */
const overheads = z.strictObject({
  threads: count,
  /** Of the engine's thread: each request, each task, and each row of a task at each of its steps. */
  requestUs: us,
  taskUs: us,
  rowUs: us,
  /** Of the engine's thread: telling the main thread what was done. */
  publishUs: us,
  /** On the way to the engine's thread and back: each request, and each unit of its size. */
  hopUs: us,
  sizeUs: us,
  /** What a request waits besides where nothing ran for so long: threads sleep and caches are cold. */
  idle: z
    .array(z.strictObject({ afterMs: z.number().min(0).finite(), us }))
    .refine((all) => all.every(({ afterMs }, i) => i === 0 || afterMs > all[i - 1]!.afterMs), {
      message: "afterMs must ascend",
    }),
});

const schema = z.strictObject({
  format: z.literal(1),
  kind: z.literal("cellbatch.profile"),
  /** `digest` is of the cells: what is computed, and with which weights. */
  model: z.strictObject({ name: z.string().min(1), version: z.string(), digest: z.string().min(1) }),
  machine: z.strictObject({
    cpu: z.string(),
    cores: count,
    node: z.string(),
    onnxruntime: z.string(),
  }),
  measuredAt: z.iso.datetime(),
  cells: z.array(cell).min(1),
  overheads: overheads.optional(),
});

/** What the cells of one model cost on one machine, as `cellbatch profile` writes it; docs/profiles.md has the format. */
export type Profile = z.infer<typeof schema>;
export type ProfiledCell = Profile["cells"][number];
export type ProfileSetting = ProfiledCell["settings"][number];
export type ProfilePoint = ProfileSetting["points"][number];
/** Absent where it was not measured: in files of earlier versions, and for programs other than chains and whole graphs. */
export type ProfileOverheads = NonNullable<Profile["overheads"]>;
export type Machine = Profile["machine"];

/** Reads the text of a profile file. Throws INVALID_REQUEST that names the file and the field that is wrong. */
export function parseProfile(text: string, file: string): Profile {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new Fault("INVALID_REQUEST", `profile ${file} is not JSON: ${(error as Error).message}`);
  }
  const { data, error } = schema.safeParse(json);
  if (data) return data;
  const { path, message } = error.issues[0]!;
  const where = path.length > 0 ? ` at '${path.join(".")}'` : "";
  throw new Fault("INVALID_REQUEST", `profile ${file} is not a cellbatch profile${where}: ${message}`);
}
