/**
 * The Standard Schema interface (standardschema.dev, version 1), written here so that the package depends on nothing.
 *
 * Only what Posthorn calls is declared. Type tests prove that Zod, Valibot, ArkType and the specification's own type fit.
 */

export interface Schema<Input = unknown, Output = Input> {
  readonly "~standard": SchemaProperties<Input, Output>;
}

export interface SchemaProperties<Input, Output> {
  readonly version: 1;
  readonly vendor: string;
  readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>;
  readonly types?: { readonly input: Input; readonly output: Output } | undefined;
}

export type SchemaResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly SchemaIssue[] };

export interface SchemaIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/**
 * A schema that checks nothing: it carries the type alone.
 *
 * What arrives is handed over as JSON gave it back: say `string` for a date, because a Date arrives as one.
 */
export function type<T>(): Schema<T, T> {
  return typeOnly;
}

/** `never` fits every type, and nothing ever reads a value of it: the schema returns what it was given. */
const typeOnly: Schema<never, never> = Object.freeze({
  "~standard": Object.freeze({
    version: 1,
    vendor: "posthorn",
    validate: (value: unknown) => ({ value: value as never }),
  }),
});

export function isSchema(value: unknown): value is Schema {
  if ((typeof value !== "object" && typeof value !== "function") || value === null || !("~standard" in value))
    return false;
  const properties = value["~standard"];
  if (typeof properties !== "object" || properties === null) return false;
  return (
    "version" in properties &&
    properties.version === 1 &&
    "validate" in properties &&
    typeof properties.validate === "function"
  );
}
