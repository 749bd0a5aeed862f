import type { GraphKernel } from "../../kernels/graph-kernel.ts";
import type { GraphBuffer, ModelDefinition, WholeGraph } from "../../models/definition.ts";
import { type Batch, BufferSet, bySize } from "../../scheduler/buffer.ts";
import { Fault } from "../core/faults.ts";
import { checkTensor, sizeOf, type Tensor } from "../core/tensor.ts";
import { refuseImpossible } from "./deadline.ts";
import type { DecisionLog } from "./decision-log.ts";
import { type EngineOptions, event } from "./messages.ts";
import type { PacketWriter } from "./packet.ts";
import { type CutRow, cutRow, PaddedInput } from "./padding.ts";
import { RecordedBuffers } from "./recorded-buffers.ts";

/** A request for a whole graph, from its admission to its answer. */
export class GraphRequest {
  readonly id: number;
  readonly lane: GraphLane;
  readonly options: EngineOptions;
  /** By input of the model. */
  readonly inputs: readonly Tensor[];
  /** The length of its inputs' axis of steps; 1 where they have none. */
  readonly steps: number;
  readonly admittedMs: number;
  readonly deadlineMs: number;
  ended = false;

  constructor(
    id: number,
    lane: GraphLane,
    options: EngineOptions,
    inputs: readonly Tensor[],
    steps: number,
    now: number,
  ) {
    this.id = id;
    this.lane = lane;
    this.options = options;
    this.inputs = inputs;
    this.steps = steps;
    this.admittedMs = now;
    this.deadlineMs = now + options.timeoutMs;
  }
}

type GraphInputs = Pick<GraphRequest, "inputs" | "steps">;

interface GraphLog {
  readonly log: DecisionLog;
  readonly graph: number;
}

/** One model that is batched request by request: those who wait, and the batches that they become. */
export class GraphLane {
  readonly definition: ModelDefinition;
  readonly #program: WholeGraph;
  readonly #kernel: GraphKernel;
  readonly #leastMs: (steps: number) => number;
  #buffers: BufferSet;
  #log: GraphLog | undefined;
  readonly #waiting = new Map<number, GraphRequest>();
  /** By input of the graph: where batches are put, and which of the model's inputs it is; -1 for lengths and mask. */
  readonly #inputs: readonly { readonly padded: PaddedInput; readonly at: number }[];

