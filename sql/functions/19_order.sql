-- Order per key. Of a reader that keeps it, these hold for each key:
--   a message runs only when all before it have ended for good, were put aside before it, or were skipped over as dead;
--   while a claim is open, no other claim takes a message whose key it holds: the page is cut before it;
--   while a key is parked, its messages are put aside behind those that wait, and only the first of them is due.
-- A claim looks at open claims in an earlier statement than at parked keys: a failing holder closes its part and parks the key in one transaction,
-- so whoever sees the part sees the key.

-- in_order(slots, subscription, channel, lane, batch, keys, marked): what may be taken of a page; `taken` 0 when its first message must wait. `keys` of its
-- messages where they are known, else null. `marked`: somebody has cancelled messages of this reader; their marks are used up for what is taken, and for nothing else.
create or replace function posthorn.in_order(
  p_slots smallint[], p_subscription int, p_channel int, p_lane int, p_batch posthorn.batch, p_keys text[], p_marked boolean
) returns posthorn.turn language plpgsql as $$
declare
  v_turn posthorn.turn;
  v_slots smallint[] := coalesce(p_batch.slots, array_fill(p_slots[1], array[cardinality(p_batch.ids)]));
  v_keys text[];
  v_open bigint[];
  v_unknown boolean;
  v_parked text[];
  v_waiting text[];
  v_ours text[];
  v_cancelled bigint[] := '{}';
begin
  select o.keys, o.open_from, o.unknown into v_open, v_turn.open_from, v_unknown from posthorn.open_keys(p_subscription, p_lane) o;
  v_keys := case when p_keys is not null then p_keys when p_batch.slots is null then posthorn.keys_of(p_slots[1], p_channel, p_lane, p_batch.ids)
    else array(select i.item ->> 4 from json_array_elements(('[' || p_batch.items || ']')::json) i(item)) end;
  -- A few are read as they lie there, which costs less than to ask for each key of the page.
  v_parked := array(select p.key from posthorn.parked_key p where p.subscription = p_subscription order by p.key limit 129);
  if cardinality(v_parked) <= 128 then
    v_waiting := case when v_parked = '{}' then v_parked else array(select p.key from unnest(v_parked) p(key) where p.key = any (v_keys)) end;
  else
    v_waiting := array(select p.key from posthorn.parked_key p where p.subscription = p_subscription and p.key = any (v_keys));
  end if;
  if v_waiting <> '{}' then
    -- Held until the end of this transaction, so that nobody finds the key's waiting messages gone while some are added.
    v_ours := array(select p.key from posthorn.parked_key p where p.subscription = p_subscription and p.key = any (v_waiting) for update skip locked);
  end if;
  v_turn.keys := array(select hashtextextended(k.key, 0) from unnest(v_keys) k(key));
  v_turn.taken := cardinality(v_keys);
  if v_unknown then
    v_turn.taken := 0;
  elsif v_open is not null or v_waiting <> '{}' then
    -- least passes over what is null.
    v_turn.taken := least(v_turn.taken,
      (select min(k.n) - 1 from unnest(v_turn.keys) with ordinality k(hash, n) join unnest(v_open) o(hash) on o.hash = k.hash),
      case when v_waiting <> '{}' then (select min(k.n) - 1 from unnest(v_keys) with ordinality k(key, n)
        where k.key = any (v_waiting) and k.key <> all (v_ours)) end);
  end if;
  if p_marked and v_turn.taken > 0 then
    with used as (
      delete from posthorn.cancel_mark k where k.subscription = p_subscription and k.message = any (p_batch.ids[1 : v_turn.taken]) returning k.message)
      select coalesce(array_agg(u.message), '{}') into v_cancelled from used u;
  end if;
  if v_turn.taken = cardinality(v_keys) and v_waiting = '{}' and v_cancelled = '{}' then
    v_turn.messages := p_batch.ids;
    v_turn.message_slots := p_batch.slots;
    v_turn.ids := p_batch.ids;
    v_turn.slots := p_batch.slots;
    v_turn.items := p_batch.items;
    return v_turn;
  end if;
  select coalesce(array_agg(m.id), '{}'), coalesce(array_agg(m.hash), '{}'), case when p_batch.slots is not null then coalesce(array_agg(m.slot), '{}') end,
      array_agg(m.id) filter (where not m.waits), array_agg(m.slot) filter (where not m.waits),
      array_agg(m.id) filter (where m.waits), array_agg(m.slot) filter (where m.waits)
    into v_turn.messages, v_turn.keys, v_turn.message_slots, v_turn.ids, v_turn.slots, v_turn.parked, v_turn.parked_slots
    from (select i.id, i.slot, i.hash, coalesce(i.key = any (v_waiting), false) as waits
      from rows from (unnest(p_batch.ids), unnest(v_slots), unnest(v_keys), unnest(v_turn.keys)) with ordinality i(id, slot, key, hash, n)
      where i.n <= v_turn.taken and i.id <> all (v_cancelled)) m;
  if cardinality(v_turn.ids) * 2 > cardinality(p_batch.ids) then
    v_turn.items := p_batch.items;
    v_turn.skipped := v_turn.parked || v_cancelled || p_batch.ids[v_turn.taken + 1 :];
  else
    v_turn.items := (select string_agg(i.item::text, ',') from rows from (unnest(p_batch.ids), json_array_elements(('[' || p_batch.items || ']')::json)) i(id, item)
      where i.id = any (v_turn.ids));
  end if;
  return v_turn;
