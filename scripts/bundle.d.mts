/** See bundle.mjs. */
export interface Bundling {
  readonly root: string;
  readonly entries: readonly string[];
  readonly folder: string;
  readonly own?: Readonly<Record<string, string>>;
  readonly common?: (id: string) => boolean;
  readonly chunk?: (made: { readonly moduleIds: readonly string[] }) => string;
  readonly sourcemap?: boolean;
}
export function bundle(bundling: Bundling): Promise<void>;
export function packageEntries(): readonly string[];
