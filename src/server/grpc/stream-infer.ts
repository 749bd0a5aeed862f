import type { Metadata, ServerDuplexStream } from "@grpc/grpc-js";
import { Fault } from "../../core/faults.ts";
import type { Caller } from "../access/caller.ts";
import type { Asker, Inference } from "../oip/inference.ts";
import { flag, refuseReserved } from "../oip/parameters.ts";
import { failureOf } from "./failures.ts";
import { readRequest, type WireRequest, writeAnswer } from "./messages.ts";

export type InferStream = ServerDuplexStream<WireRequest, object>;

export interface StreamSettings {
  readonly inference: Inference;
  readonly unexpected: (error: unknown) => void;
  /** Longest time that a reader may take nothing before its stream ends, in milliseconds. */
  readonly slowMs: number;
}

/** Requests of one stream that may wait for their answers; further ones are not read until some are answered. */
const MOST_WAITING = 64;

/** The one parameter of Triton's own that a client may set. */
export const ALLOWED_RESERVED = ["triton_enable_empty_final_response"];

/**
 * Serves `ModelStreamInfer`: requests begin when they come, answers leave in the order of the requests. With parameter
 * `stream` a request is answered step by step and then by an empty answer; `triton_final_response` says which is the last.
 * A request that fails is an `error_message`; the stream goes on, unless its metadata has `triton_grpc_error: true`.
 */
export function serveStream(
  call: InferStream,
  caller: Caller,
  { inference, slowMs, unexpected }: StreamSettings,
): { readonly end: () => void } {
  const gone = new AbortController();
  const asker = { caller, signal: gone.signal };
  const isStrict = call.metadata.get("triton_grpc_error")[0] === "true";
  let last: Promise<void> = Promise.resolve();
  let waiting = 0;
  const finish = () => void last.then(() => gone.signal.aborted || call.end());
  const fail = (error: unknown) => {
    gone.abort();
    call.emit("error", failureOf(error, unexpected));
  };
  const send = async (message: object) => {
    if (!gone.signal.aborted && !call.write(message)) await drained(call, gone.signal, slowMs, fail);
  };
  const answer = async (wire: WireRequest, answers: AsyncGenerator<object>) => {
    try {
      for await (const infer_response of answers) await send({ error_message: "", infer_response });
    } catch (error) {
      if (gone.signal.aborted) return;
      if (isStrict) fail(error);
      else {
        const { model_name, model_version, id } = wire;
        const parameters = { triton_final_response: { bool_param: true } };
        const infer_response = { model_name, model_version, id, parameters };
        await send({ error_message: failureOf(error, unexpected).details, infer_response });
      }
    }
  };
  call.on("cancelled", () => gone.abort());
  call.on("data", (wire: WireRequest) => {
    if (gone.signal.aborted) return;
    if (++waiting === MOST_WAITING) call.pause();
    const answers = begin(wire, call.metadata, inference, asker);
    last = last.then(async () => {
      await answer(wire, answers);
      if (--waiting === MOST_WAITING / 2) call.resume();
    });
  });
  call.on("end", finish);
  return { end: finish };
}

/** The answers to one request; one that is not streamed is under way when this returns. */
function begin(
  wire: WireRequest,
  metadata: Metadata,
  inference: Inference,
  asker: Asker,
): AsyncGenerator<object> {
  const started = start(wire, metadata, inference, asker);
  // It may fail before those ahead of it are answered.
  if (started instanceof Promise) started.catch(() => {});
  return answersOf(started);
}

function start(
  wire: WireRequest,
  metadata: Metadata,
  inference: Inference,
  asker: Asker,
): Promise<object> | AsyncGenerator<object> {
  try {
    const request = readRequest(wire, metadata);
    refuseReserved(request.parameters, ALLOWED_RESERVED);
    if (flag(request.parameters, "stream")) return steps(request, inference, asker);
    return inference.infer(request, asker).then((one) => writeAnswer(one, { triton_final_response: true }));
  } catch (error) {
    return Promise.reject(error);
  }
}

async function* answersOf(started: ReturnType<typeof start>): AsyncGenerator<object> {
  if (started instanceof Promise) yield await started;
  else yield* started;
}

async function* steps(
  request: ReturnType<typeof readRequest>,
  inference: Inference,
  asker: Asker,
): AsyncGenerator<object> {
  const { id, model } = request;
  let { version = "" } = request;
  for await (const step of inference.stream(request, asker)) {
    version = step.version;
    yield writeAnswer(step, { triton_final_response: false });
  }
  yield writeAnswer({ id, model, version, parameters: {}, outputs: [] }, { triton_final_response: true });
}

/** Resolves when the stream takes more, or is over. */
function drained(
  call: InferStream,
  gone: AbortSignal,
  slowMs: number,
  fail: (error: unknown) => void,
): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      call.off("drain", end);
      gone.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(() => {
      fail(new Fault("OVERLOADED", `the stream was not read for ${slowMs} ms`));
    }, slowMs);
    call.once("drain", end);
    gone.addEventListener("abort", end, { once: true });
  });
}
