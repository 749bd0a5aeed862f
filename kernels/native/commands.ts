/** How a request ended. */
export const reason = { complete: 0, stop: 1, limit: 2, cancelled: 3 } as const;

/** Words at the start of the ring, and sizes of its parts. As `ring` in `addon/engine/protocol.h`. */
export const ring = {
  entries: 0,
  steps: 1,
  submissions: 2,
  rows: 3,
  calls: 4,
  waiting: 5,
  failed: 6,
  header: 16,
  words: 8,
} as const;

/** A request that is one cell, step after step. */
export interface ChainCommand {
  readonly cell: number;
  /** Of `inputs`; 1 or more. */
  readonly steps: number;
  /** Tokens, or vectors one after the other. */
  readonly inputs: Int32Array | Float32Array;
  /** Goes on after the inputs with the tokens that it gives. @default ends with the inputs */
  readonly generate?: Generation;
  /** Begins from what this slot's request ends with, and is cancelled when that is. @default zeros, or `state` */
  readonly follows?: number;
  /** `[h, c]` to begin from. @default zeros */
  readonly state?: Float32Array;
}

export interface Generation {
  /** Most tokens; 1 or more. */
  readonly most: number;
  /** Ends the request and is not among its tokens. @default none */
  readonly stop?: number;
  /** @default the likeliest token */
  readonly sampling?: { readonly temperature: number; readonly topK: number; readonly topP: number };
  /** Of the draws. @default 0 */
  readonly seed?: number;
}

/** A binary tree. Part `p` is leaf `p`, or node `p - leaves`; the last part is the root. */
export interface TreeCommand {
  readonly leafCell: number;
  readonly nodeCell: number;
  /** What reads the root. @default nothing does */
  readonly headCell?: number;
  readonly leaves: number;
  /** Of the leaves: tokens, or vectors one after the other. */
  readonly inputs: Int32Array | Float32Array;
  /** By node two parts before it, each the child of one node. */
  readonly children: Int32Array;
}

/** Words of commands, in memory that is used again after `clear`. The layout is drawn in `addon/engine/protocol.h`. */
export class CommandWriter {
  words = new Int32Array(4096);
  length = 0;
  #floats = new Float32Array(this.words.buffer);

  admit(slot: number, { cell, steps, inputs, generate, follows, state }: ChainCommand): void {
    const stateWords = state?.length ?? 0;
    const at = this.#begin(ADMIT, ADMIT_WORDS + stateWords + inputs.length, slot);
    const { words } = this;
    const sampling = generate?.sampling;
    words[at + 2] = cell;
    words[at + 3] =
      (generate ? GENERATE : 0) |
      (sampling ? SAMPLE : 0) |
      (follows === undefined ? 0 : FOLLOW) |
      (state ? STATE : 0);
    words[at + 4] = follows ?? NONE;
    words[at + 5] = steps;
    words[at + 6] = generate?.most ?? 0;
    words[at + 7] = generate?.stop ?? NONE;
    words[at + 8] = generate?.seed ?? 0;
    this.#floats[at + 9] = sampling?.temperature ?? 1;
    words[at + 10] = sampling?.topK ?? 0;
    this.#floats[at + 11] = sampling?.topP ?? 1;
    if (state) this.#floats.set(state, at + ADMIT_WORDS);
    this.#put(inputs, at + ADMIT_WORDS + stateWords);
  }

  tree(slot: number, { leafCell, nodeCell, headCell = NONE, leaves, inputs, children }: TreeCommand): void {
    const at = this.#begin(TREE, TREE_WORDS + inputs.length + children.length, slot);
    this.words.set([leafCell, nodeCell, headCell, leaves], at + 2);
    this.#put(inputs, at + TREE_WORDS);
    this.words.set(children, at + TREE_WORDS + inputs.length);
  }

  /** Nothing happens where the slot's request has ended. */
  cancel(slot: number): void {
    this.#begin(CANCEL, 2, slot);
  }

  /** Lets a chain take at most this many steps in all; ends it at once where it has. Nothing happens to trees. */
  limitSteps(slot: number, steps: number): void {
    const at = this.#begin(STEP_LIMIT, 3, slot);
    this.words[at + 2] = steps;
  }

  clear(): void {
    this.length = 0;
  }

  #begin(command: number, count: number, slot: number): number {
    const at = this.length;
    this.length += count;
    if (this.length > this.words.length) this.#grow();
    this.words[at] = command + 16 * count;
    this.words[at + 1] = slot;
    return at;
  }

  #put(values: Int32Array | Float32Array, at: number): void {
    const into = values instanceof Int32Array ? this.words : this.#floats;
    // A call of `set` costs more than a few values.
    if (values.length > 64) into.set(values, at);
    else for (let i = 0; i < values.length; i++) into[at + i] = values[i]!;
  }

  #grow(): void {
    const grown = new Int32Array(2 * this.length);
    grown.set(this.words);
    this.words = grown;
    this.#floats = new Float32Array(grown.buffer);
  }
}

const [ADMIT, TREE, CANCEL, STEP_LIMIT] = [1, 2, 3, 4] as const;
const [GENERATE, SAMPLE, FOLLOW, STATE] = [1, 2, 4, 8] as const;
const ADMIT_WORDS = 12;
const TREE_WORDS = 6;
const NONE = -1;
