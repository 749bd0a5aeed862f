import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime } from "../../src/runtime/types.ts";
import { type Server, startServer } from "../../src/server/server.ts";
import { chainModel, listenerModel, writerModel } from "../fixtures/models.ts";

let runtime: Runtime;
let server: Server;
const unexpected: unknown[] = [];

beforeAll(async () => {
  runtime = await createRuntime({ models: [chainModel(), writerModel(), listenerModel()], inline: true });
  const limits = { sequences: 16, bodyBytes: 65_536, idleMs: 50 };
  server = await startServer({ runtime, port: 0, limits, unexpected: (error) => unexpected.push(error) });
});

afterAll(async () => {
  await server.close(0);
  await runtime.close(0);
});

interface Schema {
  readonly type?: string;
  readonly anyOf?: readonly Schema[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: Schema | boolean;
  readonly items?: Schema;
}

interface Operation {
  readonly requestBody?: { readonly content: { readonly "application/json": { readonly schema: Schema } } };
}

/** Values that reach further than chance would, by the name of the property. */
const telling: Readonly<Record<string, fc.Arbitrary<unknown>>> = {
  name: fc.constantFrom("x", "text", "token", "h"),
  datatype: fc.constantFrom("FP32", "FP64", "INT64", "BYTES", "FP16", "BOOL"),
  shape: fc.array(fc.constantFrom(0, 1, 2, 4), { maxLength: 3 }),
  data: fc.array(fc.oneof(fc.constantFrom(0, 1, "a", true), fc.double()), { maxLength: 8 }),
  parameters: fc.dictionary(
    fc.constantFrom(
      "sequence_id",
      "sequence_start",
      "sequence_end",
      "timeout",
      "seed",
      "binary_data_output",
      "top_k",
    ),
    fc.oneof(fc.boolean(), fc.nat(3), fc.string({ maxLength: 3 }), fc.double()),
    { maxKeys: 4 },
  ),
};

/** Values as a schema of the documentation has them, with a foreign one here and there. */
function arbitraryOf(schema: Schema): fc.Arbitrary<unknown> {
  const { type, anyOf, properties = {}, required = [], additionalProperties, items } = schema;
  if (anyOf) return fc.oneof(...anyOf.map(arbitraryOf));
  if (type === "string") return fc.string();
  if (type === "boolean") return fc.boolean();
  if (type === "integer") return fc.oneof(fc.nat(8), fc.integer(), fc.maxSafeInteger());
  if (type === "number") return fc.double();
  if (type === "array") return fc.array(arbitraryOf(items ?? {}), { maxLength: 3 });
  if (type !== "object") return fc.jsonValue();
  const fields = Object.entries(properties).map(([name, one]) => {
    const ordinary = telling[name]
      ? fc.oneof({ weight: 3, arbitrary: telling[name] }, arbitraryOf(one))
      : arbitraryOf(one);
    return [name, fc.oneof({ weight: 12, arbitrary: ordinary }, fc.jsonValue())] as const;
  });
  const known = fc.record(Object.fromEntries(fields), { requiredKeys: [...required] });
  if (!additionalProperties) return known;
  const extra = fc.dictionary(
    fc.oneof(fc.constantFrom("x", "text", "text_input", "__proto__", "max_steps"), fc.string()),
    fc.oneof(
      arbitraryOf(additionalProperties === true ? {} : additionalProperties),
      telling.data!,
      fc.string(),
    ),
    { maxKeys: 3 },
  );
  return fc.tuple(known, extra).map(([a, b]) => ({ ...b, ...(a as object) }));
}

const segment = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom("chain", "writer", "listener", "1") },
  fc.string({ minLength: 1 }).map(encodeURIComponent),
);

/** Sends a request and demands an answer that is a result or a refusal. */
async function answers(path: string, init: RequestInit): Promise<void> {
  const signal = AbortSignal.timeout(10_000);
  const reply = await fetch(`http://127.0.0.1:${server.port}${path}`, { ...init, signal });
  const text = await reply.text();
  // Not supported, full, and too late are refusals; anything else of 500 and above is our mistake.
  if (reply.status >= 500) expect([501, 503, 504], `${init.method} ${path}: ${text}`).toContain(reply.status);
  if (reply.status >= 400) expect(JSON.parse(text)).toEqual({ error: expect.any(String) });
  expect(unexpected).toEqual([]);
}

describe("every route of the documentation", () => {
  it("answers or refuses whatever its schema lets through, and what it does not", async () => {
    const document = (await (await fetch(`http://127.0.0.1:${server.port}/docs/json`)).json()) as {
      readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
    };
    const routes = Object.entries(document.paths).flatMap(([path, operations]) =>
      Object.entries(operations).map(([method, operation]) => ({ path, method, operation })),
    );
    expect(routes.length).toBeGreaterThan(20);
    for (const { path, method, operation } of routes) {
      const filled = fc
        .array(segment, { minLength: 2, maxLength: 2 })
        .map((parts) => path.replace("{model}", parts[0]!).replace("{version}", parts[1]!));
      const schema = operation.requestBody?.content["application/json"].schema;
      const body = schema
        ? fc.oneof(
            { weight: 9, arbitrary: arbitraryOf(schema).map((one) => JSON.stringify(one)) },
            fc.string(),
          )
        : fc.constant(undefined);
      await fc.assert(
        fc.asyncProperty(filled, body, (url, text) =>
          answers(url, { method: method.toUpperCase(), ...(text === undefined ? {} : { body: text }) }),
        ),
        { numRuns: schema ? 60 : 8 },
      );
    }
    await expect.poll(() => runtime.stats().active, { timeout: 5000 }).toBe(0);
  });
});

describe("the framing of binary tensors", () => {
  const tensor = fc.record({
    name: fc.constantFrom("x", "text"),
    datatype: fc.constantFrom("FP32", "BYTES", "INT8", "UINT64", "FP16"),
    shape: fc.array(fc.constantFrom(0, 1, 2, 4), { maxLength: 3 }),
    parameters: fc.record({ binary_data_size: fc.oneof(fc.constantFrom(0, 5, 16, 32), fc.nat()) }),
  });
  const json = fc.record({
    inputs: fc.array(tensor, { maxLength: 2 }),
    parameters: fc.record({ binary_data_output: fc.boolean() }),
  });

  it("answers or refuses any header, any sizes and any bytes", async () => {
    const header = fc.oneof(
      fc.constantFrom(undefined, "0", "-1", "1e3", "9".repeat(30)),
      fc.nat(200).map(String),
    );
    const coding = fc.constantFrom(undefined, undefined, undefined, "gzip", "deflate");
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom("chain", "writer", "listener"),
        json,
        fc.uint8Array({ maxLength: 40 }),
        header,
        coding,
        (model, head, bytes, given, encoding) => {
          const text = Buffer.from(JSON.stringify(head));
          const headers: Record<string, string> = {
            "inference-header-content-length": given ?? `${text.length}`,
            ...(encoding ? { "content-encoding": encoding } : {}),
          };
          const body = Buffer.concat([text, bytes]);
          return answers(`/v2/models/${model}/infer`, { method: "POST", headers, body });
        },
      ),
      { numRuns: 400 },
    );
  });
});
