-- Replaying: a message that was handled gets one more delivery, under a number that none of its deliveries had, so its effects are fenced as always.

-- replay(name, from, to, by, reason, confirm, contract): begins it; `confirm` repeats the name. Each message that was said from `from` on, before `to` (without it:
-- before now) and was handled is handled once more, in the order in which it was said; of one key in that order where order is kept. Not touched: what waits,
-- runs, is dead or invalid, was cancelled, discarded, erased or has expired; and contracts that no live worker has a handler for.
-- Returns the operation; see proceed and run. Raises PH060, PH061, PH015, PH063 (older than what is kept), PH064 (nobody works on it). Where nothing was
-- said in that time there is nothing to do, and nobody has to be there for it.
create or replace function posthorn.replay(
  name text, "from" timestamptz, "to" timestamptz default null, by text default null, reason text default null, confirm text default null, contract text default null
) returns json
language plpgsql as $$
declare
  v_row posthorn.subscription := posthorn.reader($1);
  v_now timestamptz := clock_timestamp();
  v_to timestamptz := coalesce($3, v_now);
  v_oldest timestamptz := posthorn.kept_from(v_row.channel);
  v_upto bigint := coalesce(pg_sequence_last_value('posthorn.message_id'), 0);
  v_count bigint;
begin
  if $2 is null or $2 >= v_to or v_to > v_now + interval '1 minute' then
    raise exception 'a replay is of a time in the past: from % to % is none', coalesce($2::text, 'no time'), v_to using errcode = 'PH015',
      hint = '"from" lies before "to", and "to" not after now.';
  elsif contract is not null and not exists (select from posthorn.contract c where c.channel = v_row.channel and c.name = $7) then
    raise exception '"%" carries no contract called "%"', v_row.name, left($7, 80) using errcode = 'PH060';
  -- A clock of JavaScript knows milliseconds.
  elsif $2 < date_trunc('milliseconds', v_oldest) then
    raise exception 'what "%" reads is kept from % on, and the replay would begin at %', v_row.name, v_oldest, $2 using errcode = 'PH063',
      detail = json_build_object('oldestKept', v_oldest)::text, hint = 'Begin it there; what is older may be gone.';
  end if;
  v_count := posthorn.said_within(v_row.channel, $2, v_to, $7, v_upto);
  if v_count > 0 and not exists (select from posthorn.handled_here(v_row.id)) then
    raise exception 'no worker works on "%", so nobody says which contracts are handled', v_row.name using errcode = 'PH064', hint = 'Start one first.';
  end if;
  perform posthorn.confirmed(confirm, v_row.name, format('the replay of "%s"', v_row.name));
  return posthorn.begin_operation('replay', v_row.name, json_strip_nulls(json_build_object('from', $2, 'to', v_to, 'contract', $7)),
    coalesce($4, current_user::text), $5, v_count, json_build_object('subscription', v_row.id, 'after', '0', 'upto', v_upto::text));
end $$;

-- kept_from(channel): from when on everything that was said in a channel is kept; null where nothing was ever removed. A segment that went before
-- that was written down leaves its oldest message as the one thing that is known.
create or replace function posthorn.kept_from(p_channel int) returns timestamptz
language plpgsql as $$
begin
  return coalesce((select t.forgotten_until from posthorn.retention t),
    case when (select r.forgotten_upto from posthorn.ring r) > 0 then posthorn.oldest_kept(p_channel) end);
end $$;

-- handled_here(subscription): ids of the contracts that live workers of it have handlers for.
create or replace function posthorn.handled_here(p_subscription int) returns setof int
language sql volatile as $$
  select distinct unnest(posthorn.every_of(a.subscription, a.contracts)) from posthorn.attendance a
    where a.subscription = p_subscription and a.worker not in (select d.worker from posthorn.dead_workers() d)
$$;

-- said_within(channel, from, to, contract, upto): how many messages were said in a time. Reads the log of the channel.
create or replace function posthorn.said_within(p_channel int, p_from timestamptz, p_to timestamptz, p_contract text, p_upto bigint) returns bigint
language plpgsql as $$
begin
  return (select coalesce(sum(w.messages), 0) from (select unnest(r.slots) as slot from posthorn.ring r) s cross join posthorn.lanes_of(p_channel) l(lane)
    cross join lateral (select posthorn.count_within_of(s.slot, p_channel, l.lane, p_from, p_to, p_contract, p_upto) as messages) w);
end $$;

