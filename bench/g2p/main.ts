import { dictionary } from "cmu-pronouncing-dictionary";
import { Command, InvalidArgumentError, Option } from "commander";
import { WebSocket } from "ws";
import { fnv1a } from "../fnv1a.ts";

const {
  url,
  words: most,
  inFlight,
  split,
  beamWidth,
} = new Command("g2p-quality")
  .description(
    "Phoneme error rate of g2p on words of the CMU dictionary it was not trained on, through a running server.",
  )
  .option("--url <address>", "the server", "ws://127.0.0.1:8080/v1/stream")
  .option("--words <count>", "how many of the words; all by default", integer, Number.POSITIVE_INFINITY)
  .option("--in-flight <count>", "requests at a time", integer, 512)
  .option("--beam-width <count>", "width of the search; the model's own by default", integer)
  .addOption(
    new Option("--split <name>", "the words that choices were made by, or those that were not looked at")
      .choices(["development", "held-out"])
      .default("held-out"),
  )
  .parse()
  .opts<{ url: string; words: number; inFlight: number; split: Split; beamWidth?: number }>();

type Split = "development" | "held-out";

/** Pronunciations by word, without stress. */
const held = new Map<string, string[][]>();
for (const [entry, phonemes] of Object.entries(dictionary)) {
  const word = entry.replace(/\(\d+\)$/, "").toLowerCase();
  if (!/^[a-z']+$/.test(word) || splitOf(word) !== split) continue;
  const plain = phonemes
    .replace(/#.*/, "")
    .trim()
    .split(/\s+/)
    .map((phoneme) => phoneme.replace(/\d/, ""));
  held.set(word, [...(held.get(word) ?? []), plain]);
}
const words = [...held.keys()].slice(0, most);
const started = performance.now();
const said = await ask(words);
const seconds = (performance.now() - started) / 1000;
let errors = 0;
let phonemes = 0;
let wrong = 0;
for (const word of words) {
  const answer = said.get(word)!.split(" ");
  const [edits, length] = held
    .get(word)!
    .map((reference) => [distance(answer, reference), reference.length] as const)
    .reduce((best, one) => (one[0] / one[1] < best[0] / best[1] ? one : best));
  errors += edits;
  phonemes += length;
  if (edits > 0) wrong++;
}
process.stdout.write(
  `${words.length} ${split} words: phoneme error rate ${((100 * errors) / phonemes).toFixed(2)} %, ` +
    `word error rate ${((100 * wrong) / words.length).toFixed(2)} %, in ${seconds.toFixed(1)} s, ${(words.length / seconds).toFixed(0)} words/s\n`,
);

/** What the server says for every word. */
function ask(questions: readonly string[]): Promise<Map<string, string>> {
  const ws = new WebSocket(url, "cellbatch.v1");
  const answers = new Map<string, string>();
  let next = 0;
  return new Promise((resolve, reject) => {
    const send = () => {
      const text = questions[next];
      if (text === undefined) return;
      next++;
      ws.send(
        JSON.stringify({
          type: "infer",
          id: text,
          model: "g2p",
          inputs: { text },
          parameters: { stream: false, beam_width: beamWidth },
        }),
      );
    };
    ws.once("open", () => {
      for (let i = 0; i < inFlight; i++) send();
    });
    ws.once("error", (error) =>
      reject(new Error(`${url}: ${error.message}; start a server with 'npm start' first`)),
    );
    ws.on("message", (data: Buffer) => {
      const message = JSON.parse(data.toString());
      if (message.type !== "done") return reject(new Error(`${message.id}: ${message.message}`));
      answers.set(message.id, message.outputs.phonemes);
      if (process.stderr.isTTY && answers.size % 1000 === 0)
        process.stderr.write(`\r${answers.size} of ${questions.length}`);
      if (answers.size === questions.length) {
        ws.close();
        resolve(answers);
      } else send();
    });
  });
}

/** Levenshtein's edit distance. */
function distance(a: readonly string[], b: readonly string[]): number {
  let row = b.map((_, i) => i + 1);
  a.forEach((symbol, i) => {
    let diagonal = i;
    let left = i + 1;
    row = row.map((above, j) => {
      const best = Math.min(left + 1, above + 1, diagonal + (symbol === b[j] ? 0 : 1));
      diagonal = above;
      left = best;
      return best;
    });
  });
  return row.at(-1)!;
}

/** As models/g2p/pronunciations.py divides the words; undefined for those that it is trained on. */
function splitOf(word: string): Split | undefined {
  const hash = fnv1a(word);
  if (hash % 10 === 0) return "held-out";
  return hash % 100 === 1 ? "development" : undefined;
}

function integer(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1) return value;
  throw new InvalidArgumentError("It must be an integer of 1 or more.");
}
