import fc from "fast-check";
import { expect, test } from "vitest";
import { Roster } from "../../src/core/roster.js";

test("a roster holds what a set would, whatever comes and goes", () => {
  fc.assert(
    fc.property(fc.array(fc.option(fc.nat(20), { nil: undefined })), (steps) => {
      const roster = new Roster<object>();
      const places = new Map<object, number>();
      for (const step of steps) {
        const gone = step === undefined ? undefined : [...places][step];
        if (gone === undefined) {
          const member = {};
          places.set(member, roster.add(member));
          continue;
        }
        const [member, at] = gone;
        roster.remove(at, member);
        // A second time says nothing, also when somebody else has the place by then.
        roster.remove(at, member);
        places.delete(member);
      }
      expect(roster.size).toBe(places.size);
      expect([...roster]).toHaveLength(places.size);
      expect([...roster].filter((member) => !places.has(member))).toEqual([]);
    }),
  );
});

test("a place that was freed and taken again is not freed by the one who had it before", () => {
  const roster = new Roster<object>();
  const [first, second] = [{ n: 1 }, { n: 2 }];
  const at = roster.add(first);
  roster.remove(at, first);
  expect(roster.add(second)).toBe(at);
  roster.remove(at, first);
  expect([...roster]).toEqual([second]);
});

test("a member that is removed while the roster is gone through is not met any more", () => {
  const roster = new Roster<object>();
  const members = [{ n: 1 }, { n: 2 }, { n: 3 }] as const;
  const places = members.map((member) => roster.add(member));
  const met: object[] = [];
  for (const member of roster) {
    met.push(member);
    roster.remove(places[1] ?? -1, members[1]);
  }
  expect(met).toEqual([members[0], members[2]]);
});
