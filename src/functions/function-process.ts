import { Fault } from "../core/faults.ts";
import { batchHandler } from "./handler.ts";

/** What the pool tells this process, and hears from it. */
export type ToFunction =
  | { readonly kind: "load"; readonly model: string }
  | { readonly kind: "batch"; readonly number: number; readonly batch: unknown };
export type FromFunction =
  | { readonly kind: "ready" }
  | { readonly kind: "answer"; readonly number: number; readonly answer: unknown; readonly ms: number }
  | { readonly kind: "failed"; readonly number?: number; readonly code: string; readonly message: string };

const tell = (message: FromFunction) => process.send?.(message);
const fail = (error: unknown, number?: number) => {
  const { code, message } = Fault.from(error);
  tell({ kind: "failed", code, message, ...(number === undefined ? {} : { number }) });
};

let loaded: ReturnType<typeof batchHandler> | undefined;
process.on("message", (message: ToFunction) => {
  if (message.kind === "load") {
    loaded = batchHandler(message.model);
    loaded.then(() => tell({ kind: "ready" }), fail);
    return;
  }
  const { number, batch } = message;
  const startMs = performance.now();
  loaded
    ?.then(({ handle }) => handle(batch))
    .then(
      (answer) => tell({ kind: "answer", number, answer, ms: performance.now() - startMs }),
      (error) => fail(error, number),
    );
});
// The pool is gone: nobody would hear an answer.
process.on("disconnect", () => process.exit());
