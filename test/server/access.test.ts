import { readFileSync } from "node:fs";
import { get } from "node:https";
import { Client, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime } from "../../src/runtime/types.ts";
import { TokenBucket } from "../../src/server/access/bucket.ts";
import { formatKeys, type KeyEntry, makeKey, parseKeys } from "../../src/server/access/key-file.ts";
import { Keyring } from "../../src/server/access/keyring.ts";
import { Origins } from "../../src/server/access/origins.ts";
import { loadServices } from "../../src/server/grpc/protos.ts";
import { type Server, type ServerSettings, startServer } from "../../src/server/server.ts";
import { chainModel, listenerModel, writerModel } from "../fixtures/models.ts";
import { TestClient } from "./client.ts";

const CREATED = "2026-01-01T00:00:00.000Z";
const full = makeKey("full", { admin: true }, CREATED);
const slow = makeKey("slow", { requestsPerSecond: 0.001, burst: 3 }, CREATED);
const small = makeKey("small", { openIds: 2, models: ["listener"], priority: 6 }, CREATED);
const keys = [full, slow, small].map(({ entry }) => entry);

let runtime: Runtime;

beforeAll(async () => {
  runtime = await createRuntime({ models: [chainModel(), listenerModel(), writerModel()], inline: true });
});

afterAll(() => runtime.close(0));

async function serve(settings: Partial<ServerSettings> = {}): Promise<Server> {
  const server = await startServer({ runtime, port: 0, grpcPort: 0, keys, ...settings });
  onTestFinished(() => server.close(0));
  return server;
}

const bearer = (key: string) => ({ authorization: `Bearer ${key}` });
const row = [0, 1, 0, 1];
const infer = JSON.stringify({ inputs: [{ name: "x", datatype: "FP32", shape: [1, 4], data: row }] });

async function http(server: Server, path: string, headers: Record<string, string> = {}, body?: string) {
  const init = body === undefined ? { headers } : { method: "POST", headers, body };
  const reply = await fetch(`http://127.0.0.1:${server.port}${path}`, init);
  return { status: reply.status, headers: reply.headers, text: await reply.text() };
}

/** Calls a gRPC method; answers the reply or the error. */
function grpc(
  port: number,
  method: string,
  request: object,
  key?: string,
  ca?: Buffer,
): Promise<Record<string, unknown> | ServiceError> {
  const { path, requestSerialize, responseDeserialize } = loadServices().inference[method]!;
  const client = new Client(
    `127.0.0.1:${port}`,
    ca ? credentials.createSsl(ca) : credentials.createInsecure(),
  );
  const metadata = new Metadata();
  if (key) metadata.set("authorization", `Bearer ${key}`);
  return new Promise((resolve) => {
    client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      metadata,
      (error, reply) => {
        client.close();
        resolve(error ?? (reply as Record<string, unknown>));
      },
    );
  });
}

const grpcInfer = {
  model_name: "chain",
  inputs: [{ name: "x", datatype: "FP32", shape: [1, 4], contents: { fp32_contents: row } }],
};

async function upgradeRefusal(port: number, protocols: string[], headers = {}): Promise<string> {
  return TestClient.open(port, protocols, { headers }).then(
    (client) => {
      client.close();
      return "opened";
    },
    (error: Error) => error.message,
  );
}

