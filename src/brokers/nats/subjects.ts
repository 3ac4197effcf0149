/** Subjects of NATS: texts whose parts are divided by dots; `*` stands for one part, `>` at the end for one or more. */

const mostBytes = 1_024;

/** Why this is no subject. */
export function subjectProblem(subject: string, { wildcards }: { readonly wildcards: boolean }): string | undefined {
  if (Buffer.byteLength(subject) > mostBytes) return `it has more than ${mostBytes} bytes`;
  if (/[\s\p{Cc}]/u.test(subject)) return "it has a space or a control character";
  if (!subject.isWellFormed()) return "it has half of a surrogate pair";
  const parts = subject.split(".");
  if (parts.includes("")) return "it is empty, or a part between two dots is";
  if (wildcards) return parts.slice(0, -1).includes(">") ? "> is not its last part" : undefined;
  return parts.some((part) => part === "*" || part === ">") ? "it has a wildcard" : undefined;
}

/** Whether a subject without wildcards is one of those that the pattern stands for. */
export function matches(pattern: string, subject: string): boolean {
  const wanted = pattern.split(".");
  const parts = subject.split(".");
  for (const [i, part] of wanted.entries()) {
    if (part === ">") return parts.length > i;
    if (part !== "*" && part !== parts[i]) return false;
    if (i >= parts.length) return false;
  }
  return wanted.length === parts.length;
}
