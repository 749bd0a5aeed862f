import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CLOSED, type GateState, gateAfter } from "../../src/runtime/gate.ts";
import { opened } from "./gated.ts";

describe("a gate", () => {
  it("is open from a value that reaches it until it is left for longer than it holds", () => {
    const rule = fc.record({
      open: fc.constantFrom(0.5, 0.8),
      close: fc.constantFrom(0.2, 0.5),
      hold: fc.nat(3),
    });
    fc.assert(
      fc.property(rule, fc.array(fc.constantFrom(0, 0.2, 0.3, 0.5, 0.7, 0.8, 1)), (one, values) => {
        let state: GateState = CLOSED;
        const seen = values.map((value) => {
          state = gateAfter(one, state, value);
          return state.isOpen;
        });
        expect(seen).toEqual(opened(values, { ...one, output: "", reset: false }));
      }),
    );
  });
});
