import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { binary, openHttpDoor, x } from "./http-door.ts";
import { ramp } from "./served.ts";

const { infer, post, send, served } = openHttpDoor();

describe("bad input over HTTP", () => {
  const one = x(ramp(1));
  const bytes = (over: object = {}) => ({
    inputs: [{ name: "x", datatype: "FP32", shape: [1, 4], parameters: { binary_data_size: 16 }, ...over }],
  });
  const short = Buffer.alloc(15);
  const cases: [string, string, unknown, number, RegExp, Record<string, string>?][] = [
    ["an unknown model", "nope", { inputs: [one] }, 404, /'nope'.*chain, writer, listener/],
    ["no JSON", "chain", "{", 400, /failed to parse the request JSON/],
    ["an empty body", "chain", "", 400, /Unable to parse the request/],
    ["no inputs", "chain", {}, 400, /^Unable to parse 'inputs'/],
    ["a missing input", "chain", { inputs: [] }, 400, /'x'.*missing/],
    ["an unknown input", "chain", { inputs: [{ ...one, name: "y" }] }, 400, /no input 'y'/],
    ["an input twice", "chain", { inputs: [one, one] }, 400, /'x' is there twice/],
    ["a tensor without a name", "chain", { inputs: [{ ...one, name: 7 }] }, 400, /^Unable to parse 'name'/],
    ["a tensor without a datatype", "chain", { inputs: [{ ...one, datatype: 7 }] }, 400, /'datatype'/],
    ["a negative axis", "chain", { inputs: [{ ...one, shape: [-1, 4] }] }, 400, /^Unable to parse 'shape'/],
    ["an id that is a number", "chain", { id: 7, inputs: [one] }, 400, /^Unable to parse 'id'/],
    ["an unknown datatype", "chain", { inputs: [{ ...one, datatype: "FP13" }] }, 400, /'FP13'/],
    [
      "a wrong datatype",
      "chain",
      { inputs: [{ ...one, datatype: "INT8", data: [1, 2, 3, 4] }] },
      400,
      /int32/,
    ],
    [
      "text for a tensor",
      "chain",
      { inputs: [{ ...one, datatype: "BYTES", shape: [1], data: ["a"] }] },
      400,
      /text/,
    ],
    [
      "too little data",
      "chain",
      { inputs: [{ ...one, data: [1] }] },
      400,
      /^Shape does not match true shape of 'data' field/,
    ],
    [
      "too much data",
      "chain",
      { inputs: [{ ...one, data: ramp(2) }] },
      400,
      /^Shape does not match true shape of 'data' field/,
    ],
    ["data nested too deep", "chain", { inputs: [{ ...one, data: [[[1, 2, 3, 4]]] }] }, 400, /nested deeper/],
    ["data of no numbers", "chain", { inputs: [{ ...one, data: [1, 2, null, 4] }] }, 400, /null at 2/],
    ["no steps", "chain", { inputs: [x([], [0, 4])] }, 400, /0 steps/],
    [
      "NaN",
      "chain",
      '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,NaN,3,4]}]}',
      400,
      /NaN at 1/,
    ],
    [
      "-Infinity",
      "chain",
      '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,-Infinity,4]}]}',
      400,
      /-Infinity at 2/,
    ],
    ["a number float32 cannot hold", "chain", { inputs: [x([1, 1e300, 3, 4])] }, 400, /1e\+300 at 1/],
    [
      "300 as UINT8",
      "writer",
      { inputs: [{ name: "token", datatype: "UINT8", shape: [1], data: [300] }] },
      400,
      /300 at 0.*from 0 to 255/,
    ],
    [
      "2^53+1 as INT64",
      "writer",
      '{"inputs":[{"name":"token","datatype":"INT64","shape":[1],"data":[9007199254740993]}]}',
      400,
      /9007199254740993 at 0/,
    ],
    [
      "2^64 as UINT64",
      "writer",
      '{"inputs":[{"name":"token","datatype":"UINT64","shape":[1],"data":[18446744073709551616]}]}',
      400,
      /18446744073709551616.*from 0 to 18446744073709551615/,
    ],
    [
      "1.5 as INT32",
      "writer",
      { inputs: [{ name: "token", datatype: "INT32", shape: [1], data: [1.5] }] },
      400,
      /1.5 at 0.*no integer/,
    ],
    [
      "7 as BOOL",
      "writer",
      { inputs: [{ name: "token", datatype: "BOOL", shape: [1], data: [7] }] },
      400,
      /neither true nor false/,
    ],
    [
      "FP16 in JSON",
      "chain",
      { inputs: [{ ...one, datatype: "FP16" }] },
      400,
      /^receiving FP16 data via JSON is not supported\. Please use the binary data format for input x/,
    ],
    [
      "BF16 in JSON",
      "chain",
      { inputs: [{ ...one, datatype: "BF16" }] },
      400,
      /^receiving BF16 data via JSON/,
    ],
    [
      "JSON 101 deep",
      "chain",
      `{"inputs":${"[".repeat(100)}`,
      400,
      /JSON nesting depth exceeds maximum allowed limit \(100\)/,
    ],
    [
      "neither data nor bytes",
      "chain",
      { inputs: [{ name: "x", datatype: "FP32", shape: [1, 4] }] },
      400,
      /^Input must set only one of the following fields.*But no field is set/,
    ],
    [
      "both data and bytes",
      "chain",
      { inputs: [{ ...one, parameters: { binary_data_size: 16 } }] },
      400,
      /But set 'data' and 'binary_data_size'/,
    ],
    [
      "shared memory",
      "chain",
      { inputs: [{ ...one, parameters: { shared_memory_region: "r" } }] },
      501,
      /shared memory/,
    ],
    [
      "an unknown output",
      "chain",
      { inputs: [one], outputs: [{ name: "z" }] },
      400,
      /unexpected inference output 'z'/,
    ],
    [
      "classification",
      "chain",
      { inputs: [one], outputs: [{ name: "h", parameters: { classification: 3 } }] },
      501,
      /classification/,
    ],
    [
      "a symbol the model does not know",
      "writer",
      { inputs: [{ name: "text", datatype: "BYTES", shape: [1], data: ["?"] }] },
      400,
      /"\?"/,
    ],
    [
      "a reserved parameter",
      "chain",
      { inputs: [one], parameters: { triton_x: 1 } },
      400,
      /reserved for Triton usage and should not be specified/,
    ],
    [
      "a parameter that is an object",
      "chain",
      { inputs: [one], parameters: { a: {} } },
      400,
      /^Unable to parse 'a'/,
    ],
    [
      "a priority below 0",
      "chain",
      { inputs: [one], parameters: { priority: -1 } },
      400,
      /expected value >= 0/,
    ],
    [
      "a timeout that is text",
      "chain",
      { inputs: [one], parameters: { timeout: "1" } },
      400,
      /^Unable to parse 'timeout'/,
    ],
    [
      "a parameter out of bounds",
      "writer",
      { inputs: [{ name: "text", datatype: "BYTES", shape: [1], data: ["a"] }], parameters: { top_p: 2 } },
      400,
      /'topP' is 2/,
    ],
    [
      "binary_data_output of no boolean",
      "chain",
      { inputs: [one], parameters: { binary_data_output: 1 } },
      400,
      /^Unable to parse 'binary_data_output'/,
    ],
    ["bytes without a header", "chain", bytes(), 400, /^must specify valid 'Infer-Header-Content-Length'/],
    [
      "a header of no number",
      "chain",
      bytes(),
      400,
      /^Unable to parse Inference-Header-Content-Length, got: abc/,
      { "inference-header-content-length": "abc" },
    ],
    [
      "a negative header",
      "chain",
      "{}",
      400,
      /^inference header size should be in range \(0, 2\), got: -1/,
      { "inference-header-content-length": "-1" },
    ],
    [
      "a header beyond the body",
      "chain",
      "{}",
      400,
      /^inference header size should be in range \(0, 2\), got: 3/,
      { "inference-header-content-length": "3" },
    ],
    [
      "bytes one short",
      "chain",
      binary(bytes(), short)[0],
      400,
      /^unexpected size for input 'x', expecting 1 additional bytes for model 'chain'/,
      binary(bytes(), short)[1],
    ],
    [
      "bytes one long",
      "chain",
      binary(bytes(), Buffer.alloc(17))[0],
      400,
      /^unexpected additional input data for model 'chain'/,
      binary(bytes(), short)[1],
    ],
    [
      "a size that its shape does not have",
      "chain",
      binary(bytes({ shape: [2, 4] }), Buffer.alloc(16))[0],
      400,
      /expecting 16 additional bytes/,
      binary(bytes({ shape: [2, 4] }))[1],
    ],
    ["an unknown coding", "chain", "{}", 501, /'br'/, { "content-encoding": "br" }],
    ["a broken coding", "chain", "{}", 400, /no gzip/, { "content-encoding": "gzip" }],
    [
      "a coding that unfolds beyond the limit",
      "chain",
      gzipSync(Buffer.alloc(65_537)),
      413,
      /65536/,
      { "content-encoding": "gzip" },
    ],
    ["a body beyond the limit", "chain", Buffer.alloc(65_537), 413, /./],
    [
      "a sequence of a model for requests",
      "chain",
      { inputs: [one], parameters: { sequence_id: 1, sequence_start: true } },
      400,
      /'chain' takes single requests/,
    ],
  ];
  it.each(cases)("refuses %s", async (_, model, body, status, sentence, headers) => {
    const reply = await infer(model, body, headers);
    expect([reply.status, reply.json]).toEqual([status, { error: expect.stringMatching(sentence) }]);
    expect(reply.json.error).not.toMatch(/\n|\.ts|node_modules/);
  });

  it("refuses BYTES whose lengths do not add up", async () => {
    const tensor = { name: "text", datatype: "BYTES", shape: [1], parameters: { binary_data_size: 7 } };
    for (const [hex, sentence] of [
      ["04000000616263", /ends inside element 0/],
      ["02000000616263", /unexpected additional input data/],
      ["03000000ff6263", /not UTF-8/],
    ] as const) {
      const reply = await infer("writer", ...binary({ inputs: [tensor] }, Buffer.from(hex, "hex")));
      expect([reply.status, reply.json.error]).toEqual([400, expect.stringMatching(sentence)]);
    }
  });

  it("refuses unknown versions, paths and methods as the protocol's clients expect", async () => {
    expect(await post("/v2/models/chain/versions/2/infer", { inputs: [one] })).toMatchObject({
      status: 404,
      json: { error: expect.stringContaining("no version '2'") },
    });
    expect(await send("/v2/nowhere")).toMatchObject({ status: 404, json: { error: "Not Found" } });
    const wrong = await post("/v2/models/chain", "{");
    expect(wrong).toMatchObject({ status: 405, json: { error: "Method Not Allowed" } });
    expect((await send("/v2/models/chain/infer")).status).toBe(405);
    expect((await send("/v2/models/%zz")).status).toBe(400);
  });

  it("says when to try again where it is full", async () => {
    const sessions = Array.from({ length: 32 }, () => served.runtime.session("listener"));
    const reply = await infer("chain", { inputs: [one] });
    expect([reply.status, reply.headers.get("retry-after")]).toEqual([503, "1"]);
    for (const session of sessions) session.cancel();
    await expect.poll(() => served.runtime.stats().active).toBe(0);
  });
});
