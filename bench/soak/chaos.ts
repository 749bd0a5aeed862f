import { request } from "node:http";
import { connect } from "node:net";
import { WebSocket } from "ws";
import type { Random } from "../../src/core/random.ts";
import { WIDTH } from "./models.ts";
import { Peer } from "./peer.ts";

/** What one client does at a time; resolves when it has done it. Throws where the server breaks a promise. */
export type Mischief = (port: number, random: Random) => Promise<void>;

const steps = (random: Random, count: number) =>
  Array.from({ length: count }, () => Array.from({ length: WIDTH }, () => random.uniform() - 0.5));

async function within<T>(peer: Peer, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } finally {
    peer.leave();
  }
}

export const mischiefs: Readonly<Record<string, Mischief>> = {
  /** Many requests at once over one socket. */
  asks: async (port, random) => {
    const peer = await Peer.open(port);
    await within(peer, async () => {
      const ids = Array.from({ length: random.integer(1, 30) }, (_, i) => `${i}`);
      for (const id of ids) {
        const inputs = { x: steps(random, random.integer(1, 20)) };
        const parameters = { stream: random.uniform() < 0.3, priority: random.integer(1, 9) };
        peer.begin({ type: "infer", id, model: "chain", inputs, parameters });
      }
      for (const id of ids) if (random.uniform() < 0.3) peer.send({ type: "cancel", id });
      await Promise.all(ids.map((id) => peer.last(id)));
    });
  },
  /** A session that pushes, pauses, marks, is forked and suspended. */
  talks: async (port, random) => {
    const peer = await Peer.open(port);
    await within(peer, async () => {
      peer.begin({ type: "open", id: "s", model: "listener" });
      for (let push = random.integer(1, 20); push > 0; push--)
        peer.send({ type: "push", id: "s", inputs: { x: steps(random, random.integer(1, 3)) } });
      peer.send({ type: "marker", id: "s", marker: 1 });
      if (random.uniform() < 0.5) peer.begin({ type: "fork", id: "s", as: "f" }, "f");
      if (random.uniform() < 0.3) await sleep(random.integer(0, 200));
      peer.send({ type: random.uniform() < 0.5 ? "suspend" : "end", id: "s" });
      const { type, state } = await peer.last("s");
      if (type !== "state") return;
      peer.begin({ type: "open", id: "s", model: "listener", state });
      peer.send({ type: "end", id: "s" });
      await peer.last("s");
    });
  },
  /** Loses its socket and takes its session up again. */
  resumes: async (port, random) => {
    const first = await Peer.open(port);
    first.begin({ type: "open", id: "s", model: "listener", grace_ms: 5000 });
    const { resume } = await first.first("s", "opened");
    if (!resume) return first.leave();
    for (let push = 0; push < 10; push++)
      first.send({ type: "push", id: "s", inputs: { x: steps(random, 1) } });
    await sleep(random.integer(0, 30));
    const seen = first.outputs("s");
    first.ws.terminate();
    await sleep(random.integer(0, 100));
    const { token } = resume as { token: string };
    const second = await Peer.open(port, seen);
    await within(second, async () => {
      second.begin({ type: "resume", id: "s", token, step: seen });
      const { type } = await second.first("s", "opened");
      if (type !== "opened") return;
      second.send({ type: "push", id: "s", inputs: { x: steps(random, 1) } });
      second.send({ type: "end", id: "s" });
      await second.last("s");
    });
  },
  /** Asks for much and does not read it for a while, or ever. */
  stalls: async (port, random) => {
    const peer = await Peer.open(port);
    for (let i = 0; i < 10; i++)
      peer.begin({ type: "infer", id: `${i}`, model: "chain", inputs: { x: steps(random, 300) } });
    peer.ws.pause();
    await sleep(random.integer(100, 5000));
    if (random.uniform() < 0.5) peer.ws.resume();
    await sleep(random.integer(0, 1000));
    peer.ws.terminate();
  },
  /** Frames that are noise, of the right shape or of none. */
  babbles: async (port, random) => {
    const peer = await Peer.open(port);
    await within(peer, async () => {
      for (let i = random.integer(1, 30); i > 0; i--) {
        const bytes = Buffer.from(
          Array.from({ length: random.integer(0, 200) }, () => random.integer(0, 255)),
        );
        if (random.uniform() < 0.3) peer.ws.send(bytes);
        else if (random.uniform() < 0.5) peer.ws.send(bytes.toString("latin1"));
        else
          peer.send({
            type: ["infer", "push", "open", "resume", "end"][random.integer(0, 4)],
            id: "g",
            inputs: [],
          });
      }
      peer.begin({ type: "infer", id: "after", model: "chain", inputs: { x: steps(random, 1) } });
      await peer.last("after");
    });
  },
  /** Goes away in the middle of a frame. */
  breaksOff: async (port, random) => {
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => {});
    socket.write(
      "GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: cellbatch.v1\r\n\r\n",
    );
    await sleep(random.integer(0, 50));
    // A masked text frame of 1,000 bytes, of which some come.
    socket.write(
      Buffer.concat([
        Buffer.from([0x81, 0xfe, 0x03, 0xe8, 1, 2, 3, 4]),
        Buffer.alloc(random.integer(0, 999)),
      ]),
    );
    await sleep(random.integer(0, 50));
    if (random.uniform() < 0.5) socket.resetAndDestroy();
    else socket.end();
    await sleep(random.integer(0, 50));
    socket.destroy();
  },
  /** Asks over HTTP, and sometimes does not wait for the answer. */
  posts: (port, random) =>
    new Promise((resolve) => {
      const parameters =
        random.uniform() < 0.5 ? { sequence_id: random.integer(1, 30), sequence_start: true } : {};
      const model = random.uniform() < 0.5 ? "chain" : "listener";
      const count = random.integer(1, 50);
      const data = steps(random, count).flat();
      const inputs = [{ name: "x", datatype: "FP32", shape: [count, WIDTH], data }];
      const asked = request({ port, method: "POST", path: `/v2/models/${model}/infer` }, (reply) => {
        reply.resume().on("close", resolve);
      });
      asked.on("error", () => resolve());
      asked.end(JSON.stringify({ inputs, parameters }));
      if (random.uniform() < 0.3) setTimeout(() => asked.destroy(), random.integer(0, 20));
    }),
  /** Opens and leaves at once. */
  rings: async (port) => {
    const ws = new WebSocket(`ws://127.0.0.1:${port}/v1/stream`, "cellbatch.v1");
    ws.on("error", () => {});
    await new Promise((resolve) => ws.once("open", resolve).once("close", resolve));
    ws.terminate();
  },
};

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
