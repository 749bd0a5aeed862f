import fc from "fast-check";
import { expect, it } from "vitest";
import { binaryFrame, parseFrame } from "../../src/server/frames.ts";
import { LastPush } from "../../src/server/last-push.ts";
import { type ClientMessage, checkMessage } from "../../src/server/messages.ts";

const frame = fc
  .record({
    id: fc.constantFrom("a", "a", "b", "ab"),
    type: fc.constantFrom("push", "push", "push", "push", "end"),
    bytes: fc.constantFrom(12, 12, 12, 0),
    shape: fc.constantFrom([3], [3], [1, 3]),
    seed: fc.nat(255),
    cut: fc.constantFrom(0, 0, 0, 0, 1, 7, 60),
    flipped: fc.oneof({ weight: 5, arbitrary: fc.constant(-1) }, { weight: 1, arbitrary: fc.nat(100) }),
  })
  .map(({ id, type, bytes, shape, seed, cut, flipped }) => {
    const x = { datatype: "FP32", shape, parameters: { binary_data_size: bytes } };
    const message = type === "push" ? { type, id, inputs: { x } } : { type, id };
    const whole = binaryFrame(message, [new Uint8Array(bytes).fill(seed)]);
    const data = whole.subarray(0, Math.max(0, whole.length - cut));
    if (flipped >= 0 && flipped < data.length) data[flipped] = data[flipped]! ^ 1;
    return data;
  });

/** What a frame says, or why it says nothing. */
function read(data: Buffer, last?: LastPush): { readonly message?: ClientMessage; readonly rest: unknown } {
  try {
    const repeated = last?.repeated(data);
    if (repeated) {
      const { message, binary } = repeated;
      return { message, rest: [...binary.take(binary.left)] };
    }
    const { json, binary } = parseFrame(data, true);
    const message = checkMessage(json);
    if (message.type === "push") last?.keep(data, message, binary!);
    return { message, rest: [...binary!.take(binary!.left)] };
  } catch (error) {
    return { rest: String(error) };
  }
}

it("reads every frame as without a memory of the last push, whatever came before and however it is damaged", () => {
  let repeated = 0;
  fc.assert(
    fc.property(fc.array(frame, { maxLength: 20 }), (frames) => {
      const last = new LastPush();
      for (const data of frames) {
        const isKnown = last.repeated(data) !== undefined;
        if (isKnown) repeated++;
        expect(read(data, last)).toEqual(read(data));
      }
    }),
  );
  expect(repeated).toBeGreaterThan(0);
});
