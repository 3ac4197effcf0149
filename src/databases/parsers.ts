/**
 * How results of library statements become JavaScript values, equal on every driver and whatever the user set globally.
 *
 * Booleans, 16 and 32 bit numbers, floats and JSON are parsed; everything else (64-bit numbers, times, arrays) stays text.
 */
import type { CustomTypesConfig } from "pg";

type Parse = (text: string) => unknown;

const asText: Parse = (text) => text;
const asNumber: Parse = (text) => Number(text);
const asBoolean: Parse = (text) => text === "t" || text === "true";
const asJson: Parse = (text) => JSON.parse(text);

const parsers = new Map<number, Parse>([
  [16, asBoolean],
  [21, asNumber],
  [23, asNumber],
  [26, asNumber],
  [700, asNumber],
  [701, asNumber],
  [114, asJson],
  [3802, asJson],
]);

export function parserOf(oid: number): Parse {
  return parsers.get(oid) ?? asText;
}

/** For `types` of a pg query: nothing global is read or changed. */
export const pgTypes: CustomTypesConfig = {
  getTypeParser: (oid: number) => (value: string | Buffer) =>
    typeof value === "string" ? parserOf(oid)(value) : value,
};

/** Types that PGlite parses by itself and that library statements want as text: bytea, int8, times, and the common arrays. */
const parsedByPglite = [
  17, 20, 1082, 1083, 1114, 1184, 1186, 199, 1000, 1005, 1007, 1009, 1015, 1016, 1021, 1022, 1115, 1182, 1185, 2951,
  3807,
];

export const pgliteParsers: Readonly<Record<number, Parse>> = Object.fromEntries(
  [...parsers, ...parsedByPglite.map((oid): [number, Parse] => [oid, asText])].map(([oid, parse]) => [oid, parse]),
);
