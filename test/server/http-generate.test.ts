import { describe, expect, it } from "vitest";
import { openHttpDoor } from "./http-door.ts";
import { ramp } from "./served.ts";

const { chain, post, served } = openHttpDoor();

describe("generate", () => {
  it("answers with outputs as keys", async () => {
    const { outputs } = await served.runtime.run("writer", { text: "abc" }, { maxSteps: 5 });
    const about = { model_name: "writer", model_version: "1" };
    const { json } = await post("/v2/models/writer/generate", { id: "1", text: "abc", max_steps: 5 });
    expect(json).toEqual({ id: "1", ...about, text: outputs.text });
    const body = { text_input: "abc", parameters: { max_steps: 5 } };
    expect((await post("/v2/models/writer/versions/1/generate", body)).json).toEqual({
      ...about,
      text_output: outputs.text,
    });
    expect((await post("/v2/models/chain/generate", { x: [ramp(1), ramp(1, 1)] })).json.h).toEqual(
      await chain(ramp(2)),
    );
  });

  it("refuses keys that are neither input nor parameter", async () => {
    const { status, json } = await post("/v2/models/chain/generate", { y: [1] });
    expect([status, json.error]).toEqual([400, expect.stringMatching(/'y' is neither an input.*takes x/)]);
  });

  it("streams every step as an event", async () => {
    const { outputs } = await served.runtime.run("writer", { text: "abc" });
    const reply = await post("/v2/models/writer/generate_stream", { text: "abc" });
    expect(reply.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
    const events = reply.bytes
      .toString()
      .split("\n\n")
      .filter((event) => event !== "")
      .map((event) => JSON.parse(event.replace(/^data: /, "")) as { text: string });
    expect(events.map(({ text }) => text).join("")).toBe(outputs.text);
    expect(events.length).toBeGreaterThan(10);
  });

  it("streams a whole sequence of a model for sessions", async () => {
    const reply = await post("/v2/models/listener/generate_stream", { x: [ramp(1), ramp(1, 1), ramp(1, 2)] });
    expect(reply.bytes.toString().match(/data: /g)).toHaveLength(3);
  });

  it("answers what fails before the first event with an ordinary error", async () => {
    const reply = await post("/v2/models/writer/generate_stream", { text: "?" });
    expect([reply.status, reply.json.error]).toEqual([400, expect.stringContaining('"?"')]);
  });

  it("cancels a stream whose reader is gone", async () => {
    const reader = (
      await fetch(`http://127.0.0.1:${served.server.port}/v2/models/listener/generate_stream`, {
        method: "POST",
        body: JSON.stringify({ x: Array.from({ length: 3000 }, () => [0, 0, 0, 1]) }),
      })
    ).body!.getReader();
    await reader.read();
    await reader.cancel();
    await expect.poll(() => served.runtime.stats().active).toBe(0);
  });
});
