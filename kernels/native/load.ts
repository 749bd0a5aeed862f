import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { Fault } from "../../src/core/faults.ts";

/** The addon in `addon/`. Every function but `status` throws an `Error` where the device fails. */
export interface Native {
  status(): Omit<NativeStatus, "message">;
  /** Microseconds of a barrier between `blocks` blocks of a GPU that exchange nothing, by launches of `times`. */
  barrier(card: number, blocks: number, times: number): number;
  /** `productLibrary` is the version of cuBLASLt where that multiplies many rows, else 0. */
  open(spec: DeviceSpec): {
    readonly handle: Handle;
    readonly places: readonly CellPlaces[];
    readonly productLibrary: number;
  };
  reserve(handle: Handle, slots: number): void;
  run(handle: Handle, cell: number, rows: number, steps: number, reads: Int32Array, writes: Int32Array): void;
  clear(handle: Handle, slot: number): void;
  /** Answers the bytes of what was prepared with slots that change no more. */
  freeze(handle: Handle, first: number, count: number): number;
  /** Both are `[h, c]`, each of `hidden` values. */
  read(handle: Handle, slot: number, into: Float32Array): void;
  write(handle: Handle, slot: number, from: Float32Array): void;
  close(handle: Handle): void;
  openProgram(spec: ProgramSpec): { readonly handle: ProgramHandle; readonly bytes: number };
  /** Arrays of the inputs, then of the outputs, `[rows, width]` each. */
  runProgram(handle: ProgramHandle, rows: number, arrays: readonly Float32Array[]): void;
  closeProgram(handle: ProgramHandle): void;

  /** Calls `wake` once for each submission that `wakes`, in their order, and once more when the device fails. */
  openEngine(spec: EngineSpec, wake: () => void): OpenedEngine;
  /** Copies `count` words, and returns before they are looked at but for what is refused. */
  submitEngine(handle: EngineHandle, words: Int32Array, count: number, steps: number, wakes: boolean): void;
  /** Whether a wake that is to come keeps the process alive. */
  holdEngine(handle: EngineHandle, holds: boolean): void;
  /** Empty where the device did not fail. */
  engineFailure(handle: EngineHandle): string;
  closeEngine(handle: EngineHandle): void;
}

export type ProgramHandle = object & { readonly brand: "program" };

/** See `program.ts`; ports are pairs of column and width, runs five numbers each. */
export interface ProgramSpec {
  readonly columns: number;
  readonly vectorBits: number;
  readonly inputs: Int32Array;
  readonly outputs: Int32Array;
  readonly operations: readonly {
    readonly kind: number;
    readonly runs: Int32Array;
    readonly depth: number;
    readonly width: number;
    readonly weights: Float32Array;
    readonly vector: Float32Array;
  }[];
}

/** A device with a model's weights; kept alive by the buffers that belong to it. */
export type Handle = object & { readonly brand: "device" };

/** Which device computes. */
export interface DeviceChoice {
  /**
   * The processor's vectors; a GPU; or, for tests, plain C++ with float64 sums, or the GPU's kernels thread by thread on the
   * processor, of an addon that `npm run build:native -- --emulated` builds.
   */
  readonly device: "cpu" | "cuda" | "reference" | "emulated";
  /** What a GPU multiplies: with tensor cores but for `fp32`. States and sums are float32 with all of them. @default "fp32" */
  readonly numbers?: Numbers;
  /** Number of the GPU. @default 0 */
  readonly card?: number;
  /**
   * Of a GPU: products that NVIDIA's cuBLASLt takes, where that is there; else, and by default, all are our own. Its sums depend on
   * how many rows there are: a row no longer gets the same bits alone and in company.
   */
  readonly library?: ProductLibrary;
  /** Of the CPU: 512 or 256. @default the widest that there are */
  readonly vectorBits?: 256 | 512;
}

