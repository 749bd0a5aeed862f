import { execFile } from "node:child_process";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { beforeAll, describe, expect, it } from "vitest";
import { filesOf, keras, written } from "../import/keras/cases.ts";
import { bytesOf, cases, refused } from "../import/onnx/cases.ts";

const main = fileURLToPath(new URL("../../dist/src/cli/main.js", import.meta.url));
const run = (...args: string[]) => promisify(execFile)(process.execPath, [main, ...args]);
const silero = fileURLToPath(
  new URL("../../node_modules/@ricky0123/vad-web/dist/silero_vad_v5.onnx", import.meta.url),
);
const sileroOptions = ["--shape", "input=512", "--shape", "state=2,128", "--constant", "sr=16000"];

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "cellbatch-cli-"));
  return () => rm(folder, { recursive: true });
});

async function fileOf(one: { readonly name: string; readonly model: string }): Promise<string> {
  const file = join(folder, `${one.name.replaceAll(/\W+/g, "-").toLowerCase()}.onnx`);
  await writeFile(file, bytesOf(one));
  return file;
}

describe("cellbatch import", () => {
  it("writes a folder of a bidirectional graph that 'models' serves, and says what is in it", async () => {
    const out = join(folder, "bidirectional");
    const source = await fileOf(cases.find(({ name }) => name.includes("lstm_bidirectional"))!);
    const { stdout } = await run("import", source, "--out", out, "--name", "both-ways");
    expect(stdout).toMatch(/^both-ways 1: /);
    expect(stdout).toMatch(/program layers: '.*' and '.*' backwards \(concat\)/);
    expect(stdout).toContain("lane cellular: ");
    expect((await run("models", "--model", out)).stdout).toMatch(/^both-ways +layers/);
  });

  it("takes a step graph with what the file leaves open given as options", async () => {
    const out = join(folder, "voice");
    const { stdout } = await run("import", silero, "--out", out, ...sileroOptions, "--context", "input=64");
    expect(stdout).toMatch(/state\[2, 128\]/);
    expect((await run("inspect", out)).stdout).toMatch(/session: '.*'/);
  });

  it("leaves a graph whole that cannot be cut, and names the node", async () => {
    const { stdout } = await run("inspect", await fileOf(refused[0]!));
    expect(stdout).toContain("lane graph: ");
    expect(stdout).toContain(refused[0]!.why);
  });

  it("takes a Keras model as an archive and as TensorFlow.js has it, which is named by its folder", async () => {
    const one = keras.find(({ files }) => "keras" in files && "tfjs2" in files)!;
    const archive = await written(filesOf(one, "keras"));
    const { stdout } = await run("import", archive, "--out", join(folder, "lstm"), "--name", "lstm");
    expect(stdout).toMatch(/^lstm 1: LSTM of 4, imported from Keras/);
    expect(stdout).toMatch(/program chain: 'step', answers the last step/);
    const inputs = join(dirname(archive), "inputs.json");
    await writeFile(inputs, JSON.stringify({ x: [one.inputs[0]] }));
    const { h } = JSON.parse((await run("run", join(folder, "lstm"), "--inputs", inputs)).stdout);
    h.forEach((value: number, at: number) => {
      expect(value).toBeCloseTo(one.outputs[0]![at]!, 5);
    });
    const layersModel = await written(filesOf(one, "tfjs2"));
    const name = basename(dirname(layersModel)).toLowerCase();
    expect((await run("inspect", layersModel)).stdout).toMatch(new RegExp(`^${name} 1: LSTM of 4`));
  });

  it("quantises a model of the zoo, and shows which cells", async () => {
    const { stdout } = await run("import", "char-lm", "--quantize", "int8", "--out", join(folder, "small"));
    expect(stdout).toMatch(/writer +lstm int8 /);
  });

  it("refuses a file of another kind and a folder of other things, and writes nothing", async () => {
    await expect(run("import", main, "--out", join(folder, "none"))).rejects.toThrow(
      /main\.js cannot be imported/,
    );
    const source = await fileOf(cases[0]!);
    await expect(run("import", source, "--out", folder)).rejects.toThrow(/holds other files/);
    expect(await readdir(folder)).not.toContain("none");
    expect(await readdir(folder)).not.toContain("model.json");
  });
});
