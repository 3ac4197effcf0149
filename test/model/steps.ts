/** The acts that a run is made of. Each names what it is about by a number, of which the rest counts: so every list of acts is a run. */
import fc from "fast-check";
import type { How } from "./ends.js";
import type { Entry } from "./producer.js";
import type { Mode } from "./requests.js";
import { bySince, type Said, type Shape } from "./said.js";
import type { World } from "./world.js";

/** What may be said; of it a queue gets what it takes. */
interface Wish {
  readonly key: number;
  readonly priority: number;
  readonly delayed: boolean;
  readonly expires: boolean;
  readonly mode: Mode | null;
  readonly dedupeKey: number;
}

export type Step =
  | { readonly do: "send"; readonly entries: readonly Wish[]; readonly rollback: boolean }
  | { readonly do: "say inside"; readonly slot: number; readonly entries: readonly Wish[] }
  | { readonly do: "close"; readonly slot: number; readonly commit: boolean }
  | {
      readonly do: "claim";
      readonly worker: number;
      readonly limit: number;
      readonly alongside: number;
      readonly begins: number;
    }
  | { readonly do: "take"; readonly worker: number; readonly limit: number }
  | { readonly do: "end"; readonly hand: number; readonly how: How; readonly forget: boolean }
  | { readonly do: "end stale"; readonly hand: number; readonly how: How }
  | { readonly do: "spill"; readonly hand: number; readonly mask: number }
  | { readonly do: "kill"; readonly worker: number }
  | { readonly do: "redrive" | "discard"; readonly said: number; readonly all: boolean }
  | { readonly do: "cancel" | "pass" | "expire" | "end window"; readonly said: number }
  | { readonly do: "rescue" | "sweep" | "tidy" | "prune" };

const index = fc.nat(999);
const rarely = fc.integer({ min: 0, max: 5 }).map((n) => n === 5);
const said: fc.Arbitrary<Wish> = fc.record({
  key: fc.nat(2),
  priority: fc.constantFrom(0, 0, 0, 1, -2),
  delayed: rarely,
  expires: rarely,
  mode: fc.constantFrom<Mode | null>(null, null, "drop", "throttle", "debounce", "replace", "once-more"),
  dedupeKey: fc.nat(1),
});
const how = fc.constantFrom<How>(
  "succeed",
  "succeed",
  "succeed",
  "retry",
  "retry",
  "retry later",
  "postpone",
  "reject",
  "invalid",
  "release",
);
const slot = fc.nat(1);
const worker = fc.nat(1);
const limit = fc.integer({ min: 1, max: 6 });
const act = <T extends Step["do"]>(name: T) => fc.constant(name);

const stepArbitrary: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: act("send"),
      entries: fc.array(said, { minLength: 1, maxLength: 4 }),
      rollback: rarely,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: act("say inside"), slot, entries: fc.array(said, { minLength: 1, maxLength: 2 }) }),
  },
  { weight: 2, arbitrary: fc.record({ do: act("close"), slot, commit: fc.boolean() }) },
  { weight: 8, arbitrary: fc.record({ do: act("claim"), worker, limit, alongside: fc.nat(3), begins: fc.nat(3) }) },
  { weight: 7, arbitrary: fc.record({ do: act("take"), worker, limit }) },
  { weight: 14, arbitrary: fc.record({ do: act("end"), hand: index, how, forget: rarely }) },
  { weight: 2, arbitrary: fc.record({ do: act("end stale"), hand: index, how }) },
  { weight: 2, arbitrary: fc.record({ do: act("spill"), hand: index, mask: fc.nat(7) }) },
  { weight: 2, arbitrary: fc.record({ do: act("kill"), worker }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constantFrom("redrive" as const, "discard" as const), said: index, all: rarely }),
  },
  { weight: 3, arbitrary: fc.record({ do: act("cancel"), said: index }) },
  { weight: 4, arbitrary: fc.record({ do: act("pass"), said: index }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom("expire" as const, "end window" as const), said: index }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constantFrom("rescue" as const, "sweep" as const, "tidy" as const, "prune" as const),
    }),
  },
);

/** Short ones find little; a failure is made short afterwards. */
export const stepsArbitrary = fc.array(stepArbitrary, { minLength: 1, maxLength: 60, size: "max" });

