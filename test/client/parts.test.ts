import { existsSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { backOffMs } from "../../src/client/backoff.ts";
import { streamUrl } from "../../src/client/dial.ts";
import { readFrame, writeFrame } from "../../src/client/frames.ts";
import { InputLog } from "../../src/client/input-log.ts";
import type { Tensor, Values } from "../../src/client/values.ts";
import type { ModelInfo } from "../../src/runtime/types.ts";
import { binaryFrame, parseFrame } from "../../src/server/frames.ts";
import { readValues, writeValues } from "../../src/server/tensors.ts";

const floats = fc.array(fc.float({ noNaN: true, noDefaultInfinity: true }), { maxLength: 9 });

describe("frames of the client", () => {
  it("are read by the server, whose frames the client reads: values stay the same to the bit", () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string({ minLength: 1 }), fc.oneof(floats, fc.string())), (values) => {
        const inputs: Record<string, Tensor | string> = {};
        for (const [name, value] of Object.entries(values)) {
          inputs[name] =
            typeof value === "string" ? value : { shape: [value.length], data: Float32Array.from(value) };
        }
        const frame = writeFrame({ type: "infer", id: "1", inputs: inputs as Values }, true) as Uint8Array;
        const { json, binary } = parseFrame(Buffer.from(frame), true);
        const model: ModelInfo = {
          ...{
            name: "m",
            version: "1",
            description: "",
            program: "chain",
            streaming: false,
            outputs: [],
            cells: [],
          },
          inputs: Object.entries(values).map(([name, value]) =>
            typeof value === "string"
              ? { name, type: "text", shape: [] }
              : { name, type: "float32", shape: [-1] },
          ),
        };
        const read = readValues(model, (json as { inputs: Parameters<typeof readValues>[1] }).inputs, binary);
        expect(binary!.left).toBe(0);
        const chunks: Uint8Array[] = [];
        const outputs = writeValues(read, chunks);
        const back = binaryFrame({ type: "output", id: "1", step: 0, outputs }, chunks);
        const answer = readFrame(
          back.buffer.slice(back.byteOffset, back.byteOffset + back.length) as ArrayBuffer,
        );
        expect(answer).toEqual({ type: "output", id: "1", step: 0, outputs: inputs });
      }),
    );
  });

  it("that are damaged make the reader throw and nothing else", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        const read = () => readFrame(Uint8Array.from(bytes).buffer);
        try {
          read();
        } catch (error) {
          expect(error).toBeInstanceOf(Error);
        }
      }),
    );
  });
});

describe("the log of a session's inputs", () => {
  it("gives every input from its start to its end, in order, however it is cut and forgotten", () => {
    const pushes = fc.array(fc.integer({ min: 1, max: 7 }), { maxLength: 12 });
    fc.assert(
      fc.property(pushes, fc.nat(80), fc.integer({ min: 1, max: 9 }), (sizes, forgotten, most) => {
        const log = new InputLog(0);
        for (const steps of sizes) {
          const data = Float32Array.from({ length: steps * 2 }, (_, i) => log.end * 2 + i);
          log.append({ x: { shape: [steps, 2], data } }, steps);
        }
        const { end } = log;
        const dropBefore = Math.min(forgotten, end);
        log.dropBefore(dropBefore);
        expect(log.start).toBeLessThanOrEqual(dropBefore);
        const values: number[] = [];
        let position = dropBefore;
        for (let next = log.from(position, most); next; next = log.from(position, most)) {
          const { shape, data } = next.inputs.x as Tensor;
          expect(shape).toEqual([next.steps, 2]);
          expect(next.steps).toBeLessThanOrEqual(most);
          values.push(...(data as Float32Array));
          position += next.steps;
        }
        expect(position).toBe(end);
        expect(values).toEqual(Array.from({ length: (end - dropBefore) * 2 }, (_, i) => dropBefore * 2 + i));
      }),
    );
  });
});

describe("the wait between two attempts to connect", () => {
  it("doubles up to ten seconds, of which chance takes at most half", () => {
    expect([1, 2, 3, 4].map((attempt) => backOffMs(attempt, 0))).toEqual([100, 200, 400, 800]);
    expect(backOffMs(1000, 0)).toBe(10_000);
    expect(backOffMs(1, 0.999)).toBeGreaterThan(50);
  });
});

describe("the address of a server", () => {
  it.each([
    ["ws://host:1", "ws://host:1/v1/stream"],
    ["http://host:1/", "ws://host:1/v1/stream"],
    ["https://host/behind/", "wss://host/behind/v1/stream"],
    ["wss://host/v1/stream?a=1", "wss://host/v1/stream?a=1"],
  ])("%s is %s", (given, url) => expect(streamUrl(given)).toBe(url));
});

describe("the client in a browser", () => {
  it("imports nothing that is not its own", () => {
    const root = fileURLToPath(new URL("../../dist/src/", import.meta.url));
    const seen = new Set<string>();
    const visit = (file: string) => {
      if (seen.has(file)) return;
      seen.add(file);
      expect(existsSync(file), file).toBe(true);
      for (const [, specifier] of readFileSync(file, "utf8").matchAll(
        /(?:^(?:import|export)[^"]*from |import\()"([^"]+)"/gm,
      )) {
        expect(specifier, `in ${file}`).toMatch(/^\./);
        visit(join(dirname(file), specifier!));
      }
    };
    visit(join(root, "client/index.js"));
    const others = [...seen]
      .map((file) => relative(root, file))
      .filter((file) => !file.startsWith("client/"));
    expect(others).toEqual(["server/protocol.js"]);
  });
});
