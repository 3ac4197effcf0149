/**
 * The rules for every broker, on the pair of webhook() and webhookIntake() over HTTPS. A webhook() only sends: what its receiver does with what it was
 * sent is that receiver's, so the way in has its own tests in intake.test.ts, and here stands for what any receiver of webhooks does.
 */
import { webhook } from "posthorn/webhooks";
import { webhookFeatures } from "../../../src/brokers/webhooks/webhook.js";
import { brokerConformance } from "../conformance.js";
import { unreadable } from "../unreadable.js";
import { arrivals, authority, startMailbox } from "./mailbox.js";
import { secret } from "./places.js";

brokerConformance({
  name: "HTTP webhooks, a webhook() that posts to a webhookIntake()",
  features: webhookFeatures,
  service: startMailbox,
  make: ({ url, destination, timeoutMs }) =>
    webhook({
      url: `${url.replace(/\/$/, "")}/${destination}`,
      secrets: [secret],
      allowPrivate: ["127.0.0.1"],
      ca: authority,
      timeoutMs,
      connectTimeoutMs: Math.min(timeoutMs, 5_000),
    }),
  arrivals: ({ destination }) => arrivals(destination),
  unreadable: unreadable("https"),
  headers: "one line",
  tooLargeBytes: 2_000_000,
  share: 0.1,
});
