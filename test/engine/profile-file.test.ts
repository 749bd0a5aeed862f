import fc from "fast-check";
import { describe, expect, it, onTestFinished } from "vitest";
import type { ModelDefinition } from "../../models/definition.ts";
import { cellsDigest } from "../../models/digest.ts";
import { hasOneSize, measureOverheads, OVERHEAD_ROUNDS } from "../../src/bench/overheads.ts";
import { wholeSequenceModel } from "../../src/bench/whole-sequence.ts";
import type { Fault } from "../../src/core/faults.ts";
import { type Profile, type ProfileSetting, parseProfile } from "../../src/core/profile.ts";
import { float32, int32 } from "../../src/core/tensor.ts";
import { thisMachine } from "../../src/engine/machine.ts";
import { measureModel } from "../../src/engine/measure-model.ts";
import { createRuntime, type RuntimeSettings } from "../../src/runtime/create.ts";
import { chainModel, lstmCell, treeModel, writerModel } from "../fixtures/models.ts";

const graphModel = (): ModelDefinition =>
  wholeSequenceModel("whole", lstmCell("cell", { hidden: 8, input: 4, symbols: 5 }), {
    maxBatch: 4,
    timeoutMs: 0,
    order: "oldest",
    bucketWidth: Number.POSITIVE_INFINITY,
  });

/** A profile of a model's only cell, as if it had been measured here. */
function profileOf(
  definition: ModelDefinition,
  settings: readonly ProfileSetting[],
  changes: Partial<Profile> = {},
): Profile {
  const { name, version, cells, program } = definition;
  return {
    format: 1,
    kind: "cellbatch.profile",
    model: { name, version, digest: cellsDigest(definition) },
    machine: thisMachine(),
    measuredAt: new Date(0).toISOString(),
    cells: [
      {
        cell: cells[0]!.name,
        lane: program.kind === "graph" ? "graph" : "cellular",
        settings: [...settings],
      },
    ],
    ...changes,
  };
}

/** Calls that take equally long for any number of rows. */
function flat(us: number, most: number, more: Partial<ProfileSetting> = {}): ProfileSetting {
  const points = [1, most].map((rows) => ({ rows, us, spreadUs: 0 }));
  return { threads: 1, stepsPerCall: 1, points, ...more };
}

const overheads = {
  threads: 1,
  requestUs: 1,
  taskUs: 1,
  rowUs: 1,
  publishUs: 1,
  hopUs: 1,
  sizeUs: 1,
  idle: [],
};

async function open(settings: Omit<RuntimeSettings, "inline">) {
  const runtime = await createRuntime({ ...settings, inline: true });
  onTestFinished(() => runtime.close(0));
  return runtime;
}

const measured = (definition: ModelDefinition, threads: readonly number[] = [1]) => {
  let [promised, told] = [0, 0];
  return measureModel(definition, {
    threads,
    maxRows: 20,
    pointMs: 1,
    sizes: [3, 7],
    began: (_cell, _threads, points) => {
      promised += points;
    },
    point: () => told++,
  }).then((profile) => ({ profile, promised, told }));
};

describe("a measured profile", () => {
  it("has every cell, thread setting and number of steps per call, and passes its own schema", async () => {
    const { profile, promised, told } = await measured(chainModel(), [1, 2]);
    expect(parseProfile(JSON.stringify(profile), "file")).toEqual(profile);
    expect(profile.model).toMatchObject({ name: "chain", digest: cellsDigest(chainModel()) });
    const [cell] = profile.cells;
    expect(cell).toMatchObject({ cell: "cell", lane: "cellular" });
    expect(new Set(cell!.settings.map(({ threads }) => threads))).toEqual(new Set([1, 2]));
    const single = cell!.settings.find(({ stepsPerCall }) => stepsPerCall === 1)!;
    expect(single.points.map(({ rows }) => rows)).toEqual([
      1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16, 17, 18, 19, 20,
    ]);
    for (const { stepsPerCall, points } of cell!.settings)
      for (const { rows, us } of points) {
        expect(rows * stepsPerCall).toBeLessThanOrEqual(20);
        expect(us).toBeGreaterThan(0);
      }
    expect(told).toBe(promised);
  });

  it("of a whole graph has a setting for each size of its padded batches", async () => {
    const { profile, promised, told } = await measured(graphModel());
    expect(parseProfile(JSON.stringify(profile), "file")).toEqual(profile);
    const [cell] = profile.cells;
    expect(cell!.lane).toBe("graph");
    expect(cell!.settings.map(({ size }) => size)).toEqual([3, 7]);
    expect(cell!.settings[0]!.points.map(({ rows }) => rows)).toEqual([1, 2, 4, 8, 16, 20]);
    expect(told).toBe(promised);
  });
});

