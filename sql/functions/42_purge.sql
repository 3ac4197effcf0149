-- Purging: ends what waits and has not begun. From the log it is taken as a worker takes it, by a claim that is closed in its own transaction, so no message
-- is both run and purged, and the lane goes on behind it. What waits in `deferred` is removed under its row's lock.

-- purge(name, by, reason, confirm, states): begins it; `confirm` repeats the name. `states` names what is to end, of queued, scheduled, retrying, parked.
-- Takes what is there now: what is said later is left; of a transaction that is just committing either can happen. A message that runs is left alone; one
-- that fails meanwhile and waits to be tried again is taken if the purge comes to it. Returns the operation; see proceed and run. Raises PH060, PH061, PH015.
create or replace function posthorn.purge(
  name text, by text default null, reason text default null, confirm text default null, states text[] default '{queued,scheduled,retrying,parked}'
) returns json
language plpgsql as $$
declare
  v_row posthorn.subscription := posthorn.reader($1);
  v_upto bigint := coalesce(pg_sequence_last_value('posthorn.message_id'), 0);
  v_seen pg_snapshot;
begin
  if states = '{}' or not states <@ '{queued,scheduled,retrying,parked}' then
    raise exception 'what is purged is of the states queued, scheduled, retrying, parked, got %', array_to_string(states, ', ') using errcode = 'PH015';
  end if;
  perform posthorn.confirmed(confirm, v_row.name, format('the purge of "%s"', v_row.name));
  select pg_current_snapshot() into v_seen;
  return posthorn.begin_operation('purge', v_row.name, json_build_object('states', states), coalesce($2, current_user::text), coalesce($3, 'purged'),
    posthorn.purgeable(v_row.name, states), json_build_object('upto', v_upto::text, 'seen', v_seen::text, 'subscription', v_row.id,
      'lanes', case when 'queued' = any (states) then array(select l.lane from posthorn.lane l where l.subscription = v_row.id order by l.lane) else '{}' end));
end $$;

-- purgeable(name, states): how many messages a purge would end now, counted up to some millions.
create or replace function posthorn.purgeable(p_name text, p_states text[]) returns bigint
language plpgsql as $$
declare
  v_waits json := posthorn.unsettled(p_name);
begin
  return (select coalesce(sum((v_waits ->> case s.state when 'queued' then 'waiting' else s.state end)::bigint), 0) from unnest(p_states) s(state));
end $$;

create or replace function posthorn.purge_piece(p_row posthorn.operation, p_limit int, out done bigint, out more boolean, out busy boolean, out place json)
language plpgsql as $$
declare
  v_reader posthorn.subscription;
  v_lanes int[] := array(select l::int from json_array_elements_text(p_row.place -> 'lanes') l);
  v_log record;
begin
  select * into v_reader from posthorn.subscription s where s.id = (p_row.place ->> 'subscription')::int for key share;
  place := p_row.place;
  busy := false;
  done := 0;
  if v_reader.id is null then
    more := false;
    return;
  elsif v_lanes <> '{}' then
    v_log := posthorn.purge_lane(p_row, v_reader, v_lanes[1], p_limit);
    done := v_log.done;
    busy := v_log.busy;
    more := true;
    if not v_log.more then
      place := (p_row.place::jsonb || jsonb_build_object('lanes', v_lanes[2 :]))::json;
    end if;
    return;
  end if;
  done := posthorn.purge_waiting(p_row, v_reader, p_limit);
  more := done = p_limit;
  if not more then
    -- Producers that were refused are let in.
    perform posthorn.count_backlog(b) from posthorn.backlog_limit b where b.subscription = v_reader.id;
  end if;
end $$;

-- purge_lane: claims messages of a lane and ends them. Those that were not there when the purge began are handed back.
create or replace function posthorn.purge_lane(
  p_row posthorn.operation, p_reader posthorn.subscription, p_lane int, p_limit int, out done bigint, out more boolean, out busy boolean
) language plpgsql as $$
declare
  v_left record;
  v_worker bigint;
  v_claimed text;
