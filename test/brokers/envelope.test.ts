/**
 * Goal: an event is the same outside and inside, in both modes and with every way to name headers; and nothing that comes from outside can be taken for
 * what it is not, or stop who reads it.
 * Method: random events there and back; the rules of CloudEvents 1.0.2 one by one; what an attacker would send.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type CloudEvent, type Decoded, decode, encode, type HeaderStyle } from "../../src/brokers/envelope.js";
import { memberText } from "../../src/brokers/json-member.js";

const http: HeaderStyle = { prefix: "ce-", percent: true };
const kafka: HeaderStyle = { prefix: "ce_", percent: false };
const mqtt: HeaderStyle = { prefix: "", percent: false };
const amqp: HeaderStyle = { prefix: "cloudEvents:", percent: false, alsoReads: ["cloudEvents_"] };
const styles = { http, kafka, mqtt, amqp };
const modes = ["binary", "structured"] as const;

const minimal: CloudEvent = { id: "1", source: "/s", type: "t", extensions: {}, data: "{}", headers: {} };
const required = { id: "1", source: "/s", type: "t", specversion: "1.0" };

/** As a broker hands it over: names in lower case, bytes. */
function received({ headers, contentType, body }: ReturnType<typeof encode>) {
  const lower = Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value] as const);
  return { headers: Object.fromEntries(lower), contentType, body: Buffer.from(body) };
}

function back(event: CloudEvent, mode: "binary" | "structured", style: HeaderStyle): Decoded {
  return decode(received(encode(event, mode, style)), style);
}

/** One that was sent in binary mode by somebody else. */
function binary(headers: Readonly<Record<string, string>>, body: string | Uint8Array = "{}", contentType?: string) {
  return decode({ headers, contentType, body: Buffer.from(body) }, http);
}

function structured(body: unknown, headers: Readonly<Record<string, string>> = {}): Decoded {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return decode({ headers, contentType: "application/cloudevents+json", body: Buffer.from(text) }, http);
}

function problemOf(decoded: Decoded): string {
  expect(decoded).toMatchObject({ ok: false });
  return decoded?.ok === false ? decoded.problem : "";
}

function eventIn(decoded: Decoded): CloudEvent {
  if (!decoded?.ok) throw new Error(decoded?.problem ?? "it claims to be no CloudEvent");
  return decoded.event;
}

const named = (map: Readonly<Record<string, string>>) =>
  Object.entries(map).map(([name, value]) => [`ce-${name}`, value]);
const ce = (over: Readonly<Record<string, string>> = {}) => Object.fromEntries(named({ ...required, ...over }));

