import onnxProto from "onnx-proto";
import type { Attribute } from "./expression.ts";

type Proto = onnxProto.onnx.IAttributeProto;
const { AttributeType } = onnxProto.onnx.AttributeProto;

/** The attributes of one node, with the values that the ONNX specification gives where they are absent. */
export class Attributes {
  readonly #byName: ReadonlyMap<string, Proto>;

  constructor(attributes: readonly Proto[]) {
    this.#byName = new Map(attributes.map((attribute) => [attribute.name ?? "", attribute]));
  }

  has(name: string): boolean {
    return this.#byName.has(name);
  }

  get(name: string): Proto | undefined {
    return this.#byName.get(name);
  }

  int(name: string, absent: number): number {
    const value = this.#byName.get(name)?.i;
    return value === undefined || value === null ? absent : Number(value);
  }

  float(name: string, absent: number): number {
    return this.#byName.get(name)?.f ?? absent;
  }

  text(name: string, absent: string): string {
    const value = this.#byName.get(name)?.s;
    return value?.length ? new TextDecoder().decode(value) : absent;
  }

  ints(name: string): number[] | undefined {
    return this.#byName.has(name) ? (this.#byName.get(name)!.ints ?? []).map(Number) : undefined;
  }

  floats(name: string): number[] {
    return [...(this.#byName.get(name)?.floats ?? [])];
  }

  texts(name: string): string[] {
    return (this.#byName.get(name)?.strings ?? []).map((value) => new TextDecoder().decode(value));
  }

  /** Those that are numbers, lists of whole numbers or text, as they stand. */
  plain(): Record<string, Attribute> {
    const all: Record<string, Attribute> = {};
    for (const [name, { type, i, f, s, ints }] of this.#byName) {
      if (type === AttributeType.INT) all[name] = Number(i ?? 0);
      if (type === AttributeType.FLOAT) all[name] = { float: f ?? 0 };
      if (type === AttributeType.STRING) all[name] = new TextDecoder().decode(s ?? new Uint8Array(0));
      if (type === AttributeType.INTS) all[name] = (ints ?? []).map(Number);
    }
    return all;
  }
}
