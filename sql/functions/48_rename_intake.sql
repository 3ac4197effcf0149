-- Carrying the inbox of an intake over to another name. Marks are hashes that hold a name, so none is touched: inbox_name says under which names an intake
-- looks, and however large the inbox is, a renaming is a few rows.

-- inbox_names(intake): the names that marks of this intake are made of, the one of what is taken in now first.
create or replace function posthorn.inbox_names(p_intake text) returns text[]
language plpgsql volatile as $$
begin
  return (select coalesce((select n.name from posthorn.inbox_name n where n.intake = p_intake and n.until is null), p_intake))
    || array(select n.name from posthorn.inbox_name n where n.intake = p_intake and n.until > clock_timestamp() order by n.name);
end $$;

-- own_inbox(intake, id): gives an intake a name of its own for its marks where what was called so before has been renamed, and has taken its marks with it.
create or replace function posthorn.own_inbox(p_intake text, p_id int) returns void
language sql as $$
  insert into posthorn.inbox_name (name, intake) select format('%s~%s', p_intake, p_id), p_intake
    where exists (select from posthorn.inbox_name n where n.name = p_intake and n.intake <> p_intake)
      and not exists (select from posthorn.inbox_name n where n.intake = p_intake and n.until is null)
$$;

-- inboxes(): the names under which each intake recognises what comes in, as JSON [{ intake, place, names }].
create or replace function posthorn.inboxes() returns json
language sql volatile as $$
  select coalesce(json_agg(json_build_object('intake', i.name, 'place', i.place, 'names', posthorn.inbox_names(i.name)) order by i.name), '[]') from posthorn.intake i
$$;

-- begin_intake(…): register_intake for a library that marks what comes in by the names that it is told. Returns JSON { id, made, names }. Whoever renames it from
-- then on gives it another id. Raises as register_intake.
create or replace function posthorn.begin_intake(
  p_name text, p_service text, p_broker text, p_place text, p_keep_ms float8, p_away_ms float8, p_contracts json, p_bounds json
) returns json
language plpgsql as $$
declare
  v_as json := posthorn.register_intake(p_name, p_service, p_broker, p_place, p_keep_ms, p_away_ms, p_contracts, p_bounds, true);
begin
  return json_build_object('id', v_as -> 'id', 'made', v_as -> 'made', 'names', posthorn.inbox_names(p_name));
end $$;

-- rename_intake(name, to, by, reason): carries an intake with all that it knows over to another name, at once. Where one of that name is known already the two
-- become one: what either took in is recognised, and the newer declaration stays. Refused while a process that lives runs one of them. Returns JSON { from, to,
-- joined, invalid, service, broker, place }, the last three those of `name`. Raises PH060, PH015, PH020, PH068.
create or replace function posthorn.rename_intake(name text, "to" text, by text default null, reason text default null) returns json
language plpgsql as $$
declare
  v_from posthorn.intake;
  v_to posthorn.intake;
  v_id int;
begin
  perform posthorn.require_home(), posthorn.intake_named($1);
  if $2 is null or $2 !~ '^[a-z][a-z0-9._-]*$' or length($2) > 80 then
    raise exception 'the name of an intake must be 1 to 80 lower-case letters, digits, dots, hyphens and underscores, a letter first; got %', coalesce(left($2, 120), 'none')
      using errcode = 'PH015';
  elsif $2 = $1 then
    raise exception 'the intake "%" is called so already', $1 using errcode = 'PH015';
  elsif exists (select from posthorn.subscription s where s.name = $2) then
    raise exception 'the intake "%" cannot be called "%": a queue or subscription has this name', $1, $2 using errcode = 'PH020',
      hint = 'Queues, subscriptions and intakes share one set of names. Give it another one.';
  end if;
  -- Alerts are neither raised nor resolved meanwhile: either would wait for the rows that are locked here, with alerts locked that change here.
  perform pg_advisory_xact_lock(posthorn.lock_key('watch'));
  loop
    -- Whoever declares one of the two waits; whoever is about to run one has it, or finds it gone.
    perform from posthorn.intake i where i.name in ($1, $2) order by i.id for update;
    v_from := posthorn.intake_named($1);
    select * into v_to from posthorn.intake i where i.name = $2;
    perform posthorn.refuse_run(v_from, 'Stop these, and start them again with the new name.');
    if v_to.id is not null then
      perform posthorn.refuse_run(v_to, format('Stop these, rename "%s", and start them again: from then on it recognises what "%1$s" took in as well.', $1));
    end if;
    v_id := posthorn.joined_intake(v_from, v_to, $2);
    -- Else one of this name was declared in between.
    exit when v_id is not null;
  end loop;
  perform posthorn.join_lists(v_from.id, v_to.id, v_id), posthorn.join_inboxes(v_from, v_to, $2);
  delete from posthorn.intake i where i.id in (v_from.id, v_to.id);
  perform posthorn.note_operation('rename', json_build_object('name', $1, 'to', $2, 'joined', v_to.id is not null), coalesce($3, current_user::text), $4, 1);
  return json_build_object('from', $1, 'to', $2, 'joined', v_to.id is not null,
    'invalid', (select count(*) from posthorn.intake_invalid v where v.intake = v_id), 'service', v_from.service, 'broker', v_from.broker, 'place', v_from.place);