describe("there and back", () => {
  const text = fc.string({ unit: "binary", maxLength: 40 });
  const letters = "abcdefghijklmnopqrstuvwxyz0123456789";
  const name = fc.string({ unit: fc.constantFrom(...letters), minLength: 1, maxLength: 20 });
  const taken = ["id", "source", "specversion", "type", "datacontenttype", "dataschema", "subject", "time", "data"];
  // Names that are taken by something else in one style or another are the point.
  const headerName = fc.oneof(
    fc.constantFrom(
      "id",
      "ce-id",
      "ce_id",
      "cloudevents:id",
      "cloudevents_x",
      "content-type",
      "header-id",
      "header-header-x",
    ),
    fc.constantFrom("__proto__", "constructor", "x-plain", "x_1", ""),
    name,
  );
  const json = fc.oneof(
    fc.json({ maxDepth: 3 }),
    fc.constantFrom(
      "1.50",
      "12345678901234567890",
      "1e400",
      '{"a":1,"a":2}',
      ' { "data" : [ "}" ] } ',
      "-0",
      '"\\ud800"',
    ),
  );
  const event: fc.Arbitrary<CloudEvent> = fc
    .record({
      id: text,
      source: text,
      type: text,
      time: fc.option(fc.constant("2026-02-03T04:05:06Z"), { nil: undefined }),
      subject: fc.option(text, { nil: undefined }),
      datacontenttype: fc.constantFrom("application/json", "application/vnd.x+json; charset=utf-8", "text/plain"),
      extensions: fc.dictionary(
        name.filter((one) => !taken.includes(one)),
        text,
      ),
      headers: fc.dictionary(headerName, text),
      json,
      plain: text,
    })
    .map(({ json, plain, time, subject, ...event }) => ({
      ...event,
      // An attribute that is there is not empty.
      ...Object.fromEntries(["id", "source", "type"].map((one) => [one, `x${event[one as "id"]}`])),
      ...(time !== undefined && { time }),
      ...(subject !== undefined && { subject: `s${subject}` }),
      data: event.datacontenttype === "text/plain" ? JSON.stringify(plain) : json,
    }));

  for (const [kind, style] of Object.entries(styles)) {
    for (const mode of modes) {
      test(`an event is the same after ${mode} mode with the headers of ${kind}`, () => {
        fc.assert(
          fc.property(event, (given) => {
            const { data, ...rest } = given;
            const found = eventIn(back(given, mode, style));
            expect(found).toEqual({ ...rest, data: found.data });
            // White space around the payload is not part of it.
            expect(found.data.trim()).toBe(data.trim());
          }),
          { numRuns: 300 },
        );
      });
    }
  }

  test("whatever is received, reading it never throws", () => {
    const headers = fc.dictionary(fc.oneof(fc.constantFrom(...named(required).flat()), text), text);
    const types = [
      "application/json",
      "application/cloudevents+json",
      "text/x; charset=latin1",
      "a/b; charset=none",
      "x",
    ];
    const bodies = fc.oneof(
      fc.uint8Array(),
      fc.json().map((one) => Buffer.from(one)),
    );
    const given = fc.record({ headers, contentType: fc.constantFrom(undefined, ...types), body: bodies });
    fc.assert(
      fc.property(given, fc.constantFrom(...Object.values(styles)), (one, style) => {
        const decoded = decode(one, style);
        if (decoded?.ok) expect(decoded.event.id).not.toBe("");
      }),
      { numRuns: 2_000 },
    );
  });
});

