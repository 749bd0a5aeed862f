import { connect } from "node:net";
import { expect } from "vitest";
import { parseJson } from "../../src/server/oip/json.ts";
import { type Served, serve } from "./served.ts";

export interface Reply {
  readonly status: number;
  readonly headers: Headers;
  readonly bytes: Buffer;
  // biome-ignore lint/suspicious/noExplicitAny: the body of an answer, whose shape the test states.
  readonly json: any;
}

/** A server for the tests of a file, and ways to ask it over HTTP. */
export interface HttpDoor {
  readonly served: Served;
  readonly chain: Served["chain"];
  send(path: string, init?: RequestInit): Promise<Reply>;
  post(path: string, body: unknown, headers?: Record<string, string>): Promise<Reply>;
  infer(model: string, body: unknown, headers?: Record<string, string>): Promise<Reply>;
  /** Sends headers that `fetch` does not let through. */
  rawPost(
    path: string,
    body: string,
    headers: Record<string, string>,
  ): Promise<{ head: string; body: Buffer }>;
  /** Sends a request and goes away as soon as its cells run. */
  leaveWhileRunning(model: string, body: object): Promise<void>;
}

export function openHttpDoor(): HttpDoor {
  const served = serve({
    limits: { bodyBytes: 65_536, sequences: 8, sequenceRequests: 4, slowMs: 500 },
  });
  const send: HttpDoor["send"] = async (path, init) => {
    const reply = await fetch(`http://127.0.0.1:${served.server.port}${path}`, init);
    const bytes = Buffer.from(await reply.arrayBuffer());
    const length = Number(reply.headers.get("inference-header-content-length") ?? bytes.length);
    const text = bytes.toString("utf8", 0, length);
    const isJson = text.startsWith("{") || text.startsWith("[");
    return { status: reply.status, headers: reply.headers, bytes, json: isJson ? parseJson(text) : text };
  };
  const post: HttpDoor["post"] = (path, body, headers = {}) =>
    send(path, {
      method: "POST",
      headers,
      body: typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body),
    });
  return {
    served,
    chain: (values) => served.chain(values),
    send,
    post,
    infer: (model, body, headers) => post(`/v2/models/${model}/infer`, body, headers),
    rawPost: (path, body, headers) => rawPost(served.server.port, path, body, headers),
    leaveWhileRunning: (model, body) => leaveWhileRunning(served, model, body),
  };
}

export const x = (values: readonly number[], shape = [values.length / 4, 4]) => ({
  name: "x",
  datatype: "FP32",
  shape,
  data: values,
});

/** A body with its tensors behind it, and its headers. */
export function binary(json: object, ...tensors: Uint8Array[]): [Buffer, Record<string, string>] {
  const head = Buffer.from(JSON.stringify(json));
  return [Buffer.concat([head, ...tensors]), { "inference-header-content-length": `${head.length}` }];
}

/** Takes long enough to be left alone. */
export const long = x(new Array(7000 * 4).fill(0));

async function leaveWhileRunning({ runtime, server }: Served, model: string, body: object): Promise<void> {
  const gone = new AbortController();
  const { cells } = runtime.stats();
  const asked = fetch(`http://127.0.0.1:${server.port}/v2/models/${model}/infer`, {
    method: "POST",
    body: JSON.stringify(body),
    signal: gone.signal,
  });
  const ended = expect(asked).rejects.toThrow(/abort/);
  await expect.poll(() => runtime.stats().cells, { interval: 1 }).toBeGreaterThan(cells);
  gone.abort();
  await ended;
}

function rawPost(
  port: number,
  path: string,
  body: string,
  headers: Record<string, string>,
): Promise<{ head: string; body: Buffer }> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1");
    const chunks: Buffer[] = [];
    socket.on("data", (chunk) => chunks.push(chunk));
    socket.on("error", reject);
    socket.on("close", () => {
      const all = Buffer.concat(chunks);
      const end = all.indexOf("\r\n\r\n");
      resolve({ head: all.toString("latin1", 0, end), body: all.subarray(end + 4) });
    });
    const lines = Object.entries({ ...headers, "Content-Length": `${Buffer.byteLength(body)}` });
    socket.write(
      `POST ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n${body}`,
    );
  });
}
