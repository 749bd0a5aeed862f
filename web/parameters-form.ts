import type { Parameters } from "../src/client/parameters.ts";
import { element, field } from "./dom.ts";

/** Fields of a request's parameters: label, bounds and what stands there at first. */
const FIELDS = [
  { name: "temperature", label: "Temperature", min: 0, max: 100, step: 0.1, hint: "0 takes the likeliest" },
  { name: "topK", label: "Top k", min: 0, max: 2 ** 31 - 1, step: 1, hint: "0 for all" },
  { name: "topP", label: "Top p", min: 0.01, max: 1, step: 0.01, hint: "share of the probability" },
  { name: "seed", label: "Seed", min: 0, max: 2 ** 32 - 1, step: 1, hint: "the same gives the same" },
  { name: "maxSteps", label: "Most steps", min: 1, max: 2 ** 31 - 1, step: 1, hint: "the model's own" },
  { name: "priority", label: "Priority", min: 1, max: 9, step: 1, hint: "1 first, 9 last" },
  { name: "timeoutMs", label: "Time limit, ms", min: 1, max: 2 ** 31 - 1, step: 1, hint: "none" },
] as const;

/** A form of the parameters that are given to requests; fields that are left empty are the server's defaults. */
export function parametersForm(first: Readonly<Record<string, number>>): {
  readonly content: HTMLElement;
  read(): Parameters;
} {
  const inputs = FIELDS.map(({ name, label, hint, ...bounds }) => {
    const value = first[name] === undefined ? "" : String(first[name]);
    return {
      name,
      label,
      hint,
      input: element("input", { id: `parameter-${name}`, type: "number", value, ...boundsOf(bounds) }),
    };
  });
  return {
    content: element(
      "details",
      {},
      element("summary", {}, "Sampling and limits"),
      element(
        "div",
        { className: "grid" },
        ...inputs.map(({ label, input, hint }) => field(label, input, hint)),
      ),
    ),
    read: () => {
      const given = inputs.filter(({ input }) => input.value !== "" && Number.isFinite(input.valueAsNumber));
      return Object.fromEntries(given.map(({ name, input }) => [name, input.valueAsNumber]));
    },
  };
}

function boundsOf({ min, max, step }: { readonly min: number; readonly max: number; readonly step: number }) {
  return { min: String(min), max: String(max), step: String(step) };
}
