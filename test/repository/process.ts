import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";

const main = fileURLToPath(new URL("../../dist/src/cli/main.js", import.meta.url));

export interface Served {
  readonly port: number;
  readonly grpcPort: number | undefined;
  readonly errors: () => string;
  readonly stop: (signal?: NodeJS.Signals) => void;
  readonly ended: Promise<number | null>;
}

/** `cellbatch serve` in a process of its own, which is killed after the test. */
export async function serve(...args: string[]): Promise<Served> {
  const child = spawn(process.execPath, [main, "serve", "--port", "0", "--engines", "1", ...args]);
  onTestFinished(() => void child.kill("SIGKILL"));
  let text = "";
  let errors = "";
  child.stderr.on("data", (chunk: Buffer) => {
    errors += chunk;
  });
  const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
  const found = await new Promise<RegExpExecArray>((resolve, reject) => {
    child.stdout.on("data", (chunk: Buffer) => {
      text += chunk;
      const address = /on 127\.0\.0\.1:(\d+)(?: and gRPC on port (\d+))?,/.exec(text);
      if (address) resolve(address);
    });
    child.once("exit", () => reject(new Error(text + errors)));
  });
  return {
    port: Number(found[1]),
    grpcPort: found[2] === undefined ? undefined : Number(found[2]),
    errors: () => errors,
    stop: (signal = "SIGTERM") => void child.kill(signal),
    ended,
  };
}
