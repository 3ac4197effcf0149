/** Which texts MQTT carries. A broker may drop the connection for one that it does not, and with it whatever else was on its way. */

/** The longest text in one piece. */
export const textBytesMost = 65_535;
const longest = `${textBytesMost} bytes`;

/** MQTT 5, 1.5.4: control characters, and what Unicode calls no characters. */
const forbidden = /[\p{Cc}\p{Noncharacter_Code_Point}]/u;

/** Why this text cannot travel. */
export function textProblem(text: string): string | undefined {
  if (Buffer.byteLength(text) > textBytesMost) return `it has more than ${longest}`;
  if (!text.isWellFormed()) return "it has half of a surrogate pair";
  return forbidden.test(text) ? "it has a control character, or one that is none" : undefined;
}

/** Why this is no topic. */
export function topicProblem(topic: string, { wildcards }: { readonly wildcards: boolean }): string | undefined {
  if (topic === "") return "it is empty";
  const problem = textProblem(topic);
  if (problem !== undefined || !/[+#]/.test(topic)) return problem;
  if (!wildcards) return "it has a wildcard, and only an intake may subscribe to many topics";
  const levels = topic.split("/");
  const areWhole = levels.every(
    (level, i) => !/[+#]/.test(level) || level === "+" || (level === "#" && i === levels.length - 1),
  );
  return areWhole ? undefined : "its wildcards are not whole levels, or # is not the last one";
}
