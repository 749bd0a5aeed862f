import { quantile } from "../../src/load/statistics.ts";
import { clientFrame, LeanClient } from "./lean-client.ts";
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
      /** In all, with those of the warm-up. */
      readonly outputs: number;
      readonly outputsPerSecond: number;
      /** Between two outputs of one session. */
      readonly p50Ms: number;
      readonly p99Ms: number;
      /** Processor time of the clients, in microseconds of one core. */
      readonly clientUsPerOutput: number;
    };

/** Inputs that an active session keeps in flight: it pushes the next when it is answered. */
const WINDOW = 1;
const WARM_MS = 1000;
/** Sockets that are opened at a time; more would overflow the queue of the listening socket. */
const AT_ONCE = 50;

let sockets: LeanClient[] = [];
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
      const ws = await LeanClient.open(port, "/v1/stream", "cellbatch.v1");
      const stepped = new Promise<void>((resolve) => {
        ws.hear = (data, isBinary) => {
          if (isOutput(data, isBinary)) resolve();
        };
      });
      ws.send(clientFrame(JSON.stringify({ type: "open", id: "s", model: MODEL })));
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
  let outputs = 0;
  let counting = false;
  let running = true;
  const cpu = process.cpuUsage();
  const inFlight = new Map<LeanClient, number>();
  const stops = sockets.slice(0, active).map((ws) => {
    let lastMs = performance.now();
    inFlight.set(ws, WINDOW);
    ws.hear = (data, isBinary) => {
      if (!isOutput(data, isBinary)) return;
      outputs++;
      const now = performance.now();
      if (counting) gaps.push(now - lastMs);
      lastMs = now;
      if (running) ws.send(push);
      else inFlight.set(ws, inFlight.get(ws)! - 1);
    };
    for (let i = 0; i < WINDOW; i++) ws.send(push);
    return () => {
      ws.hear = () => {};
    };
  });
  await sleep(WARM_MS);
  counting = true;
  const start = performance.now();
  await sleep(seconds * 1000);
  counting = false;
  const elapsedMs = performance.now() - start;
  const outputsPerSecond = (gaps.length * 1000) / elapsedMs;
  running = false;
  while ([...inFlight.values()].some((count) => count > 0)) await sleep(10);
  for (const stop of stops) stop();
  const { user, system } = process.cpuUsage(cpu);
  return {
    kind: "ran",
    outputs,
    outputsPerSecond,
    p50Ms: quantile(gaps, 0.5),
    p99Ms: quantile(gaps, 0.99),
    clientUsPerOutput: (user + system) / outputs,
  };
}

function frameOf(encoding: Encoding): Buffer {
  const values = samples();
  const tensor = { datatype: "FP32", shape: [SAMPLES] };
  const message = (more: object) =>
    JSON.stringify({ type: "push", id: "s", inputs: { [INPUT]: { ...tensor, ...more } } });
  if (encoding === "json") return clientFrame(message({ data: [...values] }));
  const json = Buffer.from(message({ parameters: { binary_data_size: values.byteLength } }));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(json.length);
  return clientFrame(Buffer.concat([length, json, Buffer.from(values.buffer)]));
}

/** Told by one letter of `{"type":"output"`, so that the clients cost little. */
function isOutput(data: Buffer, isBinary: boolean): boolean {
  return data[isBinary ? 13 : 9] === 111;
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
