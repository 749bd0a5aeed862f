import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime } from "../../src/runtime/types.ts";
import { type Server, startServer } from "../../src/server/server.ts";
import { chainModel } from "../fixtures/models.ts";
import { TestClient } from "./client.ts";

const STEPS = 10_000;
const big = { datatype: "FP32", shape: [STEPS, 4], data: new Array(STEPS * 4).fill(0.5) };
const small = { datatype: "FP32", shape: [1, 4], data: [0, 0, 0, 0] };

let runtime: Runtime;
let server: Server;

beforeAll(async () => {
  runtime = await createRuntime({ models: [chainModel("all", 32)], inline: true });
  server = await startServer({ runtime, port: 0, limits: { bufferedBytes: 65_536, slowMs: 300 } });
});

afterAll(async () => {
  await server.close(0);
  await runtime.close(0);
});

describe("a client that does not read", () => {
  it("loses its socket after a while, and nobody else notices", async () => {
    const slow = await TestClient.open(server.port);
    slow.ws.pause();
    for (let i = 0; i < 6; i++) {
      slow.send({
        type: "infer",
        id: `${i}`,
        model: "chain",
        inputs: { x: big },
        parameters: { stream: false },
      });
    }
    const other = await TestClient.open(server.port);
    const connections = async () =>
      /cellbatch_connections (\d+)/.exec(
        await (await fetch(`http://127.0.0.1:${server.port}/metrics`)).text(),
      )?.[1];
    for (let round = 0; (await connections()) === "2"; round++) {
      other.send({ type: "infer", id: `${round}`, model: "chain", inputs: { x: small } });
      await other.next({ type: "done", id: `${round}` });
    }
    expect(await connections()).toBe("1");
    await expect.poll(() => runtime.stats().active).toBe(0);
    other.close();
    slow.ws.terminate();
  });
});
