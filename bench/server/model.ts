import { zooModels } from "../../models/zoo.ts";

/** What is measured: Silero VAD, a session that takes 512 samples a step and answers one probability. */
export const MODEL = "silero-vad";
export const INPUT = "input";
export const SAMPLES = 512;

/** Its folder. Throws where its weights are not installed. */
export function modelFolder(): string {
  const { folders, missing } = zooModels();
  const folder = folders.find((one) => one.endsWith(MODEL));
  if (folder) return folder;
  throw new Error(missing.find(({ name }) => name === MODEL)?.reason ?? `the zoo has no '${MODEL}'`);
}

/** One step of input, the same for all, so that nobody waits for a generator of audio. */
export function samples(): Float32Array {
  return Float32Array.from({ length: SAMPLES }, (_, i) => Math.round(2000 * Math.sin(i / 9)) / 32_768);
}
