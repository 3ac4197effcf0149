-- Intakes as operators see them: what fits nothing, how they stand, and pausing them.

-- unfit_where(filter): the condition that a filter means, as SQL over intake_invalid "v" with the filter as $1:
-- JSON { id, intake, upto, takenIn, unrun }. `takenIn`: of which a message of the same identity was taken in; `unrun`: of intakes that nobody runs.
create or replace function posthorn.unfit_where(p_filter json) returns text
language sql immutable as $$
  select concat_ws(' and ', 'true',
    case when p_filter ->> 'id' is not null then 'v.id = ($1 ->> ''id'')::bigint' end,
    case when p_filter ->> 'intake' is not null then 'v.intake = (select i.id from posthorn.intake i where i.name = $1 ->> ''intake'')' end,
    case when p_filter ->> 'upto' is not null then 'v.id <= ($1 ->> ''upto'')::bigint' end,
    case when (p_filter ->> 'takenIn')::boolean then 'exists (select from posthorn.inbox b where b.mark = v.identity)' end,
    case when (p_filter ->> 'unrun')::boolean then 'v.intake not in (select r.intake from posthorn.intake_runners() r)' end)
$$;

-- unfit_list(filter, limit): the newest entries, as JSON [{ id, intake, reason, source, event, type, contentType, key, brokerId, position, foundAt, times,
-- lastAt, bytes, whole, redriveAt, redriveBy, takenIn }]; with { full: true } also headers, and the body in base64. `takenIn`: a message of the same identity was taken
-- in, as far as the inbox knows it still.
create or replace function posthorn.unfit_list(p_filter json, p_limit int) returns json
language plpgsql stable as $$
declare
  v_json json;
begin
  execute format($sql$
    select coalesce(json_agg(json_build_object('id', v.id::text, 'intake', i.name, 'reason', v.reason, 'source', v.source, 'event', v.event, 'type', v.type,
        'contentType', v.content_type, 'key', v.key, 'brokerId', v.broker_id, 'position', v.position, 'foundAt', v.found_at, 'times', v.times,
        'lastAt', v.last_at, 'bytes', v.bytes, 'whole', v.whole, 'redriveAt', v.redrive_at, 'redriveBy', v.redrive_by,
        'takenIn', exists (select from posthorn.inbox b where b.mark = v.identity),
        'headers', case when ($1 ->> 'full')::boolean then v.headers end,
        'body', case when ($1 ->> 'full')::boolean then translate(encode(v.body, 'base64'), chr(10), '') end) order by v.id desc), '[]')
      from (select * from posthorn.intake_invalid v where %1$s order by v.id desc limit $2) v join posthorn.intake i on i.id = v.intake $sql$,
    posthorn.unfit_where(p_filter)) into v_json using p_filter, p_limit;
  return v_json;
end $$;

-- find_outside(id, source, marks): what intakes know of a message by what its sender calls it, as JSON { takenIn: [{ intake, at, keptUntil }], invalid: [{ intake, id, foundAt }] }.
-- Marks as [{ intake, mark }]: found by the primary key of the inbox. The list of invalid messages is read as a whole, as by whoever lists it: it is what somebody has to look at.
create or replace function posthorn.find_outside(p_id text, p_source text, p_marks json) returns json
language sql stable as $$
  select json_build_object(
    'takenIn', (select coalesce(json_agg(json_build_object('intake', f.name, 'at', f.keep_until - f.keep_ms * interval '1 ms', 'keptUntil', f.keep_until) order by f.name), '[]')
      from (select i.name, i.keep_ms, max(b.keep_until) as keep_until from json_to_recordset(p_marks) m(intake text, mark uuid)
        join posthorn.inbox b on b.mark = m.mark join posthorn.intake i on i.name = m.intake group by i.id) f),
    'invalid', (select coalesce(json_agg(json_build_object('intake', i.name, 'id', v.id::text, 'foundAt', v.found_at) order by v.id desc), '[]')
      from (select * from posthorn.intake_invalid v where v.event = p_id and (p_source is null or v.source = p_source) or v.broker_id = p_id order by v.id desc limit 20) v
        join posthorn.intake i on i.id = v.intake))
$$;

-- unfit_count(filter): how many entries a filter finds, and the highest id among them, as JSON { count, upto }.
create or replace function posthorn.unfit_count(p_filter json) returns json
language plpgsql stable as $$
declare
  v_json json;
begin
  execute format('select json_build_object(''count'', count(*), ''upto'', max(v.id)::text) from posthorn.intake_invalid v where %1$s', posthorn.unfit_where(p_filter))
    into v_json using p_filter;
  return v_json;
end $$;

-- unfit_redrive(filter, by): has entries be read again by whoever runs their intake, within about a second. Returns how many.
create or replace function posthorn.unfit_redrive(p_filter json, p_by text) returns int
language plpgsql as $$
declare
  v_rows int;