describe("binary mode", () => {
  test("attributes are headers with the prefix, the type of the data is the content type, the payload is the body as it is", () => {
    const event = {
      ...minimal,
      subject: "é 100%",
      extensions: { partitionkey: "k" },
      data: "[1.0]",
      headers: { "x-a": "b" },
    };
    expect(encode(event, "binary", http)).toEqual({
      headers: {
        "x-a": "b",
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "/s",
        "ce-type": "t",
        "ce-subject": "%C3%A9%20100%25",
        "ce-partitionkey": "k",
      },
      contentType: "application/json",
      body: "[1.0]",
    });
  });

  test("values are encoded as the specification shows it, and read in lower case, needlessly encoded and quoted", () => {
    const encoded = encode({ ...minimal, subject: "Euro € 😀" }, "binary", http).headers["ce-subject"];
    expect(encoded).toBe("Euro%20%E2%82%AC%20%F0%9F%98%80");
    const read = (subject: string) => eventIn(binary(ce({ subject }))).subject;
    expect(read("Euro%20%e2%82%ac%20%f0%9f%98%80")).toBe("Euro € 😀");
    expect(read("%41bc")).toBe("Abc");
    expect(read("%EF%BB%BFx")).toBe("\ufeffx");
    expect(read('"Euro \\"x\\" \\\\ %E2%82%AC"')).toBe('Euro "x" \\ €');
    expect(read("100% of %zz")).toBe("100% of %zz");
  });

  test.each(["%C0%A0", "%ff", "a%E2%82", "%ED%A0%80"])(
    "encoded bytes that are not UTF-8 are rejected: %s",
    (subject) => {
      expect(problemOf(binary(ce({ subject })))).toContain("subject has encoded bytes that are not UTF-8");
      expect(problemOf(binary({ ...ce(), "ce-specversion": subject }))).toContain("specversion has encoded bytes");
    },
  );

  test("a message without specversion claims nothing", () => {
    expect(binary({ "ce-id": "1", "x-y": "z" })).toBeUndefined();
    expect(
      decode({ headers: { id: "1", type: "t", source: "/s" }, contentType: undefined, body: Buffer.from("{}") }, mqtt),
    ).toBeUndefined();
  });

  test.each(["id", "source", "type"])("without %s, or with an empty one, it is no CloudEvent", (attribute) => {
    const { [`ce-${attribute}`]: _, ...others } = ce();
    expect(problemOf(binary(others))).toBe(`its attribute ${attribute} is missing`);
    expect(problemOf(binary(ce({ [attribute]: "" })))).toBe(`its attribute ${attribute} is missing`);
  });

  test("another version of the specification is refused", () => {
    expect(problemOf(binary(ce({ specversion: "0.3" })))).toBe('its specversion is "0.3", not "1.0"');
  });

  test("both prefixes of AMQP are read, and two that differ are refused", () => {
    const amqpHeaders = {
      "cloudEvents:id": "1",
      cloudevents_source: "/s",
      "cloudEvents:type": "t",
      cloudEvents_specversion: "1.0",
    };
    const read = (headers: Readonly<Record<string, string>>) =>
      decode({ headers, contentType: undefined, body: Buffer.from("1") }, amqp);
    expect(eventIn(read(amqpHeaders))).toMatchObject({ id: "1", source: "/s" });
    expect(eventIn(read({ ...amqpHeaders, cloudEvents_id: "1" })).id).toBe("1");
    expect(problemOf(read({ ...amqpHeaders, cloudEvents_id: "2" }))).toBe("its attribute id is there twice");
  });

  test("a plain header cannot pass for an attribute or for the type of the body", () => {
    const headers = { "CE-ID": "evil", "ce-subject": "evil", "Content-Type": "text/html", "x-a": "b" };
    const encoded = encode({ ...minimal, headers }, "binary", http);
    expect(
      Object.keys(encoded.headers)
        .filter((name) => /^(ce-|content-type)/i.test(name))
        .sort(),
    ).toEqual(["ce-id", "ce-source", "ce-specversion", "ce-type"]);
    const event = eventIn(decode(received(encoded), http));
    expect(event.id).toBe("1");
    expect(event.subject).toBeUndefined();
    expect(event.headers).toEqual({ "ce-id": "evil", "ce-subject": "evil", "content-type": "text/html", "x-a": "b" });
    const inMqtt = encode({ ...minimal, headers: { subject: "evil", tenant: "5" } }, "binary", mqtt);
    expect(eventIn(decode(received(inMqtt), mqtt))).toMatchObject({
      extensions: {},
      headers: { subject: "evil", tenant: "5" },
    });
  });

  test("an extension cannot replace an attribute, and a name that is not allowed is left out", () => {
    const extensions = { id: "evil", data: "evil", data_base64: "evil", __proto__: "evil", Upper: "evil", fine: "yes" };
    for (const mode of modes) {
      const event = eventIn(back({ ...minimal, extensions }, mode, http));
      expect(event).toMatchObject({ id: "1", data: "{}" });
      expect(event.extensions).toEqual({ fine: "yes" });
      const outside = encode({ ...minimal, extensions }, mode, http);
      expect(JSON.stringify(outside)).not.toContain("evil");
    }
  });
});

describe("data", () => {
  test("without a type it is JSON, and JSON of any kind stays as it was written", () => {
    for (const type of [
      undefined,
      "application/json",
      "Application/JSON; charset=UTF-8",
      "text/json",
      "application/a.b+json",
    ]) {
      expect(eventIn(binary(ce(), '{ "a": 1.0 }', type)).data).toBe('{ "a": 1.0 }');
    }
    expect(eventIn(binary(ce(), "")).data).toBe("null");
  });

  test.each(["text/plain", "text/xml", "application/xml", "image/svg+xml", "application/octet-stream; charset=utf-8"])(
    "%s is text, and text is a JSON string",
    (type) => {
      expect(eventIn(binary(ce(), '<a b="ü"/>\n', type))).toMatchObject({
        data: '"<a b=\\"ü\\"/>\\n"',
        datacontenttype: type,
      });
      expect(eventIn(binary(ce(), "", type)).data).toBe('""');
    },
  );

  test("text in another character set is read by it, and one that nobody knows is a problem", () => {
    expect(eventIn(binary(ce(), Uint8Array.of(0xe9), "text/plain; charset=iso-8859-1")).data).toBe('"é"');
    expect(problemOf(binary(ce(), "x", "text/plain; charset=ebcdic-nobody"))).toContain("not text");
  });

  test("what is neither JSON nor text is a problem, also when its bytes happen to be letters", () => {
    for (const type of ["application/octet-stream", "application/protobuf", "image/png", "nonsense"]) {
      expect(problemOf(binary(ce(), "abc", type))).toContain("neither JSON nor text");
    }
    expect(problemOf(binary(ce(), Uint8Array.of(0xc0, 0xa0)))).toContain("not text in UTF-8");
    expect(problemOf(binary(ce(), Uint8Array.of(0xff), "text/plain"))).toContain("not text in UTF-8");
  });

  test("what is not text does not travel as text", () => {
    const event = { ...minimal, datacontenttype: "text/plain", data: '{"a":1}' };
    for (const mode of modes) expect(eventIn(back(event, mode, kafka)).datacontenttype).toBe("application/json");
    expect(encode({ ...event, data: '"a\\nb"' }, "binary", kafka)).toMatchObject({
      contentType: "text/plain",
      body: "a\nb",
    });
  });
});

