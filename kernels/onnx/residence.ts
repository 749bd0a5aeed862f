import type { Tensor } from "onnxruntime-node";
import { DeviceRows } from "../device-rows.ts";
import type { stateLayout } from "../kernel.ts";
import { StateRows } from "../state-rows.ts";
import { DeviceProgram } from "./device-program.ts";
import { HostProgram } from "./host-program.ts";
import type { LoadedCell, Program } from "./program.ts";
import type { WebGpuRows } from "./webgpu-rows.ts";

/** Where states live, and what runs cells on them there. */
export interface Residence {
  /** As the layout. */
  readonly states: readonly SlotRows[];
  /** As the cells. */
  readonly programs: readonly Program[];
  /** Lets go of the states; the programs' sessions are theirs. */
  dispose(): Promise<void>;
}

/** The rows of one state. */
interface SlotRows {
  readonly bytes: number;
  reserve(count: number): void;
  clear(slot: number): void;
  read(slot: number, into: Float32Array, offset: number): void;
  write(slot: number, values: Float32Array): void;
}

type Layout = ReturnType<typeof stateLayout>;

export function residenceOnHost(loaded: readonly LoadedCell[], layout: Layout, maxBatch: number): Residence {
  const states = layout.map(({ size }) => new StateRows(size, loaded.length, maxBatch));
  const programs = loaded.map((one, i) => new HostProgram(one, i, statesOf(one, layout, states)));
  return { states, programs, dispose: async () => {} };
}

export function residenceOnDevice(
  loaded: readonly LoadedCell[],
  layout: Layout,
  device: WebGpuRows,
): Residence {
  const states = layout.map(({ size }) => new DeviceRows<Tensor>(device, size));
  const programs = loaded.map((one) => new DeviceProgram(one, device, statesOf(one, layout, states)));
  const dispose = async () => {
    for (const rows of states) rows.dispose();
    await device.close();
  };
  return { states, programs, dispose };
}

function statesOf<T>({ cell }: LoadedCell, layout: Layout, states: readonly T[]): T[] {
  return cell.states.map((state) => states[layout.findIndex(({ name }) => name === state.name)]!);
}
