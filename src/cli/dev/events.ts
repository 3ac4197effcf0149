/** What happens in `posthorn dev`: one event each, a line of JSON with --json, words otherwise. */
import type { ErrorGroup } from "../../store/operate.js";
import type { Look } from "../commands/status.js";

export type DevEvent =
  | {
      readonly event: "watching";
      readonly file: string;
      readonly folders: readonly string[];
      /** Where mails are caught; null where they are not. */
      readonly smtpUrl: string | null;
      readonly webhookUrl: string | null;
      readonly pageUrl: string | null;
    }
  | { readonly event: "notice"; readonly message: string }
  | { readonly event: "loaded"; readonly service: string; readonly database: string }
  | { readonly event: "started"; readonly pid: number; readonly worksOn: readonly string[] }
  | { readonly event: "changed"; readonly files: readonly string[] }
  /** It could not be loaded or started; null waits for a change. */
  | {
      readonly event: "failed";
      readonly code: string;
      readonly message: string;
      readonly againInMs: number | null;
    }
  /** The process ended and nobody had asked for it. */
  | {
      readonly event: "ended";
      readonly pid: number;
      readonly code: number | null;
      readonly signal: string | null;
      readonly againInMs: number | null;
    }
  | { readonly event: "output"; readonly stream: "stdout" | "stderr"; readonly text: string }
  | { readonly event: "status"; readonly look: Look; readonly failures: readonly ErrorGroup[] }
  | { readonly event: "blind"; readonly reason: string }
  | {
      readonly event: "mail";
      readonly id: number;
      readonly from: string;
      readonly to: readonly string[];
      readonly subject: string;
    }
  | {
      readonly event: "webhook";
      readonly id: number;
      readonly method: string;
      readonly path: string;
      readonly bytes: number;
      readonly status: number;
    }
  | { readonly event: "stopping"; readonly signal: string }
  | { readonly event: "stopped" };

export type Tell = (event: DevEvent) => void;
