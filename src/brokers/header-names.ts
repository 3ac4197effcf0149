/** Names of headers come from outside, so one may be a name that every object has. */

/** Sets a header, whatever it is called: `__proto__` is one as well, and no prototype. */
export function setHeader(headers: { [name: string]: string }, name: string, value: string): void {
  if (name !== "__proto__") headers[name] = value;
  else Object.defineProperty(headers, name, { value, enumerable: true, configurable: true, writable: true });
}
