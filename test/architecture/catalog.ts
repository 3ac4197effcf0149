/**
 * The schema of a database as text: what the catalog says about the schema `posthorn`, one line per thing, in a fixed order.
 *
 * It is for comparison, not for execution. Bodies of functions stand in it as md5; they are in the folder sql.
 */
import type { Client } from "pg";

interface Section {
  readonly title: string;
  /** Returns rows with one column `line`, in order. */
  readonly query: string;
}

const grantsOf = (acl: string, owner: string): string => `
  (select coalesce(string_agg(entry, ', ' order by entry), 'nobody')
   from (select case grantee when 0 then 'public' else grantee::regrole::text end || ': '
                || string_agg(lower(privilege_type), ' ' order by privilege_type) as entry
         from aclexplode(${acl}) where grantee <> ${owner} group by grantee) as entries)`;

const sections: readonly Section[] = [
  {
    title: "tables, columns",
    query: `
      select format('%s %s.%s %s%s%s%s', case c.relkind when 'p' then 'partitioned table' when 'c' then 'type' else 'table' end,
                    c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
                    case when a.attnotnull then ' not null' end,
                    case when a.attidentity <> '' then ' identity' when a.attgenerated <> '' then ' generated' end,
                    ' default ' || pg_get_expr(d.adbin, d.adrelid)) as line
      from pg_class as c
      join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      left join pg_attrdef as d on d.adrelid = c.oid and d.adnum = a.attnum
      where c.relnamespace = 'posthorn'::regnamespace and c.relkind in ('r', 'p', 'c')
      order by c.relname collate "C", a.attnum`,
  },
  {
    title: "storage options",
    query: `
      select format('table %s with (%s)%s', relname, array_to_string(reloptions, ', '),
                    case relpersistence when 'u' then ' unlogged' end) as line
      from pg_class
      where relnamespace = 'posthorn'::regnamespace and relkind in ('r', 'p')
        and (reloptions is not null or relpersistence <> 'p')
      order by relname collate "C"`,
  },
  {
    title: "constraints",
    query: `
      select format('constraint %s on %s %s', conname, conrelid::regclass, pg_get_constraintdef(oid)) as line
      from pg_constraint
      where connamespace = 'posthorn'::regnamespace and contype <> 'n' and conrelid <> 0
      order by conrelid::regclass::text collate "C", conname collate "C"`,
  },
  {
    title: "indexes",
    query: `
      select pg_get_indexdef(i.indexrelid) as line
      from pg_index as i join pg_class as c on c.oid = i.indexrelid
      where c.relnamespace = 'posthorn'::regnamespace
      order by i.indrelid::regclass::text collate "C", c.relname collate "C"`,
  },
  {
    title: "sequences",
    query: `
      select format('sequence %s %s start %s increment %s cache %s%s', sequencename, data_type, start_value, increment_by,
                    cache_size, case when cycle then ' cycle' end) as line
      from pg_sequences where schemaname = 'posthorn' order by sequencename collate "C"`,
  },
  {
    title: "enumerations and domains",
    query: `
      select case typtype
               when 'e' then format('enum %s (%s)', typname, (select string_agg(enumlabel, ', ' order by enumsortorder)
                                                               from pg_enum where enumtypid = t.oid))
               else format('domain %s %s %s', typname, format_type(typbasetype, typtypmod),
                           (select string_agg(pg_get_constraintdef(oid), ' ' order by conname) from pg_constraint
                            where contypid = t.oid)) end as line
      from pg_type as t
      where typnamespace = 'posthorn'::regnamespace and typtype in ('e', 'd')
      order by typname collate "C"`,
  },
  {
    title: "functions",
    query: `
      select format('%s %s(%s)%s %s %s%s%s%s body %s', case prokind when 'p' then 'procedure' else 'function' end, proname,
                    pg_get_function_arguments(p.oid), ' returns ' || pg_get_function_result(p.oid), lanname,
                    case provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end,
                    case when proisstrict then ' strict' end, case when prosecdef then ' security definer' end,
                    ' set ' || array_to_string(proconfig, ', '),
                    md5(coalesce(pg_get_function_sqlbody(p.oid), '') || prosrc)) as line
      from pg_proc as p join pg_language as l on l.oid = p.prolang
      where pronamespace = 'posthorn'::regnamespace
      order by proname collate "C", pg_get_function_arguments(p.oid) collate "C"`,
  },
  {
    title: "triggers",
    query: `
      select pg_get_triggerdef(t.oid) as line
      from pg_trigger as t join pg_class as c on c.oid = t.tgrelid
      where c.relnamespace = 'posthorn'::regnamespace and not t.tgisinternal
      order by c.relname collate "C", t.tgname collate "C"`,
  },
  {
    title: "views",
    query: `
      select format(E'view %s as\\n%s', relname, pg_get_viewdef(oid, true)) as line
      from pg_class where relnamespace = 'posthorn'::regnamespace and relkind in ('v', 'm')
      order by relname collate "C"`,
  },
  {
    title: "rights, the owner's left out",
    query: `
      select line from (
        select 0 as kind, nspname as name, format('schema %s: %s', nspname,
               ${grantsOf("coalesce(nspacl, acldefault('n', nspowner))", "nspowner")}) as line
        from pg_namespace where nspname = 'posthorn'
        union all
        select 1, relname, format('%s %s: %s', case relkind when 'S' then 'sequence' when 'v' then 'view' else 'table' end, relname,
               ${grantsOf("coalesce(relacl, acldefault(case relkind when 'S' then 's' else 'r' end::\"char\", relowner))", "relowner")})
        from pg_class where relnamespace = 'posthorn'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'S')
        union all
        select 2, proname, format('function %s(%s): %s', proname, pg_get_function_identity_arguments(oid),
               ${grantsOf("coalesce(proacl, acldefault('f', proowner))", "proowner")})
        from pg_proc where pronamespace = 'posthorn'::regnamespace
      ) as rights
      order by kind, name collate "C", line collate "C"`,
  },
];

export async function readCatalog(client: Client): Promise<string> {
  const parts: string[] = ["-- Written by `npm run snapshot` from the catalog of a migrated database; do not edit.\n"];
  for (const { title, query } of sections) {
    const { rows } = await client.query<{ line: string }>(query);
    parts.push(`\n-- ${title}\n`, ...rows.map(({ line }) => `${line}\n`));
  }
  return parts.join("");
}
