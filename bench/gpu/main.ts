import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import { type DeviceChoice, type Numbers, nativeFor, nativeStatus } from "../../kernels/native/load.ts";
import { tokenCell } from "../../src/bench/synthetic.ts";
import { lengthsOf, parseLengths } from "../../src/load/lengths.ts";
import { checkNumbers } from "./check.ts";
import { DeviceArm } from "./device-arm.ts";
import { offer } from "./offered.ts";
import type { Setting } from "./setting.ts";
import { stepTime } from "./step-time.ts";
import { torchResult } from "./torch-result.ts";

/** Of a launch, so that the launch itself counts for little. */
const BARRIERS = 2000;

const program = new Command("bench:gpu")
  .description(
    "Measures steps and requests of the device engine, beside torch.nn.LSTM, and writes the results.",
  )
  .addOption(
    new Option("--device <name>", "what computes; 'auto' is a GPU where there is one, else the CPU")
      .choices(["auto", "cuda", "cpu", "reference", "emulated"])
      .default("auto"),
  )
  .addOption(
    new Option("--numbers <kind>", "what tensor cores multiply; other devices than GPUs have fp32")
      .choices(["fp32", "tf32", "bf16"])
      .default("fp32"),
  )
  .option(
    "--library-rows <count>",
    "products of this many rows and more by cuBLASLt; none by default",
    number,
  )
  .option("--hidden <count>", "units of the LSTM", number, 1024)
  .option("--batches <numbers>", "rows whose step is measured", numbers, [1, 16, 64, 256, 512])
  .option("--rows <count>", "rows that run at a time when requests are served", number, 256)
  .option("--steps <count>", "steps of a submission", number, 4)
  .option("--in-flight <count>", "submissions in flight", number, 3)
  .option("--lengths <kind>", "as of 'cellbatch bench'", "wmt")
  .option("--seconds <count>", "of each measurement", number, 3)
  .option("--python <path>", "a Python with PyTorch, for the peer; without it there is none")
  .option("--out <folder>", "where results go", "bench/results")
  .parse();
const options = program.opts<{
  device: "auto" | DeviceChoice["device"];
  numbers: Numbers;
  libraryRows?: number;
  hidden: number;
  batches: number[];
  rows: number;
  steps: number;
  inFlight: number;
  lengths: string;
  seconds: number;
  python?: string;
  out: string;
}>();

const status = nativeStatus();
const device = options.device !== "auto" ? options.device : status.reason === "ok" ? "cuda" : "cpu";
if (device !== "cuda" && device !== "emulated" && options.numbers !== "fp32")
  program.error(`device '${device}' has no '${options.numbers}'`);
const { libraryRows } = options;
if (device !== "cuda" && libraryRows !== undefined) program.error(`device '${device}' has no cuBLASLt`);
const choice: DeviceChoice = {
  device,
  numbers: options.numbers,
  ...(libraryRows === undefined ? {} : { library: { fromRows: libraryRows } }),
};
const isOnGpu = device === "cuda";
const lengths = lengthsOf(parseLengths(options.lengths), 2000, 1);
console.log(`device ${device}, ${options.numbers}, h=${options.hidden}; GPU: ${status.message}`);
if (!isOnGpu) console.log("NOTE: nothing below was measured on a GPU.");

const off = await checkNumbers(choice);
console.log(
  `states after 64 steps are off by ${off.toExponential(1)}${choice.library ? "" : "; rows get the same bits alone and in company"}`,
);

// As many blocks as a step of several in one launch has: one for 8 units.
const blocks = Math.ceil(options.hidden / 8);
const barrierUs = isOnGpu ? nativeFor(choice).barrier(0, blocks, BARRIERS) : null;
if (barrierUs !== null)
  console.log(
    `an empty barrier between ${blocks} blocks: ${barrierUs.toFixed(2)} us, the least that a step takes`,
  );

const steps = [];
for (const rows of options.batches) {
  const found = await stepTime(choice, options.hidden, rows, options.seconds);
  console.log(
    `B=${rows}: ${found.tokensUs.toFixed(1)} us a step with tokens, ${found.vectorsUs.toFixed(1)} us with vectors`,
  );
  steps.push(found);
}

