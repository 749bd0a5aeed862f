import type { ArrivalProcess } from "../../planner/arrival-process.ts";
import { cubicService, type Service } from "../../planner/service.ts";

/** Two hours of BATCH's traces as their authors fitted them, in events per second. */
export const PUBLISHED: Readonly<Record<string, ArrivalProcess>> = {
  "NYS Thruway, hour 8": {
    d0: [
      [-119.59, 0],
      [0, -155.043],
    ],
    d1: [
      [31.902, 87.688],
      [38.799, 116.244],
    ],
  },
  "Twitter, hour 8": {
    d0: [
      [-59.207, 0],
      [0, -91.236],
    ],
    d1: [
      [20.741, 38.466],
      [27.937, 63.299],
    ],
  },
};

/** Requests per second of the NYS Thruway trace, hour by hour. */
export const NYS_DAY = [
  16, 11, 10, 10, 16, 35, 87, 144, 138, 107, 96, 99, 105, 106, 119, 142, 168, 168, 117, 79, 62, 52, 40, 28,
];

/** TensorFlow's Inception-V4 on Lambda, as BATCH fitted it. */
export const inception = cubicService(
  [
    4.98785, 2.21291, -6.30215e-3, 1.22071e-2, -1.07825e-3, 2.93842e-6, -1.3644e-4, -2.38944e-6, 1.68264e-7,
    -4.44822e-10,
  ],
  20,
);

/** A small model: 60 ms and 5 ms a request on one CPU, of which functions below 1,769 MB have a share, and 20 ms of transport. */
export const small: Service = {
  maxRows: 32,
  ms: (rows, _, memoryMb) => 20 + (60 + 5 * rows) * Math.max(1, 1769 / memoryMb),
};
