/** Something that serves requests of some length, whatever is behind it. */
export interface Service {
  /**
   * Begins request `number` of `length` steps; `done` is called once, with what it cost, or with the error. Answers what
   * cancels it.
   */
  ask(number: number, length: number, done: (usage: Usage | Error) => void): () => void;
  /** Cells (rows times steps) and tasks that were run so far, and rows of the last task; zeros where nobody counts. */
  counts(): { readonly cells: number; readonly tasks: number; readonly rows: number };
  close(): Promise<void>;
}

/** Zeros where a service does not say. */
export interface Usage {
  readonly queueMs: number;
  readonly computeMs: number;
  /** Cells that the request took. */
  readonly cells: number;
}

export const NO_COUNTS = { cells: 0, tasks: 0, rows: 0 } as const;

/** The same, but for one request at a time; the others wait in the order they came. */
export function oneAtATime(service: Service): Service {
  const waiting: { start: () => void }[] = [];
  let isBusy = false;
  const next = () => {
    const first = waiting.shift();
    isBusy = first !== undefined;
    first?.start();
  };
  return {
    ask(number, length, done) {
      let cancel: (() => void) | undefined;
      const queuedMs = performance.now();
      const start = () => {
        const waitedMs = performance.now() - queuedMs;
        cancel = service.ask(number, length, (usage) => {
          next();
          done(usage instanceof Error ? usage : { ...usage, queueMs: usage.queueMs + waitedMs });
        });
      };
      const place = { start };
      if (isBusy) waiting.push(place);
      else {
        isBusy = true;
        start();
      }
      return () => {
        const at = waiting.indexOf(place);
        if (at < 0) return cancel?.();
        waiting.splice(at, 1);
        done(new Error("cancelled"));
      };
    },
    counts: () => service.counts(),
    close: () => service.close(),
  };
}
