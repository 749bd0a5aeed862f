import type { FastifyError, FastifyReply } from "fastify";
import { hasZodFastifySchemaValidationErrors } from "fastify-type-provider-zod";
import { Fault, faults } from "../../core/faults.ts";

const RETRY_AFTER_S = "1";

/** What a thrown error says to an HTTP client: `{"error"}` with the status of its fault, and nothing of our insides. */
export function sendFailure(
  error: FastifyError,
  reply: FastifyReply,
  unexpected: (error: unknown) => void,
): FastifyReply {
  const { status, message } = failureOf(error, unexpected);
  if (status === 503) reply.header("retry-after", RETRY_AFTER_S);
  if (status === 501) reply.header("accept-encoding", "gzip, deflate");
  return reply
    .code(status)
    .type("application/json")
    .send(JSON.stringify({ error: message }));
}

function failureOf(
  error: FastifyError,
  unexpected: (error: unknown) => void,
): { readonly status: number; readonly message: string } {
  if (error instanceof Fault) return { status: faults[error.code].http, message: error.message };
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
