/** Every default and limit of `posthorn dev`: one name, one number, one place. Milliseconds and bytes as the names say. */
export const bounds = {
  /** The ports that are tried first; a free one where they are taken. */
  mailPort: 1_025,
  webPort: 1_080,
  /** Caught mails, and as many webhooks: the newest are kept. */
  kept: 200,
  /** Of the source of a mail; a larger one is refused, as a real server would refuse it. */
  mailBytes: 10 << 20,
  /** Of the source, the text and the HTML of a mail that is kept, each. */
  keptMailBytes: 512 << 10,
  /** Of the body of a webhook that is kept. What is longer is read and cut. */
  keptBodyBytes: 256 << 10,
  /** Of the body of a webhook; a larger one is refused. */
  bodyBytes: 10 << 20,
  headerBytes: 64 << 10,
  smtpClients: 50,
  /** Pages that watch the list. */
  watchers: 20,
  /** How long sources have to be quiet before a restart, and how long it is put off at most. */
  quietMs: 100,
  putOffMs: 1_000,
  watchedFolders: 5_000,
  /** How much longer than its grace time a process may take to stop before it is killed. */
  stopMs: 5_000,
  /** How long the end of the output of an ended process is waited for: what it started may keep the pipe open. */
  outputMs: 500,
  /** Before a start that failed for a passing reason is tried again. */
  againMs: 2_000,
  /** A process that was killed is started again at once; when it is killed again soon, after a time that doubles up to this. */
  longestAgainMs: 30_000,
  lookMs: 1_000,
} as const;
