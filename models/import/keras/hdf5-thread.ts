import { parentPort, workerData } from "node:worker_threads";
import { Fault } from "../../../src/core/faults.ts";
import { type Hdf5Dataset, readDatasets } from "./hdf5.ts";

/** What a thread is given. */
export interface Hdf5Task {
  readonly bytes: Uint8Array;
  readonly groups: readonly string[];
}

/** What it answers. */
export type Hdf5Answer =
  | { readonly kind: "read"; readonly datasets: readonly Hdf5Dataset[] }
  | { readonly kind: "refused"; readonly message: string };

if (parentPort) {
  const { bytes, groups } = workerData as Hdf5Task;
  const answer: Hdf5Answer = await readDatasets(bytes, groups).then(
    (datasets) => ({ kind: "read", datasets }),
    (error: unknown) => ({ kind: "refused", message: Fault.from(error).message }),
  );
  parentPort.postMessage(answer);
}
