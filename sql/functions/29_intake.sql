-- The way in: one worker of the fleet runs an intake at a time, and every message of a broker is written to the log once.
--
-- The row of the intake is locked by whoever writes for it, and by whoever takes it over: two never write at the same time, and a holder that has lost it
-- writes nothing more. So messages lie in the log in the order of the broker, whatever died.
--
-- A broker that is pushed to has no order to keep across processes, and each process has messages that no other can take in: every worker holds it, by a row
-- of its own in intake_holder, and they write beside each other. Of two that write one message at the same time the inbox lets one.

-- register_intake(…): makes an intake or brings it up to date; the newest start wins. Contracts as [{ name, owner }], the owner that the contract itself names. Bounds
-- of alerts as { refused, invalid }; an older library says none, and leaves those that are known. `knows`: it marks by inbox_names(). Returns JSON { id, made }: `made`,
-- for withdraw_intake, where it was not there before. Raises PH020 where somebody else has the name, for an event that is published here (a fact has one source), and
-- for a library that would not recognise what a renamed one took in.
create or replace function posthorn.register_intake(
  p_name text, p_service text, p_broker text, p_place text, p_keep_ms float8, p_away_ms float8, p_contracts json, p_bounds json, p_knows boolean
) returns json
language plpgsql as $$
declare
  v_row posthorn.intake;
  v_new boolean;
  v_own record;
begin
  perform posthorn.require_home();
  loop
    insert into posthorn.intake (name, service, broker, place, keep_ms, away_ms) values (p_name, p_service, p_broker, p_place, p_keep_ms, p_away_ms)
      on conflict (name) do nothing;
    v_new := found;
    select * into v_row from posthorn.intake where name = p_name for update;
    -- Else it was removed in between.
    exit when found;
  end loop;
  if v_row.service <> p_service then
    raise exception 'the intake "%" is one of service "%", and service "%" declares it', p_name, v_row.service, p_service
      using errcode = 'PH020', hint = format('Give one of the two another name. Where the service was renamed, or the other intake is gone from the code, stop its processes and remove it: posthorn intakes remove %s. What it took in is recognised here as well.', p_name);
  end if;
  if exists (select from posthorn.subscription s where s.name = p_name) then
    raise exception 'the intake "%" cannot be made: a queue or subscription has this name', p_name using errcode = 'PH020',
      hint = 'Queues, subscriptions and intakes share one set of names. Rename one of them.';
  end if;
  perform posthorn.own_inbox(p_name, v_row.id);
  if not p_knows and posthorn.inbox_names(p_name) <> array[p_name] then
    raise exception 'the intake "%" was renamed, and the library of this process would not recognise what it took in', p_name using errcode = 'PH020',
      hint = 'Start this process with a newer version of posthorn.';
  end if;
  -- Who owns an event without being named in its contract has published it here.
  select c.name, c.owner into v_own from posthorn.contract c join json_to_recordset(p_contracts) as d(name text, owner text) on d.name = c.name
    where c.kind = 'event' and c.owner is not null and (c.owner = p_service or d.owner is distinct from c.owner) limit 1;
  if v_own.name is not null then
    raise exception 'the event "%" is published here by service "%", which owns it, and the intake "%" would bring it in from outside', v_own.name, v_own.owner, p_name
      using errcode = 'PH020', hint = 'A fact has one source. Leave it out of the intake; or, where its source is a service elsewhere, name that one as `owner` in the contract: then this service gives it away.';
  end if;
  update posthorn.intake set broker = p_broker, place = p_place, keep_ms = p_keep_ms, away_ms = p_away_ms, declared_at = clock_timestamp(),
    refused_bound = coalesce((p_bounds ->> 'refused')::bigint, refused_bound), invalid_bound = coalesce((p_bounds ->> 'invalid')::bigint, invalid_bound)
    where id = v_row.id returning * into v_row;
  delete from posthorn.intake_contract c where c.intake = v_row.id and c.contract not in (select d ->> 'name' from json_array_elements(p_contracts) d);
  insert into posthorn.intake_contract (intake, contract) select v_row.id, d ->> 'name' from json_array_elements(p_contracts) d on conflict do nothing;
  return json_build_object('id', v_row.id, 'made', case when v_new then extract(epoch from v_row.declared_at)::text end);
