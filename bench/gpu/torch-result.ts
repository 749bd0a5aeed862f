import { z } from "zod";

/** What `torch_lstm.py` prints. */
export const torchResult = z.looseObject({
  device: z.string(),
  torch: z.string(),
  limits: z.object({ copyGBs: z.number(), cacheReadGBs: z.number(), matrixTflops: z.number() }),
  steps: z.array(
    z.object({
      rows: z.number(),
      sequenceUs: z.number(),
      stepUs: z.number(),
      graphUs: z.number().optional(),
      cellGraphUs: z.number().optional(),
    }),
  ),
  buckets: z.looseObject({
    peakPerSecond: z.number(),
    at70: z.object({ rate: z.number(), p50Ms: z.number().nullable(), p99Ms: z.number().nullable() }),
  }),
});
