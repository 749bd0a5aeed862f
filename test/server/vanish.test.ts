import { createServer } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, it, onTestFinished } from "vitest";
import { Keyring } from "../../src/server/access/keyring.ts";
import { Origins } from "../../src/server/access/origins.ts";
import { Evictions } from "../../src/server/evictions.ts";
import { OpenSessions } from "../../src/server/open-sessions.ts";
import { Resumables } from "../../src/server/resumables.ts";
import { openSockets } from "../../src/server/sockets.ts";
import { listenerModel } from "../fixtures/models.ts";
import { TestClient } from "./client.ts";
import { SteppedRuntime } from "./stepped-runtime.ts";

const HIDDEN = 4096;
const STEPS = 9000;
const NEVER = 1e8;

const ways = {
  "closes its socket": (client: TestClient) => client.close(),
  "resets the connection": (client: TestClient) => socketOf(client).resetAndDestroy(),
  "shuts down its side": (client: TestClient) => socketOf(client).end(),
  "stops reading": (client: TestClient) => client.ws.pause(),
} as const;

function socketOf(client: TestClient): Socket {
  return (client.ws as unknown as { readonly _socket: Socket })._socket;
}

/** A session model whose outputs fill the buffers of a socket within some hundred steps. */
function model() {
  const listener = listenerModel();
  const [cell] = listener.cells;
  const outputs = [{ name: "h", dtype: "float32" as const, shape: [HIDDEN] }];
  return { ...listener, cells: [{ ...cell!, outputs }], outputs };
}

async function serve(times: { readonly slowMs: number; readonly pingMs: number }) {
  const stepped = await SteppedRuntime.start(model(), 1);
  const http = createServer();
  const limits = {
    openIds: 8,
    inputs: 10_000,
    idleMs: NEVER,
    bufferedBytes: 65_536,
    frameBytes: 2 ** 20,
    connections: 10,
    graceMs: 0,
    parked: 0,
    ...times,
  };
  const evictions = new Evictions(() => {});
  const sockets = openSockets(
    http,
    {
      doorway: stepped.runtime,
      limits,
      sessions: new OpenSessions(100),
      resumables: new Resumables(limits, evictions, () => ""),
      evictions,
      unexpected: (error) => {
        throw error;
      },
    },
    {
      limits,
      keyring: new Keyring(undefined),
      origins: new Origins([], "127.0.0.1"),
      isReady: () => true,
      compression: false,
    },
  );
  await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
  onTestFinished(async () => {
    await sockets.close();
    http.close();
    await stepped.runtime.close(0);
  });
  return { stepped, port: (http.address() as AddressInfo).port };
}

const zeros = Buffer.alloc(STEPS * 16);

/** Opens a session and pushes far more than is processed while it is watched. */
async function begin(client: TestClient, stepped: SteppedRuntime): Promise<void> {
  client.send({ type: "open", id: "s", model: "listener" });
  const x = { datatype: "FP32", shape: [STEPS, 4], parameters: { binary_data_size: zeros.length } };
  client.sendBinary({ type: "push", id: "s", inputs: { x } }, zeros);
  await client.next({ type: "opened" });
  const before = stepped.active;
  await stepUntil(stepped, () => stepped.active > before);
}

/** Steps, with room for the sockets between two steps. */
async function stepUntil(stepped: SteppedRuntime, isSo: (ran: boolean) => boolean): Promise<void> {
  const untilMs = performance.now() + 15_000;
  for (let ran = false; !isSo(ran); ) {
    if (performance.now() > untilMs) throw new Error("what is waited for has not come");
    await turn();
    ran = await stepped.step();
  }
}

/** What a client is doing when it goes; answers what lets a step that is under way end. */
const times = {
  "while it queues": async (stepped: SteppedRuntime, port: number, victim: TestClient) => {
    const holder = await TestClient.open(port);
    onTestFinished(() => holder.ws.terminate());
    await begin(holder, stepped);
    await stepUntil(stepped, () => stepped.slotsInUse === 1);
    await begin(victim, stepped);
    return async () => true;
  },
  "during a step": async (stepped: SteppedRuntime, _: number, victim: TestClient) => {
    await begin(victim, stepped);
    await stepUntil(stepped, () => stepped.slotsInUse === 1);
    return stepped.stepSlowly();
  },
  "while its outputs wait for it": async (stepped: SteppedRuntime, _: number, victim: TestClient) => {
    await begin(victim, stepped);
    await stepUntil(stepped, () => stepped.slotsInUse === 1);
    victim.ws.pause();
    let still = 0;
    await stepUntil(stepped, (ran) => {
      still = ran ? 0 : still + 1;
      return still === 20;
    });
    return async () => true;
  },
} as const;

describe.each(Object.entries(times))("a client that vanishes %s", (time, prepare) => {
  it.each(Object.entries(ways))("and %s frees its slot within two steps", async (way, vanish) => {
    const stops = way === "stops reading";
    const blocked = time === "while its outputs wait for it";
    const { stepped, port } = await serve({
      slowMs: stops && blocked ? 300 : NEVER,
      pingMs: stops && !blocked ? 200 : NEVER,
    });
    const victim = await TestClient.open(port);
    onTestFinished(() => victim.ws.terminate());
    const finishStep = await prepare(stepped, port, victim);
    const others = time === "while it queues" ? 1 : 0;
    expect(stepped.active).toBe(others + 1);
    expect(stepped.slotsInUse).toBe(1);
    // Long work: nobody's is over when it goes.
    expect(stepped.runtime.stats().cells).toBeLessThan(STEPS);
    vanish(victim);
    await expect.poll(() => stepped.hasMail, { timeout: 10_000, interval: 2 }).toBe(true);
    await finishStep();
    for (let steps = 0; steps < 2 && stepped.active > others; steps++) await stepped.step();
    expect(stepped.active).toBe(others);
    expect(stepped.slotsInUse).toBe(others);
    expect(stepped.runtime.stats().active).toBe(others);
  });
});
