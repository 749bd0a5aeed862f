/** What a benchmark promises, checked as it goes: each line says PASS or FAIL. */
export class Claims {
  #failed = 0;

  /** Checks that a value lies within bounds, and prints it with them. */
  check(what: string, value: number, bounds: { readonly atLeast?: number; readonly atMost?: number }): void {
    const { atLeast = Number.NEGATIVE_INFINITY, atMost = Number.POSITIVE_INFINITY } = bounds;
    const passes = value >= atLeast && value <= atMost;
    if (!passes) this.#failed++;
    const wanted = [
      ...(bounds.atLeast === undefined ? [] : [`at least ${bounds.atLeast}`]),
      ...(bounds.atMost === undefined ? [] : [`at most ${bounds.atMost}`]),
    ];
    console.log(
      `${passes ? "PASS" : "FAIL"}  ${what}: ${Number(value.toPrecision(4))}, ${wanted.join(" and ")}`,
    );
  }

  /** Sets the exit status: 1 where something failed. */
  end(): void {
    console.log(this.#failed === 0 ? "\nAll shapes are there." : `\n${this.#failed} shapes are absent.`);
    if (this.#failed > 0) process.exitCode = 1;
  }
}
