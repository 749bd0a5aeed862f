import { type ServiceError, status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { openGrpcDoor, raw, text, typed } from "./grpc-door.ts";
import { floats, ramp } from "./served.ts";

const door = openGrpcDoor();
const { served } = door;

describe("bad input over gRPC", () => {
  const x = { name: "x", datatype: "FP32", shape: [1, 4] };
  const one = typed(ramp(1));
  const withParameters = (parameters: object, request: object = one) => ({ ...request, parameters });
  const cases: [string, string, object, number, RegExp][] = [
    ["an unknown model", "nope", one, status.NOT_FOUND, /'nope'.*chain, writer, listener/],
    ["an unknown version", "chain", { ...one, model_version: "2" }, status.NOT_FOUND, /no version '2'/],
    [
      "both kinds of contents",
      "chain",
      { ...one, raw_input_contents: [floats(ramp(1))] },
      status.INVALID_ARGUMENT,
      /^contents field must not be specified when using raw_input_contents for 'x' for model 'chain'/,
    ],
    [
      "no contents",
      "chain",
      { inputs: [x] },
      status.INVALID_ARGUMENT,
      /^unable to find data for input tensor 'x' for model 'chain' in request\./,
    ],
    [
      "too few raw contents",
      "chain",
      { inputs: [x, { ...x, name: "y" }], raw_input_contents: [floats(ramp(1))] },
      status.INVALID_ARGUMENT,
      /^unable to find data for input tensor 'y'/,
    ],
    [
      "too many raw contents",
      "chain",
      { inputs: [x], raw_input_contents: [floats(ramp(1)), floats([])] },
      status.INVALID_ARGUMENT,
      /^unexpected additional input data for model 'chain'/,
    ],
    [
      "raw contents one short",
      "chain",
      { inputs: [x], raw_input_contents: [Buffer.alloc(15)] },
      status.INVALID_ARGUMENT,
      /^unexpected size for input 'x', expecting 1 additional bytes for model 'chain'/,
    ],
    [
      "raw contents one long",
      "chain",
      { inputs: [x], raw_input_contents: [Buffer.alloc(17)] },
      status.INVALID_ARGUMENT,
      /^unexpected additional input data for model 'chain'/,
    ],
    [
      "a wrong typed field",
      "chain",
      { inputs: [{ ...x, contents: { int_contents: [1, 2, 3, 4] } }] },
      status.INVALID_ARGUMENT,
      /^unexpected explicit tensor data for input tensor 'x' for model 'chain' of type 'INT32', expected datatype 'FP32'/,
    ],
    [
      "FP16 in a typed field",
      "chain",
      { inputs: [{ ...x, datatype: "FP16", contents: { fp32_contents: [1, 2, 3, 4] } }] },
      status.INVALID_ARGUMENT,
      /expected datatype 'FP16'/,
    ],
    ["NaN", "chain", typed([1, Number.NaN, 3, 4]), status.INVALID_ARGUMENT, /NaN at 1/],
    [
      "2^53+1 as INT64",
      "writer",
      {
        inputs: [
          {
            name: "token",
            datatype: "INT64",
            shape: [1],
            contents: { int64_contents: ["9007199254740993"] },
          },
        ],
      },
      status.INVALID_ARGUMENT,
      /9007199254740993 at 0/,
    ],
    [
      "300 as UINT8",
      "writer",
      { inputs: [{ name: "token", datatype: "UINT8", shape: [1], contents: { uint_contents: [300] } }] },
      status.INVALID_ARGUMENT,
      /300 at 0.*from 0 to 255/,
    ],
    [
      "a negative axis",
      "chain",
      { inputs: [{ ...x, shape: [-1, 4] }], raw_input_contents: [floats(ramp(1))] },
      status.INVALID_ARGUMENT,
      /^Unable to parse 'shape'.*-1, 4/,
    ],
    ["a batch of 2", "chain", raw(ramp(4), [2, 2, 4]), status.INVALID_ARGUMENT, /must specify batch-size 1/],
    [
      "an unknown output",
      "chain",
      { ...one, outputs: [{ name: "z" }] },
      status.INVALID_ARGUMENT,
      /unexpected inference output 'z'/,
    ],
    [
      "classification",
      "chain",
      { ...one, outputs: [{ name: "h", parameters: { classification: { int64_param: 1 } } }] },
      status.UNIMPLEMENTED,
      /classification/,
    ],
    [
      "a reserved parameter",
      "chain",
      withParameters({ triton_x: { bool_param: true } }),
      status.INVALID_ARGUMENT,
      /Only the following keys starting with 'triton_' are allowed: triton_enable_empty_final_response/,
    ],
    [
      "a uint64 parameter",
      "chain",
      withParameters({ seed: { uint64_param: 1 } }),
      status.INVALID_ARGUMENT,
      /^invalid value type for 'seed' parameter, expected int64_param, bool_param, or string_param\./,
    ],
    [
      "a uint64 sequence id",
      "listener",
      withParameters({ sequence_id: { uint64_param: 1 } }),
      status.INVALID_ARGUMENT,
      /^invalid value type for 'sequence_id' parameter, expected int64_param or string_param\./,
    ],
    [
      "a start that is a number",
      "listener",
      withParameters({ sequence_start: { int64_param: 1 } }),
      status.INVALID_ARGUMENT,
      /^invalid value type for 'sequence_start' parameter, expected bool_param\./,
    ],
    [
      "an empty parameter",
      "chain",
      withParameters({ a: {} }),
      status.INVALID_ARGUMENT,
      /^invalid value type for 'a'/,
    ],
    [
      "a priority below 0",
      "chain",
      withParameters({ priority: { int64_param: -1 } }),
      status.INVALID_ARGUMENT,
      /invalid value for 'priority', expected value >= 0\./,
    ],
    [
      "a timeout that passes",
      "writer",
      withParameters({ timeout: { int64_param: 1 } }, text("a")),
      status.DEADLINE_EXCEEDED,
      /./,
    ],
    [
      "a sequence that nobody started",
      "listener",
      withParameters({ sequence_id: { int64_param: 7 } }),
      status.INVALID_ARGUMENT,
      /^inference request for sequence 7 to model 'listener' must specify the START flag on the first request of the sequence$/,
    ],
  ];
  it.each(cases)("refuses %s", async (_, model, request, code, sentence) => {
    const error = await door.infer(model, request).then(
      () => undefined,
      (thrown: ServiceError) => thrown,
    );
    expect(error).toMatchObject({ code, details: expect.stringMatching(sentence) });
    expect(error!.details).not.toMatch(/\n|\.ts|node_modules/);
  });

  it("refuses to change the repository", async () => {
    for (const method of ["RepositoryModelLoad", "RepositoryModelUnload"]) {
      await expect(door.call(method, { model_name: "chain" })).rejects.toMatchObject({
        code: status.UNIMPLEMENTED,
      });
    }
  });

  it("refuses a message beyond its limit and serves on", async () => {
    await expect(door.infer("chain", raw(new Array(400_000).fill(0)))).rejects.toMatchObject({
      code: status.RESOURCE_EXHAUSTED,
    });
    expect((await door.infer("chain", one)).outputs).toHaveLength(1);
  });

  it("says when to try again where it is full", async () => {
    const sessions = Array.from({ length: 32 }, () => served.runtime.session("listener"));
    const error: ServiceError = await door.infer("chain", one).catch((thrown: ServiceError) => thrown);
    expect(error.code).toBe(status.RESOURCE_EXHAUSTED);
    expect(error.metadata.get("grpc-retry-pushback-ms")).toEqual(["500"]);
    for (const session of sessions) session.cancel();
    await expect.poll(() => served.runtime.stats().active).toBe(0);
  });
});
