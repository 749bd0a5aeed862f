import type { Tensor } from "onnxruntime-node";
import type { DeviceRows } from "../device-rows.ts";
import type { KernelTask, Values } from "../kernel.ts";
import { formFor, type LoadedCell, type Program, stepSizesOf, tensorOn, valuesFor } from "./program.ts";
import type { Tensors } from "./session.ts";
import type { WebGpuRows } from "./webgpu-rows.ts";

/** One cell's sessions and inputs, with its states on the device: a next state goes in again as it came out where rows stay. */
export class DeviceProgram implements Program {
  readonly inputs: readonly Values[];
  outputs: readonly Values[];
  readonly stepSizes: readonly number[];
  readonly #loaded: LoadedCell;
  readonly #device: WebGpuRows;
  readonly #states: readonly DeviceRows<Tensor>[];

  /** `states`: where the cell's states live; its graphs are those of `deviceGraph`, whose next states stay on the device. */
  constructor(loaded: LoadedCell, device: WebGpuRows, states: readonly DeviceRows<Tensor>[]) {
    this.#loaded = loaded;
    this.#device = device;
    this.#states = states;
    this.inputs = loaded.cell.inputs.map((spec) => valuesFor(spec, loaded.maxBatch));
    this.outputs = loaded.cell.outputs.map((spec) => valuesFor(spec, 0));
    this.stepSizes = stepSizesOf(loaded);
  }

  get bytes(): number {
    return [...this.inputs, ...this.outputs].reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  run({ rows, steps, reads, writes }: KernelTask): void {
    const { graph, session } = formFor(this.#loaded, rows, steps);
    const given = this.#device.tidy(() => {
      const feeds: Tensors = {};
      graph.inputs.forEach((port, i) => {
        feeds[port.name] = tensorOn(this.inputs[i]!, port, rows, steps);
      });
      graph.reads.forEach((ports, read) => {
        ports.forEach((port, i) => {
          feeds[port.name] = this.#states[i]!.gather(reads, graph.reads.length, read, rows);
        });
      });
      const names = [...graph.writes, ...graph.outputs].map(({ name }) => name);
      return session.infer(feeds, names) as Tensors;
    });
    graph.writes.forEach(({ name }, i) => {
      this.#states[i]!.scatter(writes, rows, given[name]!);
    });
    this.outputs = graph.outputs.map(({ name }) => given[name]!.data as Values);
  }

  async dispose(): Promise<void> {
    for (const { session } of this.#loaded.forms) await session.dispose();
  }
}
