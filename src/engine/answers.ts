import type { Values } from "../../kernels/kernel.ts";
import { type FaultCode, faultCodes } from "../core/faults.ts";
import { sizeOf } from "../core/tensor.ts";
import { event } from "./messages.ts";
import type { RunOutput } from "./outputs.ts";
import type { PacketWriter } from "./packet.ts";
import type { EngineRun, Found, Kept, Request } from "./request.ts";
import { valuesOf } from "./series.ts";

/** Writes the outputs of one step of a run; `at` is its place in the kernel's outputs, `token` what it chose where it generates. */
export function writeStep(
  to: PacketWriter,
  run: EngineRun,
  step: number,
  outputs: readonly Values[],
  at: number,
  token?: number,
): void {
  to.int(event.OUTPUT);
  to.int(run.request.id);
  to.int(step);
  to.int(given(run.outputs));
  for (const { output, cellOutput, dtype, shape, size } of run.outputs) {
    if (output < 0) continue;
    to.int(output);
    if (token !== undefined && size === 1 && dtype === "int32") {
      tokenOut[0] = token;
      to.tensor(shape, tokenOut);
    } else to.tensor(shape, outputs[cellOutput]!, at * size, size);
  }
}

/** Writes all that a request gives, and its usage. */
export function writeAnswer(to: PacketWriter, request: Request, nowMs: number): void {
  const late = lateOutputs(request);
  if (request.options.stream && late.length > 0) writeLateSteps(to, request.id, late);
  const startedMs = request.startedMs < 0 ? nowMs : request.startedMs;
  to.int(event.DONE);
  to.int(request.id);
  to.int(request.runs.reduce((cells, { done }) => cells + done, 0));
  to.double(startedMs - request.admittedMs);
  to.double(nowMs - startedMs);
  if (request.session) {
    to.int(0);
    return;
  }
  to.int(request.runs.reduce((sum, { outputs }) => sum + given(outputs), late.length));
  for (const run of request.runs) writeRun(to, run);
  for (const { output, all, shape, values } of late) {
    to.int(output);
    to.tensor(all ? [values.length / sizeOf(shape), ...shape] : shape, values);
  }
}

export function writeFailed(to: PacketWriter, id: number, code: FaultCode, message: string): void {
  to.int(event.FAILED);
  to.int(id);
  to.int(faultCodes.indexOf(code));
  to.text(message);
}

/** How many of a run's outputs the caller gets. */
export function given(outputs: readonly RunOutput[]): number {
  let count = 0;
  for (const { output } of outputs) if (output >= 0) count++;
  return count;
}

const tokenOut = new Int32Array(1);
const NO_FLOATS: Kept = { values: new Float32Array(0), length: 0 };
const NO_INTEGERS: Kept = { values: new Int32Array(0), length: 0 };

/** Streams what is known only at the end, step by step. */
function writeLateSteps(to: PacketWriter, id: number, late: readonly Found[]): void {
  const stepsOf = ({ all, shape, values }: Found) => (all ? values.length / sizeOf(shape) : 1);
  const steps = Math.max(...late.map(stepsOf));
  for (let step = 0; step < steps; step++) {
    const now = late.filter((one) => (one.all ? step < stepsOf(one) : step === steps - 1));
    to.int(event.OUTPUT);
    to.int(id);
    to.int(step);
    to.int(now.length);
    for (const { output, all, shape, values } of now) {
      const size = sizeOf(shape);
      to.int(output);
      to.tensor(shape, values, all ? step * size : 0, size);
    }
  }
}

function writeRun(to: PacketWriter, { request, index, outputs, kept }: EngineRun): void {
  outputs.forEach(({ output, cellOutput, shape, all, dtype, size }, i) => {
    if (output < 0) return;
    to.int(output);
    const { values, length } = kept?.[i] ?? (dtype === "int32" ? NO_INTEGERS : NO_FLOATS);
    if (all) to.tensor([length / size, ...shape], values, 0, length);
    else if (length > 0) to.tensor(shape, values, 0, length);
    else to.tensor(shape, request.model.kernel.outputs(index)[cellOutput]!, request.answerRow * size, size);
  });
}

/** Outputs that are put together, or were searched for. */
function lateOutputs({ given, found }: Request): readonly Found[] {
  if (given.length === 0) return found;
  const together = given.map(({ output, series }) => {
    const { collect, shape } = series;
    return { output, all: collect === "all", shape, values: valuesOf(series) };
  });
  return [...together, ...found];
}
