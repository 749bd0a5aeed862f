import type { CellSpec } from "../src/core/cell.ts";
import type { Tensor, TensorSpec } from "../src/core/tensor.ts";
import type { Codec } from "./codec.ts";
import type { Pipeline } from "./pipeline.ts";

/**
 * How a request unfolds into cells. Tensor inputs are named as the inputs of the cell that takes them, with a leading
 * axis of steps; tensor outputs likewise.
 *
 * - `chain`: the cell over all steps of the input; answers its outputs of the last step or of all steps.
 * - `generate`: the cell over `start` and the prompt `token [steps]`, then over its own tokens until `stop` or `maxSteps`;
 *   answers `token`, without the prompt and the stop.
 * - `seq2seq`: the encoder over `token [steps]` (backwards where `reverse`), then the decoder from the encoder's last
 *   state and `start`, over its own tokens until `stop` or `maxSteps`; answers `token` without the stop. See `Attention`.
 * - `tree`: the cells of a tree-LSTM from the leaves up; see `Tree`.
 * - `session`: the cell over input that arrives over time; answers its outputs of every step.
 * - `layers`: each layer over all steps of the layer before it, the first over the request's inputs; see `Layer`. Answers
 *   what `collect` takes of the last layer's outputs, given once through `head` where there is one; see `Collect`.
 * - `graph`: the cell once over whole requests, for models that cannot be cut into cells; see `WholeGraph`.
 * - `pipeline`: requests or sessions of other models, one after the other; see `Pipeline`. It has no cells of its own.
 * - `custom`: what `unfold` says.
 */
export type Program =
  | { readonly kind: "chain"; readonly cell: string; readonly collect: "last" | "all" }
  | {
      readonly kind: "generate";
      readonly cell: string;
      readonly start: number;
      readonly stop: number;
      readonly maxSteps: number;
      readonly beam?: Beam;
    }
  | {
      readonly kind: "seq2seq";
      readonly encoder: string;
      readonly decoder: string;
      readonly reverse: boolean;
      readonly attention?: Attention;
      readonly start: number;
      readonly stop: number;
      readonly maxSteps: number;
      readonly beam?: Beam;
    }
  | Tree
  | { readonly kind: "session"; readonly cell: string }
  | {
      readonly kind: "layers";
      readonly layers: readonly Layer[];
      /** One for all outputs of the last layer, or one each by name for those that are answered. */
      readonly collect: Collect | Readonly<Record<string, Collect>>;
      /**
       * A cell without states that takes collected outputs by name and runs once per request. Answers its outputs and,
       * unchanged, what it does not take.
       */
      readonly head?: string;
    }
  | WholeGraph
  | Pipeline
  | { readonly kind: "custom"; readonly unfold: Unfold };

/**
 * A tree whose nodes begin from the states of their children. `node` reads a slot for each of them: an N-ary tree. Where
 * there is a cell `child`, nodes have any number of children, which it adds one after the other to a sum, and `node` reads
 * the sum: a child-sum tree. `head`, where there is one, runs on the root. Answers the outputs of the head, else of the root.
 *
 * What a request gives besides the tensors of its values hangs on `node`:
 *
 * - It has no input: the values are those of the leaves, `token [leaves]` or `x [leaves, size]`, which `leaf` takes, and
 *   `children [nodes, N]` (any width for child-sum) names the children of every node, -1 for none. A number below `leaves` is a
 *   leaf, `leaves + i` is node `i`; a node stands before its parent, and the last one is the root.
 * - It has inputs: every node has values of its own, `[nodes, ...]`, and `parent [nodes]` names the one above it, -1 for the
 *   root. Children count from the left in the order of their numbers. `child` takes the inputs of the node above; so does
 *   `leaf`, where there is one, of a node without children.
 */
export interface Tree {
  readonly kind: "tree";
  readonly leaf?: string;
  readonly child?: string;
  readonly node: string;
  readonly head?: string;
}

/**
 * A graph whose requests are batched whole: they wait in buffers, and those of one batch are padded to the longest. An axis
 * of -1 in the shape of an input or output is that of a request's steps; an input has one such axis at most, and all inputs
 * of a request have as many steps. Outputs are cut back to the request's own steps; where the graph gives fewer or more than
 * the batch has, to the same share of them, rounded up.
 */
export interface WholeGraph {
  readonly kind: "graph";
  readonly cell: string;
  /** Input `[]` that gets each request's number of steps. */
  readonly lengths?: string;
  /** Input `[-1]` that gets 1 where a request has a step and 0 behind. */
  readonly mask?: string;
  /** By input: what stands behind a request's steps. @default 0 */
  readonly pad: Readonly<Record<string, number>>;
  /** Which buffer goes first where several are due; see `BufferSetOptions`. @default "oldest" */
  readonly order: "fullest" | "oldest" | "round-robin";
  /** Whether a batch that is not full goes as soon as the engine has nothing else to do. @default true */
  readonly eager: boolean;
  /** By ascending `upTo`, which only the last one lacks. @default one of 64 requests and 5 ms */
  readonly buffers: readonly GraphBuffer[];
}

/** Where requests of some lengths wait for each other. */
export interface GraphBuffer {
  /** Most steps of a request in it. @default any number above those of the buffer before */
  readonly upTo?: number;
  /** Requests of one batch; 1 or more. */
  readonly maxBatch: number;
  /** Milliseconds from its first request until it goes, full or not; 0 to 60,000. */
  readonly timeoutMs: number;
}

