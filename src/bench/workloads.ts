import { zooModels } from "../../models/zoo.ts";
import { Fault } from "../core/faults.ts";
import { type Lengths, lengthsText } from "../load/lengths.ts";
import { modelDefinition } from "../runtime/create.ts";
import type { Subject } from "./arm.ts";
import { installedTfjs, isCell, type ModelSubject } from "./model-arm.ts";
import type { SequenceArm, SequenceModel } from "./sequences.ts";
import type { MergedTrees } from "./trees.ts";
import type { WholeBatching } from "./whole-sequence.ts";

/** The same work, done by several arms. */
export interface Workload {
  readonly name: string;
  readonly what: string;
  readonly lengths: Lengths;
  /** What a second of it is counted in. */
  readonly unit: string;
  readonly arms: readonly WorkloadArm[];
  /** Whether latencies are asked for; else rates alone. */
  readonly hasLatency: boolean;
  /** Requests that are always there while the highest rate is measured. */
  readonly inFlight: number;
  /** Arms that are not there, and why. */
  readonly notes: readonly string[];
}

export interface WorkloadArm {
  readonly name: string;
  /** `limit` is measured by its rate of cells alone, and compared with those of the first arm. */
  readonly role: "ours" | "peer" | "limit";
  /** Settings of which the best at the peak is taken. */
  readonly settings: readonly Setting[];
  /** Of the chosen setting, those that differ in what matters below the peak. */
  readonly variants?: (chosen: Setting) => readonly Setting[];
}

export interface Setting {
  readonly subject: Subject;
  readonly words: string;
}

const BUCKET = 10;

/** Whole sequences, padded to the longest of a batch, in buckets of 10 steps. */
function graphArm(subjectOf: (batching: WholeBatching) => Subject): WorkloadArm {
  const setting = (batching: WholeBatching): Setting => ({
    subject: subjectOf(batching),
    words: `batches of up to ${batching.maxBatch}, ${batching.order} bucket first, timeout ${batching.timeoutMs} ms`,
  });
  const all: WholeBatching[] = [64, 256].flatMap((maxBatch) =>
    (["fullest", "round-robin"] as const).map((order) => ({
      maxBatch,
      order,
      timeoutMs: 0,
      bucketWidth: BUCKET,
    })),
  );
  const settings = all.map(setting);
  return {
    name: "graph",
    role: "peer",
    settings,
    // A timeout changes nothing where a backlog waits.
    variants: (chosen) =>
      [0, 5, 20].map((timeoutMs) => setting({ ...all[settings.indexOf(chosen)]!, timeoutMs })),
  };
}

function sequences(name: string, model: SequenceModel, lengths: Lengths): Workload {
  const subject = (arm: SequenceArm): Subject => ({ kind: "sequences", model, arm });
  const inFlight = 3000;
  const only = (words: string, one: Subject) => [{ words, subject: one }];
  return {
    name,
    what: `LSTM h=${model.hidden}, fed with ${model.input === "token" ? "tokens" : "vectors"}, ${lengthsText(lengths)}`,
    lengths,
    unit: "requests",
    inFlight,
    hasLatency: true,
    notes: tfjsNotes(),
    arms: [
      { name: "cellular", role: "ours", settings: only("", subject({ arm: "cellular" })) },
      graphArm((batching) => subject({ arm: "graph", ...batching })),
      {
        name: "one at a time",
        role: "peer",
        settings: only("whole sequences, one by one", subject({ arm: "single" })),
      },
      ...(installedTfjs()
        ? [
            {
              name: "tfjs",
              role: "peer" as const,
              settings: only(`cells on ${installedTfjs()}`, subject({ arm: "tfjs" })),
            },
          ]
        : []),
      {
        name: "limit",
        role: "limit",
        settings: only("the same tasks on the bare kernel", { kind: "replay", model, lengths, inFlight }),
      },
    ],
  };
}

function tfjsNotes(): string[] {
  return installedTfjs() ? [] : ["no arm on TensorFlow.js: it is not installed"];
}

function trees(): Workload {
  const inFlight = 256;
  const arm = (name: string, words: string, peer?: MergedTrees): WorkloadArm => ({
    name,
    role: peer ? "peer" : "ours",
    settings: [{ words, subject: { kind: "trees", hidden: 256, inFlight, ...(peer ? { peer } : {}) } }],
  });
  const merged = (trees: number, kernel: MergedTrees["kernel"]) => ({ merged: trees, kernel });
  return {
    name: "trees256",
    what: "binary tree-LSTM h=256 over random trees of 10 to 40 leaves",
    lengths: { least: 10, most: 40 },
    unit: "trees",
    inFlight,
    hasLatency: false,
    notes: ["the level-by-level arms run on the thread that asks, without a server's costs"],
    arms: [
      arm("cellular", ""),
      arm("merged", "64 waiting trees at a time, level by level, ONNX Runtime", merged(64, "onnx")),
      arm("merged, our kernel", "the same on the kernel that the runtime uses", merged(64, "ours")),
      arm("one at a time", "one tree at a time, level by level, ONNX Runtime", merged(1, "onnx")),
    ],
  };
}