export interface ProductLibrary {
  /** Rows of a product, those of all steps where it multiplies their inputs at once; 1 or more. */
  readonly fromRows: number;
  /** Name or path, looked for as the system does. @default "libcublasLt.so." and the CUDA version of the addon */
  readonly file?: string;
}

export type Numbers = "fp32" | "tf32" | "bf16";

export interface DeviceSpec {
  readonly device: "cpu" | "cuda" | "reference";
  /** Number of the GPU. */
  readonly card: number;
  /** As `Numbers` in `addon/device.h`. */
  readonly numbers: number;
  /** 0 for no library; its file is empty for the usual one. */
  readonly libraryRows: number;
  readonly library: string;
  /** Of the CPU: 512 or 256, 0 for the widest that there are. */
  readonly vectorBits: number;
  readonly hidden: number;
  readonly maxBatch: number;
  readonly cells: readonly NativeCell[];
}

/** As `Room` in `addon/engine/commands.h` has it; `entries` of the ring are a power of two, at least `slots`. */
export interface EngineSpec extends DeviceSpec {
  readonly slots: number;
  readonly rows: number;
  readonly treeSlots: number;
  readonly tokens: number;
  readonly entries: number;
}

export type EngineHandle = object & { readonly brand: "engine" };

/** Memory that the device writes and JavaScript reads; see `addon/engine/board.h`. */
export interface OpenedEngine {
  readonly handle: EngineHandle;
  readonly ring: ArrayBuffer;
  readonly outputs: ArrayBuffer;
  readonly tokens: ArrayBuffer;
}

/** A cell as `addon/device.h` has it; arrays may be empty where the cell has no such thing. */
export interface NativeCell {
  readonly kind: number;
  readonly reads: number;
  readonly writes: boolean;
  /** Values of one row's input, 0 where it is a token; and kinds of tokens, 0 where it is none. */
  readonly input: number;
  readonly symbols: number;
  readonly classes: number;
  readonly table: Float32Array;
  readonly inputWeights: Float32Array;
  readonly bias: Float32Array;
  readonly stateWeights: Float32Array;
  readonly stateBias: Float32Array;
  readonly headWeights: Float32Array;
  readonly headBias: Float32Array;
  readonly givesH: boolean;
  readonly givesC: boolean;
  readonly givesLogits: boolean;
  readonly givesToken: boolean;
}

/** Pinned memory of one cell: `[maxBatch, ...]` each. */
export interface CellPlaces {
  readonly input?: ArrayBuffer;
  readonly h?: ArrayBuffer;
  readonly c?: ArrayBuffer;
  readonly logits?: ArrayBuffer;
  readonly token?: ArrayBuffer;
}

/** Why cells can, or cannot, run on a GPU here. */
export type NativeReason =
  | "ok"
  | "not-built"
  | "no-driver"
  | "driver-too-old"
  | "no-device"
  | "arch-unsupported";

export interface NativeStatus {
  readonly reason: NativeReason;
  /** One sentence that says what to do. */
  readonly message: string;
  /** What CUDA says itself. */
  readonly detail: string;
  /** CUDA versions times 1000, of the driver and of the addon; 0 where there is none. */
  readonly driver: number;
  readonly runtime: number;
  readonly cards: readonly {
    readonly name: string;
    /** Compute capability, 9 for an H100. */
    readonly capability: number;
    readonly processors: number;
    readonly memoryBytes: number;
  }[];
  /** Of the widest vectors of this processor that the CPU device uses, 512 (AVX-512) or 256 (AVX2); 0 where it cannot run. */
  readonly vectorBits: number;
}

/** The addon: the prebuilt file of the package, else the one that `npm run build:native` made. Undefined where neither loads. */
export function loadNative(): Native | undefined {
  return find("cellbatch").native;
}

/** The addon whose GPU is emulated. Undefined where it was not built. */
export function loadEmulated(): Native | undefined {
  return find("cellbatch-emulated").native;
}

