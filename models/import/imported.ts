import type { Manifest } from "../manifest.ts";

/** What an importer makes of a foreign file: the content of a model folder, and how it can be batched. */
export interface ImportedModel {
  /** What goes into `model.json`. */
  readonly manifest: Manifest;
  /** The other files of the folder: name, relative to it, to content. */
  readonly files: Map<string, Uint8Array>;
  /** `cellular` where the model was cut into cells; `graph` where only whole requests can be batched. */
  readonly lane: "cellular" | "graph";
  /** Why it is in that lane, in one sentence; for `graph` it names the node that cannot be cut. */
  readonly why: string;
  /** What a user should know: inputs renamed, states that begin at zero, values converted. */
  readonly notes: string[];
}
