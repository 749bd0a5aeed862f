import type { Values } from "./values.ts";

/** The outputs of one step of a request or session. */
export interface StepOutput {
  /** Counts from 0 within the request or session. */
  readonly step: number;
  readonly outputs: Values;
}

/** Steps between the socket and their reader. */
export class StepQueue {
  #steps: StepOutput[] = [];
  #read = 0;
  #end: { readonly error?: Error } | undefined;
  #wake: (() => void) | undefined;

  /** Steps that nobody has read. */
  get size(): number {
    return this.#steps.length - this.#read;
  }

  push(step: StepOutput): void {
    this.#steps.push(step);
    this.#wake?.();
  }

  /** No step follows; the error, if any, is thrown after those that are there. */
  end(error?: Error): void {
    this.#end ??= error ? { error } : {};
    this.#wake?.();
  }

  /** The next step; undefined after the last. */
  async next(): Promise<StepOutput | undefined> {
    while (this.size === 0) {
      if (this.#end?.error) throw this.#end.error;
      if (this.#end) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
    const step = this.#steps[this.#read++]!;
    if (this.#read === this.#steps.length) {
      this.#steps = [];
      this.#read = 0;
    }
    return step;
  }
}