/**
 * What a decoder looks back at: the encoder's `output` of every step, in the order of the tokens, as the decoder's input
 * `memory [most, size]`, the same at every step; and its input `mask [most]`, 1 where there is a step and 0 behind. A
 * request of more than `most` steps is refused. Which attention it is (Bahdanau, Luong) is the decoder's affair.
 */
export interface Attention {
  readonly memory: string;
  readonly mask: string;
  readonly output: string;
  /** A second encoder over the tokens in the other direction; its outputs stand behind the first one's. */
  readonly other?: string;
}

/**
 * Beam search in place of the likeliest token at each step, for cells with the output `logits`. Answers `token` of the best
 * sequence, `token.2` to `token.N` of the next ones (empty where fewer were found), and `score [found]`: the sum of the log
 * probabilities over the length, stop included, to the power of `lengthPenalty`.
 */
export interface Beam {
  /** Hypotheses that are kept at every step, each a row; 1 to 64. */
  readonly width: number;
  /** 0 favours short sequences, 1 takes the mean over tokens. @default 1 */
  readonly lengthPenalty: number;
  /** Sequences that are answered; at most `width`. @default 1 */
  readonly nBest: number;
}

/**
 * Cells that run over the same steps, at least one: `forward` from the first to the last, `backward` from the last to the
 * first, its outputs then put back into the order of the steps. Outputs that both give are merged by name, `concat` along
 * their last axis with the forward one first; an output that one of them gives is taken as it is. A cell that reads no
 * slot is a function of each step alone. Cells take the outputs of the layer before by name; a cell with one input after a
 * layer with one output takes that, whatever its name.
 */
export interface Layer {
  readonly forward?: string;
  readonly backward?: string;
  readonly merge: "concat" | "sum" | "mean" | "mul";
}

/**
 * What is answered of an output: `all` steps with a leading axis; what each cell gave after the `last` step it took, which
 * for a backward cell is the first of the sequence, then merged; or the `mean` or `max` over all steps.
 */
export type Collect = "last" | "all" | "mean" | "max";

/** A text value that stands for a tensor of tokens; a tree in brackets also for the tensor that its codec names. */
export interface TextValue {
  readonly name: string;
  /** The tensor `int32 [-1]` it stands for. */
  readonly tensor: string;
  readonly codec: Codec;
}

/** Everything that is needed to serve a model. Plain data, but for the function of a `custom` program. */
export interface ModelDefinition {
  readonly name: string;
  readonly version: string;
  readonly description: string;
  readonly cells: readonly CellSpec[];
  readonly program: Program;
  /** Of a pipeline: none, they are known once its stages are. */
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  /** Inputs and outputs that callers give and get as text. */
  readonly text?: { readonly inputs: readonly TextValue[]; readonly outputs: readonly TextValue[] };
  /** Most steps of input of one request, or of one push of a session. @default 10 000 */
  readonly maxInputSteps?: number;
  /** Of a pipeline: the models that lie in its folder and are served with it. */
  readonly parts?: readonly ModelDefinition[];
  /** Inputs to try it with, for the command line. */
  readonly example?: Readonly<Record<string, string>>;
}

/** Turns one request into cells. Runs in the engine, so it must be quick and keep no state of its own. */
export type Unfold = (graph: Graph, inputs: Readonly<Record<string, Tensor>>, options: UnfoldOptions) => void;

export interface UnfoldOptions {
  /** Most cells that a generating run may take; `Infinity` where the caller set no limit. */
  readonly maxSteps: number;
  /** Width of a beam search in place of the model's own; 0 where the caller gave none. */
  readonly beamWidth: number;
}

/** The cells of one request while they are being added. */
export interface Graph {
  /** Adds a run of cells of one type, each after the one before. Throws INVALID_INPUT where inputs do not fit. */
  run(cell: string, run: CellRun): Run;
  /** Gives an output of a run to the caller: of its last step, or of all steps with a leading axis. */
  output(name: string, run: Run, output: string, collect: "last" | "all"): void;
  /** Gives a series to the caller: with a leading axis of steps where it collects all. */
  give(name: string, series: Series): void;
}

/**
 * A value that is the same at every step of a run: a series in front of zeros, for an input `[most, ...]`; or where its steps
 * are, for an input `[most]`: 1, and 0 behind. Of a run that generates.
 */
export interface Held {
  readonly held: Series;
  readonly as: "values" | "mask";
}

/** Outputs of runs over equally many steps, put together step by step once all of them are done. */
export interface Series {
  /** `backwards` where a run took the steps from the last to the first. */
  readonly of: readonly { readonly run: Run; readonly output: string; readonly backwards?: boolean }[];
  /** What becomes of the outputs of one step; `concat` along their last axis. @default "concat" */
  readonly merge?: Layer["merge"];
  /** @default "all" */
  readonly collect?: Collect;
  /** Whether its steps come in reverse order. @default false */
  readonly backwards?: boolean;
}

export interface CellRun {
  /** Values of the cell's inputs, each with a leading axis of steps. Of a generating run: the first step's. */
  readonly inputs?: Readonly<Record<string, Tensor | Series | Held>>;
  /** How many cells, where the cell has no inputs. @default the leading axis of the inputs */
  readonly steps?: number;
  /** Runs whose last states this one begins from; as many as the cell reads, or none for zeros, as is undefined for one. */
  readonly from?: readonly (Run | undefined)[];
  /** Goes on with its own tokens: output `token` becomes input `token` until it is `stop`, at most `maxSteps` times. */
  readonly generate?: { readonly stop: number; readonly maxSteps: number; readonly beam?: Beam };
}

/** A run of cells that was added to a graph. */
export interface Run {
  readonly cell: string;
}
