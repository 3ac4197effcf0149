/** Payloads are cut out of an answer as they stand there, whatever is in them. */
import { expect, test } from "vitest";
import { parseVerbatim } from "../../src/store/verbatim.js";

interface Answer {
  readonly claim?: string;
  readonly skipped?: readonly string[];
  readonly messages: unknown[][];
}

const payloads = [
  "1",
  "-1.50",
  "12345678901234567890",
  '"a"',
  '""',
  '"\\\\"',
  '"\\"],[\\""',
  '"\\\\\\""',
  "{}",
  "[]",
  "[[[]],[1,[2]]]",
  '{"a":{"b":["],",{"c":"}"}]}}',
  '{ "a" : 1 ,\n "b":[ 1 , 2 ] }',
  "null",
  "true",
  '"🦉\\u2028"',
];

test("payloads of every form come back as their text, and everything around them is parsed", () => {
  for (const space of ["", " ", "\n "]) {
    const row = (payload: string, i: number) =>
      `["${i}","-7",${i % 2 ? "null" : 3},${space}9,"ke\\"y,[",${space}${payload}${space},${i % 3 ? "null" : '{"h":"[\\\\\\","}'},17,20]`;
    const text = `{"claim":"5","skipped":["1","2"],"messages":[${payloads.map(row).join(`,${space}`)}],"parts":0}`;
    const answer = parseVerbatim<Answer>(text, ({ messages }) => messages);
    expect(answer.skipped).toEqual(["1", "2"]);
    expect(answer.messages.map((one) => one[5])).toEqual(payloads);
    const rest = (rows: unknown[][]) => rows.map((one) => one.toSpliced(5, 1));
    expect(rest(answer.messages)).toEqual(rest((JSON.parse(text) as Answer).messages));
  }
});

test("an answer without messages is parsed as it is", () => {
  for (const text of ["{}", '{"missed":true}', '{"taken":[],"next":12.5}', '{"openMs":1000}'])
    expect(parseVerbatim(text, () => [])).toEqual(JSON.parse(text));
});