end $$;

-- declare_intake(…): as register_intake, for libraries that call it so. Returns the id.
create or replace function posthorn.declare_intake(
  p_name text, p_service text, p_broker text, p_place text, p_keep_ms float8, p_away_ms float8, p_contracts json, p_bounds json default null
) returns int
language sql volatile as $$
  select (posthorn.register_intake(p_name, p_service, p_broker, p_place, p_keep_ms, p_away_ms, p_contracts, p_bounds, false) ->> 'id')::int
$$;

-- withdraw_intake(id, made): takes back what begin_intake has made for a start that was refused; returns whether it did. Who declares it meanwhile moves declared_at, and has it then.
create or replace function posthorn.withdraw_intake(p_id int, p_made numeric) returns boolean
language plpgsql as $$
begin
  delete from posthorn.intake i where i.id = p_id and extract(epoch from i.declared_at) = p_made and i.received = 0 and i.paused_at is null;
  return found;
end $$;

-- intake_runners(): who runs which intake, and lives. `alone`: nobody runs it beside this one; else messages are pushed to it. `seen_at`: when it said last how it stands.
create or replace function posthorn.intake_runners() returns table (
  intake int, worker bigint, service text, host text, pid int, alone boolean, seen_at timestamptz, connected boolean, trouble text
)
language sql volatile as $$
  with living as materialized (
    select w.* from posthorn.worker w where w.id not in (select d.worker from posthorn.dead_workers() d)
  )
  select i.id, w.id, w.service, w.host, w.pid, true, i.seen_at, i.away_since is null, i.trouble from posthorn.intake i join living w on w.id = i.worker
  union all
  select h.intake, w.id, w.service, w.host, w.pid, false, h.seen_at, h.connected, h.trouble from posthorn.intake_holder h join living w on w.id = h.worker
$$;

-- away_anew(intake): since when it is away, for whoever begins to run it: what nobody could do while nobody ran it does not count.
create or replace function posthorn.away_anew(p_intake posthorn.intake) returns timestamptz
language sql volatile as $$
  select coalesce(least(clock_timestamp(), p_intake.away_since + (clock_timestamp() - p_intake.seen_at)), clock_timestamp())
$$;

-- is_free(intake): whether nobody who lives runs it.
create or replace function posthorn.is_free(p_intake posthorn.intake) returns boolean
language plpgsql as $$
begin
  return p_intake.worker is null or not exists (select from posthorn.worker w where w.id = p_intake.worker)
    or p_intake.worker in (select d.worker from posthorn.dead_workers() d);
end $$;

-- hold_intakes(worker, reports): what a worker says and asks each second about the intakes of its process: [{ id, wants, connected, trouble, pushed, refused, broker, place }], `refused` of
-- what is pushed to: { total, now, agoMs, why }; what is shown of the broker is where the one that runs it reads from, and an older library does not say it. Takes those that it wants and nobody runs, or that are pushed to; lets go those that it does not want. Returns [{ id, held, paused, redrive }]: whether it runs each, and
-- whether there is something for it to read again; { gone: true } of one that was removed. A worker that counts as dead holds nothing.
create or replace function posthorn.hold_intakes(p_worker bigint, p_reports json) returns json
language plpgsql as $$
declare
  v_report record;
  v_row posthorn.intake;
  v_lives boolean;
  v_held boolean;
  v_answers json[] := '{}';
