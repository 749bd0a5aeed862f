import { createReadStream } from "node:fs";
import { parseTrace, type Trace } from "../../planner/trace.ts";
import { Fault } from "../core/faults.ts";
import { RECORDING, TORN } from "../core/recording.ts";

/** Reads a trace, or the trace in a recording, and says which file is wrong. */
export async function readTrace(file: string, maxGapSeconds = Number.POSITIVE_INFINITY): Promise<Trace> {
  const text = await traceText(file).catch((cause: Error) => {
    throw new Fault("INVALID_REQUEST", `trace ${file} cannot be read: ${cause.message}`, { cause });
  });
  try {
    return parseTrace(text, { maxGapMs: maxGapSeconds * 1000 });
  } catch (cause) {
    throw new Fault("INVALID_REQUEST", `${file}: ${(cause as Error).message}`, { cause });
  }
}

/** All of a trace. Of a recording the arrivals only; other lines are empty, so that all keep their numbers. */
async function traceText(file: string): Promise<string> {
  const kept: string[] = [];
  let isRecording = false;
  let rest = "";
  for await (const chunk of createReadStream(file, "utf8")) {
    const lines = `${rest}${chunk}`.split("\n");
    rest = lines.pop()!;
    for (const line of lines) {
      isRecording ||= kept.length === 0 && line === RECORDING;
      kept.push(!isRecording || isArrival(line) ? line : "");
    }
  }
  // A recording whose last line has no end was torn there.
  if (!isRecording) kept.push(rest);
  return kept.join("\n");
}

function isArrival(line: string): boolean {
  return /^\d/.test(line) && !line.endsWith(TORN);
}
