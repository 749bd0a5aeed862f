import { open, realpath } from "node:fs/promises";
import { dirname, resolve, sep } from "node:path";
import onnxProto from "onnx-proto";
import { refuse } from "./faults.ts";
import { type TensorProto, tensorsOf } from "./file.ts";
import { bytesOf, sizeOf } from "./tensor.ts";

const { DataLocation } = onnxProto.onnx.TensorProto;

/**
 * Reads values that lie in other files into the model (https://onnx.ai/onnx/repo-docs/ExternalData.html). Only files below
 * the model's own folder are read. Answers how many tensors there were; throws INVALID_REQUEST that names the tensor.
 */
export async function readExternalData(model: onnxProto.onnx.IModelProto, file: string): Promise<number> {
  const tensors = tensorsOf(model).filter(({ dataLocation }) => dataLocation === DataLocation.EXTERNAL);
  if (tensors.length === 0) return 0;
  const folder = await realpath(dirname(resolve(file)));
  for (const tensor of tensors) await readOne(tensor, folder);
  return tensors.length;
}

async function readOne(tensor: TensorProto, folder: string): Promise<void> {
  const name = tensor.name ?? "";
  const entries = new Map((tensor.externalData ?? []).map(({ key, value }) => [key ?? "", value ?? ""]));
  const location = entries.get("location") ?? "";
  const path = await pathInside(folder, location, name);
  const handle = await open(path).catch((error: Error) => {
    throw refuse(`the values of tensor '${name}' cannot be read: ${error.message}`);
  });
  try {
    const { size } = await handle.stat();
    const needs = bytesOf(tensor.dataType ?? 0, sizeOf((tensor.dims ?? []).map(Number), name), name);
    const offset = wholeNumber(entries, "offset", 0, name);
    const length = wholeNumber(entries, "length", needs, name);
    if (length !== needs)
      throw refuse(`tensor '${name}' needs ${needs} bytes of '${location}', it names ${length}`);
    if (offset + length > size) {
      throw refuse(
        `tensor '${name}' lies at ${offset} to ${offset + length} of '${location}', which has ${size} bytes`,
      );
    }
    const values = new Uint8Array(length);
    const { bytesRead } = await handle.read(values, 0, length, offset);
    if (bytesRead !== length) throw refuse(`'${location}' ended inside tensor '${name}'`);
    tensor.rawData = values;
    tensor.dataLocation = DataLocation.DEFAULT;
    tensor.externalData = [];
  } finally {
    await handle.close();
  }
}

/** The path of a file in the folder, links followed. */
async function pathInside(folder: string, location: string, name: string): Promise<string> {
  const outside = () => refuse(`tensor '${name}' lies in '${location}', outside the folder of the file`);
  const path = resolve(folder, location);
  if (location === "" || location.includes("\0") || !path.startsWith(folder + sep)) throw outside();
  const real = await realpath(path).catch(() => {
    throw refuse(`the values of tensor '${name}' lie in '${location}', which is not there`);
  });
  if (!real.startsWith(folder + sep)) throw outside();
  return real;
}

function wholeNumber(
  entries: ReadonlyMap<string, string>,
  key: string,
  absent: number,
  name: string,
): number {
  const text = entries.get(key);
  if (text === undefined) return absent;
  const value = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(value)) return value;
  throw refuse(`tensor '${name}' has the ${key} '${text}'`);
}