export const shapeArbitrary: fc.Arbitrary<Shape> = fc.constantFrom<Shape>(
  { idempotency: "handler", ordering: "none" },
  { idempotency: "transaction", ordering: "none" },
  { idempotency: "at-most-once", ordering: "none" },
  { idempotency: "handler", ordering: "park" },
  { idempotency: "handler", ordering: "skip" },
  { idempotency: "transaction", ordering: "park" },
  { idempotency: "transaction", ordering: "skip" },
);

/** What of it such a queue takes, and a transaction that stays open can hold without stopping all others. */
function entryOf(world: World, one: Wish, alone = false): Entry {
  const ordered = world.model.ordered;
  const mode = alone || (ordered && one.mode !== "drop") ? null : one.mode;
  const timed = mode === null || mode === "drop" || mode === "replace";
  return {
    key: ordered ? `key ${one.key}` : null,
    priority: ordered || alone ? 0 : one.priority,
    delayed: one.delayed && timed,
    expires: one.expires,
    dedupe: mode === null ? null : { mode, key: `${mode} ${one.dedupeKey}` },
  };
}

const pick = <T>(list: readonly T[], n: number): T | undefined => list[n % list.length];

export async function runStep(world: World, step: Step): Promise<void> {
  switch (step.do) {
    case "send":
      return world.producer.send(
        step.entries.map((one) => entryOf(world, one)),
        step.rollback,
      );
    case "say inside":
      return world.producer.sayInside(
        step.slot,
        step.entries.map((one) => entryOf(world, one, true)),
      );
    case "close":
      return world.producer.close(step.slot, step.commit);
    case "rescue":
      return world.fleet.rescue();
    case "sweep":
      return world.promoteLost();
    case "tidy":
      return world.tidy();
    case "prune":
      return world.prune();
    case "redrive":
    case "discard":
      return operate(world, step.do, step.said, step.all);
    case "cancel":
    case "pass":
    case "expire":
    case "end window":
      return touch(world, step.do, step.said);
    default:
      return work(world, step);
  }
}

async function work(world: World, step: Extract<Step, { worker: number } | { hand: number }>): Promise<void> {
  const worker = "worker" in step ? world.fleet.workers[step.worker] : undefined;
  const hand =
    "hand" in step ? pick(step.do === "end stale" ? world.fleet.stale : world.fleet.hands, step.hand) : undefined;
  if (worker !== undefined) {
    if (step.do === "claim") await world.fleet.claim(worker, step.limit, step.alongside, step.begins);
    else if (step.do === "take") await world.fleet.take(worker, step.limit);
    else if (step.do === "kill") await world.fleet.kill(worker);
  } else if (hand !== undefined) {
    if (step.do === "end") await world.fleet.end(hand, step.how, step.forget);
    else if (step.do === "end stale") await world.fleet.end(hand, step.how, false);
    else if (step.do === "spill") await world.fleet.spill(hand, step.mask);
  }
}

async function operate(world: World, verb: "redrive" | "discard", n: number, all: boolean): Promise<void> {
  const letters = world.model.all.filter(({ at }) => at === "dead" || at === "invalid").sort(bySince);
  const one = pick(letters, n);
  if (one === undefined) return;
  const list = one.at === "dead" ? "dead-letters" : "invalid";
  const saids = all ? letters.filter(({ at }) => at === one.at) : [one];
  await world.operate(verb, saids, list, !all);
}

async function touch(world: World, what: "cancel" | "pass" | "expire" | "end window", n: number): Promise<void> {
  const { model } = world;
  const pickOf = (which: (said: Said) => boolean) => pick(model.all.filter(which), n);
  if (what === "end window") {
    const key = pick(model.requests.keys, n);
    if (key !== undefined) await world.endWindow(key);
    return;
  }
  const said =
    what === "cancel"
      ? pickOf(({ at }) => at !== "open")
      : what === "pass"
        ? pickOf(({ at, due }) => at === "waiting" && due === "later")
        : pickOf(({ at, expires, expired }) => expires && !expired && (at === "log" || at === "waiting"));
  if (said !== undefined) await world[what](said);
}
