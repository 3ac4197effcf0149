/** Databases of a run: made on demand, dropped with whoever is still in them. */
import pg from "pg";
import type { Place } from "./bench.js";

export class Places {
  readonly #admin: string;
  readonly #open = new Set<string>();
  #count = 0;

  constructor(admin: string) {
    this.#admin = admin;
  }

  async make(): Promise<Place> {
    this.#count += 1;
    const name = `bench_${process.pid}_${this.#count}`;
    await this.#say(`create database ${name}`);
    this.#open.add(name);
    const url = new URL(this.#admin);
    url.pathname = `/${name}`;
    return { url: url.href, drop: () => this.#drop(name) };
  }

  /**
   * Between rows: nothing that one left behind, be it the vacuum of its tables or the writing of its pages, is to slow the next.
   */
  async clear(): Promise<void> {
    for (const name of [...this.#open]) await this.#drop(name);
    await this.#say("checkpoint");
  }

  async #drop(name: string): Promise<void> {
    await this.#say(`drop database if exists ${name} with (force)`);
    this.#open.delete(name);
  }

  async #say(statement: string): Promise<void> {
    const client = new pg.Client(this.#admin);
    await client.connect();
    try {
      await client.query(statement);
    } finally {
      await client.end();
    }
  }
}
