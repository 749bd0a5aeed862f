import { InvalidArgumentError } from "commander";

/** Parses integers that are separated by commas. */
export function integerList(least: number, most: number): (text: string) => number[] {
  return (text) =>
    text.split(",").map((part) => {
      const value = Number(part);
      if (part.trim() !== "" && Number.isInteger(value) && value >= least && value <= most) return value;
      throw new InvalidArgumentError(`'${part}' is no integer from ${least} to ${most}.`);
    });
}
