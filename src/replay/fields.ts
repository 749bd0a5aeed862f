import { Fault } from "../core/faults.ts";

/** A fault that the reader completes with the line. */
export function damaged(why: string): Fault {
  return new Fault("INVALID_REQUEST", why);
}

/** Whole numbers of 0 or more, apart by spaces; at least so many. */
export function integers(text: string, least = 0): number[] {
  const values = numbers(text, least);
  const wrong = values.find((value) => !Number.isSafeInteger(value) || value < 0);
  if (wrong !== undefined) throw damaged(`${wrong} is no whole number of 0 or more`);
  return values;
}

/** Numbers, `-` for infinity; at least so many. */
export function numbers(text: string, least = 0): number[] {
  const values = text === "" ? [] : text.split(" ").map(numberOf);
  if (values.length < least) throw damaged(`it holds ${values.length} numbers, there are to be ${least}`);
  return values;
}

function numberOf(word: string): number {
  if (word === "-") return Number.POSITIVE_INFINITY;
  const value = Number(word);
  if (word === "" || !Number.isFinite(value)) throw damaged(`'${word.slice(0, 40)}' is no number`);
  return value;
}