select posthorn.by_slot(
  'count_within_of(p_slot smallint, p_channel int, p_lane int, p_from timestamptz, p_to timestamptz, p_contract text, p_upto bigint)', 'bigint', $body$
  return (select count(*) from posthorn.message_{slot} m where m.channel = p_channel and m.lane = p_lane and m.id <= p_upto
    and m.published_at >= p_from and m.published_at < p_to
    and (p_contract is null or m.contract in (select c.id from posthorn.contract c where c.name = p_contract)));
$body$);

-- replay_piece: `passed` counts what is not replayed, by why: { waiting, ended, unhandled }.
create or replace function posthorn.replay_piece(p_row posthorn.operation, p_limit int, out done bigint, out more boolean, out busy boolean, out place json)
language plpgsql as $$
declare
  v_reader posthorn.subscription;
  v_from timestamptz := (p_row.arguments ->> 'from')::timestamptz;
  v_to timestamptz := (p_row.arguments ->> 'to')::timestamptz;
  v_contracts int[];
  v_handled int[];
  v_head record;
  v_after bigint := (p_row.place ->> 'after')::bigint;
  v_seen int := 0;
  v_most constant int := 1000;
  v_due timestamptz := '-infinity';
  v_why text;
  v_passed jsonb := coalesce(p_row.place::jsonb -> 'passed', '{"waiting":0,"ended":0,"unhandled":0}');
begin
  select * into v_reader from posthorn.subscription s where s.id = (p_row.place ->> 'subscription')::int for key share;
  place := p_row.place;
  done := 0;
  busy := false;
  more := v_reader.id is not null;
  if not more then
    return;
  end if;
  v_handled := array(select posthorn.handled_here(v_reader.id));
  if v_handled = '{}' and p_row.found = 0 then
    more := false;
    return;
  elsif v_handled = '{}' then
    -- Waits for a worker: without one nobody says what is handled.
    busy := true;
    return;
  end if;
  v_contracts := array(select c.id from posthorn.contract c where c.channel = v_reader.channel and (p_row.arguments ->> 'contract' is null or c.name = p_row.arguments ->> 'contract'));
  -- What is read here is copied before its segment may go.
  perform posthorn.keep_segments();
  -- Two replays of a reader must not find the same message handled and both give it the next number.
  perform pg_advisory_xact_lock(posthorn.lock_key('replay', v_reader.id));
  for v_head in select * from posthorn.log_heads(v_reader.channel, v_after, (p_row.place ->> 'upto')::bigint, v_most) loop
    v_seen := v_seen + 1;
    v_after := v_head.id;
    continue when v_head.published_at < v_from or v_head.published_at >= v_to or v_head.contract <> all (v_contracts);
    v_due := greatest(clock_timestamp(), v_due + interval '1 microsecond');
    v_why := case when v_head.contract = any (v_handled) then posthorn.replay_one(p_row, v_reader, v_head.lane, v_head.id, v_head.xid, v_head.slot, v_due) else 'unhandled' end;
    if v_why is null then
      done := done + 1;
    else
      v_passed := jsonb_set(v_passed, array[v_why], to_jsonb((v_passed ->> v_why)::bigint + 1));
    end if;
    exit when done >= p_limit;
  end loop;
  more := done >= p_limit or v_seen = v_most;
  place := (p_row.place::jsonb || jsonb_build_object('after', v_after::text, 'passed', v_passed))::json;
end $$;

-- replay_one: gives a message its next delivery, due at a time; null where it did, else why not. Where order is kept it enters that of its key when it is due.
create or replace function posthorn.replay_one(
  p_row posthorn.operation, p_reader posthorn.subscription, p_lane int, p_id bigint, p_xid xid8, p_slot smallint, p_due timestamptz
) returns text
language plpgsql as $$
declare
  v_delivery int := posthorn.handled_as(p_reader, p_lane, p_id);
  v_row posthorn.deferred;
begin
  if v_delivery is null then
    return case when exists (select from posthorn.deferred d where d.subscription = p_reader.id and d.message = p_id) then 'waiting'
      when exists (select from posthorn.discarded d where d.subscription = p_reader.id and d.message = p_id)
        or exists (select from posthorn.cancelled d where d.subscription = p_reader.id and d.message = p_id)
        or exists (select from posthorn.dead_letter d where d.subscription = p_reader.id and d.message = p_id)
        or exists (select from posthorn.invalid d where d.subscription = p_reader.id and d.message = p_id) then 'ended'
      when (posthorn.fate_in_log(p_reader, p_lane, p_id, p_xid)).state in ('queued', 'running') then 'waiting' else 'ended' end;
  end if;
  v_row := posthorn.delivery_of(p_reader.id, p_lane, p_id, p_slot);
  if v_row.payload::text = posthorn.erased_payload() then
    return 'ended';
  end if;
  insert into posthorn.deferred (subscription, due_at, delivery, attempts, crashes, reason, message, nonce, channel, lane, contract, key, payload, headers,
      published_at, history, priority, since)
    values (v_row.subscription, p_due, v_delivery + 1, 0, 0, 'released', v_row.message, v_row.nonce, v_row.channel, v_row.lane, v_row.contract, v_row.key,
      v_row.payload, v_row.headers, v_row.published_at, json_build_array(json_build_object('attempt', 0, 'outcome', 'replayed', 'by', p_row.ordered_by,
        'endedAt', clock_timestamp())), v_row.priority, clock_timestamp())
    on conflict (subscription, message) do nothing;
  if not found then
    return 'waiting';
  end if;
  -- Of a run that did not use them; the new one begins from the start.
  perform posthorn.forget_steps(v_row.subscription, v_row.message);
  return null;