begin
  perform posthorn.own_transaction(true);
  execute format('update posthorn.intake_invalid v set redrive_at = clock_timestamp(), redrive_by = left($2, 200) where %1$s', posthorn.unfit_where(p_filter))
    using p_filter, p_by;
  get diagnostics v_rows = row_count;
  perform posthorn.note_operation('redrive', (p_filter::jsonb || '{"list":"intake"}')::json, p_by, null, v_rows);
  return v_rows;
end $$;

-- unfit_discard(filter, by, reason): removes entries for good. Returns how many.
create or replace function posthorn.unfit_discard(p_filter json, p_by text, p_reason text) returns int
language plpgsql as $$
declare
  v_rows int;
begin
  perform posthorn.own_transaction(true);
  execute format('delete from posthorn.intake_invalid v where %1$s', posthorn.unfit_where(p_filter)) using p_filter;
  get diagnostics v_rows = row_count;
  perform posthorn.note_operation('discard', (p_filter::jsonb || '{"list":"intake"}')::json, p_by, p_reason, v_rows);
  return v_rows;
end $$;

-- unfit_again(intake, limit): what is to be read again, the oldest first, as JSON [{ id, contentType, headers, key, brokerId, position, body, whole }].
create or replace function posthorn.unfit_again(p_intake int, p_limit int) returns json
language plpgsql as $$
begin
  return (select coalesce(json_agg(json_build_object('id', v.id::text, 'contentType', v.content_type, 'headers', v.headers, 'key', v.key, 'brokerId', v.broker_id,
      'position', v.position, 'body', translate(encode(v.body, 'base64'), chr(10), ''), 'whole', v.whole) order by v.id), '[]')
    from (select * from posthorn.intake_invalid v where v.intake = p_intake and v.redrive_at is not null order by v.id limit p_limit) v);
end $$;

