import type { FastifyReply } from "fastify";
import { Fault } from "../../core/faults.ts";
import type { Runtime } from "../../runtime/types.ts";
import { watchFeed } from "../watch-feed.ts";
import type { WireModel } from "../watch-protocol.ts";
import type { App } from "./app.ts";
import { sendEvents } from "./events.ts";
import type { HttpDoor } from "./routes.ts";

/** Every one costs the engines a little; more are refused. */
const MOST_WATCHERS = 16;

/** Adds what the dashboard stands on: the models with their examples, and a feed of the engines' steps. */
export function addWatchRoutes(
  app: App,
  runtime: Pick<Runtime, "models" | "watch" | "stats">,
  { limits, unexpected }: Pick<HttpDoor, "limits" | "unexpected">,
): void {
  let watchers = 0;
  app.get("/v1/models", { schema: { hide: true } }, () => runtime.models satisfies readonly WireModel[]);
  // Not in the OpenAPI document: its answer never ends.
  app.get("/v1/watch", { schema: { hide: true } }, async (_, reply) => {
    if (watchers >= MOST_WATCHERS) {
      throw new Fault("OVERLOADED", `${MOST_WATCHERS} clients watch the engines, which is the most`);
    }
    watchers++;
    try {
      const begin = () => {
        reply.hijack();
        return reply.raw;
      };
      await sendEvents(begin, watchFeed(runtime, goneSignal(reply)), limits.slowMs, unexpected);
    } finally {
      watchers--;
    }
  });
}

/** Aborted when the client is gone. */
function goneSignal({ raw }: FastifyReply): AbortSignal {
  const controller = new AbortController();
  raw.once("close", () => controller.abort());
  if (raw.destroyed) controller.abort();
  return controller.signal;
}
