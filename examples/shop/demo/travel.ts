/** The way of one order: its messages, and what became of each for each receiver. */
import type { ReceiverStatus, State } from "posthorn";
import { CapturePayment, OrderPlaced, PaymentCaptured, PickPiece, SendEmail } from "../contracts.js";
import { post, read } from "../post.js";

/** Errors by their message, without stacks. */
export interface Receiver {
  readonly name: string;
  readonly state: State;
  readonly dueAt: string | null;
  readonly crashes: number;
  readonly failures: readonly { readonly attempt: number; readonly at: string | null; readonly error: string }[];
}

export interface TravelledMessage {
  readonly id: string;
  readonly name: string;
  readonly kind: "command" | "event";
  readonly saidAt: string;
  readonly receivers: readonly Receiver[];
}

interface Note {
  readonly id: string;
  readonly name: string;
  readonly saidAt: string;
}

const kinds: Readonly<Record<string, "command" | "event">> = Object.fromEntries(
  [OrderPlaced, SendEmail, CapturePayment, PickPiece, PaymentCaptured].map(({ name, kind }) => [name, kind]),
);

export async function travelOf(orderId: string): Promise<readonly TravelledMessage[]> {
  const notes = await read<Note>(
    `select message_id as id, name, to_json(said_at) #>> '{}' as "saidAt" from shop.order_message where order_id = $1 order by said_at, name`,
    [orderId],
  );
  return Promise.all(
    notes.map(async (note) => {
      const receivers = (await post.statusOf(note.id)).map(receiverOf);
      return { ...note, kind: kinds[note.name] ?? "command", receivers };
    }),
  );
}

function receiverOf(status: ReceiverStatus): Receiver {
  const { subscription: name, state, dueAt = null, crashes, history = [] } = status;
  const failures = history.map(({ attempt, outcome, endedAt = null, error, note }) => {
    return { attempt, at: endedAt, error: error?.message ?? note ?? outcome };
  });
  return { name, state, dueAt, crashes: crashes ?? 0, failures };
}
