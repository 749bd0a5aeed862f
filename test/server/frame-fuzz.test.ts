import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime } from "../../src/runtime/types.ts";
import { type Server, startServer } from "../../src/server/server.ts";
import { chainModel, listenerModel, writerModel } from "../fixtures/models.ts";
import { TestClient } from "./client.ts";

let runtime: Runtime;
let server: Server;
const unexpected: unknown[] = [];

beforeAll(async () => {
  runtime = await createRuntime({ models: [chainModel(), writerModel(), listenerModel()], inline: true });
  const limits = { frameBytes: 65_536, openIds: 8, inputs: 8, sessions: 6, graceMs: 200, parked: 2 };
  server = await startServer({ runtime, port: 0, limits, unexpected: (error) => unexpected.push(error) });
});

afterAll(async () => {
  await server.close(0);
  await runtime.close(0);
});

const id = fc.constantFrom("a", "b", "c");
const model = fc.constantFrom("chain", "writer", "listener", "nope");
const row = fc.array(fc.double({ min: -1, max: 1, noNaN: true }), { minLength: 4, maxLength: 4 });
const size = fc.constantFrom(0, 4, 16, 32);
const tensor = fc.record(
  {
    datatype: fc.constantFrom("FP32", "INT64", "FP16", "BYTES", "x"),
    shape: fc.array(fc.constantFrom(0, 1, 2, 4), { maxLength: 3 }),
    data: fc.array(fc.oneof(fc.double(), fc.boolean(), fc.string()), { maxLength: 8 }),
    parameters: fc.record({ binary_data_size: size }),
  },
  { requiredKeys: ["datatype", "shape"] },
);
const inputs = fc.oneof(
  fc.record({ x: fc.array(row, { minLength: 1, maxLength: 3 }) }),
  fc.record({ text: fc.constantFrom("ab", "", "?") }),
  fc.dictionary(fc.constantFrom("x", "text", "__proto__", "token"), fc.oneof(tensor, fc.jsonValue())),
);
const parameters = fc.record(
  {
    stream: fc.boolean(),
    priority: fc.integer({ min: -1, max: 10 }),
    timeout_ms: fc.oneof(fc.constantFrom(0, 1e-9, 50), fc.double()),
    max_steps: fc.nat(30),
    seed: fc.nat(),
  },
  { requiredKeys: [] },
);
const known = fc.oneof(
  fc.record({ type: fc.constant("infer"), id, model, inputs, parameters }),
  fc.record(
    {
      type: fc.constant("open"),
      id,
      model: fc.oneof({ weight: 4, arbitrary: fc.constant("listener") }, model),
      parameters,
      state: fc.oneof(fc.string(), fc.base64String()),
      grace_ms: fc.constantFrom(0, 1, 1000),
    },
    { requiredKeys: ["type", "id", "model"] },
  ),
  fc.record({ type: fc.constant("push"), id, inputs }),
  fc.record({ type: fc.constantFrom("end", "keepalive", "cancel", "suspend"), id }),
  fc.record({ type: fc.constant("marker"), id, marker: fc.nat() }),
  fc.record({ type: fc.constant("fork"), id, as: id }),
  fc.record({ type: fc.constant("resume"), id, token: fc.string(), step: fc.nat(3) }),
);
const message = fc.oneof({ weight: 12, arbitrary: known }, fc.jsonValue());
const tail = fc.uint8Array({ maxLength: 32 });
const frame = fc.oneof(
  { weight: 6, arbitrary: message.map((one) => JSON.stringify(one)) },
  { weight: 3, arbitrary: fc.tuple(message, tail).map(([one, bytes]) => binary(JSON.stringify(one), bytes)) },
  fc.string(),
  fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes)),
);

function binary(json: string, bytes: Uint8Array): Buffer {
  const text = Buffer.from(json);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(text.length);
  return Buffer.concat([length, text, bytes]);
}

describe("a socket", () => {
  it("answers or refuses any frames in any order, never by an error of ours, and serves on", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(frame, { minLength: 1, maxLength: 25 }), async (frames) => {
        const client = await TestClient.open(server.port);
        for (const one of frames) client.ws.send(one);
        client.send({ type: "infer", id: "after", model: "chain", inputs: { x: [[0, 0, 0, 0]] } });
        await client.next({ type: "done", id: "after" });
        const ours = client.messages.filter(({ code }) => code === "INTERNAL");
        expect(ours).toEqual([]);
        for (const { message: sentence } of client.messages) expect(`${sentence}`).not.toMatch(/\n\s+at /);
        expect(unexpected).toEqual([]);
        client.ws.terminate();
      }),
      { numRuns: 60 },
    );
    await expect.poll(() => runtime.stats().active, { timeout: 10_000 }).toBe(0);
  });
});
