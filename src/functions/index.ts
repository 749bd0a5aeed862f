export { batchHandler as functionHandler, type Handler } from "./handler.ts";
export type { Answer, Invocation } from "./payload.ts";
