import { Fault } from "../../core/faults.ts";
import type { Runtime } from "../../runtime/types.ts";

export interface RepositoryEntry {
  readonly name: string;
  /** Left out while nobody knows. */
  readonly version?: string;
  /** "" where it never was loaded. */
  readonly state: "READY" | "UNAVAILABLE" | "LOADING" | "UNLOADING" | "";
  /** Why it is in that state; "" where nothing is to say. */
  readonly reason: string;
}

/** The models that a server has or could have. `load` and `unload` reject with a `Fault`. */
export interface Repository {
  /** Whether all models are warm that are to be there from the start. */
  isReady(): boolean;
  index(): readonly RepositoryEntry[];
  load(model: string): Promise<void>;
  unload(model: string): Promise<void>;
}

/** The models that a runtime was started with; it cannot change them while it runs. */
export function fixedRepository(runtime: Pick<Runtime, "models">): Repository {
  const refuse = async (verb: string, model: string) => {
    throw new Fault(
      "UNSUPPORTED",
      `cannot ${verb} model '${model}': the models of this server are fixed while it runs; start it with the --model options you need, or with --models and --model-control explicit`,
    );
  };
  return {
    isReady: () => true,
    index: () => runtime.models.map(({ name, version }) => ({ name, version, state: "READY", reason: "" })),
    load: (model) => refuse("load", model),
    unload: (model) => refuse("unload", model),
  };
}

/** Throws UNSUPPORTED where a load brings a configuration or files of its own, by the names of its parameters. */
export function refuseOverrides(model: string, parameters: readonly string[]): void {
  const own = parameters.find((name) => name === "config" || name.startsWith("file:"));
  if (own === undefined) return;
  throw new Fault("UNSUPPORTED", `model '${model}' cannot be loaded with '${own}' of the client's own`);
}
