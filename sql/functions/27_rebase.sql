-- Rebase: makes a copy of a log at home where it lies now. Transaction ids of before mean nothing here, so nothing is read by them again: everything that
-- waits in the log is in the first window of its lane, whose snapshot sees all, and what was committed late below it is put aside. Ids from here
-- on are an epoch of their own, and only in it is anything looked for by transaction id.

-- log_ids(): the columns that hold values of a sequence of ours, by their names; what a table draws itself is known to the catalog.
create or replace function posthorn.log_ids() returns table (sequence regclass, relation regclass, col name)
language sql stable as $$
  with named(col, sequence) as (values
    ('message', 'message_id'), ('last_message', 'message_id'), ('ceiling_id', 'message_id'), ('last_id', 'message_id'), ('first_id', 'message_id'),
    ('forgotten_upto', 'message_id'), ('sealed_id', 'message_id'), ('claim', 'claim_id'), ('oldest_open_claim', 'claim_id'), ('floor', 'tick_id'),
    ('ceiling', 'tick_id'), ('place', 'place'), ('behind', 'deferred_id'), ('revision', 'schedule_revision'), ('worker', 'worker_id_seq'))
  select format('posthorn.%I', coalesce(own.sequence, n.sequence))::regclass, c.oid::regclass, a.attname
    from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.atttypid in ('bigint'::regtype, 'int'::regtype)
      left join named n on n.col = a.attname
      cross join lateral (select case
        when a.attname = 'id' and c.relname ~ '^(message|claim|tick)_[1-8]$' then split_part(c.relname, '_', 1) || '_id'
        when a.attidentity <> '' then (select s.relname::text from pg_depend d join pg_class s on s.oid = d.objid
          where d.classid = 'pg_class'::regclass and d.refobjid = c.oid and d.refobjsubid = a.attnum and s.relkind = 'S')
        when c.relname = 'deferred' and a.attname = 'id' then 'deferred_id' end) own(sequence)
    where c.relnamespace = 'posthorn'::regnamespace and c.relkind = 'r' and coalesce(own.sequence, n.sequence) is not null
$$;

-- sequence_floors(): each sequence with the highest value that is in use anywhere. A dump without sequences would give ids again.
create or replace function posthorn.sequence_floors() returns table (sequence regclass, at_least bigint)
language plpgsql as $$
declare
  v_one record;
begin
  for v_one in select i.sequence as name, string_agg(format('(select max(%I)::bigint from %s)', i.col, i.relation), ', ') as highest
      from posthorn.log_ids() i group by 1 order by 1 loop
    sequence := v_one.name;
    execute format('select greatest(%s, 0)', v_one.highest) into at_least;
    return next;
  end loop;
end $$;

-- raise_sequences(): no sequence gives anything that is in use. Not undone by a rollback; higher is never wrong.
create or replace function posthorn.raise_sequences() returns void
language plpgsql as $$
begin
  perform setval(f.sequence, f.at_least) from posthorn.sequence_floors() f where f.at_least > coalesce(pg_sequence_last_value(f.sequence), 0);
end $$;

-- missed_of: messages of a lane below its position that it has not delivered: committed late, or left of the late part of its window.
-- Plan: message_N_by_xid from the oldest transaction on that the floor did not see, then message_N_by_id for each list.
select posthorn.by_slot(
  'missed_of(p_slot smallint, p_channel int, p_lane int, p_from bigint, p_upto bigint, p_floor pg_snapshot, p_ceiling pg_snapshot, p_after bigint)',
  'bigint[]', $body$
  -- No floor: the late part of the window was read to its end.
  return (select array_agg(m.id order by m.id) from posthorn.message_{slot} f
    cross join lateral (select * from posthorn.message_{slot} m where m.channel = p_channel and m.lane = p_lane
      and m.id >= greatest(p_from, f.id) and m.id <= least(p_upto, f.id + f.reach) and m.xid = f.xid) m
    where ((f.channel::bigint << 32) | f.lane) = ((p_channel::bigint << 32) | p_lane) and f.reach is not null
      and f.xid >= pg_snapshot_xmin(coalesce(p_floor, p_ceiling)) and f.id <= p_upto
      and (not pg_visible_in_snapshot(m.xid, p_ceiling) or (m.id > p_after and not pg_visible_in_snapshot(m.xid, p_floor))));
$body$);

