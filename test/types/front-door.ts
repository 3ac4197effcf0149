/** What the type tests take for the package: contracts and policies, as src/index.ts exports them. */
export type {
  AnyContract,
  Command,
  Contract,
  Event,
  InputOf,
  Kind,
  OutputOf,
  Query,
  ResultInputOf,
  ResultOf,
} from "../../src/contracts/contract.js";
export { command, event, query } from "../../src/contracts/define.js";
export { type Schema, type } from "../../src/contracts/standard-schema.js";
export type { Idempotency, Policy } from "../../src/policies/policy.js";
export { policies } from "../../src/policies/presets.js";
export { retry } from "../../src/policies/retry.js";
