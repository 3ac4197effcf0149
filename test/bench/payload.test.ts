import { expect, test } from "vitest";
import { json, payload, payloadBytes, payloads } from "../../bench/payload.js";

test("every message of the bench has 200 bytes as JSON, with whatever number travels in it", () => {
  const all = [...payloads, payload(7, 123_456_789.123_456), payload(123_456, 0.5)];
  expect(new Set([json, ...all.map((one) => JSON.stringify(one))].map((text) => Buffer.byteLength(text)))).toEqual(
    new Set([payloadBytes]),
  );
  expect(payloadBytes).toBe(200);
});
