// Writes small random models as TensorFlow.js saves them, with inputs and its own outputs. In a folder outside of this one:
//
//     npm install @tensorflow/tfjs@4
//     node .../make_tfjs_fixtures.mjs

import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { deflateSync } from "node:zlib";

const tf = createRequire(`${process.cwd()}/`)("@tensorflow/tfjs");
const { layers: L } = tf;
const [INPUT, UNITS, SYMBOLS, CLASSES] = [3, 4, 7, 3];
const LENGTHS = [1, 4, 6];

let seed = 1;
const random = (shape, scale = 1) => tf.randomNormal(shape, 0, scale, "float32", seed++);
const pack = (content) => deflateSync(content, { level: 9 }).toString("base64");
// The shortest decimals that are the same float32.
const plain = (values) => Array.from(values, (value) => Number(value.toPrecision(9)));

async function filesOf(model) {
  const files = {};
  await model.save(
    tf.io.withSaveHandler(async (artifacts) => {
      const { modelTopology, weightSpecs, weightData, format, generatedBy, convertedBy } = artifacts;
      const weightsManifest = [{ paths: ["weights.bin"], weights: weightSpecs }];
      const json = { modelTopology, weightsManifest, format, generatedBy, convertedBy };
      files["model.json"] = pack(JSON.stringify(json));
      files["weights.bin"] = pack(Buffer.from(weightData));
      return { modelArtifactsInfo: {} };
    }),
  );
  return files;
}

const cases = [];

async function add(name, layers, { tokens = false, functional = false } = {}) {
  const shape = tokens ? [null] : [null, INPUT];
  let model;
  if (functional) {
    const input = tf.input({ shape });
    let values = input;
    for (const layer of layers) values = layer.apply(values);
    model = tf.model({ inputs: input, outputs: values });
  } else {
    model = tf.sequential();
    model.add(L.inputLayer({ inputShape: shape }));
    for (const layer of layers) model.add(layer);
  }
  model.setWeights(model.getWeights().map((weight) => random(weight.shape, 0.7)));
  const inputs = [];
  const outputs = [];
  for (const length of LENGTHS) {
    const given = tokens
      ? tf.randomUniform([1, length], 0, SYMBOLS, "int32", seed++)
      : random([1, length, INPUT]);
    inputs.push(plain(given.dataSync()));
    outputs.push(plain(model.predict(given).dataSync()));
  }
  const files = { saved: await filesOf(model) };
  cases.push({ name, files, input: tokens ? "token" : "x", inputs, outputs });
}

const dense = () => L.dense({ units: CLASSES });
for (const [name, make] of [
  ["LSTM", L.lstm],
  ["GRU", L.gru],
  ["SimpleRNN", L.simpleRNN],
]) {
  const rnn = (more) => make({ units: UNITS, ...more });
  await add(name, [rnn(), dense()]);
  await add(`${name}, sigmoid`, [rnn(name === "SimpleRNN" ? {} : { recurrentActivation: "sigmoid" }), dense()]);
  await add(
    `${name}, embedding, all steps, TimeDistributed`,
    [
      L.embedding({ inputDim: SYMBOLS, outputDim: INPUT }),
      rnn({ returnSequences: true, activation: "relu" }),
      L.timeDistributed({ layer: dense() }),
    ],
    { tokens: true },
  );
  await add(`${name}, go_backwards`, [rnn({ goBackwards: true })], { functional: true });
  for (const mergeMode of ["concat", "sum", "mul", "ave"]) {
    await add(
      `${name}, both ways (${mergeMode})`,
      [
        L.bidirectional({ layer: rnn({ returnSequences: true }), mergeMode }),
        L.dropout({ rate: 0.5 }),
        L.bidirectional({ layer: rnn(), mergeMode }),
        L.activation({ activation: "softmax" }),
      ],
      { functional: mergeMode === "sum" },
    );
  }
}
await add("RNN of GRUCell", [L.rnn({ cell: L.gruCell({ units: UNITS }), returnSequences: true }), dense()]);
await add("RNN of LSTMCell", [L.rnn({ cell: L.lstmCell({ units: UNITS }) })]);
await add("Dense with hardSigmoid", [L.lstm({ units: UNITS }), L.dense({ units: 2, activation: "hardSigmoid" })]);

const text = `[\n${cases.map((one) => JSON.stringify(one)).join(",\n")}\n]\n`;
writeFileSync(new URL("fixtures/tfjs.json", import.meta.url), text);
console.log(`${cases.length} cases, ${text.length} bytes`);
