import { modelDefinition } from "../runtime/create.ts";
import { type Verdict, verifyModel } from "../verify/verify.ts";
import { modelPath } from "./paths.ts";
import { table } from "./table.ts";

export interface VerifyCommandOptions {
  readonly seed: number;
  readonly json: boolean;
}

/** Prints what was found; the exit status is 1 where a row depends on its company. */
export async function verify(model: string, { seed, json }: VerifyCommandOptions): Promise<void> {
  const verdict = await verifyModel(await modelDefinition(modelPath(model)), { seed });
  process.stdout.write(json ? `${JSON.stringify(verdict)}\n` : report(verdict));
  if (!verdict.independent) process.exitCode = 1;
}

function report({ model, tolerance, findings, independent }: Verdict): string {
  const rows = findings.map(({ cell, check, difference, where }) => {
    if (difference === 0) return [cell, check, "bit-exact", ""];
    const within = difference <= tolerance;
    return [cell, check, `${within ? "within" : "DIFFERS by"} ${difference.toExponential(1)}`, where ?? ""];
  });
  const summary = independent
    ? `${model}: a request's answer does not depend on what it is batched with`
    : `${model}: rows depend on each other; do not batch this model, its cells mix rows or keep state of their own`;
  return `${table([["cell", "a row alone and", "result", "largest difference"], ...rows])}\n${summary}\n`;
}
