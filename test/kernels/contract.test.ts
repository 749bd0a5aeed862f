import { OnnxKernel } from "../../kernels/onnx/onnx.ts";
import { ReferenceKernel } from "../../kernels/reference/reference.ts";
import { SimulatedKernel } from "../../kernels/simulated/simulated.ts";
import { kernelContract, type MakeKernel } from "../contracts/kernel.ts";

kernelContract("onnx", (cells, maxBatch) => OnnxKernel.load(cells, { maxBatch }));
kernelContract(
  "reference",
  async (cells, maxBatch) => new ReferenceKernel(cells, { maxBatch, stepSizes: [1, 2, 4] }),
);
const simulated: MakeKernel = async (cells, maxBatch) => new SimulatedKernel(cells, { maxBatch });
kernelContract("simulated", simulated, { oracle: simulated });
