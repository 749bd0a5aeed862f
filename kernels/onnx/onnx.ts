import type { CellSpec } from "../../src/core/cell.ts";
import { type Kernel, type KernelTask, type Pause, stateLayout, type Values } from "../kernel.ts";
import { programSession } from "../native/program.ts";
import { rowsAreIndependent } from "../row-check.ts";
import { readSlot, writeSlot } from "../slot-states.ts";
import type { Rewrite } from "./choice.ts";
import { deviceGraph } from "./device-graph.ts";
import { FORM_LIMITS, type FormLimits, formsOf } from "./forms.ts";
import { type Improved, improveGraph } from "./improve.ts";
import type { LoadedForm, Program } from "./program.ts";
import { type Residence, residenceOnDevice, residenceOnHost } from "./residence.ts";
import { isSynchronous, loadSession } from "./session.ts";
import { givenGraph } from "./step-graph.ts";
import { WebGpuRows } from "./webgpu-rows.ts";

export interface OnnxOptions extends Partial<FormLimits> {
  /** Threads of one call; more than 1 pays only where no other engine wants the core. @default 1 */
  readonly threads?: number;
  /**
   * ONNX Runtime's execution providers in order of preference, `["cuda", "cpu"]` say. With `webgpu` first, states stay on
   * the device between steps; with others they cross to it and back. Given graphs are not rewritten: their rewrites are chosen by
   * time on the CPU. @default ["cpu"]
   */
  readonly providers?: readonly string[];
  /** Of programs that take the place of given graphs: see `ImproveOptions`; 0 leaves all to ONNX Runtime. @default the widest */
  readonly vectorBits?: number;
  /** Waited for between the pieces of loading, so that others may use the thread; a piece is one graph at most. @default no wait */
  readonly pause?: Pause;
}

/** Runs cells with ONNX Runtime, on the CPU where no other provider is asked for. */
export class OnnxKernel implements Kernel {
  readonly name = "onnx";
  readonly cells: readonly CellSpec[];
  readonly tolerance = 1e-5;
  readonly maxBatch: number;
  rowsAreIndependent = false;
  /** By cell: what was rewritten of its given graph. */
  readonly rewrites: readonly (readonly Rewrite[])[];
  readonly #programs: readonly Program[];
  readonly #layout: ReturnType<typeof stateLayout>;
  readonly #residence: Residence;
  readonly #weightBytes: number;
  #slots = 0;

  private constructor(
    cells: readonly CellSpec[],
    forms: readonly LoadedForm[][],
    rewrites: readonly (readonly Rewrite[])[],
    maxBatch: number,
    device: WebGpuRows | undefined,
  ) {
    this.cells = cells;
    this.#weightBytes = forms
      .flat()
      .reduce((sum, { graph, session }) => sum + (session.bytes ?? graph.onnx.byteLength), 0);
    this.rewrites = rewrites;
    this.maxBatch = maxBatch;
    this.#layout = stateLayout(cells);
    const loaded = cells.map((cell, i) => ({ cell, forms: forms[i]!, maxBatch }));
    this.#residence = device
      ? residenceOnDevice(loaded, this.#layout, device)
      : residenceOnHost(loaded, this.#layout, maxBatch);
    this.#programs = this.#residence.programs;
  }

  /** Throws INVALID_REQUEST where a given graph cannot be used. */
  static async load(cells: readonly CellSpec[], options: OnnxOptions = {}): Promise<OnnxKernel> {
    const { threads = 1, providers, vectorBits, pause = () => {} } = options;
    const sessionOptions = { threads, ...(providers ? { providers } : {}) };
    const limits = { ...FORM_LIMITS, ...options };
    const forms: LoadedForm[][] = [];
    const rewrites: (readonly Rewrite[])[] = [];
    let device: WebGpuRows | undefined;
    try {
      // Without the synchronous binding a state on the device could not be read when it is asked for.
      if (providers?.[0] === "webgpu" && isSynchronous()) device = await WebGpuRows.load(sessionOptions);
      for (const cell of cells) {
        const loaded: LoadedForm[] = [];
        forms.push(loaded);
        const given: Improved | undefined =
          cell.body.kind !== "graph"
            ? undefined
            : providers
              ? { graph: givenGraph(cell), rewrites: [] }
              : await improveGraph(cell, givenGraph(cell), {
                  threads,
                  ...(vectorBits === undefined ? {} : { vectorBits }),
                });
        rewrites.push(given?.rewrites ?? []);
        for await (const form of formsOf(cell, given?.graph, limits, pause)) {
          await pause();
          const graph = device ? deviceGraph(cell, form.graph) : form.graph;
          const onDevice = device ? graph.writes.map(({ name }) => name) : [];
          const session = given?.program
            ? programSession(given.program, vectorBits)
            : await loadSession(graph.onnx, { ...sessionOptions, onDevice });
          loaded.push({ ...form, graph, session });
        }
        await pause();
      }
    } catch (error) {
      for (const { session } of forms.flat()) await session.dispose();
      await device?.close();
      throw error;
    }
    const kernel = new OnnxKernel(cells, forms, rewrites, limits.maxBatch, device);
    kernel.rowsAreIndependent = await rowsAreIndependent(kernel, pause);
    return kernel;
  }

  get bytes(): number {
    const held = [...this.#residence.states, ...this.#programs];
    return held.reduce((sum, { bytes }) => sum + bytes, this.#weightBytes);
  }

  reserve(count: number): void {
    this.#slots = Math.max(this.#slots, count);
    for (const rows of this.#residence.states) rows.reserve(count);
  }

  stepSizes(cell: number): readonly number[] {
    return this.#programs[cell]!.stepSizes;
  }

  stage(cell: number, _rows: number, _steps: number): readonly Values[] {
    return this.#programs[cell]!.inputs;
  }

  run(task: KernelTask): void | Promise<void> {
    return this.#programs[task.cell]!.run(task);
  }

  outputs(cell: number): readonly Values[] {
    return this.#programs[cell]!.outputs;
  }

  clear(slot: number): void {
    for (const rows of this.#residence.states) rows.clear(slot);
  }

  read(slot: number): Float32Array {
    return readSlot(this.#layout, this.#residence.states, slot);
  }

  write(slot: number, states: Float32Array): void {
    writeSlot(this.#layout, this.#residence.states, slot, states);
  }

  async dispose(): Promise<void> {
    await this.#residence.dispose();
    for (const program of this.#programs) await program.dispose();
  }
}