-- take_again(…): `read_again` for a library that asks for the number only.
create or replace function posthorn.take_again(
  p_intake int, p_worker bigint, p_ids bigint[], p_marks uuid[], p_nonces bigint[], p_channels int[], p_contracts int[], p_keys json, p_payloads json,
  p_headers json, p_unfit json
) returns int
language sql as $$
  select (posthorn.read_again($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ->> 'written')::int
$$;

-- read_again(intake, worker, ids, marks, lists, unfit): ends entries that fit now: writes those whose identity is new, each once, since whoever removes the entry writes it;
-- of the others a message was taken in meanwhile, and they are absorbed as any duplicate. Both is decided by the inbox, so that a message that arrives in this
-- moment waits for it. An entry of before that still is what its mark says stands in the inbox itself: it is written. `unfit`: [{ id, reason, marks }] of those that
-- still fit nothing: they stay with the reason, but for those of which a message was taken in, which are absorbed as well; without a reason one is passed over.
-- `former`: as in former_places; `marks` in `unfit`: all that it would be taken in under. Returns JSON { written, absorbed }, the second the ids. Raises as take_in.
create or replace function posthorn.read_again(
  p_intake int, p_worker bigint, p_ids bigint[], p_marks uuid[], p_nonces bigint[], p_channels int[], p_contracts int[], p_keys json, p_payloads json,
  p_headers json, p_unfit json, p_former uuid[] default null
) returns json
language plpgsql as $$
declare
  v_keep_until timestamptz;
  v_places int[];
  v_absorbed text[];
begin
  perform posthorn.own_transaction(true);
  v_keep_until := posthorn.own_intake(p_intake, p_worker);
  with former as materialized (
    select (f.n - 1) / (cardinality(p_former) / cardinality(p_marks)) + 1 as n, f.mark from unnest(p_former) with ordinality f(mark, n)
  ), gone as (
    delete from posthorn.intake_invalid v using unnest(p_ids, p_marks) with ordinality r(id, mark, n) where v.id = r.id and v.intake = p_intake
      returning r.n, r.id, r.mark, v.identity is null and (v.mark = r.mark or v.mark in (select f.mark from former f where f.n = r.n)) as known
  ), marked as (
    insert into posthorn.inbox (mark, intake, keep_until) select g.mark, p_intake, v_keep_until from gone g where not g.known order by g.mark
      on conflict do nothing returning mark
  ), fresh as (
    select min(g.n) as n from gone g join marked m on m.mark = g.mark where not g.known group by g.mark
  ), formerly as (
    insert into posthorn.inbox (mark, intake, keep_until) select f.mark, p_intake, v_keep_until from former f join fresh r on r.n = f.n order by f.mark
      on conflict do nothing returning mark
  ), placed as (
    select g.n from gone g where g.known
    union all select r.n from fresh r where r.n not in (select f.n from former f where f.mark not in (select o.mark from formerly o)))
    select coalesce(array_agg(g.n::int order by g.n) filter (where g.n in (select p.n from placed p)), '{}'),
        coalesce(array_agg(g.id::text order by g.n) filter (where g.n not in (select p.n from placed p)), '{}') into v_places, v_absorbed from gone g;
  perform posthorn.write_places(v_places, p_nonces, p_channels, p_contracts, p_keys, p_payloads, p_headers);
  with ended as (
    delete from posthorn.intake_invalid v using json_to_recordset(p_unfit) as u(id bigint, reason text, marks json) where v.id = u.id and v.intake = p_intake
        and (u.reason is null or exists (select from posthorn.inbox b where b.mark = v.identity)
          or v.identity is not null and exists (select from json_array_elements_text(u.marks) m join posthorn.inbox b on b.mark = m::uuid))
      returning v.id, u.reason)
    select v_absorbed || coalesce(array_agg(e.id::text order by e.id) filter (where e.reason is not null), '{}') into v_absorbed from ended e;
  update posthorn.intake_invalid v set redrive_at = null, reason = u.reason from json_to_recordset(p_unfit) as u(id bigint, reason text)
    where v.id = u.id and v.intake = p_intake;
  update posthorn.intake i set written = i.written + cardinality(v_places), received = i.received + cardinality(v_places)
    where i.id = p_intake and i.worker = p_worker;
  if not found then
    update posthorn.intake_holder h set written = h.written + cardinality(v_places), received = h.received + cardinality(v_places)
      where h.intake = p_intake and h.worker = p_worker;
  end if;
  return json_build_object('written', cardinality(v_places), 'absorbed', v_absorbed);
end $$;

-- intake_rules(): the rules of each intake with their values now: for how long it has not been connected, what it refuses, and how many messages fit nothing.
-- What its holder reported counts for a few seconds. While nobody runs it that is time away as well, for as long as nobody does; see away_anew().
create or replace function posthorn.intake_rules() returns table (intake int, intake_name text, name text, value bigint, threshold bigint, detail text)
language sql volatile as $$
  with runs as materialized (select distinct r.intake from posthorn.intake_runners() r)
  select i.id, i.name, r.name, r.value, r.threshold, r.detail from posthorn.intake i left join runs on runs.intake = i.id
    cross join lateral (select coalesce(sum(h.refused_now), 0)::bigint as messages, (array_agg(h.refusal order by h.refused_at desc nulls last))[1] as why
      from posthorn.intake_holder h where h.intake = i.id and h.seen_at > clock_timestamp() - interval '10 s') refused
    cross join lateral (values
      ('intakeAwayMs', case when i.paused_at is not null then 0 else greatest(0, extract(epoch from clock_timestamp()
          - coalesce(i.away_since, i.seen_at + case when runs.intake is null then interval '0' else interval '5 s' end)) * 1000) end::bigint,
        i.away_ms::bigint, case when runs.intake is null or i.seen_at < clock_timestamp() - interval '5 s'
          then format('no process runs it; if it was renamed: posthorn intakes rename %1$s <new name>; if it is gone for good: posthorn intakes remove %1$s', i.name) else i.trouble end),
      ('intakeRefused', refused.messages, i.refused_bound, refused.why),
      ('intakeInvalid', (select count(*) from (select from posthorn.intake_invalid v where v.intake = i.id limit 100000) v), i.invalid_bound, null)
    ) r(name, value, threshold, detail) where r.threshold is not null
$$;

-- pause_intake, resume_intake: as pause and resume. Who runs it stops within about a second; what is being written is written.
create or replace function posthorn.pause_intake(p_name text, p_by text, p_reason text) returns json
language plpgsql as $$
declare
  v_by text := coalesce(p_by, current_user::text);
  v_row posthorn.intake;
  v_changed boolean;
begin
  update posthorn.intake i set paused_at = clock_timestamp(), paused_by = left(v_by, 200), paused_reason = left(p_reason, 500)
    where i.name = p_name and i.paused_at is null;
  v_changed := found;
  if v_changed then
    perform posthorn.note_operation('pause', json_build_object('name', p_name), v_by, p_reason, 1);
  end if;
  select * into v_row from posthorn.intake i where i.name = p_name;
  return json_strip_nulls(json_build_object('at', v_row.paused_at, 'by', v_row.paused_by, 'reason', v_row.paused_reason, 'name', v_row.name, 'changed', v_changed));
end $$;

create or replace function posthorn.resume_intake(p_name text, p_by text) returns json
language plpgsql as $$
declare
  v_row posthorn.intake;
begin
  select * into v_row from posthorn.intake i where i.name = p_name for update;
  -- Whoever runs it has its chance first: the pause is no time away.
  update posthorn.intake i set paused_at = null, paused_by = null, paused_reason = null, away_since = clock_timestamp()
    where i.id = v_row.id and i.paused_at is not null;
  if found then
    perform posthorn.note_operation('resume', json_build_object('name', p_name), coalesce(p_by, current_user::text), null, 1);
  end if;
  return json_strip_nulls(json_build_object('at', v_row.paused_at, 'by', v_row.paused_by, 'reason', v_row.paused_reason, 'name', v_row.name,
    'changed', v_row.paused_at is not null));
end $$;

-- is_intake(name): whether an intake has this name, and no queue or subscription.
create or replace function posthorn.is_intake(p_name text) returns boolean
language sql stable as $$
  select exists (select from posthorn.intake i where i.name = p_name) and not exists (select from posthorn.subscription s where s.name = p_name)
$$;
