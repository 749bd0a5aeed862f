import { z } from "zod";

const MODEL_NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/;

/** A vocabulary: the symbols themselves, or a key of a JSON file in the model's folder. */
const Symbols = z.union([
  z.array(z.string()).min(1),
  z.strictObject({ file: z.string().min(1), key: z.string().min(1) }),
]);

const Codec = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.enum(["characters", "symbols"]),
    symbols: Symbols,
    lowerCase: z.boolean().optional(),
    unknown: z.string().min(1).optional(),
  }),
  z.strictObject({
    kind: z.literal("tokenizer"),
    file: z.string().min(1),
    addSpecialTokens: z.boolean().optional(),
    skipSpecialTokens: z.boolean().optional(),
  }),
]);

const Brackets = z
  .strictObject({
    kind: z.literal("brackets"),
    symbols: Symbols,
    tree: z.string().min(1),
    open: z.string().length(1).default("("),
    close: z.string().length(1).default(")"),
  })
  .refine(({ open, close }) => open !== close, "opens and closes with the same bracket");

const TextOutput = z.strictObject({ name: z.string().min(1), tensor: z.string().min(1), codec: Codec });

const TextInput = z.strictObject({ ...TextOutput.shape, codec: z.union([Codec, Brackets]) });

const Weights = z.strictObject({ file: z.string().min(1), prefix: z.string().default("") });

const Tensor = z.strictObject({
  name: z.string().min(1),
  dtype: z.enum(["float32", "int32"]).default("float32"),
  /** Of one row; -1 where any length is taken, which only cells of program `graph` may. */
  shape: z.array(z.union([z.number().int().positive(), z.literal(-1)])),
});

const Built = {
  name: z.string().min(1),
  weights: Weights,
  /** Which of the cell's values to give away; those of the head where there is one, else `h`. */
  outputs: z.array(z.enum(["h", "c", "logits", "token"])).optional(),
};

/** Arithmetic of the products with states; float32 where it is left out. */
const Quantize = z.literal("int8").optional();

const Cell = z.discriminatedUnion("kind", [
  z.strictObject({ ...Built, kind: z.enum(["lstm", "gru", "tree-node"]), quantize: Quantize }),
  z.strictObject({ ...Built, kind: z.enum(["tree-leaf", "tree-child", "tree-sum", "linear"]) }),
  z.strictObject({
    ...Built,
    kind: z.literal("lstm-attention"),
    /** Most steps of the memory: longer requests are refused, and shorter ones are padded to it. */
    memorySteps: z.number().int().positive().max(4096),
    quantize: Quantize,
  }),
  z.strictObject({
    name: z.string().min(1),
    kind: z.literal("onnx"),
    /** An npm package that holds the file; the model's folder by default. */
    package: z.string().min(1).optional(),
    file: z.string().min(1),
    inputs: z.array(Tensor).min(1),
    outputs: z.array(Tensor).min(1),
    /** None for a cell that is the same function at every step. */
    states: z
      .array(
        z.strictObject({
          input: z.string().min(1),
          output: z.string().min(1),
          shape: z.array(z.number().int().positive()),
          batchAxis: z.number().int().min(0).default(0),
        }),
      )
      .default([]),
    constants: z.record(z.string(), z.number()).default({}),
    context: z.strictObject({ input: z.string().min(1), size: z.number().int().positive() }).optional(),
  }),
]);

const Beam = z
  .strictObject({
    width: z.number().int().min(1).max(64),
    lengthPenalty: z.number().min(0).max(10).default(1),
    nBest: z.number().int().min(1).default(1),
  })
  .refine(({ width, nBest }) => nBest <= width, "answers more sequences (nBest) than it keeps (width)");

const Limits = {
  start: z.number().int().min(0),
  stop: z.number().int().min(0),
  maxSteps: z.number().int().positive(),
  beam: Beam.optional(),
};

const Collect = z.enum(["last", "all", "mean", "max"]);

const Layer = z
  .strictObject({
    forward: z.string().optional(),
    backward: z.string().optional(),
    merge: z.enum(["concat", "sum", "mean", "mul"]).default("concat"),
  })
  .refine(({ forward, backward }) => forward !== undefined || backward !== undefined, "has no cell");

