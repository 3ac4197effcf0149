/**
 * Goal: whoever may not come in, or comes with TLS where there is none, or without it where there is, is told so and what to do, by a typed error at start and
 * in the outcome of a send later; and is not told that the broker is away.
 * Method: the same rules for each broker, on real servers: one without TLS, one with TLS and a certificate that nobody has signed. Both want a password.
 */
import { inspect } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Broker } from "../../src/brokers/broker.js";
import { ConfigurationError } from "../../src/core/errors.js";
import type { Certificate } from "../support/certificate.js";
import type { OwnService } from "../support/services.js";
import { kinds, messages, never, secret } from "./scene.js";

export interface Doors {
  readonly name: string;
  readonly schemes: readonly [plain: string, tls: string];
  readonly certificate: Promise<Certificate>;
  /** A server that lets in whoever has the password of the address that it is known by; on one port, with a password, where they are given. */
  readonly plain: (options?: { readonly port: number; readonly password: string }) => Promise<OwnService>;
  /** The address of a server with TLS, whatever its scheme. */
  readonly tls: (certificate: Certificate) => Promise<string>;
  /** What is there to send to and to receive from, on a server that lets in whoever comes by this address. */
  readonly prepare?: (url: string, ca?: string) => Promise<void>;
  readonly make: (url: string, tls?: { readonly ca?: string; readonly servername?: string }) => Broker;
  /** Whoever comes without credentials is not answered, so nobody can tell it from a broker that goes away. */
  readonly hangsUp?: true;
  /** A client that was given an address without TLS uses it all the same where the server wants it. */
  readonly upgrades?: true;
}

/** `text` begins with another scheme. */
const begin = (text: string, scheme: string) => text.replace(/^\w+:/, `${scheme}:`);
const opening = { name: "door", service: "shop", signal: never(), onTrouble: () => undefined };

function wrong(url: string): string {
  const other = new URL(url);
  other.password = secret;
  return other.href.replace(/\/$/, "");
}

/** Neither the way out nor the way in is opened: what is thrown says so, names the place, and has no password in it. */
async function expectRefused(broker: Broker, code: string, text: RegExp, url: string): Promise<void> {
  for (const open of [() => broker.openSender(opening), () => broker.openReceiver(opening)]) {
    const error: unknown = await open().then(
      async (opened) => {
        await opened.close();
        expect.fail("it opened");
      },
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(ConfigurationError);
    expect(error).toMatchObject({ code, message: expect.stringMatching(text) });
    expect(String(error)).toContain(broker.where.split(/[/ ]/)[0]);
    const { password } = new URL(url);
    for (const hidden of [secret, password, decodeURIComponent(password)])
      expect(inspect(error, { depth: 8 })).not.toContain(hidden);
  }
}

export function brokerDoors(doors: Doors): void {
  const { name, schemes, certificate, plain, tls, prepare, make } = doors;

  describe(`${name}: the door`, () => {
    let open: OwnService;
    let locked: string;
    beforeAll(async () => {
      open = await plain();
      await prepare?.(open.url);
      locked = begin(await tls(await certificate), schemes[1]);
      await prepare?.(locked, (await certificate).pem);
    });
    afterAll(() => open?.remove());

    credentialRules(doors, () => open);
    tlsRules(doors, () => ({ open: open.url, locked }));

    test("a certificate that nobody has signed, or for another name, is told, with what to give; the right one opens", async () => {
      const unsigned = /certificate .*is not accepted.*Give its signer/;
      await expectRefused(make(locked, {}), "PH_BROKER_TLS", unsigned, locked);
      const ca = (await certificate).pem;
      const other = make(locked, { ca, servername: "other.example" });
      await expectRefused(other, "PH_BROKER_TLS", /is for another name/, locked);
      const sender = await make(locked, { ca, servername: "localhost" }).openSender(opening);
      expect(kinds(await sender.send(messages(1), never()))).toEqual(["acknowledged"]);
      await sender.close();
    });
  });
}

function credentialRules(
  { schemes: [without], plain, prepare, make, hangsUp }: Doors,
  service: () => OwnService,
): void {
  // It was told as an outage: "Messages wait, and go out when it is back".
  test(`a wrong password${hangsUp ? " is" : ", and none at all, are"} credentials that are refused`, async () => {
    const { url, port } = service();
    const words = /does not let this client in: its user, password or token is wrong or missing\. Correct it\./;
    await expectRefused(make(wrong(url)), "PH_BROKER_DENIED", words, url);
    if (!hangsUp) await expectRefused(make(`${without}://127.0.0.1:${port}`), "PH_BROKER_DENIED", words, url);
  });

  // The outcome was that the broker is away, and its credentials were nowhere in the alert.
  test("credentials that are refused while it runs hold messages back, and the outcome says so", async () => {
    const before = await plain();
    await prepare?.(before.url);
    const sender = await make(before.url).openSender(opening);
    await before.remove();
    const after = await plain({ port: before.port, password: "another-password" });
    const [first] = await sender.send(messages(1), never());
    // The first may only find that the connection is gone.
    const isTold = first?.kind === "unavailable" && first.error instanceof ConfigurationError;
    const [sent] = isTold ? [first] : await sender.send(messages(1), never());
    expect(sent).toMatchObject({ kind: "unavailable", error: { code: "PH_BROKER_DENIED" } });
    await sender.close();
    await after.remove();
  });
}

function tlsRules({ schemes, make, upgrades }: Doors, urls: () => { open: string; locked: string }): void {
  const [without, encrypted] = schemes;

  test("an address with TLS at a server without it is told, with the address to write", async () => {
    const { open } = urls();
    const text = new RegExp(`[Ww]rite ${without}://`);
    await expectRefused(make(begin(open, encrypted)), "PH_BROKER_TLS", text, open);
  });

  test("an address without TLS at a server that wants it is told, with the address to write", async () => {
    const { locked } = urls();
    const text = upgrades ? `is not accepted.*Write ${encrypted}://` : `speaks TLS.*Write ${encrypted}://\\.$`;
    await expectRefused(make(begin(locked, without)), "PH_BROKER_TLS", new RegExp(text), locked);
  });
}
