import * as http from "node:http";
import * as https from "node:https";
import { Fault } from "../core/faults.ts";
import { wireNames } from "../server/datatypes.ts";
import { NO_COUNTS, type Service } from "./service.ts";
import { chosenModel, inputsOf, type Target, type TargetModel, type TargetOptions } from "./target.ts";

interface Reply {
  readonly status: number;
  readonly body: Buffer;
}

/** The Open Inference Protocol over HTTP; tensors go as bytes behind the JSON. */
export function httpTarget({ url, connections, headers, maxSteps }: TargetOptions): Target {
  const door = url.protocol === "https:" ? https : http;
  const agent = new door.Agent({ keepAlive: true, maxSockets: connections });
  const send = (
    method: string,
    path: string,
    body: Buffer,
    more: Readonly<Record<string, string>>,
    done: (reply: Reply | Error) => void,
  ) => {
    const sent = { ...headers, ...more, "content-length": String(body.length) };
    const request = door.request(new URL(path, url), { method, agent, headers: sent }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () => done({ status: response.statusCode ?? 0, body: Buffer.concat(chunks) }));
      response.on("error", done);
    });
    request.on("error", done);
    request.end(body);
    return () => request.destroy(new Error("cancelled"));
  };
  const json = (method: string, path: string) =>
    new Promise<unknown>((resolve, reject) =>
      send(method, path, Buffer.from(method === "POST" ? "{}" : ""), JSON_BODY, (reply) => {
        if (reply instanceof Error)
          return reject(
            new Fault("INVALID_REQUEST", `${url.origin} cannot be asked: ${reply.message}`, { cause: reply }),
          );
        const fault = failureOf(reply);
        if (fault) return reject(new Fault("INVALID_REQUEST", `${url.origin}${path}: ${fault.message}`));
        resolve(JSON.parse(reply.body.toString()));
      }),
    );
  return {
    async model(wanted) {
      const names =
        wanted === undefined
          ? ((await json("POST", "/v2/repository/index")) as { readonly name: string }[]).map(
              ({ name }) => name,
            )
          : [];
      const name = chosenModel(names, wanted);
      const path = `/v2/models/${encodeURIComponent(name)}`;
      const metadata = (await json("GET", path)) as Parameters<typeof inputsOf>[0];
      const config = (await json("GET", `${path}/config`)) as { readonly sequence_batching?: unknown };
      return { name, inputs: inputsOf(metadata), isStreaming: config.sequence_batching !== undefined };
    },
    async open({ name }: TargetModel, requests): Promise<Service> {
      const path = `/v2/models/${encodeURIComponent(name)}/infer`;
      const parameters = {
        binary_data_output: true,
        ...(maxSteps === undefined ? {} : { max_steps: maxSteps }),
      };
      return {
        ask(number, length, done) {
          const { body, jsonBytes } = inferBody(requests(number, length), parameters);
          const more = {
            "content-type": "application/octet-stream",
            "inference-header-content-length": String(jsonBytes),
          };
          return send("POST", path, body, more, (reply) => {
            if (reply instanceof Error) return done(reply);
            done(failureOf(reply) ?? { queueMs: 0, computeMs: 0, cells: 0 });
          });
        },
        counts: () => NO_COUNTS,
        close: async () => {},
      };
    },
    close: async () => agent.destroy(),
  };
}

const JSON_BODY = { "content-type": "application/json" };

/** The JSON of an infer request, then the bytes of its tensors. */
function inferBody(values: ReturnType<Parameters<Target["open"]>[1]>, parameters: object) {
  const chunks: Uint8Array[] = [];
  const inputs = Object.entries(values).map(([name, value]) => {
    if (typeof value === "string") return { name, shape: [1], datatype: "BYTES", data: [value] };
    const { data, shape, dtype } = value;
    chunks.push(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    return { name, shape, datatype: wireNames[dtype], parameters: { binary_data_size: data.byteLength } };
  });
  const json = Buffer.from(JSON.stringify({ inputs, parameters }));
  return { body: Buffer.concat([json, ...chunks]), jsonBytes: json.length };
}

/** What a server says that did not answer; undefined where it did. */
function failureOf({ status, body }: Reply): Error | undefined {
  if (status >= 200 && status < 300) return undefined;
  const text = body.toString();
  let said = text.slice(0, 200);
  try {
    const { error } = JSON.parse(text) as { readonly error?: unknown };
    if (typeof error === "string") said = error;
  } catch {
    // Not JSON: a proxy's page, say.
  }
  return new Error(`HTTP ${status}: ${said}`);
}
