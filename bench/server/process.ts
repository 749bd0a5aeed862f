import { createRuntime } from "../../src/runtime/create.ts";
import { startServer } from "../../src/server/server.ts";
import { modelFolder } from "./model.ts";

/** What the server's process is asked, and answers. */
export type ToServer = "memory" | "cpu" | "stop";
export type FromServer =
  | { readonly kind: "ready"; readonly port: number }
  /** Time of all its threads since it began, in microseconds. */
  | { readonly kind: "cpu"; readonly us: number }
  | { readonly kind: "memory"; readonly rss: number; readonly heap: number };

const runtime = await createRuntime({ models: [modelFolder()], engines: 1, maxActive: 100_000 });
const never = 3_600_000;
const server = await startServer({
  runtime,
  port: 0,
  compression: process.argv.includes("--compression"),
  limits: { idleMs: never, pingMs: never, sessions: 100_000, connections: 100_000 },
});

const say = (message: FromServer) => process.send!(message);
process.on("message", async (message: ToServer) => {
  if (message === "memory") {
    // Twice: what the first lets go of with its finalizers, the second collects.
    globalThis.gc?.();
    globalThis.gc?.();
    const { rss, heapUsed, external } = process.memoryUsage();
    say({ kind: "memory", rss, heap: heapUsed + external });
  } else if (message === "cpu") {
    const { user, system } = process.cpuUsage();
    say({ kind: "cpu", us: user + system });
  } else {
    await server.close(0);
    await runtime.close(0);
    process.disconnect();
  }
});
say({ kind: "ready", port: server.port });
