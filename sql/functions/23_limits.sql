-- Limits of the fleet: rates and concurrency, of a subscription and of a key. A claim asks for permits and takes no more messages than it
-- gets; what it does not use was never taken. All of it is decided under one advisory lock of the subscription, which nobody waits for.
-- Rates: the generic cell rate algorithm. Concurrency is counted from what is open each time, never kept in a counter: a worker that dies
-- holds its permits until it is rescued, and nobody has to give any back.

-- set_limits(subscription, policy): the limits of a policy that was registered; the newest start wins.
create or replace function posthorn.set_limits(p_subscription int, p_policy json) returns void
language plpgsql as $$
declare
  v_limited boolean := coalesce(p_policy ->> 'rateLimit', p_policy ->> 'keyRateLimit', p_policy ->> 'fleetConcurrency', p_policy ->> 'keyConcurrency') is not null;
  v_old posthorn.run_limit;
  v_new posthorn.run_limit;
begin
  select * into v_old from posthorn.run_limit where subscription = p_subscription;
  if not v_limited then
    delete from posthorn.run_limit where subscription = p_subscription;
    delete from posthorn.permit where subscription = p_subscription;
  else
    v_new := row(p_subscription, (p_policy #>> '{rateLimit,messages}')::float8, (p_policy #>> '{rateLimit,perMs}')::float8,
      (p_policy #>> '{rateLimit,burst}')::int, (p_policy ->> 'fleetConcurrency')::int, (p_policy #>> '{keyRateLimit,messages}')::float8,
      (p_policy #>> '{keyRateLimit,perMs}')::float8, (p_policy #>> '{keyRateLimit,burst}')::int, (p_policy ->> 'keyConcurrency')::int)::posthorn.run_limit;
    insert into posthorn.run_limit select v_new.* on conflict (subscription) do update set rate_messages = excluded.rate_messages, rate_ms = excluded.rate_ms,
      rate_burst = excluded.rate_burst, fleet_concurrency = excluded.fleet_concurrency, key_rate_messages = excluded.key_rate_messages,
      key_rate_ms = excluded.key_rate_ms, key_rate_burst = excluded.key_rate_burst, key_concurrency = excluded.key_concurrency;
  end if;
  if v_old is distinct from v_new then
    -- What waits for its key stands in line by the old limits. It is due now, and stands in line again by the new ones.
    update posthorn.deferred set due_at = clock_timestamp()
      where subscription = p_subscription and token is null and key is not null and reason::text = 'throttled' and due_at > clock_timestamp();
    delete from posthorn.key_permit where subscription = p_subscription;
    update posthorn.subscription set limited = v_limited where id = p_subscription and limited <> v_limited;
  end if;
end $$;

-- allow(subscription, limit): how many messages may begin now, at most `limit`. `permits` is null when another session asks just now; the
-- lock is held until the end of this transaction. The clock is read after the lock was taken. Should it jump back, it costs one full burst.
create or replace function posthorn.allow(p_subscription int, p_limit int) returns posthorn.allowance
language plpgsql as $$
declare
  v_limit posthorn.run_limit;
  v_state posthorn.permit;
  v_allow posthorn.allowance;
  v_open int;
begin
  if not pg_try_advisory_xact_lock(posthorn.lock_key('permits', p_subscription)) then
    return v_allow;
  end if;
  select * into v_limit from posthorn.run_limit where subscription = p_subscription;
  select * into v_state from posthorn.permit where subscription = p_subscription order by n desc limit 1;
  if v_state.n is null then
    v_state := posthorn.first_permit(p_subscription);
  end if;
  v_allow := row(p_subscription, p_limit, false, clock_timestamp(), v_state.tat, v_limit.rate_ms / v_limit.rate_messages, v_limit.rate_burst,
    v_limit.key_concurrency, v_limit.key_rate_ms / v_limit.key_rate_messages, v_limit.key_rate_burst, v_state.n, v_state.open_claims,
    v_state.looked_upto, null)::posthorn.allowance;
  if v_allow.gap_ms is not null then
    v_allow.tat := posthorn.tat_from(v_state.tat, v_allow.at, v_allow.gap_ms, v_allow.burst);
    v_allow.permits := least(p_limit, posthorn.room_at(v_allow.tat, v_allow.at, v_allow.gap_ms, v_allow.burst));
    if v_allow.tat < v_state.tat then
      -- Forgotten for good: otherwise each that asks would find a full burst ahead of its own time.
      update posthorn.permit set tat = v_allow.tat where subscription = p_subscription and n = v_state.n;
    end if;
  end if;
  if v_allow.permits <= 0 or coalesce(v_limit.fleet_concurrency, v_limit.key_concurrency) is null then
    return v_allow;
  end if;
  v_allow := posthorn.look_at_claims(v_allow);
  select count(*), jsonb_object_agg(o.key, o.running) filter (where o.key is not null) into v_open, v_allow.open_keys
    from (select r.key, count(*) as running from posthorn.open_runs(v_allow, v_limit.key_concurrency is not null) r group by 1) o;
  if v_limit.fleet_concurrency is not null then
    select count(*) into v_open from posthorn.open_runs(v_allow, false);
    v_allow.crowded := v_limit.fleet_concurrency - v_open < v_allow.permits;
    v_allow.permits := least(v_allow.permits, v_limit.fleet_concurrency - v_open);
  end if;
  return v_allow;
end $$;

-- tat_from: where a rate stands now: not in the past, and no further ahead than a full burst, which it is only when the clock was put back.
create or replace function posthorn.tat_from(p_tat timestamptz, p_at timestamptz, p_gap_ms float8, p_burst int) returns timestamptz
language plpgsql immutable as $$
begin
  return least(greatest(p_tat, p_at), p_at + p_burst * p_gap_ms * interval '1 ms');
end $$;

-- room_at: messages that a rate lets begin at once.
create or replace function posthorn.room_at(p_tat timestamptz, p_at timestamptz, p_gap_ms float8, p_burst int) returns int
language plpgsql immutable as $$
begin
  -- A little more, because times are rounded to microseconds.
  return floor(p_burst - extract(epoch from p_tat - p_at)::float8 * 1000 / p_gap_ms + 0.001)::int;
end $$;

-- first_permit: the state of a subscription that has been without limits so far: which claim is the newest, and then what is open: a claim that
-- somebody makes in between without asking is in both, and counts once.
create or replace function posthorn.first_permit(p_subscription int) returns posthorn.permit
language plpgsql as $$
declare
  v_state posthorn.permit;
begin
  v_state.subscription := p_subscription;
  v_state.n := 0;
  v_state.tat := '-infinity';
  v_state.looked_upto := array(select (posthorn.position_of(p_subscription, l.lane)).n from posthorn.lane l where l.subscription = p_subscription order by l.lane);
  v_state.open_claims := array(select c.id from posthorn.open_claims() c where c.subscription = p_subscription);
  return v_state;
end $$;

-- look_at_claims: the claims that are open now: those that were at the last look, and those since, as far as they still are.
create or replace function posthorn.look_at_claims(p_allow posthorn.allowance) returns posthorn.allowance
language plpgsql as $$
declare
  v_slots smallint[] := (select slots from posthorn.ring);
  v_lane int;
  v_slot smallint;
  v_found record;
begin
  for v_lane in select l.lane from posthorn.lane l where l.subscription = p_allow.subscription loop
    foreach v_slot in array v_slots loop
      v_found := posthorn.claims_after_of(v_slot, p_allow.subscription, v_lane, coalesce(p_allow.looked_upto[v_lane + 1], 0));
      if v_found.ids is not null then
        p_allow.open_claims := p_allow.open_claims || v_found.ids;
        p_allow.looked_upto[v_lane + 1] := v_found.newest;
      end if;
    end loop;
  end loop;
  p_allow.open_claims := array(select distinct c.id from unnest(p_allow.open_claims) c(id)
    where exists (select from unnest(v_slots) s(slot) where posthorn.is_open_of(s.slot, c.id)));
  return p_allow;
end $$;

-- claims_after_of: ids of the claims of a lane after a number. Plan: claim_N_by_n.
select posthorn.by_slot('claims_after_of(p_slot smallint, p_subscription int, p_lane int, p_n bigint, out ids bigint[], out newest bigint)', 'record', $body$
  select array_agg(c.id), max(c.n) into ids, newest from posthorn.claim_{slot} c where c.subscription = p_subscription and c.lane = p_lane and c.n > p_n;
  return;
$body$);

-- is_open_of: whether a claim lies in this slot and no part has closed it.
select posthorn.by_slot('is_open_of(p_slot smallint, p_claim bigint)', 'boolean', $body$
  return exists (select from posthorn.claim_{slot} c where c.id = p_claim)
    and not exists (select from posthorn.settlement_{slot} t where t.claim = p_claim and t.closes);
$body$);

-- unsettled_of: the messages of a claim in this slot that have not ended, with the slots that they lie in.
select posthorn.by_slot('unsettled_of(p_slot smallint, p_claim bigint)', 'table (message bigint, lane int, slot smallint, subscription int)', $body$
  return query select m.id, c.lane, coalesce(c.message_slots[m.n], {slot}::smallint), c.subscription
    from posthorn.claim_{slot} c cross join lateral unnest(c.messages) with ordinality m(id, n)
    where c.id = p_claim and not exists (select from posthorn.settlement_{slot} t where t.claim = c.id
      and t.outcome is distinct from 'begun' and (t.messages is null or m.id = any (t.messages)) offset 0);
$body$);

-- has_ended_of: whether the first delivery of a message has an ending of its own.
select posthorn.by_slot('has_ended_of(p_slot smallint, p_subscription int, p_message bigint)', 'boolean', $body$
  return exists (select from posthorn.ending_{slot} e where e.message = p_message and e.subscription = p_subscription and e.delivery = 1);
$body$);

-- open_runs: one row for each message that somebody in the fleet holds; with its key where that is asked for.
create or replace function posthorn.open_runs(p_allow posthorn.allowance, p_keys boolean) returns table (key text)
language plpgsql as $$
declare
  v_channel int := (select s.channel from posthorn.subscription s where s.id = p_allow.subscription);
begin
  return query
    select case when p_keys then (posthorn.message_of(u.slot, v_channel, u.lane, u.message)).key end
      from unnest(p_allow.open_claims) c(id) cross join (select unnest(slots) as slot from posthorn.ring) s
      cross join lateral posthorn.unsettled_of(s.slot, c.id) u
      where not posthorn.has_ended_of(u.slot, p_allow.subscription, u.message)
    union all
    select d.key from posthorn.deferred d where d.token is not null and d.subscription = p_allow.subscription;
end $$;

-- use_permits(allowance, used, wanted): writes down that so many messages begin. Returns in how many milliseconds it pays to ask again; null when
-- the limits were no obstacle.
create or replace function posthorn.use_permits(p_allow posthorn.allowance, p_used int, p_wanted int) returns int
language plpgsql as $$
declare
  v_tat timestamptz := p_allow.tat + coalesce(p_used * p_allow.gap_ms, 0) * interval '1 ms';
  v_worth int;
  v_wait_ms float8 := 0;
begin
  if p_used > 0 then
    insert into posthorn.permit (subscription, n, tat, open_claims, looked_upto)
      values (p_allow.subscription, p_allow.n + 1, v_tat, p_allow.open_claims, p_allow.looked_upto);
    delete from posthorn.permit where subscription = p_allow.subscription and n = p_allow.n;
  end if;
  if p_used < p_allow.permits or p_allow.permits >= p_wanted then
    return null;
  end if;
  if p_allow.gap_ms is not null then
    -- For several at once, where there may be several: a claim costs the same for one.
    v_worth := greatest(1, least(p_wanted, p_allow.burst / 4));
    v_wait_ms := extract(epoch from v_tat - p_allow.at)::float8 * 1000 + (v_worth - p_allow.burst) * p_allow.gap_ms;
  end if;
  -- Nobody tells when a run of another process ends.
  return ceil(greatest(v_wait_ms, case when p_allow.crowded then 50 else 1 end));
end $$;

-- claim_limited: as claim, within the limits of the subscription; `work` has begun the transaction. The answer has more fields: { waitMs, dueMs }, when
-- the limits left messages for later, which may come alone; { aside }, how many messages of the claim were put aside for their keys' limits, which
-- `parts` of it say. No lane: as in claim_guarded. Where order is kept no key is limited, because it is by its order.
create or replace function posthorn.claim_limited(p_subscription int, p_lane int, p_worker bigint, p_limit int) returns text
language plpgsql as $$
declare
  v_allow posthorn.allowance := posthorn.allow(p_subscription, p_limit);
  v_text text;
  v_claim json;
  v_split record;
  v_count int;
  v_wait_ms int;
begin
  if v_allow.permits is null then
    return '{"missed":true}';
  elsif v_allow.permits <= 0 then
    -- Who would find nothing need not ask again: a peek tells when there is something.
    return case when not exists (select from posthorn.ring r cross join posthorn.lane l join posthorn.subscription s on s.id = l.subscription
        where l.subscription = p_subscription and (p_lane is null or l.lane = p_lane)
          and posthorn.is_ready(posthorn.slots_from(r, l.read_from), r.first_id, l.subscription, l.lane, s.channel)) then '{}'
      else concat('{', posthorn.when_again(p_subscription, posthorn.use_permits(v_allow, 0, p_limit)), '}') end;
  end if;
  -- A key that floods is put aside page by page, so that others come to their turn.
  for v_round in 1 .. 20 loop
    v_text := case when p_lane is null then posthorn.claim_by_priority(p_subscription, p_worker, v_allow.permits)
      else posthorn.claim(p_subscription, p_lane, p_worker, v_allow.permits) end;
    v_claim := v_text::json;
    v_count := coalesce(json_array_length(v_claim -> 'messages') - coalesce(json_array_length(v_claim -> 'skipped'), 0), 0);
    if v_count = 0 then
      return v_text;
    elsif v_allow.key_concurrency is null and v_allow.key_gap_ms is null then
      v_wait_ms := posthorn.use_permits(v_allow, v_count, p_limit);
      return case when v_wait_ms is null then v_text else concat(left(v_text, -1), ',', posthorn.when_again(p_subscription, v_wait_ms), '}') end;
    end if;
    v_split := posthorn.put_aside(v_allow, v_claim, coalesce(p_lane,
      (posthorn.claim_of((v_claim ->> 'slot')::smallint, (v_claim ->> 'claim')::bigint)).lane), p_worker);
    exit when v_split.kept > 0;
  end loop;
  if v_split.kept = 0 then
    return concat('{', posthorn.when_again(p_subscription, 0), '}');
  end if;
  v_wait_ms := posthorn.use_permits(v_allow, v_split.kept, p_limit);
  if v_wait_ms is null and v_count = v_allow.permits and v_split.kept < v_count then
    v_wait_ms := 0;
  end if;
  return concat('{"claim":"', v_claim ->> 'claim', '","token":"', v_claim ->> 'token', '","slot":', v_claim ->> 'slot', ',"parts":', v_split.parts,
    ',"aside":', v_count - v_split.kept, ',' || posthorn.when_again(p_subscription, v_wait_ms), ',"messages":[', v_split.items, ']}');
end $$;

-- when_again: fields of an answer: when to ask again, and when the first waiting delivery is due; what waits behind another is due at infinity, which is
-- no time. Null without a time.
create or replace function posthorn.when_again(p_subscription int, p_wait_ms int) returns text
language plpgsql as $$
begin
  return format('"waitMs":%s,"dueMs":%s', p_wait_ms, coalesce((
    select greatest(0, ceil(extract(epoch from d.due_at - clock_timestamp()) * 1000)) from posthorn.deferred d
      where d.subscription = p_subscription and d.token is null and d.due_at < 'infinity' order by d.due_at limit 1)::text, 'null'))
    where p_wait_ms is not null;
end $$;

-- key_room(allowance, key, in line): how many messages of a key may begin. Those that arrive stand behind those that are in line.
create or replace function posthorn.key_room(p_allow posthorn.allowance, p_key text, p_in_line boolean) returns posthorn.key_room
language plpgsql as $$
declare
  v_state posthorn.key_permit;
  v_room posthorn.key_room;
begin
  select * into v_state from posthorn.key_permit where subscription = p_allow.subscription and key = p_key;
  v_room := row(1000000, greatest(v_state.tat, p_allow.at), greatest(v_state.line_end, '-infinity'))::posthorn.key_room;
  if p_allow.key_gap_ms is not null then
    v_room.tat := posthorn.tat_from(v_state.tat, p_allow.at, p_allow.key_gap_ms, p_allow.key_burst);
    v_room.room := posthorn.room_at(v_room.tat, p_allow.at, p_allow.key_gap_ms, p_allow.key_burst);
  end if;
  if p_allow.key_concurrency is not null then
    v_room.room := least(v_room.room, p_allow.key_concurrency - coalesce((p_allow.open_keys ->> p_key)::int, 0));
  end if;
  if not p_in_line and v_state.line_end > '-infinity' and exists (select from posthorn.deferred d
      where d.subscription = p_allow.subscription and d.key = p_key and d.token is null and d.reason::text = 'throttled') then
    v_room.room := 0;
  end if;
  v_room.room := greatest(v_room.room, 0);
  return v_room;
end $$;

-- begin_and_line_up(allowance, key, room, begins, waits): so many messages of a key begin, so many stand in line. Returns the time after which the
-- first of these is due; the others follow at a distance of line_step_ms.
create or replace function posthorn.begin_and_line_up(p_allow posthorn.allowance, p_key text, p_room posthorn.key_room, p_begins int, p_waits int)
returns timestamptz language plpgsql as $$
declare
  v_tat timestamptz := p_room.tat + p_begins * coalesce(p_allow.key_gap_ms, 0) * interval '1 ms';
  v_start timestamptz := greatest(p_room.line_end, p_allow.at, v_tat - coalesce(p_allow.key_burst * p_allow.key_gap_ms, 0) * interval '1 ms');
begin
  if p_waits > 0 or p_allow.key_gap_ms is not null then
    insert into posthorn.key_permit (subscription, key, tat, line_end) values (p_allow.subscription, p_key, v_tat,
        case when p_waits > 0 then v_start + p_waits * posthorn.line_step_ms(p_allow) * interval '1 ms' else p_room.line_end end)
      on conflict (subscription, key) do update set tat = excluded.tat, line_end = excluded.line_end;
  end if;
  return v_start;
end $$;

-- line_step_ms: the distance of messages in line. Without a rate the end of a run makes room, of which nobody tells: one of them looks every so often.
create or replace function posthorn.line_step_ms(p_allow posthorn.allowance) returns float8
language plpgsql immutable as $$
begin
  return coalesce(p_allow.key_gap_ms, 50);
end $$;

-- put_aside: of a claim that was just made, hands back to `deferred` what the limits of the keys do not let through, without burning an
-- attempt, each due when its key's next permit is. Returns the items that are left, how many, and how many parts of the claim it wrote.
create or replace function posthorn.put_aside(p_allow posthorn.allowance, p_claim json, p_lane int, p_worker bigint, out items text, out kept int, out parts int)
language plpgsql as $$
declare
  v_aside bigint[];
  v_slots smallint[];
  v_due timestamptz[];
  v_slot smallint := (p_claim ->> 'slot')::smallint;
  v_claim bigint := (p_claim ->> 'claim')::bigint;
  v_ends boolean := (select s.idempotency = 'transaction' from posthorn.subscription s where s.id = p_allow.subscription);
begin
  with listed as materialized (
    select i.n, i.item, i.item ->> 4 as key, row_number() over (partition by i.item ->> 4 order by i.n)::int as place
      from json_array_elements(p_claim -> 'messages') with ordinality i(item, n)
  ), rooms as materialized (
    select k.key, k.messages, r.room, posthorn.begin_and_line_up(p_allow, k.key, r, least(k.messages, r.room), greatest(k.messages - r.room, 0)) as start
      from (select l.key, max(l.place) as messages from listed l where l.key is not null group by 1) k
      cross join lateral posthorn.key_room(p_allow, k.key, false) r
  ), judged as (
    select l.n, l.item, coalesce(l.place > r.room, false) as aside, r.start + (l.place - r.room) * posthorn.line_step_ms(p_allow) * interval '1 ms' as due_at
      from listed l left join rooms r on r.key = l.key
  )
  select string_agg(j.item::text, ',' order by j.n) filter (where not j.aside), count(*) filter (where not j.aside),
      array_agg((j.item ->> 0)::bigint order by j.n) filter (where j.aside), array_agg((j.item ->> 2)::smallint order by j.n) filter (where j.aside),
      array_agg(j.due_at order by j.n) filter (where j.aside)
    into items, kept, v_aside, v_slots, v_due from judged j;
  parts := 0;
  if v_aside is null then
    return;
  end if;
  if not v_ends or kept = 0 then
    perform posthorn.settle_part_of(v_slot, v_claim, (p_claim ->> 'token')::bigint, 1, case when not v_ends then 'released'::posthorn.outcome end, kept = 0,
      case when v_ends then '{}' else v_aside end);
    parts := 1;
  end if;
  for v_i in 1 .. cardinality(v_aside) loop
    if v_ends then
      perform posthorn.end_of(v_slots[v_i], p_allow.subscription, v_aside[v_i], 1, 'released', v_claim, p_worker);
    end if;
    perform posthorn.follow(posthorn.delivery_of(p_allow.subscription, p_lane, v_aside[v_i], v_slots[v_i]), 'throttled',
      json_build_object('defer', json_build_object('delayMs', extract(epoch from v_due[v_i] - clock_timestamp()) * 1000, 'attempts', 0, 'crashes', 0)));
  end loop;
end $$;

-- candidates: how many deliveries `take` looks at: more than may begin where some of them stand in the way of others.
create or replace function posthorn.candidates(p_allow posthorn.allowance) returns int
language plpgsql immutable as $$
begin
  return case when p_allow.key_concurrency is null and p_allow.key_gap_ms is null then p_allow.permits else greatest(p_allow.permits, 100) end;
end $$;

-- wait_after(allowance, taken, wanted): in how many milliseconds it pays to look again, after `take` took so many; writes the permits down that
-- it used. Null when the limits were no obstacle.
create or replace function posthorn.wait_after(p_allow posthorn.allowance, p_taken int, p_wanted int) returns int
language plpgsql as $$
begin
  if p_allow.permits is null then
    return 1 + floor(random() * 4);
  end if;
  return posthorn.use_permits(p_allow, p_taken, p_wanted);
end $$;

-- admit(allowance, ids, contracts): of deliveries from `deferred` that are due, those that the limits of their keys let through, at most the permits. In the
-- place of one that was put aside the oldest of its key goes, so that they keep their order. Those that its key keeps back stand in line again.
create or replace function posthorn.admit(p_allow posthorn.allowance, p_ids bigint[], p_contracts int[]) returns bigint[]
language plpgsql as $$
declare
  v_key record;
  v_row record;
  v_older posthorn.deferred;
  v_begins int;
  v_waits bigint[];
  v_start timestamptz;
  v_admitted bigint[] := array(select d.id from posthorn.deferred d where d.id = any (p_ids) and d.key is null limit p_allow.permits);
begin
  if p_allow.key_concurrency is null and p_allow.key_gap_ms is null then
    return p_ids;
  end if;
  for v_key in select k.key, r as room from (select d.key, min(d.due_at) as due_at from posthorn.deferred d
        where d.id = any (p_ids) and d.key is not null group by 1) k cross join lateral posthorn.key_room(p_allow, k.key, true) r order by k.due_at loop
    v_begins := 0;
    v_waits := '{}';
    for v_row in select d.id, d.message, d.due_at, d.reason from posthorn.deferred d where d.id = any (p_ids) and d.key = v_key.key order by d.due_at, d.id loop
      continue when v_row.id = any (v_admitted);
      if v_begins >= (v_key.room).room then
        v_waits := v_waits || v_row.id;
        continue;
      end if;
      exit when cardinality(v_admitted) >= p_allow.permits;
      v_begins := v_begins + 1;
      v_older := null;
      if v_row.reason::text = 'throttled' then
        select o.* into v_older from posthorn.deferred o
          where o.subscription = p_allow.subscription and o.key = v_key.key and o.token is null and o.message < v_row.message
            and o.reason::text = 'throttled' and o.contract = any (p_contracts) and o.id <> all (v_admitted)
          order by o.message limit 1 for update skip locked;
      end if;
      if v_older.id is not null then
        update posthorn.deferred set due_at = v_older.due_at where id = v_row.id;
      end if;
      v_admitted := v_admitted || coalesce(v_older.id, v_row.id);
    end loop;
    v_start := posthorn.begin_and_line_up(p_allow, v_key.key, v_key.room, v_begins, cardinality(v_waits));
    update posthorn.deferred d set due_at = v_start + w.place * posthorn.line_step_ms(p_allow) * interval '1 ms'
      from unnest(v_waits) with ordinality w(id, place) where d.id = w.id;
  end loop;
  return v_admitted;
end $$;

-- forget_keys(limit): forgets keys that nothing limits any more. Called by the watch.
create or replace function posthorn.forget_keys(p_limit int) returns void
language plpgsql as $$
begin
  delete from posthorn.key_permit k using (select subscription, key from posthorn.key_permit
      where greatest(tat, line_end) < clock_timestamp() - interval '1 minute' order by greatest(tat, line_end) limit p_limit for update skip locked) idle
    where k.subscription = idle.subscription and k.key = idle.key;
end $$;

-- limits_now(subscription): the limits of a subscription and how they stand, as JSON { rateLimit, keyRateLimit, fleetConcurrency, keyConcurrency,
-- backlogLimit, permits, running, putAside, full }: what may begin at once by the rate, what runs, what waits for its key, whether producers are
-- refused; what is not limited is absent. Null without limits. For people and tools.
create or replace function posthorn.limits_now(p_subscription text) returns json
language plpgsql stable as $$
declare
  v_subscription posthorn.subscription;
  v_full posthorn.backlog_limit;
  v_allow posthorn.allowance;
  v_state posthorn.permit;
  v_limit posthorn.run_limit;
begin
  select * into v_subscription from posthorn.subscription s where s.name = p_subscription;
  select * into v_full from posthorn.backlog_limit b where b.subscription = v_subscription.id;
  if not coalesce(v_subscription.limited, false) and v_full.channel is null then
    return null;
  end if;
  select * into v_limit from posthorn.run_limit where subscription = v_subscription.id;
  select * into v_state from posthorn.permit where subscription = v_subscription.id order by n desc limit 1;
  v_allow.subscription := v_subscription.id;
  v_allow.open_claims := array(select c.id from posthorn.open_claims() c where c.subscription = v_subscription.id);
  return json_strip_nulls(json_build_object('rateLimit', v_subscription.policy -> 'rateLimit', 'keyRateLimit', v_subscription.policy -> 'keyRateLimit',
    'fleetConcurrency', v_limit.fleet_concurrency, 'keyConcurrency', v_limit.key_concurrency,
    'backlogLimit', case when v_full.channel is not null then v_subscription.policy -> 'backlogLimit' end,
    'permits', case when v_limit.rate_ms is not null then posthorn.room_at(
      posthorn.tat_from(v_state.tat, clock_timestamp(), v_limit.rate_ms / v_limit.rate_messages, v_limit.rate_burst),
      clock_timestamp(), v_limit.rate_ms / v_limit.rate_messages, v_limit.rate_burst) end,
    'running', case when v_limit.fleet_concurrency is not null then (select count(*) from posthorn.open_runs(v_allow, false)) end,
    'putAside', case when coalesce(v_limit.key_rate_ms, v_limit.key_concurrency) is not null then (
      select count(*) from (select from posthorn.deferred d where d.subscription = v_subscription.id and d.token is null
        and d.reason::text = 'throttled' limit 100001) d) end,
    -- What is known may be old: it is counted anew when somebody asks for room, and then looks so.
    'full', case when v_full.channel is not null then (posthorn.backlog_known(v_full.channel)).backlog >= v_full.messages
      and posthorn.waiting_for(v_full, least(v_full.messages, 2000000000)::int) >= v_full.messages end));
end $$;
