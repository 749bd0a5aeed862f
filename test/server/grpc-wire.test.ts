import { describe, expect, it } from "vitest";
import { loadServices } from "../../src/server/grpc/protos.ts";
import { fromRaw, type Message } from "./grpc-door.ts";
import { floats } from "./served.ts";

describe("the wire", () => {
  const methods = loadServices().inference;
  const hex = (text: string) => Buffer.from(text.replaceAll(/\s/g, ""), "hex");

  it("reads and writes the vectors of Triton's proto", () => {
    const { requestDeserialize } = methods.ModelInfer as Message;
    const request = requestDeserialize(
      hex(`0a 04 6c 73 74 6d 1a 01 37 22 11 0a 0b 73 65 71 75 65 6e 63 65 5f 69 64 12 02 10 2a 22 14 0a 0e 73 65 71 75 65
      6e 63 65 5f 73 74 61 72 74 12 02 08 01 2a 0d 0a 01 78 12 04 46 50 33 32 1a 02 01 02 32 03 0a 01 68 3a 08 00 00 c0 3f
      00 00 00 c0`),
    );
    expect(request).toMatchObject({
      model_name: "lstm",
      id: "7",
      parameters: { sequence_id: { int64_param: "42" }, sequence_start: { bool_param: true } },
      inputs: [{ name: "x", datatype: "FP32", shape: ["1", "2"] }],
      outputs: [{ name: "h" }],
    });
    expect(fromRaw(request.raw_input_contents[0])).toEqual([1.5, -2]);
    const typedRequest = requestDeserialize(
      hex(`0a 04 6c 73 74 6d 1a 01 37 22 11 0a 0b 73 65 71 75 65 6e 63 65 5f 69 64 12 02 10 2a 2a 19 0a 01 78 12 04 46 50
      33 32 1a 02 01 02 2a 0a 32 08 00 00 c0 3f 00 00 00 c0`),
    );
    expect(typedRequest.inputs[0].contents.fp32_contents).toEqual([1.5, -2]);
    const streamed = (methods.ModelStreamInfer as Message).responseSerialize;
    const infer_response = {
      model_name: "lstm",
      model_version: "1",
      id: "7",
      parameters: { triton_final_response: { bool_param: true } },
      outputs: [{ name: "h", datatype: "FP32", shape: [1, 1] }],
      raw_output_contents: [floats([0.75])],
    };
    expect(streamed({ infer_response })).toEqual(
      hex(`12 3e 0a 04 6c 73 74 6d 12 01 31 1a 01 37 22 1b 0a 15 74 72 69 74 6f 6e 5f 66 69 6e 61 6c 5f 72 65 73 70 6f 6e
      73 65 12 02 08 01 2a 0d 0a 01 68 12 04 46 50 33 32 1a 02 01 01 32 04 00 00 40 3f`),
    );
    expect(streamed({ error_message: "boom", infer_response: { id: "7" } })).toEqual(
      hex("0a 04 62 6f 6f 6d 12 03 1a 01 37"),
    );
  });
});
