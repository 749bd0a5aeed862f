import {
  type Client,
  credentials,
  Metadata,
  makeGenericClientConstructor,
  type ServiceError,
} from "@grpc/grpc-js";
import { Fault } from "../core/faults.ts";
import { wireNames } from "../server/datatypes.ts";
import { loadServices } from "../server/grpc/protos.ts";
import type { Inputs } from "./requests.ts";
import { NO_COUNTS, type Service } from "./service.ts";
import { chosenModel, inputsOf, type Target, type TargetOptions } from "./target.ts";

type Done = (error: ServiceError | null, answer?: unknown) => void;
type Method = (request: object, metadata: Metadata, done: Done) => { cancel(): void };
type Stub = Client & Readonly<Record<string, Method>>;

/** The Open Inference Protocol over gRPC; tensors go as raw contents. Requests take turns on the channels. */
export function grpcTarget({ url, connections, headers, maxSteps }: TargetOptions): Target {
  const Constructor = makeGenericClientConstructor(loadServices().inference, "GRPCInferenceService");
  const secure = url.protocol === "grpcs:" ? credentials.createSsl() : credentials.createInsecure();
  // A channel of its own for each, which the library would share otherwise.
  const stubs = Array.from(
    { length: connections },
    () => new Constructor(url.host, secure, { "grpc.use_local_subchannel_pool": 1 }) as unknown as Stub,
  );
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
  const call = (method: string, request: object) =>
    new Promise<unknown>((resolve, reject) =>
      stubs[0]![method]!(request, metadata, (error, answer) =>
        error
          ? reject(new Fault("INVALID_REQUEST", `${url.host}: ${error.message}`, { cause: error }))
          : resolve(answer),
      ),
    );
  return {
    async model(wanted) {
      const index = (await call("RepositoryIndex", {})) as {
        readonly models: readonly { readonly name: string }[];
      };
      const name = chosenModel(
        index.models.map((model) => model.name),
        wanted,
      );
      const described = (await call("ModelMetadata", { name })) as Parameters<typeof inputsOf>[0];
      return { name, inputs: inputsOf(described), isStreaming: false };
    },
    async open({ name }, requests): Promise<Service> {
      const parameters = maxSteps === undefined ? {} : { max_steps: { int64_param: String(maxSteps) } };
      return {
        ask(number, length, done) {
          const request = { model_name: name, parameters, ...wireInputs(requests(number, length)) };
          const sent = stubs[number % stubs.length]!.ModelInfer!(request, metadata, (error) =>
            done(error ? new Error(error.message) : { queueMs: 0, computeMs: 0, cells: 0 }),
          );
          return () => sent.cancel();
        },
        counts: () => NO_COUNTS,
        close: async () => {},
      };
    },
    async close() {
      for (const stub of stubs) stub.close();
    },
  };
}

function wireInputs(values: Inputs) {
  const raw: Uint8Array[] = [];
  const inputs = Object.entries(values).map(([name, value]) => {
    if (typeof value === "string") {
      const bytes = Buffer.from(value);
      const size = Buffer.alloc(4);
      size.writeUInt32LE(bytes.length);
      raw.push(Buffer.concat([size, bytes]));
      return { name, datatype: "BYTES", shape: ["1"] };
    }
    const { data, shape, dtype } = value;
    raw.push(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    return { name, datatype: wireNames[dtype], shape: shape.map(String) };
  });
  return { inputs, raw_input_contents: raw };
}
