import { Command, InvalidArgumentError, Option } from "commander";
import type { KeyLimits } from "../server/access/key-file.ts";

/** `cellbatch keys`: makes, shows and removes the keys that `serve --keys` asks callers for. */
export function keysCommand(): Command {
  const command = new Command("keys").description("make, list and remove the keys of 'serve --keys FILE'");
  const file = () =>
    new Option("--file <path>", "file of keys, made if it is not there").default("keys.json");
  command
    .command("add")
    .description("make a key and print it, this once; the file keeps its hash")
    .argument("<name>", "what to call it: letters, digits, dots, dashes and underscores")
    .addOption(file())
    .option(
      "--requests-per-second <rate>",
      "requests and sessions it may begin; any number by default",
      positive,
    )
    .option("--burst <count>", "how many of those may come at once; one second's by default", count)
    .option("--open-ids <count>", "requests and sessions it may have open; any number by default", count)
    .addOption(
      new Option("--model <name>", "model it may use; may be repeated; all by default").argParser(
        (value: string, before: string[] = []) => [...before, value],
      ),
    )
    .option("--priority <class>", "highest class it may ask for, 1 (first) to 9 (last)", count)
    .option("--admin", "it may load and unload models")
    .action(
      async (name: string, { file, model, ...limits }: KeyLimits & { file: string; model?: string[] }) => {
        const { addKey } = await import("./keys.ts");
        await addKey(name, file, { ...limits, ...(model ? { models: model } : {}) });
      },
    );
  command
    .command("list")
    .description("show the keys of a file and their limits")
    .addOption(file())
    .option("--json", "print as JSON", false)
    .action(async ({ file, json }: { file: string; json: boolean }) => {
      const { listKeys } = await import("./keys.ts");
      await listKeys(file, json);
    });
  command
    .command("remove")
    .description("take a key out of a file")
    .argument("<name>", "its name")
    .addOption(file())
    .action(async (name: string, { file }: { file: string }) => {
      const { removeKey } = await import("./keys.ts");
      await removeKey(name, file);
    });
  return command;
}

function positive(text: string): number {
  const value = Number(text);
  if (value > 0 && Number.isFinite(value)) return value;
  throw new InvalidArgumentError("It must be a number above 0.");
}

function count(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1) return value;
  throw new InvalidArgumentError("It must be an integer of 1 or more.");
}
