import { request } from "node:http";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createRuntime } from "../../src/runtime/create.ts";
import type { Runtime } from "../../src/runtime/types.ts";
import { type Server, startServer } from "../../src/server/server.ts";
import { chainModel } from "../fixtures/models.ts";

let runtime: Runtime;
let server: Server;

beforeAll(async () => {
  runtime = await createRuntime({ models: [chainModel()], inline: true });
  server = await startServer({ runtime, port: 0 });
});

afterAll(async () => {
  await server.close(0);
  await runtime.close(0);
});

/** Sends the path as it is: `fetch` would take the dots out. */
function get(
  path: string,
  headers: Record<string, string> = {},
): Promise<{ status: number; headers: NodeJS.Dict<string | string[]>; body: string }> {
  return new Promise((resolve, reject) => {
    request({ host: "127.0.0.1", port: server.port, path, headers }, (reply) => {
      let body = "";
      reply.on("data", (chunk: Buffer) => {
        body += chunk.toString();
      });
      reply.on("end", () => resolve({ status: reply.statusCode!, headers: reply.headers, body }));
    })
      .on("error", reject)
      .end();
  });
}

describe("the pages", () => {
  it("allow scripts, styles and connections of their own server only", async () => {
    const { status, headers, body } = await get("/");
    expect(status).toBe(200);
    expect(headers["content-type"]).toBe("text/html; charset=utf-8");
    const policy = headers["content-security-policy"] as string;
    expect(policy).toMatch(/^default-src 'none'/);
    expect(policy).not.toMatch(/unsafe|\*|https?:/);
    expect(headers["x-content-type-options"]).toBe("nosniff");
    expect(body).not.toMatch(/\son\w+=|style=|<script(?![^>]*src=)|https?:\/\//);
  });

  it("consist of files that are all there, and are sent once to who has them", async () => {
    const { body } = await get("/");
    const linked = [...body.matchAll(/(?:src|href)="(\/[^"]*\.\w+)"/g)].map(([, path]) => path!);
    expect(new Set(linked)).toEqual(new Set(["/icon.svg", "/app.css", "/app.js"]));
    for (const path of [...linked, "/microphone.js"]) {
      const { status, headers } = await get(path);
      expect(status, path).toBe(200);
      const again = await get(path, { "if-none-match": headers.etag as string });
      expect([again.status, again.body]).toEqual([304, ""]);
    }
  });

  it.each([
    "/../package.json",
    "/..%2fpackage.json",
    "/%2e%2e/package.json",
    "/app.js/../../package.json",
    "/web/index.html",
    "/index.html",
    "/app.js%00",
    "/.//etc/passwd",
  ])("are the only files there are: %s is not", async (path) => {
    const { status, body } = await get(path);
    expect([400, 404]).toContain(status);
    expect(body).not.toContain("cellbatch");
  });
});
