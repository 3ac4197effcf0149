/** Ends the reading of one message with the reason. It carries no stack and never leaves this folder. */
export class Misfit {
  readonly reason: string;
  constructor(reason: string) {
    this.reason = reason;
  }
}
