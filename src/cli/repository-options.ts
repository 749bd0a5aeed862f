import { type Command, InvalidArgumentError, Option } from "commander";

/** What `serve` is told of a folder of models. */
export interface RepositoryOptions {
  readonly models?: string;
  readonly watch: boolean;
  readonly modelControl: "none" | "explicit";
  readonly loadModel?: readonly string[];
  readonly modelVersions: number;
  readonly memoryLimit?: number;
}

/** Adds the options of a folder of models to a command. */
export function addRepositoryOptions(command: Command): Command {
  return command
    .addOption(
      new Option(
        "--models <dir>",
        "folder of models, <dir>/<model>/model.json or <dir>/<model>/<version>/model.json, in place of --model",
      ).conflicts("model"),
    )
    .option("--watch", "with --models: load models when their files change, and unload those that go", false)
    .addOption(
      new Option(
        "--model-control <mode>",
        "with --models: none loads all at the start; explicit lets clients load and unload",
      )
        .choices(["none", "explicit"])
        .default("none"),
    )
    .addOption(
      new Option(
        "--load-model <name>",
        "with --model-control explicit: load this one at the start; may be repeated; '*' for all",
      ).argParser((value: string, before: string[] = []) => [...before, value]),
    )
    .option(
      "--model-versions <count>",
      "with --models: newest versions of each model to serve",
      (text) => {
        const count = Number(text);
        if (Number.isInteger(count) && count >= 1 && count <= 1024) return count;
        throw new InvalidArgumentError("It must be an integer from 1 to 1024.");
      },
      1,
    )
    .option(
      "--memory-limit <bytes>",
      "most bytes of weights and states of all engines, as 2000000000 or 2GiB; a model that would take more is refused",
      bytes,
    );
}

/** A number of bytes, with KiB, MiB or GiB behind where they are many. */
function bytes(text: string): number {
  const found = /^(\d+(?:\.\d+)?)(KiB|MiB|GiB)?$/.exec(text);
  const value = found && Math.floor(Number(found[1]) * UNITS[(found[2] ?? "") as keyof typeof UNITS]);
  if (value && value >= 1 && Number.isSafeInteger(value)) return value;
  throw new InvalidArgumentError("It must be a number of bytes above 0, as 2000000000, 500MiB or 2GiB.");
}

const UNITS = { "": 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 } as const;
