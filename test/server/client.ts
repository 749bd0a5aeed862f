import { WebSocket } from "ws";

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

  static async open(port: number): Promise<TestClient> {
    const ws = new WebSocket(`ws://127.0.0.1:${port}/v1/stream`, "cellbatch.v1");
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

  closed(): Promise<number> {
    return new Promise((resolve) => this.ws.once("close", resolve));
  }

  close(): void {
    this.ws.close();
  }
}
