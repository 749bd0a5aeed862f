import type { ModelDefinition } from "../../models/definition.ts";
import { Fault } from "../core/faults.ts";
import type { InputShape, Requests } from "../load/requests.ts";
import type { Service, Usage } from "../load/service.ts";
import type { Runtime } from "../runtime/types.ts";

/** What requests for a model are made of. */
export function inputShapes({ inputs, text, cells, program }: ModelDefinition): InputShape[] {
  const embedded = cells.flatMap(({ body }) =>
    (body.kind === "lstm" || body.kind === "gru" || body.kind === "tree-leaf") && body.embedding
      ? [body.embedding.rows]
      : [],
  );
  // Where nothing says how many there are, only 0 is sure to be one.
  const kinds = embedded.length > 0 ? Math.min(...embedded) : 1;
  return inputs.map(({ name, dtype, shape }) => {
    const found = text?.inputs.find(({ tensor }) => tensor === name);
    if (found) {
      // A tokenizer takes any letters.
      if (found.codec.kind === "tokenizer") return { name: found.name, type: "text", shape };
      const { symbols, kind } = found.codec;
      return {
        name: found.name,
        type: "text",
        shape,
        symbols: plainSymbols(symbols),
        isSpaced: kind === "symbols",
      };
    }
    const isTree = program.kind === "tree" && name === "children";
    return { name, type: dtype, shape, isTree, kinds };
  });
}

/** Without those that stand for a beginning, an end or a blank. */
function plainSymbols(symbols: readonly string[]): string[] {
  const plain = symbols.filter((symbol) => /^[^<>\s]+$/.test(symbol));
  return plain.length > 0 ? plain : [...symbols];
}

export interface ModelRequests {
  readonly model: string;
  readonly requests: Requests;
  /** Most cells that a generating request may take. */
  readonly maxSteps?: number;
}

/** Sends requests to a model of a runtime; for one that takes sessions each is a session whose input is pushed at once. */
export function serviceOf(runtime: Runtime, { model, requests, maxSteps }: ModelRequests): Service {
  const streaming = runtime.models.find(({ name }) => name === model)?.streaming ?? false;
  const options = maxSteps === undefined ? {} : { maxSteps };
  return {
    ask(number, length, done) {
      const listener = {
        done: ({ usage }: { readonly usage: Usage }) => done(usage),
        failed: (fault: Fault) => done(fault),
      };
      try {
        const inputs = requests(number, length);
        if (!streaming) {
          const handle = runtime.submit(model, inputs, options, listener);
          return () => handle.cancel();
        }
        const session = runtime.open(model, {}, listener);
        session.push(inputs);
        session.end();
        return () => session.cancel();
      } catch (error) {
        setImmediate(() => done(Fault.from(error)));
        return () => {};
      }
    },
    counts: () => runtime.stats(),
    close: () => runtime.close(0),
  };
}
