import { Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { Fault, faults } from "../../core/faults.ts";

const RETRY_AFTER_MS = 500;

/** What a thrown error says to a gRPC client: the status and the sentence of its fault, and nothing of our insides. */
export function failureOf(
  error: unknown,
  unexpected: (error: unknown) => void,
): Pick<ServiceError, "code" | "details" | "metadata"> {
  const metadata = new Metadata();
  if (!(error instanceof Fault)) {
    unexpected(error);
    return { code: status.INTERNAL, details: "internal error", metadata };
  }
  const { grpc, retry } = faults[error.code];
  if (retry) metadata.set("grpc-retry-pushback-ms", `${Math.ceil(error.retryAfterMs ?? RETRY_AFTER_MS)}`);
  return { code: grpc, details: error.message, metadata };
}
