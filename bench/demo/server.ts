import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

/** A `cellbatch serve` of its own process. */
export class ServerProcess {
  readonly port: number;
  readonly #child: ChildProcess;
  #last = { cells: 0, tasks: 0, atMs: performance.now() };

  private constructor(child: ChildProcess, port: number) {
    this.#child = child;
    this.port = port;
  }

  static start(args: readonly string[]): Promise<ServerProcess> {
    const main = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));
    const child = spawn(process.execPath, [main, "serve", "--port", "0", ...args], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    return new Promise((resolve, reject) => {
      let text = "";
      child.stdout.on("data", (chunk: Buffer) => {
        text += chunk.toString();
        const port = /on 127\.0\.0\.1:(\d+)/.exec(text)?.[1];
        if (port) resolve(new ServerProcess(child, Number(port)));
      });
      child.once("exit", (code) => reject(new Error(`the server ended with status ${code}`)));
    });
  }

  /** What happened since the last call. */
  async sample(): Promise<{ active: number; rowsPerTask: number; cellsPerSecond: number }> {
    const text = await (await fetch(`http://127.0.0.1:${this.port}/metrics`)).text();
    const read = (name: string) => Number(new RegExp(`^cellbatch_${name} (\\S+)`, "m").exec(text)?.[1] ?? 0);
    const now = { cells: read("cells_total"), tasks: read("tasks_total"), atMs: performance.now() };
    const last = this.#last;
    this.#last = now;
    return {
      active: read("active"),
      rowsPerTask: (now.cells - last.cells) / Math.max(1, now.tasks - last.tasks),
      cellsPerSecond: ((now.cells - last.cells) * 1000) / (now.atMs - last.atMs),
    };
  }

  stop(): Promise<void> {
    return new Promise((resolve) => {
      this.#child.once("exit", () => resolve());
      this.#child.kill("SIGTERM");
      setTimeout(() => this.#child.kill("SIGKILL"), 5000).unref();
    });
  }
}
