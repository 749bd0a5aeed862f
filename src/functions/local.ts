import { type ChildProcess, fork } from "node:child_process";
import { WHOLE_CPU_MB } from "../../planner/service.ts";
import { Fault, type FaultCode } from "../core/faults.ts";
import type { FromFunction, ToFunction } from "./function-process.ts";
import type { Called, FunctionInvoker } from "./invoker.ts";
import type { Answer, Invocation } from "./payload.ts";

export interface LocalFunctionsOptions {
  /** Folder or module of the model that every function loads. */
  readonly model: string;
  /** Functions that may run at a time; one more call waits for one of them. @default 8 */
  readonly concurrency?: number;
  /** Milliseconds without a call after which a function is ended. @default 60 000 */
  readonly idleMs?: number;
  /** Longest time of a start or a call, in milliseconds; the process is then ended. @default 60 000 */
  readonly timeoutMs?: number;
}

/**
 * Functions as child processes of this machine, to try a plan without a cloud. A function is started for a call that finds none
 * free, loads the model, serves one batch at a time and is kept for the next. Below 1,769 MB it has a share of a CPU that is
 * proportional to its memory, by stopping and continuing its process (SIGSTOP, SIGCONT) within periods of 20 ms while it has a
 * batch, as AWS Lambda's own quota does: it needs no rights and no cgroup, and holds on Linux and macOS. Not on Windows.
 */
export class LocalFunctions implements FunctionInvoker {
  readonly #options: Required<LocalFunctionsOptions>;
  readonly #all = new Set<LocalFunction>();
  readonly #free: LocalFunction[] = [];
  readonly #waiting: (() => void)[] = [];
  #closed = false;

  constructor(options: LocalFunctionsOptions) {
    this.#options = { concurrency: 8, idleMs: 60_000, timeoutMs: 60_000, ...options };
  }

  /** Functions that are up. */
  get size(): number {
    return this.#all.size;
  }

  /** The process ids of the functions that are up. */
  get processes(): readonly number[] {
    return [...this.#all].flatMap(({ pid }) => pid ?? []);
  }

  async invoke(batch: Invocation, memoryMb: number, signal: AbortSignal): Promise<Called> {
    for (;;) {
      signal.throwIfAborted();
      if (this.#closed) throw new Fault("SHUTTING_DOWN", "the functions were closed");
      const free = this.#free.findIndex((one) => one.memoryMb === memoryMb);
      const found = free < 0 ? undefined : this.#free.splice(free, 1)[0]!;
      if (found) return this.#call(found, batch, signal, false);
      // A free function of another memory makes room, as a cloud would have room for both.
      if (this.#all.size >= this.#options.concurrency) this.#free.shift()?.end();
      if (this.#all.size < this.#options.concurrency) break;
      await this.#someoneFree(signal);
    }
    const started = new LocalFunction(this.#options, memoryMb, (one) => this.#forget(one));
    this.#all.add(started);
    await started.ready();
    return this.#call(started, batch, signal, true);
  }

  async #call(one: LocalFunction, batch: Invocation, signal: AbortSignal, isCold: boolean): Promise<Called> {
    const { answer, ms } = await one.call(batch, signal);
    if (this.#all.has(one)) this.#free.push(one);
    this.#waiting.shift()?.();
    return { answer, billedMs: ms, isCold };
  }

  #forget(one: LocalFunction): void {
    this.#all.delete(one);
    const free = this.#free.indexOf(one);
    if (free >= 0) this.#free.splice(free, 1);
    this.#waiting.shift()?.();
  }

  #someoneFree(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const given = () => {
        signal.removeEventListener("abort", gone);
        resolve();
      };
      const gone = () => {
        this.#waiting.splice(this.#waiting.indexOf(given), 1);
        reject(signal.reason);
      };
      signal.addEventListener("abort", gone, { once: true });
      this.#waiting.push(given);
    });
  }

