import { credentials, loadPackageDefinition, type ServiceError } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { onTestFinished } from "vitest";

/** Calls unary methods of the inference service on a port; closed after the test. */
export function callOf(port: number): (method: string, request: object) => Promise<object> {
  const proto = new URL("../../src/server/grpc/inference.proto", import.meta.url).pathname;
  const definition = loadSync(proto, { keepCase: true, longs: String, enums: String, defaults: true });
  // biome-ignore lint/suspicious/noExplicitAny: the client is made at run time.
  const { inference } = loadPackageDefinition(definition) as any;
  const client = new inference.GRPCInferenceService(`127.0.0.1:${port}`, credentials.createInsecure());
  onTestFinished(() => client.close());
  return (method, request) =>
    new Promise((resolve, reject) => {
      client[method](request, (error: ServiceError | null, answer: object) =>
        error ? reject(error) : resolve(answer),
      );
    });
}
