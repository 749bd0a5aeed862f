import { configOf, metadataOf, modelOf } from "../oip/metadata.ts";
import type { App } from "./app.ts";
import { addRoute, type HttpDoor } from "./routes.ts";
import * as schemas from "./schemas.ts";

/** Paths of one model, of any version and of one. */
export const MODEL_PATHS = ["/v2/models/:model", "/v2/models/:model/versions/:version"] as const;

/** Adds what a client asks about a model. */
export function addModelRoutes(app: App, { doorway, statistics, limits }: HttpDoor): void {
  const find = (params: unknown) => {
    const { model, version } = params as schemas.ModelPath;
    return modelOf(doorway, model, version);
  };
  addRoute(app, {
    method: "GET",
    url: "/v2/models/stats",
    summary: "Statistics of all models",
    reply: schemas.StatsReply,
    handler: () => ({
      model_stats: doorway.models.map(({ name, version }) => statistics.of(name, version)),
    }),
  });
  for (const path of MODEL_PATHS) {
    addRoute(app, {
      method: "GET",
      url: path,
      summary: "Inputs and outputs of a model",
      params: schemas.ModelPath,
      reply: schemas.ModelReply,
      handler: ({ params }) => metadataOf(find(params), doorway),
    });
    addRoute(app, {
      method: "GET",
      url: `${path}/ready`,
      summary: "Whether a model takes requests",
      params: schemas.ModelPath,
      reply: schemas.ModelReadyReply,
      handler: ({ params }) => ({ name: find(params).name, ready: true }),
    });
    addRoute(app, {
      method: "GET",
      url: `${path}/config`,
      summary: "A model's configuration in Triton's words",
      params: schemas.ModelPath,
      reply: schemas.ConfigReply,
      handler: ({ params }) => configOf(find(params), doorway, limits),
    });
    addRoute(app, {
      method: "GET",
      url: `${path}/stats`,
      summary: "Statistics of a model",
      params: schemas.ModelPath,
      reply: schemas.StatsReply,
      handler: ({ params }) => {
        const { name, version } = find(params);
        return { model_stats: [statistics.of(name, version)] };
      },
    });
  }
}
