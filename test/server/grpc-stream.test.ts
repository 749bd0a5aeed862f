import { type ClientDuplexStream, Metadata, status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { fromRaw, type Message, openGrpcDoor, raw, text } from "./grpc-door.ts";
import { ramp } from "./served.ts";

const door = openGrpcDoor();
const { served } = door;

describe("ModelStreamInfer", () => {
  /** Sends requests, ends the stream and gives what came and how it ended. */
  function stream(requests: readonly object[], metadata = new Metadata()): Promise<[Message[], number]> {
    const duplex: ClientDuplexStream<object, Message> = door.client.ModelStreamInfer(metadata);
    const messages: Message[] = [];
    duplex.on("data", (message) => messages.push(message));
    duplex.on("error", () => {});
    for (const request of requests) duplex.write(request);
    duplex.end();
    return new Promise((resolve) => duplex.on("status", ({ code }) => resolve([messages, code])));
  }
  const ids = (messages: readonly Message[]) => messages.map(({ infer_response }) => infer_response.id);
  const final = ({ infer_response }: Message) => infer_response.parameters.triton_final_response.bool_param;

  it("answers in order of the requests, each as final, and ends with OK", async () => {
    const requests = [
      { model_name: "chain", id: "long", ...raw(ramp(500)) },
      { model_name: "chain", id: "short", ...raw(ramp(1)) },
      { model_name: "writer", id: "other", ...text("a") },
    ];
    const [messages, code] = await stream(requests);
    expect(ids(messages)).toEqual(["long", "short", "other"]);
    expect(messages.map(final)).toEqual([true, true, true]);
    expect(messages.map(({ error_message }) => error_message)).toEqual(["", "", ""]);
    expect(code).toBe(status.OK);
  });

  it("tells of a failed request by its id and goes on", async () => {
    const [messages, code] = await stream([
      { model_name: "nope", id: "bad", ...raw(ramp(1)) },
      { model_name: "chain", id: "good", ...raw(ramp(1)) },
    ]);
    expect(ids(messages)).toEqual(["bad", "good"]);
    expect(messages[0].error_message).toMatch(/no model 'nope'/);
    expect(code).toBe(status.OK);
  });

  it("ends with the status of the first failure where its metadata asks for that", async () => {
    const metadata = new Metadata();
    metadata.set("triton_grpc_error", "true");
    const [messages, code] = await stream([{ model_name: "nope", ...raw(ramp(1)) }], metadata);
    expect([messages, code]).toEqual([[], status.NOT_FOUND]);
  });

  it("interleaves sequences, each in its order", async () => {
    const step = (id: number, from: number, flags: object) => ({
      model_name: "listener",
      id: `${id}.${from}`,
      ...raw(ramp(1, from)),
      parameters: { sequence_id: { int64_param: id }, ...flags },
    });
    const start = { sequence_start: { bool_param: true } };
    const end = { sequence_end: { bool_param: true } };
    const [messages] = await stream([
      step(1, 0, start),
      step(2, 0, start),
      step(1, 1, {}),
      step(2, 1, {}),
      step(2, 2, end),
      step(1, 2, end),
    ]);
    for (const id of [1, 2]) {
      const mine = messages.filter(({ infer_response }) => infer_response.id.startsWith(`${id}.`));
      const outputs = mine.flatMap(({ infer_response }) => fromRaw(infer_response.raw_output_contents[0]));
      expect(outputs).toEqual(await served.chain(ramp(3)));
    }
    expect(served.runtime.stats().active).toBe(0);
  });

  it("answers step by step where a request says so, and then with an empty final answer", async () => {
    const { outputs } = await served.runtime.run("writer", { text: "abc" });
    const parameters = {
      stream: { bool_param: true },
      triton_enable_empty_final_response: { bool_param: true },
    };
    const [messages] = await stream([{ model_name: "writer", ...text("abc"), parameters }]);
    const steps = messages.slice(0, -1).map(({ infer_response }) => infer_response);
    expect(steps.map(({ raw_output_contents: [bytes] }) => bytes.toString("utf8", 4)).join("")).toBe(
      outputs.text,
    );
    expect(messages.map(final)).toEqual([...steps.map(() => false), true]);
    expect(messages.at(-1).infer_response).toMatchObject({ outputs: [], model_version: "1" });
  });

  it("takes more requests than may wait, in order", async () => {
    const requests = Array.from({ length: 300 }, (_, i) => ({
      model_name: "chain",
      id: `${i}`,
      ...raw(ramp(2)),
    }));
    const [messages] = await stream(requests);
    expect(ids(messages)).toEqual(requests.map(({ id }) => id));
  });

  it("that is cancelled cancels what runs, and ends the sequence that waits for an answer", async () => {
    const duplex = door.client.ModelStreamInfer();
    duplex.on("error", () => {});
    const { cells } = served.runtime.stats();
    const zeros = raw(new Array(4 * 9000).fill(0));
    const parameters = { sequence_id: { int64_param: 1 }, sequence_start: { bool_param: true } };
    duplex.write({ model_name: "listener", ...zeros, parameters });
    duplex.write({ model_name: "chain", ...zeros });
    await expect.poll(() => served.runtime.stats().cells, { interval: 1 }).toBeGreaterThan(cells);
    duplex.cancel();
    await expect.poll(() => served.runtime.stats().active).toBe(0);
  });

  it("that is closed between requests leaves its sequences open", async () => {
    const of = (flags: object, from: number) => ({
      model_name: "listener",
      ...raw(ramp(1, from)),
      parameters: { sequence_id: { string_param: "stays" }, ...flags },
    });
    await stream([of({ sequence_start: { bool_param: true } }, 0)]);
    const [[last]] = await stream([of({ sequence_end: { bool_param: true } }, 1)]);
    expect(fromRaw(last.infer_response.raw_output_contents[0])).toEqual(
      (await served.chain(ramp(2))).slice(8),
    );
  });
});
