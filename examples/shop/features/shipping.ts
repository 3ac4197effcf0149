/** Enrichment: where an order goes to and how long that takes, from a data set that comes with the shop. */
import { readFileSync } from "node:fs";
import { parse } from "csv-parse/sync";
import type { OutputOf } from "posthorn";
import { z } from "zod";
import type { OrderPlaced } from "../contracts.js";
import { type InTransaction, read } from "../post.js";

const Zones = z.array(
  z.object({ prefix: z.string(), region: z.string(), zone: z.string(), days: z.coerce.number().int().positive() }),
);

export type Zone = z.infer<typeof Zones>[number];

/** Postal codes by their first digits; the longest prefix counts. Checked when it is loaded: a broken file is told at the start. */
export function loadZones(file = new URL("../data/zones.csv", import.meta.url)): ReadonlyMap<string, Zone> {
  const rows = Zones.parse(parse(readFileSync(file), { columns: true, comment: "#", trim: true }));
  return new Map(rows.map((zone) => [zone.prefix, zone]));
}

export function zoneOf(zones: ReadonlyMap<string, Zone>, postalCode: string): Zone {
  for (let length = postalCode.length; length > 0; length -= 1) {
    const found = zones.get(postalCode.slice(0, length));
    if (found !== undefined) return found;
  }
  throw new Error(`No zone has the postal code ${postalCode}.`);
}

/** Transaction mode: what is found out is a row here, and commits with the end of the event. */
export function planShipment(zones: ReadonlyMap<string, Zone>) {
  return async (order: OutputOf<typeof OrderPlaced>, { tx }: InTransaction): Promise<void> => {
    const { region, zone, days } = zoneOf(zones, order.postalCode);
    await tx.query("insert into shop.shipment (order_id, region, zone, days) values ($1, $2, $3, $4)", [
      order.orderId,
      region,
      zone,
      days,
    ]);
  };
}

/** Undefined until it is found out. */
export async function shipmentOf(orderId: string): Promise<Omit<Zone, "prefix"> | undefined> {
  const [shipment] = await read<Omit<Zone, "prefix">>("select region, zone, days from shop.shipment where order_id = $1", [
    orderId,
  ]);
  return shipment;
}