-- lane_missed(subscription, lane): where the first window of a lane begins, and what of the messages below it was missed: ids and slots, by id. Without
-- what was cancelled.
create or replace function posthorn.lane_missed(p_subscription int, p_lane int, out last_id bigint, out n bigint, out ids bigint[], out slots smallint[])
language plpgsql as $$
declare
  v_at posthorn.position := posthorn.position_of(p_subscription, p_lane);
  v_ceiling posthorn.tick := posthorn.tick_of(v_at.slot, v_at.ceiling);
  v_floor posthorn.tick;
  v_ring posthorn.ring;
  v_channel int := (select s.channel from posthorn.subscription s where s.id = p_subscription);
begin
  select * into v_ring from posthorn.ring;
  if v_at.late then
    v_floor := posthorn.tick_of(v_at.slot, v_at.floor);
  end if;
  if v_ceiling.id is null or v_at.late and v_floor.id is null then
    raise exception 'the ticks of subscription %, lane % are gone', p_subscription, p_lane using errcode = 'PH004';
  end if;
  n := v_at.n;
  last_id := case when v_at.late then v_floor.ceiling_id else v_at.last_id end;
  select array_agg(m.id order by m.id), array_agg(s.slot order by m.id) into ids, slots
    from unnest(v_ring.slots) s(slot) cross join lateral unnest(
      posthorn.missed_of(s.slot, v_channel, p_lane, v_ring.first_id, last_id, v_floor.snapshot, v_ceiling.snapshot, v_at.last_id)) m(id)
    where not exists (select from posthorn.cancel_mark k where k.subscription = p_subscription and k.message = m.id);
end $$;

-- put_off(subscription, lane, id, slot): a message that was missed, as a first delivery outside of the log, due at once. Where order is kept it comes
-- behind what waits of its key. What comes after it in the log has a higher id, and of transactions that conflict the later one has.
create or replace function posthorn.put_off(p_subscription int, p_lane int, p_message bigint, p_slot smallint) returns void
language plpgsql as $$
declare
  v_row posthorn.deferred := posthorn.delivery_of(p_subscription, p_lane, p_message, p_slot);
begin
  v_row.due_at := least(clock_timestamp(), v_row.expires_at);
  if v_row.key is not null and exists (select from posthorn.subscription s where s.id = p_subscription and s.ordering is not null) then
    v_row := posthorn.turn_of(v_row);
  end if;
  insert into posthorn.deferred (subscription, due_at, delivery, attempts, crashes, reason, message, nonce, channel, lane, contract, key, payload, headers,
      published_at, history, place, expires_at, priority)
    values (v_row.subscription, v_row.due_at, v_row.delivery, 0, 0, 'released', v_row.message, v_row.nonce, v_row.channel, v_row.lane, v_row.contract,
      v_row.key, v_row.payload, v_row.headers, v_row.published_at, v_row.history, v_row.place, v_row.expires_at, coalesce(v_row.priority, 0));
end $$;

-- begin_lane: the first position of a lane in the new epoch: an empty claim that is closed, whose window ends at the tick.
select posthorn.by_slot('begin_lane(p_slot smallint, p_subscription int, p_lane int, p_n bigint, p_tick bigint, p_last_id bigint)', 'void', $body$
  declare
    v_claim bigint := nextval('posthorn.claim_id');
    v_token bigint := posthorn.random_bigint();
  begin
    insert into posthorn.claim_{slot} (id, n, token, worker, floor, ceiling, last_id, at, subscription, lane, late, took_late, late_xids, messages, keys, open_from)
      values (v_claim, p_n, v_token, 0, p_tick, p_tick, p_last_id, clock_timestamp(), p_subscription, p_lane, false, false, null, '{}', '{}', p_n);
    perform posthorn.settle_part_of({slot}::smallint, v_claim, v_token, 1, null, true, '{}');
  end;
$body$);

-- rebase_lanes(base): begins every lane anew, with what it missed put aside. Returns how many messages that were.
create or replace function posthorn.rebase_lanes(p_base bigint) returns bigint
language plpgsql as $$
declare
  v_tick bigint := nextval('posthorn.tick_id');
  v_slots smallint[] := '{}';
  v_lane record;
  v_missed record;
  v_count bigint := 0;