describe("structured mode", () => {
  test("everything is one JSON body, and the payload in it as it is", () => {
    const encoded = encode({ ...minimal, data: '{"n":1.50}', headers: { "x-a": "b" } }, "structured", http);
    expect(encoded).toEqual({
      headers: { "x-a": "b" },
      contentType: "application/cloudevents+json; charset=utf-8",
      body: '{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"application/json","data":{"n":1.50}}',
    });
  });

  test("attributes may be whole numbers and booleans, and null is as if it were not there", () => {
    const event = eventIn(structured({ ...required, count: 5, done: false, nothing: null, subject: null, data: null }));
    expect(event).toEqual({
      id: "1",
      source: "/s",
      type: "t",
      extensions: { count: "5", done: "false" },
      data: "null",
      headers: {},
    });
  });

  test("without data it is null, and without its type it is JSON", () => {
    expect(eventIn(structured(required))).toMatchObject({ data: "null" });
    expect(eventIn(structured({ ...required, data: "text" }))).toMatchObject({ data: '"text"' });
  });

  test("data_base64 is the bytes of JSON or of text, by its type", () => {
    const base64 = (text: string | Uint8Array) => Buffer.from(text).toString("base64");
    expect(eventIn(structured({ ...required, data_base64: base64('{"a":1.0}') })).data).toBe('{"a":1.0}');
    const text = { ...required, datacontenttype: "text/plain", data_base64: base64("a") };
    expect(eventIn(structured(text)).data).toBe('"a"');
    expect(problemOf(structured({ ...text, datacontenttype: "image/png" }))).toContain("neither JSON nor text");
    expect(problemOf(structured({ ...text, data_base64: base64(Uint8Array.of(0xff)) }))).toContain("not text");
    for (const wrong of ["a", "a===", "é+==", "YQ==YQ==", 5, {}]) {
      expect(problemOf(structured({ ...text, data_base64: wrong }))).toBe("its data_base64 is not base64");
    }
    expect(problemOf(structured({ ...text, data: "a" }))).toBe("it has both data and data_base64");
  });

  test.each([1.5, 1e30, {}, [], [1]])("an attribute cannot be %j", (value) => {
    expect(problemOf(structured({ ...required, count: value }))).toBe(
      "its attribute count is not a text, a whole number, true or false",
    );
  });

  test.each(["Upper", "under_score", "__proto__", "a b", "", "ä", "x".repeat(65)])(
    "no attribute is called %j",
    (name) => {
      const text = JSON.stringify(required).replace("{", `{${JSON.stringify(name)}:"x",`);
      expect(problemOf(structured(text))).toContain("is not lower-case letters and digits");
    },
  );

  test.each(["", "nonsense", "[]", "null", '"x"', "{", '{"id":"1"} x'])("%j is not a JSON object", (body) => {
    expect(problemOf(structured(body))).toBe("its body is not a JSON object");
  });

  test("attributes that are there as headers as well are not plain headers, and do not count", () => {
    const event = eventIn(structured({ ...required, data: 1 }, { ...ce({ id: "other" }), "ce-more": "x", "x-a": "b" }));
    expect(event).toMatchObject({ id: "1", extensions: {}, headers: { "x-a": "b" } });
    expect(event.headers).toEqual({ "x-a": "b" });
  });

  test.each([
    "application/cloudevents-batch+json",
    "application/cloudevents+avro",
    "application/cloudevents",
    "application/cloudevents+jsonx",
  ])("%s is told that it is not understood", (contentType) => {
    const decoded = decode({ headers: ce(), contentType, body: Buffer.from("[]") }, http);
    expect(problemOf(decoded)).toContain("is not understood");
  });
});

