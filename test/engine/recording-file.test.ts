import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it, onTestFinished } from "vitest";
import { RecordingFile } from "../../src/engine/recording-file.ts";
import { numbers } from "../../src/replay/fields.ts";

const failed = (error: Error) => {
  throw error;
};
const LETTER = "a".charCodeAt(0);

function fileIn(folder: string, life = 0): RecordingFile {
  return new RecordingFile({ path: join(folder, "recording"), life, failed });
}

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "cellbatch-recording-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}

describe("the end of a recording", () => {
  it("holds whole numbers and doubles exactly, however many", () => {
    const folder = newFolder();
    const file = fileIn(folder);
    const path = join(folder, "recording");
    fc.assert(
      fc.property(
        fc.array(fc.maxSafeNat(), { maxLength: 9000 }),
        fc.array(fc.oneof(fc.double({ noNaN: true, min: 0 }), fc.constant(Number.POSITIVE_INFINITY))),
        (integers, doubles) => {
          file.begin(LETTER);
          for (const value of integers) file.int(value);
          for (const value of doubles) file.double(value);
          file.end();
          file.flush();
          const line = readFileSync(path, "utf8").split("\n").at(-2)!;
          // -0 is written as 0.
          expect(numbers(line.slice(2))).toEqual([...integers, ...doubles].map((value) => value + 0));
        },
      ),
      { numRuns: 50 },
    );
    file.close();
  });

  it("is written in pieces that count, of whole lines, between those of others", () => {
    const folder = newFolder();
    const [one, two] = [fileIn(folder, 3), fileIn(folder, 4)];
    for (const file of [one, two, one]) {
      file.begin(LETTER);
      file.int(7);
      file.end();
      file.flush();
    }
    for (const file of [one, two]) file.close();
    expect(readFileSync(join(folder, "recording"), "utf8")).toBe("@3 0\na 7\n@4 0\na 7\n@3 1\na 7\n");
  });

  it("takes no more than its limit allows with what others wrote, and says so once", () => {
    const path = join(newFolder(), "recording");
    const faults: string[] = [];
    const limit = 26;
    const files = [1, 2].map(
      (life) => new RecordingFile({ path, life, limit, failed: ({ message }) => faults.push(message) }),
    );
    for (let times = 0; times < 3; times++) {
      for (const file of files) {
        file.begin(LETTER);
        file.int(7);
        file.end();
        file.flush();
      }
    }
    expect(readFileSync(path, "utf8")).toBe("@1 0\na 7\n@2 0\na 7\n");
    expect(faults).toEqual(Array(2).fill(`${path} would be larger than its limit of 26 bytes`));
  });

  it.skipIf(!existsSync("/dev/full"))("says once that the disk is full, and takes no more", () => {
    const faults: string[] = [];
    const file = new RecordingFile({
      path: "/dev/full",
      life: 0,
      failed: ({ message }) => faults.push(message),
    });
    for (let times = 0; times < 3; times++) {
      file.begin(LETTER);
      file.end();
      file.flush();
    }
    file.close();
    expect(faults).toEqual([expect.stringContaining("ENOSPC")]);
  });
});
