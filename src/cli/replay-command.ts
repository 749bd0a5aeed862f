import { createReadStream } from "node:fs";
import { Command } from "commander";
import { Fault } from "../core/faults.ts";
import type { Reproduced } from "../replay/reproduce.ts";

/** `cellbatch replay`. */
export function replayCommand(): Command {
  return new Command("replay")
    .description("make every batch of a recording again and compare; exit status 1 where one differs")
    .argument("<file>", "recording, by 'cellbatch serve --record'")
    .action(replay);
}

async function replay(file: string): Promise<void> {
  // Loaded here, since the other commands need none of it and should not wait.
  const { reproduce } = await import("../replay/reproduce.ts");
  const reproduced = await reproduce(textOf(file)).catch((cause: unknown) => {
    const { code, message } = Fault.from(cause);
    throw new Fault(code, `${file}: ${message}`, { cause });
  });
  process.stdout.write(verdictOf(reproduced));
  if (reproduced.difference) process.exitCode = 1;
}

async function* textOf(file: string): AsyncGenerator<string> {
  try {
    yield* createReadStream(file, { encoding: "utf8", highWaterMark: PIECE_BYTES });
  } catch (cause) {
    if (cause instanceof Fault) throw cause;
    throw new Fault("INVALID_REQUEST", `it cannot be read: ${(cause as Error).message}`, { cause });
  }
}

const PIECE_BYTES = 1 << 20;

function verdictOf({ tasks, batches, torn, difference }: Reproduced): string {
  const ends = torn === 1 ? "1 line was torn" : `${torn} lines were torn`;
  const left = torn === 0 ? "" : `${ends} when a server died, and left out.\n`;
  if (!difference) return `${tasks} tasks, ${batches} batches: every one as recorded.\n${left}`;
  const { line, what } = difference;
  return `${tasks} tasks, ${batches} batches as recorded, then line ${line} differs: ${what}.\n${left}`;
}
