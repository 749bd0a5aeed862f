import { WebSocket } from "ws";
import { Fault } from "../core/faults.ts";
import { binaryFrame } from "../server/frames.ts";
import { type ServerMessage, SUBPROTOCOL } from "../server/protocol.ts";
import { writeValues } from "../server/tensors.ts";
import { httpTarget } from "./http-target.ts";
import type { Inputs } from "./requests.ts";
import { NO_COUNTS, type Service, type Usage } from "./service.ts";
import type { Target, TargetModel, TargetOptions } from "./target.ts";

/** Subprotocol `cellbatch.v1`; requests take turns on the sockets. The model is described over HTTP on the same port. */
export function webSocketTarget(options: TargetOptions): Target {
  const { url, connections, headers, maxSteps } = options;
  const described = httpTarget({ ...options, url: httpUrl(url) });
  const path = url.pathname === "/" ? new URL("/v1/stream", url) : url;
  let sockets: Socket[] = [];
  return {
    model: (name) => described.model(name),
    async open(model, requests): Promise<Service> {
      sockets = await Promise.all(Array.from({ length: connections }, () => Socket.open(path, headers)));
      const parameters = { stream: false, ...(maxSteps === undefined ? {} : { max_steps: maxSteps }) };
      return {
        ask(number, length, done) {
          const socket = sockets[number % sockets.length]!;
          const values = requests(number, length);
          return model.isStreaming
            ? socket.session(String(number), model, values, done)
            : socket.infer(String(number), model, values, parameters, done);
        },
        counts: () => NO_COUNTS,
        close: async () => {},
      };
    },
    async close() {
      for (const socket of sockets) socket.close();
      await described.close();
    },
  };
}

function httpUrl({ protocol, host }: URL): URL {
  return new URL(`${protocol === "wss:" ? "https" : "http"}://${host}`);
}

type Done = (usage: Usage | Error) => void;

/** One socket and the requests and sessions that are open on it. */
class Socket {
  readonly #ws: WebSocket;
  readonly #open = new Map<
    string,
    { readonly done: Done; readonly hear?: (message: ServerMessage) => void }
  >();

  private constructor(ws: WebSocket) {
    this.#ws = ws;
    ws.on("message", (data: Buffer, isBinary) => this.#hear(data, isBinary));
    ws.on("close", (code) => {
      for (const { done } of this.#open.values())
        done(new Error(`the server closed the socket with ${code}`));
      this.#open.clear();
    });
    // What follows is the close.
    ws.on("error", () => {});
  }

  static open(url: URL, headers: Readonly<Record<string, string>>): Promise<Socket> {
    const ws = new WebSocket(url, SUBPROTOCOL, { headers, perMessageDeflate: false });
    return new Promise((resolve, reject) => {
      ws.once("open", () => resolve(new Socket(ws)));
      ws.once("error", (error) =>
        reject(
          new Fault("INVALID_REQUEST", `${url} cannot be connected to: ${error.message}`, { cause: error }),
        ),
      );
    });
  }

  infer(id: string, { name }: TargetModel, values: Inputs, parameters: object, done: Done): () => void {
    if (!this.#add(id, { done })) return () => {};
    const chunks: Uint8Array[] = [];
    const inputs = writeValues(values, chunks);
    this.#send({ type: "infer", id, model: name, inputs, parameters }, chunks);
    return () => this.#cancel(id);
  }

  /** A session whose input is pushed as fast as the server takes it, then ended. */
  session(id: string, { name }: TargetModel, values: Inputs, done: Done): () => void {
    const steps = Math.max(
      1,
      ...Object.values(values).map((value) => (typeof value === "string" ? 1 : value.shape[0]!)),
    );
    let at = 0;
    let isEnded = false;
    const push = (credit: number) => {
      const to = Math.min(steps, at + credit);
      if (to > at) {
        const chunks: Uint8Array[] = [];
        this.#send({ type: "push", id, inputs: writeValues(stepsOf(values, at, to), chunks) }, chunks);
      }
      at = to;
      if (at < steps || isEnded) return;
      isEnded = true;
      this.#send({ type: "end", id }, []);
    };
    const hear = (message: ServerMessage) => {
      if (message.type === "opened") push(message.limits.inputs);
      else if (message.type === "credit") push(message.inputs);
    };
    if (!this.#add(id, { done, hear })) return () => {};
    this.#send({ type: "open", id, model: name, parameters: { stream: false } }, []);
    return () => this.#cancel(id);
  }

  close(): void {
    this.#ws.terminate();
  }

  #add(
    id: string,
    entry: { readonly done: Done; readonly hear?: (message: ServerMessage) => void },
  ): boolean {
    if (this.#ws.readyState === WebSocket.OPEN) {
      this.#open.set(id, entry);
      return true;
    }
    setImmediate(() => entry.done(new Error("the socket is closed")));
    return false;
  }

  #cancel(id: string): void {
    if (this.#open.has(id) && this.#ws.readyState === WebSocket.OPEN) this.#send({ type: "cancel", id }, []);
  }

  #send(message: object, chunks: readonly Uint8Array[]): void {
    this.#ws.send(chunks.length > 0 ? binaryFrame(message, chunks) : JSON.stringify(message));
  }

  #hear(data: Buffer, isBinary: boolean): void {
    const json = isBinary ? data.toString("utf8", 4, 4 + data.readUInt32LE(0)) : data.toString();
    const message = JSON.parse(json) as ServerMessage;
    if (!("id" in message) || message.id === undefined) return;
    const entry = this.#open.get(message.id);
    if (!entry) return;
    if (message.type !== "done" && message.type !== "error" && message.type !== "evicted") {
      entry.hear?.(message);
      return;
    }
    this.#open.delete(message.id);
    if (message.type === "done") {
      const { queue_ms: queueMs, compute_ms: computeMs, cells } = message.usage;
      entry.done({ queueMs, computeMs, cells });
    } else if (message.type === "error") entry.done(new Error(`${message.code}: ${message.message}`));
    else entry.done(new Error(`the session was evicted: ${message.reason}`));
  }
}

/** Some steps of inputs. */
function stepsOf(values: Inputs, from: number, to: number): Inputs {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => {
      if (typeof value === "string") return [name, value];
      const [steps = 1, ...rest] = value.shape;
      const size = value.data.length / steps;
      const part = {
        dtype: value.dtype,
        shape: [to - from, ...rest],
        data: value.data.subarray(from * size, to * size),
      };
      return [name, part as typeof value];
    }),
  );
}
