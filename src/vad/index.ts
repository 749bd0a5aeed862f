export { Fault, type FaultCode } from "../core/faults.ts";
export { createVad, type StreamSettings, type Vad, type VadSettings } from "./create.ts";
export type * from "./events.ts";
export type { Rate } from "./model.ts";
export type { Samples } from "./samples.ts";
export type { SpeechSettings } from "./settings.ts";
export type { VadStream } from "./stream.ts";
