import { describe, expect, it } from "vitest";
import { checkReading, isPast, splitWords } from "../../src/contracts/naming.js";
import { clearVerbs, irregularPast, sameInPast, simplePast } from "../../src/contracts/words.js";
import { thrown } from "../core/thrown.js";

const list = (names: string): readonly string[] => names.trim().split(/\s+/);

const facts = list(`
  OrderPlaced PaymentCaptured StockRanOut UserLeft PaymentTaken FundsHeld EmailSent InvoicePaid UserSignedUp ItemAddedToCart
  OrderWasShipped PriceSet PasswordReset MessageRead BidPlaced BetPlaced ChargeRefunded ReportGenerated TransferCompleted ImportFailed
  BackupFinished HTTPServerStarted Deployed UserBecameInactive TemperatureRoseAboveLimit SessionBegan ContractWithdrawn EmailResent
  CardCut PaymentSplit OrderCancelled OrderCanceled AgreementReachedWithSupplier TermsAgreed UserUnsubscribed LeaseTookEffect RunFailed
  MeterReadingTaken OrderLost KeyLostAgain S3ObjectCreated CheckPassed ProcessStarted IndexRebuilt FileOverwritten AccountFrozen
  UserWentOffline PaymentHasFailed BankTransferBounced DocumentSigned CallEnded SplitCompleted JobQuit SentEmail
`);
const orders = list(`
  SendEmail CapturePayment ReserveStock SetPrice PutObject ReadMeter SplitPayment CutCard MarkOrderAsPaid MarkInvoicePaid LetGo
  SendEmailToRegisteredUsers SendPasswordReset CalculateCost ReduceCost FoundCompany EmbedVideo SeedDatabase FeedFish ExceedLimit
  CheckPassword Deploy Rebuild ShipOrder ChargeCard EmailReceipt NotifySeller DeleteUser Notify OnboardCustomer PayOut ResendUndelivered
  SpeedUp IndexProducts GenerateFeed RenderReport UpdateNewsfeed CreateBed QuitJob Set Split RunReport PrintLabel BookRoom
`);
/** English does not decide; nobody is stopped. */
const either = list(`
  SetOrderShipped ArchiveExpiredOrders ProcessReturnedItems PlaceBid PlaceBet RequestPasswordReset StartRun FlagAccountAsSuspended
  ReadModelUpdated SetCompleted
`);
const questions = list(`
  PriceOf CheckPassword IsOrderPaid HasUserLeft WasOrderPlaced FindUser OrdersOf WhichOrdersShipped CountOrders Balance
`);

describe("the names of contracts", () => {
  it.each([...facts, ...either])("%s passes as an event", (name) => {
    expect(() => checkReading("event", name)).not.toThrow();
  });

  it.each(facts)("%s is refused as a command and as a query, with the way out", (name) => {
    const refused = thrown(() => checkReading("command", name));
    expect(refused.code).toBe("PH_NAME_INVALID");
    expect(refused.message).toContain(`event("${name}", …)`);
    expect(thrown(() => checkReading("query", name)).message).toContain(`event("${name}", …)`);
  });

  it.each([...orders, ...either])("%s passes as a command", (name) => {
    expect(() => checkReading("command", name)).not.toThrow();
  });

  it.each(orders)("%s is refused as an event, with the way out", (name) => {
    const refused = thrown(() => checkReading("event", name));
    expect(refused.code).toBe("PH_NAME_INVALID");
    expect(refused.message).toContain(`command("${name}", …)`);
    expect(refused.facts).toMatchObject({ name, kind: "event" });
  });

  it.each(questions)("%s passes as a query", (name) => {
    expect(() => checkReading("query", name)).not.toThrow();
  });

  it("splits PascalCase into words, with acronyms and digits", () => {
    expect(splitWords("HTTPServerStarted2")).toEqual(["http", "server", "started", "2"]);
    expect(splitWords("S3ObjectCreated")).toEqual(["s", "3", "object", "created"]);
    expect(splitWords("A")).toEqual(["a"]);
  });

  it("knows some 200 irregular forms, each as a past form", () => {
    const irregular = [...irregularPast, ...simplePast];
    expect(irregular.length + sameInPast.size).toBeGreaterThan(200);
    expect(irregular.filter((word) => !isPast(word))).toEqual([]);
  });

  it("keeps its lists apart: no past form is a verb that gives an order, none is listed twice", () => {
    const past = [...irregularPast, ...simplePast];
    expect(past.filter((word) => clearVerbs.has(word) || sameInPast.has(word))).toEqual([]);
    expect(past.length).toBe(new Set(past).size);
    expect([...clearVerbs].filter(isPast)).toEqual([]);
  });
});
