import { Tensor } from "onnxruntime-node";
import type { CellSpec } from "../../src/core/cell.ts";
import { sizeOf, type TensorSpec } from "../../src/core/tensor.ts";
import { type Kernel, type KernelTask, type Pause, stateLayout, type Values } from "../kernel.ts";
import { programSession } from "../native/program.ts";
import { rowsAreIndependent } from "../row-check.ts";
import { readSlot, writeSlot } from "../slot-states.ts";
import { StateRows } from "../state-rows.ts";
import type { Port } from "./cell-graph.ts";
import type { Rewrite } from "./choice.ts";
import { FORM_LIMITS, type Form, type FormLimits, formsOf } from "./forms.ts";
import { type Improved, improveGraph } from "./improve.ts";
import { loadSession, type Session, type Tensors } from "./session.ts";
import { givenGraph } from "./step-graph.ts";

export interface OnnxOptions extends Partial<FormLimits> {
  /** Threads of one call; more than 1 pays only where no other engine wants the core. @default 1 */
  readonly threads?: number;
  /**
   * ONNX Runtime's execution providers in order of preference, `["cuda", "cpu"]` say. States cross to the device and back at
   * every step, and given graphs are not rewritten: their rewrites are chosen by time on the CPU. @default ["cpu"]
   */
  readonly providers?: readonly string[];
  /** Of programs that take the place of given graphs: see `ImproveOptions`; 0 leaves all to ONNX Runtime. @default the widest */
  readonly vectorBits?: number;
  /** Waited for between the pieces of loading, so that others may use the thread; a piece is one graph at most. @default no wait */
  readonly pause?: Pause;
}