describe("a server with keys", () => {
  it("asks for one at every door, and leaves health and, by option, metrics open", async () => {
    const server = await serve({ openMetrics: true });
    for (const path of ["/v2", "/v2/models/chain", "/v2/models/stats"]) {
      const refused = await http(server, path);
      expect(refused.status).toBe(401);
      expect(refused.headers.get("www-authenticate")).toBe("Bearer");
      expect(JSON.parse(refused.text).error).toMatch(/Authorization: Bearer/);
      expect((await http(server, path, bearer(full.key))).status).toBe(200);
    }
    for (const path of ["/v2/health/live", "/v2/health/ready", "/metrics", "/docs/json"])
      expect((await http(server, path)).status).toBe(200);
    expect((await http(server, "/nowhere")).status).toBe(404);
    expect(await grpc(server.grpcPort!, "ServerReady", {})).toMatchObject({ ready: true });
    expect(await grpc(server.grpcPort!, "ServerMetadata", {})).toMatchObject({ code: 16 });
    expect(await grpc(server.grpcPort!, "ServerMetadata", {}, full.key)).toMatchObject({ name: "cellbatch" });
    expect(await upgradeRefusal(server.port, ["cellbatch.v1"])).toContain("401");
    expect(await upgradeRefusal(server.port, ["cellbatch.v1"], bearer(full.key))).toBe("opened");
    expect((await http(await serve(), "/metrics")).status).toBe(401);
  });

  it("takes a browser's key as a second subprotocol, and never names it back", async () => {
    const { port } = await serve();
    const client = await TestClient.open(port, ["cellbatch.v1", `cellbatch.key.${full.key}`]);
    expect(client.ws.protocol).toBe("cellbatch.v1");
    client.close();
    expect(await upgradeRefusal(port, ["cellbatch.v1", "cellbatch.key.guess"])).toContain("401");
  });

  it("refuses keys that are cut, changed or unknown", async () => {
    const ring = new Keyring(keys);
    const { key } = full;
    const other = makeKey("full", {}, CREATED).key;
    for (const wrong of [
      "",
      key.slice(0, -1),
      `${key}x`,
      other,
      `${key.slice(0, -1)}*`,
      `${key.slice(0, 20)}${other.slice(20)}`,
    ])
      expect(() => ring.callerOf(wrong), wrong).toThrow(/not known/);
    expect(ring.callerOf(key).name).toBe("full");
    fc.assert(
      fc.property(fc.string(), (text) => {
        expect(() => ring.callerOfHeader(text)).toThrow(/key/);
      }),
    );
  });

  it("counts the requests of a key over all doors, and says when the next may come", async () => {
    const server = await serve();
    const { port, grpcPort } = server;
    const ask = () => http(server, "/v2/models/chain/infer", bearer(slow.key), infer);
    expect((await ask()).status).toBe(200);
    expect(await grpc(grpcPort!, "ModelInfer", grpcInfer, slow.key)).toMatchObject({ model_name: "chain" });
    const client = await TestClient.open(port, "cellbatch.v1", { headers: bearer(slow.key) });
    client.send({ type: "infer", id: "1", model: "chain", inputs: { x: [row] } });
    await client.next({ type: "done", id: "1" });
    client.send({ type: "infer", id: "2", model: "chain", inputs: { x: [row] } });
    const refused = await client.next({ id: "2" });
    expect(refused).toMatchObject({ type: "error", code: "RATE_LIMITED" });
    expect(refused.retry_after_ms).toBeGreaterThan(10_000);
    const { status, headers, text } = await ask();
    expect(status).toBe(429);
    expect(Number(headers.get("retry-after"))).toBeGreaterThan(10);
    expect(text).toMatch(/key 'slow' may begin 0.001 requests a second/);
    const error = (await grpc(grpcPort!, "ModelInfer", grpcInfer, slow.key)) as ServiceError;
    expect(error.code).toBe(8);
    expect(Number(error.metadata.get("grpc-retry-pushback-ms")[0])).toBeGreaterThan(10_000);
    expect((await http(server, "/v2/models/chain/infer", bearer(full.key), infer)).status).toBe(200);
    client.close();
  });

  it("holds a key to its models, its open ids and its highest class", async () => {
    const server = await serve();
    const index = await http(server, "/v2/repository/index", bearer(small.key), "");
    expect(JSON.parse(index.text).map(({ name }: { name: string }) => name)).toEqual(["listener"]);
    expect((await http(server, "/v2/models/chain", bearer(small.key))).status).toBe(404);
    expect(await grpc(server.grpcPort!, "ModelInfer", grpcInfer, small.key)).toMatchObject({ code: 5 });
    const client = await TestClient.open(server.port, "cellbatch.v1", { headers: bearer(small.key) });
    client.send({ type: "infer", id: "1", model: "chain", inputs: { x: [row] } });
    expect(await client.next({ id: "1" })).toMatchObject({
      code: "MODEL_NOT_FOUND",
      message: expect.stringMatching(/there are listener$/),
    });
    client.send({ type: "open", id: "2", model: "listener", parameters: { priority: 5 } });
    expect(await client.next({ id: "2" })).toMatchObject({
      code: "INVALID_REQUEST",
      message: expect.stringMatching(/'small' may ask for priority 6 and below, not for 5/),
    });
    for (const id of ["a", "b", "c"]) client.send({ type: "open", id, model: "listener" });
    expect(await client.next({ id: "c" })).toMatchObject({ code: "RATE_LIMITED" });
    client.send({ type: "end", id: "a" });
    await client.next({ type: "done", id: "a" });
    client.send({ type: "open", id: "d", model: "listener" });
    await client.next({ type: "opened", id: "d" });
    client.close();
  });

  it("keeps the sequences of two keys apart, and lets only admins change models", async () => {
    const server = await serve();
    const step = (key: string, start: boolean) =>
      http(
        server,
        "/v2/models/listener/infer",
        bearer(key),
        JSON.stringify({ ...JSON.parse(infer), parameters: { sequence_id: 7, sequence_start: start } }),
      );
    expect((await step(full.key, true)).status).toBe(200);
    expect(await step(small.key, false)).toMatchObject({ status: 400, text: expect.stringMatching(/START/) });
    expect((await step(full.key, false)).status).toBe(200);
    const load = (key: string) => http(server, "/v2/repository/models/chain/load", bearer(key), "");
    expect((await load(small.key)).status).toBe(401);
    expect((await load(full.key)).status).toBe(501);
    const call = { model_name: "chain" };
    expect(await grpc(server.grpcPort!, "RepositoryModelLoad", call, small.key)).toMatchObject({ code: 16 });
  });

  it("takes up another owner's session for nobody", async () => {
    const { port } = await serve();
    const owner = await TestClient.open(port, "cellbatch.v1", { headers: bearer(full.key) });
    owner.send({ type: "open", id: "s", model: "listener", grace_ms: 1000 });
    const { resume } = await owner.next({ type: "opened" });
    const thief = await TestClient.open(port, "cellbatch.v1", { headers: bearer(small.key) });
    thief.send({ type: "resume", id: "s", token: (resume as { token: string }).token, step: 0 });
    expect(await thief.next({ id: "s" })).toMatchObject({ code: "SESSION_NOT_FOUND" });
    owner.send({ type: "cancel", id: "s" });
    await owner.next({ code: "CANCELLED" });
    owner.close();
    thief.close();
  });

  it("takes other keys while it runs, and closes the sockets of those that are gone", async () => {
    const server = await serve();
    const client = await TestClient.open(server.port, "cellbatch.v1", { headers: bearer(small.key) });
    const closed = client.closed();
    const fresh = makeKey("fresh", {}, CREATED);
    server.reload({ keys: [full.entry, fresh.entry] });
    expect(await closed).toBe(1008);
    expect((await http(server, "/v2", bearer(small.key))).status).toBe(401);
    for (const { key } of [full, fresh]) expect((await http(server, "/v2", bearer(key))).status).toBe(200);
  });
});

