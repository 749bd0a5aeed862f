import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    exclude: ["dist/**", "node_modules/**"],
    testTimeout: 20_000,
    // Loading models and measuring their cells takes long on a busy machine.
    hookTimeout: 60_000,
    maxWorkers: 2,
  },
});