describe("hostile input", () => {
  const deep = `${"[".repeat(100_000)}${"]".repeat(100_000)}`;

  test("payloads that are nested as deep as a stack is high pass through, and are somebody else's to refuse", () => {
    expect(eventIn(structured(`${JSON.stringify(required).slice(0, -1)},"data":${deep}}`)).data).toBe(deep);
    expect(eventIn(binary(ce(), deep)).data).toBe(deep);
    expect(problemOf(structured(`${JSON.stringify(required).slice(0, -1)},"x":${deep}}`))).toContain("its attribute x");
  });

  test("a million letters in a name, a value or a type are read once, and not repeated in what is wrong", () => {
    const long = "x".repeat(1_000_000);
    expect(eventIn(binary(ce({ subject: long }))).subject).toHaveLength(1_000_000);
    for (const decoded of [
      binary(ce({ specversion: long })),
      binary(ce(), "x", long),
      decode({ headers: {}, contentType: `application/cloudevents+${long}`, body: Buffer.from("{}") }, http),
      structured({ ...required, [long]: "x" }),
      structured({ ...required, specversion: long }),
    ]) {
      expect(problemOf(decoded).length).toBeLessThan(200);
    }
    const quotes = `"${'\\"'.repeat(200_000)}"`;
    expect(eventIn(structured(`${JSON.stringify(required).slice(0, -1)},"data":${quotes}}`)).data).toBe(quotes);
  });

  test("names of what every object has are names like others", () => {
    const headers = Object.fromEntries<string>([
      ...Object.entries<string>(ce()),
      ["__proto__", "a"],
      ["constructor", "b"],
      ["ce-constructor", "c"],
    ]);
    const event = eventIn(binary(headers));
    expect(Object.entries(event.headers)).toEqual([
      ["__proto__", "a"],
      ["constructor", "b"],
    ]);
    expect(Object.entries(event.extensions)).toEqual([["constructor", "c"]]);
    expect(Object.getPrototypeOf(event.headers)).toBe(Object.prototype);
  });

  test("names of what every object has go out as names like others, and come back", () => {
    const headers = Object.fromEntries([
      ["__proto__", "a"],
      ["X-constructor", "b"],
      ["header-__proto__", "c"],
    ]);
    const extensions = { constructor: "d", valueof: "" };
    for (const style of Object.values(styles)) {
      for (const mode of modes) {
        const outside = encode({ ...minimal, headers, extensions }, mode, style);
        expect(Object.getPrototypeOf(outside.headers)).toBe(Object.prototype);
        const event = eventIn(decode(received(outside), style));
        expect(Object.entries(event.headers).sort()).toEqual([
          ["__proto__", "a"],
          ["header-__proto__", "c"],
          ["x-constructor", "b"],
        ]);
        expect(Object.entries(event.extensions)).toEqual(Object.entries(extensions));
      }
    }
  });

  test("of two members with one name the last counts, for the attributes and for the data", () => {
    const text = `{"data":1,"id":"0",${JSON.stringify(required).slice(1, -1)},"data":2}`;
    expect(eventIn(structured(text))).toMatchObject({ id: "1", data: "2" });
  });
});

test("the text of a member is what JSON.parse reads there", () => {
  const object = fc.dictionary(
    fc.oneof(fc.constantFrom("data", '"', "\\", "a:b", "{", "}"), fc.string()),
    fc.jsonValue(),
  );
  fc.assert(
    fc.property(object, fc.constantFrom(0, 1, 2), (value, space) => {
      const json = JSON.stringify(value, undefined, space);
      for (const name of [...Object.keys(value), "absent"]) {
        const text = memberText(json, name);
        if (Object.hasOwn(value, name)) expect(JSON.parse(text ?? "")).toEqual(JSON.parse(JSON.stringify(value[name])));
        else expect(text).toBeUndefined();
      }
    }),
    { numRuns: 500 },
  );
});