begin
  perform posthorn.own_transaction(false);
  v_lives := exists (select from posthorn.worker w where w.id = p_worker);
  for v_report in select * from json_to_recordset(p_reports) as r(id int, wants boolean, connected boolean, trouble text, pushed boolean, refused json, broker text,
      place text) order by r.id loop
    select * into v_row from posthorn.intake i where i.id = v_report.id;
    if found and v_report.pushed then
      v_held := v_lives and v_report.wants;
      begin
        perform posthorn.hold_pushed(v_report.id, p_worker, v_held, coalesce(v_report.connected, false), v_report.trouble, v_report.refused);
      exception when foreign_key_violation then
        -- Removed in this moment.
        v_row := null;
      end;
    end if;
    if v_row.id is null then
      v_answers := v_answers || json_build_object('id', v_report.id, 'held', false, 'paused', false, 'redrive', false, 'gone', true);
      continue;
    end if;
    if v_report.pushed then
      -- What is to be read again is read by the one that has held it for the longest.
      v_answers := v_answers || json_build_object('id', v_report.id, 'held', v_held, 'paused', v_row.paused_at is not null,
        'redrive', p_worker = (select min(h.worker) from posthorn.intake_holder h where h.intake = v_report.id)
          and exists (select from posthorn.intake_invalid v where v.intake = v_report.id and v.redrive_at is not null));
      continue;
    end if;
    if v_lives and v_report.wants and v_row.worker is distinct from p_worker and posthorn.is_free(v_row) then
      -- Whoever holds the lock is writing for it, or takes it.
      select * into v_row from posthorn.intake i where i.id = v_report.id for no key update skip locked;
      if found and v_row.worker is distinct from p_worker and posthorn.is_free(v_row) then
        update posthorn.intake i set worker = p_worker, pushed = false, held_at = clock_timestamp(), seen_at = clock_timestamp(),
          away_since = posthorn.away_anew(i), trouble = null, broker = coalesce(v_report.broker, i.broker), place = coalesce(v_report.place, i.place)
          where i.id = v_report.id returning * into v_row;
      end if;
    elsif v_row.worker = p_worker then
      update posthorn.intake i set seen_at = clock_timestamp(), worker = case when v_lives and v_report.wants then i.worker end,
          away_since = case when not coalesce(v_report.connected, false) then coalesce(i.away_since, clock_timestamp()) end, trouble = v_report.trouble,
          broker = coalesce(v_report.broker, i.broker), place = coalesce(v_report.place, i.place)
        where i.id = v_report.id and i.worker = p_worker returning * into v_row;
    end if;
    v_answers := v_answers || json_build_object('id', v_report.id, 'held', coalesce(v_row.worker = p_worker, false), 'paused', v_row.paused_at is not null,
      'redrive', exists (select from posthorn.intake_invalid v where v.intake = v_report.id and v.redrive_at is not null));
  end loop;
  return to_json(v_answers);
end $$;

-- hold_pushed(intake, worker, holds, connected, trouble, refused): one of the many that run an intake says how it stands, or lets it go; what dead workers held is let go with
-- it. The intake is connected as long as one of them is.
create or replace function posthorn.hold_pushed(p_intake int, p_worker bigint, p_holds boolean, p_connected boolean, p_trouble text, p_refused json) returns void
language plpgsql as $$
declare
  v_first boolean;
