import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ModelDefinition } from "../../models/definition.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime } from "../../src/runtime/types.ts";
import { type Server, startServer } from "../../src/server/server.ts";
import { listenerModel, lstmCell, writerModel } from "../fixtures/models.ts";
import { TestClient } from "./client.ts";

const about = { version: "1", description: "", cells: [], inputs: [], outputs: [] };
const models: readonly ModelDefinition[] = [
  writerModel(),
  listenerModel(),
  {
    ...listenerModel(),
    name: "ear",
    cells: [lstmCell("cell", { hidden: 1, input: 4 })],
    outputs: [{ name: "h", dtype: "float32", shape: [1] }],
  },
  {
    ...about,
    name: "heard",
    program: {
      kind: "pipeline",
      stages: [
        { name: "ear", model: "ear", inputs: {} },
        {
          name: "mind",
          model: "listener",
          inputs: {},
          gate: { output: "ear.h", open: 0.005, close: -0.05, hold: 0, reset: false },
        },
      ],
      outputs: { level: "ear.h", thought: "mind.h" },
    },
  },
  {
    ...about,
    name: "twice",
    program: {
      kind: "pipeline",
      stages: [
        { name: "one", model: "writer", inputs: {} },
        { name: "two", model: "writer", inputs: { text: "one.text" } },
      ],
    },
  },
];

let runtime: Runtime;
let server: Server;
beforeAll(async () => {
  runtime = await createRuntime({ models, inline: true });
  server = await startServer({ runtime, port: 0 });
}, 180_000);
afterAll(async () => {
  await server.close(0);
  await runtime.close(0);
});

const STEPS = 12;
const values = Array.from({ length: STEPS * 4 }, (_, i) => Math.sin(i * 12.9898));
const x = (from: number, to: number) => ({
  datatype: "FP32",
  shape: [to - from, 4],
  data: values.slice(from * 4, to * 4),
});

/** By step: the level, and the thought where the gate was open. */
async function library(): Promise<{ levels: number[]; thoughts: number[][] }> {
  const session = runtime.session("heard");
  session.push({ x: { dtype: "float32", shape: [STEPS, 4], data: Float32Array.from(values) } });
  await session.end();
  const levels: number[] = [];
  const thoughts: number[][] = [];
  for await (const { outputs } of session) {
    levels.push((outputs.level as { data: Float32Array }).data[0]!);
    if (outputs.thought) thoughts.push([...(outputs.thought as { data: Float32Array }).data]);
  }
  expect(thoughts.length).toBeGreaterThan(0);
  expect(thoughts.length).toBeLessThan(STEPS);
  return { levels, thoughts };
}

const post = async (path: string, body: object) => {
  const url = `http://127.0.0.1:${server.port}${path}`;
  const reply = await fetch(url, { method: "POST", body: JSON.stringify(body) });
  // biome-ignore lint/suspicious/noExplicitAny: the body of an answer, whose shape the test states.
  return (await reply.json()) as any;
};

describe("a pipeline behind the server", () => {
  it("takes sessions over WebSocket, and goes on from a suspended one", async () => {
    const { levels, thoughts } = await library();
    const client = await TestClient.open(server.port);
    client.send({ type: "open", id: "a", model: "heard" });
    client.send({ type: "push", id: "a", inputs: { x: x(0, 5) } });
    client.send({ type: "suspend", id: "a" });
    const { state } = await client.next({ type: "state", id: "a" });
    client.send({ type: "open", id: "b", model: "heard", state });
    client.send({ type: "push", id: "b", inputs: { x: x(5, STEPS) } });
    client.send({ type: "end", id: "b" });
    const done = await client.next({ type: "done", id: "b" });
    const steps = client.messages.filter(({ type }) => type === "output");
    const dataOf = (name: string) =>
      steps.flatMap(({ outputs }) => {
        const output = (outputs as Record<string, { data: number[] }>)[name];
        return output ? [output.data] : [];
      });
    expect(dataOf("level").flat()).toEqual(levels);
    expect(dataOf("thought")).toEqual(thoughts);
    expect((done.usage as { cells: number }).cells).toBeGreaterThan(STEPS - 5);
    client.close();
  });

  it("takes a whole sequence, and sequences by id, over the Open Inference Protocol", async () => {
    const { levels, thoughts } = await library();
    const infer = (from: number, to: number, parameters: object) =>
      post("/v2/models/heard/infer", { parameters, inputs: [{ name: "x", ...x(from, to) }] });
    const dataOf = (reply: { outputs: { name: string; data: number[] }[] }, name: string) =>
      reply.outputs.find((output) => output.name === name)?.data ?? [];
    const whole = await infer(0, STEPS, {});
    expect(dataOf(whole, "level")).toEqual(levels);
    expect(dataOf(whole, "thought")).toEqual(thoughts.flat());
    const first = await infer(0, 7, { sequence_id: 1, sequence_start: true });
    const second = await infer(7, STEPS, { sequence_id: 1, sequence_end: true });
    expect([...dataOf(first, "level"), ...dataOf(second, "level")]).toEqual(levels);
    expect([...dataOf(first, "thought"), ...dataOf(second, "thought")]).toEqual(thoughts.flat());
  });

  it("answers generate, and says what it takes in its metadata", async () => {
    const { outputs } = await runtime.run("twice", { text: "abc" });
    expect((await post("/v2/models/twice/generate", { text: "abc" })).text).toBe(outputs.text);
    const reply = await fetch(`http://127.0.0.1:${server.port}/v2/models/heard`);
    expect(await reply.json()).toMatchObject({
      inputs: [{ name: "x", datatype: "FP32", shape: [-1, 4] }],
      outputs: [
        { name: "level", datatype: "FP32", shape: [-1, 1] },
        { name: "thought", datatype: "FP32", shape: [-1, 8] },
      ],
    });
  });
});
