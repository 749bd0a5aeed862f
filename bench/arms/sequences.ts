import { float32, int32, type Tensor } from "../../src/core/tensor.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import { chainOf, lstmCell, tokenCell } from "../fixtures.ts";
import type { Service } from "../load/service.ts";
import { type WholeBatching, wholeSequenceModel } from "./whole-sequence.ts";

/** An LSTM of some width over sequences of tokens (through an embedding of its own width) or of vectors. */
export interface SequenceModel {
  readonly hidden: number;
  readonly input: "token" | "vector";
}

export type SequenceArm =
  | { readonly arm: "cellular"; readonly maxBatch?: number }
  | ({ readonly arm: "graph" } & WholeBatching)
  | { readonly arm: "single" };

const ONE_AT_A_TIME: WholeBatching = {
  maxBatch: 1,
  timeoutMs: 0,
  order: "oldest",
  bucketWidth: Number.POSITIVE_INFINITY,
};
const MOST_STEPS = 340;

/** Serves the model the way an arm says, with one engine on one thread. */
export async function serveSequences({ hidden, input }: SequenceModel, how: SequenceArm): Promise<Service> {
  const cell = input === "token" ? tokenCell(hidden) : lstmCell(hidden);
  const model =
    how.arm === "cellular"
      ? chainOf("lstm", cell)
      : wholeSequenceModel("lstm", cell, how.arm === "single" ? ONE_AT_A_TIME : how);
  const runtime = await createRuntime({
    models: [model],
    engines: 1,
    maxActive: 100_000,
    ...(how.arm === "cellular" && how.maxBatch !== undefined ? { maxBatch: how.maxBatch } : {}),
  });
  const vectors = new Float32Array((MOST_STEPS + 64) * hidden).map((_, i) => Math.sin(i));
  const tokens = Int32Array.from({ length: MOST_STEPS + 256 }, (_, i) => (i * 11) & 255);
  const inputOf = (number: number, length: number): Readonly<Record<string, Tensor>> => {
    if (input === "token") {
      const from = number & 255;
      return { token: int32([length], tokens.subarray(from, from + length)) };
    }
    const from = (number & 63) * hidden;
    return { x: float32([length, hidden], vectors.subarray(from, from + length * hidden)) };
  };
  return {
    ask(number, length, done) {
      const handle = runtime.submit(
        "lstm",
        inputOf(number, length),
        {},
        { done: ({ usage }) => done(usage), failed: done },
      );
      return () => handle.cancel();
    },
    counts: () => runtime.stats(),
    close: () => runtime.close(0),
  };
}
