import type { FastifyReply, FastifyRequest, HTTPMethods } from "fastify";
import type { z } from "zod";
import type { Inference } from "../oip/inference.ts";
import type { Repository } from "../oip/repository.ts";
import type { SequenceLimits } from "../oip/sequences.ts";
import type { Doorway, Statistics } from "../oip/statistics.ts";
import type { App } from "./app.ts";
import { ErrorReply } from "./schemas.ts";

/** What the routes answer from. */
export interface HttpDoor {
  readonly doorway: Doorway;
  readonly inference: Inference;
  readonly repository: Repository;
  readonly statistics: Statistics;
  readonly limits: SequenceLimits & { readonly bodyBytes: number; readonly slowMs: number };
  /** Of this server, for its metadata. */
  readonly version: string;
  readonly isReady: () => boolean;
  /** Hears of errors that are no faults. */
  readonly unexpected: (error: unknown) => void;
}

export interface Route {
  readonly method: "GET" | "POST";
  readonly url: string;
  readonly summary: string;
  readonly description?: string;
  readonly params?: z.ZodType;
  readonly body?: z.ZodType;
  /** What is answered with status 200; nothing where it is left out. */
  readonly reply?: z.ZodType;
  /** Content type of the answer. @default "application/json" */
  readonly replyType?: string;
  /** Answers without a key. @default false */
  readonly isOpen?: boolean;
  readonly handler: (request: FastifyRequest, reply: FastifyReply) => unknown;
}

/** Adds a route, and 405 for its other methods. */
export function addRoute(app: App, route: Route): void {
  const { method, url, summary, description, params, body, reply, replyType, handler } = route;
  const config = { isOpen: route.isOpen === true };
  const content = reply && {
    description: "Success",
    content: { [replyType ?? JSON_TYPE]: { schema: reply } },
  };
  const response = { ...(content ? { 200: content } : {}), "4xx": ErrorReply, "5xx": ErrorReply };
  const schema = {
    summary,
    response,
    ...(description ? { description } : {}),
    ...(params ? { params } : {}),
    ...(body ? { body } : {}),
  };
  app.route({ method, url, schema, config, handler });
  app.route({
    method: OTHER_METHODS.filter((other) => other !== method),
    url,
    schema: { hide: true },
    config,
    // Before the body is read: nobody wants it.
    onRequest: async (_, answer) =>
      answer.code(405).header("allow", method).send({ error: "Method Not Allowed" }),
    handler: () => {},
  });
}

const JSON_TYPE = "application/json";
const OTHER_METHODS: readonly HTTPMethods[] = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
