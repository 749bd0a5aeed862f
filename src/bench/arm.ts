import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { Fault } from "../core/faults.ts";
import type { Arrivals } from "../load/arrivals.ts";
import type { Lengths } from "../load/lengths.ts";
import type { ModelArm, ModelSubject } from "./model-arm.ts";
import type { SequenceArm, SequenceModel } from "./sequences.ts";
import type { Way } from "./streams.ts";
import type { MergedTrees } from "./trees.ts";

/** What a process of its own serves. */
export type Subject =
  | { readonly kind: "sequences"; readonly model: SequenceModel; readonly arm: SequenceArm }
  | { readonly kind: "model"; readonly model: ModelSubject; readonly arm: ModelArm }
  | {
      readonly kind: "replay";
      readonly model: ModelSubject | SequenceModel;
      readonly lengths: Lengths;
      readonly inFlight: number;
    }
  | { readonly kind: "kernel"; readonly model: SequenceModel; readonly rows: number }
  | {
      readonly kind: "trees";
      readonly hidden: number;
      readonly peer?: MergedTrees;
      readonly inFlight: number;
    }
  | { readonly kind: "streams"; readonly way: Way; readonly streams: number };

/** What is asked of it: its rate with a backlog that does not end, or latencies at a rate. */
export type Question =
  | { readonly ask: "peak"; readonly seconds: number; readonly lengths?: Lengths; readonly inFlight?: number }
  | {
      readonly ask: "latency";
      readonly seconds: number;
      readonly lengths: Lengths;
      readonly rate: number;
      readonly seed: number;
      /** @default Poisson */
      readonly arrivals?: Arrivals;
    };

/** Figures by name; `rate` is what a peak is compared by. */
export type Figures = Readonly<Record<string, number>>;

export interface Answer {
  readonly figures: Figures;
  /** Latencies in milliseconds at `CURVE_SHARES`. */
  readonly curve?: readonly number[];
  /** How often a task had so many rows. */
  readonly batches?: readonly (readonly [rows: number, count: number])[];
  /** Why the figures are those of the generator; see `bottleneckOf`. */
  readonly bottleneck?: string;
}

export type Reply = Answer | { readonly error: string };

/** One arm in a fresh process, which idles between questions. */
export class Arm {
  readonly #child: ChildProcess;
  readonly #subject: Subject;

  constructor(subject: Subject) {
    this.#subject = subject;
    const file = fileURLToPath(new URL("./arm-process.js", import.meta.url));
    this.#child = fork(file, { stdio: ["ignore", "ignore", "inherit", "ipc"], detached: true });
    this.#child.send(subject);
  }

  /** One question at a time. Rejects where the process ends instead, or says that it cannot. */
  ask(question: Question): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const ended = (code: number | null) => {
        const message = `measuring ${JSON.stringify(this.#subject)} ended with ${code ?? "a signal"}`;
        reject(new Fault("INTERNAL", message));
      };
      this.#child.once("exit", ended);
      this.#child.once("message", (reply: Reply) => {
        this.#child.off("exit", ended);
        if ("error" in reply) reject(new Fault("INTERNAL", reply.error));
        else resolve(reply);
      });
      this.#child.send(question);
    });
  }

  close(): void {
    this.#child.kill("SIGKILL");
  }
}
