import { open } from "node:fs/promises";
import { Fault } from "../core/faults.ts";
import { RECORDING, type SessionSettings, TORN } from "../core/recording.ts";

/**
 * Begins a recording, or goes on at the end of one. Throws INVALID_REQUEST where the file cannot be written, or is something
 * else.
 */
export async function beginRecording(path: string, settings: SessionSettings): Promise<void> {
  const refuse = (why: string, cause?: unknown): never => {
    throw new Fault("INVALID_REQUEST", `recording ${path} ${why}`, { cause });
  };
  const file = await open(path, "a+").catch((cause: Error) =>
    refuse(`cannot be written: ${cause.message}`, cause),
  );
  try {
    const { size } = await file.stat();
    const heading = `${RECORDING}\n`;
    const textAt = async (at: number, length: number) =>
      (await file.read(Buffer.alloc(length), 0, length, at)).buffer.toString();
    const first = size === 0 ? heading : await textAt(0, heading.length);
    if (first !== heading)
      refuse(`is there and is none that can go on, it begins with '${first.split("\n")[0]}'`);
    const last = size === 0 ? "" : await textAt(size - 1, 1);
    const before = last === "" ? heading : last === "\n" ? "" : `${TORN}\n`;
    await file
      .appendFile(`${before}session ${JSON.stringify(settings)}\n`)
      .catch((cause: Error) => refuse(`cannot be written: ${cause.message}`, cause));
  } finally {
    await file.close();
  }
}
