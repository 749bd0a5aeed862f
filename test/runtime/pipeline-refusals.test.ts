import { cp, mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import type { Pipeline, Stage } from "../../models/pipeline.ts";
import { readModel } from "../../models/read-model.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import { chainModel, listenerModel } from "../fixtures/models.ts";
import { pipeline, stage } from "./pipelines.ts";

const g2p = fileURLToPath(new URL("../../models/g2p", import.meta.url));

describe("a pipeline that does not fit", () => {
  it.each<readonly [string, readonly Stage[], Pipeline["outputs"], RegExp]>([
    [
      "names a model that is not there",
      [stage("a", "nobody")],
      undefined,
      /model 'nobody', which is not there/,
    ],
    ["has two stages of one name", [stage("a", "chain"), stage("a", "chain")], undefined, /two stages 'a'/],
    [
      "gives an unknown input",
      [stage("a", "chain", { y: "x" })],
      undefined,
      /input 'y', model 'chain' takes 'x'/,
    ],
    [
      "uses a stage that comes later",
      [stage("a", "chain", { x: "b.h" }), stage("b", "chain")],
      undefined,
      /not before/,
    ],
    ["uses an unknown stage", [stage("a", "chain", { x: "c.h" })], undefined, /no such stage/],
    ["uses an unknown output", [stage("a", "chain")], { y: "a.z" }, /'a\.z', but model 'chain' gives 'h'/],
    [
      "mixes requests and sessions",
      [stage("a", "chain"), stage("b", "listener")],
      undefined,
      /mixes stages: 'chain' takes single requests/,
    ],
    [
      "joins what has other shapes",
      [stage("a", "chain"), stage("b", "chain", { x: "a.h" })],
      undefined,
      /float32 \[8\].*takes float32 \[-1, 4\]/,
    ],
    [
      "has a gate on many numbers",
      [
        stage("a", "chain"),
        stage("b", "chain", {}, { output: "a.h", open: 0.5, close: 0.5, hold: 0, reset: false }),
      ],
      undefined,
      /not one number/,
    ],
  ])("(it %s) is refused with the reason", async (_, stages, outputs, why) => {
    const models = [chainModel(), listenerModel(), pipeline("bad", stages, outputs)];
    await expect(createRuntime({ models, inline: true })).rejects.toThrow(why);
  });
});

describe("a folder with a pipeline", () => {
  async function write(program: object): Promise<string> {
    const folder = await mkdtemp(join(tmpdir(), "cellbatch-"));
    const manifest = { format: 1, name: "p", version: "1", description: "", program };
    await writeFile(join(folder, "model.json"), JSON.stringify(manifest));
    return folder;
  }

  it("brings the models that lie in it", async () => {
    const folder = await write({ kind: "pipeline", stages: [{ model: "g2p" }] });
    await cp(g2p, join(folder, "g2p"), { recursive: true });
    const own = await createRuntime({ models: [folder], inline: true });
    try {
      expect(own.models.map(({ name, program }) => [name, program])).toEqual([
        ["p", "pipeline"],
        ["g2p", "seq2seq"],
      ]);
      expect((await own.run("p", { text: "cell" })).outputs).toEqual(
        (await own.run("g2p", { text: "cell" })).outputs,
      );
    } finally {
      await own.close(0);
    }
  });

  it.each([
    ["whose gate closes above where it opens", { output: "a.b", open: 1, close: 2 }, /closes above/],
    ["whose gate is on no stage", { output: "level", open: 1 }, /'stage\.output'/],
  ])("%s is refused with the reason", async (_, rule, why) => {
    const folder = await write({ kind: "pipeline", stages: [{ model: "g2p", gate: rule }] });
    await expect(readModel(folder)).rejects.toThrow(why);
  });

  it("is refused where a model in it has another name than its folder", async () => {
    const folder = await write({ kind: "pipeline", stages: [{ model: "letters" }] });
    await cp(g2p, join(folder, "letters"), { recursive: true });
    await expect(readModel(folder)).rejects.toThrow(/holds model 'g2p', the pipeline wants 'letters'/);
  });
});
