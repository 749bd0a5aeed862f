import { requestSize } from "../runtime/request-size.ts";
import type { Runtime } from "../runtime/types.ts";

/**
 * A runtime that tells of every request that is submitted to it, before it is accepted or refused. Sessions are not told of,
 * and not what `run` and `stream` of the runtime itself submit: a server uses neither.
 */
export function observed(runtime: Runtime, arrived: (model: string, size: number) => void): Runtime {
  const submit: Runtime["submit"] = (model, inputs, options, listener) => {
    arrived(model, requestSize(inputs));
    return runtime.submit(model, inputs, options, listener);
  };
  return new Proxy(runtime, {
    get(target, key) {
      if (key === "submit") return submit;
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
