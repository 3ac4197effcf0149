/**
 * Bodies as they came.
 *
 * The client parses a body whose content type is application/json, and turns one of text/plain into a string. Parsing changes what JSON can say and a double
 * cannot: an amount of 20 digits would come out as another. It looks at the content type alone, so on this channel it is given one that it does not know, with
 * a mark in front that is taken away again.
 */
import type { AsyncMessage, Channel } from "rabbitmq-client";
import { ConfigurationError } from "../../core/errors.js";
import type { Delivered } from "./message.js";

const mark = "\0";

/** To be called before anything is received on the channel. */
export function keepBodies(channel: Channel): void {
  const read: unknown = "_onHeader" in channel ? channel._onHeader : undefined;
  if (typeof read !== "function") throw unknownClient();
  Object.defineProperty(channel, "_onHeader", {
    value: (frame: unknown) => {
      const fields: unknown =
        typeof frame === "object" && frame !== null && "fields" in frame ? frame.fields : undefined;
      if (typeof fields === "object" && fields !== null && "contentType" in fields) {
        fields.contentType = `${mark}${String(fields.contentType)}`;
      }
      return Reflect.apply(read, channel, [frame]);
    },
  });
}

export function deliveredOf(message: AsyncMessage): Delivered {
  const { body, contentType } = message;
  if (!Buffer.isBuffer(body) || (contentType !== undefined && !contentType.startsWith(mark))) throw unknownClient();
  return { message, body, contentType: contentType?.slice(mark.length) };
}

function unknownClient(): ConfigurationError {
  const message =
    "The installed version of rabbitmq-client reads bodies in another way than the one that this was built for. Run: npm install rabbitmq-client@5";
  return new ConfigurationError("PH_PEER_MISSING", message, { package: "rabbitmq-client" });
}
