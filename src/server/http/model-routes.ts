import type { FastifyRequest } from "fastify";
import { configOf, metadataOf, modelOf } from "../oip/metadata.ts";
import type { App } from "./app.ts";
import { addRoute, type HttpDoor } from "./routes.ts";
import * as schemas from "./schemas.ts";

/** Paths of one model, of any version and of one. */
export const MODEL_PATHS = ["/v2/models/:model", "/v2/models/:model/versions/:version"] as const;

/** Adds what a client asks about a model. */
export function addModelRoutes(app: App, { doorway, statistics, limits }: HttpDoor): void {
  const find = ({ params, caller }: FastifyRequest) => {
    const { model, version } = params as schemas.ModelPath;
    return modelOf(caller.guard(doorway), model, version);
  };
  addRoute(app, {
    method: "GET",
    url: "/v2/models/stats",
    summary: "Statistics of all models",
    reply: schemas.StatsReply,
    handler: ({ caller }) => ({
      model_stats: caller.guard(doorway).models.map(({ name, version }) => statistics.of(name, version)),
    }),
  });
  for (const path of MODEL_PATHS) {
    addRoute(app, {
      method: "GET",
      url: path,
      summary: "Inputs and outputs of a model",
      params: schemas.ModelPath,
      reply: schemas.ModelReply,
      handler: (request) => metadataOf(find(request), request.caller.guard(doorway)),
    });
    addRoute(app, {
      method: "GET",
      url: `${path}/ready`,
      summary: "Whether a model takes requests",
      params: schemas.ModelPath,
      reply: schemas.ModelReadyReply,
      handler: (request) => ({ name: find(request).name, ready: true }),
    });
    addRoute(app, {
      method: "GET",
      url: `${path}/config`,
      summary: "A model's configuration in Triton's words",
      params: schemas.ModelPath,
      reply: schemas.ConfigReply,
      handler: (request) => configOf(find(request), request.caller.guard(doorway), limits),
    });
    addRoute(app, {
      method: "GET",
      url: `${path}/stats`,
      summary: "Statistics of a model",
      params: schemas.ModelPath,
      reply: schemas.StatsReply,
      handler: (request) => {
        const { name, version } = find(request);
        return { model_stats: [statistics.of(name, version)] };
      },
    });
  }
}
