import { type Client, type ConnectOptions, connectWith } from "./client.ts";
import { dialGlobal } from "./dial.ts";

/** Connects to a server of `cellbatch.v1` over the global WebSocket. */
export function connect(url: string, options: ConnectOptions = {}): Promise<Client> {
  return connectWith(url, dialGlobal, options);
}

export type { Client, ConnectOptions } from "./client.ts";
export type { ConnectionState } from "./connector.ts";
export type { Dial, Socket } from "./dial.ts";
export { ClientError, type ErrorCode } from "./errors.ts";
export type { RequestOptions, Result, Usage } from "./request.ts";
export type { PushOptions, Session, SessionOptions, WaitOptions } from "./session.ts";
export type { StepOutput } from "./steps.ts";
export type { Tensor, TensorData, Values } from "./values.ts";
