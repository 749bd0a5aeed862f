import { writeFileSync } from "node:fs";
import { zooModels } from "../../models/zoo.ts";
import { createRuntime } from "../../src/runtime/create.ts";
import type { WatchedStep } from "../../src/runtime/types.ts";
import { drawLanes, type NamedRequest } from "./draw.ts";

/** Writes the picture of the README: words of different lengths that come one after the other, cell by cell. */
const WORDS = [
  "cellular",
  "batching",
  "serves",
  "as",
  "many",
  "sequences",
  "of",
  "any",
  "length",
  "recurrently",
  "go",
  "on",
];
/** So many words come first; then one with every step. */
const FIRST_WORDS = 4;

const folders = zooModels().folders.filter((folder) => folder.endsWith("g2p"));
// On this thread an engine takes one step per turn of the event loop, so words can come between any two steps.
const runtime = await createRuntime({ models: folders, inline: true });
await runtime.run("g2p", { text: "warm" });

const steps: WatchedStep[] = [];
const answers: Promise<NamedRequest>[] = [];
const { accepted } = runtime.stats();
const ask = (): void => {
  const name = WORDS[answers.length]!;
  const request = accepted + answers.length + 1;
  const answered = runtime.run("g2p", { text: name });
  answers.push(answered.then(({ outputs }) => ({ request, name, answer: outputs.phonemes as string })));
};
const stop = runtime.watch({
  step: (step) => {
    steps.push(step);
    if (answers.length < WORDS.length) ask();
  },
  ended: () => {},
});
for (let i = 0; i < FIRST_WORDS; i++) ask();
for (let i = 0; i < answers.length; i++) await answers[i];
stop();
const named = await Promise.all(answers);
await runtime.close();

const file = process.argv[2] ?? "docs/lanes.svg";
writeFileSync(file, drawLanes(steps, named));
const cells = steps.reduce((sum, one) => sum + one.rows * one.steps, 0);
console.log(`${file}: ${WORDS.length} requests, ${cells} cells in ${steps.length} calls of batched cells`);
