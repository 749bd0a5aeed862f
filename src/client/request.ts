import type { Connection } from "./connection.ts";
import type { Connector } from "./connector.ts";
import { ClientError, cancelled, connectionLost } from "./errors.ts";
import type { Heard } from "./frames.ts";
import { type Parameters, wireParameters } from "./parameters.ts";
import type { StepOutput } from "./steps.ts";
import type { Values } from "./values.ts";
import { type Limit, limit } from "./waiting.ts";

/** What a request or session used, as the server measured it. */
export interface Usage {
  readonly cells: number;
  readonly queueMs: number;
  readonly computeMs: number;
}

export interface Result {
  readonly outputs: Values;
  readonly usage: Usage;
}

export interface RequestOptions extends Parameters {
  readonly signal?: AbortSignal;
}

/** One `infer`: its model and inputs, and who hears about its steps where somebody wants them. */
export interface Request {
  readonly model: string;
  readonly inputs: Values;
  readonly options: RequestOptions;
  readonly output?: (step: StepOutput) => void;
}

/** A request that breaks every connection it is sent over is sent no more often than this. */
const MOST_SENDS = 4;

/**
 * Sends a request, again where its connection broke: the same request gives the same result. Steps that were told are not
 * told again; where they came out of order nobody could say which those are, and the request fails with CONNECTION_LOST.
 */
export async function send(connector: Connector, request: Request): Promise<Result> {
  const { model, options, output } = request;
  const bound = limit(`the request to model '${model}'`, options.signal, options.timeoutMs);
  const told = new ToldSteps(output);
  try {
    for (let sends = 1; ; sends++) {
      const connection = await connector.next(bound.signal);
      try {
        return await sendOnce(connection, request, bound, told);
      } catch (error) {
        const isGone =
          error instanceof ClientError &&
          (error.code === "CONNECTION_LOST" || error.code === "SHUTTING_DOWN");
        if (!isGone || sends === MOST_SENDS || bound.signal.aborted || !told.restart()) throw error;
      }
    }
  } finally {
    bound.release();
  }
}

function sendOnce(
  connection: Connection,
  { model, inputs, options }: Request,
  { signal, leftMs }: Limit,
  told: ToldSteps,
): Promise<Result> {
  return new Promise((resolve, reject) => {
    const sentMs = performance.now();
    const end = (act: () => void) => {
      signal.removeEventListener("abort", abort);
      connection.release(id);
      act();
    };
    const heard = (message: Heard) => {
      if (message.type === "output") told.tell(message);
      else if (message.type === "done") end(() => resolve(resultOf(message)));
      else if (message.type === "error") {
        if (message.code === "SHUTTING_DOWN") connection.drain();
        end(() => reject(errorOf(message)));
      }
    };
    const abort = () => {
      connection.send({ type: "cancel", id });
      const error = cancelled(signal);
      end(() => reject(error));
      dropIfSilent(connection, sentMs, error);
    };
    const id = connection.claim({ heard, lost: (error) => end(() => reject(error)) });
    if (signal.aborted) {
      end(() => reject(cancelled(signal)));
      return;
    }
    signal.addEventListener("abort", abort, { once: true });
    const parameters = { ...wireParameters(options, leftMs()), stream: told.isWanted };
    const isBinary = Object.values(inputs).some((value) => typeof value !== "string");
    try {
      connection.send({ type: "infer", id, model, inputs, parameters }, isBinary);
    } catch (error) {
      end(() => reject(error));
    }
  });
}

/** A peer from which nothing came while a request's whole time passed is taken for gone: TCP may not notice for minutes. */
export function dropIfSilent(connection: Connection, sinceMs: number, { code }: ClientError): void {
  if (code !== "DEADLINE_EXCEEDED" || connection.heardMs >= sinceMs) return;
  if (performance.now() - sinceMs < LEAST_SILENCE_MS) return;
  connection.drop(connectionLost("the server has not been heard of for the whole time of a request"));
}

const LEAST_SILENCE_MS = 5000;

export function resultOf({ outputs, usage }: Extract<Heard, { type: "done" }>): Result {
  const { cells, queue_ms: queueMs, compute_ms: computeMs } = usage;
  return { outputs, usage: { cells, queueMs, computeMs } };
}

export function errorOf({ code, message, retry_after_ms }: Extract<Heard, { type: "error" }>): ClientError {
  return new ClientError(code, message, retry_after_ms === undefined ? {} : { retryAfterMs: retry_after_ms });
}

/** Steps that were told, over all times that a request was sent. */
class ToldSteps {
  readonly #output: ((step: StepOutput) => void) | undefined;
  #told = 0;
  /** Whether the steps so far came as 0, 1, 2 and so on, so that another time brings the same first ones. */
  #isOrdered = true;
  #toSkip = 0;

  constructor(output: ((step: StepOutput) => void) | undefined) {
    this.#output = output;
  }

  get isWanted(): boolean {
    return this.#output !== undefined;
  }

  /** Gets ready to hear all steps again; answers whether that can be. */
  restart(): boolean {
    this.#toSkip = this.#told;
    return this.#isOrdered;
  }

  tell({ step, outputs }: StepOutput): void {
    if (this.#toSkip > 0) {
      this.#toSkip--;
      return;
    }
    if (step !== this.#told) this.#isOrdered = false;
    this.#told++;
    this.#output?.({ step, outputs });
  }
}