describe("what a server adds, measured", () => {
  it.each([
    ["a chain", chainModel()],
    ["a generator", writerModel()],
    ["a whole graph", graphModel()],
  ])("of %s passes the file's schema", async (_, definition) => {
    const { profile } = await measured(definition);
    let rounds = 0;
    const found = await measureOverheads(definition, profile, 1, () => rounds++);
    expect(rounds).toBeGreaterThan(0);
    expect(rounds).toBeLessThanOrEqual(OVERHEAD_ROUNDS);
    const read = parseProfile(JSON.stringify({ ...profile, overheads: found }), "file");
    expect(read.overheads).toEqual(found);
    expect(found.hopUs + found.sizeUs).toBeGreaterThan(0);
    expect(found.idle.map(({ afterMs }) => afterMs)).toEqual([0, 1, 2, 4, 8]);
  });

  it("is nothing that trees have, whose requests have no one size", async () => {
    const tree = treeModel("with a head");
    expect(hasOneSize(tree)).toBe(false);
    await expect(measureOverheads(tree, profileOf(tree, []), 1)).rejects.toThrow(
      `requests to '${tree.name}' have no one size, for its program is 'tree'`,
    );
  });
});

describe("a runtime with a profile", () => {
  it("takes its batch size from the file's knee instead of measuring", async () => {
    const definition = chainModel();
    const runtime = await open({ models: [definition], profiles: [profileOf(definition, [flat(100, 200)])] });
    expect(runtime.models[0]!.cells[0]!.maxBatch).toBe(200);
    const { outputs } = await runtime.run("chain", { x: float32([3, 4], new Float32Array(12)) });
    expect(outputs.h).toMatchObject({ shape: [8] });
  });

  it("refuses a time limit that the file's cost cannot meet", async () => {
    const definition = chainModel();
    const runtime = await open({ models: [definition], profiles: [profileOf(definition, [flat(1e9, 100)])] });
    const x = float32([3, 4], new Float32Array(12));
    await expect(runtime.run("chain", { x }, { timeoutMs: 60_000 })).rejects.toMatchObject({
      code: "DEADLINE_EXCEEDED",
      message: expect.stringContaining("3000000"),
    });
  });

  it("refuses such a time limit of a whole graph by its size, between those that were measured", async () => {
    const definition = graphModel();
    const settings = [flat(1e8, 4, { size: 10 }), flat(3e8, 4, { size: 30 })];
    const runtime = await open({ models: [definition], profiles: [profileOf(definition, settings)] });
    const ask = (steps: number, timeoutMs: number) =>
      runtime.run("whole", { token: int32([steps], new Int32Array(steps)) }, { timeoutMs });
    await expect(ask(20, 199_000)).rejects.toMatchObject({ code: "DEADLINE_EXCEEDED" });
    await expect(ask(40, 299_000)).rejects.toMatchObject({ code: "DEADLINE_EXCEEDED" });
    expect((await ask(20, 201_000)).outputs.h).toMatchObject({ shape: [8] });
  });

  it.each([
    [
      "another machine",
      { machine: { ...thisMachine(), cpu: "Abacus" } },
      /profile of model 'chain' was measured with cpu 'Abacus', this machine has/,
    ],
    [
      "other weights",
      { model: { name: "chain", version: "1", digest: "sha256:0123" } },
      /is of version 1 with cells sha256:0123, what is loaded has sha256:/,
    ],
    [
      "a model that is not served",
      { model: { name: "else", version: "1", digest: "-" } },
      /of model 'else', loaded are chain/,
    ],
  ])("refuses one of %s", async (_what, changes, message) => {
    const definition = chainModel();
    const profiles = [profileOf(definition, [flat(10, 100)], changes)];
    await expect(open({ models: [definition], profiles })).rejects.toThrow(message);
  });

  it("refuses one that lacks the setting it is to run with", async () => {
    const definition = chainModel();
    const models = [definition];
    const profiles = [profileOf(definition, [flat(10, 100, { threads: 4 })])];
    await expect(open({ models, profiles })).rejects.toThrow("measured with 4 threads, not with 1");
    const narrow = [profileOf(definition, [flat(100, 50)])];
    await expect(open({ models, profiles: narrow, maxBatch: 51 })).rejects.toThrow(
      "ends at 50 rows, 'maxBatch' is 51",
    );
    await expect(open({ models, profiles: [...narrow, ...narrow] })).rejects.toThrow(
      "two profiles are of model",
    );
    await expect(open({ models, profiles: ["no-such-file"] })).rejects.toThrow("no-such-file cannot be read");
  });

  it("names cells alike wherever they were read, and others otherwise", () => {
    const { cells } = chainModel();
    expect(cellsDigest({ cells: structuredClone(cells) })).toBe(cellsDigest({ cells }));
    expect(cellsDigest(chainModel("last", 9))).not.toBe(cellsDigest(chainModel()));
    const changed = structuredClone(cells);
    const { body } = changed[0]!;
    if (body.kind === "lstm") body.weights.stateBias[0]! += 1e-6;
    expect(cellsDigest({ cells: changed })).not.toBe(cellsDigest({ cells }));
  });
});

