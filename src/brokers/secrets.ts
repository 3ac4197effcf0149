/** What a client threw, without the passwords and tokens that were given to it. An error without them is passed on as it is. */
export function withoutSecrets(error: unknown, secrets: readonly (string | undefined)[]): unknown {
  const hidden = secrets.flatMap((secret) => secret || []);
  const has = (text: string | undefined) => hidden.some((secret) => text?.includes(secret));
  if (!(error instanceof Error)) return typeof error === "string" ? hide(error, hidden) : error;
  const cause = error.cause === undefined ? undefined : withoutSecrets(error.cause, hidden);
  if (!has(error.message) && !has(error.stack) && cause === error.cause) return error;
  const clean = new Error(hide(error.message, hidden), { cause });
  clean.name = error.name;
  return "code" in error ? Object.assign(clean, { code: error.code }) : clean;
}

function hide(text: string, secrets: readonly string[]): string {
  return secrets.reduce((shown, secret) => shown.replaceAll(secret, "…"), text);
}
