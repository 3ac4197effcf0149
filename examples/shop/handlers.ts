/** What is done, and by whom. Only a process that works calls this. `troubles` stands between for the switches of the page. */
import {
  CapturePayment,
  CheckPassword,
  CloseBooks,
  DeliverReport,
  ImportOrders,
  MaySeeOrder,
  OrderPlaced,
  PaymentCaptured,
  PickPiece,
  PriceOf,
  SendEmail,
  SurveyRegions,
  UserRegistered,
} from "./contracts.js";
import type { Troubles } from "./demo/troubles.js";
import { answerPassword, welcomeUser } from "./features/accounts.js";
import { addToFigures } from "./features/figures.js";
import { type Mailer, sendEmail } from "./features/mail.js";
import { answerMaySee, confirmOrder, importOrders } from "./features/orders.js";
import { capturePayment } from "./features/payment.js";
import { answerPrice } from "./features/prices.js";
import { bookPayment, deliverReport, onCloseBooks } from "./features/report.js";
import { indexOrder } from "./features/search.js";
import { loadZones, planShipment } from "./features/shipping.js";
import { surveyRegions } from "./features/survey.js";
import { pickPiece } from "./features/warehouse.js";
import { type Endpoint, meetPartner } from "./neighbours.js";
import * as queues from "./post.js";

export interface Outside {
  readonly mailer: Mailer;
  readonly paymentUrl: string;
  readonly partner: Endpoint;
}

export function addHandlers({ mailer, paymentUrl, partner }: Outside, troubles: Troubles): void {
  const { post } = queues;
  const zones = loadZones();
  const pay = troubles.killedAfter(capturePayment(paymentUrl));

  post.answer(PriceOf, troubles.pricing(answerPrice));
  post.answer(CheckPassword, answerPassword);
  post.answer(MaySeeOrder, answerMaySee);

  meetPartner(partner, troubles);
  queues.welcome.on(UserRegistered, troubles.delivered(welcomeUser));
  queues.confirmations.on(OrderPlaced, troubles.delivered(confirmOrder));
  queues.searchIndex.on(OrderPlaced, troubles.delivered(indexOrder));
  queues.salesFigures.on(OrderPlaced, troubles.delivered(addToFigures));
  queues.shipping.on(OrderPlaced, troubles.delivered(planShipment(zones)));
  queues.ledger.on(PaymentCaptured, troubles.delivered(bookPayment));

  queues.email.handle(SendEmail, troubles.delivered(sendEmail(mailer)));
  queues.payments.handle(CapturePayment, troubles.delivered(pay));
  queues.warehouse.handle(PickPiece, troubles.delivered(troubles.soldOut(pickPiece)));
  queues.imports.handle(ImportOrders, troubles.delivered(importOrders));
  queues.reports.handle(CloseBooks, troubles.delivered(onCloseBooks));
  queues.reports.handle(DeliverReport, troubles.delivered(deliverReport(mailer)));
  queues.surveys.handle(SurveyRegions, troubles.delivered(surveyRegions(zones)));
}
