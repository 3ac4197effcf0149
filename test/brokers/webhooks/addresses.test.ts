import { BlockList, type LookupFunction } from "node:net";
import fc from "fast-check";
import { webhook } from "posthorn/webhooks";
import { describe, expect, onTestFinished, test } from "vitest";
import type { Sender } from "../../../src/brokers/broker.js";
import { insideAddress } from "../../../src/brokers/webhooks/addresses.js";
import { endpointOf, guarded } from "../../../src/brokers/webhooks/endpoint.js";
import { WebhookSender } from "../../../src/brokers/webhooks/sender.js";
import { ConfigurationError } from "../../../src/core/errors.js";
import { message, receiving, said, secret, senderOf, sendOne } from "./places.js";

const classes: Readonly<Record<string, readonly string[]>> = {
  "an address of this host": ["0.0.0.0", "0.1.2.3", "::"],
  "a private address": ["10.0.0.0", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1"],
  "an address of carrier-grade NAT": ["100.64.0.0", "100.127.255.255", "100.100.100.200"],
  "a loopback address": ["127.0.0.1", "127.255.255.254", "::1", "0:0:0:0:0:0:0:1"],
  "a link-local address": ["169.254.169.254", "fe80::1", "fe80::1%eth0", "febf::1"],
  "the address of a cloud's own service": ["168.63.129.16"],
  "a reserved address": [
    "192.0.0.1",
    "192.0.0.192",
    "240.0.0.1",
    "255.255.255.255",
    "2001:2::1",
    "4000::1",
    "1::1",
    "64:ff9c::1",
  ],
  "an address for documentation": ["192.0.2.1", "198.51.100.1", "203.0.113.255", "2001:db8::1", "3fff::1"],
  "an address for benchmarks": ["198.18.0.1", "198.19.255.255"],
  "a multicast address": ["224.0.0.1", "239.255.255.255", "ff02::1"],
  "a 6to4 relay address": ["192.88.99.1"],
  "an IPv4-compatible address": ["::127.0.0.1", "::a00:1", "::5db8:d822"],
  "a translated IPv4 address": ["::ffff:0:127.0.0.1"],
  "a NAT64 address of a local network": ["64:ff9b:1::a00:1"],
  "a discard-only address": ["100::1"],
  "a Teredo address": ["2001::1", "2001:0:a00:1::"],
  "a 6to4 address": ["2002:7f00:1::", "2002:5db8:d822::1"],
  "a unique local address": ["fc00::1", "fd00:ec2::254"],
  "a site-local address": ["fec0::1"],
};

test.each(Object.entries(classes))("%s may not be posted to", (what, addresses) => {
  expect(addresses.map((address) => [address, insideAddress(address)])).toEqual(
    addresses.map((address) => [address, what]),
  );
});

test("an IPv4 address in an IPv6 address that reaches it is judged as that IPv4 address", () => {
  const embedded = {
    "::ffff:127.0.0.1": "a loopback address",
    "::ffff:7f00:1": "a loopback address",
    "::FFFF:169.254.169.254": "a link-local address",
    "64:ff9b::10.0.0.1": "a private address",
    "64:ff9b::a00:1": "a private address",
    "2600::5efe:10.0.0.1": "a private address",
    "2600::200:5efe:7f00:1": "a loopback address",
  };
  expect(Object.fromEntries(Object.keys(embedded).map((address) => [address, insideAddress(address)]))).toEqual(
    embedded,
  );
  const outside = ["::ffff:93.184.216.34", "64:ff9b::5db8:d822", "2600::5efe:5db8:d822"];
  expect(outside.map(insideAddress)).toEqual(outside.map(() => undefined));
});

test("addresses just outside of a range, and those of the internet, may be posted to", () => {
  const outside = [
    "1.1.1.1",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2606:4700::1111",
    "2001:200::1",
    "2001:4860:4860::8888",
    "3ffe::1",
    "2003::1",
  ];
  expect(outside.map((address) => [address, insideAddress(address)])).toEqual(
    outside.map((address) => [address, undefined]),
  );
});

test("what is no address that can be read is never let through", () => {
  const broken = [
    "",
    "localhost",
    "127.1",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "2130706433",
    "1.2.3",
    "1.2.3.4.5",
    "1.2.3.256",
    "::1::",
    ":::",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "g::1",
    "1.2.3.4 ",
    "::ffff:1.2.3",
    "::12345",
  ];
  expect(broken.map((address) => [address, insideAddress(address)])).toEqual(
    broken.map((address) => [address, "no address that can be read"]),
  );
});

test("for any IPv4 address, alone or mapped, the answer is that of a list that Node itself keeps", () => {
  const list = new BlockList();
  for (const [net, bits] of [
    ["0.0.0.0", 8],
    ["10.0.0.0", 8],
    ["100.64.0.0", 10],
    ["127.0.0.0", 8],
    ["168.63.129.16", 32],
    ["169.254.0.0", 16],
    ["172.16.0.0", 12],
    ["192.0.0.0", 24],
    ["192.0.2.0", 24],
    ["192.88.99.0", 24],
    ["192.168.0.0", 16],
    ["198.18.0.0", 15],
    ["198.51.100.0", 24],
    ["203.0.113.0", 24],
    ["224.0.0.0", 4],
    ["240.0.0.0", 4],
  ] as const)
    list.addSubnet(net, bits, "ipv4");
  fc.assert(
    fc.property(fc.ipV4(), (address) => {
      const inside = list.check(address, "ipv4");
      return (
        (insideAddress(address) !== undefined) === inside &&
        (insideAddress(`::ffff:${address}`) !== undefined) === inside
      );
    }),
    { numRuns: 2_000 },
  );
});

describe("the url of a webhook", () => {
  const refused = (url: string, options: object = {}): unknown => {
    try {
      return webhook({ url, secrets: [secret], ...options }).where;
    } catch (error) {
      return error;
    }
  };
  const address = { code: "PH_BROKER_ADDRESS" };

  test.each([
    "https://127.0.0.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0177.0.0.1/",
    "https://127.1/",
    "https://0/",
    "https://localhost/",
    "https://LOCALHOST./",
    "https://api.localhost/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:a00:1]/",
    "https://[64:ff9b::a9fe:a9fe]/",
    "https://[fd00::1]:8443/",
    "https://169.254.169.254/latest/meta-data",
    "https://１２７.0.0.1/",
    "https://10.0.0.1:443/",
  ])("%s leads to the inside of a network and is refused at once", (url) => {
    expect(refused(url)).toMatchObject(address);
    expect(String(refused(url))).toContain("allowPrivate");
  });

  test("one in the clear on this host is told of allowPrivate at once, which is all that it needs", () => {
    for (const host of ["127.0.0.1", "localhost", "::1"]) {
      const url = `http://${host.includes(":") ? `[${host}]` : host}:3000/`;
      expect(String(refused(url))).toContain(`allowPrivate: ["${host}"]`);
      expect(refused(url, { allowPrivate: [host] })).toBe(url.slice(0, -1));
    }
  });

  test.each([
    "",
    "partner.example/hooks",
    "ftp://partner.example/",
    "file:///etc/passwd",
    "http://partner.example/",
    "https://",
    "https://a b/",
    "https://1.2.3.256/",
  ])("%j cannot be posted to, or not in secret, and is refused at once", (url) => {
    const error = refused(url);
    expect(error).toMatchObject({ code: url === "" ? "PH_OPTION_INVALID" : "PH_BROKER_ADDRESS" });
  });

  test("what is allowed by name is allowed, as it stands in the url, and nothing else is", () => {
    expect(refused("http://127.0.0.1:8080/", { allowPrivate: ["127.0.0.1"] })).toBe("http://127.0.0.1:8080");
    expect(refused("https://[::1]/", { allowPrivate: ["::1"] })).toBe("https://[::1]");
    expect(refused("http://Partner.internal/", { allowPrivate: ["partner.INTERNAL"] })).toBe("http://partner.internal");
    expect(refused("http://partner.example/", { allowHttp: true })).toBe("http://partner.example");
    expect(refused("https://127.0.0.2/", { allowPrivate: ["127.0.0.1"] })).toMatchObject(address);
    for (const host of ["", "a/b", "https://a", "a:1", "a@b", "a?b", 5, "*.internal "]) {
      expect(refused("https://partner.example/", { allowPrivate: [host] })).toMatchObject({
        code: "PH_OPTION_INVALID",
      });
    }
  });

  test("neither a user nor a password nor a path nor a query of it is in an error or in what people are shown", () => {
    const hidden = /hunter2|ada|T0KEN|abc123/;
    for (const url of [
      "https://ada:hunter2@127.0.0.1/T0KEN?t=abc123",
      "http://ada:hunter2@partner.example/T0KEN?t=abc123",
      "ftp://ada:hunter2@x/T0KEN",
      "https://ada:hunter2@a b/T0KEN",
    ]) {
      expect(String(refused(url))).not.toMatch(hidden);
    }
    expect(refused("https://ada:hunter2@partner.example:8443/T0KEN?t=abc123")).toMatch(
      /^https:\/\/partner\.example:8443\/…#[0-9a-f]{6}$/,
    );
    expect(String(refused(`https://x/${"T0KEN".repeat(1000)}`))).not.toMatch(hidden);
    const headers = refused("https://partner.example/", { headers: "Bearer T0KEN" });
    expect(headers).toMatchObject({ code: "PH_OPTION_INVALID", message: expect.stringContaining("got a string") });
    expect(String(headers)).not.toMatch(hidden);
  });
});

describe("a name", () => {
  const resolving = (...answers: readonly (readonly string[])[]) => {
    let asked = 0;
    const lookup: LookupFunction = (_host, options, callback) => {
      const answer = answers[Math.min(asked, answers.length - 1)] ?? [];
      asked += 1;
      const found = answer.map((address) => ({ address, family: address.includes(":") ? 6 : 4 }));
      const [first] = found;
      if (options.all === true) callback(null, found);
      else callback(null, first?.address ?? "", first?.family ?? 4);
    };
    return { lookup, asked: () => asked };
  };
  const toPartner = (port: string, lookup: LookupFunction, options: object = {}) =>
    webhook({ url: `http://partner.example:${port}/`, secrets: [secret], allowHttp: true, lookup, ...options });

  test.each([
    [["127.0.0.1"]],
    [["::ffff:127.0.0.1"]],
    [["93.184.216.34", "10.0.0.1"]],
    [["fe80::1%1"]],
    [["not an address"]],
  ])("that resolves to %j is not connected to, at the start or later, and the reason says so", async (addresses) => {
    const { url, asked } = await receiving(() => 204);
    const { port } = new URL(url);
    const opening = senderOf(toPartner(port, resolving(addresses).lookup));
    // Another answer may come at the next attempt: it is no error of the configuration.
    await expect(opening).rejects.toThrow(/resolves to .*Nothing was sent/);
    await expect(opening).rejects.not.toBeInstanceOf(ConfigurationError);
    const sender = await openedBefore(`http://partner.example:${port}/`, resolving(addresses).lookup);
    const sent = await sendOne(sender);
    expect(sent).toMatchObject({ kind: "unavailable", error: { code: "PH_BROKER_ADDRESS" } });
    expect(said(sent)).toContain("Nothing was sent");
    expect(asked).toEqual([]);
  });

  /** A sender that was opened when its name was still in order. */
  async function openedBefore(url: string, lookup: LookupFunction): Promise<Sender> {
    const endpoint = endpointOf(url, { allowPrivate: [], allowHttp: true });
    const times = { connectTimeoutMs: 5_000, timeoutMs: 20_000 };
    const way = {
      keys: [],
      mode: "structured",
      style: { prefix: "ce-", percent: true },
      headers: {},
      ordered: true,
    } as const;
    const options = { endpoint, lookup: guarded(lookup, endpoint), connections: 1, keepAlive: true, ...times, ...way };
    const sender = new WebhookSender({ ...options, whenGone: "wait", clean: String }, { gone: false, silentUntil: 0 });
    onTestFinished(() => sender.close());
    return sender;
  }

  test("is resolved once for a connection, and the connection goes to the address that was checked: a later answer is never used for it", async () => {
    const { url, asked } = await receiving(() => 204);
    // Allowed by name, so that it can be this machine: what matters is that nobody asks again between the check and the connection.
    const names = resolving(["127.0.0.1"], ["127.0.0.1"], ["203.0.113.1"]);
    const sender = await senderOf(toPartner(new URL(url).port, names.lookup, { allowPrivate: ["partner.example"] }));
    expect(names.asked()).toBe(1);
    for (const id of ["1", "2"]) expect(await sendOne(sender, message(id))).toEqual({ kind: "acknowledged" });
    expect([names.asked(), asked.length]).toEqual([2, 2]);
    expect(asked[0]?.headers.host).toBe(`partner.example:${new URL(url).port}`);
  });

  test("that changes to the inside of a network is refused at the next connection, whatever it was before", async () => {
    const names = resolving(["93.184.216.34"], ["93.184.216.34", "127.0.0.1"]);
    const endpoint = endpointOf("https://partner.example/", { allowPrivate: [], allowHttp: false });
    const resolve = (all: boolean) =>
      new Promise((end) => {
        guarded(names.lookup, endpoint)("partner.example", { all }, (error, found, family) =>
          end(error ?? [found, family]),
        );
      });
    expect(await resolve(false)).toEqual(["93.184.216.34", 4]);
    expect(await resolve(true)).toMatchObject({
      code: "PH_BROKER_ADDRESS",
      facts: { where: "https://partner.example" },
    });
    expect(String(await resolve(false))).toContain("127.0.0.1, a loopback address");
  });

  test("that does not exist, or that the resolver has no answer for, is a receiver that is away", async () => {
    const failing: LookupFunction = (_host, _options, callback) =>
      callback(Object.assign(new Error("nothing"), { code: "ENOTFOUND" }), "");
    for (const lookup of [failing, resolving([]).lookup]) {
      await expect(senderOf(toPartner("1", lookup))).rejects.toThrow("does not exist");
      const sent = await sendOne(await openedBefore("http://partner.example:1/", lookup));
      expect([sent.kind, said(sent)]).toEqual(["unavailable", expect.stringContaining("does not exist")]);
    }
  });

  // It was thrown where nobody catches it, and ended the process.
  test.each([[undefined], [null], [{}], [[null]], [[{ address: null, family: 4 }]]])(
    "that a lookup of one's own answers %j for is a receiver that is away",
    async (answer) => {
      const odd: LookupFunction = (_host, _options, callback) => {
        setImmediate(() => Reflect.apply(callback, undefined, [undefined, answer]));
      };
      expect(said(await sendOne(await openedBefore("http://partner.example:1/", odd)))).toContain("does not exist");
    },
  );
});
