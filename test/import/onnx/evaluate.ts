import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { OnnxKernel } from "../../../kernels/onnx/onnx.ts";
import type { Collect, ModelDefinition, Program } from "../../../models/definition.ts";
import type { ImportedModel } from "../../../models/import/imported.ts";
import { readModel } from "../../../models/read-model.ts";
import { sizeOf } from "../../../src/core/tensor.ts";

/** Values of one tensor for one request: by step where it has steps, else one. */
export type Steps = readonly (readonly number[])[];
export type Values = Readonly<Record<string, Steps>>;

/** Runs an imported model's cells step by step through the ONNX kernel, in the order that its program says. */
export class Evaluator {
  readonly model: ModelDefinition;
  readonly #kernel: OnnxKernel;
  #slots = 0;

  private constructor(model: ModelDefinition, kernel: OnnxKernel) {
    this.model = model;
    this.#kernel = kernel;
  }

  static async open({ manifest, files }: ImportedModel): Promise<Evaluator> {
    const folder = await mkdtemp(join(tmpdir(), "cellbatch-import-"));
    try {
      await writeFile(join(folder, "model.json"), JSON.stringify(manifest));
      for (const [name, content] of files) {
        await mkdir(dirname(join(folder, name)), { recursive: true });
        await writeFile(join(folder, name), content);
      }
      const model = await readModel(folder);
      return new Evaluator(model, await OnnxKernel.load(model.cells, { maxBatch: 8 }));
    } finally {
      await rm(folder, { recursive: true });
    }
  }

  async close(): Promise<void> {
    await this.#kernel.dispose();
  }

  /** Outputs of requests of the same length, which run as rows of the same tasks. */
  async run(requests: readonly Values[]): Promise<Values[]> {
    const { program } = this.model;
    switch (program.kind) {
      case "chain":
      case "session": {
        const collect = program.kind === "chain" ? program.collect : "all";
        const all = await this.#over(program.cell, requests, "forward");
        return all.map((values) => mapValues(values, (steps) => collected(steps, collect)));
      }
      case "layers":
        return this.#layers(program, requests);
      default:
        throw new Error(`no evaluation of '${program.kind}'`);
    }
  }

  async #layers(
    program: Extract<Program, { kind: "layers" }>,
    requests: readonly Values[],
  ): Promise<Values[]> {
    const { layers, collect, head } = program;
    let values = requests;
    for (const [i, { forward, backward, merge }] of layers.entries()) {
      const isLast = i === layers.length - 1;
      const ahead = forward === undefined ? undefined : await this.#over(forward, values, "forward");
      const back = backward === undefined ? undefined : await this.#over(backward, values, "backward");
      values = requests.map((_, row) => {
        const names = new Set([...Object.keys(ahead?.[row] ?? {}), ...Object.keys(back?.[row] ?? {})]);
        return Object.fromEntries(
          [...names].map((name) => {
            const how = isLast ? (typeof collect === "string" ? collect : collect[name]!) : "all";
            const [a, b] = [ahead?.[row]?.[name], back?.[row]?.[name]];
            // The last of a backward cell is its value at the first step.
            const sides = [a && (how === "last" ? [a.at(-1)!] : a), b && (how === "last" ? [b[0]!] : b)];
            const [x, y] = sides.filter((side) => side !== undefined);
            const merged = y ? x!.map((step, at) => mergeOf(merge, step, y[at]!)) : x!;
            return [name, collected(merged, how)];
          }),
        );
      });
    }
    if (head === undefined) return [...values];
    const taken = new Set(this.#cell(head).inputs.map(({ name }) => name));
    const after = await this.#over(head, values, "forward");
    return values.map((all, row) => {
      const kept = Object.entries(all).filter(([name]) => !taken.has(name));
      return { ...after[row], ...Object.fromEntries(kept) };
    });
  }

  #cell(name: string) {
    return this.model.cells.find((cell) => cell.name === name)!;
  }

  /** A cell over the steps of several requests; outputs stand in the order of the steps. */
  async #over(
    name: string,
    requests: readonly Values[],
    direction: "forward" | "backward",
  ): Promise<Values[]> {
    const index = this.model.cells.findIndex((cell) => cell.name === name);
    const cell = this.model.cells[index]!;
    const rows = requests.length;
    const first = this.#slots;
    this.#slots += rows;
    this.#kernel.reserve(this.#slots);
    for (let row = 0; row < rows; row++) this.#kernel.clear(first + row);
    const slots = Int32Array.from({ length: rows }, (_, row) => first + row);
    const given = cell.inputs.map((spec) =>
      requests.map((request) => inputOf(request, spec.name, cell.inputs.length)),
    );
    const steps = given[0]![0]!.length;
    const results = requests.map(() =>
      Object.fromEntries(cell.outputs.map((output) => [output.name, [] as number[][]])),
    );
    for (let taken = 0; taken < steps; taken++) {
      const step = direction === "forward" ? taken : steps - 1 - taken;
      const staged = this.#kernel.stage(index, rows, 1);
      given.forEach((perRow, i) => {
        const size = sizeOf(cell.inputs[i]!.shape);
        perRow.forEach((values, row) => staged[i]!.set(values[step]!, row * size));
      });
      await this.#kernel.run({ cell: index, rows, steps: 1, reads: slots, writes: slots });
      const outputs = this.#kernel.outputs(index);
      cell.outputs.forEach((spec, i) => {
        const size = sizeOf(spec.shape);
        for (let row = 0; row < rows; row++) {
          results[row]![spec.name]![step] = [...outputs[i]!.subarray(row * size, (row + 1) * size)];
        }
      });
    }
    return results;
  }
}

/** A cell's input by name; the only one of a layer whatever its name. */
function inputOf(request: Values, name: string, inputs: number): Steps {
  const all = Object.values(request);
  const found = request[name] ?? (inputs === 1 && all.length === 1 ? all[0] : undefined);
  if (!found) throw new Error(`no values for input '${name}' among ${Object.keys(request).join(", ")}`);
  return found;
}

function collected(steps: Steps, how: Collect): Steps {
  if (how === "all") return steps;
  if (how === "last") return [steps.at(-1)!];
  const of = (values: readonly number[]) =>
    how === "max" ? Math.max(...values) : values.reduce((a, b) => a + b, 0) / values.length;
  return [steps[0]!.map((_, i) => of(steps.map((step) => step[i]!)))];
}

function mergeOf(
  merge: "concat" | "sum" | "mean" | "mul",
  a: readonly number[],
  b: readonly number[],
): number[] {
  switch (merge) {
    case "concat":
      return [...a, ...b];
    case "sum":
      return a.map((value, i) => value + b[i]!);
    case "mean":
      return a.map((value, i) => (value + b[i]!) / 2);
    case "mul":
      return a.map((value, i) => value * b[i]!);
  }
}

function mapValues(values: Values, map: (steps: Steps) => Steps): Values {
  return Object.fromEntries(Object.entries(values).map(([name, steps]) => [name, map(steps)]));
}
