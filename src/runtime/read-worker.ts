import { parentPort, workerData } from "node:worker_threads";
import { readModel } from "../../models/read-model.ts";
import { Fault } from "../core/faults.ts";
import type { ReadMessage } from "./read.ts";
import { shareWeights } from "./share.ts";

const post = (message: ReadMessage) => parentPort!.postMessage(message);
try {
  post({ definition: shareWeights(await readModel(workerData as string)) });
} catch (error) {
  const { code, message } = Fault.from(error);
  post({ code, message });
}
