import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));

/** What each room may import besides itself, rooms or single files; the picture is in docs/architecture.md. */
const arrows: Record<string, readonly string[]> = {
  "src/core": [],
  scheduler: ["src/core"],
  kernels: ["src/core"],
  models: ["src/core"],
  planner: ["src/core", "scheduler"],
  "src/engine": ["src/core", "scheduler", "kernels", "models"],
  "src/runtime": ["src/core", "src/engine", "scheduler", "models"],
  "src/repository": ["src/core", "src/runtime"],
  "src/server": ["src/core", "src/runtime"],
  "src/adapt": ["src/core", "src/runtime", "planner"],
  "src/functions": ["src/core", "src/runtime", "scheduler", "models", "planner"],
  "src/client": ["src/server/protocol.ts", "src/core/faults.ts"],
  web: ["src/client", "src/server/watch-protocol.ts"],
  "src/vad": ["src/core", "src/runtime", "models"],
  "src/plot": ["src/core"],
  "src/load": ["src/core", "src/server", "planner"],
  "src/bench": [
    "src/core",
    "src/engine",
    "src/load",
    "src/plot",
    "src/runtime",
    "src/vad",
    "kernels",
    "models",
    "planner",
    "scheduler",
  ],
  "src/replay": ["src/core", "scheduler", "planner"],
  "src/verify": ["src/core", "src/engine", "kernels", "models"],
  "src/cli": [
    "src/adapt",
    "src/bench",
    "src/core",
    "src/engine",
    "src/functions",
    "src/load",
    "src/plot",
    "src/replay",
    "src/runtime",
    "src/repository",
    "src/server",
    "src/vad",
    "src/verify",
    "scheduler",
    "kernels",
    "models",
    "planner",
  ],
};
const rooms = Object.keys(arrows);

const roomOf = (file: string) => rooms.find((room) => file.startsWith(`${room}/`));

/** Files of all rooms, from the root, each with the files of ours that it imports. */
const imports = new Map(
  rooms
    .flatMap((room) =>
      readdirSync(join(root, room), { recursive: true, encoding: "utf8" }).map((name) => join(room, name)),
    )
    .filter((file) => file.endsWith(".ts"))
    .map((file) => {
      const text = readFileSync(join(root, file), "utf8");
      const specifiers = [...text.matchAll(/from "(\.[^"]+)"/g)].map(([, specifier]) => specifier!);
      return [
        file,
        specifiers.map((specifier) => relative(root, join(root, dirname(file), specifier))),
      ] as const;
    }),
);

describe("the rooms of the house", () => {
  it("are all there", () => {
    for (const room of rooms)
      expect(
        [...imports.keys()].some((file) => roomOf(file) === room),
        room,
      ).toBe(true);
  });

  it("import only along the arrows", () => {
    const wrong = [...imports].flatMap(([file, targets]) =>
      targets
        .filter(
          (target) =>
            roomOf(target) !== roomOf(file) &&
            !arrows[roomOf(file)!]!.some((allowed) => allowed === roomOf(target) || allowed === target),
        )
        .map((target) => `${file} -> ${target}`),
    );
    expect(wrong).toEqual([]);
  });

  it("hold no cycle of files", () => {
    const done = new Set<string>();
    const visit = (file: string, path: readonly string[]): void => {
      if (path.includes(file)) throw new Error([...path.slice(path.indexOf(file)), file].join(" -> "));
      if (done.has(file)) return;
      for (const target of imports.get(file) ?? []) visit(target, [...path, file]);
      done.add(file);
    };
    for (const file of imports.keys()) visit(file, []);
  });

  it("leave the command line and the environment to the command", () => {
    const readers = [...imports.keys()].filter(
      (file) =>
        roomOf(file) !== "src/cli" && /process\.(argv|env)\b/.test(readFileSync(join(root, file), "utf8")),
    );
    expect(readers).toEqual([]);
  });
});