begin
  done := 0;
  busy := false;
  -- Claims only try this lock, so nobody waits behind us but other operators.
  perform pg_advisory_xact_lock(posthorn.lock_key('lane', p_reader.id, p_lane));
  -- A later statement: it sees where the holder before us left the lane.
  select * into v_left from posthorn.left_in_lane(p_row, p_reader, p_lane, p_limit);
  more := v_left.messages > 0 or v_left.late;
  if not more then
    return;
  end if;
  -- A worker that nobody but this transaction ever sees.
  insert into posthorn.worker (service, host, pid, timeout_ms, oldest_open_claim) values ('purge', '', 0, 3600000, 0) returning id into v_worker;
  v_claimed := left(posthorn.claim(p_reader.id, p_lane, v_worker, case when v_left.late then p_limit else v_left.messages::int end), 300);
  delete from posthorn.worker w where w.id = v_worker;
  if posthorn.is_claim(v_claimed) then
    done := posthorn.discard_claim(p_row, p_reader, posthorn.claim_of(substring(v_claimed from '"slot":(\d+)')::smallint, substring(v_claimed from '"claim":"(\d+)"')::bigint),
      substring(v_claimed from '"slot":(\d+)')::smallint);
  else
    -- Where order is kept the next message may wait for one that runs.
    busy := v_claimed in ('{"blocked":true}', '{"missed":true}');
  end if;
end $$;

-- left_in_lane: how many messages of a lane nobody has claimed of those that the purge has seen when it began, up to a limit; `late`: some of them lie below
-- the lane's position, because they were committed late.
create or replace function posthorn.left_in_lane(
  p_row posthorn.operation, p_reader posthorn.subscription, p_lane int, p_limit int, out messages bigint, out late boolean
) language plpgsql as $$
declare
  v_at posthorn.position := posthorn.position_of(p_reader.id, p_lane);
  v_ceiling posthorn.tick := posthorn.tick_of(v_at.slot, v_at.ceiling);
  v_ring posthorn.ring;
  v_seen pg_snapshot := (p_row.place ->> 'seen')::pg_snapshot;
  v_after bigint;
begin
  select * into v_ring from posthorn.ring;
  v_after := case when v_at.late then (posthorn.tick_of(v_at.slot, v_at.floor)).ceiling_id else v_at.last_id end;
  select least(coalesce(sum(posthorn.count_seen_of(s.slot, p_reader.channel, p_lane, v_after, (p_row.place ->> 'upto')::bigint, v_seen, p_limit)), 0), p_limit)
    into messages from unnest(v_ring.slots) s(slot);
  late := v_at.late or posthorn.late_xids(v_ring.slots, p_reader.channel, p_lane, v_ceiling.snapshot, v_ceiling.ceiling_id, v_ring.first_id, v_seen) is not null;
end $$;

-- Plan: message_N_by_id from an id on.
select posthorn.by_slot(
  'count_seen_of(p_slot smallint, p_channel int, p_lane int, p_after bigint, p_upto bigint, p_snapshot pg_snapshot, p_limit int)', 'bigint', $body$
  return (select count(*) from (select from posthorn.message_{slot} m where m.channel = p_channel and m.lane = p_lane and m.id > p_after and m.id <= p_upto
    and pg_visible_in_snapshot(m.xid, p_snapshot) limit p_limit) m);
$body$);

-- discard_claim: ends the messages of a claim that was just made, and closes it. Returns how many it discarded.
create or replace function posthorn.discard_claim(p_row posthorn.operation, p_reader posthorn.subscription, p_claim posthorn.claim_1, p_slot smallint) returns bigint
language plpgsql as $$
declare
  v_ends boolean := p_reader.idempotency = 'transaction';
  v_part int;
  v_aside bigint[];
  v_gone bigint[];
  v_back bigint[];
  v_message record;
