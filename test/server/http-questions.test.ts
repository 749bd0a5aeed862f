import { describe, expect, it } from "vitest";
import { TestClient } from "./client.ts";
import { openHttpDoor, x } from "./http-door.ts";
import { ramp } from "./served.ts";

const { infer, post, send, served } = openHttpDoor();

describe("questions about the server and its models", () => {
  it("are answered as the protocol says", async () => {
    expect((await send("/v2")).json).toMatchObject({
      name: "cellbatch",
      version: "1.2.3",
      extensions: expect.arrayContaining(["sequence", "sequence(string_id)", "binary_tensor_data"]),
    });
    expect((await send("/v2/health/live")).json).toEqual({ live: true });
    expect((await send("/v2/health/ready")).json).toEqual({ ready: true });
    for (const path of ["/v2/models/chain", "/v2/models/chain/versions/1"]) {
      expect((await send(path)).json).toEqual({
        name: "chain",
        versions: ["1"],
        platform: "cellbatch_cells",
        inputs: [{ name: "x", datatype: "FP32", shape: [-1, 4] }],
        outputs: [{ name: "h", datatype: "FP32", shape: [-1, 8] }],
      });
      expect((await send(`${path}/ready`)).json).toEqual({ name: "chain", ready: true });
    }
  });

  it("show text as BYTES, and a session's outputs with an axis of steps", async () => {
    expect((await send("/v2/models/writer")).json.inputs).toEqual([
      { name: "text", datatype: "BYTES", shape: [1] },
    ]);
    expect((await send("/v2/models/listener")).json.outputs).toEqual([
      { name: "h", datatype: "FP32", shape: [-1, 8] },
    ]);
  });

  it.each(["chain", "writer", "listener"])(
    "get a configuration of %s that agrees with its metadata",
    async (model) => {
      const metadata = (await send(`/v2/models/${model}`)).json;
      const config = (await send(`/v2/models/${model}/config`)).json;
      const agree = (tensors: { name: string; dims: number[]; data_type: string }[]) =>
        tensors.map(({ name, dims, data_type }) => ({
          name,
          datatype: data_type.replace("TYPE_", "").replace("STRING", "BYTES"),
          shape: dims,
        }));
      expect(agree(config.input)).toEqual(metadata.inputs);
      expect(agree(config.output)).toEqual(metadata.outputs);
      expect(config.max_batch_size).toBe(0);
      expect("sequence_batching" in config).toBe(model === "listener");
    },
  );

  it("say the idle limit of sequences in microseconds", async () => {
    const { sequence_batching } = (await send("/v2/models/listener/config")).json;
    expect(sequence_batching).toMatchObject({
      max_sequence_idle_microseconds: 60_000_000,
      oldest: { max_candidate_sequences: 8 },
    });
  });

  it("count requests of every door", async () => {
    const count = async () => (await send("/v2/models/chain/stats")).json.model_stats[0];
    const before = await count();
    await infer("chain", { inputs: [x(ramp(3))] });
    const client = await TestClient.open(served.server.port);
    const tensor = { datatype: "FP32", shape: [2, 4], data: ramp(2) };
    client.send({ type: "infer", id: "a", model: "chain", inputs: { x: tensor } });
    await client.next({ type: "done" });
    client.close();
    await infer("chain", { inputs: [x([0], [1, 1])] });
    const after = await count();
    expect(after.inference_count).toBe(before.inference_count + 2);
    expect(after.execution_count).toBe(before.execution_count + 5);
    expect(after.inference_stats.fail.count).toBe(before.inference_stats.fail.count);
    expect(after.inference_stats.success).toEqual({ count: after.inference_count, ns: expect.any(Number) });
    expect(Math.abs(after.last_inference - Date.now())).toBeLessThan(60_000);
    const all = (await send("/v2/models/stats")).json.model_stats;
    expect(all.map(({ name }: { name: string }) => name)).toEqual(["chain", "writer", "listener"]);
  });

  it("list the repository, and refuse to change it with 501", async () => {
    const ready = { version: "1", state: "READY", reason: "" };
    const models = ["chain", "writer", "listener"].map((name) => ({ name, ...ready }));
    expect((await post("/v2/repository/index", "")).json).toEqual(models);
    expect((await post("/v2/repository/index", { ready: true })).json).toEqual(models);
    for (const verb of ["load", "unload"]) {
      const { status, json } = await post(`/v2/repository/models/chain/${verb}`, {});
      expect([status, json.error]).toEqual([501, expect.stringContaining(`cannot ${verb} model 'chain'`)]);
    }
  });

  it("leave the other doors of the port open", async () => {
    expect((await send("/metrics")).json).toMatch(/cellbatch_sequences 0/);
    expect((await send("/docs/json")).json.paths).toHaveProperty("/v2/models/{model}/infer");
    expect((await send("/docs/")).status).toBe(200);
  });
});
