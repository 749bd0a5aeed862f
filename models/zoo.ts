import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** Folders of the models that come with the package, and those that lack a package, with the reason. */
export function zooModels(): {
  readonly folders: string[];
  readonly missing: { readonly name: string; readonly reason: string }[];
} {
  const root = packageRoot();
  const folders = ["g2p", "char-lm", "stress", "listops", "forecaster"].map((name) =>
    join(root, "models", name),
  );
  if (existsSync(join(root, "node_modules", VAD_PACKAGE)) || existsSync(join(root, "..", VAD_PACKAGE))) {
    return { folders: [...folders, join(root, "models", "silero-vad")], missing: [] };
  }
  const reason = `its file is in npm package ${VAD_PACKAGE}, which is not installed: npm install ${VAD_PACKAGE}`;
  return { folders, missing: [{ name: "silero-vad", reason }] };
}

const VAD_PACKAGE = "@ricky0123/vad-web";

/** From `models` in the source, `dist/models` when built. */
function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, "models", "g2p", "weights.safetensors"))) {
    const parent = dirname(folder);
    if (parent === folder) throw new Error("the weights of the zoo are not beside the program");
    folder = parent;
  }
  return folder;
}
