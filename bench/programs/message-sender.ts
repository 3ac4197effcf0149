/** Sends messages, each with the moment of its call. */
import { posthorn } from "posthorn";
import { now } from "../clock.js";
import { payload, Work } from "../payload.js";
import { type SenderCalls, sendAtRate } from "./arrivals.js";
import { serve, settings } from "./serve.js";

const { url } = settings<{ readonly url: string }>();
const post = posthorn({ service: "bench", database: url });

serve<SenderCalls>({ send: (traffic) => sendAtRate(traffic, (n) => post.send(Work, payload(n, now()))) });
