import type { Values } from "../../kernels/kernel.ts";
import type { CellRun, Graph, Held, Run, Series } from "../../models/definition.ts";
import { Fault } from "../core/faults.ts";
import { checkTensor, sizeOf, type Tensor } from "../core/tensor.ts";
import { BeamSearch } from "./beam.ts";
import { type BoundSeries, EngineRun, type Request } from "./request.ts";
import { bindSeries } from "./series.ts";

/** Collects the runs of one request; each is checked as it is added. */
export class RequestGraph implements Graph {
  /** Milliseconds that the longest path takes at least; counted where the request has a time limit. */
  leastMs = 0;
  readonly #request: Request;
  readonly #leastMs = new Map<EngineRun, number>();
  #runs: EngineRun[] | undefined;
  #absent: EngineRun | undefined;

  constructor(request: Request) {
    this.#request = request;
  }

  run(cell: string, { inputs = {}, steps, from: given = [], generate }: CellRun): Run {
    const request = this.#request;
    const from = given.includes(undefined) ? given.map((run) => run ?? this.#absentRun()) : given;
    const { cells } = request.model.definition;
    const index = cells.findIndex(({ name }) => name === cell);
    const spec = cells[index];
    if (!spec) throw new Fault("INTERNAL", `model '${request.model.definition.name}' has no cell '${cell}'`);
    if (from.length > 0 ? from.length !== spec.reads : spec.reads > 1) {
      throw new Fault(
        "INTERNAL",
        `a run of cell '${cell}' begins from ${from.length} runs, it reads ${spec.reads}`,
      );
    }
    if (spec.inputs.length === 0 && !generate && (steps ?? 0) > 0) {
      const run = new EngineRun(request, index, NO_VALUES, from as readonly EngineRun[]);
      run.steps = steps!;
      this.#countTime(run, steps!);
      return this.#addRun(run);
    }
    const held = spec.inputs.map(({ name }) => {
      const input = inputs[name];
      return input && "held" in input ? input.as : undefined;
    });
    const series = spec.inputs.map(({ name, shape }) => {
      const input = inputs[name];
      if (input && "of" in input) return checkSeries(cell, name, shape, this.#bind(input));
      return input && "held" in input
        ? checkHeld(request, name, shape, input, this.#bind(input.held))
        : undefined;
    });
    const values = spec.inputs.map(({ name }, i) =>
      series[i] ? NOTHING : checkInput(request, index, name, inputs[name] as Tensor | undefined),
    );
    const stepsOf = (i: number) => series[i]?.steps ?? (inputs[spec.inputs[i]!.name] as Tensor).shape[0]!;
    const first = held.indexOf(undefined);
    const known = first >= 0 ? stepsOf(first) : (steps ?? 0);
    spec.inputs.forEach(({ name }, i) => {
      const length = stepsOf(i);
      if (length !== known && !held[i])
        throw new Fault("INVALID_INPUT", `input '${name}' has ${length} steps, others have ${known}`);
    });
    if (known < 1 || (generate && known !== 1)) {
      throw new Fault(
        "INVALID_INPUT",
        `the input of model '${request.model.definition.name}' has ${known} steps`,
      );
    }
    const run = new EngineRun(request, index, values, from as readonly EngineRun[], generate);
    run.steps = generate ? generate.maxSteps : known;
    if (generate?.beam) run.search = new BeamSearch(generate.beam, generate.stop, generate.maxSteps);
    if (series.some((one) => one)) run.series = series;
    if (held.some((one) => one)) run.held = held;
    const firstKnown = request.model.known[index];
    if (firstKnown !== undefined && known === 1 && first === 0) {
      run.slot = firstKnown + values[0]![0]!;
      run.isKnown = true;
      run.isDone = true;
      return run;
    }
    this.#countTime(run, generate ? 1 : known);
    return this.#addRun(run);
  }

  /** What stands for a run that is not there: one whose state is known, and zero. */
  #absentRun(): EngineRun {
    if (!this.#absent) {
      this.#absent = new EngineRun(this.#request, 0, NO_VALUES, []);
      this.#absent.slot = this.#request.model.zeroSlot;
      this.#absent.isKnown = true;
      this.#absent.isDone = true;
    }
    return this.#absent;
  }

  #addRun(run: EngineRun): EngineRun {
    const request = this.#request;
    // The list of one element is a literal; see `Request.runs`.
    if (this.#runs) this.#runs.push(run);
    else if (request.runs.length === 0) request.runs = [run];
    else {
      this.#runs = [...request.runs, run];
      request.runs = this.#runs;
    }
    return run;
  }

  /** A run whose outputs are wanted must run, though its state is known. */
  #mustRun(run: EngineRun): void {
    if (!run.isKnown) return;
    run.isKnown = false;
    run.isDone = false;
    run.slot = -1;
    this.#countTime(run, 1);
    this.#addRun(run);
  }

  #bind(series: Series): BoundSeries {
    for (const { run } of series.of) this.#mustRun(run as EngineRun);
    return bindSeries(series);
  }

