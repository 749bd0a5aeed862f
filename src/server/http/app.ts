import type { Server as HttpServer } from "node:http";
import swagger from "@fastify/swagger";
import swaggerUi from "@fastify/swagger-ui";
import Fastify, { type FastifyError } from "fastify";
import { jsonSchemaTransform, validatorCompiler, type ZodTypeProvider } from "fastify-type-provider-zod";
import type { Keyring } from "../access/keyring.ts";
import type { Origins } from "../access/origins.ts";
import { addAccess } from "./access.ts";
import { sendFailure } from "./failures.ts";

export interface HttpLimits {
  /** Longest body of a request, also after its coding was taken off. @default 64 MiB */
  readonly bodyBytes: number;
  /** Longest time for the headers and the body of a request to arrive, in milliseconds. @default 60 000 */
  readonly requestMs: number;
}

export type App = Awaited<ReturnType<typeof createApp>>;

export interface AppSettings {
  readonly version: string;
  readonly unexpected: (error: unknown) => void;
  readonly keyring: Keyring;
  readonly origins: Origins;
  /** Certificate and private key, as PEM; no encryption where it is undefined. */
  readonly tls: { readonly cert: string | Buffer; readonly key: string | Buffer } | undefined;
}

/** An HTTP server that answers errors as the Open Inference Protocol does, with documentation at `/docs`; no routes yet. */
export async function createApp(limits: HttpLimits, about: AppSettings) {
  const app = Fastify({
    // An HTTPS server is an HTTP server to everything here.
    ...((about.tls ? { https: about.tls } : {}) as object),
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
  await addAccess(app, about);
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
  // What the documentation says is no secret.
  await app.register(async (pages) => {
    pages.addHook("onRoute", (route) => {
      route.config = { ...route.config, isOpen: true };
    });
    await pages.register(swaggerUi, { routePrefix: "/docs" });
  });
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
