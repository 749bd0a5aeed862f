import { type ClientOptions, WebSocket } from "ws";

export type Message = Record<string, unknown> & { readonly type: string };

/** A socket whose messages can be waited for. */
export class TestClient {
  readonly ws: WebSocket;
  readonly messages: Message[] = [];
  readonly #waiting: {
    readonly matches: (message: Message) => boolean;
    readonly resolve: (message: Message) => void;
  }[] = [];

  private constructor(ws: WebSocket) {
    this.ws = ws;
    ws.on("message", (data: Buffer, isBinary) => {
      const json = isBinary ? data.toString("utf8", 4, 4 + data.readUInt32LE(0)) : data.toString();
      const message = JSON.parse(json) as Message;
      this.messages.push(message);
      const at = this.#waiting.findIndex(({ matches }) => matches(message));
      if (at >= 0) this.#waiting.splice(at, 1)[0]!.resolve(message);
    });
  }

  static async open(
    port: number,
    protocols: string | string[] = "cellbatch.v1",
    options: ClientOptions = {},
  ): Promise<TestClient> {
    const scheme = options.ca ? "wss" : "ws";
    const ws = new WebSocket(`${scheme}://127.0.0.1:${port}/v1/stream`, protocols, options);
    const client = new TestClient(ws);
    await new Promise((resolve, reject) => {
      ws.once("open", resolve);
      ws.once("error", reject);
    });
    return client;
  }

  send(message: object | string): void {
    this.ws.send(typeof message === "string" ? message : JSON.stringify(message));
  }

  /** The first message, past or future, that has these fields. */
  next(fields: Record<string, unknown>): Promise<Message> {
    const matches = (message: Message) =>
      Object.entries(fields).every(([key, value]) => message[key] === value);
    const past = this.messages.find(matches);
    if (past) return Promise.resolve(past);
    return new Promise((resolve) => this.#waiting.push({ matches, resolve }));
  }

  /** Sends a message in a binary frame, with the bytes of its tensors. */
  sendBinary(message: object, bytes: Buffer): void {
    const json = Buffer.from(JSON.stringify(message));
    const length = Buffer.alloc(4);
    length.writeUInt32LE(json.length);
    this.ws.send(Buffer.concat([length, json, bytes]));
  }

  closed(): Promise<number> {
    return new Promise((resolve) => this.ws.once("close", resolve));
  }

  close(): void {
    this.ws.close();
  }
}
