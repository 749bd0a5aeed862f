import { Fault } from "../src/core/faults.ts";
import { int32, type Tensor } from "../src/core/tensor.ts";
import type { Beam, ModelDefinition, Unfold } from "./definition.ts";
import { unfoldLayers } from "./layers.ts";
import { unfoldTree } from "./tree.ts";

/** The function that unfolds requests of a model. A session has none: it is one run that stays open. */
export function unfoldOf(model: ModelDefinition): Unfold {
  const { name, program, outputs } = model;
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
      return (graph, inputs) => unfoldTree(graph, program, inputs, model);
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
