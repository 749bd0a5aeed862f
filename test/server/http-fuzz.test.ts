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

const steps = fc.integer({ min: 1, max: 3 });
const number = fc.double({ min: -2, max: 2, noNaN: true });
/** Inputs that one of the models takes. */
const good = fc.oneof(
  steps
    .chain((count) => fc.array(number, { minLength: count * 4, maxLength: count * 4 }))
    .map((data) => [{ name: "x", datatype: "FP32", shape: [data.length / 4, 4], data }]),
  fc
    .array(fc.constantFrom(..."abcdefgh"), { minLength: 1, maxLength: 5 })
    .map((text) => [{ name: "text", datatype: "BYTES", shape: [1], data: [text.join("")] }]),
);

/** Values that reach further than chance would, by the name of the property. */
const telling: Readonly<Record<string, fc.Arbitrary<unknown>>> = {
  inputs: good,
  name: fc.constantFrom("x", "text", "token", "h"),
  datatype: fc.constantFrom("FP32", "FP64", "INT64", "BYTES", "FP16", "BOOL"),
  shape: fc.array(fc.constantFrom(0, 1, 2, 4), { maxLength: 3 }),
  data: fc.array(fc.oneof(fc.constantFrom(0, 1, "a", true), fc.double()), { maxLength: 8 }),
  parameters: fc.record(
    {
      sequence_id: fc.oneof(fc.nat(3), fc.string({ maxLength: 3 })),
      sequence_start: fc.boolean(),
      sequence_end: fc.boolean(),
      binary_data_output: fc.boolean(),
      timeout: fc.nat(),
      seed: fc.nat(),
      top_k: fc.oneof(fc.nat(3), fc.double()),
    },
    { requiredKeys: [] },
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
  const apt = fc.constantFrom({}, { text: "ab" }, { text_input: "ab" }, { x: [[0, 1, 0, 1]] });
  const extra = fc.dictionary(
    fc.oneof(fc.constantFrom("x", "text", "text_input", "__proto__", "max_steps"), fc.string()),
    fc.oneof(
      arbitraryOf(additionalProperties === true ? {} : additionalProperties),
      telling.data!,
      fc.string(),
    ),
    { maxKeys: 2 },
  );
  return fc
    .tuple(known, apt, fc.option(extra))
    .map(([fields, inputs, more]) => ({ ...more, ...inputs, ...(fields as object) }));
}

const strange = fc.string({ minLength: 1 }).map(encodeURIComponent);
const modelName = fc.oneof({ weight: 9, arbitrary: fc.constantFrom("chain", "writer", "listener") }, strange);
const versionName = fc.oneof({ weight: 9, arbitrary: fc.constant("1") }, strange);

/** Sends a request and demands an answer that is a result or a refusal. */
async function answers(path: string, init: RequestInit): Promise<void> {
  const signal = AbortSignal.timeout(10_000);
  const reply = await fetch(`http://127.0.0.1:${server.port}${path}`, { ...init, signal });
  const text = await reply.text();
  // Not supported, full, and too late are refusals; anything else of 500 and above is our mistake.
  if (reply.status >= 500) expect([501, 503, 504], `${init.method} ${path}: ${text}`).toContain(reply.status);
  if (reply.status >= 400) expect(JSON.parse(text)).toEqual({ error: expect.any(String) });
  expect(text).not.toMatch(/\n\s+at /);
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
        .tuple(modelName, versionName)
        .map(([model, version]) => path.replace("{model}", model).replace("{version}", version));
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
        { numRuns: schema ? 120 : 8 },
      );
    }
    await expect.poll(() => runtime.stats().active, { timeout: 5000 }).toBe(0);
  }, 120_000);
});

describe("the framing of binary tensors", () => {
  const tensor = fc.record({
    name: fc.constantFrom("x", "text"),
    datatype: fc.constantFrom("FP32", "BYTES", "INT8", "UINT64", "FP16"),
    shape: fc.array(fc.constantFrom(0, 1, 2, 4), { maxLength: 3 }),
    parameters: fc.record({ binary_data_size: fc.oneof(fc.constantFrom(0, 5, 16, 32), fc.nat()) }),
  });
  /** A tensor of the right size, and its bytes. */
  const right = fc
    .tuple(steps, fc.constantFrom(["FP32", 4] as const, ["FP16", 2] as const))
    .chain(([count, [datatype, size]]) =>
      fc.uint8Array({ minLength: count * 4 * size, maxLength: count * 4 * size }).map((bytes) => ({
        inputs: [{ name: "x", datatype, shape: [count, 4], parameters: { binary_data_size: bytes.length } }],
        bytes,
      })),
    );
  const wrong = fc.record({
    inputs: fc.array(tensor, { maxLength: 2 }),
    bytes: fc.uint8Array({ maxLength: 40 }),
  });

  it("answers or refuses any header, any sizes and any bytes", async () => {
    const header = fc.oneof(
      { weight: 4, arbitrary: fc.constant(undefined) },
      fc.constantFrom("0", "-1", "1e3", "9".repeat(30)),
      fc.nat(200).map(String),
    );
    const coding = fc.oneof(
      { weight: 8, arbitrary: fc.constant(undefined) },
      fc.constantFrom("gzip", "deflate"),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom("chain", "writer", "listener"),
        fc.oneof(right, wrong),
        fc.boolean(),
        header,
        coding,
        (model, { inputs, bytes }, binary_data_output, given, encoding) => {
          const text = Buffer.from(JSON.stringify({ inputs, parameters: { binary_data_output } }));
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
  }, 120_000);
});