end $$;

-- open_keys: hashes of the keys that open claims of a lane hold, the number from which on a claim can be open, and whether one is open whose
-- keys nobody wrote down: it was made while the reader kept no order. Claims of the lane can be open in slots whose messages it has done with.
create or replace function posthorn.open_keys(p_subscription int, p_lane int, out keys bigint[], out open_from bigint, out unknown boolean)
language plpgsql as $$
declare
  v_slots smallint[] := (select r.slots[greatest(l.held_from - r.first_segment, 0)::int + 1 :] from posthorn.ring r, posthorn.lane l
    where l.subscription = p_subscription and l.lane = p_lane);
  v_slot smallint;
  v_found record;
begin
  unknown := false;
  foreach v_slot in array v_slots loop
    v_found := posthorn.open_keys_of(v_slot, p_subscription, p_lane);
    keys := coalesce(keys || v_found.keys, v_found.keys, keys);
    open_from := coalesce(v_found.open_from, open_from);
    unknown := unknown or v_found.unknown;
  end loop;
end $$;

-- Plan: claim_N_by_n from the oldest claim that can be open, probes of settlement_N_by_part.
select posthorn.by_slot(
  'open_keys_of(p_slot smallint, p_subscription int, p_lane int, out keys bigint[], out open_from bigint, out unknown boolean)', 'record', $body$
  declare v_newest posthorn.claim_1;
  begin
    unknown := false;
    select * into v_newest from posthorn.claim_{slot} c where c.subscription = p_subscription and c.lane = p_lane order by c.n desc limit 1;
    if v_newest.id is null then
      return;
    elsif v_newest.open_from is null then
      select min(c.n), count(*) > 0 into open_from, unknown from posthorn.open_claims() c where c.subscription = p_subscription and c.lane = p_lane;
    else
      select min(c.n), array_agg(m.key), coalesce(bool_or(c.keys is null), false) into open_from, keys, unknown
        from posthorn.claim_{slot} c left join lateral unnest(c.messages, c.keys) m(id, key)
          on not exists (select from posthorn.settlement_{slot} t where t.claim = c.id and m.id = any (t.messages) and t.outcome is distinct from 'begun' offset 0)
        where c.subscription = p_subscription and c.lane = p_lane and c.n >= v_newest.open_from
          and not exists (select from posthorn.settlement_{slot} t where t.claim = c.id and t.closes offset 0);
    end if;
    open_from := coalesce(open_from, v_newest.n + 1);
  end;
$body$);

-- keys_of: the keys of messages, in the order of their ids.
select posthorn.by_slot('keys_of(p_slot smallint, p_channel int, p_lane int, p_ids bigint[])', 'text[]', $body$
  return array(select m.key from unnest(p_ids) i(id)
    cross join lateral (select m.key from posthorn.message_{slot} m where m.channel = p_channel and m.lane = p_lane and m.id = i.id offset 0) m);
$body$);

-- write_turn: the claim row of an ordered claim, and what it puts aside. Where nothing of it is to run, it is closed at once.
create or replace function posthorn.write_turn(
  p_claim bigint, p_token bigint, p_worker bigint, p_subscription int, p_channel int, p_lane int, p_at posthorn.position, p_took_late boolean,
  p_ring posthorn.ring, p_turn posthorn.turn
) returns void
language plpgsql as $$
declare
  v_slot smallint;