describe("a profile file", () => {
  const good = profileOf(chainModel(), [flat(10, 100)]);

  it.each([
    ["{", "is not JSON"],
    ["{}", "at 'format'"],
    [JSON.stringify({ ...good, format: 2 }), "at 'format'"],
    [JSON.stringify({ ...good, cells: [] }), "at 'cells'"],
    [JSON.stringify({ ...good, extra: 1 }), "extra"],
    [JSON.stringify(profileOf(chainModel(), [flat(10, 1)])), "rows must ascend"],
    [JSON.stringify(profileOf(chainModel(), [flat(-1, 9)])), "at 'cells.0.settings.0.points.0.us'"],
    [JSON.stringify(profileOf(chainModel(), [flat(1, 9, { size: 3 })])), "have a size in the lane 'graph'"],
    [
      JSON.stringify(profileOf(chainModel(), [flat(1, 9)], { overheads: { ...overheads, hopUs: -1 } })),
      "at 'overheads.hopUs'",
    ],
    [
      JSON.stringify(
        profileOf(chainModel(), [flat(1, 9)], {
          overheads: { ...overheads, idle: [3, 1].map((afterMs) => ({ afterMs, us: 1 })) },
        }),
      ),
      "afterMs must ascend",
    ],
  ])("such as %.30s is refused and tells why: %s", (text, message) => {
    expect(() => parseProfile(text, "my.profile.json")).toThrow(message);
    expect(() => parseProfile(text, "my.profile.json")).toThrow("my.profile.json");
  });

  it("of any content is read or refused with INVALID_REQUEST", () => {
    const broken = fc.tuple(fc.constantFrom(...paths(good)), fc.jsonValue()).map(([path, value]) => {
      const copy = structuredClone(good) as unknown as Record<string, unknown>;
      let at = copy;
      for (const name of path.slice(0, -1)) at = at[name] as Record<string, unknown>;
      at[path.at(-1)!] = value;
      return JSON.stringify(copy);
    });
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json(), broken), (text) => {
        try {
          const { cells } = parseProfile(text, "file");
          for (const { settings } of cells)
            for (const { points } of settings) expect(points[0]!.rows).toBeGreaterThan(0);
        } catch (error) {
          expect((error as Fault).code).toBe("INVALID_REQUEST");
        }
      }),
    );
  });
});

/** The ways to all values inside a value. */
function paths(value: unknown, before: readonly string[] = []): string[][] {
  if (typeof value !== "object" || value === null) return [[...before]];
  return Object.entries(value).flatMap(([name, one]) => [
    ...(before.length > 0 ? [[...before, name]] : []),
    ...paths(one, [...before, name]),
  ]);
}
