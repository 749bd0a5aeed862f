import type { FastifyReply, FastifyRequest } from "fastify";
import type { Asker } from "../oip/inference.ts";
import { modelOf } from "../oip/metadata.ts";
import { refuseReserved } from "../oip/parameters.ts";
import type { InferRequest } from "../oip/types.ts";
import type { App } from "./app.ts";
import { type Body, codingFor, decoded, encoded, splitBody } from "./body.ts";
import { sendEvents } from "./events.ts";
import { readGenerate, writeGenerated } from "./generate-json.ts";
import { type HttpInfer, readInfer, readRaw, type Target, writeAnswer } from "./infer-json.ts";
import { MODEL_PATHS } from "./model-routes.ts";
import { addRoute, type HttpDoor } from "./routes.ts";
import * as schemas from "./schemas.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** The body of a POST before it was validated. */
    split: Body | undefined;
  }
}

/** Reads the bodies of POSTs: takes their coding off, splits them and parses their JSON. */
export function addBodies(app: App, { bodyBytes }: HttpDoor["limits"]): void {
  app.decorateRequest("split", undefined);
  app.addHook("preValidation", async (request) => {
    if (request.method !== "POST") return;
    const { headers } = request;
    const bytes = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
    const plain = await decoded(bytes, headers["content-encoding"]?.trim().toLowerCase(), bodyBytes);
    const split = splitBody(plain, headers[JSON_LENGTH]?.toString());
    request.split = split;
    request.body = split.isRaw ? { inputs: [] } : split.json;
  });
}

const JSON_LENGTH = "inference-header-content-length";

/** Adds inference. */
export function addInferRoutes(app: App, door: HttpDoor): void {
  const { doorway, inference, limits } = door;
  for (const path of MODEL_PATHS) {
    addRoute(app, {
      method: "POST",
      url: `${path}/infer`,
      summary: "One request, or one request of a sequence",
      description:
        "With the header Inference-Header-Content-Length the body is that many bytes of JSON and then the bytes of the tensors that have a binary_data_size.",
      params: schemas.ModelPath,
      body: schemas.InferBody,
      reply: schemas.InferReply,
      handler: async (request, reply) => {
        const { request: asked, isBinary } = readHttpInfer(request, door);
        refuseReserved(asked.parameters, []);
        const answer = await inference.infer(traced(asked, request), askerOf(request, reply));
        return sendAnswer(request, reply, writeAnswer(answer, isBinary));
      },
    });
    const readHttpGenerate = ({ params, body, caller }: FastifyRequest) => {
      const target = targetOf(params);
      const model = modelOf(caller.guard(doorway), target.model, target.version);
      const read = readGenerate(target, model, body as schemas.GenerateBody);
      refuseReserved(read.request.parameters, []);
      return read;
    };
    addRoute(app, {
      method: "POST",
      url: `${path}/generate`,
      summary: "One request with inputs and parameters as keys of one object",
      params: schemas.ModelPath,
      body: schemas.GenerateBody,
      reply: schemas.GenerateReply,
      handler: async (request, reply) => {
        const { request: asked, nameOf } = readHttpGenerate(request);
        const answer = await inference.infer(traced(asked, request), askerOf(request, reply));
        return reply.type("application/json").send(writeGenerated(answer, nameOf));
      },
    });
    addRoute(app, {
      method: "POST",
      url: `${path}/generate_stream`,
      summary: "As generate, with the outputs of every step as a server-sent event",
      params: schemas.ModelPath,
      body: schemas.GenerateBody,
      reply: schemas.EventsReply,
      replyType: "text/event-stream",
      handler: async (request, reply) => {
        const { request: asked, nameOf } = readHttpGenerate(request);
        const events = eventsOf(door, traced(asked, request), askerOf(request, reply), nameOf);
        const begin = () => {
          reply.hijack();
          return reply.raw;
        };
        await sendEvents(begin, events, limits.slowMs, door.unexpected);
      },
    });
  }
}

function traced(asked: InferRequest, { headers }: FastifyRequest): InferRequest {
  return { ...asked, traceparent: headers.traceparent?.toString() };
}

async function* eventsOf(
  { inference }: HttpDoor,
  asked: InferRequest,
  asker: Asker,
  nameOf: (output: string) => string,
): AsyncGenerator<string> {
  for await (const answer of inference.stream(asked, asker)) yield writeGenerated(answer, nameOf);
}

function readHttpInfer({ params, body, split, caller }: FastifyRequest, { doorway }: HttpDoor): HttpInfer {
  const target = targetOf(params);
  if (!split?.isRaw) return readInfer(target, body as schemas.InferBody, split?.tail);
  return readRaw(modelOf(caller.guard(doorway), target.model, target.version), target, split.tail!);
}

function targetOf(params: unknown): Target {
  const { model, version } = params as schemas.ModelPath;
  return { model, version };
}

/** The caller, until it is gone before it has its answer. */
function askerOf({ caller }: FastifyRequest, { raw }: FastifyReply): Asker {
  const controller = new AbortController();
  raw.once("close", () => {
    if (!raw.writableEnded) controller.abort();
  });
  if (raw.destroyed) controller.abort();
  return { caller, signal: controller.signal };
}

async function sendAnswer(
  request: FastifyRequest,
  reply: FastifyReply,
  { json, chunks }: ReturnType<typeof writeAnswer>,
): Promise<FastifyReply> {
  const head = Buffer.from(json);
  const plain = chunks.length > 0 ? Buffer.concat([head, ...chunks]) : head;
  reply.type(chunks.length > 0 ? "application/octet-stream" : "application/json");
  if (chunks.length > 0) reply.header(JSON_LENGTH, head.length);
  const coding = codingFor(request.headers["accept-encoding"]?.toString(), plain.length);
  if (!coding) return reply.send(plain);
  return reply.header("content-encoding", coding).send(await encoded(plain, coding));
}