begin
  perform posthorn.write_ordered_claim(p_at.slot, p_claim, p_token, p_worker, p_subscription, p_lane, p_at, p_took_late, p_turn.messages,
    p_turn.message_slots, p_turn.keys, coalesce(p_turn.open_from, p_at.n));
  if p_turn.parked is not null then
    -- By slot of the ring, the oldest first: within a slot in the order of the page.
    foreach v_slot in array p_ring.slots loop
      perform posthorn.put_aside_of(v_slot, p_subscription, p_channel, p_lane,
        array(select m.id from unnest(p_turn.parked, p_turn.parked_slots) m(id, slot) where m.slot = v_slot));
    end loop;
    perform posthorn.settle_part_of(p_at.slot, p_claim, p_token, 1, 'parked', p_turn.ids is null, p_turn.parked);
  elsif p_turn.ids is null then
    perform posthorn.settle_part_of(p_at.slot, p_claim, p_token, 1, null, true, '{}');
  end if;
end $$;

select posthorn.by_slot(
  'write_ordered_claim(p_slot smallint, p_claim bigint, p_token bigint, p_worker bigint, p_subscription int, p_lane int, p_at posthorn.position, p_took_late boolean, p_messages bigint[], p_message_slots smallint[], p_keys bigint[], p_open_from bigint)',
  'void', $body$
  insert into posthorn.claim_{slot} (id, n, token, worker, floor, ceiling, last_id, at, subscription, lane, late, took_late, late_xids, messages, message_slots,
      keys, open_from)
    values (p_claim, p_at.n, p_token, p_worker, p_at.floor, p_at.ceiling, p_at.last_id, clock_timestamp(), p_subscription, p_lane, p_at.late,
      p_took_late, p_at.late_xids, p_messages, p_message_slots, p_keys, p_open_from);
$body$);

-- put_aside_of: messages that were never run, behind those of their key that wait. The first delivery ends as parked.
select posthorn.by_slot('put_aside_of(p_slot smallint, p_subscription int, p_channel int, p_lane int, p_ids bigint[])', 'void', $body$
  insert into posthorn.deferred (subscription, due_at, delivery, attempts, crashes, reason, message, nonce, channel, lane, contract, key, payload, headers,
      published_at, history, place, expires_at, priority)
    select p_subscription, 'infinity', 2, 0, 0, 'parked', m.id, m.nonce, m.channel, m.lane, m.contract, m.key, m.payload, m.headers, m.published_at, '[]',
      nextval('posthorn.place'), m.expires_at, posthorn.priority_of(m.lane)
    from unnest(p_ids) i(id)
      cross join lateral (select * from posthorn.message_{slot} m where m.channel = p_channel and m.lane = p_lane and m.id = i.id offset 0) m;
$body$);

-- park(subscription, key): later messages of the key wait from now on.
create or replace function posthorn.park(p_subscription int, p_key text) returns void
language plpgsql as $$
begin
  insert into posthorn.parked_key (subscription, key) values (p_subscription, p_key) on conflict do nothing;
end $$;

-- turn_of(row): gives a delivery that is to wait its place in the order of its key, and when it is due there: what waits behind another is
-- due at infinity. Only for a key that this holder holds or that is parked already.
create or replace function posthorn.turn_of(p_row posthorn.deferred) returns posthorn.deferred
language plpgsql as $$
begin
  perform posthorn.park(p_row.subscription, p_row.key);
  p_row.place := coalesce(p_row.place, nextval('posthorn.place'));
  if posthorn.is_behind(p_row.subscription, p_row.key, p_row.place) then
    p_row.due_at := 'infinity';
  end if;
  return p_row;
end $$;

-- is_behind: whether a message of the key with a lower place waits, runs, or lies dead in the way.
create or replace function posthorn.is_behind(p_subscription int, p_key text, p_place bigint) returns boolean
language plpgsql as $$
begin
  return exists (select from posthorn.deferred d where d.subscription = p_subscription and d.key = p_key and d.place < p_place)
    or exists (select from posthorn.dead_letter d where d.subscription = p_subscription and d.key = p_key and d.place < p_place)
    or exists (select from posthorn.invalid d where d.subscription = p_subscription and d.key = p_key and d.place < p_place);
end $$;

-- promote(subscription, keys): makes the next message of each key due, or lets the key go when nothing of it waits. Repeatable: it looks at what is
-- there. A step of its own after the end of the message before: in the handler's transaction its row lock would stop the lane.
create or replace function posthorn.promote(p_subscription int, p_keys json) returns int
language plpgsql as $$
declare
  v_key text;
  v_promoted int := 0;
