import fc from "fast-check";
import { expect, it } from "vitest";
import { WaitingQueue } from "../../scheduler/waiting-queue.ts";

const action = fc.oneof(
  { weight: 3, arbitrary: fc.record({ push: fc.nat(500) }) },
  { weight: 2, arbitrary: fc.constant({ pop: true } as const) },
  { weight: 1, arbitrary: fc.record({ dropMultiplesOf: fc.integer({ min: 2, max: 5 }) }) },
);

it("gives numbers back in their order, whatever the order they came in and whatever was dropped", () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 400 }), fc.boolean(), (actions, inOrder) => {
      const queue = new WaitingQueue((a, b) => a < b);
      let held: number[] = [];
      let pushed = 0;
      for (const one of actions) {
        if ("push" in one) {
          // Each number once, as subgraphs come: mostly ascending, or all over.
          const number = inOrder ? pushed * 1000 - (one.push % 7) * 1500 : one.push * 1000 + pushed;
          const unique = number * 1000 + pushed++;
          queue.push(unique);
          held.push(unique);
        } else if ("pop" in one) {
          held.sort((a, b) => a - b);
          expect(queue.peek()).toBe(held[0]);
          expect(queue.pop()).toBe(held.shift());
        } else {
          const keep = (number: number) => number % one.dropMultiplesOf !== 0;
          queue.filter(keep);
          held = held.filter(keep);
        }
        expect(queue.size).toBe(held.length);
      }
    }),
  );
});
