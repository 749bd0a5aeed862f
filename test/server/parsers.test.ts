import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { samplesOfWav } from "../../src/cli/wav.ts";
import { Fault } from "../../src/core/faults.ts";
import { packState, unpackState } from "../../src/runtime/state.ts";
import type { ModelInfo } from "../../src/runtime/types.ts";
import { binaryFrame, parseFrame } from "../../src/server/frames.ts";
import { checkMessage } from "../../src/server/messages.ts";
import { readValues, writeValues } from "../../src/server/tensors.ts";
import { listenerModel } from "../fixtures/models.ts";

/** Calls a parser; whatever it is given, it answers or throws a fault. */
function answersOrFaults(parse: () => unknown): void {
  try {
    parse();
  } catch (error) {
    expect(error).toBeInstanceOf(Fault);
  }
}

/** A model whose inputs take any number of values. */
const taking = (...inputs: ModelInfo["inputs"][number][]): ModelInfo => ({
  name: "m",
  version: "1",
  description: "",
  program: "session",
  streaming: true,
  inputs,
  outputs: [],
  cells: [],
});
const floats = (name: string) => ({ name, type: "float32" as const, shape: [-1] });
const integers = (name: string) => ({ name, type: "int32" as const, shape: [-1] });
const text = { name: "text", type: "text" as const, shape: [] };

const finite = fc.float({ noNaN: true, noDefaultInfinity: true });

describe("a frame", () => {
  it("that is noise gives a fault and nothing else", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), fc.boolean(), (bytes, isBinary) => {
        answersOrFaults(() => checkMessage(parseFrame(Buffer.from(bytes), isBinary).json));
      }),
    );
  });

  it("of any JSON gives a message or a fault", () => {
    fc.assert(
      fc.property(fc.json(), (json) => {
        answersOrFaults(() => checkMessage(parseFrame(Buffer.from(json), false).json));
      }),
    );
  });

  it("carries tensors there and back, bit for bit, in binary", () => {
    const target = taking(floats("a"), integers("b"), text);
    fc.assert(
      fc.property(
        fc.array(finite, { maxLength: 20 }),
        fc.array(fc.integer(), { maxLength: 20 }),
        (floats, integers) => {
          const a = { dtype: "float32" as const, shape: [floats.length], data: Float32Array.from(floats) };
          const b = { dtype: "int32" as const, shape: [integers.length], data: Int32Array.from(integers) };
          const chunks: Uint8Array[] = [];
          const outputs = writeValues({ a, b, text: "é" }, chunks);
          const frame = parseFrame(binaryFrame({ type: "output", id: "1", step: 0, outputs }, chunks), true);
          const json = frame.json as { outputs: Parameters<typeof readValues>[1] };
          expect(readValues(target, json.outputs, frame.binary)).toEqual({ a, b, text: "é" });
          expect(frame.binary!.left).toBe(0);
        },
      ),
    );
  });

  it("that claims more than it holds is refused with both numbers", () => {
    const frame = Buffer.from([200, 0, 0, 0, 123, 125]);
    expect(() => parseFrame(frame, true)).toThrow(/6 bytes cannot hold 200 bytes of JSON/);
    expect(() => parseFrame(Buffer.from([1]), true)).toThrow(/1 bytes has no JSON length/);
  });

  it("whose tensor wants more bytes than there are is refused", () => {
    const frame = parseFrame(Buffer.from([2, 0, 0, 0, 123, 125, 9]), true);
    const x = { datatype: "FP32", shape: [1], parameters: { binary_data_size: 4 } };
    expect(() => readValues(taking(floats("x")), { x }, frame.binary)).toThrow(
      /wants 4 bytes, the frame has 1 left/,
    );
  });
});

