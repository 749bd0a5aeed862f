// npm run gpu:bundle [-- --onnx]: one archive with all that a machine needs that has a GPU, its driver and Python, but neither Node nor a network.
// What it says at the end is what to run there.
import { cpSync, existsSync, mkdirSync, mkdtempSync, realpathSync, rmSync, statSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values: options } = parseArgs({ options: { onnx: { type: "boolean", default: false } } });
const root = fileURLToPath(new URL("../..", import.meta.url));
const addon = `build/native/${process.platform}-${process.arch}/cellbatch.node`;
if (!existsSync(resolve(root, addon))) fail(`there is no ${addon}: run 'npm run build:native' first, with nvcc`);

const folder = mkdtempSync(join(tmpdir(), "gpu-bundle-"));
const put = (from, to) => cpSync(resolve(root, from), join(folder, to), { recursive: true, dereference: true });
const node = realpathSync(process.execPath);
cpSync(node, join(folder, "bin/node"));
for (const name of ["node_api.h", "node_api_types.h", "js_native_api.h", "js_native_api_types.h"]) {
  cpSync(resolve(dirname(node), "../include/node", name), join(folder, "include/node", name));
}
for (const path of ["dist", "package.json", addon, "bench/gpu/torch_lstm.py", "kernels/native/addon", "kernels/native/build.mjs"]) put(path, path);
for (const name of packagesOf()) {
  const path = `node_modules/${name}`;
  if (name === "onnxruntime-node") putOnnxRuntime(path);
  else if (existsSync(resolve(root, path))) put(path, path);
}
mkdirSync(resolve(root, "build"), { recursive: true });
const file = resolve(root, "build/gpu-bundle.tar.xz");
const { status } = spawnSync("tar", ["-C", folder, "-cJf", file, "."], { stdio: "inherit", env: { ...process.env, XZ_OPT: "-6 -T2" } });
rmSync(folder, { recursive: true });
if (status !== 0) fail("tar failed");
console.log(`Wrote build/gpu-bundle.tar.xz, ${(statSync(file).size / 1e6).toFixed(1)} MB. There:

  mkdir -p .rt && python3 -c "import tarfile; tarfile.open('gpu-bundle.tar.xz').extractall('.rt')" && cd .rt && export PATH=$PWD/bin:$PATH
  node kernels/native/build.mjs      # with nvcc, where the addon in it does not load
  node dist/bench/gpu/main.js --numbers bf16 --python python3`);

/** What the measuring imports, with what that needs; ONNX Runtime only on demand, since its libraries are large. */
function packagesOf() {
  const lock = spawnSync("npm", ["ls", "--omit=dev", "--all", "--parseable"], { cwd: root, encoding: "utf8" }).stdout;
  const paths = lock.split("\n").filter((path) => path.includes("node_modules/"));
  const names = paths.map((path) => path.slice(path.indexOf("node_modules/") + "node_modules/".length));
  return [...new Set(names)].filter((name) => options.onnx || !name.startsWith("onnxruntime"));
}

/** For Linux on x86-64 alone: for all platforms it has some 300 MB. */
function putOnnxRuntime(path) {
  for (const part of ["dist", "lib", "package.json", `bin/napi-v6/${process.platform}/${process.arch}`]) put(`${path}/${part}`, `${path}/${part}`);
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
