/** What `import * as tf` gives of `@tensorflow/tfjs-core` with a backend, or of a package that holds both. */
export type Tfjs = typeof import("@tensorflow/tfjs-core");
