/** Help from the table of commands. */
import type { Io } from "./io.js";
import { paint, table } from "./io.js";
import { type Argument, type Command, commands, exits, type Option } from "./table.js";

/** In their order. */
export function argumentsOf({ argument, second }: Command): readonly Argument[] {
  return [argument, second].filter((one) => one !== undefined);
}

export function usageOf(name: string, command: Command): string {
  const { options } = command;
  const wanted = argumentsOf(command)
    .map(({ name: word, required }) => (required ? ` <${word}>` : ` [${word}]`))
    .join("");
  return `posthorn ${name}${wanted}${Object.keys(options).length > 0 ? " [options]" : ""}`;
}

export function optionUsage(name: string, { value }: Option): string {
  return `--${name}${value === undefined ? "" : ` <${value}>`}`;
}

export function optionWords({ doc, many, min, max, default: value }: Option): string {
  const facts = [
    ...(many ? ["may be repeated"] : []),
    ...(min !== undefined && max !== undefined ? [`${min} to ${max}`] : []),
    ...(value !== undefined ? [`default ${value}`] : []),
  ];
  return facts.length === 0 ? doc : `${doc} (${facts.join(", ")})`;
}

export function helpOfAll(io: Io): string {
  const rows = Object.entries(commands).map(([name, { summary, planned }]) => [
    `  ${name}`,
    planned ? `${summary}: planned, not built yet` : summary,
  ]);
  return [
    `${paint(io, "bold", "posthorn")}: durable asynchronous work in PostgreSQL\n`,
    table(io, [{ title: "  Command" }, { title: "What it does" }], rows),
    "Every command takes --json and --help. posthorn help <command> lists its options; posthorn --version prints the version.\n",
    exitLines("Something is wrong, or the command failed"),
  ].join("\n");
}

export function helpOf(io: Io, name: string, command: Command): string {
  const { options, summary, more, wrong } = command;
  const rows = [
    ...argumentsOf(command).map(({ name: word, doc }) => [`  <${word}>`, doc]),
    ...Object.entries(options).map(([one, option]) => [`  ${optionUsage(one, option)}`, optionWords(option)]),
  ];
  return [
    `${paint(io, "bold", usageOf(name, command))}\n\n${summary}.\n${more === undefined ? "" : `${wrapped(more)}\n`}`,
    table(io, [{ title: "  Option" }, { title: "Meaning" }], rows),
    exitLines(wrong === undefined ? "It failed" : `${wrong}, or it failed`),
  ].join("\n");
}

/** Words on lines that can be read. */
function wrapped(text: string, width = 100): string {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last === undefined || last.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return lines.join("\n");
}

function exitLines(wrong: string): string {
  return `Exit codes: 0 ${exits[0].toLowerCase()}; 1 ${wrong.charAt(0).toLowerCase()}${wrong.slice(1)}; 2 ${exits[2].toLowerCase()}.\n`;
}
