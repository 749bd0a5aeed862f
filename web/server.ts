import type { WatchReport, WireDecision, WireModel } from "../src/server/watch-protocol.ts";

/** What this page asks of its server by HTTP. */
export class ServerPage {
  key: string | undefined;

  constructor(key: string | undefined) {
    this.key = key;
  }

  /** Its models. Rejects with the status in the message; `KeyNeeded` where a key is missing or wrong. */
  async models(): Promise<readonly WireModel[]> {
    return (await this.#get("/v1/models", AbortSignal.timeout(10_000))).json();
  }

  /** The latest decisions about buffers, oldest first. Rejects as `models`. */
  async decisions(signal: AbortSignal): Promise<readonly WireDecision[]> {
    const reply = await this.#get("/v2/decisions", signal);
    return ((await reply.json()) as { readonly decisions: readonly WireDecision[] }).decisions;
  }

  /** What the engines do, until `signal` is aborted or the server ends it. */
  async *watch(signal: AbortSignal): AsyncGenerator<WatchReport> {
    const { body } = await this.#get("/v1/watch", signal);
    const reader = body!.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      text += value;
      const events = text.split("\n\n");
      text = events.pop()!;
      for (const event of events) yield JSON.parse(event.replace(/^data: /, "")) as WatchReport;
    }
  }

  async #get(path: string, signal: AbortSignal): Promise<Response> {
    const headers: HeadersInit = this.key === undefined ? {} : { authorization: `Bearer ${this.key}` };
    const reply = await fetch(path, { headers, signal });
    if (reply.status === 401 || reply.status === 403) throw new KeyNeeded();
    if (!reply.ok) throw new Error(`${path} answered ${reply.status}`);
    return reply;
  }
}

/** The server wants a key, or another one. */
export class KeyNeeded extends Error {}
