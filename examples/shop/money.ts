/** 4900 as "49.00 EUR". Plain ASCII, because it also stands in mails. */
export function euros(cents: number): string {
  return `${(cents / 100).toFixed(2)} EUR`;
}
