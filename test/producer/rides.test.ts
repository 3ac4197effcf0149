import { describe, expect, test } from "vitest";
import { Rides } from "../../src/producer/rides.js";
import { Waker } from "../../src/producer/waker.js";

function share(rides: Rides, of: number): number {
  return Array.from({ length: of }, () => rides.next()).filter(Boolean).length / of;
}

describe("a notification rides with its message", () => {
  test("mostly, while that takes about as long as writing alone", () => {
    const rides = new Rides();
    rides.took(1, false);
    rides.took(2.5, true);
    expect(share(rides, 1_600)).toBe(15 / 16);
  });

  test("hardly, while it takes much longer, and again when it does not any more", () => {
    const rides = new Rides();
    rides.took(1, false);
    for (let i = 0; i < 100; i += 1) rides.took(50, true);
    expect(share(rides, 1_600)).toBeCloseTo(1 / 64, 3);
    for (let i = 0; i < 100; i += 1) rides.took(1, true);
    expect(share(rides, 1_600)).toBe(15 / 16);
  });
});

describe("a start on connections that are being opened", () => {
  test("is soon forgotten", () => {
    const rides = new Rides();
    for (let i = 0; i < 400; i += 1) rides.took(i < 5 ? 60 : 2, rides.next());
    expect(share(rides, 1_600)).toBe(15 / 16);
  });
});

describe("a waker", () => {
  function waker() {
    const told: string[] = [];
    const local: number[] = [];
    const side = {
      query: async <Row>(text: string) => {
        told.push(/posthorn\.wake\('([^']*)'/.exec(text)?.[1] ?? text);
        return { rows: [{ heard: true } as Row] };
      },
    };
    const made = new Waker({ side, remote: true, onError: () => undefined });
    made.listen((channels) => local.push(...channels));
    return { made, told, local };
  }

  test("tells nothing besides where a message has told of itself", async () => {
    const { made, told, local } = waker();
    const ride = made.ride(7);
    expect([...(ride.channels ?? [])]).toEqual([7]);
    expect(local).toEqual([]);
    ride.heard = true;
    ride.end();
    // What is told next is told alone.
    made.wake(new Set([9]));
    await expect.poll(() => told).toEqual(["9"]);
    expect(local).toEqual([7, 9]);
  });

  test("tells by itself of what came up while a message was on its way, and of a message that failed", async () => {
    const { made, told } = waker();
    const ride = made.ride(7);
    made.ride(8).end();
    made.wake(new Set([9]));
    ride.end();
    await expect.poll(() => told.flatMap((payload) => payload.split(",")).sort()).toEqual(["7", "8", "9"]);
  });

  test("lets one message at a time tell of itself", () => {
    const { made } = waker();
    const first = made.ride(1);
    expect(made.ride(2).channels).toBeUndefined();
    first.heard = true;
    first.end();
    return expect.poll(() => made.ride(3).channels?.has(3)).toBe(true);
  });
});
