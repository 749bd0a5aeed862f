import { type ServiceError, status } from "@grpc/grpc-js";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { openGrpcDoor } from "./grpc-door.ts";

const door = openGrpcDoor();
const { served } = door;

describe("a message over gRPC", () => {
  it("of any shape gives an answer or a refusal, never an internal error", async () => {
    const parameter = fc.oneof(
      fc.record({ bool_param: fc.boolean() }),
      fc.record({ int64_param: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(String) }),
      fc.record({ string_param: fc.string() }),
      fc.record({ double_param: fc.double() }),
      fc.constant({}),
    );
    const names = fc.constantFrom(
      "sequence_id",
      "sequence_start",
      "sequence_end",
      "priority",
      "seed",
      "top_p",
      "x",
    );
    const input = fc.record({
      name: fc.constantFrom("x", "text", "token", "y"),
      datatype: fc.constantFrom("FP32", "INT64", "BYTES", "FP16", "BOOL", ""),
      shape: fc.array(fc.integer({ min: -1, max: 5 }), { maxLength: 3 }),
      contents: fc.option(
        fc.record(
          {
            fp32_contents: fc.array(fc.float(), { maxLength: 8 }),
            bytes_contents: fc.array(fc.uint8Array({ maxLength: 4 }).map((bytes) => Buffer.from(bytes))),
          },
          { requiredKeys: [] },
        ),
      ),
    });
    const request = fc.record(
      {
        model_name: fc.constantFrom("chain", "writer", "listener", ""),
        parameters: fc.dictionary(names, parameter, { maxKeys: 3 }),
        inputs: fc.array(input, { maxLength: 2 }),
        raw_input_contents: fc.array(
          fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
          {
            maxLength: 2,
          },
        ),
      },
      { requiredKeys: ["model_name"] },
    );
    await fc.assert(
      fc.asyncProperty(request, async (message) => {
        const error = await door.call("ModelInfer", message).then(
          () => undefined,
          (thrown: ServiceError) => thrown,
        );
        expect(error?.code).not.toBe(status.INTERNAL);
        expect(error?.code).not.toBe(status.UNKNOWN);
      }),
      { numRuns: 300 },
    );
    expect(served.unexpected).toEqual([]);
    const other = await fetch(`http://127.0.0.1:${served.server.port}/v2/health/ready`);
    expect(other.status).toBe(200);
  });
});