describe("a page of another origin", () => {
  it("is refused unless it is allowed, over WebSocket and HTTP", async () => {
    const server = await serve({ allowedOrigins: ["https://app.example"] });
    const from = (origin: string) => ({ ...bearer(full.key), origin });
    for (const [origin, isAllowed] of [
      ["https://app.example", true],
      [`http://127.0.0.1:${server.port}`, true],
      ["https://evil.example", false],
      ["null", false],
    ] as const) {
      const reply = await http(server, "/v2/models/chain/infer", from(origin), infer);
      expect(reply.status, origin).toBe(isAllowed ? 200 : 403);
      const opened = await upgradeRefusal(server.port, ["cellbatch.v1"], from(origin));
      expect(opened, origin).toContain(isAllowed ? "opened" : "403");
    }
    const preflight = await fetch(`http://127.0.0.1:${server.port}/v2/models/chain/infer`, {
      method: "OPTIONS",
      headers: {
        origin: "https://app.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
      },
    });
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get("access-control-allow-origin")).toBe("https://app.example");
  });

  it("is a stranger where its name was pointed at a server on loopback", () => {
    const asked = (host: string, origin?: string) => ({ headers: { host, ...(origin ? { origin } : {}) } });
    const loopback = new Origins([], "127.0.0.1");
    expect(loopback.allows(asked("evil.example:8080", "http://evil.example:8080"))).toBe(false);
    expect(loopback.allows(asked("localhost:8080", "http://localhost:8080"))).toBe(true);
    expect(loopback.allows(asked("localhost:8080", "http://localhost:3000"))).toBe(false);
    expect(loopback.allows(asked("anything"))).toBe(true);
    const open = new Origins([], "0.0.0.0");
    expect(open.allows(asked("api.example", "https://api.example"))).toBe(true);
    expect(open.allows(asked("api.example", "not a url"))).toBe(false);
    expect(new Origins(["*"], "0.0.0.0").allows(asked("api.example", "https://any.example"))).toBe(true);
  });
});

