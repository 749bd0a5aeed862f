import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readModel } from "../../models/read-model.ts";
import { readSafetensors } from "../../models/safetensors.ts";
import { Fault } from "../../src/core/faults.ts";

function safetensors(header: unknown, values: Uint8Array = new Uint8Array(0)): Uint8Array {
  const json = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + json.length + values.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  bytes.set(values, 8 + json.length);
  return bytes;
}

describe("a safetensors file", () => {
  it.each([
    ["F64", new Uint8Array(Float64Array.of(1.5, -2).buffer)],
    ["F32", new Uint8Array(Float32Array.of(1.5, -2).buffer)],
    ["F16", new Uint8Array(Uint16Array.of(0x3e00, 0xc000).buffer)],
    ["BF16", new Uint8Array(Uint16Array.of(0x3fc0, 0xc000).buffer)],
  ])("of %s is read as float32", (dtype, values) => {
    const tensors = readSafetensors(
      safetensors({ a: { dtype, shape: [2], data_offsets: [0, values.length] } }, values),
      "f",
    );
    expect(tensors.get("a")).toEqual({ shape: [2], data: Float32Array.of(1.5, -2) });
  });

  it.each([
    ["too short", new Uint8Array(3), /3 bytes/],
    ["with a header beyond its end", safetensors({}).fill(255, 0, 7), /header would take/],
    ["with a header that is no JSON", safetensors("{"), /no JSON/],
    [
      "of an unknown type",
      safetensors({ a: { dtype: "I4", shape: [1], data_offsets: [0, 1] } }),
      /'a' is I4/,
    ],
    [
      "with a tensor beyond its end",
      safetensors({ a: { dtype: "F32", shape: [1], data_offsets: [0, 4] } }),
      /'a' lies at 0 to 4 of 0/,
    ],
    [
      "whose shape does not fit",
      safetensors({ a: { dtype: "F32", shape: [2], data_offsets: [0, 4] } }, new Uint8Array(4)),
      /'a' has 4 bytes.*needs 8/,
    ],
  ])("%s is refused", (_, bytes, why) => {
    expect(() => readSafetensors(bytes, "weights")).toThrow(why);
  });

  it("that is noise never gives anything but a fault", () => {
    const valid = safetensors({ a: { dtype: "F32", shape: [2], data_offsets: [0, 8] } }, new Uint8Array(8));
    const damaged = fc
      .array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { maxLength: 6 })
      .map((changes) => {
        const bytes = valid.slice();
        for (const [at, byte] of changes) bytes[at] = byte;
        return bytes;
      });
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array(), damaged), (bytes) => {
        try {
          readSafetensors(bytes, "noise");
        } catch (error) {
          expect(error).toBeInstanceOf(Fault);
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe("model.json", () => {
  const folderWith = async (json: unknown, weights?: Uint8Array) => {
    const folder = await mkdtemp(join(tmpdir(), "cellbatch-"));
    await writeFile(join(folder, "model.json"), typeof json === "string" ? json : JSON.stringify(json));
    if (weights) await writeFile(join(folder, "w"), weights);
    return folder;
  };
  const good = {
    format: 1,
    name: "m",
    version: "1",
    description: "",
    cells: [{ name: "cell", kind: "gru", weights: { file: "w" } }],
    program: { kind: "chain", cell: "cell" },
  };

  it.each([
    ["that is no JSON", "{", /model\.json cannot be read/],
    ["with an unknown field", { ...good, colour: 1 }, /colour/],
    ["of another format", { ...good, format: 2 }, /format/],
    ["with an impossible name", { ...good, name: "A b" }, /name/],
    ["with an unknown kind of cell", { ...good, cells: [{ name: "c", kind: "rnn" }] }, /cells\[0\]\.kind/],
    [
      "whose weights lie outside its folder",
      { ...good, cells: [{ ...good.cells[0], weights: { file: "../w" } }] },
      /'\.\.\/w' lies outside/,
    ],
    ["without its weights in the file", good, /'weight_ih' of w is missing/],
    [
      "whose program names no cell of its own",
      { ...good, cells: [{ name: "x", kind: "linear", weights: { file: "w", prefix: "l." } }] },
      /cell is 'cell'.*'x'/,
    ],
  ])("%s is refused with the field that is wrong", async (_, json, why) => {
    const head = { "l.head.weight": { dtype: "F32", shape: [1, 1], data_offsets: [0, 4] } };
    const folder = await folderWith(json, safetensors(head, new Uint8Array(4)));
    await expect(readModel(folder)).rejects.toThrow(why);
    await expect(readModel(folder)).rejects.toBeInstanceOf(Fault);
  });

  it("that is not there is refused with its path", async () => {
    await expect(readModel("/nowhere/at/all")).rejects.toThrow(/nowhere/);
  });
});
