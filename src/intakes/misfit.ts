/** Ends the reading of one message with the reason. It carries no stack and never leaves this folder. */
export class Misfit {
  /** For the list, where the message lies beside it. */
  readonly reason: string;
  /** For the log, as the part of a sentence: one of a few texts, with nothing of the message in it. */
  readonly kind: string;
  constructor(reason: string, kind: string) {
    this.reason = reason;
    this.kind = kind;
  }
}
