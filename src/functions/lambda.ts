import type { InvokeCommandOutput, LambdaClient } from "@aws-sdk/client-lambda";
import { Fault } from "../core/faults.ts";
import type { Called, FunctionInvoker } from "./invoker.ts";
import type { Answer, Invocation } from "./payload.ts";

export interface LambdaFunctionsOptions {
  /**
   * Name or ARN of the function, by memory: a function has one memory, so each size that a plan names is deployed once. One
   * name stands for all.
   */
  readonly names: string | Readonly<Record<number, string>>;
  /** @default the SDK's own: environment, profile */
  readonly region?: string;
  /** Where calls go, for a local stand-in. @default AWS */
  readonly endpoint?: string;
}

/** Functions of AWS Lambda with the handler of `deploy/lambda`. Needs the optional package `@aws-sdk/client-lambda`. */
export class LambdaFunctions implements FunctionInvoker {
  readonly #client: LambdaClient;
  readonly #sdk: typeof import("@aws-sdk/client-lambda");
  readonly #names: LambdaFunctionsOptions["names"];

  private constructor(sdk: typeof import("@aws-sdk/client-lambda"), options: LambdaFunctionsOptions) {
    const { names, region, endpoint } = options;
    this.#sdk = sdk;
    this.#names = names;
    this.#client = new sdk.LambdaClient({ ...(region ? { region } : {}), ...(endpoint ? { endpoint } : {}) });
  }

  /** Throws UNSUPPORTED where the SDK is not installed. */
  static async open(options: LambdaFunctionsOptions): Promise<LambdaFunctions> {
    const sdk = await import("@aws-sdk/client-lambda").catch((cause: unknown) => {
      const message =
        "functions of AWS need the package @aws-sdk/client-lambda: npm install @aws-sdk/client-lambda";
      throw new Fault("UNSUPPORTED", message, { cause });
    });
    return new LambdaFunctions(sdk, options);
  }

  async invoke(batch: Invocation, memoryMb: number, signal: AbortSignal): Promise<Called> {
    const name = typeof this.#names === "string" ? this.#names : this.#names[memoryMb];
    if (name === undefined) throw new Fault("INVALID_REQUEST", `no function is named for ${memoryMb} MB`);
    const command = new this.#sdk.InvokeCommand({
      FunctionName: name,
      Payload: Buffer.from(JSON.stringify(batch)),
      LogType: "Tail",
    });
    const startMs = performance.now();
    const reply = await this.#client.send(command, { abortSignal: signal }).catch((cause: Error) => {
      signal.throwIfAborted();
      const code = cause.name === "TooManyRequestsException" ? "OVERLOADED" : "INTERNAL";
      throw new Fault(code, `function '${name}' could not be called: ${cause.message}`, { cause });
    });
    const answer = answerIn(name, reply);
    const report = reply.LogResult ? Buffer.from(reply.LogResult, "base64").toString() : "";
    const billed = /Billed Duration: (\d+) ms/.exec(report)?.[1];
    return {
      answer,
      billedMs: billed === undefined ? performance.now() - startMs : Number(billed),
      isCold: report.includes("Init Duration"),
    };
  }

  async close(): Promise<void> {
    this.#client.destroy();
  }
}

function answerIn(name: string, { FunctionError, Payload }: InvokeCommandOutput): Answer {
  const text = Payload ? Buffer.from(Payload).toString() : "";
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new Fault("INTERNAL", `function '${name}' answered no JSON: '${text.slice(0, 200)}'`, { cause });
  }
  if (FunctionError === undefined) return json as Answer;
  const message = (json as { errorMessage?: unknown } | null)?.errorMessage;
  throw new Fault(
    "INTERNAL",
    `function '${name}' failed: ${typeof message === "string" ? message : text.slice(0, 200)}`,
  );
}