describe("a value of another datatype", () => {
  it.each(["INT64", "UINT8", "BOOL", "FP64"])("%s is converted at the door", (datatype) => {
    const { x } = readValues(taking(floats("x")), { x: { datatype, shape: [2], data: [1, 0] } }, undefined);
    expect([...(x as { data: Int32Array }).data]).toEqual([1, 0]);
  });

  it("that int32 cannot hold is refused with its place", () => {
    const x = { datatype: "INT64", shape: [2], data: [1, 2 ** 40] };
    expect(() => readValues(taking(integers("x")), { x }, undefined)).toThrow(
      /'x' of datatype INT64 holds 1099511627776 at 1/,
    );
  });
});

describe("a value without a datatype", () => {
  it("is text, or a list of what the model declares, nested as its axes", () => {
    const model = taking(integers("token"), { name: "x", type: "float32", shape: [-1, 2] }, text);
    const x = [
      [1, 2],
      [3, 4],
    ];
    expect(readValues(model, { token: [1, 2, 3], x, text: "é" }, undefined)).toEqual({
      token: { dtype: "int32", shape: [3], data: Int32Array.of(1, 2, 3) },
      x: { dtype: "float32", shape: [2, 2], data: Float32Array.of(1, 2, 3, 4) },
      text: "é",
    });
    expect(() => readValues(model, { token: [1, "2"] }, undefined)).toThrow(/'token'.*"2" at 1/);
    expect(() => readValues(model, { token: [1, 0.5] }, undefined)).toThrow(/'token'.*0.5 at 1.*no integer/);
  });

  it("may be text as BYTES, in JSON and in bytes", () => {
    const bytes = Buffer.from([3, 0, 0, 0, 0x61, 0xc3, 0xa9]);
    const frame = parseFrame(Buffer.concat([Buffer.from([2, 0, 0, 0, 123, 125]), bytes]), true);
    const binary = { datatype: "BYTES", shape: [1], parameters: { binary_data_size: 7 } };
    expect(readValues(taking(text), { text: binary }, frame.binary)).toEqual({ text: "aé" });
    const json = { datatype: "BYTES", shape: [1], data: ["aé"] };
    expect(readValues(taking(text), { text: json }, undefined)).toEqual({ text: "aé" });
  });
});

describe("a suspended state", () => {
  const model = listenerModel();
  it("comes back as it went, bit for bit", () => {
    fc.assert(
      fc.property(fc.array(finite, { minLength: 16, maxLength: 16 }), (values) => {
        const state = Float32Array.from(values);
        expect(unpackState(model, packState(model, state))).toEqual(state);
      }),
    );
  });

  it("that is noise, or of another version, gives a fault", () => {
    fc.assert(fc.property(fc.string(), (text) => answersOrFaults(() => unpackState(model, text))));
    const state = packState({ ...model, version: "2" }, new Float32Array(16));
    expect(() => unpackState(model, state)).toThrow(/"version":"2"/);
  });
});

describe("a WAV file", () => {
  it("that is noise gives a fault, not a hang", () => {
    const header = Buffer.from("RIFF\0\0\0\0WAVE");
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), fc.boolean(), (bytes, isRiff) => {
        answersOrFaults(() =>
          samplesOfWav(isRiff ? Buffer.concat([header, bytes]) : Buffer.from(bytes), "noise.wav"),
        );
      }),
    );
  });

  it("of 16 kHz, mono, 16 bit gives its samples", () => {
    const bytes = Buffer.alloc(48);
    bytes.write("RIFF", 0);
    bytes.write("WAVEfmt ", 8);
    bytes.writeUInt32LE(16, 16);
    bytes.writeUInt16LE(1, 20);
    bytes.writeUInt16LE(1, 22);
    bytes.writeUInt32LE(16_000, 24);
    bytes.writeUInt16LE(16, 34);
    bytes.write("data", 36);
    bytes.writeUInt32LE(4, 40);
    bytes.writeInt16LE(16_384, 44);
    bytes.writeInt16LE(-32_768, 46);
    expect([...samplesOfWav(bytes, "a.wav")]).toEqual([0.5, -1]);
    bytes.writeUInt32LE(44_100, 24);
    expect(() => samplesOfWav(bytes, "a.wav")).toThrow(/44100 Hz.*expected WAV/);
  });
});
