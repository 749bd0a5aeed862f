import type { FastifyError, FastifyReply } from "fastify";
import { hasZodFastifySchemaValidationErrors } from "fastify-type-provider-zod";
import { Fault, faults } from "../../core/faults.ts";

const RETRY_AFTER_MS = 1000;

/** What a thrown error says to an HTTP client: `{"error"}` with the status of its fault, and nothing of our insides. */
export function sendFailure(
  error: FastifyError,
  reply: FastifyReply,
  unexpected: (error: unknown) => void,
): FastifyReply {
  const { status, message, retryAfterMs } = failureOf(error, unexpected);
  if (status === 503 || status === 429)
    reply.header("retry-after", Math.ceil((retryAfterMs ?? RETRY_AFTER_MS) / 1000));
  if (status === 401) reply.header("www-authenticate", "Bearer");
  if (status === 501) reply.header("accept-encoding", "gzip, deflate");
  return reply
    .code(status)
    .type("application/json")
    .send(JSON.stringify({ error: message }));
}

function failureOf(
  error: FastifyError,
  unexpected: (error: unknown) => void,
): { readonly status: number; readonly message: string; readonly retryAfterMs?: number | undefined } {
  if (error instanceof Fault) {
    const { code, message, retryAfterMs } = error;
    return { status: faults[code].http, message, retryAfterMs };
  }
  if (hasZodFastifySchemaValidationErrors(error)) return { status: 400, message: validationMessage(error) };
  // Fastify's own refusals: bodies that are too large, malformed URLs and the like.
  const { statusCode = 500 } = error;
  if (statusCode < 500) return { status: statusCode, message: error.message };
  unexpected(error);
  return { status: 500, message: "internal error" };
}

/** Begins as Triton's text does, which clients look for: `Unable to parse 'shape'`. */
function validationMessage({ validation }: Required<Pick<FastifyError, "validation">>): string {
  const { instancePath, message } = validation[0]!;
  const path = instancePath.split("/").filter((part) => part !== "");
  const field = path.findLast((part) => !/^\d+$/.test(part));
  return field === undefined
    ? `Unable to parse the request: ${message}`
    : `Unable to parse '${field}': ${path.join(".")}: ${message}`;
}
