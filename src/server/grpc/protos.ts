import { fileURLToPath } from "node:url";
import { loadPackageDefinition, type ServiceDefinition } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

/** The services of a `.proto` file that lies beside this one. Field names stay as they are; 64-bit integers are strings. */
function servicesOf(file: string): ReturnType<typeof loadPackageDefinition> {
  const path = fileURLToPath(new URL(file, import.meta.url));
  return loadPackageDefinition(
    loadSync(path, { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true }),
  );
}

export interface Services {
  readonly inference: ServiceDefinition;
  readonly health: ServiceDefinition;
}

export function loadServices(): Services {
  const inference = servicesOf("./inference.proto") as unknown as {
    readonly inference: { readonly GRPCInferenceService: { readonly service: ServiceDefinition } };
  };
  const health = servicesOf("./health.proto") as unknown as {
    readonly grpc: {
      readonly health: { readonly v1: { readonly Health: { readonly service: ServiceDefinition } } };
    };
  };
  return {
    inference: inference.inference.GRPCInferenceService.service,
    health: health.grpc.health.v1.Health.service,
  };
}
