import { credentials, loadPackageDefinition, Metadata } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { SpanStatusCode, trace } from "@opentelemetry/api";
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
} from "@opentelemetry/sdk-trace-base";
import fc from "fast-check";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime } from "../../src/runtime/types.ts";
import { type Server, startServer } from "../../src/server/server.ts";
import { spanContextOf } from "../../src/server/spans.ts";
import { listenerModel, writerModel } from "../fixtures/models.ts";
import { TestClient } from "./client.ts";

const exporter = new InMemorySpanExporter();
let runtime: Runtime;
let untraced: Server;
let server: Server;

beforeAll(async () => {
  runtime = await createRuntime({ models: [writerModel(), listenerModel()], inline: true });
  untraced = await startServer({ runtime, port: 0 });
  trace.setGlobalTracerProvider(
    new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }),
  );
  server = await startServer({ runtime, port: 0, grpcPort: 0 });
}, 180_000);
afterAll(async () => {
  await untraced.close(0);
  await server.close(0);
  await runtime.close(0);
  trace.disable();
});
beforeEach(() => exporter.reset());

const TRACE = "0af7651916cd43dd8448eb211c80319c";
const PARENT = "b7ad6b7169203331";
const traceparent = `00-${TRACE}-${PARENT}-01`;

const ms = ([seconds, nanoseconds]: ReadableSpan["startTime"]) => seconds * 1000 + nanoseconds / 1e6;
const spansNamed = (name: string) => exporter.getFinishedSpans().filter((span) => span.name === name);

function expectChildOfClient(): void {
  const [span, ...others] = spansNamed("infer writer");
  expect(others).toEqual([]);
  expect([span!.spanContext().traceId, span!.parentSpanContext?.spanId]).toEqual([TRACE, PARENT]);
}

const post = (path: string, body: object, headers: Record<string, string> = {}, to = server) =>
  fetch(`http://127.0.0.1:${to.port}${path}`, { method: "POST", body: JSON.stringify(body), headers });

/** One ModelInfer of the writer. */
async function grpcInfer(headers: Readonly<Record<string, string>>): Promise<void> {
  const file = new URL("../../src/server/grpc/inference.proto", import.meta.url).pathname;
  // biome-ignore lint/suspicious/noExplicitAny: a client that is made at run time.
  const { inference } = loadPackageDefinition(loadSync(file, { keepCase: true })) as any;
  const client = new inference.GRPCInferenceService(
    `127.0.0.1:${server.grpcPort}`,
    credentials.createInsecure(),
  );
  const metadata = new Metadata();
  for (const [key, value] of Object.entries(headers)) metadata.set(key, value);
  const contents = { bytes_contents: [Buffer.from("ab")] };
  const request = {
    model_name: "writer",
    inputs: [{ name: "text", datatype: "BYTES", shape: [1], contents }],
  };
  await new Promise<void>((resolve, reject) => {
    client.ModelInfer(request, metadata, (error: Error | null) => (error ? reject(error) : resolve()));
  });
  client.close();
}

describe("the spans of a server", () => {
  it("divide a request over WebSocket into queue and compute, under the client's span", async () => {
    const client = await TestClient.open(server.port);
    client.send({
      type: "infer",
      id: "a",
      model: "writer",
      inputs: { text: "ab" },
      parameters: { traceparent },
    });
    await client.next({ type: "done", id: "a" });
    client.close();
    expectChildOfClient();
    const [span] = spansNamed("infer writer");
    const [queue] = spansNamed("queue");
    const [compute] = spansNamed("compute");
    for (const child of [queue!, compute!]) {
      expect(child.parentSpanContext?.spanId).toBe(span!.spanContext().spanId);
    }
    expect(span!.attributes).toMatchObject({
      "cellbatch.model": "writer",
      "cellbatch.code": "OK",
      "cellbatch.cells": 22,
    });
    expect(ms(queue!.startTime)).toBe(ms(span!.startTime));
    expect(ms(compute!.startTime)).toBe(ms(queue!.endTime));
    expect(ms(compute!.endTime)).toBeLessThanOrEqual(ms(span!.endTime));
  });

  it("take the client's span from HTTP headers and gRPC metadata", async () => {
    await post("/v2/models/writer/generate", { text: "ab" }, { traceparent });
    expectChildOfClient();
    exporter.reset();
    await grpcInfer({ traceparent });
    expectChildOfClient();
  });

  it("begin a trace of their own without one, or with one that is malformed", async () => {
    await post("/v2/models/writer/generate", { text: "ab" });
    await post("/v2/models/writer/generate", { text: "ab" }, { traceparent: "00-0-0-01" });
    const spans = spansNamed("infer writer");
    expect(spans.map(({ parentSpanContext }) => parentSpanContext)).toEqual([undefined, undefined]);
    expect(new Set(spans.map((span) => span.spanContext().traceId)).size).toBe(2);
  });

  it("say that a request failed, and with what", async () => {
    const reply = await post("/v2/models/writer/generate", { text: "ab", timeout: 1 });
    expect(reply.status).toBe(504);
    const [span] = spansNamed("infer writer");
    expect(span!.status).toEqual({ code: SpanStatusCode.ERROR, message: "DEADLINE_EXCEEDED" });
    expect(spansNamed("queue")).toEqual([]);
  });

  it("are there for each request of a sequence", async () => {
    const x = { name: "x", datatype: "FP32", shape: [1, 4], data: [0, 0, 0, 0] };
    const part = (parameters: object) =>
      post("/v2/models/listener/infer", { parameters, inputs: [x] }, { traceparent });
    await part({ sequence_id: 7, sequence_start: true });
    await part({ sequence_id: 7, sequence_end: true });
    const spans = spansNamed("infer listener");
    expect(spans.map(({ parentSpanContext }) => parentSpanContext?.spanId)).toEqual([PARENT, PARENT]);
  });

  it("are not made by a server that was started before anyone registered a provider", async () => {
    await post("/v2/models/writer/generate", { text: "ab" }, { traceparent }, untraced);
    expect(exporter.getFinishedSpans()).toEqual([]);
  });

  it("know a traceparent by the standard's form and take nothing else for one", () => {
    const hex = (length: number) =>
      fc.string({ unit: fc.constantFrom(..."0123456789abcdef"), minLength: length, maxLength: length });
    fc.assert(
      fc.property(hex(32), hex(16), fc.boolean(), (traceId, spanId, sampled) => {
        fc.pre(/[^0]/.test(traceId) && /[^0]/.test(spanId));
        const found = spanContextOf(`00-${traceId}-${spanId}-0${sampled ? 1 : 0}`);
        expect(found).toEqual({ traceId, spanId, traceFlags: sampled ? 1 : 0, isRemote: true });
      }),
    );
    fc.assert(
      fc.property(fc.string(), (text) => {
        const found = spanContextOf(text);
        expect(found === undefined || /^[0-9a-f]{2}-[0-9a-f]{32}-/.test(text.trim())).toBe(true);
      }),
    );
    for (const wrong of [
      `ff-${TRACE}-${PARENT}-01`,
      `00-${"0".repeat(32)}-${PARENT}-01`,
      `${traceparent}-x`,
    ]) {
      expect(spanContextOf(wrong)).toBeUndefined();
    }
    expect(spanContextOf(`01-${TRACE}-${PARENT}-01-more`)).toBeDefined();
  });
});
