/** The program of docs/guides/schedules.md: reports of every day, made by a process that is told nothing else. */
import { command, type DatabaseInput, policies, posthorn, type } from "posthorn";

export const SendReport = command("SendReport", { queue: "reports", schema: type<{ until: string }>() });

export function openReports(database: DatabaseInput) {
  const post = posthorn({ service: "reporting", database, migrate: "auto" });
  const reports = post.queue("reports", policies.email);

  post.schedule("daily-report", {
    cron: "30 2 * * *",
    timeZone: "Europe/Berlin",
    command: SendReport,
    payload: (at) => ({ until: at.toISOString() }),
    missed: "once",
  });

  reports.handle(SendReport, async ({ until }, { message }) => {
    console.log(`report until ${until}, for ${message.headers["posthorn-scheduled-for"]}`);
  });
  return post;
}
