/** One connection to the holder of an embedded database: requests, answers, and the news that it is gone. */
import { connect, type Socket } from "node:net";
import { DatabaseUnavailableError } from "../../core/errors.js";
import { withDeadline } from "../deadline.js";
import { databaseDefaults } from "../defaults.js";
import { databaseError } from "../errors.js";
import {
  decode,
  decodeError,
  encode,
  type Notice,
  type Operation,
  protocolVersion,
  type Response,
  readLines,
  send,
} from "./wire.js";

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

export class SharedConnection {
  readonly lost: Promise<Error | undefined>;
  onNotify: (payload: string) => void = () => {};
  readonly #socket: Socket;
  readonly #description: string;
  readonly #timeoutMs: number;
  readonly #waiting = new Map<number, Waiting>();
  #lastId = 0;
  #gone = false;
  #ended = false;

  private constructor(socket: Socket, description: string, timeoutMs: number) {
    this.#socket = socket;
    this.#description = description;
    this.#timeoutMs = timeoutMs;
    socket.on("error", () => {});
    this.lost = new Promise((resolve) => {
      socket.once("close", () => {
        this.#gone = true;
        for (const { reject } of this.#waiting.values()) reject(this.#lostError());
        this.#waiting.clear();
        resolve(this.#ended ? undefined : this.#lostError());
      });
    });
    readLines(socket, databaseDefaults.socketLineBytes, (message) => this.#receive(message as Response | Notice));
  }

  static async open(path: string, description: string, timeoutMs: number): Promise<SharedConnection> {
    const socket = connect(path);
    try {
      const connected = new Promise<void>((resolve, reject) => {
        socket.once("connect", resolve);
        socket.once("error", reject);
      });
      await withDeadline(connected, databaseDefaults.connectTimeoutMs, "Connecting", () => socket.destroy());
    } catch (error) {
      throw databaseError(error, { description, connection: "unreached" });
    }
    const connection = new SharedConnection(socket, description, timeoutMs);
    await connection.request({ op: "hello", version: protocolVersion });
    return connection;
  }

  get gone(): boolean {
    return this.#gone;
  }

  async rows<Row>(operation: Operation): Promise<{ rows: Row[] }> {
    const rows = await this.request(operation);
    return { rows: Array.isArray(rows) ? rows : [] };
  }

  request(operation: Operation): Promise<unknown> {
    if (this.#gone || this.#ended) return Promise.reject(this.#lostError());
    const id = ++this.#lastId;
    const answer = new Promise<unknown>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
    });
    const sent = "params" in operation ? { ...operation, params: encode(operation.params) } : operation;
    send(this.#socket, { ...sent, id });
    const timeoutMs = operation.op === "script" ? databaseDefaults.scriptTimeoutMs : this.#timeoutMs;
    // The holder's own limit is the same and answers first, unless the holder does not run.
    return withDeadline(answer, timeoutMs + databaseDefaults.statementGraceMs, "A statement", () => {
      this.#gone = true;
      this.#socket.destroy();
    });
  }

  end(): void {
    this.#ended = true;
    this.#socket.destroy();
  }

  #receive(message: Response | Notice): void {
    if ("notify" in message) {
      this.onNotify(message.notify);
      return;
    }
    const waiting = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    if (message.error === undefined) waiting?.resolve(decode(message.value));
    else waiting?.reject(decodeError(message.error));
  }

  #lostError(): DatabaseUnavailableError {
    return new DatabaseUnavailableError(
      "PH_DATABASE_LOST",
      `The process that holds ${this.#description} closed the connection. What was not confirmed may or may not be committed.`,
      { database: this.#description },
    );
  }
}
