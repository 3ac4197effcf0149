/** Versions of a contract, as the compiler sees them. This file is only compiled: each `@ts-expect-error` is a test. */
import { command, event, type InputOf, type OutputOf, type } from "posthorn";
import { z } from "zod";

interface V1 {
  readonly to: string;
}
interface V2 {
  readonly to: readonly string[];
}
interface V3 {
  readonly to: readonly string[];
  readonly subject: string;
}
const head = { queue: "email", schema: type<V3>() } as const;
const toV2 = (v1: V1): V2 => ({ to: [v1.to] });
const toV3 = (v2: V2): V3 => ({ ...v2, subject: "" });

// ---- steps lead from version to version, and the last one to the schema -----
const SendEmail = command("SendEmail", { ...head, version: 3, upcast: { 1: toV2, 2: toV3 } });
const given: InputOf<typeof SendEmail> = { to: ["a"], subject: "b" };
const got: OutputOf<typeof SendEmail> = given;
void got;
// Older versions may be given up.
command("SendEmail", { ...head, version: 3, upcast: { 2: toV3 } });
command("SendEmail", { ...head, version: 3 });
command("SendEmail", { ...head, version: 2, upcast: { 1: (v1: V1) => ({ to: [v1.to], subject: "" }) } });
event("OrderPlaced", {
  topic: "orders",
  schema: z.object({ id: z.string(), cents: z.number() }),
  key: (order) => order.id,
  version: 2,
  upcast: { 1: (v1: { id: string; euros: number }) => ({ id: v1.id, cents: v1.euros * 100 }) },
});
// A version that only run time knows is checked then.
declare const some: number;
command("SendEmail", { ...head, version: some, upcast: { 1: toV2, 2: toV3 } });

// So is one that is a date: the compiler does not count so far.
command("SendEmail", { ...head, version: 20_260, upcast: { 20259: toV3 } });
command("SendEmail", { ...head, version: 20_260 });
command("SendEmail", { ...head, version: 999, upcast: { 998: toV3 } });

// ---- a step that is missing -------------------------------------------------
// @ts-expect-error the last step
command("SendEmail", { ...head, version: 3, upcast: { 1: toV2 } });
// @ts-expect-error one in the middle
command("SendEmail", { ...head, version: 4, upcast: { 1: toV2, 3: (v: V3): V3 => v } });

// ---- steps that do not fit together -----------------------------------------
// @ts-expect-error the first gives what the second does not take
command("SendEmail", { ...head, version: 3, upcast: { 1: (v1: V1): V1 => v1, 2: toV3 } });
// @ts-expect-error the last gives what the schema does not take
command("SendEmail", { ...head, version: 3, upcast: { 1: toV2, 2: (v2: V2): V2 => v2 } });
// @ts-expect-error nothing is newer than the contract
command("SendEmail", { ...head, version: 2, upcast: { 1: toV3, 2: toV3 } });
// @ts-expect-error there is no version to come from
command("SendEmail", { ...head, upcast: { 1: toV3 } });
// @ts-expect-error what a step takes is said
command("SendEmail", { ...head, version: 2, upcast: { 1: (v1) => ({ to: [v1.to], subject: "" }) } });
