import type { Values } from "../../kernels/kernel.ts";
import { sizeOf } from "../core/tensor.ts";
import { append, keep } from "./kept.ts";
import type { EngineRun } from "./request.ts";
import { advance, likeliest, sample, uniformOf } from "./sampling.ts";

/** Chooses the token that a generating run's step gives, from its outputs: the cell's own choice, the likeliest, or one drawn. */
export function chooseToken(run: EngineRun, outputs: readonly Values[], row: number): void {
  const { request } = run;
  const { temperature } = request.options;
  const at = outputOf(run, "token");
  if (temperature === 0 && at >= 0) {
    run.token = outputs[at]![row]!;
    return;
  }
  const logits = outputOf(run, "logits");
  const width = sizeOf(request.model.definition.cells[run.index]!.outputs[logits]!.shape);
  if (temperature === 0) {
    run.token = likeliest(outputs[logits]!, row * width, width);
    return;
  }
  request.random = advance(request.random);
  run.token = sample(outputs[logits]!, row * width, width, request.options, uniformOf(request.random));
}

/** Keeps what the step gave besides the end of a text. */
export function keepToken(run: EngineRun, outputs: readonly Values[], row: number): void {
  const at = outputOf(run, "token");
  for (let i = 0; i < run.outputs.length; i++) {
    if (run.outputs[i]!.cellOutput !== at) keep(run, i, outputs, row);
    else {
      chosen[0] = run.token;
      append(run, i, chosen, 0);
    }
  }
}

const chosen = new Int32Array(1);

function outputOf(run: EngineRun, wanted: string): number {
  const { outputs } = run.request.model.definition.cells[run.index]!;
  return outputs.findIndex(({ name }) => name === wanted);
}
