/** One way of taking in so many messages: how long the product takes, and how long the client alone. */
export interface Taking {
  readonly product: () => Promise<number>;
  readonly alone: () => Promise<number>;
  close(): Promise<void>;
}
