import { isLabel, sayAxes } from "./axes.ts";
import {
  type Activation,
  type ActivationName,
  collect,
  type Direction,
  type Recurrence,
  reshape,
  stateOf,
} from "./expression.ts";
import { Uncuttable } from "./faults.ts";
import {
  type Call,
  constantAt,
  integersAt,
  isGiven,
  type Rule,
  type Traced,
  tensorAt,
  traced,
} from "./values.ts";

/** Nodes LSTM, GRU and RNN (https://onnx.ai/onnx/operators/onnx__LSTM.html and its siblings), from version 7. */
export const recurrenceRules: Readonly<Record<string, Rule>> = { LSTM: trace, GRU: trace, RNN: trace };

export function isRecurrent(op: string): boolean {
  return Object.hasOwn(recurrenceRules, op);
}

const GATES = { LSTM: 4, GRU: 3, RNN: 1 } as const;
const ACTIVATIONS = { LSTM: ["Sigmoid", "Tanh", "Tanh"], GRU: ["Sigmoid", "Tanh"], RNN: ["Tanh"] } as const;

function trace(call: Call): readonly Traced[] {
  const { node, opset } = call;
  if (opset < 7) throw new Uncuttable(`follows version ${opset} of the operators; versions from 7 are read`);
  const kind = node.op as keyof typeof GATES;
  const batchFirst = node.attributes.int("layout", 0) !== 0;
  const x = tensorAt(call, 0);
  const [time, batch] = batchFirst ? [x.axes[1], x.axes[0]] : [x.axes[0], x.axes[1]];
  const width = x.axes[2];
  if (x.axes.length !== 3 || time !== "time" || (batch !== "batch" && batch !== 1) || isLabel(width)) {
    throw new Uncuttable(`takes axes ${sayAxes(x.axes)} where it wants steps, rows and values`);
  }
  checkLengths(call);
  const of = recurrenceOf(call, kind, { ...x, axes: [time, batch, width!] }, batchFirst);
  const { hidden } = of;
  const count = of.directions.length;
  const y = stateOf(of, "h");
  const last = (which: "h" | "c"): Traced => {
    const axes = batchFirst ? [batch, count, hidden] : [count, batch, hidden];
    const dims = axes.filter((axis) => typeof axis === "number");
    return traced(axes, reshape(collect(stateOf(of, which), "final"), dims));
  };
  const axes = batchFirst ? [batch, time, count, hidden] : [time, count, batch, hidden];
  const dims = axes.filter((axis) => typeof axis === "number");
  const all = [traced(axes, reshape(y, dims)), last("h")];
  return kind === "LSTM" ? [...all, last("c")] : all;
}

function recurrenceOf(call: Call, kind: keyof typeof GATES, x: Traced, batchFirst: boolean): Recurrence {
  const { node } = call;
  const { attributes } = node;
  const gates = GATES[kind];
  const w = constantAt(call, 1);
  const r = constantAt(call, 2);
  const hidden = r.dims[2] ?? 0;
  const count = r.dims[0] ?? 0;
  const input = x.axes[2] as number;
  const heading = attributes.text("direction", "forward");
  const reversed = { forward: [false], reverse: [true], bidirectional: [false, true] }[heading];
  if (!reversed) throw new Uncuttable(`has direction '${heading}'`);
  expectShape("W", w.dims, [reversed.length, gates * hidden, input]);
  expectShape("R", r.dims, [count, gates * hidden, hidden]);
  expectShape("R", r.dims, [reversed.length, gates * hidden, hidden]);
  const declared = attributes.int("hidden_size", hidden);
  if (declared !== hidden || hidden === 0)
    throw new Uncuttable(`has hidden_size ${declared}, its weights have ${hidden}`);
  const part = (index: number, length: number, name: string) => {
    if (!isGiven(call, index)) return undefined;
    const { dims, constant } = constantAt(call, index);
    expectShape(name, dims, [reversed.length, length]);
    return (direction: number) =>
      constant.data.subarray(direction * length, (direction + 1) * length) as Float32Array;
  };
  const biases = part(3, 2 * gates * hidden, "B");
  const peepholes = kind === "LSTM" ? part(7, 3 * hidden, "P") : undefined;
  const h0 = initialState(call, 5, { directions: reversed.length, hidden, batchFirst });
  const c0 =
    kind === "LSTM" ? initialState(call, 6, { directions: reversed.length, hidden, batchFirst }) : undefined;
  const activations = activationsOf(call, kind, reversed.length);
  const own = (data: Float32Array | Float64Array, direction: number) =>
    data.subarray(
      (direction * data.length) / reversed.length,
      ((direction + 1) * data.length) / reversed.length,
    ) as Float32Array;
  const clip = attributes.float("clip", 0);
  const each = ACTIVATIONS[kind].length;
  return {
    name: node.name,
    kind,
    hidden,
    x: reshape(x.expression, [input]),
    directions: reversed.map((reverse, i): Direction => {
      const bias = biases?.(i) ?? new Float32Array(2 * gates * hidden);
      return {
        reverse,
        w: own(w.constant.data, i),
        r: own(r.constant.data, i),
        wb: bias.subarray(0, gates * hidden),
        rb: bias.subarray(gates * hidden),
        p: peepholes?.(i),
        h0: h0?.[i],
        c0: c0?.[i],
        activations: activations.slice(i * each, (i + 1) * each),
      };
    }),
    clip: clip > 0 ? clip : undefined,
    inputForget: attributes.int("input_forget", 0) !== 0,
    linearBeforeReset: attributes.int("linear_before_reset", 0) !== 0,
  };
}

