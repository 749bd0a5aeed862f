import { extensions } from "../oip/metadata.ts";
import { refuseOverrides } from "../oip/repository.ts";
import type { App } from "./app.ts";
import { addRoute, type HttpDoor } from "./routes.ts";
import * as schemas from "./schemas.ts";

/** Adds what a client asks about the server and its repository of models. */
export function addServerRoutes(app: App, { repository, version, isReady }: HttpDoor): void {
  addRoute(app, {
    method: "GET",
    url: "/v2",
    summary: "Name, version and extensions of the server",
    reply: schemas.ServerReply,
    handler: () => ({ name: "cellbatch", version, extensions }),
  });
  addRoute(app, {
    method: "GET",
    url: "/v2/health/live",
    isOpen: true,
    summary: "Whether the server answers at all",
    reply: schemas.LiveReply,
    handler: () => ({ live: true }),
  });
  addRoute(app, {
    method: "GET",
    url: "/v2/health/ready",
    isOpen: true,
    summary: "Whether the server takes requests; 503 while it shuts down",
    reply: schemas.ReadyReply,
    handler: (_, reply) => reply.code(isReady() ? 200 : 503).send({ ready: isReady() }),
  });
  addRoute(app, {
    method: "POST",
    url: "/v2/repository/index",
    summary: "Models and whether they are ready",
    body: schemas.IndexBody,
    reply: schemas.IndexReply,
    handler: ({ body, caller }) => {
      const onlyReady = (body as schemas.IndexBody)?.ready === true;
      return repository
        .index()
        .filter(({ name, state }) => caller.mayUse(name) && (!onlyReady || state === "READY"));
    },
  });
  for (const verb of ["load", "unload"] as const) {
    addRoute(app, {
      method: "POST",
      url: `/v2/repository/models/:model/${verb}`,
      summary: `${verb === "load" ? "Loads" : "Unloads"} a model, where the repository can`,
      params: schemas.ModelPath,
      body: schemas.RepositoryBody,
      handler: async ({ params, body, caller }, reply) => {
        caller.checkAdmin(`${verb} models`);
        const { model } = params as schemas.ModelPath;
        if (verb === "load")
          refuseOverrides(model, Object.keys((body as schemas.RepositoryBody)?.parameters ?? {}));
        await repository[verb](model);
        return reply.send();
      },
    });
  }
}