  /** `leastMs` says how long a request of some steps takes at least, in milliseconds; where it is absent none is refused for its time. */
  constructor(definition: ModelDefinition, kernel: GraphKernel, leastMs?: (steps: number) => number) {
    const program = definition.program as WholeGraph;
    this.definition = definition;
    this.#program = program;
    this.#kernel = kernel;
    this.#leastMs = leastMs ?? (() => 0);
    this.#buffers = this.#bufferSet(program.buffers, program.eager);
    this.#inputs = kernel.cell.inputs.map((spec) => ({
      padded: new PaddedInput(spec, program.pad[spec.name] ?? 0),
      at: definition.inputs.findIndex(({ name }) => name === spec.name),
    }));
  }

  get bytes(): number {
    return this.#kernel.bytes;
  }

  /**
   * Puts other buffers in place of these. Requests that wait go over with the time that they have waited; batches that run are
   * not concerned.
   */
  setBuffers(buffers: readonly GraphBuffer[], eager: boolean): void {
    const next = this.#bufferSet(buffers, eager);
    for (const { id, steps, options, deadlineMs, admittedMs } of this.#waiting.values())
      next.add({ id, size: steps, priority: options.priority, deadlineMs }, admittedMs);
    this.#buffers = next;
  }

  /** Writes decisions down from now on; requests name the model by `graph`. */
  record(log: DecisionLog, graph: number): void {
    this.#log = { log, graph };
    this.setBuffers(this.#program.buffers, this.#program.eager);
  }

  /** Most requests of one batch. */
  get maxBatch(): number {
    return Math.max(...this.#program.buffers.map(({ maxBatch }) => maxBatch));
  }

  /** Requests that are in no batch yet. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** When the next batch is due at the latest, on the clock. */
  get nextDueMs(): number {
    return this.#buffers.nextDue();
  }

  /**
   * Takes a request in. Throws INVALID_INPUT where its inputs do not fit the graph or each other, DEADLINE_EXCEEDED where the
   * graph alone takes longer than it may.
   */
  admit(id: number, options: EngineOptions, inputs: readonly Tensor[], now: number): GraphRequest {
    const steps = this.#stepsOf(inputs);
    refuseImpossible(this.#leastMs(steps), options.timeoutMs);
    const request = new GraphRequest(id, this, options, inputs, steps, now);
    this.#waiting.set(id, request);
    this.#buffers.add({ id, size: steps, priority: options.priority, deadlineMs: request.deadlineMs }, now);
    return request;
  }

  /** Forgets a request that waits; one that is in a running batch is not there any more. */
  remove(request: GraphRequest): void {
    if (this.#waiting.delete(request.id)) this.#buffers.remove(request.id);
  }

  /** The requests of a batch that is to run now, if there is one; `isIdle` where the engine has nothing else to do. */
  next(now: number, isIdle: boolean): readonly GraphRequest[] | undefined {
    const batch: Batch | undefined = this.#buffers.due(now, isIdle);
    return batch?.ids.map((id) => {
      const request = this.#waiting.get(id)!;
      this.#waiting.delete(id);
      return request;
    });
  }

  /** The outputs of the graph for these requests, padded to the longest. */
  run(batch: readonly GraphInputs[]): readonly Tensor[] | Promise<readonly Tensor[]> {
    const steps = longest(batch);
    const { lengths, mask } = this.#program;
    const inputs = this.#inputs.map(({ padded, at }, i) => {
      const { name, dtype } = this.#kernel.cell.inputs[i]!;
      const made = dtype === "int32" ? Int32Array : Float32Array;
      const values = batch.map((request) => {
        if (at >= 0) return request.inputs[at]!.data;
        return name === lengths
          ? made.of(request.steps)
          : new made(request.steps).fill(name === mask ? 1 : 0);
      });
      return padded.batch(values, steps);
    });
    return this.#kernel.run(inputs);
  }

  /** Runs the graph once, over one step of zeros, so that the first request does not wait for what is made at a first run. */
  async warmUp(): Promise<void> {
    const inputs = this.definition.inputs.map(({ dtype, shape }): Tensor => {
      const own = shape.map((dim) => Math.max(1, dim));
      const size = sizeOf(own);
      return dtype === "int32"
        ? { dtype, shape: own, data: new Int32Array(size) }
        : { dtype, shape: own, data: new Float32Array(size) };
    });
    const steps = this.#stepsOf(inputs);
    try {
      await this.run([{ inputs, steps }]);
    } catch {
      // Zeros may be nothing that this graph takes; what is wrong with a request is told to who sends it.
    }
  }

  /** Each request's part of the graph's outputs. Throws INTERNAL where those have not the shapes it declares. */
  cut(batch: readonly GraphRequest[], outputs: readonly Tensor[]): CutRow[][] {
    const padded = longest(batch);
    return batch.map(({ steps }, row) =>
      this.definition.outputs.map((spec, i) => cutRow(spec, outputs[i]!, row, steps, padded)),
    );
  }

  dispose(): void | Promise<void> {
    return this.#kernel.dispose();
  }

  #bufferSet(buffers: readonly GraphBuffer[], eager: boolean): BufferSet {
    const { order } = this.#program;
    const settings = bySize(buffers);
    const options = { order, workConserving: eager };
    if (!this.#log) return new BufferSet(settings, options);
    const { log, graph } = this.#log;
    log.setBuffers({ graph, name: this.definition.name, eager, order, buffers });
    return new RecordedBuffers(settings, options, this.#log);
  }

  #stepsOf(inputs: readonly Tensor[]): number {
    const { name, inputs: specs } = this.definition;
    let steps: number | undefined;
    let first = "";
    specs.forEach((spec, at) => {
      const tensor = inputs[at];
      if (!tensor) throw new Fault("INVALID_INPUT", `input '${spec.name}' is missing`);
      checkTensor(tensor, spec);
      const own = this.#inputs.find((input) => input.at === at)!.padded.stepsOf(tensor);
      if (own === undefined) return;
      if (own === 0) throw new Fault("INVALID_INPUT", `input '${spec.name}' of model '${name}' has no steps`);
      if (steps !== undefined && own !== steps)
        throw new Fault("INVALID_INPUT", `input '${spec.name}' has ${own} steps, '${first}' has ${steps}`);
      steps = own;
      first = spec.name;
    });
    return steps ?? 1;
  }
}

function longest(batch: readonly GraphInputs[]): number {
  return batch.reduce((most, { steps }) => Math.max(most, steps), 0);
}

/** Writes a request's answer. */
export function writeGraphAnswer(
  to: PacketWriter,
  request: GraphRequest,
  outputs: readonly CutRow[],
  startedMs: number,
  now: number,
): void {
  const { id, options, admittedMs } = request;
  if (options.stream) {
    to.int(event.OUTPUT);
    to.int(id);
    to.int(0);
    writeOutputs(to, outputs);
  }
  to.int(event.DONE);
  to.int(id);
  to.int(1);
  to.double(startedMs - admittedMs);
  to.double(now - startedMs);
  writeOutputs(to, outputs);
}

function writeOutputs(to: PacketWriter, outputs: readonly CutRow[]): void {
  to.int(outputs.length);
  outputs.forEach(({ shape, values }, output) => {
    to.int(output);
    to.tensor(shape, values);
  });
}
