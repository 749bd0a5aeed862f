import { WebSocket } from "ws";
import { quantile } from "../../src/load/statistics.ts";
import { INPUT, MODEL, SAMPLES, samples } from "./model.ts";

export type Encoding = "binary" | "json";

/** What the process of the clients is asked. */
export type ToLoad =
  | { readonly kind: "open"; readonly port: number; readonly sessions: number }
  | { readonly kind: "run"; readonly encoding: Encoding; readonly active: number; readonly seconds: number }
  | { readonly kind: "close" };

export type FromLoad =
  | { readonly kind: "ready" | "opened" | "closed" }
  | {
      readonly kind: "ran";
      readonly outputsPerSecond: number;
      /** Between two outputs of one session. */
      readonly p50Ms: number;
      readonly p99Ms: number;
      /** Share of one core that the clients took; near 1 they are what is measured, not the server. */
      readonly clientCpu: number;
    };

/** Inputs that an active session keeps in flight: it pushes the next when it is answered. */
const WINDOW = 1;
const WARM_MS = 1000;
/** Sockets that are opened at a time; more would overflow the queue of the listening socket. */
const AT_ONCE = 50;

let sockets: WebSocket[] = [];
const say = (message: FromLoad) => process.send!(message);
process.on("message", async (message: ToLoad) => {
  if (message.kind === "open") {
    await open(message.port, message.sessions);
    say({ kind: "opened" });
  } else if (message.kind === "run") say(await run(message));
  else {
    for (const ws of sockets) ws.terminate();
    sockets = [];
    say({ kind: "closed" });
  }
});

say({ kind: "ready" });

/** A session on each of that many sockets, which has had one step, so that its state has a place. */
async function open(port: number, sessions: number): Promise<void> {
  const push = frameOf("binary");
  while (sockets.length < sessions) {
    const some = Array.from({ length: Math.min(AT_ONCE, sessions - sockets.length) }, async () => {
      const ws = new WebSocket(`ws://127.0.0.1:${port}/v1/stream`, "cellbatch.v1", {
        perMessageDeflate: true,
      });
      await new Promise((resolve, reject) => ws.once("open", resolve).once("error", reject));
      const stepped = new Promise<void>((resolve) => {
        ws.on("message", function hear(data: Buffer, isBinary) {
          if (!isOutput(data, isBinary)) return;
          ws.off("message", hear);
          resolve();
        });
      });
      ws.send(JSON.stringify({ type: "open", id: "s", model: MODEL }));
      ws.send(push);
      await stepped;
      return ws;
    });
    sockets.push(...(await Promise.all(some)));
  }
}

/** Sessions that push again as soon as they are answered. */
async function run({ encoding, active, seconds }: ToLoad & { kind: "run" }): Promise<FromLoad> {
  const push = frameOf(encoding);
  const gaps: number[] = [];
  let counting = false;
  let running = true;
  const inFlight = new Map<WebSocket, number>();
  const stops = sockets.slice(0, active).map((ws) => {
    let lastMs = performance.now();
    inFlight.set(ws, WINDOW);
    const hear = (data: Buffer, isBinary: boolean) => {
      if (!isOutput(data, isBinary)) return;
      const now = performance.now();
      if (counting) gaps.push(now - lastMs);
      lastMs = now;
      if (running) ws.send(push);
      else inFlight.set(ws, inFlight.get(ws)! - 1);
    };
    ws.on("message", hear);
    for (let i = 0; i < WINDOW; i++) ws.send(push);
    return () => ws.off("message", hear);
  });
  await sleep(WARM_MS);
  counting = true;
  const start = performance.now();
  const cpu = process.cpuUsage();
  await sleep(seconds * 1000);
  counting = false;
  const elapsedMs = performance.now() - start;
  const { user, system } = process.cpuUsage(cpu);
  const clientCpu = (user + system) / 1000 / elapsedMs;
  const outputsPerSecond = (gaps.length * 1000) / elapsedMs;
  running = false;
  while ([...inFlight.values()].some((count) => count > 0)) await sleep(10);
  for (const stop of stops) stop();
  return {
    kind: "ran",
    outputsPerSecond,
    p50Ms: quantile(gaps, 0.5),
    p99Ms: quantile(gaps, 0.99),
    clientCpu,
  };
}

function frameOf(encoding: Encoding): Buffer | string {
  const values = samples();
  const tensor = { datatype: "FP32", shape: [SAMPLES] };
  const message = (more: object) =>
    JSON.stringify({ type: "push", id: "s", inputs: { [INPUT]: { ...tensor, ...more } } });
  if (encoding === "json") return message({ data: [...values] });
  const json = Buffer.from(message({ parameters: { binary_data_size: values.byteLength } }));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(json.length);
  return Buffer.concat([length, json, Buffer.from(values.buffer)]);
}

/** Told by one letter of `{"type":"output"`, so that the clients cost little. */
function isOutput(data: Buffer, isBinary: boolean): boolean {
  return data[isBinary ? 13 : 9] === 111;
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
