import { credentials, loadPackageDefinition, type ServiceError } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { afterAll, beforeAll } from "vitest";
import { floats, type Served, serve } from "./served.ts";

// biome-ignore lint/suspicious/noExplicitAny: messages of a client that is made at run time; the tests state their shapes.
export type Message = any;

/** A server for the tests of a file, and clients of its services. */
export class GrpcDoor {
  readonly served: Served;
  client: Message;
  health: Message;

  constructor(served: Served) {
    this.served = served;
  }

  call(method: string, request: object = {}, of: Message = this.client): Promise<Message> {
    return new Promise((resolve, reject) => {
      of[method](request, (error: ServiceError | null, answer: Message) =>
        error ? reject(error) : resolve(answer),
      );
    });
  }

  infer(model: string, request: object): Promise<Message> {
    return this.call("ModelInfer", { model_name: model, ...request });
  }
}

export function openGrpcDoor(): GrpcDoor {
  const served = serve({ grpcPort: 0, limits: { sequences: 8, bodyBytes: 1_000_000 } });
  const door = new GrpcDoor(served);
  beforeAll(() => {
    const address = `127.0.0.1:${served.server.grpcPort}`;
    const { GRPCInferenceService } = load("inference.proto").inference;
    door.client = new GRPCInferenceService(address, credentials.createInsecure());
    door.health = new (load("health.proto").grpc.health.v1.Health)(address, credentials.createInsecure());
  });
  afterAll(() => {
    door.client.close();
    door.health.close();
  });
  return door;
}

function load(file: string): Message {
  return loadPackageDefinition(
    loadSync(new URL(`../../src/server/grpc/${file}`, import.meta.url).pathname, {
      keepCase: true,
      longs: String,
      enums: String,
      defaults: true,
      oneofs: true,
    }),
  );
}

export const fromRaw = (bytes: Buffer) => [...new Float32Array(Uint8Array.from(bytes).buffer)];
export const typed = (values: readonly number[], shape = [values.length / 4, 4]) => ({
  inputs: [{ name: "x", datatype: "FP32", shape, contents: { fp32_contents: values } }],
});
export const raw = (values: readonly number[], shape = [values.length / 4, 4]) => ({
  inputs: [{ name: "x", datatype: "FP32", shape }],
  raw_input_contents: [floats(values)],
});
export const text = (value: string) => ({
  inputs: [
    { name: "text", datatype: "BYTES", shape: [1], contents: { bytes_contents: [Buffer.from(value)] } },
  ],
});
