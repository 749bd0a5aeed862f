import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { faults } from "../../src/core/faults.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import { zooModels } from "../../src/runtime/index.ts";
import { packState, unpackState } from "../../src/runtime/state.ts";
import type { Runtime } from "../../src/runtime/types.ts";
import { binaryFrame, parseFrame } from "../../src/server/frames.ts";
import { checkMessage } from "../../src/server/messages.ts";
import type { ServerMessage } from "../../src/server/protocol.ts";
import { type Server, startServer } from "../../src/server/server.ts";
import { listenerModel } from "../fixtures/models.ts";
import { TestClient } from "./client.ts";

const text = readFileSync(new URL("../../docs/protocol.md", import.meta.url), "utf8");

/** The lines of a fenced block. */
function block(name: string): string[] {
  const found = new RegExp(`\`\`\`${name}\\n([^]*?)\\n\`\`\``).exec(text);
  if (!found) throw new Error(`docs/protocol.md has no block '${name}'`);
  return found[1]!.split("\n");
}

let runtime: Runtime;
let server: Server;

beforeAll(async () => {
  const folders = zooModels().folders.filter((folder) => folder.endsWith("g2p"));
  runtime = await createRuntime({ models: folders, inline: true });
  server = await startServer({ runtime, port: 0 });
});

afterAll(async () => {
  await server.close(0);
  await runtime.close(0);
});

describe("docs/protocol.md", () => {
  it("shows a conversation as it goes", async () => {
    const client = await TestClient.open(server.port);
    const lines = block("vectors");
    expect(lines.length).toBeGreaterThan(10);
    let answered = 0;
    for (const line of lines) {
      if (line.startsWith("> ")) client.send(line.slice(2));
      else {
        await expect.poll(() => client.messages.length, { timeout: 15_000 }).toBeGreaterThan(answered);
        expect(client.messages[answered++]).toMatchObject(JSON.parse(line.slice(2)));
      }
    }
    client.close();
  });

  it("shows binary frames as they are read and written", () => {
    const [length, json, bytes] = block("push");
    const hex = (spaced: string) => Buffer.from(spaced.replaceAll(" ", ""), "hex");
    const frame = parseFrame(Buffer.concat([hex(length!), Buffer.from(json!), hex(bytes!)]), true);
    expect(checkMessage(frame.json)).toEqual(JSON.parse(json!));
    const values = frame.binary!.take(8);
    expect([0, 4].map((at) => Buffer.from(values).readFloatLE(at))).toEqual([1.5, -2]);
    const [outLength, outJson, outBytes] = block("output");
    const written = binaryFrame(JSON.parse(outJson!) as ServerMessage, [
      new Uint8Array(Float32Array.of(0.75).buffer),
    ]);
    expect(written).toEqual(Buffer.concat([hex(outLength!), Buffer.from(outJson!), hex(outBytes!)]));
  });

  it("shows a state as it is packed", () => {
    const [state] = block("state");
    const { cells, ...listener } = listenerModel();
    const states = [{ name: "h", shape: [2] }];
    const demo = { ...listener, name: "demo", version: "1", cells: [{ ...cells[0]!, states }] };
    expect(packState(demo, Float32Array.of(1.5, -2))).toBe(state);
    expect([...unpackState(demo, state!)]).toEqual([1.5, -2]);
  });

  it("lists every code with its statuses", () => {
    const rows = [...text.matchAll(/^\| ([A-Z_]+) \| (\d+) \| (\d+) \| (yes|no) \|$/gm)];
    const listed = rows.map(([, code, http, grpc, retry]) => [
      code,
      { http: Number(http), grpc: Number(grpc), retry: retry === "yes" },
    ]);
    expect(Object.fromEntries(listed)).toEqual(faults);
  });
});
