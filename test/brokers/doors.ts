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

export function brokerDoors(doors: Doors): void {
  const { name, schemes, certificate, plain, tls, prepare, make, upgrades, hangsUp } = doors;
  const [without, encrypted] = schemes;
  const begin = (url: string, scheme: string) => url.replace(/^\w+:/, `${scheme}:`);
  const wrong = (url: string) => {
    const other = new URL(url);
    other.password = secret;
    return other.href.replace(/\/$/, "");
  };

  describe(`${name}: the door`, () => {
    let open: OwnService;
    let locked: string;
    beforeAll(async () => {
      open = await plain();
      await prepare?.(open.url);
      locked = begin(await tls(await certificate), encrypted);
      await prepare?.(locked, (await certificate).pem);
    });
    afterAll(() => open?.remove());

    /** Of the way out and of the way in: what is thrown, and that no password is in it. */
    async function refusalsOf(broker: Broker): Promise<readonly ConfigurationError[]> {
      const options = { name: "door", signal: never(), onTrouble: () => undefined };
      const refusals: ConfigurationError[] = [];
      for (const opening of [() => broker.openSender(options), () => broker.openReceiver(options)]) {
        const error: unknown = await opening().then(
          async (opened) => {
            await opened.close();
            expect.fail("it opened");
          },
          (reason: unknown) => reason,
        );
        expect(error).toBeInstanceOf(ConfigurationError);
        const { password } = new URL(open.url);
        for (const hidden of [secret, password, decodeURIComponent(password)])
          expect(inspect(error, { depth: 8 })).not.toContain(hidden);
        if (error instanceof ConfigurationError) refusals.push(error);
      }
      return refusals;
    }
    async function expectRefused(broker: Broker, code: string, text: RegExp): Promise<void> {
      for (const error of await refusalsOf(broker)) {
        expect(error).toMatchObject({ code, message: expect.stringMatching(text) });
        expect(error.message).toContain(broker.where.split(/[/ ]/)[0]);
      }
    }

    // It was told as an outage: "Messages wait, and go out when it is back".
    test(`a wrong password${hangsUp ? " is" : ", and none at all, are"} credentials that are refused`, async () => {
      const words = /does not let this client in: its user, password or token is wrong or missing\. Correct it\./;
      await expectRefused(make(wrong(open.url)), "PH_BROKER_DENIED", words);
      if (hangsUp) return;
      await expectRefused(make(`${without}://127.0.0.1:${open.port}`), "PH_BROKER_DENIED", words);
    });

    test("an address with TLS at a server without it is told, with the address to write", async () => {
      const text = new RegExp(`[Ww]rite ${without}://`);
      await expectRefused(make(begin(open.url, encrypted)), "PH_BROKER_TLS", text);
    });

    test("an address without TLS at a server that wants it is told, with the address to write", async () => {
      const text = upgrades ? `is not accepted.*Write ${encrypted}://` : `speaks TLS.*Write ${encrypted}://\\.$`;
      await expectRefused(make(begin(locked, without)), "PH_BROKER_TLS", new RegExp(text));
    });

    test("a certificate that nobody has signed, or for another name, is told, with what to give; the right one opens", async () => {
      await expectRefused(make(locked, {}), "PH_BROKER_TLS", /certificate .*is not accepted.*Give its signer/);
      const ca = (await certificate).pem;
      await expectRefused(make(locked, { ca, servername: "other.example" }), "PH_BROKER_TLS", /is for another name/);
      const options = { name: "door", signal: never(), onTrouble: () => undefined };
      const sender = await make(locked, { ca, servername: "localhost" }).openSender(options);
      expect(kinds(await sender.send(messages(1), never()))).toEqual(["acknowledged"]);
      await sender.close();
    });

    // The outcome was that the broker is away, and its credentials were nowhere in the alert.
    test("credentials that are refused while it runs hold messages back, and the outcome says so", async () => {
      const before = await plain();
      await prepare?.(before.url);
      const sender = await make(before.url).openSender({ name: "door", signal: never(), onTrouble: () => undefined });
      await before.remove();
      const after = await plain({ port: before.port, password: "another-password" });
      const [first] = await sender.send(messages(1), never());
      // The first may only find that the connection is gone.
      const [sent] =
        first?.kind === "unavailable" && first.error instanceof ConfigurationError
          ? [first]
          : await sender.send(messages(1), never());
      expect(sent).toMatchObject({ kind: "unavailable", error: { code: "PH_BROKER_DENIED" } });
      await sender.close();
      await after.remove();
    });
  });
}
