import { mkdir, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { importModel } from "../../../models/import/import-model.ts";
import {
  archiveWeights,
  LAYER_GROUPS,
  readWeightsFile,
} from "../../../models/import/keras/archive-weights.ts";
import { readTopology } from "../../../models/import/keras/config.ts";
import { sequenceGraph } from "../../../models/import/keras/graph.ts";
import { readDatasets } from "../../../models/import/keras/hdf5.ts";
import { Fault } from "../../../src/core/faults.ts";
import { type Case, filesOf, keras, written } from "./cases.ts";
import { type Member, unzip, zip } from "./zip.ts";

const caseOf = (name: string) => keras.find((one) => one.name === name)!;
const simple = caseOf("LSTM, two layers, softmax");
const archive = () => filesOf(simple, "keras")["model.keras"]!;

type Json = Record<string, unknown>;
interface Entry {
  readonly class_name: string;
  readonly config: Json;
  inbound_nodes?: unknown;
}
interface LayersModel {
  format: string;
  modelTopology: {
    keras_version: string;
    model_config: { class_name: string; config: { layers: Entry[] } & Json };
  };
  weightsManifest: { paths: string[]; weights: { name: string; shape: number[]; dtype: string }[] }[];
}

/** Imports a layers model after a change to its `model.json` or other files. */
async function change(
  one: Case,
  edit: (model: LayersModel, files: Record<string, Buffer | string>) => void,
): Promise<unknown> {
  const files: Record<string, Buffer | string> = filesOf(one, "tfjs2");
  const model = JSON.parse(String(files["model.json"])) as LayersModel;
  edit(model, files);
  return importModel(await written({ ...files, "model.json": JSON.stringify(model) }));
}

const layersOf = (model: LayersModel) => model.modelTopology.model_config.config.layers;
const layer = (model: LayersModel, className: string) =>
  layersOf(model).find(({ class_name: name }) => name === className)!;

describe("a layers model that cannot be taken is refused with what is wrong", () => {
  const sequential = caseOf("LSTM, embedding, all steps, TimeDistributed");
  const both = caseOf("LSTM, both ways (concat), last step");

  it.each<[string, Case, Parameters<typeof change>[1], RegExp]>([
    [
      "a layer of an unknown class",
      simple,
      (model) => Object.assign(layer(model, "Dropout"), { class_name: "Conv1D" }),
      /layer 'dropout' \(Conv1D\) is not supported/,
    ],
    [
      "a class of the user's own",
      simple,
      (model) => Object.assign(layer(model, "LSTM"), { registered_name: "Custom>LSTM" }),
      /layer 'lstm' \(LSTM\) is a class of its own, 'Custom>LSTM'/,
    ],
    [
      "an unknown activation",
      simple,
      (model) => Object.assign(layer(model, "LSTM").config, { activation: "snake" }),
      /layer 'lstm' \(LSTM\) has activation 'snake', which is not known/,
    ],
    [
      "an activation that gates do not take",
      simple,
      (model) => Object.assign(layer(model, "LSTM").config, { recurrent_activation: "softmax" }),
      /recurrent_activation 'softmax', which gates do not take/,
    ],
    [
      "states among the outputs",
      simple,
      (model) => Object.assign(layer(model, "LSTM").config, { return_state: true }),
      /layer 'lstm' \(LSTM\) gives its states too/,
    ],
    [
      "two outputs of a Bidirectional",
      both,
      (model) => Object.assign(layer(model, "Bidirectional").config, { merge_mode: null }),
      /layer 'bidirectional' \(Bidirectional\) gives two outputs/,
    ],
    [
      "a Bidirectional of a Dense",
      both,
      (model) => Object.assign(layer(model, "Bidirectional").config, { layer: layer(model, "Dense") }),
      /holds layer 'dense' \(Dense\), which is not supported there/,
    ],
    [
      "a layer that needs steps behind one that gives the last",
      simple,
      (model) => Object.assign(layer(model, "LSTM").config, { return_sequences: false }),
      /layer 'lstm_1' \(LSTM\) wants steps/,
    ],
    [
      "a layer called while training",
      simple,
      (model) =>
        Object.assign(layer(model, "Dropout"), { inbound_nodes: [[["lstm", 0, 0, { training: true }]]] }),
      /layer 'dropout' \(Dropout\) is called with training=True/,
    ],
    [
      "a branch",
      simple,
      (model) =>
        Object.assign(layer(model, "Dense"), {
          inbound_nodes: [
            [
              ["lstm_1", 0, 0, {}],
              ["lstm", 0, 0, {}],
            ],
          ],
        }),
      /layer 'dense' \(Dense\) takes 2 inputs/,
    ],
    [
      "an initial state",
      simple,
      (model) =>
        Object.assign(layer(model, "Dense"), {
          inbound_nodes: [[["lstm_1", 0, 0, { initial_state: ["lstm", 0, 1] }]]],
        }),
      /layer 'dense' \(Dense\) takes 2 inputs/,
    ],
    [
      "a layer beside the others",
      simple,
      (model) => Object.assign(layer(model, "Dense"), { inbound_nodes: [[["lstm", 0, 0, {}]]] }),
      /stands beside the row of layers/,
    ],
    [
      "a layer that takes its own output",
      simple,
      (model) => Object.assign(layer(model, "Dropout"), { inbound_nodes: [[["lstm_1", 0, 0, {}]]] }),
      /takes its own output/,
    ],
    ["no layer with steps", sequential, (model) => layersOf(model).splice(2, 1), /no layer with steps/],
    [
      "an input of more axes",
      simple,
      (model) => Object.assign(layer(model, "InputLayer").config, { batch_input_shape: [null, 8, 8, 3] }),
      /its input has shape \[null,8,8,3\]/,
    ],
    [
      "a graph model",
      simple,
      (model) => Object.assign(model, { format: "graph-model" }),
      /a graph model of TensorFlow\.js/,
    ],
    [
      "units that do not fit the weights",
      simple,
      (model) => Object.assign(layer(model, "LSTM").config, { units: 5 }),
      /'lstm\/lstm_cell\/kernel' of layer 'lstm' \(LSTM\) has shape \[3, 16\], expected \[3, 20\]/,
    ],
    [
      "units without end",
      simple,
      (model) => Object.assign(layer(model, "LSTM").config, { units: 2 ** 40 }),
      /config of layer 'lstm' \(LSTM\) is malformed at units/,
    ],
    [
      "a weight that is missing",
      simple,
      (model) => Object.assign(model.weightsManifest[0]!.weights[0]!, { name: "other/kernel" }),
      /has 0 weights 'kernel'/,
    ],
    [
      "a weight that is there twice",
      simple,
      (model) =>
        Object.assign(model.weightsManifest[0]!.weights[0]!, {
          name: model.weightsManifest[0]!.weights[1]!.name,
        }),
      /two of its weights are called/,
    ],
    [
      "weights of another type",
      simple,
      (model) => Object.assign(model.weightsManifest[0]!.weights[0]!, { dtype: "complex64" }),
      /holds complex64/,
    ],
    [
      "an unknown quantisation",
      simple,
      (model) => Object.assign(model.weightsManifest[0]!.weights[0]!, { quantization: { dtype: "int4" } }),
      /weightsManifest is malformed at 0\.weights\.0\.quantization\.dtype/,
    ],
    [
      "a shape whose product overflows",
      simple,
      (model) => Object.assign(model.weightsManifest[0]!.weights[0]!, { shape: [2 ** 31, 2 ** 31, 2 ** 31] }),
      /has shape \[2147483648, 2147483648, 2147483648\], which is more than/,
    ],
    [
      "shapes that are too much together",
      simple,
      (model) => {
        for (const weight of model.weightsManifest[0]!.weights) weight.shape = [2 ** 28];
      },
      /its weights take \d+ bytes, at most/,
    ],
    [
      "a negative size",
      simple,
      (model) => Object.assign(model.weightsManifest[0]!.weights[0]!, { shape: [-1] }),
      /weightsManifest is malformed at 0\.weights\.0\.shape\.0/,
    ],
    [
      "a file that is shorter than its weights",
      simple,
      (_, files) => Object.assign(files, { "group1-shard1of1.bin": Buffer.alloc(12) }),
      /'group1-shard1of1\.bin' hold 12 bytes, their weights take \d+/,
    ],
    [
      "a file that is not there",
      simple,
      (model) => model.weightsManifest[0]!.paths.push("more.bin"),
      /'more\.bin', which is not there/,
    ],
    [
      "a file that is named twice",
      simple,
      (model) => model.weightsManifest[0]!.paths.push("./group1-shard1of1.bin"),
      /name the file '\.\/group1-shard1of1\.bin' twice/,
    ],
    ...["../secret.bin", "/etc/hostname", "..", ".", "a\0b", "https://example.com/a.bin"].map(
      (path): [string, Case, Parameters<typeof change>[1], RegExp] => [
        `a path out of the folder: ${JSON.stringify(path)}`,
        simple,
        (model) => model.weightsManifest[0]!.paths.push(path),
        /outside the folder of the file|which is not there/,
      ],
    ),
  ])("%s", async (_, one, edit, message) => {
    await expect(change(one, edit)).rejects.toThrow(message);
    await expect(change(one, edit)).rejects.toBeInstanceOf(Fault);
  });

  it("a link out of the folder", async () => {
    const file = await written(filesOf(simple, "tfjs2"));
    const model = JSON.parse(String(filesOf(simple, "tfjs2")["model.json"])) as LayersModel;
    await mkdir(join(dirname(file), "inner"));
    await symlink(
      join(dirname(file), "group1-shard1of1.bin"),
      join(dirname(file), "inner", "group1-shard1of1.bin"),
    );
    const linked = join(dirname(file), "inner", "model.json");
    await writeFile(linked, JSON.stringify(model));
    await expect(importModel(linked)).rejects.toThrow(/outside the folder of the file/);
  });

  it("layers nested without end", async () => {
    const config = '{"class_name":"Bidirectional","config":{"name":"b","layer":'.repeat(20_000);
    const text = `{"modelTopology":{"class_name":"Sequential","config":{"layers":[${config}1${"}}".repeat(20_000)}]}}}`;
    await expect(importModel(await written({ "model.json": text }))).rejects.toBeInstanceOf(Fault);
  });

  it("JSON that is no model of TensorFlow.js", async () => {
    await expect(importModel(await written({ "model.json": '{"format":1}' }))).rejects.toThrow(
      /no 'modelTopology'/,
    );
    await expect(importModel(await written({ "model.json": "{" }))).rejects.toThrow(/cannot be read/);
  });
});

describe("an archive that cannot be taken is refused with what is wrong", () => {
  const metadata: Member = { name: "metadata.json", content: '{"keras_version":"3.0.0"}' };
  const config: Member = { name: "config.json", content: "{}" };
  const weights: Member = { name: "model.weights.h5", content: "" };

  it.each<[string, Buffer, RegExp]>([
    ["no zip file", Buffer.from("not a zip file at all, not even close"), /archive cannot be read/],
    ["a missing file", zip([metadata, config]), /no 'model\.weights\.h5'/],
    ["a file that is there twice", zip([metadata, metadata, config, weights]), /two files 'metadata\.json'/],
    ["no version", zip([{ ...metadata, content: "{}" }, config, weights]), /'metadata\.json' is malformed/],
    ["no JSON", zip([metadata, { ...config, content: "{" }, weights]), /'config\.json' is no JSON/],
    ["no topology", zip([metadata, config, weights]), /the topology is malformed at class_name/],
    [
      "a file of another checksum",
      zip([{ ...metadata, crc: 1 }, config, weights]),
      /'metadata\.json' is damaged: its checksum differs/,
    ],
    [
      "a bomb: more than the limit",
      zip([metadata, { ...config, content: Buffer.alloc(2 ** 26 + 1), isPacked: true }, weights]),
      /'config\.json' takes 67108865 bytes, at most 67108864 are read/,
    ],
    [
      "a bomb that says it is small",
      zip([metadata, { ...config, content: Buffer.alloc(2 ** 24), isPacked: true, size: 1000 }, weights]),
      /too many bytes in the stream|larger than the 1000 bytes/,
    ],
    [
      "a size that no packing reaches",
      zip([metadata, { ...config, content: Buffer.alloc(10), isPacked: true, size: 2 ** 26 }, weights]),
      /more than can be packed/,
    ],
    [
      "a stored file that says it is larger than the archive",
      zip([metadata, { ...config, size: 2 ** 25 }, weights]),
      /archive cannot be read/,
    ],
  ])("%s", async (_, content, message) => {
    const file = await written({ "model.keras": content });
    await expect(importModel(file)).rejects.toThrow(message);
    await expect(importModel(file)).rejects.toBeInstanceOf(Fault);
  });
});

describe("any damaged file gives a model or a fault, and the next one is read as before", () => {
  const damage = fc.array(fc.tuple(fc.nat(2 ** 20), fc.nat(255)), { minLength: 1, maxLength: 8 });
  const damaged = (content: Buffer, changes: readonly (readonly [number, number])[], length: number) => {
    const bytes = Buffer.from(content.subarray(0, length % 4 === 0 ? length % content.length : undefined));
    for (const [at, value] of changes) if (bytes.length > 0) bytes[at % bytes.length] = value;
    return bytes;
  };
  const check = async (files: Record<string, Buffer>) => {
    try {
      await importModel(await written(files));
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
    }
  };
  const small = keras.filter(({ files }) => "keras" in files && "tfjs2" in files);

  it("model.json", { timeout: 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...small), damage, fc.nat(), async (one, changes, length) => {
        const files = filesOf(one, "tfjs2");
        await check({ ...files, "model.json": damaged(files["model.json"]!, changes, length) });
      }),
      { numRuns: 200 },
    );
  });

  it("values in model.json", { timeout: 60_000 }, async () => {
    const value = fc.oneof(
      fc.constantFrom<unknown>(null, true, -1, 0, 1e300, 2 ** 31, "", "LSTM", "__proto__", [], {}, [
        [["lstm", 0, 0, {}]],
      ]),
      fc.jsonValue({ maxDepth: 2 }),
    );
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...small), fc.nat(), value, async (one, at, put) => {
        const files = filesOf(one, "tfjs2");
        const model = JSON.parse(String(files["model.json"]));
        const places = placesOf(model);
        const { holder, key } = places[at % places.length]!;
        holder[key] = put;
        await check({ ...files, "model.json": Buffer.from(JSON.stringify(model)) });
      }),
      { numRuns: 300 },
    );
  });

  it("archives", { timeout: 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...small), damage, fc.nat(), async (one, changes, length) => {
        await check({ "model.keras": damaged(filesOf(one, "keras")["model.keras"]!, changes, length) });
      }),
      { numRuns: 40 },
    );
  });

  it("weights in archives", { timeout: 120_000 }, async () => {
    const parts = await unzip(archive());
    const topology = readTopology(JSON.parse(String(parts["config.json"])));
    await fc.assert(
      fc.asyncProperty(damage, fc.nat(), async (changes, length) => {
        try {
          const datasets = await readDatasets(
            damaged(parts["model.weights.h5"]!, changes, length),
            LAYER_GROUPS,
          );
          sequenceGraph({ topology, weights: archiveWeights(topology, datasets), major: 3 });
        } catch (error) {
          if (!(error instanceof Fault)) throw error;
        }
      }),
      // A seed of its own, since some damage keeps the library busy for long; threads have a deadline for that.
      { numRuns: 300, seed: 1 },
    );
    await importModel(await written({ "model.keras": archive() }));
  });

  it("weights that take too long are given up", async () => {
    const parts = await unzip(archive());
    await expect(readWeightsFile(parts["model.weights.h5"]!, 0)).rejects.toThrow(/takes longer than 0 ms/);
  });
});

/** Every place in a JSON value that holds another. */
function placesOf(value: unknown): { readonly holder: Json; readonly key: string }[] {
  if (typeof value !== "object" || value === null) return [];
  const holder = value as Json;
  return Object.keys(holder).flatMap((key) => [{ holder, key }, ...placesOf(holder[key])]);
}