function streams(): Workload {
  const arm = (name: string, role: "ours" | "peer", words: string, subject: Subject): WorkloadArm => ({
    name,
    role,
    settings: [{ words, subject }],
  });
  return {
    name: "silero",
    what: "Silero VAD, streams in real time per core",
    lengths: { fixed: 1 },
    unit: "streams in real time per core",
    inFlight: 1000,
    hasLatency: false,
    notes: [],
    arms: [
      arm("cellular", "ours", "1,000 streams", { kind: "streams", way: "pool", streams: 1000 }),
      arm("shared session", "peer", "one session, 1,000 streams one by one", {
        kind: "streams",
        way: "shared",
        streams: 1000,
      }),
      arm("session each", "peer", "100 streams with a session each", {
        kind: "streams",
        way: "sessions",
        streams: 100,
      }),
    ],
  };
}

const token = (hidden: number): SequenceModel => ({ hidden, input: "token" });
const vector = (hidden: number): SequenceModel => ({ hidden, input: "vector" });

const builtIn: Readonly<Record<string, () => Promise<Workload>>> = {
  "lstm256.token": async () => sequences("lstm256.token", token(256), "wmt"),
  "lstm1024.token": async () => sequences("lstm1024.token", token(1024), "wmt"),
  "lstm256.vector": async () => sequences("lstm256.vector", vector(256), "wmt"),
  "lstm1024.vector": async () => sequences("lstm1024.vector", vector(1024), "wmt"),
  "lstm256.sentences": async () => sequences("lstm256.sentences", token(256), "wordnet"),
  "lstm256.fixed24": async () => sequences("lstm256.fixed24", token(256), { fixed: 24 }),
  g2p: () => modelWorkload({ path: zooModel("g2p") }, { least: 3, most: 12 }),
  trees256: async () => trees(),
  silero: async () => streams(),
};

export const workloadNames: readonly string[] = Object.keys(builtIn);

/** One that is built in. Throws INVALID_REQUEST where its data is not installed. */
export function workload(name: string): Promise<Workload> {
  const make = builtIn[name];
  if (make) return make();
  throw new Fault("INVALID_REQUEST", `there is no workload '${name}', there are ${workloadNames.join(", ")}`);
}

/** A user's model: as cells, one request at a time, the bare kernel, and as whole sequences where that is the same. */
export async function modelWorkload(subject: ModelSubject, lengths: Lengths): Promise<Workload> {
  const definition = await modelDefinition(subject.path);
  const { name, program, cells } = definition;
  const isGraph = program.kind === "graph";
  const inFlight = 1000;
  const arm = (how: Extract<Subject, { kind: "model" }>["arm"]): Subject => ({
    kind: "model",
    model: subject,
    arm: how,
  });
  const only = (words: string, one: Subject) => [{ words, subject: one }];
  const notes: string[] = [];
  const arms: WorkloadArm[] = [
    {
      name: isGraph ? "graph" : "cellular",
      role: "ours",
      settings: only("as it is served", arm({ arm: "cellular" })),
    },
  ];
  if (isCell(definition)) arms.push(graphArm((batching) => arm({ arm: "graph", ...batching })));
  else if (!isGraph)
    notes.push("no arm of whole sequences: the model is not one LSTM or GRU whose last state is the answer");
  arms.push({
    name: "one at a time",
    role: "peer",
    settings: only("the next request once one is answered", arm({ arm: "single" })),
  });
  const hasGivenGraph = cells.some(({ body }) => body.kind === "graph");
  if (installedTfjs() && !hasGivenGraph)
    arms.push({
      name: "tfjs",
      role: "peer",
      settings: only(`cells on ${installedTfjs()}`, arm({ arm: "tfjs" })),
    });
  else notes.push(hasGivenGraph ? "no arm on TensorFlow.js: it takes no ONNX graphs" : tfjsNotes()[0]!);
  if (!isGraph)
    arms.push({
      name: "limit",
      role: "limit",
      settings: only("the same tasks on the bare kernel", {
        kind: "replay",
        model: subject,
        lengths,
        inFlight,
      }),
    });
  const fed = subject.texts ? `${subject.texts.length} given texts` : lengthsText(lengths);
  return {
    name,
    what: `model '${name}' (${program.kind}), ${fed}`,
    lengths,
    unit: "requests",
    inFlight,
    hasLatency: true,
    notes,
    arms,
  };
}

function zooModel(name: string): string {
  const folder = zooModels().folders.find((one) => one.endsWith(name));
  if (folder) return folder;
  throw new Fault("INVALID_REQUEST", `the zoo has no model '${name}' here`);
}
