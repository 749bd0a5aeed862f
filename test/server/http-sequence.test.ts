import { describe, expect, it } from "vitest";
import { long, openHttpDoor, type Reply, x } from "./http-door.ts";
import { ramp } from "./served.ts";

const { chain, infer, leaveWhileRunning, rawPost, send, served } = openHttpDoor();

describe("a sequence", () => {
  const step = (parameters: object | string, from = 0, steps = 1) => {
    const inputs = JSON.stringify([x(ramp(steps, from))]);
    const text = typeof parameters === "string" ? parameters : JSON.stringify(parameters);
    return infer("listener", `{"parameters":${text},"inputs":${inputs}}`);
  };
  const data = (reply: Reply) => reply.json.outputs[0].data as number[];
  const whole = async (steps: number) => data(await step({}, 0, steps));

  it("in one request without an id gives an output for every step and keeps nothing", async () => {
    const reply = await infer("listener", { inputs: [x(ramp(3))] });
    expect(reply.json.outputs[0]).toMatchObject({ name: "h", shape: [3, 8] });
    expect(data(reply)).toEqual(await chain(ramp(3)));
    await expect.poll(() => served.runtime.stats().active).toBe(0);
  });

  it("keeps its state between requests and starts at zero", async () => {
    for (let round = 0; round < 2; round++) {
      const parts = [
        await step({ sequence_id: 42, sequence_start: true, sequence_end: false }, 0, 2),
        await step({ sequence_id: 42, sequence_start: false, sequence_end: false }, 2),
        await step({ sequence_id: 42, sequence_end: true }, 3),
      ];
      expect(parts.map(({ json }) => json.outputs[0].shape)).toEqual([
        [2, 8],
        [1, 8],
        [1, 8],
      ]);
      expect(parts.flatMap(data)).toEqual(await whole(4));
      expect(served.runtime.stats().active).toBe(0);
    }
  });

  it("may start and end in one request", async () => {
    expect(data(await step({ sequence_id: 1, sequence_start: true, sequence_end: true }))).toEqual(
      await whole(1),
    );
    expect(served.runtime.stats().active).toBe(0);
  });

  it("takes a step as [4], and a batch axis of 1", async () => {
    const first = await infer("listener", {
      parameters: { sequence_id: 1, sequence_start: true },
      inputs: [x(ramp(1), [4])],
    });
    const second = await infer("listener", {
      parameters: { sequence_id: 1, sequence_end: true },
      inputs: [x(ramp(1, 1), [1, 1, 4])],
    });
    expect(second.json.outputs[0].shape).toEqual([1, 1, 8]);
    expect([...data(first), ...data(second)]).toEqual(await whole(2));
  });

  it.each([
    ["9007199254740993", "9007199254740992"],
    ["18446744073709551615", "18446744073709551614"],
    ["9223372036854775808", "9223372036854775807"],
    ["42", '"42"'],
    ['"größer"', '"groesser"'],
    [JSON.stringify("i".repeat(1024)), JSON.stringify("i".repeat(1023))],
  ])("with id %s is another than with id %s", async (one, other) => {
    const of = (id: string, rest: string) => `{"sequence_id":${id},${rest}}`;
    await step(of(one, '"sequence_start":true'));
    expect((await step(of(other, '"sequence_end":true'))).status).toBe(400);
    await step(of(other, '"sequence_start":true'), 5);
    expect(data(await step(of(one, '"sequence_end":true'), 1))).toEqual((await whole(2)).slice(8));
    await step(of(other, '"sequence_end":true'));
    expect(served.runtime.stats().active).toBe(0);
  });

  it.each(["18446744073709551616", "-1", "1.5", "true", JSON.stringify("i".repeat(1025))])(
    "with id %s is refused",
    async (id) => {
      const { status, json } = await step(`{"sequence_id":${id},"sequence_start":true}`);
      expect([status, json.error]).toEqual([400, expect.stringMatching(/^Unable to parse 'sequence_id'/)]);
    },
  );

  it("that nobody started is refused with Triton's words", async () => {
    const { status, json } = await step({ sequence_id: 7 });
    expect([status, json.error]).toEqual([
      400,
      "inference request for sequence 7 to model 'listener' must specify the START flag on the first request of the sequence",
    ]);
    for (const id of [0, ""]) {
      expect((await step({ sequence_id: id, sequence_end: true })).json.error).toBe(
        "inference request to model 'listener' must specify a non-zero or non-empty correlation ID",
      );
    }
  });

  it("without an id gets one from the server", async () => {
    const first = await step({ sequence_start: true });
    const { sequence_id } = first.json.parameters;
    const second = await step({ sequence_id, sequence_end: true }, 1);
    expect([...data(first), ...data(second)]).toEqual(await whole(2));
  });

  it("that is started again begins anew, and is counted as replaced", async () => {
    await step({ sequence_id: 5, sequence_start: true }, 3);
    const first = await step({ sequence_id: 5, sequence_start: true });
    const second = await step({ sequence_id: 5, sequence_end: true }, 1);
    expect([...data(first), ...data(second)]).toEqual(await whole(2));
    expect((await send("/metrics")).json).toMatch(/cellbatch_sequences_ended_total\{reason="replaced"\} 1/);
  });

  it("processes requests that come while one runs in their order", async () => {
    const body = (from: number, parameters: object) =>
      JSON.stringify({ parameters: { sequence_id: 6, ...parameters }, inputs: [x(ramp(500, from))] });
    // One socket keeps the order in which they are sent; a chunk of 500 steps is still running when the next comes.
    await step({ sequence_id: 6, sequence_start: true }, 0);
    const path = "/v2/models/listener/infer";
    const two = [rawPost(path, body(1, {}), {}), rawPost(path, body(501, {}), {})];
    const heads = (await Promise.all(two)).map(({ head }) => head.split("\r\n")[0]);
    expect(heads).toEqual(["HTTP/1.1 200 OK", "HTTP/1.1 200 OK"]);
    await step({ sequence_id: 6, sequence_end: true });
  });

  it("survives a refused request, but not one whose time passes", async () => {
    await step({ sequence_id: 8, sequence_start: true });
    const bad = { parameters: { sequence_id: 8 }, inputs: [{ ...x(ramp(1)), data: [1] }] };
    expect((await infer("listener", bad)).status).toBe(400);
    expect(data(await step({ sequence_id: 8 }, 1))).toEqual((await whole(2)).slice(8));
    expect((await step({ sequence_id: 8, timeout: 1000 }, 0, 1000)).status).toBe(504);
    expect((await step({ sequence_id: 8 })).json.error).toMatch(/START flag/);
    await expect.poll(() => served.runtime.stats().active).toBe(0);
  });

  it("beyond the most that may be open is refused, and an ended one makes room", async () => {
    for (let id = 1; id <= 8; id++) await step({ sequence_id: id, sequence_start: true });
    const full = await step({ sequence_id: 9, sequence_start: true });
    expect([full.status, full.json.error]).toEqual([503, "8 sequences are open, which is the most"]);
    await step({ sequence_id: 1, sequence_end: true });
    expect((await step({ sequence_id: 9, sequence_start: true })).status).toBe(200);
    for (let id = 2; id <= 9; id++) await step({ sequence_id: id, sequence_end: true });
    expect(served.runtime.stats().active).toBe(0);
  });

  it("ends when its client goes away while a request is being processed", async () => {
    await step({ sequence_id: 3, sequence_start: true });
    await leaveWhileRunning("listener", { parameters: { sequence_id: 3 }, inputs: [long] });
    await expect.poll(async () => (await step({ sequence_id: 3 })).status).toBe(400);
    await expect.poll(() => served.runtime.stats().active).toBe(0);
  });
});
