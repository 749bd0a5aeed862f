import type onnxProto from "onnx-proto";
import type { RowColumns, RowValue } from "./row-columns.ts";
import type { Constant, decoded } from "./tensors.ts";

/** A node of a graph that is followed for one row, and what its rule may ask. */
export interface Call {
  readonly node: onnxProto.onnx.INodeProto;
  readonly of: ReturnType<typeof decoded>;
  readonly columns: RowColumns;
  /** The value of an input, by its place. */
  readonly value: (input: number) => RowValue;
  readonly named: (name: string) => RowValue;
  /** What is known beforehand of a value. */
  readonly constant: (name: string | undefined) => Constant | undefined;
  /** The numbers of an input that must be known, or those that stand for one that is left out. */
  readonly numbers: (input: number, missing?: readonly number[]) => readonly number[];
}

/** The outputs of a node; undefined where it is not of the kind that the rule knows. */
export type Rule = (call: Call) => readonly RowValue[] | undefined;
