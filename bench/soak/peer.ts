import { WebSocket } from "ws";

export type Message = Record<string, unknown> & { readonly type: string; readonly id?: string };

const LAST = ["done", "error", "state", "evicted"];
/** Longest time that an answer may take on a machine that is busy, in milliseconds. */
const PATIENCE_MS = 60_000;

/** A socket that demands of its server exactly one last word for whatever it began. */
export class Peer {
  readonly ws: WebSocket;
  readonly #waiting = new Map<string, Set<(message: Message) => void>>();
  /** What was begun and has no last word; a set, since an id may be used again. */
  readonly #open = new Set<string>();
  readonly #over = new Map<string, Message>();
  readonly #opened = new Map<string, Message>();
  readonly #steps = new Map<string, number>();
  readonly #firstStep: number;
  #hasLeft = false;
  #broken: Error | undefined;

  private constructor(ws: WebSocket, firstStep: number) {
    this.ws = ws;
    this.#firstStep = firstStep;
    ws.on("message", (data: Buffer) => this.#hear(JSON.parse(data.toString()) as Message));
    ws.on("error", () => {});
    ws.on("close", (code) => {
      // The server may cut off who is too slow; anything else without a word is a broken promise.
      if (!this.#hasLeft && code !== 1008) this.#break(new Error(`the socket was closed with ${code}`));
      for (const id of this.#open) this.#tell(id, { type: "closed", id });
    });
  }

  /** Steps of its streams are counted from `firstStep`. */
  static async open(port: number, firstStep = 0): Promise<Peer> {
    const ws = new WebSocket(`ws://127.0.0.1:${port}/v1/stream`, "cellbatch.v1");
    await new Promise((resolve, reject) => ws.once("open", resolve).once("error", reject));
    return new Peer(ws, firstStep);
  }

  send(message: object): void {
    if (this.ws.readyState === WebSocket.OPEN) this.ws.send(JSON.stringify(message));
  }

  /** Sends what begins a request or session. */
  begin(
    message: { readonly type: string; readonly id: string } & Record<string, unknown>,
    id = message.id,
  ): void {
    this.#open.add(id);
    this.#over.delete(id);
    this.#opened.delete(id);
    this.#steps.delete(id);
    this.send(message);
  }

  /** Outputs that came, counted from the first step. */
  outputs(id: string): number {
    return this.#steps.get(id) ?? this.#firstStep;
  }

  /** The last word; type `closed` where the socket was closed first. */
  last(id: string): Promise<Message> {
    return this.#wait(id, () => this.#over.get(id), LAST);
  }

  /** The first message of a type, or the last word where that comes first. */
  first(id: string, type: "opened"): Promise<Message> {
    return this.#wait(id, () => this.#opened.get(id) ?? this.#over.get(id), [type, ...LAST]);
  }

  leave(): void {
    this.#hasLeft = true;
    this.ws.close();
    // Who has stopped reading does not see the answer to its close.
    setTimeout(() => this.ws.terminate(), 2000).unref();
  }

  #hear(message: Message): void {
    const { type, id, step } = message;
    if (id === undefined) return;
    if (type === "opened") this.#opened.set(id, message);
    if (type === "output") {
      const next = this.outputs(id);
      if (step !== next) this.#break(new Error(`output ${step} of '${id}' came where ${next} was due`));
      this.#steps.set(id, next + 1);
    }
    if (LAST.includes(type)) {
      // A bad message about an id that is not open is answered by an error, too.
      if (this.#open.delete(id)) this.#over.set(id, message);
      else if (type !== "error")
        this.#break(new Error(`a second last word for '${id}': ${JSON.stringify(message)}`));
    }
    this.#tell(id, message);
  }

  #tell(id: string, message: Message): void {
    for (const listener of this.#waiting.get(id) ?? []) listener(message);
  }

  #break(error: Error): void {
    this.#broken ??= error;
    for (const id of this.#waiting.keys()) this.#tell(id, { type: "closed", id });
  }

  async #wait(id: string, past: () => Message | undefined, types: readonly string[]): Promise<Message> {
    if (this.#broken) throw this.#broken;
    const known = past();
    if (known) return known;
    if (this.ws.readyState !== WebSocket.OPEN) return { type: "closed", id };
    const listeners = this.#waiting.get(id) ?? new Set();
    this.#waiting.set(id, listeners);
    const message = await new Promise<Message | undefined>((resolve) => {
      const timer = setTimeout(() => settle(undefined), PATIENCE_MS);
      const settle = (heard: Message | undefined) => {
        if (heard && heard.type !== "closed" && !types.includes(heard.type)) return;
        clearTimeout(timer);
        listeners.delete(settle);
        resolve(heard);
      };
      listeners.add(settle);
    });
    if (this.#broken) throw this.#broken;
    if (!message) throw new Error(`'${id}' was not answered within ${PATIENCE_MS} ms`);
    return message;
  }
}
