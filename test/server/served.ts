import { afterAll, beforeAll, expect } from "vitest";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime } from "../../src/runtime/types.ts";
import { type Server, type ServerSettings, startServer } from "../../src/server/server.ts";
import { chainModel, listenerModel, writerModel } from "../fixtures/models.ts";

/** A server of the small models, from before the first test of a file to after its last. */
export class Served {
  runtime!: Runtime;
  server!: Server;
  /** Errors that were no faults; the file fails if there are any. */
  readonly unexpected: unknown[] = [];

  /** What the library answers for a chain over the same values. */
  async chain(values: readonly number[]): Promise<number[]> {
    const data = Float32Array.from(values);
    const { outputs } = await this.runtime.run("chain", {
      x: { dtype: "float32", shape: [values.length / 4, 4], data },
    });
    return [...(outputs.h as { data: Float32Array }).data];
  }
}

/** Serves `chain`, `writer` and `listener` to the tests of a file, 32 requests at a time. */
export function serve(options: Pick<ServerSettings, "grpcPort" | "limits">): Served {
  const served = new Served();
  beforeAll(async () => {
    served.runtime = await createRuntime({
      models: [chainModel("all"), writerModel(), listenerModel()],
      inline: true,
      maxActive: 32,
    });
    served.server = await startServer({
      ...options,
      runtime: served.runtime,
      port: 0,
      version: "1.2.3",
      unexpected: (error) => served.unexpected.push(error),
    });
  });
  afterAll(async () => {
    await served.server.close(0);
    await served.runtime.close(0);
    expect(served.unexpected).toEqual([]);
  });
  return served;
}

/** Input of so many steps, by number of the first. */
export const ramp = (steps: number, from = 0) =>
  Array.from({ length: steps * 4 }, (_, i) => ((from * 4 + i) % 7) / 8);

export const floats = (values: readonly number[]) => Buffer.from(Float32Array.from(values).buffer);