begin
  perform posthorn.own_transaction(false);
  -- In one order, so that two that promote the same keys wait for each other only one way.
  for v_key in select distinct k from json_array_elements_text(p_keys) k order by k loop
    v_promoted := v_promoted + posthorn.promote_key(p_subscription, v_key);
  end loop;
  return v_promoted;
end $$;

create or replace function posthorn.promote_key(p_subscription int, p_key text) returns int
language plpgsql as $$
declare
  v_next posthorn.deferred;
begin
  perform from posthorn.parked_key p where p.subscription = p_subscription and p.key = p_key for update;
  if not found then
    return 0;
  end if;
  -- A later statement than the lock: whoever held it may have put messages aside.
  select * into v_next from posthorn.deferred d where d.subscription = p_subscription and d.key = p_key and d.place is not null order by d.place limit 1;
  if v_next.id is null then
    delete from posthorn.parked_key p where p.subscription = p_subscription and p.key = p_key
      and not posthorn.is_behind(p_subscription, p_key, 9223372036854775807);
  elsif v_next.due_at = 'infinity' and not posthorn.is_behind(p_subscription, p_key, v_next.place) then
    update posthorn.deferred set due_at = clock_timestamp() where id = v_next.id and due_at = 'infinity';
    return 1;
  end if;
  return 0;
end $$;

-- enter(subscription): messages that wait outside of the order of their key (delayed, or redriven where the others went on) and are due take their
-- place at its end. Plan: deferred_due, once for each priority in use. Not while a claim holds the key; whoever claims next must see what was decided here,
-- hence the lock of the lane.
create or replace function posthorn.enter(p_subscription int) returns void
language plpgsql as $$
declare
  v_lane int;
  v_row posthorn.deferred;
  v_open record;
  -- Read once: compared with a function that may change, the index would be read on to its end. In order of time, so that of the indexes that an
  -- empty table makes equal the one is taken that stops at it.
  v_now timestamptz := clock_timestamp();
begin
  if not exists (select from posthorn.classes(p_subscription) c(class) cross join lateral (select from posthorn.deferred d where d.subscription = p_subscription
        and d.priority = c.class and d.token is null and d.place is null and d.key is not null and d.due_at <= v_now order by d.due_at limit 1) d) then
    return;
  end if;
  -- A key is in one lane. What was scheduled was written into none, and its queue has one.
  for v_lane in select l.lane from posthorn.lane l where l.subscription = p_subscription and l.lane <= 1024 order by l.lane loop
    continue when not pg_try_advisory_xact_lock(posthorn.lock_key('lane', p_subscription, v_lane));
    select * into v_open from posthorn.open_keys(p_subscription, v_lane);
    for v_row in select due.* from posthorn.classes(p_subscription) c(class)
        cross join lateral (select d.* from posthorn.deferred d where d.subscription = p_subscription and d.priority = c.class and d.token is null
          and d.place is null and d.key is not null and d.due_at <= v_now and case when d.lane between 0 and 1024 then d.lane else 0 end = v_lane
          order by d.due_at limit 100 for update skip locked) due
        order by due.due_at limit 100 loop
      if v_open.unknown or hashtextextended(v_row.key, 0) = any (v_open.keys) then
        update posthorn.deferred set due_at = clock_timestamp() + interval '20 ms' where id = v_row.id;
      else
        v_row := posthorn.turn_of(v_row);
        update posthorn.deferred set place = v_row.place, due_at = v_row.due_at where id = v_row.id;
      end if;
    end loop;
  end loop;
end $$;

-- spill(parts, spill): ends a claim that has been open too long, so that its lane goes on: each of its messages that still runs becomes the first of
-- a parked key, held by the same worker under the same delivery; those that wait behind it are put aside. `parts` are settled first.
--   { claim, slot, token, part, closes, worker, running: [id], waiting: [id] }
-- Returns [[message, deferred, token]] of those that run. Raises PH005.
create or replace function posthorn.spill(p_parts json, p_spill json) returns json
language plpgsql as $$
declare
  v_claim posthorn.claim_1;
  v_running bigint[] := posthorn.ids(p_spill -> 'running');
  v_message bigint;
  v_row posthorn.deferred;
  v_held json[] := '{}';
