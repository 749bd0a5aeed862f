import type { Tensor } from "../src/client/values.ts";
import { element } from "./dom.ts";

const MOST_VALUES = 64;

/** A tensor in words and numbers: of its last step where it came in several. */
export function describeTensor(name: string, steps: readonly Tensor[]): HTMLElement {
  const { shape, data } = steps.at(-1)!;
  const numbers = Array.from(data as Float32Array, Number);
  const shown = numbers
    .slice(0, MOST_VALUES)
    .map((value) => (Number.isInteger(value) ? `${value}` : value.toPrecision(4)));
  const more = numbers.length > MOST_VALUES ? ` and ${numbers.length - MOST_VALUES} more` : "";
  const of = steps.length > 1 ? `, the last of ${steps.length} steps` : "";
  const range =
    numbers.length > 1
      ? `, from ${Math.min(...numbers).toPrecision(3)} to ${Math.max(...numbers).toPrecision(3)}`
      : "";
  return element(
    "div",
    { className: "tensor" },
    element("p", {}, element("b", {}, name), ` [${shape.join(", ")}]${range}${of}`),
    element("pre", { tabIndex: 0 }, `${shown.join(" ")}${more}`),
  );
}