  /** Ends all functions, whatever they do. */
  async close(): Promise<void> {
    this.#closed = true;
    const ends = [...this.#all].map((one) => one.end());
    for (const given of this.#waiting.splice(0)) given();
    await Promise.all(ends);
  }
}

/** One child process. */
class LocalFunction {
  readonly memoryMb: number;
  readonly #timeoutMs: number;
  readonly #idleMs: number;
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  #heard: ((message: FromFunction) => void) | undefined;
  #lost: ((fault: Fault) => void) | undefined;
  #idle: NodeJS.Timeout | undefined;
  #calls = 0;

  constructor(
    options: Required<LocalFunctionsOptions>,
    memoryMb: number,
    ended: (one: LocalFunction) => void,
  ) {
    this.memoryMb = memoryMb;
    this.#timeoutMs = options.timeoutMs;
    this.#idleMs = options.idleMs;
    this.#child = fork(processFile(), { stdio: ["ignore", "ignore", "inherit", "ipc"], execArgv: [] });
    this.#child.on("message", (message: FromFunction) => this.#heard?.(message));
    this.#exited = new Promise((resolve) => {
      this.#child.once("exit", (code, signal) => {
        clearTimeout(this.#idle);
        this.#lost?.(new Fault("INTERNAL", `a function ended with ${signal ?? code} while it had a batch`));
        ended(this);
        resolve();
      });
    });
    this.#child.once("error", (error) => this.#lost?.(Fault.from(error)));
    this.#send({ kind: "load", model: options.model });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Resolves once the model is loaded. The start has a whole CPU, as in AWS Lambda. */
  async ready(): Promise<void> {
    try {
      await this.#message(() => {}, "the start of a function");
    } catch (error) {
      await this.end();
      throw error;
    }
  }

  async call(
    batch: Invocation,
    signal: AbortSignal,
  ): Promise<{ readonly answer: Answer; readonly ms: number }> {
    clearTimeout(this.#idle);
    const number = this.#calls++;
    const abort = () => void this.end();
    signal.addEventListener("abort", abort, { once: true });
    const share = Math.min(1, this.memoryMb / WHOLE_CPU_MB);
    const startMs = performance.now();
    const unthrottle = share < 1 ? throttle(this.#child, share) : () => {};
    try {
      const message = await this.#message(
        () => this.#send({ kind: "batch", number, batch }),
        "a call of a function",
      );
      if (message.kind !== "answer") throw new Fault("INTERNAL", "a function answered out of turn");
      return { answer: message.answer as Answer, ms: performance.now() - startMs };
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    } finally {
      unthrottle();
      signal.removeEventListener("abort", abort);
      this.#idle = setTimeout(() => void this.end(), this.#idleMs);
      this.#idle.unref();
    }
  }

  end(): Promise<void> {
    // A stopped process takes this signal too, and no other.
    this.#child.kill("SIGKILL");
    return this.#exited;
  }

  #send(message: ToFunction): void {
    this.#child.send(message);
  }

  /** The next message; rejects where it is a failure, comes too late, or the process ends. */
  #message(begin: () => void, what: string): Promise<FromFunction> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(new Fault("DEADLINE_EXCEEDED", `${what} took longer than ${this.#timeoutMs} ms`));
        void this.end();
      }, this.#timeoutMs);
      this.#lost = (fault) => {
        clearTimeout(timer);
        reject(fault);
      };
      this.#heard = (message) => {
        clearTimeout(timer);
        if (message.kind === "failed") reject(new Fault(message.code as FaultCode, message.message));
        else resolve(message);
      };
      begin();
    });
  }
}

/** Lets a process run for a share of each period. Answers what gives it the whole CPU again. */
function throttle(child: ChildProcess, share: number): () => void {
  const begun = performance.now();
  let timer: NodeJS.Timeout;
  const phase = () => {
    const into = (performance.now() - begun) % PERIOD_MS;
    const runs = into < share * PERIOD_MS;
    child.kill(runs ? "SIGCONT" : "SIGSTOP");
    timer = setTimeout(phase, (runs ? share * PERIOD_MS : PERIOD_MS) - into);
  };
  timer = setTimeout(phase, share * PERIOD_MS);
  return () => {
    clearTimeout(timer);
    child.kill("SIGCONT");
  };
}

/** As AWS Lambda's quota has it. */
const PERIOD_MS = 20;

/** The built file: beside this one, or in `dist` where this runs from source. */
function processFile(): URL {
  const isSource = import.meta.url.endsWith(".ts");
  return new URL(
    isSource ? "../../dist/src/functions/function-process.js" : "function-process.js",
    import.meta.url,
  );
}
