-- peek(worker, subscriptions, seen, watch): whether there is anything to claim or take, in one statement for a whole process, as JSON
--   { snapshot, ready: [subscription …], due: [[subscription, ms] …], dead, cancels }.
-- `seen` is the snapshot of an earlier peek that found nothing: while no transaction has ended since, nothing can have appeared,
-- and only the clock is looked at (ready is then empty). `watch` asks as well whether any worker counts as dead, and whether somebody asked
-- to cancel what runs in one of the worker's readers. Takes nothing and locks nothing; never a proof that a claim will succeed.
create or replace function posthorn.peek(p_worker bigint, p_subscriptions json, p_seen text, p_watch boolean default false) returns json
language plpgsql as $$
declare
  v_ring posthorn.ring := posthorn.own_transaction(false);
  v_subscriptions int[] := array(select s::int from json_array_elements_text(p_subscriptions) s);
  v_snapshot pg_snapshot;
  v_lane record;
  v_ready int[] := '{}';
begin
  -- With the slots that it sees: a message in a slot that was not looked at must not count as seen.
  select pg_current_snapshot(), r.slots, r.first_segment into v_snapshot, v_ring.slots, v_ring.first_segment from posthorn.ring r;
  if v_snapshot::text is distinct from p_seen then
    for v_lane in select l.subscription, l.lane, l.read_from, s.channel from posthorn.lane l join posthorn.subscription s on s.id = l.subscription
        where l.subscription = any (v_subscriptions) loop
      if posthorn.is_ready(v_ring.slots[greatest(v_lane.read_from - v_ring.first_segment, 0)::int + 1 :], v_ring.first_id, v_lane.subscription, v_lane.lane, v_lane.channel) then
        v_ready := v_ready || v_lane.subscription;
      end if;
    end loop;
  end if;
  return json_build_object('snapshot', v_snapshot::text, 'ready', to_json(v_ready), 'dead',
    p_watch and exists (select from posthorn.dead_workers()), 'cancels', p_watch and exists (select from posthorn.cancel_request c
      where not c.quiet and c.subscription in (select a.subscription from posthorn.attendance a where a.worker = p_worker)), 'due', coalesce((
    select json_agg(json_build_array(s.id, ceil(extract(epoch from first.due_at - clock_timestamp()) * 1000)))
    from unnest(v_subscriptions) s(id)
    cross join lateral (select posthorn.first_due(s.id,
      (select posthorn.every_of(a.subscription, a.contracts) from posthorn.attendance a where a.worker = p_worker and a.subscription = s.id)::int[]) as due_at offset 0) first
    where first.due_at is not null), '[]'));
end $$;

-- is_ready: whether a claim of this lane would find something.
create or replace function posthorn.is_ready(p_slots smallint[], p_first_id bigint, p_subscription int, p_lane int, p_channel int) returns boolean
language plpgsql as $$
declare
  v_at posthorn.position := posthorn.position_of(p_subscription, p_lane);
  v_ceiling posthorn.tick;
  v_slot smallint;
  v_now pg_snapshot;
  v_late_upto bigint;
begin
  -- A claim that took the last of the late ones as its last stays among them. Nothing moves it on until there is more, so only a look tells.
  if v_at.late then
    v_late_upto := (posthorn.tick_of(v_at.slot, v_at.floor)).ceiling_id;
    if v_late_upto is null or (posthorn.late_page(p_slots, p_channel, p_lane, v_at.late_xids, v_at.last_id, v_late_upto, 1)).ids is not null then
      return true;
    end if;
    v_at.last_id := v_late_upto;
  end if;
  foreach v_slot in array p_slots loop
    if posthorn.has_after_of(v_slot, p_channel, p_lane, v_at.last_id) then
      return true;
    end if;
  end loop;
  v_ceiling := posthorn.tick_of(v_at.slot, v_at.ceiling);
  select pg_current_snapshot() into v_now;
  return posthorn.late_xids(p_slots, p_channel, p_lane, v_ceiling.snapshot, v_ceiling.ceiling_id, p_first_id, v_now) is not null;
end $$;

select posthorn.by_slot('has_after_of(p_slot smallint, p_channel int, p_lane int, p_after bigint)', 'boolean', $body$
  return exists (select from posthorn.message_{slot} m where m.channel = p_channel and m.lane = p_lane and m.id > p_after);
$body$);

-- wake_with(payload): the same as wake, in the transaction that it tells of. A worker behind a pooler has no session and hears nothing.
create or replace function posthorn.wake_with(p_payload text) returns boolean
language plpgsql as $$
begin
  if not exists (select from posthorn.worker where session_key is not null) then
    return false;
  end if;
  perform pg_notify('posthorn_wake', p_payload);
  return true;
end $$;

-- wake(payload): notifies, in a transaction of its own; false when no worker is there to listen. A notification commits with a
-- transaction id; nobody waits for the disk for its sake.
create or replace function posthorn.wake(p_payload text) returns boolean
language plpgsql as $$
begin
  if not exists (select from posthorn.worker where session_key is not null) then
    return false;
  end if;
  perform set_config('synchronous_commit', 'off', true), pg_notify('posthorn_wake', p_payload);
  return true;
end $$;
