import type { Tensor2D } from "@tensorflow/tfjs-core";
import type { RowArrays } from "../device-rows.ts";
import type { Tfjs } from "./namespace.ts";

/** Arrays of rows as tensors of a tfjs namespace. */
export function tfjsRows(tf: Tfjs): RowArrays<Tensor2D> {
  return {
    pick(parts, size) {
      const order = new Int32Array(parts.reduce((sum, { to }) => sum + to.length, 0));
      let at = 0;
      for (const { to } of parts) for (const row of to) order[row] = at++;
      const pieces = parts.map(({ values, from }): Tensor2D => {
        if (!values) return tf.zeros([from.length, size]);
        const isAll = from.length === values.shape[0] && from.every((row, i) => row === i);
        return isAll ? values : tf.gather(values, tf.tensor1d(from, "int32"));
      });
      if (pieces.length === 1) return pieces[0]!;
      return tf.gather(tf.concat(pieces, 0), tf.tensor1d(order, "int32"));
    },
    upload: (values) => tf.tensor2d(values.slice(), [1, values.length], "float32"),
    row(values, row, size) {
      const one = tf.slice(values, [row, 0], [1, size]);
      const read = one.dataSync() as Float32Array;
      one.dispose();
      return read;
    },
    tidy: (work) => tf.tidy(work),
    dispose: (values) => values.dispose(),
  };
}