begin
  with gone as (
    delete from posthorn.intake_holder h where h.intake = p_intake and case when h.worker = p_worker then not p_holds
        else h.seen_at < clock_timestamp() - interval '3 s' and (not exists (select from posthorn.worker w where w.id = h.worker)
          or h.worker in (select d.worker from posthorn.dead_workers() d)) end
      returning h.*
  ), counted as (
    select sum(g.received) as received, sum(g.written) as written, sum(g.invalid) as invalid, sum(g.skipped) as skipped, sum(g.refused) as refused,
      max(g.last_message_at) as last_at, max(g.skipped_at) as skipped_at, (array_agg(g.skipped_type order by g.skipped_at desc nulls last))[1] as skipped_type
      from gone g having count(*) > 0)
    update posthorn.intake i set received = i.received + c.received, written = i.written + c.written, invalid = i.invalid + c.invalid,
      skipped = i.skipped + c.skipped, refused = i.refused + c.refused, last_message_at = greatest(i.last_message_at, c.last_at),
      skipped_type = case when c.skipped_at >= coalesce(i.skipped_at, '-infinity') then c.skipped_type else i.skipped_type end,
      skipped_at = greatest(i.skipped_at, c.skipped_at) from counted c where i.id = p_intake;
  v_first := p_holds and not exists (select from posthorn.intake_holder h where h.intake = p_intake);
  if p_holds then
    -- What is refused costs no statement of its own: this one comes each second.
    insert into posthorn.intake_holder (intake, worker, connected, trouble, refused, refused_now, refused_at, refusal)
      values (p_intake, p_worker, p_connected, p_trouble, coalesce((p_refused ->> 'total')::bigint, 0), (p_refused ->> 'now')::bigint,
        clock_timestamp() - (p_refused ->> 'agoMs')::float8 * interval '1 ms', left(p_refused ->> 'why', 500))
      on conflict (intake, worker) do update set seen_at = clock_timestamp(), connected = excluded.connected, trouble = excluded.trouble,
        refused = excluded.refused, refused_now = excluded.refused_now, refused_at = excluded.refused_at, refusal = excluded.refusal;
  end if;
  -- One row for all of them: written when something is new, or it is time to say that somebody is there.
  update posthorn.intake i set pushed = true, seen_at = clock_timestamp(), trouble = a.trouble,
      away_since = case when a.connected then null when v_first then posthorn.away_anew(i) else coalesce(i.away_since, clock_timestamp()) end
    from (select coalesce(bool_or(h.connected), false) as connected, max(h.trouble) as trouble from posthorn.intake_holder h where h.intake = p_intake) a
    where i.id = p_intake and (not i.pushed or v_first or i.seen_at < clock_timestamp() - interval '0.5 s' or a.connected <> (i.away_since is null)
      or i.trouble is distinct from a.trouble);
end $$;

-- own_intake(intake, worker): called first by whatever a holder writes; returns how long what it takes in now is recognised. Raises PH005 when it is the
-- holder no more.
create or replace function posthorn.own_intake(p_intake int, p_worker bigint) returns timestamptz
language plpgsql as $$
declare
  v_keep_until timestamptz;
begin
  select clock_timestamp() + i.keep_ms * interval '1 ms' into v_keep_until from posthorn.intake i where i.id = p_intake and i.worker = p_worker for no key update;
  if not found then
    -- One of many: its own row is locked, and others write meanwhile.
    select clock_timestamp() + i.keep_ms * interval '1 ms' into v_keep_until from posthorn.intake_holder h join posthorn.intake i on i.id = h.intake
      where h.intake = p_intake and h.worker = p_worker for no key update of h;
  end if;
  if not found then
    raise exception 'the intake "%" is run by another worker', (select i.name from posthorn.intake i where i.id = p_intake) using errcode = 'PH005',
      hint = 'Nothing was written; the other one takes these messages in.';
  end if;
  return v_keep_until;
end $$;

-- mark_places(intake, marks, keep until): puts marks into the inbox, and returns the places of those that are new and no repetition of one before them; null when
-- all are, which is the rule: then they are written without asking about each, which costs a quarter less. In the order of the marks, so that two who write the
-- same ones at the same time wait for each other in one direction only.
create or replace function posthorn.mark_places(p_intake int, p_marks uuid[], p_keep_until timestamptz) returns int[]
language plpgsql as $$
declare
  v_fresh uuid[];
begin
  begin
    insert into posthorn.inbox (mark, intake, keep_until) select m, p_intake, p_keep_until from unnest(p_marks) m order by m;
    return null;
  exception when unique_violation then
    null;
  end;
  with fresh as (
    insert into posthorn.inbox (mark, intake, keep_until) select m, p_intake, p_keep_until from unnest(p_marks) m order by m on conflict do nothing returning mark)
    select array_agg(f.mark) into v_fresh from fresh f;
  return array(select min(m.n)::int from unnest(p_marks) with ordinality m(mark, n) where m.mark = any (v_fresh) group by m.mark order by 1);