describe("TLS", () => {
  const pem = (name: string) => readFileSync(new URL(`fixtures/${name}.pem`, import.meta.url));
  const pair = (name: string) => ({ cert: pem(`${name}.cert`), key: pem(`${name}.key`) });

  /** The common name of the certificate that HTTPS shows, where `ca` trusts it. */
  const certified = (port: number, ca: Buffer) =>
    new Promise<string>((resolve, reject) => {
      const request = get({ port, host: "127.0.0.1", path: "/v2/health/live", ca, agent: false }, (reply) => {
        const { socket } = reply as unknown as {
          socket: { getPeerCertificate(): { subject: { CN: string } } };
        };
        const { CN } = socket.getPeerCertificate().subject;
        reply.resume().on("end", () => resolve(CN));
      });
      request.on("error", reject);
    });

  it("covers HTTP, WebSocket and gRPC, and takes another certificate while it runs", async () => {
    const { cert: ca } = pair("first");
    const server = await serve({ tls: pair("first") });
    expect(await certified(server.port, ca)).toBe("first");
    const client = await TestClient.open(server.port, "cellbatch.v1", { headers: bearer(full.key), ca });
    client.send({ type: "infer", id: "1", model: "chain", inputs: { x: [row] } });
    await client.next({ type: "done" });
    client.close();
    expect(await grpc(server.grpcPort!, "ModelInfer", grpcInfer, full.key, ca)).toMatchObject({
      model_name: "chain",
    });
    await expect(http(server, "/v2/health/live")).rejects.toThrow();
    server.reload({ tls: pair("second") });
    expect(await certified(server.port, pair("second").cert)).toBe("second");
    expect(() => server.reload({ tls: { cert: "none", key: "none" } })).toThrow();
    expect(await certified(server.port, pair("second").cert)).toBe("second");
  });
});

describe("a token bucket", () => {
  it("never lets more through than its burst and its rate allow, and lets come who waits as told", () => {
    const pauses = fc.array(fc.double({ min: 0, max: 500, noNaN: true }), { minLength: 1, maxLength: 60 });
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 50 }),
        fc.integer({ min: 1, max: 10 }),
        pauses,
        (rate, burst, all) => {
          const bucket = new TokenBucket(rate, burst, 0);
          let nowMs = 0;
          let through = 0;
          for (const pause of all) {
            nowMs += pause;
            const wait = bucket.take(nowMs);
            if (wait === 0) through++;
            else {
              expect(wait).toBeLessThanOrEqual(1000 / rate + 1e-6);
              nowMs += wait + 1e-6;
              expect(bucket.take(nowMs)).toBe(0);
              through++;
            }
            expect(through).toBeLessThanOrEqual(burst + (nowMs / 1000) * rate + 1e-6);
          }
        },
      ),
    );
  });
});

describe("a file of keys", () => {
  it("comes back as it went and holds no key", () => {
    const text = formatKeys(keys);
    expect(parseKeys(text, "keys.json")).toEqual(keys);
    for (const { key } of [full, slow, small]) expect(text).not.toContain(key.slice(20));
  });

  it("that is damaged is refused with what is wrong", () => {
    expect(() => parseKeys("{", "keys.json")).toThrow(/keys.json is no file of keys/);
    const [first] = keys as [KeyEntry];
    expect(() => parseKeys(formatKeys([first, first]), "k")).toThrow(/two keys of name 'full'/);
    expect(() => parseKeys(formatKeys([{ ...first, hash: "x" }]), "k")).toThrow(/keys.0.hash/);
    expect(() => makeKey("a b", {}, CREATED)).toThrow(/'name'/);
    expect(() => makeKey("a", { priority: 10 }, CREATED)).toThrow(/'priority'/);
  });
});
