/** Something that serves requests of some length, whatever is behind it. */
export interface Service {
  /**
   * Begins request `number` of `length` steps; `done` is called once, with what it cost, or with the error. Answers what
   * cancels it.
   */
  ask(number: number, length: number, done: (usage: Usage | Error) => void): () => void;
  /** Cells (rows times steps) and tasks that were run so far; zeros where nobody counts. */
  counts(): { readonly cells: number; readonly tasks: number };
  close(): Promise<void>;
}

export interface Usage {
  readonly queueMs: number;
  readonly computeMs: number;
}
