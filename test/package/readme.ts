/** What the README promises first: an install line, a program of a few lines, and what it prints. */

export interface Hello {
  /** "npm install posthorn …" */
  readonly install: string;
  readonly program: string;
  readonly language: string;
  readonly output: string;
}

/** The first shell block, the first block of code after it, and the first text block after that. */
export function helloOf(readme: string): Hello {
  const blocks = [...readme.matchAll(/^```(\w+)[^\n]*\n([\s\S]*?)^```$/gm)].map(([, language = "", text = ""]) => ({
    language,
    text: text.trimEnd(),
  }));
  const next = (what: string, languages: readonly string[]) => {
    const index = blocks.findIndex(({ language }) => languages.includes(language));
    const block = blocks[index];
    if (block === undefined) throw new Error(`README.md has no ${what} (a block marked ${languages.join(" or ")})`);
    blocks.splice(0, index + 1);
    return block;
  };
  const install = next("install line", ["sh", "bash", "shell"]).text;
  const program = next("hello world", ["ts", "js", "typescript", "javascript"]);
  return { install, program: program.text, language: program.language, output: next("printed line", ["text"]).text };
}