/** A request is as long as it is, so lengths may only say what is so anyway. */
function checkLengths(call: Call): void {
  const given = call.inputs[4];
  if (!given || given.kind === "lengths") return;
  const lengths = integersAt(call, 4)!;
  const steps = call.fixed.time;
  if (lengths.every((length) => length === steps)) return;
  throw new Uncuttable(`has sequence_lens [${lengths.join(", ")}] that do not come with the request`);
}

/** State before the first step by direction; zeros are left out. All rows must begin alike. */
function initialState(
  call: Call,
  index: number,
  {
    directions,
    hidden,
    batchFirst,
  }: { readonly directions: number; readonly hidden: number; readonly batchFirst: boolean },
): (Float32Array | undefined)[] | undefined {
  if (!isGiven(call, index)) return undefined;
  const { axes, expression } = tensorAt(call, index);
  if (expression.kind !== "constant") {
    throw new Uncuttable(`begins from a state ('${call.node.inputs[index]}') that other nodes compute`);
  }
  const rowsAxis = batchFirst ? 0 : 1;
  const rows = isLabel(axes[rowsAxis]) ? 1 : (axes[rowsAxis] ?? 0);
  const [first, last] = [axes[batchFirst ? 1 : 0], axes[2]];
  if (axes.length !== 3 || first !== directions || last !== hidden) {
    throw new Uncuttable(
      `begins from a state of ${sayAxes(axes)} where it wants [${directions}, rows, ${hidden}]`,
    );
  }
  const { data } = expression.constant;
  const at = (direction: number, row: number) =>
    data.subarray(
      (batchFirst ? row * directions + direction : direction * rows + row) * hidden,
      (batchFirst ? row * directions + direction : direction * rows + row) * hidden + hidden,
    ) as Float32Array;
  return Array.from({ length: directions }, (_, direction) => {
    const own = at(direction, 0);
    for (let row = 1; row < rows; row++) {
      if (at(direction, row).some((value, i) => value !== own[i])) {
        throw new Uncuttable(`begins from states ('${call.node.inputs[index]}') that differ between rows`);
      }
    }
    return own.some((value) => value !== 0) ? own : undefined;
  });
}

/** Which of alpha and beta a function takes, with the default where the specification has one. */
const PARAMETERS: Readonly<
  Record<ActivationName, { readonly alpha?: number | null; readonly beta?: number | null }>
> = {
  Affine: { alpha: null, beta: null },
  Elu: { alpha: 1 },
  HardSigmoid: { alpha: Math.fround(0.2), beta: 0.5 },
  LeakyRelu: { alpha: Math.fround(0.01) },
  Relu: {},
  ScaledTanh: { alpha: null, beta: null },
  Sigmoid: {},
  Softplus: {},
  Softsign: {},
  Tanh: {},
  ThresholdedRelu: { alpha: 1 },
};

const NAMES = new Map(Object.keys(PARAMETERS).map((name) => [name.toLowerCase(), name as ActivationName]));

/** The functions of all directions, each with the next alpha and beta if it takes one. */
function activationsOf({ node }: Call, kind: keyof typeof GATES, directions: number): Activation[] {
  const { attributes } = node;
  const usual = Array.from({ length: directions }, () => ACTIVATIONS[kind]).flat();
  const given = attributes.texts("activations");
  const names: readonly string[] = given.length > 0 ? given : usual;
  if (names.length !== usual.length) {
    throw new Uncuttable(`names ${names.length} activations, it has ${usual.length}`);
  }
  const alphas = attributes.floats("activation_alpha");
  const betas = attributes.floats("activation_beta");
  return names.map((name): Activation => {
    const op = NAMES.get(name.toLowerCase());
    if (!op) throw new Uncuttable(`has activation '${name}'`);
    const next = (values: number[], absent: number | null | undefined, what: string) => {
      if (absent === undefined) return 0;
      const value = values.shift() ?? absent;
      if (value === null) throw new Uncuttable(`gives activation '${op}' no ${what}`);
      return value;
    };
    const { alpha, beta } = PARAMETERS[op];
    return { op, alpha: next(alphas, alpha, "alpha"), beta: next(betas, beta, "beta") };
  });
}

function expectShape(name: string, dims: readonly number[], wanted: readonly number[]): void {
  if (dims.length === wanted.length && dims.every((dim, i) => dim === wanted[i])) return;
  throw new Uncuttable(`has ${name} of shape [${dims.join(", ")}], expected [${wanted.join(", ")}]`);
}
