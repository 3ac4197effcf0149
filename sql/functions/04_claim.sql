-- claim(subscription, lane, worker, limit): takes the next messages of a lane for a worker. Returns the text of a JSON document:
--   { missed } when another session is claiming this lane just now, { } when there is nothing; where order is kept { blocked } when the next
--   message must wait for one that runs, { again } when all that was taken waits behind parked keys; else
--   { claim, token, slot, parts?, skipped?, messages: [[id, nonce, slot, contract, key, payload, headers, published_at in ms]] }; `parts` of it are
--   written; the ids of `skipped` are not of it, though they are in the list.
-- Windows between ticks: a position names a floor tick, a ceiling tick and a place between them. First come the messages that
-- were committed late (at or below the floor's id, unseen by the floor, seen by the ceiling), then those above the floor's id.
-- Every committed message is in exactly one window, because ceilings never go down, snapshots only grow, and pages are read after
-- the snapshot was taken. Must run in a transaction that publishes nothing: its own rows would count as seen; `work` has begun it.
-- Raises PH004 (position lost), PH007 (the worker counts as dead).
-- One function for each slot, with few and plain statements: a claim for one message costs as much as one for a hundred, and it is what a message waits for.
select posthorn.by_found_slot('claim(p_subscription int, p_lane int, p_worker bigint, p_limit int)', 'text', $declarations$
  v_held boolean;
  v_free boolean;
  v_alive boolean;
  v_marked boolean;
  v_channel int;
  v_ordering text;
  v_slots smallint[];
  v_read_from bigint;
  v_first_id bigint;
  -- Where the lane stands.
  v_n bigint;
  v_floor bigint;
  v_ceiling bigint;
  v_last_id bigint;
  v_late boolean;
  v_late_xids xid8[];
  -- What its ticks say: up to which id they go, and what they have seen.
  v_floor_upto bigint;
  v_floor_seen pg_snapshot;
  v_upto bigint;
  v_seen pg_snapshot;
  v_opened boolean := false;
  v_left_out boolean := false;
  v_is_late boolean;
  v_took_late boolean := false;
  -- What the late part gave, where the main part of its window is read as well.
  v_late_ids bigint[] := '{}';
  v_late_items text;
  v_late_slots smallint[];
  v_room int;
  v_ids bigint[];
  v_items text;
  v_message_slots smallint[];
  v_keys text[];
  v_batch posthorn.batch;
  v_taken int;
  v_before posthorn.position;
  v_turn posthorn.turn;
  v_ring posthorn.ring;
  v_claim bigint;
  v_token bigint;
  $declarations$, $before$
  -- The worker's as hold_worker does, the lane's against whoever else would claim from it.
  select pg_try_advisory_xact_lock_shared(posthorn.lock_key('worker', p_worker)), pg_try_advisory_xact_lock(posthorn.lock_key('lane', p_subscription, p_lane))
    into v_held, v_free;
  -- From here each statement sees what the previous holders of the locks committed. The ring is read only now: the previous holder may
  -- have opened a window that holds messages of a slot which was not there before.
  select exists (select from posthorn.worker w where w.id = p_worker), exists (select from posthorn.cancel_mark k where k.subscription = p_subscription),
      s.channel, s.ordering, r.slots[greatest(l.read_from - r.first_segment, 0)::int + 1 :], l.read_from, r.first_id, l.slot, l.n, l.floor, l.ceiling, l.last_id, l.late, l.late_xids
    into v_alive, v_marked, v_channel, v_ordering, v_slots, v_read_from, v_first_id, v_slot, v_n, v_floor, v_ceiling, v_last_id, v_late, v_late_xids
    from posthorn.ring r left join posthorn.subscription s on s.id = p_subscription
      left join posthorn.lane l on l.subscription = p_subscription and l.lane = p_lane;
  if not v_held or not v_alive then
    raise exception 'worker % counts as dead; its messages were rescued', p_worker using errcode = 'PH007';
  elsif not v_free then
    return '{"missed":true}';
  elsif v_slot is null then
    raise exception 'subscription % has no position for lane %', p_subscription, p_lane using errcode = 'PH004';
  end if;
  $before$, $body$
  -- Its newest claim, else the base row.
  select coalesce(c.n, v_n), coalesce(c.floor, v_floor), coalesce(c.ceiling, v_ceiling), coalesce(c.last_id, v_last_id), coalesce(c.late, v_late),
      case when c.n is null then v_late_xids else c.late_xids end, t.ceiling_id, t.snapshot
    into v_n, v_floor, v_ceiling, v_last_id, v_late, v_late_xids, v_upto, v_seen
    from (select) base left join lateral (select * from posthorn.claim_{slot} c
      where c.subscription = p_subscription and c.lane = p_lane order by c.n desc limit 1) c on true
      left join posthorn.tick_{slot} t on t.id = coalesce(c.ceiling, v_ceiling);
  if v_late then
    select t.ceiling_id into v_floor_upto from posthorn.tick_{slot} t where t.id = v_floor;
  end if;
  if v_upto is null or v_late and v_floor_upto is null then
    raise exception 'the ticks of subscription %, lane % are gone', p_subscription, p_lane using errcode = 'PH004';
  end if;

  loop
    v_room := p_limit - cardinality(v_late_ids);
    v_is_late := v_late;
    v_took_late := v_late or cardinality(v_late_ids) > 0;
    if v_ordering is not null then
      v_before := row({slot}::smallint, v_n, v_floor, v_ceiling, v_last_id, v_late, v_late_xids);
    end if;
    if v_late then
      select b.ids, b.items, b.slots into v_ids, v_items, v_message_slots
        from posthorn.late_page(v_slots, v_channel, p_lane, v_late_xids, v_last_id, v_floor_upto, p_limit) b;
      v_taken := coalesce(cardinality(v_ids), 0);
      if v_taken < p_limit then
        v_late := false;
        v_late_xids := null;
        v_last_id := v_floor_upto;
      else
        v_last_id := v_ids[p_limit];
      end if;
    elsif v_last_id < v_upto then
      -- As page; of the one slot that holds data without a call.
      if v_slots = array[{slot}]::smallint[] then
        select array_agg(m.id), string_agg(
            posthorn.item(m.id, m.nonce, {slot}::smallint, m.contract, m.key, m.payload, m.headers, m.published_at, m.expires_at), ','), null,
            array_agg(m.key) filter (where v_ordering is not null)
          into v_ids, v_items, v_message_slots, v_keys
          from (select * from posthorn.message_{slot} m
            where m.channel = v_channel and m.lane = p_lane and m.id > v_last_id and m.id <= v_upto and pg_visible_in_snapshot(m.xid, v_seen)
            order by m.id limit v_room) m;
      else
        select b.ids, b.items, b.slots into v_ids, v_items, v_message_slots
          from posthorn.page(v_slots, v_channel, p_lane, v_last_id, v_upto, v_seen, v_room) b;
      end if;
      v_taken := coalesce(cardinality(v_ids), 0);
      v_last_id := case when v_taken < v_room then v_upto else v_ids[v_room] end;
    elsif v_opened then
      -- Where all that was found had been cancelled, the position moves on all the same.
      exit when v_left_out;
      return '{}';
    else
      -- The window is done. Its ceiling is the floor of the next, whose id is read before its snapshot is taken, in an earlier
      -- statement: a message above the id may be seen and waits for the window after, one below it is late if it is unseen.
      -- The slots are those that the same snapshot sees: it sees no message whose slot it does not know. Those that the lane has done with are
      -- left out: history costs nothing.
      v_floor := v_ceiling;
      v_floor_upto := v_upto;
      v_floor_seen := v_seen;
      v_upto := greatest(v_upto, coalesce(pg_sequence_last_value('posthorn.message_id'), 0));
      select pg_current_snapshot(), r.slots[greatest(v_read_from - r.first_segment, 0)::int + 1 :] into v_seen, v_slots from posthorn.ring r;
      v_opened := true;
      -- Nearly always nobody was writing then, and a glance at whoever began since tells that nobody is late.
      if v_slots = array[{slot}]::smallint[] and pg_snapshot_xmin(v_floor_seen) = pg_snapshot_xmax(v_floor_seen) and not exists (
          select from posthorn.message_{slot} m where ((m.channel::bigint << 32) | m.lane) = ((v_channel::bigint << 32) | p_lane) and m.reach is not null
            and m.xid >= pg_snapshot_xmax(v_floor_seen) and m.xid < pg_snapshot_xmax(v_seen) and m.id >= v_first_id and m.id <= v_floor_upto) then
        v_late_xids := null;
      else
        v_late_xids := posthorn.late_xids(v_slots, v_channel, p_lane, v_floor_seen, v_floor_upto, v_first_id, v_seen);
      end if;
      v_late := v_late_xids is not null;
      v_last_id := case when v_late then v_first_id - 1 else v_floor_upto end;
      v_taken := 0;
    end if;
    if v_marked and v_taken > 0 and v_ordering is null then
      select b.ids, b.items, b.slots into v_ids, v_items, v_message_slots
        from posthorn.without_marked(p_subscription, row(v_ids, v_message_slots, v_items)::posthorn.batch) b;
      v_left_out := v_left_out or cardinality(v_ids) < v_taken;
      v_taken := cardinality(v_ids);
    end if;
    if v_is_late and not v_late and v_taken > 0 and v_last_id < v_upto and v_ordering is null then
      -- There is room for the main part of the same window: where many commit at once, nearly every window has both.
      v_late_ids := v_ids;
      v_late_items := v_items;
      v_late_slots := v_message_slots;
      continue;
    end if;
    exit when v_taken > 0 or cardinality(v_late_ids) > 0;
  end loop;
  if cardinality(v_late_ids) > 0 then
    v_ids := v_late_ids || v_ids;
    v_items := concat_ws(',', v_late_items, v_items);
    v_message_slots := v_late_slots || v_message_slots;
    v_taken := cardinality(v_ids);
  end if;

  if v_ordering is not null then
    v_batch := row(v_ids, v_message_slots, v_items);
    v_turn := posthorn.in_order(v_slots, p_subscription, v_channel, p_lane, v_batch, v_keys, v_marked);
    if v_turn.taken = 0 then
      return '{"blocked":true}';
    elsif v_turn.taken < v_taken then
      v_late := v_before.late;
      v_late_xids := v_before.late_xids;
      v_last_id := v_ids[v_turn.taken];
    end if;
  end if;
  if v_opened then
    insert into posthorn.tick_{slot} (id, ceiling_id, snapshot, at) values (nextval('posthorn.tick_id'), v_upto, v_seen, clock_timestamp())
      returning id into v_ceiling;
  end if;
  if v_message_slots is null and v_slots[1] <> {slot} then
    v_message_slots := array_fill(v_slots[1], array[v_taken]);
    v_turn.message_slots := v_message_slots[1 : cardinality(v_turn.messages)];
  end if;
  if v_ordering is not null then
    v_claim := nextval('posthorn.claim_id');
    v_token := (random() * 9e18)::bigint;
    select * into v_ring from posthorn.ring;
    v_ring.slots := v_slots;
    perform posthorn.write_turn(v_claim, v_token, p_worker, p_subscription, v_channel, p_lane,
      row({slot}::smallint, v_n + 1, v_floor, v_ceiling, v_last_id, v_late, v_late_xids)::posthorn.position, v_took_late, v_ring, v_turn);
    return case when v_turn.ids is null then '{"again":true}' else concat('{', case when v_took_late and not v_late and v_last_id < v_upto then '"more":true,' end,
      '"claim":"', v_claim, '","token":"', v_token, '","slot":', {slot}, ',"parts":', case when v_turn.parked is null then 0 else 1 end,
      ',"skipped":' || to_json(v_turn.skipped::text[]), ',"messages":[', v_turn.items, ']}') end;
  end if;
  insert into posthorn.claim_{slot} (id, n, token, worker, floor, ceiling, last_id, at, subscription, lane, late, took_late, late_xids, messages, message_slots)
    values (nextval('posthorn.claim_id'), v_n + 1, (random() * 9e18)::bigint, p_worker, v_floor, v_ceiling, v_last_id, clock_timestamp(), p_subscription,
      p_lane, v_late, v_took_late, v_late_xids, coalesce(v_ids, '{}'), v_message_slots)
    returning id, token into v_claim, v_token;
  if v_taken = 0 then
    perform posthorn.settle_part_of({slot}::smallint, v_claim, v_token, 1, null, true, '{}');
    return '{}';
  end if;
  return concat('{"claim":"', v_claim, '","token":"', v_token, '","slot":', {slot}, ',"messages":[', v_items, ']}');
  $body$, '');

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
language plpgsql stable as $$
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
