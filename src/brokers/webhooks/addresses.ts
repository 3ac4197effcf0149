/**
 * Which addresses belong to the inside of a network, so that nobody makes this process post there by naming them.
 *
 * IPv4: what the IANA registry of special-purpose addresses does not count as reachable from everywhere. IPv6: everything but global unicast, and
 * of that the special ranges; a mapped or translated IPv4 address is judged by the IPv4 address in it.
 */

interface Range {
  readonly first: bigint;
  readonly bits: bigint;
  readonly what: string;
}

const v4Bits = 32n;
const v6Bits = 128n;

const v4Ranges = ranges(v4Bits, {
  "0.0.0.0/8": "an address of this host",
  "10.0.0.0/8": "a private address",
  "100.64.0.0/10": "an address of carrier-grade NAT",
  "127.0.0.0/8": "a loopback address",
  // The platform agent of Azure answers here, on every virtual machine.
  "168.63.129.16/32": "the address of a cloud's own service",
  "169.254.0.0/16": "a link-local address",
  "172.16.0.0/12": "a private address",
  "192.0.0.0/24": "a reserved address",
  "192.0.2.0/24": "an address for documentation",
  "192.88.99.0/24": "a 6to4 relay address",
  "192.168.0.0/16": "a private address",
  "198.18.0.0/15": "an address for benchmarks",
  "198.51.100.0/24": "an address for documentation",
  "203.0.113.0/24": "an address for documentation",
  "224.0.0.0/4": "a multicast address",
  "240.0.0.0/4": "a reserved address",
});

/** The first that fits counts; what none of them fits is global unicast only within 2000::/3. */
const v6Ranges = ranges(v6Bits, {
  "::/128": "an address of this host",
  "::1/128": "a loopback address",
  "::/96": "an IPv4-compatible address",
  "::ffff:0:0:0/96": "a translated IPv4 address",
  "64:ff9b:1::/48": "a NAT64 address of a local network",
  "100::/64": "a discard-only address",
  "2001::/32": "a Teredo address",
  "2001::/23": "a reserved address",
  "2001:db8::/32": "an address for documentation",
  "2002::/16": "a 6to4 address",
  "3fff::/20": "an address for documentation",
  "fc00::/7": "a unique local address",
  "fe80::/10": "a link-local address",
  "fec0::/10": "a site-local address",
  "ff00::/8": "a multicast address",
});
const globalUnicast = ranges(v6Bits, { "2000::/3": "" });
/** IPv4 in IPv6 that reaches what the IPv4 address reaches. */
const embedding = ranges(v6Bits, { "::ffff:0:0/96": "", "64:ff9b::/96": "" });

/** Why an address belongs to the inside: "a loopback address". Undefined for one that is reachable from everywhere. What is no address is none of those. */
export function insideAddress(address: string): string | undefined {
  const v4 = parseV4(address);
  if (v4 !== undefined) return found(v4, v4Bits, v4Ranges);
  const v6 = parseV6(address);
  if (v6 === undefined) return "no address that can be read";
  if (found(v6, v6Bits, embedding) !== undefined) return found(v6 & 0xffff_ffffn, v4Bits, v4Ranges);
  const what = found(v6, v6Bits, v6Ranges);
  if (what !== undefined) return what;
  if (found(v6, v6Bits, globalUnicast) === undefined) return "a reserved address";
  return isatap(v6) ? found(v6 & 0xffff_ffffn, v4Bits, v4Ranges) : undefined;
}

/** RFC 5214: the second half of the address is 0:5efe or 200:5efe and an IPv4 address. */
function isatap(v6: bigint): boolean {
  return ((v6 >> 32n) & 0xfdff_ffffn) === 0x5efen;
}

function found(value: bigint, size: bigint, among: readonly Range[]): string | undefined {
  return among.find(({ first, bits }) => value >> (size - bits) === first >> (size - bits))?.what;
}

function ranges(size: bigint, table: Readonly<Record<string, string>>): readonly Range[] {
  return Object.entries(table).map(([cidr, what]) => {
    const [address = "", bits = ""] = cidr.split("/");
    const first = size === v4Bits ? parseV4(address) : parseV6(address);
    if (first === undefined) throw new Error(`${cidr} is no range`);
    return { first, bits: BigInt(bits), what };
  });
}

/** Four decimal numbers; other forms were made into this one by the URL, or come from nobody. */
function parseV4(text: string): bigint | undefined {
  const parts = text.split(".");
  const plain = parts.length === 4 && parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) < 256);
  return plain ? parts.reduce((value, part) => (value << 8n) | BigInt(part), 0n) : undefined;
}

/** A zone after % does not count. */
function parseV6(text: string): bigint | undefined {
  const [address = ""] = text.toLowerCase().split("%");
  const halves = hexTail(address).split("::");
  if (halves.length > 2) return undefined;
  const [head = [], tail = []] = halves.map((half) => (half === "" ? [] : half.split(":")));
  const left = 8 - head.length - tail.length;
  if (halves.length === 2 ? left < 1 : left !== 0) return undefined;
  const groups = [...head, ...Array<string>(left).fill("0"), ...tail];
  if (!groups.every((group) => /^[0-9a-f]{1,4}$/.test(group))) return undefined;
  return groups.reduce((value, group) => (value << 16n) | BigInt(`0x${group}`), 0n);
}

/** ::ffff:10.0.0.1 as ::ffff:a00:1. */
function hexTail(address: string): string {
  const at = address.lastIndexOf(":") + 1;
  const v4 = parseV4(address.slice(at));
  if (v4 === undefined || at === 0) return address;
  return `${address.slice(0, at)}${(v4 >> 16n).toString(16)}:${(v4 & 0xffffn).toString(16)}`;
}
