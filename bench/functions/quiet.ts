import { cpus } from "node:os";

/** Says how many cores others used since it was asked last, so that rounds which others disturbed can be left out. */
export function othersOnThisMachine(): () => number {
  const seen = () => {
    const times = cpus().map((core) => core.times);
    const idleMs = times.reduce((sum, { idle }) => sum + idle, 0);
    const allMs = times.reduce(
      (sum, { idle, user, sys, nice, irq }) => sum + idle + user + sys + nice + irq,
      0,
    );
    const { user, system } = process.cpuUsage();
    return { atMs: performance.now(), othersMs: allMs - idleMs - (user + system) / 1000 };
  };
  let last = seen();
  return () => {
    const now = seen();
    const cores = (now.othersMs - last.othersMs) / (now.atMs - last.atMs);
    last = now;
    return Math.max(0, cores);
  };
}