end $$;

-- former_places(intake, places, count, former, keep until): those of places (null: all) of `count` messages that were not taken in under a former name either. `former`: the
-- marks of each message under all former names, one message after the other. They are put into the inbox as well, so that whatever asks by one of them finds it.
create or replace function posthorn.former_places(p_intake int, p_places int[], p_count int, p_former uuid[], p_keep_until timestamptz) returns int[]
language sql as $$
  with former as materialized (
    select (f.n - 1) / (cardinality(p_former) / p_count) + 1 as place, f.mark from unnest(p_former) with ordinality f(mark, n)
  ), fresh as (
    insert into posthorn.inbox (mark, intake, keep_until) select f.mark, p_intake, p_keep_until from former f where p_places is null or f.place = any (p_places)
      order by f.mark on conflict do nothing returning mark)
    select coalesce(array_agg(p.place order by p.place), '{}') from generate_series(1, p_count) p(place)
      where (p_places is null or p.place = any (p_places))
        and p.place not in (select f.place from former f where f.mark not in (select r.mark from fresh r))
$$;

-- take_in(intake, worker, marks, lists, invalid, skipped, former, skipped type): writes those of a batch of messages whose marks are new, in their order, as write_many
-- does; in a transaction of its own. `skipped` is a number for the statistics, and `skipped type` that of the last of them that was passed over because no contract
-- has its type; an older library says none. Returns JSON { written, invalid, noted, everWritten }: the places of those of `invalid` that are new; and, where there
-- is a skipped type, whether the intake has ever written anything. `former`: as in former_places. Raises PH005 (not the holder), PH003, PH040 (a queue is full); then nothing is written.
drop function if exists posthorn.take_in(int, bigint, uuid[], bigint[], int[], int[], json, json, json, json, int);
drop function if exists posthorn.take_in(int, bigint, uuid[], bigint[], int[], int[], json, json, json, json, int, uuid[]);
create or replace function posthorn.take_in(
  p_intake int, p_worker bigint, p_marks uuid[], p_nonces bigint[], p_channels int[], p_contracts int[], p_keys json, p_payloads json, p_headers json,
  p_invalid json, p_skipped int, p_former uuid[] default null, p_skipped_type text default null
) returns json
language plpgsql as $$
declare
  v_now timestamptz := clock_timestamp();
  v_keep_until timestamptz;
  v_places int[];
  v_written int := cardinality(p_marks);
  v_invalid int := 0;
  v_noted int[];
begin
  perform posthorn.own_transaction(true);
  v_keep_until := posthorn.own_intake(p_intake, p_worker);
  if v_written > 0 then
    v_places := posthorn.mark_places(p_intake, p_marks, v_keep_until);
    if p_former is not null then
      v_places := posthorn.former_places(p_intake, v_places, v_written, p_former, v_keep_until);
    end if;
    v_written := coalesce(cardinality(v_places), v_written);
    perform posthorn.write_places(v_places, p_nonces, p_channels, p_contracts, p_keys, p_payloads, p_headers);
  end if;
  if p_invalid is not null then
    v_noted := posthorn.note_unfit(p_intake, p_invalid, v_now, v_keep_until);
    v_invalid := cardinality(v_noted);
  end if;
  update posthorn.intake i set received = i.received + cardinality(p_marks) + coalesce(json_array_length(p_invalid), 0) + p_skipped,
      written = i.written + v_written, invalid = i.invalid + v_invalid, skipped = i.skipped + p_skipped, last_message_at = v_now,
      skipped_type = coalesce(p_skipped_type, i.skipped_type), skipped_at = case when p_skipped_type is null then i.skipped_at else v_now end
    where i.id = p_intake and i.worker = p_worker;
  if not found then
    update posthorn.intake_holder h set received = h.received + cardinality(p_marks) + coalesce(json_array_length(p_invalid), 0) + p_skipped,
        written = h.written + v_written, invalid = h.invalid + v_invalid, skipped = h.skipped + p_skipped, last_message_at = v_now,
        skipped_type = coalesce(p_skipped_type, h.skipped_type), skipped_at = case when p_skipped_type is null then h.skipped_at else v_now end
      where h.intake = p_intake and h.worker = p_worker;
  end if;
  return json_build_object('written', v_written, 'invalid', v_invalid, 'noted', v_noted, 'everWritten', case when p_skipped_type is not null then
    exists (select from posthorn.intake i where i.id = p_intake and i.written > 0)
      or exists (select from posthorn.intake_holder h where h.intake = p_intake and h.written > 0) end);
