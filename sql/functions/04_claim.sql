-- claim(subscription, lane, worker, limit): takes the next messages of a lane for a worker. Returns the text of a JSON document:
--   { missed } when another session is claiming this lane just now, { } when there is nothing; where order is kept { blocked } when the next
--   message must wait for one that runs, { again } when all that was taken waits behind parked keys; else
--   { claim, token, slot, parts?, messages: [[id, nonce, slot, contract, key, payload, headers, published_at in ms]] }; `parts` of it are written.
-- Windows between ticks: a position names a floor tick, a ceiling tick and a place between them. First come the messages that
-- were committed late (at or below the floor's id, unseen by the floor, seen by the ceiling), then those above the floor's id.
-- Every committed message is in exactly one window, because ceilings never go down, snapshots only grow, and pages are read after
-- the snapshot was taken. Must run in a transaction that publishes nothing: its own rows would count as seen; `work` has begun it.
-- Raises PH004 (position lost), PH007 (the worker counts as dead).
create or replace function posthorn.claim(p_subscription int, p_lane int, p_worker bigint, p_limit int) returns text
language plpgsql as $$
declare
  v_channel int;
  v_ordering text;
  v_turn posthorn.turn;
  v_before posthorn.position;
  v_ring posthorn.ring;
  v_at posthorn.position;
  v_floor posthorn.tick;
  v_ceiling posthorn.tick;
  v_opened boolean := false;
  v_marked boolean;
  v_left_out boolean := false;
  v_took_late boolean;
  v_batch posthorn.batch;
  v_taken int := 0;
  v_claim bigint;
  v_token bigint := (random() * 9e18)::bigint;
begin
  select s.channel, s.ordering into v_channel, v_ordering from posthorn.subscription s where s.id = p_subscription;
  perform posthorn.hold_worker(p_worker);
  if not pg_try_advisory_xact_lock(posthorn.lock_key('lane', p_subscription, p_lane)) then
    return '{"missed":true}';
  end if;
  -- From here each statement sees what the previous holder of the lock committed. The ring is read only now: the previous holder may
  -- have opened a window that holds messages of a slot which was not there before.
  select * into v_ring from posthorn.ring;
  v_marked := exists (select from posthorn.cancel_mark k where k.subscription = p_subscription);
  v_at := posthorn.position_of(p_subscription, p_lane);
  v_ceiling := posthorn.tick_of(v_at.slot, v_at.ceiling);
  v_floor := posthorn.tick_of(v_at.slot, v_at.floor);
  if v_ceiling.id is null or v_floor.id is null then
    raise exception 'the ticks of subscription %, lane % are gone', p_subscription, p_lane using errcode = 'PH004';
  end if;

  loop
    v_took_late := v_at.late;
    v_before := v_at;
    if v_at.late then
      v_batch := posthorn.late_page(v_ring.slots, v_channel, p_lane, v_at.late_xids, v_at.last_id, v_floor.ceiling_id, p_limit);
      v_taken := coalesce(cardinality(v_batch.ids), 0);
      if v_taken < p_limit then
        v_at.late := false;
        v_at.late_xids := null;
        v_at.last_id := v_floor.ceiling_id;
      else
        v_at.last_id := v_batch.ids[p_limit];
      end if;
    elsif v_at.last_id < v_ceiling.ceiling_id then
      v_batch := posthorn.page(v_ring.slots, v_channel, p_lane, v_at.last_id, v_ceiling.ceiling_id, v_ceiling.snapshot, p_limit);
      v_taken := coalesce(cardinality(v_batch.ids), 0);
      v_at.last_id := case when v_taken < p_limit then v_ceiling.ceiling_id else v_batch.ids[p_limit] end;
    elsif v_opened then
      -- Where all that was found had been cancelled, the position moves on all the same.
      exit when v_left_out;
      return '{}';
    else
      -- The window is done. Its ceiling is the floor of the next, whose id is read before its snapshot is taken, in an earlier
      -- statement: a message above the id may be seen and waits for the window after, one below it is late if it is unseen.
      -- The slots are those that the same snapshot sees: it sees no message whose slot it does not know.
      v_floor := v_ceiling;
      v_ceiling.ceiling_id := greatest(v_floor.ceiling_id, coalesce(pg_sequence_last_value('posthorn.message_id'), 0));
      select pg_current_snapshot(), r.slots into v_ceiling.snapshot, v_ring.slots from posthorn.ring r;
      v_opened := true;
      v_at.late_xids := posthorn.late_xids(v_ring.slots, v_channel, p_lane, v_floor.snapshot, v_floor.ceiling_id,
        v_ring.first_id, v_ceiling.snapshot);
      v_at.late := v_at.late_xids is not null;
      v_at.last_id := case when v_at.late then v_ring.first_id - 1 else v_floor.ceiling_id end;
    end if;
    if v_marked and v_taken > 0 and v_ordering is null then
      v_batch := posthorn.without_marked(p_subscription, v_batch);
      v_left_out := v_left_out or cardinality(v_batch.ids) < v_taken;
      v_taken := cardinality(v_batch.ids);
    end if;
    exit when v_taken > 0;
  end loop;

  if v_ordering is not null then
    v_turn := posthorn.in_order(v_ring.slots, p_subscription, v_channel, p_lane, v_batch, v_marked);
    if v_turn.taken = 0 then
      return '{"blocked":true}';
    elsif v_turn.taken < v_taken then
      v_at := v_before;
      v_at.last_id := v_batch.ids[v_turn.taken];
    end if;
  end if;
  if v_opened then
    v_ceiling.id := nextval('posthorn.tick_id');
    perform posthorn.write_tick(v_at.slot, v_ceiling.id, v_ceiling.ceiling_id, v_ceiling.snapshot);
  end if;
  v_claim := nextval('posthorn.claim_id');
  v_at.n := v_at.n + 1;
  v_at.floor := v_floor.id;
  v_at.ceiling := v_ceiling.id;
  if v_batch.slots is null and v_ring.slots[1] <> v_at.slot then
    v_batch.slots := array_fill(v_ring.slots[1], array[v_taken]);
    v_turn.message_slots := v_batch.slots[1 : cardinality(v_turn.messages)];
  end if;
  if v_ordering is not null then
    perform posthorn.write_turn(v_claim, v_token, p_worker, p_subscription, v_channel, p_lane, v_at, v_took_late, v_ring, v_turn);
    return case when v_turn.ids is null then '{"again":true}' else concat('{"claim":"', v_claim, '","token":"', v_token, '","slot":', v_at.slot,
      ',"parts":', case when v_turn.parked is null then 0 else 1 end, ',"messages":[', v_turn.items, ']}') end;
  end if;
  perform posthorn.write_claim(v_at.slot, v_claim, v_token, p_worker, p_subscription, p_lane, v_at, v_took_late, coalesce(v_batch.ids, '{}'), v_batch.slots);
  if v_taken = 0 then
    perform posthorn.settle_part_of(v_at.slot, v_claim, v_token, 1, null, true, '{}');
    return '{}';
  end if;
  return concat('{"claim":"', v_claim, '","token":"', v_token, '","slot":', v_at.slot, ',"messages":[', v_batch.items, ']}');
end $$;

-- hold_worker(worker): until the end of this transaction nobody rescues what this worker holds, so that a claim is never written
-- for a worker that is forgotten in the same moment. Raises PH007 when it counts as dead already.
create or replace function posthorn.hold_worker(p_worker bigint) returns void
language plpgsql as $$
declare
  v_held boolean := pg_try_advisory_xact_lock_shared(posthorn.lock_key('worker', p_worker));
begin
  -- A later statement than the lock: with one snapshot for both, the row of a worker that was just forgotten could still be seen.
  if not v_held or not exists (select from posthorn.worker w where w.id = p_worker) then
    raise exception 'worker % counts as dead; its messages were rescued', p_worker using errcode = 'PH007';
  end if;
end $$;

-- position_of(subscription, lane): where a lane stands: its newest claim, else its base row. Raises PH004 when there is neither.
create or replace function posthorn.position_of(p_subscription int, p_lane int) returns posthorn.position
language plpgsql as $$
declare
  v_base posthorn.lane;
  v_at posthorn.position;
begin
  select * into v_base from posthorn.lane l where l.subscription = p_subscription and l.lane = p_lane;
  if v_base.subscription is null then
    raise exception 'subscription % has no position for lane %', p_subscription, p_lane using errcode = 'PH004';
  end if;
  v_at := posthorn.newest_claim_of(v_base.slot, p_subscription, p_lane);
  if v_at.n is null then
    return row(v_base.slot, v_base.n, v_base.floor, v_base.ceiling, v_base.last_id, v_base.late, v_base.late_xids)::posthorn.position;
  end if;
  return v_at;
end $$;

select posthorn.by_slot('write_tick(p_slot smallint, p_id bigint, p_ceiling_id bigint, p_snapshot pg_snapshot)', 'void', $body$
  insert into posthorn.tick_{slot} (id, ceiling_id, snapshot, at) values (p_id, p_ceiling_id, p_snapshot, clock_timestamp());
$body$);

select posthorn.by_slot(
  'write_claim(p_slot smallint, p_claim bigint, p_token bigint, p_worker bigint, p_subscription int, p_lane int, p_at posthorn.position, p_took_late boolean, p_messages bigint[], p_message_slots smallint[])',
  'void', $body$
  insert into posthorn.claim_{slot} (id, n, token, worker, floor, ceiling, last_id, at, subscription, lane, late, took_late, late_xids, messages, message_slots)
    values (p_claim, p_at.n, p_token, p_worker, p_at.floor, p_at.ceiling, p_at.last_id, clock_timestamp(), p_subscription, p_lane, p_at.late,
      p_took_late, p_at.late_xids, p_messages, p_message_slots);
$body$);
