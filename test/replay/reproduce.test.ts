import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type PolicyName, policies } from "../../scheduler/policy.ts";
import { Fault } from "../../src/core/faults.ts";
import { reproduce } from "../../src/replay/reproduce.ts";
import { type Act, anyAct, recorded } from "./virtual-engine.ts";

const request: Act = {
  kind: "submit",
  model: 0,
  back: 0,
  steps: 6,
  priority: 5,
  timeoutMs: Number.POSITIVE_INFINITY,
  stream: false,
  waitMs: 1,
};

describe("a recording", () => {
  it("gives every batch again, whatever requests came and whatever happened to them", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(anyAct, { minLength: 1, maxLength: 40 }),
        fc.constantFrom(...(Object.keys(policies) as PolicyName[])),
        fc.uniqueArray(fc.nat(40), { maxLength: 2 }),
        async (acts, policy, failing) => {
          const { text, batches } = await recorded(acts, { policy, failing });
          const { difference, tasks, batches: whole, sessions } = await reproduce([text]);
          expect(difference).toBeUndefined();
          const ran = sessions[0]!.lives[0]!.batches;
          expect(tasks + whole).toBe(ran.length);
          if (failing.length > 0) return;
          expect(ran.map(({ rows, steps }) => [rows, steps])).toEqual(
            batches.map(({ rows, steps }) => [rows, steps]),
          );
        },
      ),
      { numRuns: 150 },
    );
  });

  it("is read the same in pieces of any size", async () => {
    const { text } = await recorded(Array.from({ length: 9 }, (_, i) => ({ ...request, model: i % 6 })));
    const whole = await reproduce([text]);
    const pieces = text.match(/[\s\S]{1,7}/g)!;
    expect(await reproduce(pieces)).toEqual(whole);
  });

  it("keeps nothing of what requests hold", async () => {
    const { text } = await recorded([{ ...request, model: 2, steps: 12 }]);
    const adds = text.split("\n").filter((line) => /^a /.test(line));
    // 12 tokens to read and up to 9 to write: types, numbers of steps, and how they are to be ordered.
    expect(adds).toEqual(["a 4 12 0 5 0 -", "a 4 9 2 5 0 - 0"]);
  });

  it("differs at the line where a batch is another", async () => {
    const { text } = await recorded(Array.from({ length: 3 }, () => request));
    const lines = text.split("\n");
    const at = lines.findIndex((line) => line.startsWith("b "));
    lines[at] = lines[at]!.replace(/^(b \d+ \d+) 1/, "$1 2").concat(" 1 0");
    const { difference, tasks } = await reproduce([lines.join("\n")]);
    expect(tasks).toBe(0);
    expect(difference).toMatchObject({
      line: at + 1,
      what: expect.stringMatching(/chain.* with 2 rows .* ran, now chain.* 1 rows/),
    });
  });

  it("differs where a request comes that was not recorded", async () => {
    const { text } = await recorded([request, request]);
    const lines = text.split("\n");
    const at = lines.findIndex((line) => line.startsWith("a "));
    lines.splice(at, 0, lines[at]!.replace(/^(a \d+ \d+ \d+) 5/, "$1 1"));
    expect((await reproduce([lines.join("\n")])).difference?.line).toBeGreaterThan(at);
  });

  it("may end anywhere, as where a server was killed, and tells of the torn line", async () => {
    const { text } = await recorded(Array.from({ length: 9 }, (_, i) => ({ ...request, model: i % 6 })));
    const from = text.indexOf("\n", text.indexOf("\ne ")) + 1;
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: from, max: text.length }), async (length) => {
        const torn = text.slice(0, length);
        const { difference, torn: count } = await reproduce([torn]);
        expect(difference).toBeUndefined();
        expect(count).toBe(torn.endsWith("\n") ? 0 : 1);
      }),
    );
  });

  it("goes on where a server was started again, behind the torn line of the one that was killed", async () => {
    const acts = Array.from({ length: 4 }, () => request);
    const { text } = await recorded(acts);
    const heading = text.indexOf("\n") + 1;
    const { tasks } = await reproduce([text]);
    const torn = text.slice(0, text.lastIndexOf("\nc ") + 4);
    const both = await reproduce([`${torn}~\n${text.slice(heading)}`]);
    expect(both).toMatchObject({ tasks: 2 * tasks, torn: 1 });
    expect(both.sessions).toHaveLength(2);
  });

  it("leaves the lines of a trace to those who plan", async () => {
    const { text } = await recorded([request]);
    const before = await reproduce([text]);
    expect(await reproduce([text.replaceAll("\nc ", "\n1700000000000.125,12\nc ")])).toEqual(before);
  });

  it("is refused where it is of a newer version, or none", async () => {
    const { text } = await recorded([request]);
    await expect(reproduce([text.replace("recording 1", "recording 2")])).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: "line 1 of the recording: it is of version 2, this program reads version 1",
    });
    for (const [other, message] of [
      ["timeMs,size\n1,2\n", "line 1 of the recording: 'timeMs,size' begins no recording"],
      ["", "'' begins no recording"],
      ["cellbatch-recording 1\n", "holds no server's session"],
    ] as const)
      await expect(reproduce([other])).rejects.toThrow(message);
  });

  it("is refused where a piece of it is missing", async () => {
    const { text } = await recorded(Array.from({ length: 5 }, () => request));
    const wrong = text.replace(/\n@0 1\n/, "\n@0 2\n");
    const line = text.split("\n").indexOf("@0 1") + 1;
    await expect(reproduce([wrong])).rejects.toThrow(
      `line ${line} of the recording: piece 1 of engine life 0 is missing, 2 is here`,
    );
  });

  it("either holds or is refused with the line, whatever stands in a line", async () => {
    const acts = Array.from({ length: 12 }, (_, i) => ({ ...request, model: i % 6, waitMs: i % 3 }));
    const { text } = await recorded(acts);
    const lines = text.split("\n").slice(0, -1);
    const word = fc.oneof(
      fc.nat(12).map(String),
      fc.constantFrom("-", "", "-1", "1.5", "1e999", "x", "9007199254740993", "{}", "null"),
    );
    const letters = "etmoaxfspudvnbclqgyz@~";
    const garbage = fc.oneof(
      fc.string(),
      fc
        .tuple(fc.constantFrom(...letters), fc.array(word, { maxLength: 8 }))
        .map(([letter, words]) => [letter, ...words].join(" ")),
      fc.jsonValue().map((value) => `m ${JSON.stringify({ types: [value] })}`),
      fc.jsonValue().map((value) => `l ${JSON.stringify(value)}`),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.integer({ min: 1, max: lines.length - 1 }), fc.nat(1), garbage), {
          minLength: 1,
          maxLength: 6,
        }),
        async (changes) => {
          const changed = [...lines];
          for (const [at, remove, line] of changes) changed.splice(at, remove, line.replaceAll("\n", " "));
          try {
            const { difference } = await reproduce([`${changed.join("\n")}\n`]);
            if (difference) expect(difference.line).toBeLessThanOrEqual(changed.length);
          } catch (error) {
            expect(error).toBeInstanceOf(Fault);
            expect((error as Fault).message).toMatch(/^line \d+ of the recording: |^the recording holds no/);
          }
        },
      ),
      { numRuns: 1000 },
    );
  });
});