end $$;

-- write_places(places, lists): appends the messages of lists, or those at places that are named. Null means all, an empty list none. Raises PH040.
create or replace function posthorn.write_places(
  p_places int[], p_nonces bigint[], p_channels int[], p_contracts int[], p_keys json, p_payloads json, p_headers json
) returns void
language plpgsql as $$
declare
  v_limited record;
  v_picked record;
begin
  if p_places is not null then
    if cardinality(p_places) = 0 then
      return;
    end if;
    select array_agg(r.nonce order by r.n) as nonces, array_agg(coalesce(r.channel, p_channels[1]) order by r.n) as channels,
        array_agg(coalesce(r.contract, p_contracts[1]) order by r.n) as contracts, json_agg(r.key order by r.n) as keys,
        json_agg(r.payload order by r.n) as payloads, json_agg(r.headers order by r.n) as headers into v_picked
      from rows from (unnest(p_nonces), unnest(p_channels), unnest(p_contracts), json_array_elements_text(p_keys), json_array_elements(p_payloads),
        json_array_elements(p_headers)) with ordinality r(nonce, channel, contract, key, payload, headers, n)
      where r.n = any (p_places);
    perform posthorn.write_places(null, v_picked.nonces, v_picked.channels, v_picked.contracts, v_picked.keys, v_picked.payloads, v_picked.headers);
    return;
  end if;
  for v_limited in select l.channel, count(*) as messages from posthorn.backlog_limit l
      join generate_series(1, cardinality(p_nonces)) n on coalesce(p_channels[n], p_channels[1]) & 2097151 = l.channel group by l.channel order by 1 loop
    perform posthorn.check_backlog(v_limited.channel, v_limited.messages);
  end loop;
  perform posthorn.append_of(posthorn.open_slot(null), p_nonces, p_channels, p_contracts, p_keys, p_payloads, p_headers);
end $$;

-- unfit_mark(identity, content type, headers, body, bytes): what tells a message that fits nothing from others of its identity. The same bytes have the same; what its sender
-- has mended has not.
create or replace function posthorn.unfit_mark(p_identity uuid, p_content_type text, p_headers json, p_body bytea, p_bytes bigint) returns uuid
language sql immutable as $$
  select substr(encode(sha256(convert_to(jsonb_build_array(p_identity, p_content_type, p_headers, p_bytes)::text, 'UTF8') || p_body), 'hex'), 1, 32)::uuid
$$;

-- note_unfit(intake, messages, now, keep until): keeps what fits nothing: [{ mark, once, reason, source, event, type, contentType, headers, key, brokerId, position, body,
-- bytes, whole, former }], `body` in base64; `once` where it has an identity of its own, which is its mark then. That identity is left to a message that fits: only the content is
-- remembered, so that what comes again is absorbed, also when its entry is gone. What was taken in under its identity is absorbed as well. `former`: its marks under
-- former names of the intake. Returns the places of those that are new.
create or replace function posthorn.note_unfit(p_intake int, p_messages json, p_now timestamptz, p_keep_until timestamptz) returns int[]
language plpgsql as $$
declare
  v_new int[];
