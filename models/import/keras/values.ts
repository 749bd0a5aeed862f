/** What a layer takes and gives: the values of all steps, `[steps, rows, width]`, or of each row, `[rows, width]`. */
export interface Values {
  readonly at: string;
  readonly width: number;
  readonly hasSteps: boolean;
  /** Whether Keras would have the steps in the other order. */
  readonly isReversed: boolean;
}
