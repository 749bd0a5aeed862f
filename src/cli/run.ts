import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { Fault } from "../core/faults.ts";
import { float32, type Tensor } from "../core/tensor.ts";
import { createRuntime } from "../runtime/create.ts";
import type { ModelInfo, RequestOptions, Runtime, Values } from "../runtime/types.ts";
import { modelPath } from "./paths.ts";
import { samplesOfWav } from "./wav.ts";

export interface RunOptions {
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly seed: number;
  readonly beamWidth?: number;
  readonly maxSteps?: number;
  readonly json: boolean;
  /** A JSON file with the inputs, in place of an argument. */
  readonly inputs?: string;
}

/** Runs a model in this process on an argument, or on every line of standard input. */
export async function runModel(model: string, input: string | undefined, options: RunOptions): Promise<void> {
  const { json, inputs, ...request } = options;
  if (inputs !== undefined && input !== undefined) {
    throw new Fault("INVALID_REQUEST", `give either the input '${input}' or --inputs ${inputs}, not both`);
  }
  const runtime = await createRuntime({ models: [modelPath(model)], inline: true });
  try {
    const info = runtime.models[0]!;
    if (inputs !== undefined) {
      // Loaded here, since text and audio need none of the server's parsers.
      const { runInputs } = await import("./run-inputs.ts");
      return print(await runInputs(runtime, info, inputs, request));
    }
    if (input !== undefined) return await runOne(runtime, info, input, request, json);
    for await (const line of createInterface({ input: process.stdin })) {
      if (line !== "") await runOne(runtime, info, line, request, json);
    }
  } finally {
    await runtime.close(0);
  }
}

async function runOne(
  runtime: Runtime,
  model: ModelInfo,
  input: string,
  options: RequestOptions,
  json: boolean,
): Promise<void> {
  if (model.streaming) return runAudio(runtime, model, input, json);
  const name = model.inputs.find(({ type }) => type === "text")?.name;
  if (name === undefined) {
    throw new Fault(
      "INVALID_REQUEST",
      `model '${model.name}' takes no text; give its tensors as JSON with --inputs FILE`,
    );
  }
  if (model.program !== "generate" || json) {
    const { outputs, usage } = await runtime.run(model.name, { [name]: input }, options);
    print(json ? JSON.stringify({ outputs: plain(outputs), usage }) : textOf(outputs));
    return;
  }
  process.stdout.write(input);
  for await (const { outputs } of runtime.stream(model.name, { [name]: input }, options)) {
    process.stdout.write(textOf(outputs));
  }
  print("");
}

/** Runs a model of audio windows on a WAV file: a line for every window. */
async function runAudio(
  runtime: Runtime,
  { name, inputs }: ModelInfo,
  file: string,
  json: boolean,
): Promise<void> {
  const { name: input, shape } = inputs[0]!;
  const window = shape.at(-1)!;
  const samples = samplesOfWav(await readFile(file), file);
  const session = runtime.session(name);
  const reading = (async () => {
    for await (const { step, outputs } of session) {
      const seconds = ((step * window) / 16_000).toFixed(3);
      print(json ? JSON.stringify({ step, outputs: plain(outputs) }) : `${seconds} s  ${textOf(outputs)}`);
    }
  })();
  for (let at = 0; at + window <= samples.length; at += window) {
    session.push({ [input]: float32([window], samples.subarray(at, at + window)) });
  }
  await session.end();
  await reading;
}

/** The texts among the outputs, or the numbers where there is none. */
function textOf(outputs: Values): string {
  const values = Object.values(outputs);
  const texts = values.filter((value) => typeof value === "string");
  if (texts.length > 0) return texts.join(" ");
  return (values as Tensor[])
    .map(({ data }) => Array.from(data, (number) => number.toFixed(4)).join(" "))
    .join(" ");
}

function plain(outputs: Values): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(outputs).map(([name, value]) => [
      name,
      typeof value === "string" ? value : Array.from(value.data),
    ]),
  );
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