/** Runs cells with ONNX Runtime on the CPU. */
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
  /** As the layout. */
  readonly #states: readonly StateRows[];
  readonly #weightBytes: number;
  #slots = 0;

  private constructor(
    cells: readonly CellSpec[],
    forms: readonly LoadedForm[][],
    rewrites: readonly (readonly Rewrite[])[],
    maxBatch: number,
  ) {
    this.cells = cells;
    this.#weightBytes = forms
      .flat()
      .reduce((sum, { graph, session }) => sum + (session.bytes ?? graph.onnx.byteLength), 0);
    this.rewrites = rewrites;
    this.maxBatch = maxBatch;
    this.#layout = stateLayout(cells);
    this.#states = this.#layout.map(({ size }) => new StateRows(size, cells.length, maxBatch));
    this.#programs = cells.map(
      (cell, i) =>
        new Program(
          cell,
          i,
          forms[i]!,
          maxBatch,
          cell.states.map((state) => this.#stateOf(state.name)),
        ),
    );
  }

  /** Throws INVALID_REQUEST where a given graph cannot be used. */
  static async load(cells: readonly CellSpec[], options: OnnxOptions = {}): Promise<OnnxKernel> {
    const { threads = 1, providers, vectorBits, pause = () => {} } = options;
    const sessionOptions = { threads, ...(providers ? { providers } : {}) };
    const limits = { ...FORM_LIMITS, ...options };
    const forms: LoadedForm[][] = [];
    const rewrites: (readonly Rewrite[])[] = [];
    try {
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
          const session = given?.program
            ? programSession(given.program, vectorBits)
            : await loadSession(form.graph.onnx, sessionOptions);
          loaded.push({ ...form, session });
        }
        await pause();
      }
    } catch (error) {
      for (const { session } of forms.flat()) await session.dispose();
      throw error;
    }
    const kernel = new OnnxKernel(cells, forms, rewrites, limits.maxBatch);
    kernel.rowsAreIndependent = await rowsAreIndependent(kernel, pause);
    return kernel;
  }

  get bytes(): number {
    const held = [...this.#states, ...this.#programs];
    return held.reduce((sum, { bytes }) => sum + bytes, this.#weightBytes);
  }

  reserve(count: number): void {
    this.#slots = Math.max(this.#slots, count);
    for (const rows of this.#states) rows.reserve(count);
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
    for (const rows of this.#states) rows.clear(slot);
  }

  read(slot: number): Float32Array {
    return readSlot(this.#layout, this.#states, slot);
  }

  write(slot: number, states: Float32Array): void {
    writeSlot(this.#layout, this.#states, slot, states);
  }

  async dispose(): Promise<void> {
    for (const program of this.#programs) await program.dispose();
  }

  #stateOf(name: string): StateRows {
    return this.#states[this.#layout.findIndex((state) => state.name === name)]!;
  }
}

interface LoadedForm extends Form {
  readonly session: Session;
}

/** One cell's sessions and buffers. */
class Program {
  readonly inputs: readonly Values[];
  /** Of the last task; a next state is given where it lies in its bank. */
  outputs: readonly Values[];
  readonly #outputs: readonly Values[];
  readonly stepSizes: readonly number[];
  readonly #cell: CellSpec;
  readonly #index: number;
  readonly #forms: readonly LoadedForm[];
  readonly #states: readonly StateRows[];
  /** By read, then by state: where rows that do not stay in their bank are gathered; none for a chain. */
  readonly #gathered: readonly (readonly Float32Array[])[];
  /** Tensors of a call by steps, bank and rows, made once. */
  readonly #calls = new Map<number, Call>();
  readonly #maxBatch: number;

  constructor(
    cell: CellSpec,
    index: number,
    forms: readonly LoadedForm[],
    maxBatch: number,
    states: readonly StateRows[],
  ) {
    this.#cell = cell;
    this.#index = index;
    this.#forms = forms;
    this.#states = states;
    this.#maxBatch = maxBatch;
    this.inputs = cell.inputs.map((spec) => valuesFor(spec, maxBatch));
    this.#outputs = cell.outputs.map((spec) => valuesFor(spec, maxBatch));
    this.outputs = this.#outputs;
    this.stepSizes = forms[0]!.sizes ?? forms.map(({ steps }) => steps);
    this.#gathered = this.#stays
      ? []
      : Array.from({ length: cell.reads }, () =>
          cell.states.map(({ shape }) => new Float32Array(maxBatch * sizeOf(shape))),
        );
  }

  get bytes(): number {
    const buffers = [...this.inputs, ...this.#outputs, ...this.#gathered.flat()];
    return buffers.reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  run(task: KernelTask): void | Promise<void> {
    const { rows, steps, reads, writes } = task;
    const states = this.#states;
    for (let i = 0; i < states.length; i++) {
      if (this.#stays) states[i]!.align(this.#index, reads, rows);
      for (let read = 0; read < this.#gathered.length; read++) {
        states[i]!.gather(this.#gathered[read]![i]!, reads, this.#cell.reads, read, rows);
      }
      if (this.#cell.writes) states[i]!.vacate(this.#index);
    }
    const call = this.#call(rows, steps);
    this.outputs = call.outputs;
    const pending = call.session.run(call.feeds, call.fetches);
    if (pending) return pending.then(() => this.#commit(writes, rows));
    this.#commit(writes, rows);
  }

  async dispose(): Promise<void> {
    for (const { session } of this.#forms) await session.dispose();
  }

  /** Whether rows stay in the cell's own banks from task to task. */
  get #stays(): boolean {
    return this.#cell.reads === 1 && this.#cell.writes;
  }

  #commit(writes: Int32Array, rows: number): void {
    if (this.#cell.writes) for (const state of this.#states) state.commit(this.#index, writes, rows);
  }

  #call(rows: number, steps: number): Call {
    const side = this.#states[0]?.side(this.#index) ?? 0;
    const key = (rows * 1024 + steps) * 2 + side;
    let call = this.#calls.get(key);
    if (!call) {
      call = this.#makeCall(rows, steps, side);
      this.#calls.set(key, call);
    }
    return call;
  }

  #makeCall(rows: number, steps: number, side: 0 | 1): Call {
    const form = this.#forms.find((one) => one.steps === steps || one.steps === 0);
    if (!form)
      throw new RangeError(
        `cell '${this.#cell.name}' takes ${this.stepSizes.join(", ")} steps, not ${steps}`,
      );
    if (rows * steps > this.#maxBatch) {
      throw new RangeError(`${rows} rows of ${steps} steps are more than maxBatch ${this.#maxBatch}`);
    }
    const { graph, session } = form;
    const feeds: Tensors = {};
    const fetches: Tensors = {};
    const add = (to: Tensors, port: Port, values: Values) => {
      const dims = port.dims(rows, steps);
      const view = values.subarray(0, sizeOf(dims));
      to[port.name] =
        view instanceof Int32Array ? new Tensor("int32", view, dims) : new Tensor("float32", view, dims);
    };
    graph.inputs.forEach((port, i) => add(feeds, port, this.inputs[i]!));
    const other = side === 0 ? 1 : 0;
    graph.reads.forEach((ports, read) => {
      ports.forEach((port, i) => {
        add(feeds, port, this.#stays ? this.#states[i]!.bank(this.#index, side) : this.#gathered[read]![i]!);
      });
    });
    graph.writes.forEach((port, i) => add(fetches, port, this.#states[i]!.bank(this.#index, other)));
    const outputs = graph.outputs.map((port, i) => {
      const state = graph.writes.findIndex(({ name }) => name === port.name);
      if (state >= 0) return this.#states[state]!.bank(this.#index, other);
      add(fetches, port, this.#outputs[i]!);
      return this.#outputs[i]!;
    });
    return { session, feeds, fetches, outputs };
  }
}

interface Call {
  readonly session: Session;
  readonly feeds: Tensors;
  readonly fetches: Tensors;
  /** As `cell.outputs`. */
  readonly outputs: readonly Values[];
}

function valuesFor(spec: TensorSpec, rows: number): Values {
  const length = rows * sizeOf(spec.shape);
  return spec.dtype === "int32" ? new Int32Array(length) : new Float32Array(length);
}
