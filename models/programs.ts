import { Fault } from "../src/core/faults.ts";
import { int32, type Tensor } from "../src/core/tensor.ts";
import type { Beam, Graph, ModelDefinition, Run, Unfold } from "./definition.ts";
import { unfoldLayers } from "./layers.ts";

type Inputs = Readonly<Record<string, Tensor>>;

/** The function that unfolds requests of a model. A session has none: it is one run that stays open. */
export function unfoldOf(model: ModelDefinition): Unfold {
  const { name, program, inputs: declared, outputs } = model;
  switch (program.kind) {
    case "chain":
      return (graph, inputs) => {
        const run = graph.run(program.cell, { inputs });
        for (const output of outputs) graph.output(output.name, run, output.name, program.collect);
      };
    case "generate":
      return (graph, { token }, { maxSteps, beamWidth }) => {
        const prompt = [program.start, ...(token?.data ?? [])];
        const last = prompt.pop()!;
        const from =
          prompt.length > 0 ? [graph.run(program.cell, { inputs: { token: tokens(prompt) } })] : [];
        const limit = Math.min(maxSteps, program.maxSteps);
        const run = graph.run(program.cell, {
          inputs: { token: tokens([last]) },
          from,
          generate: generateOf(model, program, limit, beamWidth),
        });
        if (!program.beam) graph.output("token", run, "token", "all");
      };
    case "seq2seq":
      return (graph, { token }, { maxSteps, beamWidth }) => {
        const encode = (cell: string, backwards: boolean) => {
          const read = token!.data.slice() as Int32Array;
          if (backwards) read.reverse();
          return graph.run(cell, { inputs: { token: int32([read.length], read) } });
        };
        const encoder = encode(program.encoder, program.reverse);
        const { attention } = program;
        let memory = {};
        if (attention) {
          const { output, other } = attention;
          const of = [{ run: encoder, output, backwards: program.reverse }];
          if (other !== undefined)
            of.push({ run: encode(other, !program.reverse), output, backwards: !program.reverse });
          memory = {
            [attention.memory]: { held: { of }, as: "values" },
            [attention.mask]: { held: { of }, as: "mask" },
          };
        }
        const limit = Math.min(maxSteps, program.maxSteps);
        const run = graph.run(program.decoder, {
          inputs: { token: tokens([program.start]), ...memory },
          from: [encoder],
          generate: generateOf(model, program, limit, beamWidth),
        });
        if (!program.beam) graph.output("token", run, "token", "all");
      };
    case "tree":
      return (graph, inputs) => {
        const root = unfoldTree(
          graph,
          program,
          inputs,
          declared.find(({ name }) => name !== "children")!.name,
        );
        const top = program.head === undefined ? root : graph.run(program.head, { steps: 1, from: [root] });
        for (const output of outputs) graph.output(output.name, top, output.name, "last");
      };
    case "session":
      return () => {
        throw new Fault("INVALID_REQUEST", `model '${name}' takes sessions, not single requests`);
      };
    case "layers":
      return (graph, inputs) => unfoldLayers(graph, program, inputs, model);
    case "graph":
      return () => {
        throw new Fault("INTERNAL", `model '${name}' is one graph and unfolds into no cells`);
      };
    case "pipeline":
      return () => {
        throw new Fault("INTERNAL", `model '${name}' is a pipeline and has no cells`);
      };
    case "custom":
      return program.unfold;
  }
}

function generateOf(
  { name }: ModelDefinition,
  { stop, beam }: { readonly stop: number; readonly beam?: Beam },
  maxSteps: number,
  beamWidth: number,
) {
  if (beamWidth === 0) return { stop, maxSteps, ...(beam ? { beam } : {}) };
  if (beam) {
    const nBest = Math.min(beam.nBest, beamWidth);
    return { stop, maxSteps, beam: { ...beam, width: beamWidth, nBest } };
  }
  throw new Fault("INVALID_REQUEST", `'beamWidth' is ${beamWidth}, model '${name}' has no beam search`);
}

function tokens(values: readonly number[]): Tensor {
  return int32([values.length], Int32Array.from(values));
}

function unfoldTree(
  graph: Graph,
  program: { readonly leaf: string; readonly node: string },
  inputs: Inputs,
  input: string,
): Run {
  const values = inputs[input]!;
  const [leaves = 0, ...rest] = values.shape;
  const children = inputs.children!;
  if (children.shape[0] !== leaves - 1) {
    const got = `[${children.shape.join(", ")}]`;
    throw new Fault(
      "INVALID_INPUT",
      `input 'children' has shape ${got}, a tree of ${leaves} leaves needs [${leaves - 1}, 2]`,
    );
  }
  const size = values.data.length / leaves;
  const runs = Array.from({ length: leaves }, (_, leaf) => {
    const data = values.data.subarray(leaf * size, (leaf + 1) * size);
    return graph.run(program.leaf, {
      inputs: { [input]: { ...values, shape: [1, ...rest], data } as Tensor },
    });
  });
  const used = new Uint8Array(2 * leaves - 1);
  for (let node = 0; node < leaves - 1; node++) {
    const from = [children.data[2 * node]!, children.data[2 * node + 1]!].map((child) => {
      if (child < 0 || child >= runs.length || used[child]) {
        const why = used[child] ? "already has a parent" : "is not a leaf or an earlier node";
        throw new Fault(
          "INVALID_INPUT",
          `input 'children' names ${child} as a child of node ${node}, which ${why}`,
        );
      }
      used[child] = 1;
      return runs[child]!;
    });
    runs.push(graph.run(program.node, { steps: 1, from }));
  }
  return runs.at(-1)!;
}