begin
  with said as materialized (
    select u.*, decode(u.body64, 'base64') as body from rows from (json_to_recordset(p_messages) as (mark uuid, once boolean, reason text, source text, event text,
      type text, "contentType" text, headers json, key text, "brokerId" text, position text, body text, bytes bigint, whole boolean, former json)) with ordinality
      u(own, once, reason, source, event, type, "contentType", headers, key, "brokerId", position, body64, bytes, whole, former, n)
  ), unfit as materialized (
    select distinct on (m.mark) m.mark, s.* from said s
        cross join lateral (select case when s.once then posthorn.unfit_mark(s.own, s."contentType", s.headers, s.body, s.bytes)
          else coalesce((select v.mark from posthorn.intake_invalid v where v.intake = p_intake
            and v.mark = any (array(select f::uuid from json_array_elements_text(s.former) f)) limit 1), s.own) end as mark) m
      where not s.once or not exists (select from posthorn.inbox b where b.mark = s.own)
          and not exists (select from json_array_elements_text(s.former) f join posthorn.inbox b
            on b.mark = any (array[f::uuid, posthorn.unfit_mark(f::uuid, s."contentType", s.headers, s.body, s.bytes)]))
        order by m.mark, s.n
  ), fresh as (
    insert into posthorn.inbox (mark, intake, keep_until) select u.mark, p_intake, p_keep_until from unfit u where u.once on conflict do nothing returning mark
  ), noted as (
    insert into posthorn.intake_invalid (intake, mark, identity, found_at, last_at, reason, source, event, type, content_type, headers, key, broker_id, position, body,
        bytes, whole)
      select p_intake, u.mark, case when u.once then u.own end, p_now, p_now, u.reason, u.source, u.event, u.type, u."contentType", u.headers, u.key, u."brokerId",
        u.position, u.body, u.bytes, u.whole
      from unfit u where not u.once or u.mark in (select f.mark from fresh f) order by u.n
      on conflict (intake, mark) do update set times = posthorn.intake_invalid.times + 1, last_at = excluded.last_at
      returning mark, times)
    select coalesce(array_agg(u.n::int order by u.n), '{}') into v_new from noted o join unfit u on u.mark = o.mark where o.times = 1;
  return v_new;
end $$;

-- sweep_inbox(pages): removes what has been kept for its time, from at most so many pages, where the last sweep stopped. It is due to go over all of the
-- inbox within a twentieth of the shortest time that any intake keeps it, and does no more. Returns whether it is behind. In a transaction of its own.
create or replace function posthorn.sweep_inbox(p_pages int) returns boolean
language plpgsql as $$
declare
  v_all bigint := pg_relation_size('posthorn.inbox') / current_setting('block_size')::bigint;
  v_round_ms float8 := (select coalesce(min(i.keep_ms), 604800000) / 20 from posthorn.intake i);
  v_page bigint;
  v_due float8;
  v_upto bigint;
begin
  perform posthorn.own_transaction(false);
  if v_all = 0 then
    return false;
  end if;
  insert into posthorn.maintenance (name, ran_at) values ('inbox', clock_timestamp()) on conflict (name) do nothing;
  select coalesce((m.notes ->> 'page')::bigint, 0), least(v_all, v_all * extract(epoch from clock_timestamp() - m.ran_at) * 1000 / v_round_ms) into v_page, v_due
    from posthorn.maintenance m where m.name = 'inbox' for update skip locked;
  if v_due is null or v_due < 1 then
    return false;
  end if;
  v_page := case when v_page < v_all then v_page else 0 end;
  v_upto := least(v_all, v_page + least(p_pages, floor(v_due)::bigint));
  delete from posthorn.inbox b where b.ctid >= format('(%s,0)', v_page)::tid and b.ctid < format('(%s,0)', v_upto)::tid and b.keep_until < clock_timestamp();
  update posthorn.maintenance set notes = json_build_object('page', v_upto),
    ran_at = clock_timestamp() - (v_due - (v_upto - v_page)) / v_all * v_round_ms * interval '1 ms' where name = 'inbox';
  return v_due - (v_upto - v_page) >= 1;
end $$;
