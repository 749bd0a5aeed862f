import type { StageRun } from "./stage-run.ts";

/** Something to do with each stage once it was given all steps before `at`. */
export interface Cut {
  readonly at: number;
  readonly act: (stage: StageRun) => void;
  /** The session ended before. */
  readonly abandon: () => void;
}

/** The cuts through a pipeline's session that not every stage has reached. */
export class StageCuts {
  #cuts: { readonly cut: Cut; readonly left: Set<StageRun> }[] = [];

  /** Cuts now, through the stages that have come so far; the others follow. */
  add(cut: Cut, stages: readonly StageRun[]): void {
    this.#cuts.push({ cut, left: new Set(stages) });
    for (const stage of stages) this.reach(stage);
  }

  /** Does what is to be done with a stage where it is now. */
  reach(stage: StageRun): void {
    if (this.#cuts.length === 0 || !stage.isReady) return;
    for (const { cut, left } of this.#cuts) {
      if (stage.next < cut.at || !left.delete(stage)) continue;
      cut.act(stage);
    }
    this.#cuts = this.#cuts.filter(({ left }) => left.size > 0);
  }

  /** No stage goes on. */
  abandon(): void {
    for (const { cut } of this.#cuts) cut.abandon();
  }
}
