import type { ModelDefinition } from "../../models/definition.ts";
import { Fault } from "../core/faults.ts";
import type { CellInfo, ModelSource, NumberedSource } from "../engine/load.ts";
import type { ServedModel } from "./served-model.ts";
import type { BufferChange, ModelInfo } from "./types.ts";
import { inputSpecs, outputSpecs } from "./values.ts";

/** One version of a model, from the beginning of its load until nothing of it is left. */
export interface Version extends NumberedSource {
  readonly served: ServedModel;
  state: "loading" | "ready" | "unloading";
  /** Requests and sessions that are with it. */
  active: number;
  /** Called when the last one ends, while somebody waits for that. */
  onIdle: (() => void) | undefined;
  /** Those that were set, for engines that are started again. */
  buffers?: BufferChange;
}

/** All versions of all models of a runtime, and which of them new requests get. */
export class Versions {
  /** Those that requests may name, newest first within a model. */
  infos: readonly ModelInfo[] = [];
  readonly #all = new Map<number, Version>();
  readonly #cells = new Map<number, readonly CellInfo[]>();
  /** By name, newest first. */
  readonly #ready = new Map<string, readonly Version[]>();

  [Symbol.iterator](): Iterator<Version> {
    return this.#all.values();
  }

  /** All that an engine which starts has to load. */
  get wanted(): readonly NumberedSource[] {
    return [...this.#all.values()].map(({ number, source }) => ({ number, source }));
  }

  /** The version of that number, until it is removed. */
  numbered(number: number): Version | undefined {
    return this.#all.get(number);
  }

  /** A version that is about to be loaded, with a number that no other has. */
  add(source: ModelSource, served: ServedModel): Version {
    let number = 0;
    while (this.#all.has(number)) number++;
    const version: Version = {
      number,
      source: withoutTexts(source),
      served,
      state: "loading",
      active: 0,
      onIdle: undefined,
    };
    this.#all.set(number, version);
    return version;
  }

  /** Gives new requests a version; answers the one of the same name and version that they got before. */
  announce(version: Version, cells: readonly CellInfo[]): Version | undefined {
    const { name, version: text } = version.served.definition;
    const others = this.#ready.get(name) ?? [];
    const replaced = others.find(({ served: { definition } }) => definition.version === text);
    version.state = "ready";
    this.#cells.set(version.number, cells);
    const ready = [...others.filter((one) => one !== replaced), version];
    this.#ready.set(
      name,
      ready.sort((a, b) => compareVersions(b.served.definition.version, a.served.definition.version)),
    );
    if (replaced) replaced.state = "unloading";
    this.#list();
    return replaced;
  }

  /** Keeps new requests from a version. */
  withdraw(version: Version): void {
    const { name } = version.served.definition;
    version.state = "unloading";
    const left = (this.#ready.get(name) ?? []).filter((one) => one !== version);
    if (left.length > 0) this.#ready.set(name, left);
    else this.#ready.delete(name);
    this.#list();
  }

  /** Forgets a version that no engine has. */
  remove({ number }: Version): void {
    this.#all.delete(number);
    this.#cells.delete(number);
  }

  /** Those that requests may name; all versions of a model, or one. Throws MODEL_NOT_FOUND where there is none. */
  named(name: string, version?: string): readonly Version[] {
    const ready = this.#ready.get(name) ?? [];
    if (version === undefined && ready.length > 0) return ready;
    const found = ready.filter(({ served: { definition } }) => definition.version === version);
    if (found.length > 0) return found;
    throw this.#missing(name, version);
  }

  /** The newest version of a model, or the one that is asked for. Throws MODEL_NOT_FOUND, or MODEL_NOT_READY while it loads. */
  find(name: string, version?: string): Version {
    const ready = this.#ready.get(name);
    const found =
      version === undefined
        ? ready?.[0]
        : ready?.find(({ served: { definition } }) => definition.version === version);
    if (found) return found;
    throw this.#missing(name, version);
  }

  infoOf({ number, served }: Version): ModelInfo {
    return { ...infoOf(served.definition), cells: this.#cells.get(number) ?? [] };
  }

  #list(): void {
    this.infos = [...this.#ready.values()].flatMap((versions) =>
      versions.map((version) => this.infoOf(version)),
    );
  }

  #missing(name: string, version: string | undefined): Fault {
    const isLoading = [...this.#all.values()].some(
      ({ served: { definition }, state }) =>
        state === "loading" &&
        definition.name === name &&
        (version === undefined || definition.version === version),
    );
    if (isLoading) return new Fault("MODEL_NOT_READY", `model '${name}' is being loaded`);
    const ready = this.#ready.get(name);
    if (!ready) {
      const known = [...this.#ready.keys()].join(", ");
      return new Fault("MODEL_NOT_FOUND", `there is no model '${name}'; there are ${known || "none"}`);
    }
    const there = ready.map(({ served: { definition } }) => definition.version).join(", ");
    return new Fault("MODEL_NOT_FOUND", `model '${name}' has no version '${version}'; there are ${there}`);
  }
}

/** What a user needs to know of a model before it is loaded. */
export function infoOf(definition: ModelDefinition): Omit<ModelInfo, "cells"> {
  const { name, version, description, program, example } = definition;
  return {
    name,
    version,
    description,
    program: program.kind,
    streaming: program.kind === "session",
    inputs: inputSpecs(definition),
    outputs: outputSpecs(definition),
    ...(example ? { example } : {}),
  };
}

/** What an engine needs: it knows tensors only, and a vocabulary may take megabytes on every thread. */
function withoutTexts(source: ModelSource): ModelSource {
  if (!("definition" in source)) return source;
  const { text: _, ...definition } = source.definition;
  return { definition };
}

/** Resolves once no request is with a version, or after `ms`. */
export function idle(version: Version, ms: number): Promise<void> {
  return new Promise((resolve) => {
    if (version.active === 0) return resolve();
    const end = () => {
      clearTimeout(timer);
      version.onIdle = undefined;
      resolve();
    };
    const timer = setTimeout(end, ms);
    version.onIdle = end;
  });
}

/** Whether `a` is newer (above 0) or older than `b`: digits count as numbers, so that 10 comes after 9. */
export function compareVersions(a: string, b: string): number {
  return collator.compare(a, b);
}

const collator = new Intl.Collator("en", { numeric: true });