/** The library that stands in for cuBLASLt where the GPU is emulated. Undefined where it was not built. */
export function emulatedLibrary(): string | undefined {
  return filesOf("libcublasLt-emulated.so").find(existsSync);
}

/** The addon, for a device that is there; else throws MODEL_NOT_READY with what to do. */
export function nativeFor({ device, vectorBits: wanted }: DeviceChoice): Native {
  if (device === "emulated") {
    const { native, why } = find("cellbatch-emulated");
    if (native) return native;
    throw new Fault("MODEL_NOT_READY", `${why}: run 'npm run build:native -- --emulated'`);
  }
  const native = loadNative();
  const { reason, message, vectorBits } = nativeStatus();
  if (!native || (device === "cuda" && reason !== "ok")) throw new Fault("MODEL_NOT_READY", message);
  if (device === "cpu" && vectorBits < (wanted ?? 1)) {
    throw new Fault(
      "MODEL_NOT_READY",
      `this processor has vectors of ${vectorBits} bits, the native kernel needs ${wanted ?? 256}`,
    );
  }
  return native;
}

/** Never throws. */
export function nativeStatus(): NativeStatus {
  const { native, why } = find("cellbatch");
  const found = native
    ? native.status()
    : { reason: "not-built" as const, detail: why, driver: 0, runtime: 0, cards: [], vectorBits: 0 };
  return { ...found, message: adviceFor(found) };
}

/** One sentence of what holds and what to do about it. */
export function adviceFor({ reason, detail, driver, runtime, cards }: Omit<NativeStatus, "message">): string {
  const version = (number: number) => `${Math.floor(number / 1000)}.${Math.floor((number % 1000) / 10)}`;
  switch (reason) {
    case "ok":
      return `cells can run on ${cards.map(({ name }) => name).join(", ")}`;
    case "not-built":
      return `the CUDA kernel was not built (${detail}): install the CUDA toolkit and run 'npm run build:native'`;
    case "no-driver":
      return "there is no CUDA driver: install NVIDIA's driver, or start the container with its GPUs";
    case "driver-too-old":
      return `the CUDA driver is for ${version(driver)}, the kernel was built for ${version(runtime)}: update the driver, or build with an older toolkit`;
    case "no-device":
      return `the CUDA driver finds no GPU (${detail}): check 'nvidia-smi' and CUDA_VISIBLE_DEVICES`;
    case "arch-unsupported":
      return `the kernel was not built for ${cards.map(({ name, capability }) => `${name} (compute capability ${capability})`).join(", ")}: it needs 8.0 or later`;
  }
}

function find(addon: string): { readonly native?: Native; readonly why: string } {
  let why = `there is no file ${process.platform}-${process.arch}/${addon}.node`;
  for (const file of filesOf(`${addon}.node`)) {
    if (!existsSync(file)) continue;
    try {
      return { native: createRequire(import.meta.url)(file) as Native, why: "" };
    } catch (error) {
      why = `${file} does not load: ${(error as Error).message}`;
    }
  }
  return { why };
}

function filesOf(name: string): string[] {
  const inPlace = `${process.platform}-${process.arch}/${name}`;
  return PLACES.map((place) => fileURLToPath(new URL(`${place}/${inPlace}`, import.meta.url)));
}

/** The choice as the addon has it. */
export function deviceSpec({ device, card = 0, vectorBits, numbers = "fp32", library }: DeviceChoice) {
  return {
    device: device === "emulated" ? "cuda" : device,
    card,
    vectorBits: vectorBits ?? 0,
    numbers: ["fp32", "tf32", "bf16"].indexOf(numbers),
    libraryRows: library?.fromRows ?? 0,
    library: library?.file ?? "",
  } as const;
}

/** From here as source, and as built below `dist`. */
const PLACES = ["../../prebuilds", "../../../prebuilds", "../../build/native", "../../../build/native"];