end $$;

-- handled_as(subscription, lane, message): the number of the newest delivery of a message that was handled: it succeeded, or there was no handler. Null for
-- every other: it has not ended, or in another way.
create or replace function posthorn.handled_as(p_reader posthorn.subscription, p_lane int, p_id bigint) returns int
language plpgsql as $$
declare
  v_slot smallint;
  v_end record;
  v_newest record;
  v_outcome text;
begin
  select null::text as outcome, 0 as delivery into v_newest;
  for v_slot in select unnest(r.slots) from posthorn.ring r loop
    v_end := posthorn.newest_end_of(v_slot, p_reader.id, p_id);
    if v_end.delivery > v_newest.delivery then
      v_newest := v_end;
    end if;
    v_outcome := coalesce(v_outcome, posthorn.claimed_outcome_of(v_slot, p_reader.id, p_lane, p_id));
  end loop;
  if v_newest.outcome is null then
    select v_outcome as outcome, 1 as delivery into v_newest;
  end if;
  -- Looked at last: a message that goes on after its end is in one of these by then.
  return v_newest.delivery where v_newest.outcome in ('succeeded', 'skipped')
    and not exists (select from posthorn.deferred d where d.subscription = p_reader.id and d.message = p_id)
    and not exists (select from posthorn.dead_letter d where d.subscription = p_reader.id and d.message = p_id)
    and not exists (select from posthorn.invalid d where d.subscription = p_reader.id and d.message = p_id)
    and not exists (select from posthorn.discarded d where d.subscription = p_reader.id and d.message = p_id)
    and not exists (select from posthorn.cancelled d where d.subscription = p_reader.id and d.message = p_id);
end $$;

-- newest_end_of: the newest end of a message that has an ending of its own. Plan: ending_N_by_delivery, backward.
select posthorn.by_slot('newest_end_of(p_slot smallint, p_subscription int, p_message bigint, out outcome text, out delivery int)', 'record', $body$
  select e.outcome::text, e.delivery into outcome, delivery from posthorn.ending_{slot} e where e.message = p_message and e.subscription = p_subscription
    order by e.delivery desc limit 1;
  return;
$body$);

-- claimed_outcome_of: how the part of its claim ended a message; null where none has. Plan: claim_N_by_reach, claim_N_late, settlement_N_by_part.
select posthorn.by_slot('claimed_outcome_of(p_slot smallint, p_subscription int, p_lane int, p_message bigint)', 'text', $body$
  declare v_claim bigint;
  begin
    select c.id into v_claim from (select * from posthorn.claim_{slot} k where k.subscription = p_subscription and k.lane = p_lane and not k.took_late
      and k.last_id >= p_message order by k.last_id, k.n limit 1) c where p_message = any (c.messages);
    if v_claim is null then
      select c.id into v_claim from posthorn.claim_{slot} c where c.subscription = p_subscription and c.lane = p_lane and c.took_late and p_message = any (c.messages) limit 1;
    end if;
    return (select t.outcome::text from posthorn.settlement_{slot} t where t.claim = v_claim and t.outcome is not null and t.outcome <> 'begun'
      and (t.messages is null or p_message = any (t.messages)) order by t.part desc limit 1);
  end;
$body$);

-- replayable(name, from, to, contract): for whoever is to confirm it: { count, oldestKept }.
create or replace function posthorn.replayable(name text, "from" timestamptz, "to" timestamptz, contract text) returns json
language plpgsql as $$
declare
  v_row posthorn.subscription := posthorn.reader($1);
begin
  return json_build_object('oldestKept', posthorn.kept_from(v_row.channel), 'count', posthorn.said_within(v_row.channel, $2, coalesce($3, clock_timestamp()), $4,
    coalesce(pg_sequence_last_value('posthorn.message_id'), 0)));
end $$;
