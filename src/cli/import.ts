import { readFile } from "node:fs/promises";
import { z } from "zod";
import { importModel } from "../../models/import/import-model.ts";
import { writeModel } from "../../models/write-model.ts";
import type { Quantization } from "../core/cell.ts";
import { Fault } from "../core/faults.ts";
import { describeFolder } from "./inspect.ts";
import { modelPath } from "./paths.ts";

export interface ImportOptions {
  readonly out: string;
  readonly name?: string;
  readonly form?: "step" | "sequence";
  readonly program?: "chain" | "session";
  readonly output?: readonly string[];
  readonly state?: readonly string[];
  readonly batchAxis?: readonly string[];
  readonly shape?: readonly string[];
  readonly constant?: readonly string[];
  readonly context?: string;
  /** A JSON file with the names of a state dict's tensors, by PyTorch's. */
  readonly names?: string;
  readonly prefix?: string;
  readonly embedding?: string;
  readonly linear?: readonly string[];
  readonly nonlinearity?: "tanh" | "relu";
  readonly collect?: "last" | "all";
  readonly quantize?: Quantization;
}

/** Makes a model folder of a foreign file, or of another model folder, and says what is in it and how to try it. */
export async function importFile(source: string, options: ImportOptions): Promise<void> {
  const { out, name, form, program, output, state, batchAxis, shape, constant, context } = options;
  const { names, prefix, embedding, linear, nonlinearity, collect, quantize } = options;
  const integers = (text: string) => text.split(",").map(numberOf);
  const imported = await importModel(modelPath(source), {
    ...(name === undefined ? {} : { name }),
    ...(quantize === undefined ? {} : { quantize }),
    onnx: {
      ...(form === undefined ? {} : { form }),
      ...(program === undefined ? {} : { program }),
      ...(output ? { outputs: output } : {}),
      ...(state ? { states: pairs(state).map(([input, next]) => ({ input, output: next })) } : {}),
      ...(batchAxis ? { batchAxes: record(batchAxis, numberOf) } : {}),
      ...(shape ? { shapes: record(shape, integers) } : {}),
      ...(constant ? { constants: record(constant, numberOf) } : {}),
      ...(context === undefined ? {} : { context: contextOf(context) }),
    },
    torch: {
      ...(names === undefined ? {} : { names: await readNames(names) }),
      ...(prefix === undefined ? {} : { prefix }),
      ...(embedding === undefined ? {} : { embedding }),
      ...(linear ? { linear } : {}),
      ...(nonlinearity === undefined ? {} : { nonlinearity }),
      ...(collect === undefined ? {} : { collect }),
    },
    keras: program === undefined ? {} : { program },
  });
  await writeModel(out, imported);
  const { lane, why, notes } = imported;
  process.stdout.write(await describeFolder(out));
  process.stdout.write(`lane ${lane}: ${why}\n`);
  for (const note of notes) process.stdout.write(`note: ${note}\n`);
  process.stdout.write(`written to ${out}; serve it with: cellbatch serve --model ${out}\n`);
}

async function readNames(file: string): Promise<Record<string, string>> {
  const json: unknown = await readFile(file, "utf8")
    .then(JSON.parse)
    .catch((error: Error) => {
      throw new Fault("INVALID_REQUEST", `${file} cannot be read: ${error.message}`);
    });
  const parsed = z.record(z.string().min(1), z.string().min(1)).safeParse(json);
  if (parsed.success) return parsed.data;
  throw new Fault(
    "INVALID_REQUEST",
    `${file} must be an object of names, as {"weight_ih_l0": "encoder/w_x"}: ${z.prettifyError(parsed.error)}`,
  );
}

/** `a=b`, each. Throws INVALID_REQUEST for one without. */
function pairs(texts: readonly string[]): [string, string][] {
  return texts.map((text) => {
    const at = text.indexOf("=");
    if (at < 1 || at === text.length - 1)
      throw new Fault("INVALID_REQUEST", `'${text}' is no pair NAME=VALUE`);
    return [text.slice(0, at), text.slice(at + 1)];
  });
}

function record<T>(texts: readonly string[], parse: (text: string) => T): Record<string, T> {
  return Object.fromEntries(pairs(texts).map(([name, value]) => [name, parse(value)]));
}

function contextOf(text: string): { input: string; size: number } {
  const [[input, size]] = pairs([text]) as [[string, string]];
  return { input, size: numberOf(size) };
}

function numberOf(text: string): number {
  const value = Number(text);
  if (text.trim() !== "" && Number.isFinite(value)) return value;
  throw new Fault("INVALID_REQUEST", `'${text}' is no number`);
}
