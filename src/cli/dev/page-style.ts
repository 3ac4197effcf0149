/** How the page of the catchers looks: light and dark, and on a phone. */
export const style = `:root {
  color-scheme: light dark;
  --ground: #f7f6f2; --card: #ffffff; --ink: #1d1c19; --soft: #625e55; --line: #dedbd2; --accent: #8a3b12; --good: #1f6b3a; --bad: #a3231b; --code: #f1efe8;
}
@media (prefers-color-scheme: dark) {
  :root { --ground: #161512; --card: #201f1b; --ink: #ece9e1; --soft: #aaa598; --line: #38352e; --accent: #f0a878; --good: #7fd19b; --bad: #ff9a8f; --code: #191814; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
header { display: flex; align-items: center; gap: 12px; padding: 14px 24px; background: var(--card); border-bottom: 1px solid var(--line); position: sticky; top: 0; z-index: 1; }
h1 { font-size: 17px; margin: 0; letter-spacing: -0.01em; }
#state { margin: 0; color: var(--soft); font-size: 13px; flex: 1; }
#state::before { content: ""; display: inline-block; width: 8px; height: 8px; border-radius: 50%; background: var(--bad); margin-right: 7px; }
#state[data-live="live"]::before { background: var(--good); }
#state[data-live="connecting"]::before { background: var(--line); }
button { font: inherit; font-size: 13px; color: var(--ink); background: transparent; border: 1px solid var(--line); border-radius: 6px; padding: 5px 12px; cursor: pointer; }
button:hover { border-color: var(--soft); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
main { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 24px; padding: 24px; max-width: 1500px; margin: 0 auto; }
h2 { font-size: 14px; margin: 0 0 10px; }
.count { color: var(--soft); font-weight: 400; margin-left: 4px; }
.hint { margin: 0; padding: 18px; border: 1px dashed var(--line); border-radius: 8px; color: var(--soft); overflow-wrap: anywhere; }
code, pre, dd { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: 13px; }
code { color: var(--ink); }
.items { list-style: none; margin: 0; padding: 0; }
.items:empty { display: none; }
.items > li { background: var(--card); border: 1px solid var(--line); border-top-width: 0; }
.items > li:first-child { border-top-width: 1px; border-radius: 8px 8px 0 0; }
.items > li:last-child { border-radius: 0 0 8px 8px; }
.items > li:only-child { border-radius: 8px; }
summary { cursor: pointer; }
.items > li > details > summary { display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: 0 12px; padding: 10px 14px; list-style: none; }
.items > li > details > summary::-webkit-details-marker { display: none; }
.items > li > details > summary:hover, .more > summary:hover { background: var(--ground); }
summary strong { font-weight: 600; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
details[open] > .items > li > details > summary:hover, .more > summary:hover { background: var(--ground); }
summary strong { white-space: normal; overflow-wrap: anywhere; }
.who { grid-row: 2; color: var(--soft); font-size: 13px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
time { grid-column: 2; grid-row: 1; color: var(--soft); font-size: 13px; font-variant-numeric: tabular-nums; }
.refused { color: var(--bad); }
.method { color: var(--accent); }
dl { margin: 0; padding: 10px 14px; border-top: 1px solid var(--line); }
dl div { display: grid; grid-template-columns: minmax(72px, 150px) minmax(0, 1fr); gap: 12px; }
dt { color: var(--soft); font-size: 13px; overflow-wrap: anywhere; }
dd { margin: 0; overflow-wrap: anywhere; }
pre { margin: 0; padding: 12px 14px; background: var(--code); border-top: 1px solid var(--line); white-space: pre-wrap; overflow-wrap: anywhere; max-height: 480px; overflow-y: auto; }
iframe { display: block; width: 100%; height: 280px; border: 0; border-top: 1px solid var(--line); background: #ffffff; }
.more summary, .links, .cut { margin: 0; padding: 8px 14px; font-size: 13px; border-top: 1px solid var(--line); color: var(--soft); }
a { color: var(--accent); }
footer { max-width: 1500px; margin: 0 auto; padding: 0 24px 32px; color: var(--soft); font-size: 13px; }
@media (max-width: 760px) {
  main { grid-template-columns: minmax(0, 1fr); padding: 16px; gap: 20px; }
  header { padding: 12px 16px; }
  footer { padding: 0 16px 24px; }
  dl div { grid-template-columns: minmax(0, 1fr); gap: 0; padding-bottom: 6px; }
}
`;
