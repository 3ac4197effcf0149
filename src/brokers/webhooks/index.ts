/** The entry `posthorn/webhooks`: webhooks out of a relay and into an intake, as Standard Webhooks 1.0.0 describes them. */
export { type WebhookIntake, type WebhookIntakeOptions, webhookIntake } from "./intake.js";
export { newWebhookKeyPair, newWebhookSecret } from "./keys.js";
export {
  type VerifiedWebhook,
  type VerifyOptions,
  verifyWebhook,
  type WebhookHeaders,
} from "./verify.js";
export { type WebhookOptions, webhook } from "./webhook.js";
