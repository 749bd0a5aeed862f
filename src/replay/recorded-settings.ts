import { z } from "zod";
import type { LifeSettings, RecordedBuffers, RecordedType, SessionSettings } from "../core/recording.ts";
import { damaged } from "./fields.ts";

const count = z.number().int().min(0);
const rows = z.number().int().min(1).max(65_536);
const ms = z.number().min(0);

const session = z.object({ engines: count.min(1), policy: z.string() });
const life = z.object({ policy: z.string(), startMs: z.number(), epochMs: z.number() });
const types = z.object({
  types: z
    .array(
      z.object({
        name: z.string(),
        family: count,
        priority: z.number().int(),
        maxBatch: rows,
        stepSizes: z.array(rows).exactOptional(),
        maxStepRows: count.exactOptional(),
        maxStepCells: ms.exactOptional(),
        cost: z
          .array(z.tuple([rows, ms]))
          .refine(
            (points) => points.every(([at], i) => at > (points[i - 1]?.[0] ?? 0)) && points[0]?.[0] === 1,
          )
          .exactOptional(),
      }),
    )
    .min(1),
});
const buffers = z.object({
  graph: count,
  name: z.string(),
  eager: z.boolean(),
  order: z.enum(["fullest", "oldest", "round-robin"]),
  buffers: z.array(z.object({ upTo: ms.exactOptional(), maxBatch: rows, timeoutMs: ms })).min(1),
});

/** What lines of a recording say in JSON. Each throws INVALID_REQUEST that names the field that is wrong. */
export const settings = {
  session: (text: string): SessionSettings => read(session, text),
  life: (text: string): LifeSettings => read(life, text),
  types: (text: string): readonly RecordedType[] => read(types, text).types,
  buffers: (text: string): RecordedBuffers => read(buffers, text),
};

function read<T>(schema: z.ZodType<T>, text: string): T {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw damaged(`'${text.slice(0, 80)}' is no JSON`);
  }
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const { path, message } = parsed.error.issues[0]!;
  throw damaged(`${path.join(".") || "it"} is wrong: ${message}`);
}
