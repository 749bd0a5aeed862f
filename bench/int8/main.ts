import { availableParallelism, cpus } from "node:os";
import { Command } from "commander";
import { OnnxKernel } from "../../kernels/onnx/onnx.ts";
import { readModel } from "../../models/read-model.ts";
import { lstmCell, tokenCell } from "../../src/bench/synthetic.ts";
import { modelPath } from "../../src/cli/paths.ts";
import type { CellSpec } from "../../src/core/cell.ts";
import { median, quantile } from "../../src/load/statistics.ts";

const command = new Command("bench:int8")
  .description(
    "Time of one step in float32 over that in int8, call by call in turn, one step per call: of the cells of models, or of LSTMs of random weights.",
  )
  .argument("[models...]", "models of the zoo or folders", ["g2p", "char-lm"])
  .option("--random", "measure LSTMs of 128 to 1,024 units instead, over tokens and over vectors")
  .parse();

const ROWS = [1, 16, 64];
const ROUNDS = 5;
const CALLS = 60;
const QUANTISED = ["lstm", "gru", "lstm-attention", "tree-node"];

const [cpu] = cpus();
console.log(`Node ${process.version}, ${availableParallelism()} cores of ${cpu?.model.trim()}`);
const random = [128, 256, 512, 1024].flatMap((hidden): [string, CellSpec][] => [
  [`${hidden} over tokens`, tokenCell(hidden)],
  [`${hidden} over vectors`, lstmCell(hidden)],
]);
const named = async (model: string) =>
  (await readModel(modelPath(model))).cells.map((cell): [string, CellSpec] => [
    `${model} ${cell.name}`,
    cell,
  ]);
const cells = command.opts().random
  ? random
  : (await Promise.all((command.processedArgs[0] as string[]).map(named))).flat();
for (const [name, cell] of cells) {
  if (!QUANTISED.includes(cell.body.kind)) {
    console.log(`${name}: a cell of kind ${cell.body.kind} is not quantised`);
    continue;
  }
  await measure(name, cell);
}

async function measure(name: string, cell: CellSpec): Promise<void> {
  const { quantize: _, ...body } = cell.body as CellSpec["body"] & { quantize?: string };
  const open = async (quantize?: "int8") => {
    const spec = { ...cell, body: { ...body, ...(quantize ? { quantize } : {}) } as CellSpec["body"] };
    const kernel = await OnnxKernel.load([spec], { maxBatch: 64 });
    kernel.reserve(64 * Math.max(1, cell.reads));
    return kernel;
  };
  const arms = [await open(), await open("int8")] as const;
  for (const rows of ROWS) {
    const slots = Int32Array.from({ length: rows * cell.reads }, (_, slot) => slot);
    const task = { cell: 0, rows, steps: 1, reads: slots, writes: slots };
    const ratios: number[] = [];
    const times: number[][] = [[], []];
    for (let round = 0; round < ROUNDS; round++) {
      const taken: number[][] = [[], []];
      for (let call = 0; call < CALLS; call++) {
        // In turn, so that what else the machine does meets both.
        for (const arm of round % 2 === 0 ? [0, 1] : [1, 0]) {
          const started = performance.now();
          await arms[arm]!.run(task);
          taken[arm]!.push(1000 * (performance.now() - started));
        }
      }
      // The quicker quarter shows the arithmetic; the rest shows the neighbours.
      const [full, small] = taken.map((all) => quantile(all, 0.25)) as [number, number];
      times[0]!.push(full);
      times[1]!.push(small);
      ratios.push(full / small);
    }
    console.log(
      `${name}  rows ${String(rows).padStart(2)}  float32 ${median(times[0]!).toFixed(0).padStart(5)} us, ` +
        `int8 ${median(times[1]!).toFixed(0).padStart(5)} us, ${median(ratios).toFixed(2)}x ` +
        `(rounds ${ratios.map((ratio) => ratio.toFixed(2)).join(" ")})`,
    );
  }
  for (const kernel of arms) await kernel.dispose();
}
