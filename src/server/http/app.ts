import type { Server as HttpServer } from "node:http";
import swagger from "@fastify/swagger";
import swaggerUi from "@fastify/swagger-ui";
import Fastify, { type FastifyError } from "fastify";
import { jsonSchemaTransform, validatorCompiler, type ZodTypeProvider } from "fastify-type-provider-zod";
import { sendFailure } from "./failures.ts";

export interface HttpLimits {
  /** Longest body of a request, also after its coding was taken off. @default 64 MiB */
  readonly bodyBytes: number;
  /** Longest time for the headers and the body of a request to arrive, in milliseconds. @default 60 000 */
  readonly requestMs: number;
}

export type App = Awaited<ReturnType<typeof createApp>>;

/** An HTTP server that answers errors as the Open Inference Protocol does, with documentation at `/docs`; no routes yet. */
export async function createApp(
  limits: HttpLimits,
  about: { readonly version: string; readonly unexpected: (error: unknown) => void },
) {
  const app = Fastify({
    bodyLimit: limits.bodyBytes,
    requestTimeout: limits.requestMs,
    forceCloseConnections: true,
    routerOptions: { maxParamLength: MAX_NAME_LENGTH },
    frameworkErrors: (error, _, reply) => sendFailure(error, reply, about.unexpected),
  }).withTypeProvider<ZodTypeProvider>();
  app.setValidatorCompiler(validatorCompiler);
  // Answers are ours and are written once: schemas of answers are for the documentation.
  app.setSerializerCompiler(() => (answer) => JSON.stringify(answer));
  app.setErrorHandler((error: FastifyError, _, reply) => sendFailure(error, reply, about.unexpected));
  app.setNotFoundHandler((_, reply) => reply.code(404).send({ error: "Not Found" }));
  // Clients of the protocol send whatever content type, or none.
  app.addHook("onRequest", async ({ raw }) => {
    raw.headers["content-type"] = "application/octet-stream";
  });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("application/octet-stream", { parseAs: "buffer" }, (_, body, done) =>
    done(null, body),
  );
  takeEmptyExpectations(app.server);
  await app.register(swagger, {
    openapi: {
      info: {
        title: "cellbatch",
        version: about.version,
        description: "Open Inference Protocol v2 with extensions.",
      },
    },
    transform: jsonSchemaTransform,
  });
  await app.register(swaggerUi, { routePrefix: "/docs" });
  return app;
}

const MAX_NAME_LENGTH = 256;

/** Triton's C++ client sends an empty `Expect` header, which Node would answer with 417. */
function takeEmptyExpectations(server: HttpServer): void {
  server.on("checkExpectation", (request, response) => {
    if (request.headers.expect === "") server.emit("request", request, response);
    else response.writeHead(417).end();
  });
}
