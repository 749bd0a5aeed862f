import { pino } from "pino";
import { describe, expect, it } from "vitest";
import { requestLog } from "../../src/cli/request-log.ts";
import { Fault } from "../../src/core/faults.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import { startServer } from "../../src/server/server.ts";
import { chainModel, writerModel } from "../fixtures/models.ts";

/** What is logged while a server answers these requests. */
async function logOf(
  level: string,
  withInputs: boolean,
  requests: readonly (readonly [path: string, body: object])[],
): Promise<Record<string, unknown>[]> {
  const lines: string[] = [];
  const log = pino({ level }, { write: (line: string) => lines.push(line) });
  const runtime = await createRuntime({ models: [writerModel(), chainModel()], inline: true });
  const ended = requestLog(log, withInputs);
  const server = await startServer({ runtime, port: 0, ended, keepsInputs: withInputs });
  try {
    for (const [path, body] of requests) {
      await fetch(`http://127.0.0.1:${server.port}${path}`, { method: "POST", body: JSON.stringify(body) });
    }
  } finally {
    await server.close(0);
    await runtime.close(0);
  }
  return lines.map((line) => JSON.parse(line));
}

const generate = "/v2/models/writer/generate";
const late = { text: "abc", timeout: 1 };
const x = { name: "x", datatype: "FP32", shape: [5, 4], data: Array.from({ length: 20 }, (_, i) => i) };

describe("the log of a server", () => {
  it("has a line per request at debug, without what was asked", async () => {
    const lines = await logOf("debug", false, [
      [generate, { text: "ab" }],
      [generate, late],
    ]);
    expect(lines).toEqual([
      expect.objectContaining({ level: 20, msg: "request", model: "writer", code: "OK", cells: 22 }),
      expect.objectContaining({ level: 20, msg: "request", model: "writer", code: "DEADLINE_EXCEEDED" }),
    ]);
    for (const line of lines) {
      expect(line).not.toHaveProperty("inputs");
      expect(line).not.toHaveProperty("why");
      expect(line.ms).toBeGreaterThan(0);
    }
  }, 60_000);

  it("shows what was asked and why it failed where that is wanted", async () => {
    const lines = await logOf("debug", true, [
      [generate, late],
      ["/v2/models/chain/infer", { inputs: [x] }],
    ]);
    expect(lines).toEqual([
      expect.objectContaining({
        inputs: { text: "abc" },
        why: expect.stringContaining("0.001 ms"),
      }),
      expect.objectContaining({ inputs: { x: { shape: [5, 4], data: x.data.slice(0, 16) } } }),
    ]);
  }, 60_000);

  it("has no line per request above debug, and errors with their cause", async () => {
    expect(await logOf("info", false, [[generate, { text: "ab" }]])).toEqual([]);
    const lines: string[] = [];
    const log = pino({ level: "warn" }, { write: (line: string) => lines.push(line) });
    const fault = new Fault("INTERNAL", "cell 'cell' failed", { cause: new Error("out of memory") });
    const times = { totalMs: 1, queueMs: 0, computeMs: 0, cells: 0 };
    requestLog(log, false)("writer", { code: "INTERNAL", fault, ...times });
    requestLog(log, false)("writer", {
      code: "INVALID_INPUT",
      fault: new Fault("INVALID_INPUT", "x"),
      ...times,
    });
    expect(lines).toHaveLength(1);
    const [{ level, model, err }] = lines.map((line) => JSON.parse(line));
    expect([level, model]).toEqual([50, "writer"]);
    expect(err.stack).toMatch(/out of memory/);
  }, 60_000);
});