begin
  perform posthorn.own_transaction(true);
  perform posthorn.hold_worker((p_spill ->> 'worker')::bigint);
  if p_parts is not null then
    perform posthorn.conclude(p_parts);
  end if;
  if not posthorn.settle_part_of((p_spill ->> 'slot')::smallint, (p_spill ->> 'claim')::bigint, (p_spill ->> 'token')::bigint, (p_spill ->> 'part')::int,
      'parked', (p_spill ->> 'closes')::boolean, v_running || posthorn.ids(p_spill -> 'waiting')) then
    perform posthorn.raise_lost(json_build_object('claims', json_build_array(p_spill ->> 'claim')));
  end if;
  v_claim := posthorn.claim_of((p_spill ->> 'slot')::smallint, (p_spill ->> 'claim')::bigint);
  foreach v_message in array v_running || posthorn.ids(p_spill -> 'waiting') loop
    v_row := posthorn.delivery_of(v_claim.subscription, v_claim.lane, v_message,
      coalesce(v_claim.message_slots[array_position(v_claim.messages, v_message)], (p_spill ->> 'slot')::smallint));
    v_row.due_at := clock_timestamp();
    v_row := posthorn.turn_of(v_row);
    v_row.id := nextval('posthorn.deferred_id');
    v_row.reason := 'parked';
    if v_message = any (v_running) then
      v_row.token := (random() * 9e18)::bigint;
      v_row.worker := v_claim.worker;
      v_row.taken_at := v_claim.at;
      v_held := v_held || json_build_array(v_message::text, v_row.id::text, v_row.token::text);
    else
      v_row.delivery := 2;
      -- In transaction mode each delivery ends by itself.
      perform posthorn.end_of(coalesce(v_claim.message_slots[array_position(v_claim.messages, v_message)], (p_spill ->> 'slot')::smallint),
        v_claim.subscription, v_message, 1, 'parked', v_claim.id, v_claim.worker)
        from posthorn.subscription s where s.id = v_claim.subscription and s.idempotency = 'transaction';
    end if;
    insert into posthorn.deferred values (v_row.*);
  end loop;
  return to_json(v_held);
end $$;

-- sweep_keys(limit): promotes keys whose first waiting message nobody made due: the worker that ended the one before died before it could, or
-- what lay in the way was kept for its time and is gone. Looks at some keys a call, where the last call stopped. Returns { promoted, more }.
create or replace function posthorn.sweep_keys(p_limit int) returns json
language plpgsql as $$
declare
  v_after json;
  v_key posthorn.parked_key;
  v_last posthorn.parked_key;
  v_promoted int := 0;
  v_seen int := 0;
begin
  perform posthorn.own_transaction(false);
  if not pg_try_advisory_xact_lock(posthorn.lock_key('sweep')) then
    return '{"promoted":0,"more":false}';
  end if;
  select m.notes into v_after from posthorn.maintenance m where m.name = 'sweep';
  for v_key in select * from posthorn.parked_key p
      where (p.subscription, p.key) > (coalesce((v_after ->> 'subscription')::int, 0), coalesce(v_after ->> 'key', ''))
      order by p.subscription, p.key limit p_limit loop
    v_last := v_key;
    v_seen := v_seen + 1;
    continue when exists (select from (select d.due_at from posthorn.deferred d where d.subscription = v_key.subscription and d.key = v_key.key
      and d.place is not null order by d.place limit 1) first where first.due_at < 'infinity');
    v_promoted := v_promoted + posthorn.promote_key(v_key.subscription, v_key.key);
  end loop;
  insert into posthorn.maintenance (name, ran_at, notes)
    values ('sweep', clock_timestamp(), case when v_seen = p_limit then json_build_object('subscription', v_last.subscription, 'key', v_last.key) end)
    on conflict (name) do update set ran_at = excluded.ran_at, notes = excluded.notes;
  return json_build_object('promoted', v_promoted, 'more', v_seen = p_limit);
end $$;

-- order_ends(subscription): a reader that keeps no order any more: what waited behind others is due.
create or replace function posthorn.order_ends(p_subscription int) returns void
language plpgsql as $$
begin
  update posthorn.deferred set place = null, due_at = least(due_at, clock_timestamp()) where subscription = p_subscription and place is not null;
  update posthorn.dead_letter set place = null where subscription = p_subscription and place is not null;
  update posthorn.invalid set place = null where subscription = p_subscription and place is not null;
  delete from posthorn.parked_key where subscription = p_subscription;
end $$;
