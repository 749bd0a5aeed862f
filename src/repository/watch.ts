import { relative, sep } from "node:path";
import { watch } from "chokidar";

export interface Watch {
  close(): Promise<void>;
}

/**
 * Calls `changed` with the names of models whose files changed, once nothing has for `QUIET_MS`. The calls follow each other.
 * Resolves when changes are heard.
 */
export async function watchRepository(
  dir: string,
  changed: (models: ReadonlySet<string>) => Promise<void>,
): Promise<Watch> {
  let names = new Set<string>();
  let timer: NodeJS.Timeout | undefined;
  let running: Promise<void> = Promise.resolve();
  const report = () => {
    const now = names;
    names = new Set();
    running = running.then(() => changed(now)).catch(() => {});
  };
  // A model has its versions' folders, and those their files.
  const watcher = watch(dir, { ignoreInitial: true, depth: 3 });
  watcher.on("all", (_, path) => {
    const name = relative(dir, path).split(sep)[0];
    if (!name) return;
    names.add(name);
    clearTimeout(timer);
    timer = setTimeout(report, QUIET_MS);
  });
  await new Promise<void>((resolve, reject) => {
    watcher.once("ready", resolve);
    watcher.once("error", reject);
  });
  return {
    close: async () => {
      clearTimeout(timer);
      await watcher.close();
      await running;
    },
  };
}

/** Files that are written one after the other are quiet between two writes, for less than this. */
const QUIET_MS = 500;