const GraphBuffer = z.strictObject({
  upTo: z.number().int().positive().optional(),
  maxBatch: z.number().int().positive(),
  timeoutMs: z.number().min(0).max(60_000),
});

/** `stage.output`. */
const Source = z.string().regex(/^[^.]+\../, "must be of the form 'stage.output'");

const Gate = z
  .strictObject({
    output: Source,
    open: z.number(),
    close: z.number().optional(),
    hold: z.number().int().min(0).default(0),
    reset: z.boolean().default(false),
  })
  .transform((gate) => ({ ...gate, close: gate.close ?? gate.open }))
  .refine(({ open, close }) => close <= open, "closes above the value at which it opens");

const Stage = z
  .strictObject({
    name: z
      .string()
      .regex(/^[^.]+$/, "a stage's name has no dot")
      .optional(),
    model: z.string().regex(MODEL_NAME, "no name of a model"),
    inputs: z.record(z.string(), z.string().min(1)).default({}),
    gate: Gate.optional(),
  })
  .transform((stage) => ({ ...stage, name: stage.name ?? stage.model.replaceAll(".", "-") }));

const Program = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("chain"),
    cell: z.string(),
    collect: z.enum(["last", "all"]).default("last"),
  }),
  z.strictObject({ kind: z.literal("generate"), cell: z.string(), ...Limits }),
  z.strictObject({
    kind: z.literal("seq2seq"),
    encoder: z.string(),
    decoder: z.string(),
    reverse: z.boolean().default(false),
    attention: z
      .strictObject({
        memory: z.string().min(1),
        mask: z.string().min(1),
        output: z.string().min(1).default("h"),
        other: z.string().optional(),
      })
      .optional(),
    ...Limits,
  }),
  z.strictObject({
    kind: z.literal("tree"),
    leaf: z.string().optional(),
    child: z.string().optional(),
    node: z.string(),
    head: z.string().optional(),
  }),
  z.strictObject({ kind: z.literal("session"), cell: z.string() }),
  z.strictObject({
    kind: z.literal("layers"),
    layers: z.array(Layer).min(1),
    collect: z.union([Collect, z.record(z.string(), Collect)]).default("last"),
    head: z.string().optional(),
  }),
  z.strictObject({
    kind: z.literal("graph"),
    cell: z.string(),
    lengths: z.string().optional(),
    mask: z.string().optional(),
    pad: z.record(z.string(), z.number()).default({}),
    order: z.enum(["fullest", "oldest", "round-robin"]).default("oldest"),
    eager: z.boolean().default(true),
    buffers: z
      .array(GraphBuffer)
      .min(1)
      .default([{ maxBatch: 64, timeoutMs: 5 }]),
  }),
  z.strictObject({
    kind: z.literal("pipeline"),
    stages: z.array(Stage).min(1).max(64),
    outputs: z.record(z.string().min(1), Source).optional(),
  }),
]);

/** `model.json`, version 1. */
export const Manifest = z
  .strictObject({
    format: z.literal(1),
    name: z.string().regex(MODEL_NAME, "lower-case letters, digits, '.', '_' and '-', at most 64"),
    version: z.string().min(1).max(64),
    description: z.string().max(500),
    /** At least one, but for pipelines, which have none. */
    cells: z.array(Cell).default([]),
    program: Program,
    text: z
      .strictObject({ inputs: z.array(TextInput).default([]), outputs: z.array(TextOutput).default([]) })
      .optional(),
    maxInputSteps: z.number().int().positive().optional(),
    example: z.record(z.string(), z.string()).optional(),
  })
  .refine(({ cells, program }) => (cells.length === 0) === (program.kind === "pipeline"), {
    path: ["cells"],
    error: "a model has at least one cell; a pipeline has none, its stages have",
  })
  .refine(({ text, program }) => text === undefined || program.kind !== "pipeline", {
    path: ["text"],
    error: "a pipeline takes and gives text where its stages do",
  });

export type Manifest = z.infer<typeof Manifest>;
export type CellManifest = Manifest["cells"][number];
