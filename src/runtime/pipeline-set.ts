import { Fault } from "../core/faults.ts";
import type { StageModel } from "./pipeline-plan.ts";
import type { ServedPipeline } from "./pipelines.ts";
import type { ModelInfo } from "./types.ts";
import { compareVersions } from "./versions.ts";

/** The pipelines that requests may name. */
export class PipelineSet {
  /** Newest first within a name. */
  #all: readonly ServedPipeline[] = [];

  get infos(): readonly ModelInfo[] {
    return this.#all.map(({ info }) => ({ ...info, cells: [] }));
  }

  has(name: string): boolean {
    return this.#all.some(({ info }) => info.name === name);
  }

  /** Undefined where no pipeline has that name. Throws MODEL_NOT_FOUND where none of them has the version. */
  find(name: string, version?: string): ServedPipeline | undefined {
    return this.named(name, version)[0];
  }

  /** All versions, or one; as `find`. */
  named(name: string, version?: string): readonly ServedPipeline[] {
    const ready = this.#all.filter(({ info }) => info.name === name);
    const found = ready.filter(({ info }) => version === undefined || info.version === version);
    if (ready.length > 0 && found.length === 0) {
      const there = ready.map(({ info }) => info.version).join(", ");
      throw new Fault("MODEL_NOT_FOUND", `model '${name}' has no version '${version}'; there is ${there}`);
    }
    return found;
  }

  /** Gives new requests a pipeline; answers the one of the same name and version that they got before. */
  add(pipeline: ServedPipeline): ServedPipeline | undefined {
    const { name, version } = pipeline.info;
    const replaced = this.#all.find(({ info }) => info.name === name && info.version === version);
    this.#all = [...this.#all.filter((one) => one !== replaced), pipeline].sort((a, b) =>
      compareVersions(b.info.version, a.info.version),
    );
    return replaced;
  }

  remove(pipeline: ServedPipeline): void {
    this.#all = this.#all.filter((one) => one !== pipeline);
  }

  /** Throws INVALID_REQUEST where a pipeline has a stage of a model and would not fit what there is then. */
  checkUsersOf(model: string, models: readonly StageModel[]): void {
    for (const pipeline of this.#all) {
      if (!pipeline.uses(model)) continue;
      const { name } = pipeline.info;
      if (!models.some((one) => one.name === model)) {
        throw new Fault(
          "INVALID_REQUEST",
          `model '${model}' is a stage of pipeline '${name}': unload the pipeline first`,
        );
      }
      try {
        pipeline.checkFit(models);
      } catch (cause) {
        const { message } = cause as Fault;
        throw new Fault("INVALID_REQUEST", `model '${model}' does not fit its pipelines: ${message}`, {
          cause,
        });
      }
    }
  }
}
