/** `posthorn intakes find <id>`: whether what a sender calls so was taken in, by which intake, and when; or that it fitted nothing. */
import { Identities } from "../../intakes/identity.js";
import { type FoundOutside, findOutside, inboxes } from "../../store/intakes.js";
import type { Io } from "../io.js";
import { reading } from "../open.js";
import { flag, type Line, text } from "../parse.js";
import { clock } from "../words.js";

export async function findInIntakes(line: Line, io: Io): Promise<number> {
  const id = line.argument ?? "";
  const source = text(line, "source");
  const found = await reading(line, async (database) => {
    // What is taken in is known by a digest of these, made as the intake makes it.
    const marks = (await inboxes(database)).flatMap(({ intake, place, names }) => {
      const identities = new Identities(names);
      const known = [identities.ofSender(place, id), ...(source === undefined ? [] : [identities.ofEvent(source, id)])];
      return known.flatMap(({ mark, former = [] }) => [mark, ...former]).map((mark) => ({ intake, mark }));
    });
    return findOutside(database, id, source, marks);
  });
  const known = found.takenIn.length + found.invalid.length > 0;
  if (flag(line, "json")) io.out(`${JSON.stringify(found)}\n`);
  else io.out(known ? asText(found) : unknown(source));
  return known ? 0 : 1;
}

function asText({ takenIn, invalid }: FoundOutside): string {
  const now = new Date().toISOString();
  const taken = takenIn.map(
    ({ intake, at, keptUntil }) =>
      `The intake ${intake} has taken it in, about ${clock(at, now)}. Until ${clock(keptUntil, now)} it is a duplicate when it comes again.\n`,
  );
  const listed = invalid.map(
    ({ intake, id, foundAt }) =>
      `The intake ${intake} has listed it as invalid, at ${clock(foundAt, now)}. Why: posthorn invalid show in-${id}\n`,
  );
  return [...taken, ...listed].join("");
}

function unknown(source: string | undefined): string {
  const hint =
    source === undefined
      ? " A CloudEvent is known by its id and its source: add --source. That of a relay of Posthorn is urn:posthorn:<service>, unless it names another."
      : "";
  return `No intake here knows it: it has not come, with this id and source, or so long ago that the inbox has forgotten it.${hint}\n`;
}
