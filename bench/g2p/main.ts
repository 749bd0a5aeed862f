import { dictionary } from "cmu-pronouncing-dictionary";
import { Command, InvalidArgumentError } from "commander";
import { WebSocket } from "ws";

const {
  url,
  words: most,
  inFlight,
} = new Command("g2p-quality")
  .description(
    "Phoneme error rate of g2p on the held-out words of the CMU dictionary, through a running server.",
  )
  .option("--url <address>", "the server", "ws://127.0.0.1:8080/v1/stream")
  .option(
    "--words <count>",
    "how many of the held-out words; all by default",
    integer,
    Number.POSITIVE_INFINITY,
  )
  .option("--in-flight <count>", "requests at a time", integer, 512)
  .parse()
  .opts<{ url: string; words: number; inFlight: number }>();

/** Pronunciations by word, without stress. */
const held = new Map<string, string[][]>();
for (const [entry, phonemes] of Object.entries(dictionary)) {
  const word = entry.replace(/\(\d+\)$/, "").toLowerCase();
  if (!/^[a-z']+$/.test(word) || fnv1a(word) % 10 !== 0) continue;
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
const seconds = (performance.now() - started) / 1000;
process.stdout.write(
  `${words.length} held-out words: phoneme error rate ${((100 * errors) / phonemes).toFixed(2)} %, ` +
    `word error rate ${((100 * wrong) / words.length).toFixed(2)} %, in ${seconds.toFixed(1)} s\n`,
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
          parameters: { stream: false },
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

/** FNV-1a, 32 bits: the split of the words, as models/g2p/pronunciations.py makes it. */
function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash;
}

function integer(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1) return value;
  throw new InvalidArgumentError("It must be an integer of 1 or more.");
}
