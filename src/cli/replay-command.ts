import { createReadStream } from "node:fs";
import { writeFile } from "node:fs/promises";
import { Command, Option } from "commander";
import { policies } from "../../scheduler/policy.ts";
import { Fault } from "../core/faults.ts";
import type { Reproduced } from "../replay/reproduce.ts";
import type { WhatIf } from "../replay/virtual-server.ts";
import { integerList } from "./integers.ts";
import { positive } from "./numbers.ts";
import type { Column } from "./replay-report.ts";
import { table } from "./table.ts";

interface ReplayOptions extends WhatIf {
  readonly json: boolean;
  readonly html?: string;
}

/** `cellbatch replay`. */
export function replayCommand(): Command {
  return new Command("replay")
    .description(
      "make every batch of a recording again and compare, exit status 1 where one differs; then say what would have been with other settings",
    )
    .argument("<file>", "recording, by 'cellbatch serve --record'")
    .option("--max-batch <rows>", "what if this were the most rows of a task or batch", one(65_536))
    .addOption(
      new Option("--policy <name>", "what if the next cell type were chosen so").choices(
        Object.keys(policies),
      ),
    )
    .option("--engines <count>", "what if there were so many engines", one(1024))
    .option("--speed <times>", "what if requests came so many times as fast", positive)
    .option("--json", "print as JSON", false)
    .option("--html <file>", "page with the plots to write")
    .addHelpText(
      "after",
      "\nWhat-if runs in virtual time: each batch takes as long as recorded ones of its size. Latencies are of the engine, without sockets; sessions count as work and have none.",
    )
    .action(replay);
}

async function replay(file: string, { json, html, ...whatIf }: ReplayOptions): Promise<void> {
  // Loaded here, since the other commands need none of it and should not wait.
  const { reproduce } = await import("../replay/reproduce.ts");
  const { columnsOf, replayPage, rowsOf } = await import("./replay-report.ts");
  const reproduced = await reproduce(textOf(file)).catch((cause: unknown) => {
    const { code, message } = Fault.from(cause);
    throw new Fault(code, `${file}: ${message}`, { cause });
  });
  const { sessions, ...result } = reproduced;
  // What came behind a difference was not read.
  const columns = result.difference ? [] : columnsOf(sessions, whatIf);
  const rows = columns.length === 0 ? [] : rowsOf(columns);
  process.stdout.write(
    json
      ? `${JSON.stringify({ ...result, ...figuresOf(columns) })}\n`
      : `${verdictOf(reproduced)}${table(rows)}`,
  );
  if (html !== undefined && columns.length > 0)
    await writeFile(html, await replayPage(file, verdictOf(reproduced), columns));
  if (result.difference) process.exitCode = 1;
}

function figuresOf(columns: readonly Column[]) {
  return { figures: columns.map(({ name, tally }) => ({ name, ...tally.figures() })) };
}

async function* textOf(file: string): AsyncGenerator<string> {
  try {
    yield* createReadStream(file, { encoding: "utf8", highWaterMark: PIECE_BYTES });
  } catch (cause) {
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

function one(most: number): (text: string) => number {
  return (text) => integerList(1, most)(text)[0]!;
}
