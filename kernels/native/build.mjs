// Builds the native addon: with nvcc where there is one, else with the C++ compiler alone, which leaves the
// CPU only. Fails where a kernel spills registers or takes more shared memory than a block may have.
import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values: options } = parseArgs({
  options: {
    nvcc: { type: "string", default: "nvcc" },
    prebuild: { type: "boolean", default: false },
    "without-cuda": { type: "boolean", default: false },
    emulated: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
if (options.help) {
  console.log(`npm run build:native -- [options]

  --nvcc <path>     CUDA compiler (default: nvcc on the PATH)
  --without-cuda    CPU only
  --emulated        beside it, for tests: the CUDA kernels, thread by thread on the processor, and what stands in for cuBLASLt
  --prebuild        write to prebuilds/, which goes into the package, instead of build/native/`);
  process.exit(0);
}

/** Bytes of static shared memory that a block may have on every card. */
const MOST_SHARED = 48 * 1024;
const ARCHITECTURES = ["compute_80,code=sm_80", "compute_90,code=[sm_90,compute_90]"];

const root = fileURLToPath(new URL("../..", import.meta.url));
const addon = fileURLToPath(new URL("addon", import.meta.url));
const folder = resolve(root, options.prebuild ? "prebuilds" : "build/native", `${process.platform}-${process.arch}`);
const file = resolve(folder, "cellbatch.node");
const emulatedFile = resolve(folder, "cellbatch-emulated.node");
const emulatedLibrary = resolve(folder, "libcublasLt-emulated.so");
// Next to the program that runs this, as Node's own releases have them.
const headers = resolve(process.execPath, "../../include/node");
const common = [`-I${headers}`, "-std=c++17", "-O3", "-shared", "-DNODE_GYP_MODULE_NAME=cellbatch"];
const sources = ["addon.cc", "cpu.cc", "cpu-256.cc", "cpu-512.cc", "reference.cc", "program-js.cc", "spec-js.cc",
  "engine/commands.cc", "engine/engine-js.cc", "engine/sampling.cc", "engine/stepper.cc", "engine/submissions.cc"].map((name) => resolve(addon, name));

mkdirSync(folder, { recursive: true });
const hasCuda = !options["without-cuda"] && run(options.nvcc, ["--version"]).status === 0;
if (hasCuda) {
  const report = compile(options.nvcc, [
    ...common,
    ...["-o", file],
    ...ARCHITECTURES.flatMap((architecture) => ["-gencode", `arch=${architecture}`]),
    ...["-Xptxas", "-v", "-Xcompiler", "-fPIC,-fvisibility=hidden", "-cudart", "static"],
    ...sources,
    resolve(addon, "cuda/device.cu"),
  ]);
  checkKernels(report);
} else {
  console.log(`Without CUDA: ${options["without-cuda"] ? "asked for" : `there is no ${options.nvcc}`}.`);
  compile("c++", [...common, "-o", file, "-fPIC", "-fvisibility=hidden", ...sources, resolve(addon, "no-cuda.cc")]);
}
console.log(`Built ${file}`);
if (options.emulated) {
  const emulator = resolve(addon, "emulator");
  compile("c++", [
    ...[...common, "-O2", "-o", emulatedFile, "-fPIC", "-fvisibility=hidden", `-I${emulator}`, ...sources],
    ...[resolve(emulator, "emulator.cc"), "-x", "c++", resolve(addon, "cuda/device.cu")],
  ]);
  console.log(`Built ${emulatedFile}`);
  compile("c++", [
    ...["-std=c++17", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", `-I${emulator}`],
    ...["-o", emulatedLibrary, resolve(emulator, "cublas-lt.cc")],
  ]);
  console.log(`Built ${emulatedLibrary}`);
}

function run(command, args) {
  return spawnSync(command, args, { encoding: "utf8" });
}

function compile(command, args) {
  const { status, stdout = "", stderr = "", error } = run(command, args);
  if (status === 0) return stdout + stderr;
  fail(error ? `${command} cannot be run: ${error.message}` : `${stdout}${stderr}${command} failed.`);
}

/** Reads what ptxas says of each kernel. */
function checkKernels(report) {
  const spills = [...report.matchAll(/(\d+) bytes spill stores, (\d+) bytes spill loads/g)];
  const shared = [...report.matchAll(/(\d+) bytes smem/g)].map(([, bytes]) => Number(bytes));
  if (spills.length === 0) fail("nvcc said nothing of registers: is -Xptxas -v understood?");
  const spilled = spills.filter(([, stores, loads]) => stores !== "0" || loads !== "0").length;
  if (spilled > 0) fail(`${spilled} kernels spill registers:\n${report}`);
  const most = Math.max(0, ...shared);
  if (most > MOST_SHARED) fail(`a kernel takes ${most} bytes of shared memory, a block may have ${MOST_SHARED}`);
  console.log(`${spills.length} kernels, no spills, at most ${most} bytes of shared memory.`);
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
