import { Tensor } from "onnxruntime-node";
import type { RowArrays, RowPart } from "../device-rows.ts";
import { FLOAT, GraphBuilder, INT32 } from "./graph.ts";
import { loadSession, type Session, type SessionOptions, type Tensors } from "./session.ts";

/**
 * Arrays of rows as tensors, those that a session gave in buffers of WebGPU and those from the host in its memory until a session
 * takes them. ONNX Runtime has no call that picks rows of a buffer or reads it, so each is a graph of one or two nodes.
 */
export class WebGpuRows implements RowArrays<Tensor> {
  readonly #sessions: Sessions;
  /** What `pick` made within the innermost `tidy`. */
  #made: Tensor[] = [];
  /** The buffer that was read last, for rows are read one after the other. */
  #read: { readonly from: Tensor; readonly values: Float32Array } | undefined;

  private constructor(sessions: Sessions) {
    this.#sessions = sessions;
  }

  static async load(options: SessionOptions): Promise<WebGpuRows> {
    const onDevice = { ...options, onDevice: ["rows"] };
    return new WebGpuRows({
      take: await loadSession(GRAPHS.take(), onDevice),
      join: await loadSession(GRAPHS.join(), onDevice),
      read: await loadSession(GRAPHS.read(), options),
    });
  }

  /** One call for each buffer after the first, and one for all rows from the host. */
  pick(parts: readonly RowPart<Tensor>[], size: number): Tensor {
    const pieces = parts.filter(isOnDevice);
    const others = parts.filter((part) => !isOnDevice(part));
    if (pieces.length === 0) return fromHost(others, size).values;
    if (others.length > 0) pieces.push(fromHost(others, size));
    const [first, ...rest] = pieces as [Piece, ...Piece[]];
    if (rest.length === 0) return this.#make("take", { first: first.values, places: places(first.from) });
    return rest.reduce((before, piece) => {
      const { from, to } = after(before, piece);
      const feeds = { first: before.values, second: piece.values, places: places(from) };
      return { values: this.#make("join", feeds), from: Int32Array.from(from.keys()), to };
    }, first).values;
  }

  upload(values: Float32Array): Tensor {
    return new Tensor("float32", values.slice(), [1, values.length]);
  }

  row(values: Tensor, row: number, size: number): Float32Array {
    return this.#valuesOf(values).subarray(row * size, (row + 1) * size);
  }

  tidy<R>(work: () => R): R {
    const outer = this.#made;
    this.#made = [];
    try {
      const result = work();
      this.#made = this.#made.filter((tensor) => tensor !== result);
      return result;
    } finally {
      for (const tensor of this.#made) this.dispose(tensor);
      this.#made = outer;
    }
  }

  dispose(values: Tensor): void {
    if (this.#read?.from === values) this.#read = undefined;
    values.dispose();
  }

  async close(): Promise<void> {
    for (const session of Object.values(this.#sessions)) await session.dispose();
  }

  #make(graph: "take" | "join", feeds: Tensors): Tensor {
    const { rows } = this.#sessions[graph].infer(feeds, ["rows"]) as Tensors;
    this.#made.push(rows!);
    return rows!;
  }

  #valuesOf(from: Tensor): Float32Array {
    if (from.location !== "gpu-buffer") return from.data as Float32Array;
    if (this.#read?.from !== from) {
      const { rows } = this.#sessions.read.infer({ first: from }, ["rows"]) as Tensors;
      this.#read = { from, values: rows!.data as Float32Array };
    }
    return this.#read.values;
  }
}

type Sessions = Readonly<Record<keyof typeof GRAPHS, Session>>;

const GRAPHS = {
  take: () => rowGraph(["first", "places"], (b) => b.node("Gather", ["first", "places"], {}, "rows")),
  join: () =>
    rowGraph(["first", "second", "places"], (b) => {
      const both = b.node("Concat", ["first", "second"], { axis: 0 });
      b.node("Gather", [both, "places"], {}, "rows");
    }),
  read: () => rowGraph(["first"], (b) => b.node("Identity", ["first"], {}, "rows")),
};

function rowGraph(inputs: readonly string[], build: (b: GraphBuilder) => void): Uint8Array {
  const b = new GraphBuilder();
  for (const name of inputs) {
    if (name === "places") b.input(name, INT32, ["rows"]);
    else b.input(name, FLOAT, [name, "size"]);
  }
  build(b);
  b.output("rows", FLOAT, ["rows", "size"]);
  return b.encode();
}

type Piece = RowPart<Tensor> & { readonly values: Tensor };

function isOnDevice(part: RowPart<Tensor>): part is Piece {
  return part.values?.location === "gpu-buffer";
}

/** Rows that are in host memory, or zero, as one array that has them alone. */
function fromHost(parts: readonly RowPart<Tensor>[], size: number): Piece {
  const wanted = parts.flatMap((part) =>
    placesOf(part, 0).map((place) => ({ ...place, values: part.values })),
  );
  wanted.sort((a, b) => a.to - b.to);
  const rows = new Float32Array(wanted.length * size);
  wanted.forEach(({ values, from }, i) => {
    if (values) rows.set((values.data as Float32Array).subarray(from * size, (from + 1) * size), i * size);
  });
  return {
    values: new Tensor("float32", rows, [wanted.length, size]),
    from: Int32Array.from(wanted.keys()),
    to: Int32Array.from(wanted, ({ to }) => to),
  };
}

/** Where the rows of two arrays are once one follows the other, in the order of where they go. */
function after(first: Piece, second: Piece): Pick<Piece, "from" | "to"> {
  const all = [...placesOf(first, 0), ...placesOf(second, first.values.dims[0]!)];
  all.sort((a, b) => a.to - b.to);
  return { from: Int32Array.from(all, ({ from }) => from), to: Int32Array.from(all, ({ to }) => to) };
}

function placesOf({ from, to }: RowPart<Tensor>, before: number): { from: number; to: number }[] {
  return Array.from(to, (row, i) => ({ from: before + from[i]!, to: row }));
}

function places(rows: Int32Array): Tensor {
  return new Tensor("int32", rows, [rows.length]);
}
