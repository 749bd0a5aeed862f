import cors from "@fastify/cors";
import type { FastifyInstance } from "fastify";
import type { Caller } from "../access/caller.ts";
import type { Keyring } from "../access/keyring.ts";
import type { Origins } from "../access/origins.ts";
import { originRefusal } from "../upgrade.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** Who asks; unset on routes that are open to all. */
    caller: Caller;
  }
  interface FastifyContextConfig {
    /** Answers without a key. @default false */
    isOpen?: boolean;
  }
}

/** Refuses pages of foreign origins, and callers without a key on all routes that are not open. */
export async function addAccess(
  app: Pick<FastifyInstance, "register" | "decorateRequest" | "addHook">,
  { keyring, origins }: { readonly keyring: Keyring; readonly origins: Origins },
): Promise<void> {
  app.decorateRequest("caller");
  if (origins.others.length > 0) {
    const origin = origins.others.includes("*") ? "*" : [...origins.others];
    await app.register(cors, { origin, exposedHeaders: ["Inference-Header-Content-Length", "Retry-After"] });
  }
  app.addHook("onRequest", async (request, reply) => {
    if (!origins.allows(request.raw))
      return reply.code(403).send({ error: originRefusal(request.headers.origin) });
    if (request.is404 || request.routeOptions.config.isOpen) return;
    request.caller = keyring.callerOfHeader(request.headers.authorization);
  });
}