begin
  for v_lane in select l.subscription, l.lane, l.slot from posthorn.lane l order by l.subscription, l.lane loop
    v_missed := posthorn.lane_missed(v_lane.subscription, v_lane.lane);
    perform posthorn.put_off(v_lane.subscription, v_lane.lane, m.id, m.slot) from unnest(v_missed.ids, v_missed.slots) m(id, slot);
    v_count := v_count + coalesce(cardinality(v_missed.ids), 0);
    if v_lane.slot <> all (v_slots) then
      perform posthorn.write_tick(v_lane.slot, v_tick, p_base, '9223372036854775807:9223372036854775807:');
      v_slots := v_slots || v_lane.slot;
    end if;
    perform posthorn.begin_lane(v_lane.slot, v_lane.subscription, v_lane.lane, v_missed.n + 1, v_tick, v_missed.last_id);
    -- What is cancelled and below is not come to any more.
    delete from posthorn.cancel_mark k where k.subscription = v_lane.subscription and k.message <= v_missed.last_id
      and v_lane.lane = (select w.lane from posthorn.cancelled c cross join lateral posthorn.where_in_log(c.message, c.nonce) w
        where c.subscription = k.subscription and c.message = k.message);
  end loop;
  return v_count;
end $$;

-- rebase_plan(): what rebase would find, as JSON; { needed: false } at home. Changes nothing.
create or replace function posthorn.rebase_plan() returns json
language plpgsql as $$
declare
  v_why record := posthorn.why_away();
  v_missed bigint := 0;
  v_waiting bigint := 0;
  v_lane record;
begin
  if v_why.reason is null then
    return '{"needed":false}';
  end if;
  for v_lane in select l.subscription, l.lane from posthorn.lane l loop
    v_missed := v_missed + coalesce(cardinality((posthorn.lane_missed(v_lane.subscription, v_lane.lane)).ids), 0);
  end loop;
  select coalesce(sum((posthorn.waiting_in_log(s.id, 2147483647)).messages), 0) into v_waiting from posthorn.subscription s;
  return json_build_object('needed', true, 'reason', v_why.reason, 'says', v_why.says, 'hint', v_why.hint,
    'workers', (select count(*) from posthorn.worker),
    'held', (select coalesce(sum(cardinality(c.messages)), 0) from posthorn.open_claims() c) + (select count(*) from posthorn.deferred d where d.token is not null),
    'missed', v_missed, 'waiting', v_waiting, 'deferred', (select count(*) from posthorn.deferred));
end $$;

-- rebase(): makes this database the home of its log, in the transaction that it is called in: all of it or nothing. Returns the plan that it carried
-- out, with { epoch, firstId }. Waits for whoever reads the ring; nobody writes to the log before, because it is not at home.
-- What the workers of before held is rescued, as after their death. Raises PH004 (position lost).
create or replace function posthorn.rebase() returns json
language plpgsql as $$
declare
  v_plan json;
  v_worker posthorn.worker;
  v_base bigint;
  v_epoch int;
  v_missed bigint;
  v_key record;
begin
  perform posthorn.plain_plans(), set_config('lock_timeout', '10s', true);
  lock table posthorn.ring in access exclusive mode;
  v_plan := posthorn.rebase_plan();
  if not (v_plan ->> 'needed')::boolean then
    return v_plan;
  end if;
  perform posthorn.raise_sequences();
  for v_worker in select * from posthorn.worker order by id loop
    perform posthorn.rescue_worker(v_worker, 2147483647);
  end loop;
  v_base := coalesce(pg_sequence_last_value('posthorn.message_id'), 0);
  v_missed := posthorn.rebase_lanes(v_base);
  perform posthorn.rebase_segments(), posthorn.make_backlogs();
  select coalesce(max(e.n), 0) + 1 into v_epoch from posthorn.epoch e;
  insert into posthorn.epoch (n, system_identifier, database, first_id)
    select v_epoch, c.system_identifier, d.oid, v_base + 1 from pg_control_system() c, pg_database d where d.datname = current_database();
  update posthorn.ring r set system_identifier = e.system_identifier, database = e.database, first_id = e.first_id from posthorn.epoch e where e.n = v_epoch;
  update posthorn.move set finished_at = clock_timestamp() where side = 'target' and finished_at is null;
  for v_key in select p.subscription, p.key from posthorn.parked_key p order by p.subscription, p.key loop
    perform posthorn.promote_key(v_key.subscription, v_key.key);
  end loop;
  return (v_plan::jsonb || jsonb_build_object('missed', v_missed, 'epoch', v_epoch, 'firstId', (v_base + 1)::text))::json;
end $$;

-- make_backlogs(): the counts of full queues, where a copy came without them.
create or replace function posthorn.make_backlogs() returns void
language plpgsql as $$
declare
  v_channel int;
begin
  for v_channel in select l.channel from posthorn.backlog_limit l where to_regclass(format('posthorn.backlog_%s', l.channel)) is null loop
    execute format('create sequence posthorn.backlog_%s minvalue 0 start 0', v_channel);
  end loop;
end $$;