const setting: Setting = {
  choice,
  cell: tokenCell(options.hidden),
  rows: options.rows,
  requests: Array.from(lengths, (length, i) =>
    Int32Array.from({ length }, (_, step) => (i * 37 + step * 11) & 255),
  ),
  k: options.steps,
  depth: options.inFlight,
};
const arm = new DeviceArm(setting);
const saturated = await arm.measure(options.seconds * 1000);
arm.close();
const mean = lengths.reduce((sum, length) => sum + length, 0) / lengths.length;
const peakPerSecond = saturated.cellsPerSecond / mean;
console.log(
  `${options.rows} rows of requests without end: ${peakPerSecond.toFixed(0)} requests/s, ${saturated.stepUs.toFixed(1)} us a step, ` +
    `occupancy ${saturated.occupancy.toFixed(3)}, JavaScript ${(100 * saturated.jsShare!).toFixed(2)} % of wall time`,
);
const own = await offer(setting, 0.7 * peakPerSecond, options.seconds);
say("ours at 70 % of its peak", own.p50Ms, own.p99Ms, own.rate);

const torch = options.python ? measureTorch(options.python) : undefined;
let equal: Awaited<ReturnType<typeof offer>> | undefined;
if (torch) {
  for (const { rows, sequenceUs, stepUs, graphUs } of torch.steps) {
    const graph = graphUs ? `, ${graphUs.toFixed(1)} under a CUDA graph` : "";
    console.log(
      `torch B=${rows}: ${sequenceUs.toFixed(1)} us a step of 64, ${stepUs.toFixed(1)} one by one${graph}`,
    );
  }
  const { peakPerSecond: peak, at70 } = torch.buckets;
  console.log(
    `torch padded and bucketed: ${peak.toFixed(0)} requests/s; ours is ${(peakPerSecond / peak).toFixed(2)} times that`,
  );
  say("torch at 70 % of its peak", at70.p50Ms, at70.p99Ms, at70.rate);
  console.log("(ours reads tokens, whose input products are a table; torch multiplies its inputs)");
  equal = await offer(setting, at70.rate, options.seconds);
  say("ours at the same rate", equal.p50Ms, equal.p99Ms, equal.rate);
}

mkdirSync(options.out, { recursive: true });
const machine = {
  node: process.version,
  cores: availableParallelism(),
  processor: cpus()[0]?.model.trim(),
  cards: status.cards,
  driver: status.driver,
  runtime: status.runtime,
};
const file = join(
  options.out,
  `${isOnGpu ? "gpu" : "no-gpu"}-${device}-${options.numbers}${libraryRows === undefined ? "" : "-library"}.json`,
);
const report = {
  measuredOnGpu: isOnGpu,
  when: new Date().toISOString(),
  machine,
  options,
  off,
  barrierUs,
  steps,
};
writeFileSync(
  file,
  `${JSON.stringify({ ...report, saturated, peakPerSecond, own, torch, equal }, withoutPaths, 2)}\n`,
);
console.log(`Wrote ${file}`);

/** PyTorch in a process of its own, after ours has ended its work. */
function measureTorch(python: string) {
  const folder = mkdtempSync(join(tmpdir(), "bench-gpu-"));
  const list = join(folder, "lengths.json");
  writeFileSync(list, JSON.stringify([...lengths]));
  const { status, stdout, stderr, error } = spawnSync(
    python,
    [
      resolve("bench/gpu/torch_lstm.py"),
      ...["--hidden", String(options.hidden), "--batches", options.batches.join(",")],
      ...["--numbers", options.numbers, "--seconds", String(options.seconds), "--lengths", list],
    ],
    { encoding: "utf8" },
  );
  rmSync(folder, { recursive: true });
  if (status !== 0) program.error(`${python} failed: ${error?.message ?? stderr}`);
  return torchResult.parse(JSON.parse(stdout.trim().split("\n").at(-1)!));
}

function say(what: string, p50: number | null, p99: number | null, rate: number): void {
  console.log(`${what}: ${rate.toFixed(0)} requests/s, p50 ${p50?.toFixed(2)} ms, p99 ${p99?.toFixed(2)} ms`);
}

/** Where Python lies on this machine is nobody's business. */
function withoutPaths(key: string, value: unknown): unknown {
  return key === "python" || key === "out" ? undefined : value;
}

function number(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0) return value;
  throw new InvalidArgumentError("It must be an integer above 0.");
}

function numbers(text: string): number[] {
  return text.split(",").map(number);
}