  give(name: string, series: Series): void {
    const request = this.#request;
    const output = request.model.definition.outputs.findIndex((spec) => spec.name === name);
    if (output < 0) {
      throw new Fault("INTERNAL", `model '${request.model.definition.name}' has no output '${name}'`);
    }
    request.given = [...request.given, { output, series: this.#bind(series) }];
  }

  /** Least time up to the end of a run; only where there is a limit. */
  #countTime(run: EngineRun, steps: number): void {
    const { model, options } = this.#request;
    if (options.timeoutMs === Number.POSITIVE_INFINITY) return;
    let leastMs = steps * model.profiles[run.index]!.stepMs;
    const own = leastMs;
    for (const before of runsBefore(run)) leastMs = Math.max(leastMs, own + (this.#leastMs.get(before) ?? 0));
    this.#leastMs.set(run, leastMs);
    this.leastMs = Math.max(this.leastMs, leastMs);
  }

  output(name: string, run: Run, output: string, collect: "last" | "all"): void {
    const { model } = this.#request;
    const from = run as EngineRun;
    this.#mustRun(from);
    const all = collect === "all";
    from.outputs = model.outputs.with(from.outputs, from.index, name, output, all);
    from.collectsAll ||= all;
  }
}

/** Runs that must be done before a run can begin. */
export function runsBefore({ from, series }: EngineRun): readonly EngineRun[] {
  if (series.length === 0) return from;
  return [...from, ...series.flatMap((one) => one?.parts.map(({ run }) => run) ?? [])];
}

function checkSeries(cell: string, name: string, shape: readonly number[], series: BoundSeries): BoundSeries {
  if (sizeOf(shape) === sizeOf(series.shape)) return series;
  const expected = `[${shape.join(", ")}]`;
  throw new Fault(
    "INTERNAL",
    `input '${name}' of cell '${cell}' gets [${series.shape.join(", ")}], expected ${expected}`,
  );
}

function checkHeld(
  { model: { definition } }: Request,
  name: string,
  [most = 0, ...rest]: readonly number[],
  { as }: Held,
  series: BoundSeries,
): BoundSeries {
  if (as === "values" && sizeOf(rest) !== sizeOf(series.shape)) {
    const got = `${most} steps of [${series.shape.join(", ")}]`;
    throw new Fault("INTERNAL", `input '${name}' gets ${got}, expected [${[most, ...rest].join(", ")}]`);
  }
  if (series.steps <= most) return series;
  throw new Fault(
    "TOO_LARGE",
    `the input of model '${definition.name}' has ${series.steps} steps, its attention reaches over ${most}`,
  );
}

const NOTHING = new Float32Array(0);
const NO_VALUES: readonly Values[] = [];

/** The values of one input with a leading axis of steps, after checking that they fit the cell. */
export function checkInput(request: Request, cell: number, name: string, tensor: Tensor | undefined) {
  const spec = request.model.definition.cells[cell]!;
  const input = spec.inputs.find((one) => one.name === name)!;
  if (!tensor) throw new Fault("INVALID_INPUT", `input '${name}' is missing`);
  checkTensor(tensor, { ...input, shape: [-1, ...input.shape] });
  const { body } = spec;
  if (name === "token" && "embedding" in body && body.embedding) {
    const wrong = tensor.data.findIndex((token) => token < 0 || token >= body.embedding!.rows);
    if (wrong >= 0) {
      throw new Fault(
        "INVALID_INPUT",
        `input 'token' holds ${tensor.data[wrong]} at ${wrong}, tokens go from 0 to ${body.embedding.rows - 1}`,
      );
    }
  }
  return tensor.data;
}