begin
  select coalesce(max(t.part), 0) + 1, coalesce(array_agg(m.id) filter (where m.id is not null), '{}') into v_part, v_aside
    from posthorn.parts_of(p_slot, p_claim.id) t left join lateral unnest(t.messages) m(id) on true;
  select coalesce(array_agg(g.id), '{}') into v_gone from (
    select distinct coalesce(m.slot, p_slot) as slot from unnest(p_claim.messages, p_claim.message_slots) m(id, slot)) s
    cross join lateral posthorn.discard_seen_of(s.slot, p_reader.id, p_reader.channel, p_claim.lane,
      array(select m.id from unnest(p_claim.messages, p_claim.message_slots) m(id, slot) where coalesce(m.slot, p_slot) = s.slot and m.id <> all (v_aside)),
      (p_row.place ->> 'seen')::pg_snapshot, p_row.ordered_by, p_row.reason) g(id);
  v_back := array(select m.id from unnest(p_claim.messages) m(id) where m.id <> all (v_gone) and m.id <> all (v_aside));
  if not v_ends and v_gone <> '{}' then
    perform posthorn.settle_part_of(p_slot, p_claim.id, p_claim.token, v_part, 'discarded', v_back = '{}', v_gone);
    v_part := v_part + 1;
  end if;
  if v_ends or v_back <> '{}' then
    perform posthorn.settle_part_of(p_slot, p_claim.id, p_claim.token, v_part, case when not v_ends then 'released'::posthorn.outcome end, true,
      case when v_ends then '{}' else v_back end);
  end if;
  for v_message in select m.id, coalesce(m.slot, p_slot) as slot, m.id = any (v_back) as back from unnest(p_claim.messages, p_claim.message_slots) m(id, slot)
      where m.id <> all (v_aside) loop
    if v_ends then
      perform posthorn.end_of(v_message.slot, p_reader.id, v_message.id, 1, case when v_message.back then 'released' else 'discarded' end::posthorn.outcome,
        p_claim.id, p_claim.worker);
    end if;
    if v_message.back then
      perform posthorn.follow(posthorn.delivery_of(p_reader.id, p_claim.lane, v_message.id, v_message.slot), 'released',
        '{"defer":{"delayMs":0,"attempts":0,"crashes":0}}');
      -- Tells it from what waited when the purge began.
      update posthorn.deferred d set since = clock_timestamp() where d.subscription = p_reader.id and d.message = v_message.id;
    end if;
  end loop;
  return cardinality(v_gone);
end $$;

-- discard_seen_of: writes down that messages were discarded, of those that a snapshot sees. Returns their ids.
select posthorn.by_slot(
  'discard_seen_of(p_slot smallint, p_subscription int, p_channel int, p_lane int, p_ids bigint[], p_seen pg_snapshot, p_by text, p_reason text)', 'setof bigint', $body$
  return query insert into posthorn.discarded (subscription, message, nonce, contract, discarded_at, keep_until, discarded_by, reason, list, delivery, attempts,
      published_at, history, key)
    select p_subscription, m.id, m.nonce, m.contract, clock_timestamp(), clock_timestamp()
        + coalesce((s.policy #>> '{deadLetter,keepMs}')::float8, 2592000000) * interval '1 ms', p_by, p_reason, 'waiting', 1, 0, m.published_at, '[]', m.key
      from posthorn.subscription s cross join unnest(p_ids) i(id)
        cross join lateral (select * from posthorn.message_{slot} m where m.channel = p_channel and m.lane = p_lane and m.id = i.id
          and pg_visible_in_snapshot(m.xid, p_seen) offset 0) m
      where s.id = p_subscription
    on conflict on constraint discarded_pkey do update set reason = excluded.reason returning message;
$body$);

-- purge_waiting: ends deliveries that wait outside of the log. What waits behind others goes first, so that nothing is let go that goes next.
create or replace function posthorn.purge_waiting(p_row posthorn.operation, p_reader posthorn.subscription, p_limit int) returns bigint
language plpgsql as $$
declare
  v_states text[] := array(select s from json_array_elements_text(p_row.arguments -> 'states') s);
  v_waiting posthorn.deferred;
  v_keys text[] := '{}';
  v_done bigint := 0;
begin
  for v_waiting in with picked as (
      select d.id from posthorn.deferred d where d.subscription = p_reader.id and d.token is null and d.message <= (p_row.place ->> 'upto')::bigint
        and (d.since is null or d.since <= p_row.begun_at)
        and posthorn.waiting_state(d.token, d.place, d.due_at, d.reason) = any (v_states)
        order by d.priority desc, d.due_at desc limit p_limit for update skip locked)
    delete from posthorn.deferred d using picked p where d.id = p.id returning d.* loop
    perform posthorn.write_discarded(v_waiting, 'waiting', p_row.ordered_by, p_row.reason);
    delete from posthorn.cancel_request c where c.subscription = v_waiting.subscription and c.message = v_waiting.message and c.nonce = v_waiting.nonce;
    if v_waiting.once_more then
      perform posthorn.let_go(v_waiting.id);
    end if;
    if v_waiting.place is not null then
      v_keys := v_keys || v_waiting.key;
    end if;
    v_done := v_done + 1;
  end loop;
  -- In one order for everybody, as promote does it.
  perform posthorn.promote_key(p_reader.id, k.key) from (select distinct u.key from unnest(v_keys) u(key) order by u.key) k;
  return v_done;
end $$;
