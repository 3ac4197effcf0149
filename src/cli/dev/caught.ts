/** The newest mails and webhooks that were caught, in memory. */
import { bounds } from "./bounds.js";

export interface Mail {
  readonly id: number;
  readonly at: string;
  readonly from: string;
  readonly to: readonly string[];
  readonly subject: string;
  readonly text: string;
  readonly html: string | null;
  readonly attachments: readonly { readonly name: string; readonly type: string; readonly bytes: number }[];
  /** As it was sent. */
  readonly source: string;
}

export interface Webhook {
  readonly id: number;
  readonly at: string;
  readonly method: string;
  readonly path: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: string;
  readonly bytes: number;
  /** The body is longer than what is kept of it. */
  readonly cut: boolean;
  /** What it was answered. */
  readonly status: number;
}

export class Caught {
  #mails: readonly Mail[] = [];
  #webhooks: readonly Webhook[] = [];
  #ids = 0;
  readonly #watchers = new Set<() => void>();

  /** The newest first. */
  get mails(): readonly Mail[] {
    return this.#mails;
  }

  get webhooks(): readonly Webhook[] {
    return this.#webhooks;
  }

  mail(mail: Omit<Mail, "id" | "at">): Mail {
    const kept = { id: this.#nextId(), at: new Date().toISOString(), ...mail };
    this.#mails = [kept, ...this.#mails].slice(0, bounds.kept);
    this.#tell();
    return kept;
  }

  webhook(webhook: Omit<Webhook, "id" | "at">): Webhook {
    const kept = { id: this.#nextId(), at: new Date().toISOString(), ...webhook };
    this.#webhooks = [kept, ...this.#webhooks].slice(0, bounds.kept);
    this.#tell();
    return kept;
  }

  clear(): void {
    this.#mails = [];
    this.#webhooks = [];
    this.#tell();
  }

  /** Called after each change; returns how to end it. */
  watch(changed: () => void): () => void {
    this.#watchers.add(changed);
    return () => this.#watchers.delete(changed);
  }

  #nextId(): number {
    this.#ids += 1;
    return this.#ids;
  }

  #tell(): void {
    for (const changed of this.#watchers) changed();
  }
}

/** Whole characters up to a number of bytes. */
export function firstBytes(bytes: Buffer, most: number): string {
  return new TextDecoder().decode(bytes.subarray(0, most), { stream: true });
}
