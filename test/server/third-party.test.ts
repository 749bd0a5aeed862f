import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { credentials, loadPackageDefinition, Metadata, type ServiceError } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime } from "../../src/runtime/types.ts";
import { makeKey } from "../../src/server/access/key-file.ts";
import { type Server, startServer } from "../../src/server/server.ts";
import { chainModel, listenerModel, writerModel } from "../fixtures/models.ts";

const require = createRequire(import.meta.url);
const { key, entry } = makeKey("third", {}, "2026-01-01T00:00:00.000Z");
const row = [0.5, -1, 0, 2];

let runtime: Runtime;
let server: Server;

beforeAll(async () => {
  runtime = await createRuntime({ models: [chainModel(), listenerModel(), writerModel()], inline: true });
  server = await startServer({ runtime, port: 0, grpcPort: 0, keys: [entry] });
});

afterAll(async () => {
  await server.close(0);
  await runtime.close(0);
});

describe("wscat", () => {
  it("holds a conversation with a key", async () => {
    const program = require.resolve("wscat/bin/wscat");
    const client = spawn(process.execPath, [
      ...[program, "-s", "cellbatch.v1", "-H", `Authorization: Bearer ${key}`, "-w", "-1"],
      ...["-c", `ws://127.0.0.1:${server.port}/v1/stream`],
      ...["-x", JSON.stringify({ type: "infer", id: "1", model: "writer", inputs: { text: "ab" } })],
    ]);
    let text = "";
    client.stdout.on("data", (chunk: Buffer) => {
      text += chunk.toString();
    });
    await expect.poll(() => text, { timeout: 30_000 }).toContain('"type":"done"');
    client.kill();
    const { outputs } = await runtime.run("writer", { text: "ab" });
    expect(text).toContain(JSON.stringify(outputs));
  });
});

describe("autocannon", () => {
  it("is answered with 200 whatever number of connections ask at once", async () => {
    // It has no types.
    const autocannon = require("autocannon") as (options: object) => Promise<object>;
    const result = await autocannon({
      url: `http://127.0.0.1:${server.port}/v2/models/chain/infer`,
      method: "POST",
      headers: { authorization: `Bearer ${key}` },
      body: JSON.stringify({ inputs: [{ name: "x", datatype: "FP32", shape: [1, 4], data: row }] }),
      connections: 20,
      amount: 600,
      timeout: 30,
    });
    expect(result).toMatchObject({ "2xx": 600, non2xx: 0, errors: 0, timeouts: 0 });
  });
});

describe("a gRPC client with a proto of its own", () => {
  type Reply = Record<string, unknown>;
  interface Stub {
    ModelInfer(
      request: object,
      metadata: Metadata,
      done: (error: ServiceError | null, reply: Reply) => void,
    ): void;
    ModelStreamInfer(metadata: Metadata): {
      on(event: "data", hear: (reply: Reply) => void): void;
      on(event: "end", hear: () => void): void;
      write(request: object): void;
      end(): void;
    };
    close(): void;
  }
  const open = (): Stub => {
    const file = fileURLToPath(new URL("fixtures/open-inference.proto", import.meta.url));
    const loaded = loadPackageDefinition(loadSync(file, { keepCase: true })) as unknown as {
      inference: { GRPCInferenceService: new (address: string, secrets: object) => Stub };
    };
    return new loaded.inference.GRPCInferenceService(
      `127.0.0.1:${server.grpcPort}`,
      credentials.createInsecure(),
    );
  };
  const metadata = new Metadata();
  metadata.set("authorization", `Bearer ${key}`);
  const input = { name: "x", datatype: "FP32", shape: [1, 4] };

  it("gets what the library gives, from typed and from raw contents", async () => {
    const stub = open();
    const ask = (more: object) =>
      new Promise<Reply>((resolve, reject) => {
        stub.ModelInfer({ model_name: "chain", id: "7", ...more }, metadata, (error, reply) =>
          error ? reject(error) : resolve(reply),
        );
      });
    const data = Float32Array.from(row);
    const typed = await ask({ inputs: [{ ...input, contents: { fp32_contents: row } }] });
    const raw = await ask({ inputs: [input], raw_input_contents: [Buffer.from(data.buffer)] });
    const { outputs } = await runtime.run("chain", { x: { dtype: "float32", shape: [1, 4], data } });
    const expected = outputs.h as { readonly data: Float32Array };
    for (const { id, raw_output_contents } of [typed, raw]) {
      expect(id).toBe("7");
      const [bytes] = raw_output_contents as [Buffer];
      expect(new Float32Array(new Uint8Array(bytes).buffer)).toEqual(expected.data);
    }
    stub.close();
  });

  it("keeps a sequence over a stream, and is refused without its key", async () => {
    const stub = open();
    const replies: Reply[] = [];
    const stream = stub.ModelStreamInfer(metadata);
    const ended = new Promise<void>((resolve) => stream.on("end", resolve));
    stream.on("data", (reply) => replies.push(reply));
    for (let step = 0; step < 3; step++) {
      stream.write({
        model_name: "listener",
        id: `${step}`,
        parameters: {
          sequence_id: { int64_param: 42 },
          sequence_start: { bool_param: step === 0 },
          sequence_end: { bool_param: step === 2 },
        },
        inputs: [{ ...input, contents: { fp32_contents: row } }],
      });
    }
    stream.end();
    await ended;
    expect(replies.map(({ error_message }) => error_message)).toEqual(["", "", ""]);
    expect(replies.map((one) => (one.infer_response as Reply).id)).toEqual(["0", "1", "2"]);
    const refused = await new Promise<ServiceError | null>((resolve) => {
      stub.ModelInfer({ model_name: "chain" }, new Metadata(), resolve);
    });
    expect(refused).toMatchObject({ code: 16, details: expect.stringMatching(/key/) });
    stub.close();
  });
});
