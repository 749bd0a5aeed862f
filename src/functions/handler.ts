import { Fault } from "../core/faults.ts";
import { createRuntime } from "../runtime/create.ts";
import type { Runtime } from "../runtime/types.ts";
import { type Answer, answerOf, readInvocation } from "./payload.ts";

/** A function: a batch in, its results out. */
export type Handler = (batch: unknown) => Promise<Answer>;

/**
 * Loads a model and answers batches with it, all requests of a batch at once: those of the cellular lane share its steps,
 * those of a whole graph become one padded batch as far as its buffers go. Bad requests fail alone.
 */
export async function batchHandler(
  model: string,
): Promise<{ readonly handle: Handler; readonly runtime: Runtime }> {
  const runtime = await createRuntime({ models: [model], inline: true });
  const handle: Handler = async (batch) => {
    const { model, requests } = readInvocation(batch);
    const results = await Promise.all(
      requests.map(({ inputs, options }) =>
        runtime.run(model, inputs, options).catch((error) => Fault.from(error)),
      ),
    );
    return answerOf(results);
  };
  return { handle, runtime };
}
