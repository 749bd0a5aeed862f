import { sliceSteps, type Values } from "./values.ts";

interface Entry {
  /** Position of its first step among all inputs of the session. */
  readonly at: number;
  readonly steps: number;
  readonly inputs: Values;
}

/** The latest inputs of a session, by position: what must be sent again when it goes on from an earlier state. */
export class InputLog {
  #entries: readonly Entry[] = [];
  #end: number;

  constructor(from: number) {
    this.#end = from;
  }

  /** Position behind the last input. */
  get end(): number {
    return this.#end;
  }

  /** Position of the first input that is there; `end` where none is. */
  get start(): number {
    return this.#entries[0]?.at ?? this.#end;
  }

  /** `inputs` have a leading axis of `steps`. */
  append(inputs: Values, steps: number): void {
    this.#entries = [...this.#entries, { at: this.#end, steps, inputs }];
    this.#end += steps;
  }

  /** Forgets inputs before `position`; an entry that reaches beyond stays whole. */
  dropBefore(position: number): void {
    this.#entries = this.#entries.filter(({ at, steps }) => at + steps > position);
  }

  /** Up to `most` inputs of one entry, from `position` on; undefined at the end. */
  from(position: number, most: number): { readonly inputs: Values; readonly steps: number } | undefined {
    const entry = this.#entries.find(({ at, steps }) => at + steps > position);
    if (!entry) return undefined;
    const skipped = position - entry.at;
    const steps = Math.min(most, entry.steps - skipped);
    return steps === entry.steps ? entry : { steps, inputs: sliceSteps(entry.inputs, skipped, steps) };
  }

  copy(): InputLog {
    const copy = new InputLog(this.#end);
    copy.#entries = this.#entries;
    return copy;
  }
}
