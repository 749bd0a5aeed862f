import { basename } from "node:path";
import { zooModels } from "../../models/zoo.ts";

/** The models that are named, else the zoo. */
export function modelPaths(given: readonly string[] | undefined): {
  readonly paths: readonly string[];
  readonly missing: readonly { readonly name: string; readonly reason: string }[];
} {
  if (given) return { paths: given, missing: [] };
  const { folders, missing } = zooModels();
  return { paths: folders, missing };
}

/** The path of a model that is named as in the zoo or by a path. */
export function modelPath(model: string): string {
  return zooModels().folders.find((folder) => basename(folder) === model) ?? model;
}
