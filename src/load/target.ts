import { Fault } from "../core/faults.ts";
import type { InputShape, Inputs } from "./requests.ts";
import type { Service } from "./service.ts";

/** A server that is asked over a network. */
export interface Target {
  /** What it serves under this name; of the only model where there is none. Throws what the server says. */
  model(name: string | undefined): Promise<TargetModel>;
  /** Opens the connections over which `requests` are sent. */
  open(model: TargetModel, requests: (number: number, length: number) => Inputs): Promise<Service>;
  close(): Promise<void>;
}

export interface TargetModel {
  readonly name: string;
  readonly inputs: readonly InputShape[];
  /** Whether it takes sessions. */
  readonly isStreaming: boolean;
}

export interface TargetOptions {
  readonly url: URL;
  /** Connections that requests take turns on, or may be in flight on. */
  readonly connections: number;
  /** Sent with every request, or with the opening of every socket. */
  readonly headers: Readonly<Record<string, string>>;
  readonly maxSteps?: number;
}

/** Opens the door that a URL names: ws:, wss:, http:, https:, grpc:, grpcs:. Throws INVALID_REQUEST for any other. */
export async function openTarget(options: TargetOptions): Promise<Target> {
  const { protocol } = options.url;
  if (protocol === "ws:" || protocol === "wss:")
    return (await import("./websocket-target.ts")).webSocketTarget(options);
  if (protocol === "http:" || protocol === "https:")
    return (await import("./http-target.ts")).httpTarget(options);
  if (protocol === "grpc:" || protocol === "grpcs:")
    return (await import("./grpc-target.ts")).grpcTarget(options);
  throw new Fault(
    "INVALID_REQUEST",
    `${options.url} is none of ws://, wss://, http://, https://, grpc://, grpcs:// with host and port`,
  );
}

interface Metadata {
  readonly name: string;
  readonly inputs: readonly {
    readonly name: string;
    readonly datatype: string;
    /** Strings where 64-bit integers come as such. */
    readonly shape: readonly (number | string)[];
  }[];
}

/** The inputs as a server describes them; integers are drawn from 0 to `kinds - 1` once that is known. */
export function inputsOf({ name, inputs }: Metadata): InputShape[] {
  return inputs.map((input) => {
    const type = ({ FP32: "float32", INT32: "int32", BYTES: "text" } as const)[input.datatype];
    if (!type)
      throw new Fault(
        "INVALID_REQUEST",
        `input '${input.name}' of model '${name}' is ${input.datatype}, which is not sent here`,
      );
    const shape = input.shape.map(Number);
    return {
      name: input.name,
      type,
      shape,
      isTree: type === "int32" && input.name === "children" && shape.length === 2,
    };
  });
}

/** The only name, or the one that is asked for. */
export function chosenModel(names: readonly string[], wanted: string | undefined): string {
  if (wanted !== undefined) return wanted;
  if (names.length === 1) return names[0]!;
  throw new Fault(
    "INVALID_REQUEST",
    `say which --model to ask: ${names.join(", ") || "the server has none"}`,
  );
}