end $$;

-- joined_intake(from, to, name): makes the intake that takes the place of one or of both, with an id of its own: who has declared either is told that it is
-- gone, declares it anew, and learns the names of its marks. Null where another has made one of this name meanwhile.
create or replace function posthorn.joined_intake(p_from posthorn.intake, p_to posthorn.intake, p_name text) returns int
language plpgsql as $$
declare
  v_newer constant posthorn.intake := case when p_to.declared_at >= p_from.declared_at then p_to else p_from end;
  v_paused constant posthorn.intake := case when p_to.paused_at is not null then p_to else p_from end;
  v_id int;
begin
  -- No valid name: it is free for the new row, and gone at the end of this transaction.
  update posthorn.intake i set name = i.name || ' ' where i.id = p_to.id;
  insert into posthorn.intake (name, service, broker, place, keep_ms, away_ms, declared_at, seen_at, away_since, trouble, pushed, refused_bound, invalid_bound,
      paused_at, paused_by, paused_reason, received, written, invalid, skipped, refused, last_message_at, skipped_type, skipped_at)
    select p_name, v_newer.service, v_newer.broker, v_newer.place, v_newer.keep_ms, v_newer.away_ms, v_newer.declared_at, v_newer.seen_at, v_newer.away_since,
      v_newer.trouble, v_newer.pushed, v_newer.refused_bound, v_newer.invalid_bound, v_paused.paused_at, v_paused.paused_by, v_paused.paused_reason,
      sum(x.received), sum(x.written), sum(x.invalid), sum(x.skipped), sum(x.refused), max(x.last_message_at),
      (array_agg(x.skipped_type order by x.skipped_at desc nulls last))[1], max(x.skipped_at)
    from (select i.received, i.written, i.invalid, i.skipped, i.refused, i.last_message_at, i.skipped_type, i.skipped_at from posthorn.intake i where i.id in (p_from.id, p_to.id)
      -- Of workers that have died.
      union all select h.received, h.written, h.invalid, h.skipped, h.refused, h.last_message_at, h.skipped_type, h.skipped_at
        from posthorn.intake_holder h where h.intake in (p_from.id, p_to.id)) x
    on conflict (name) do nothing returning id into v_id;
  insert into posthorn.intake_contract (intake, contract) select v_id, c.contract from posthorn.intake_contract c where c.intake = v_newer.id and v_id is not null;
  return v_id;
end $$;

-- join_lists(from, to, id): what fitted nothing, each once, and the alerts: those that are open end, and are raised anew where there still is a reason.
create or replace function posthorn.join_lists(p_from int, p_to int, p_id int) returns void
language plpgsql as $$
begin
  with entry as materialized (
    select v.id, v.intake, v.found_at, v.last_at, v.times, v.redrive_at, v.redrive_by, posthorn.unfit_mark(null,
        jsonb_build_array(v.source, v.event, v.type, v.content_type, v.key, v.broker_id, v.position)::text, v.headers, v.body, v.bytes) as content
      from posthorn.intake_invalid v where p_to is not null and v.intake in (p_from, p_to)
  ), twice as (
    select distinct on (n.id) n.id as kept, o.* from entry o join entry n on n.content = o.content and o.intake = p_from and n.intake = p_to order by n.id, o.id
  ), ended as (
    delete from posthorn.intake_invalid v using twice t where v.id = t.id
  )
  update posthorn.intake_invalid v set found_at = least(v.found_at, t.found_at), last_at = greatest(v.last_at, t.last_at), times = v.times + t.times,
      redrive_at = coalesce(v.redrive_at, t.redrive_at), redrive_by = coalesce(v.redrive_by, t.redrive_by) from twice t where v.id = t.kept;
  update posthorn.intake_invalid v set intake = p_id where v.intake in (p_from, p_to);
  update posthorn.alert a set intake = p_id, resolved_at = coalesce(a.resolved_at, clock_timestamp()) where a.intake in (p_from, p_to);
end $$;

-- join_inboxes(from, to, name): what is taken in from now on is marked as before, by the name of `to` where there was one; what was taken in under the other is
-- recognised for as long as the longer of the two keeps it.
create or replace function posthorn.join_inboxes(p_from posthorn.intake, p_to posthorn.intake, p_name text) returns void
language plpgsql as $$
declare
  v_now constant text := (posthorn.inbox_names(case when p_to.id is null then p_from.name else p_name end))[1];
begin
  insert into posthorn.inbox_name (name, intake) select (posthorn.inbox_names(i.name))[1], i.name
    from unnest(array[p_from.name, case when p_to.id is not null then p_name end]) i(name) where i.name is not null on conflict do nothing;
  update posthorn.inbox_name n set until = clock_timestamp() + greatest(p_from.keep_ms, p_to.keep_ms) * interval '1 ms'
    where n.intake in (p_from.name, p_name) and n.until is null and n.name <> v_now;
  update posthorn.inbox_name n set intake = p_name where n.intake = p_from.name;
end $$;
