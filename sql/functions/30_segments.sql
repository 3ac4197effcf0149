-- Space: the log is a ring of eight slots. Rotation opens the next one, and a segment that nobody needs is truncated.
--
-- Each step is a transaction of its own, and whoever comes next goes on from what is committed. What is found about a segment stays true:
--   closed    messages go to another slot, but whoever has read the ring before may still choose this one
--   sealed    nobody can choose it any more, but some who did may not have committed
--   still     all of them have ended: what it holds is what it will ever hold
--   finished  every lane has taken what it holds, no claim that is open lies in it or took from it, and it was kept for its time
-- and it is truncated when everybody sees it finished. "Everybody" is asked of the server: see horizon.

-- horizon(): the oldest transaction id that somebody else in this database has, or has a snapshot from, and who that is: everything below it has
-- ended, and everybody sees its end. Without anybody the next id. A prepared transaction has no pid.
create or replace function posthorn.horizon(out xid xid8, out pid int, out since timestamptz, out prepared text)
language plpgsql as $$
declare
  v_next bigint := pg_snapshot_xmax(pg_current_snapshot())::text::bigint;
begin
  perform pg_stat_clear_snapshot();
  select h.full_xid::text::xid8, h.pid, h.since, h.gid into xid, pid, since, prepared from (
      -- Ids of 32 bits are near the next one, before or behind it.
      select v_next + ((a.short::text::bigint - v_next + 2147483648) & 4294967295) - 2147483648 as full_xid, a.pid, a.since, a.gid, a.own from (
        select x.short, s.pid, s.xact_start as since, null as gid, x.own from pg_stat_activity s
          cross join lateral (values (s.backend_xid, true), (s.backend_xmin, false)) x(short, own)
          where s.datname = current_database() and s.pid <> pg_backend_pid() and x.short is not null and s.backend_type is distinct from 'autovacuum worker'
        union all
        select p.transaction, null, p.prepared, p.gid, true from pg_prepared_xacts p where p.database = current_database()) a) h
    -- Many have a snapshot from the oldest transaction's time; the one to name is that transaction.
    order by h.full_xid, h.own desc, h.since limit 1;
  xid := coalesce(xid, v_next::text::xid8);
end $$;

-- slots_from(ring, segment): the slots of the ring from a segment on.
create or replace function posthorn.slots_from(p_ring posthorn.ring, p_segment bigint) returns smallint[]
language plpgsql immutable as $$
begin
  return p_ring.slots[greatest(p_segment - p_ring.first_segment, 0)::int + 1 :];
end $$;

select posthorn.by_slot('bytes_of(p_slot smallint)', 'bigint', $body$
  return pg_total_relation_size('posthorn.message_{slot}') + pg_total_relation_size('posthorn.claim_{slot}') + pg_total_relation_size('posthorn.settlement_{slot}')
    + pg_total_relation_size('posthorn.ending_{slot}') + pg_total_relation_size('posthorn.tick_{slot}');
$body$);

select posthorn.by_slot('is_used_of(p_slot smallint)', 'boolean', $body$
  return exists (select from posthorn.message_{slot}) or exists (select from posthorn.claim_{slot}) or exists (select from posthorn.ending_{slot});
$body$);

-- has_channel_of: whether a channel has a message in this slot. Plan: message_N_by_id.
select posthorn.by_slot('has_channel_of(p_slot smallint, p_channel int)', 'boolean', $body$
  return exists (select from posthorn.message_{slot} m where m.channel = p_channel);
$body$);

-- copy_tick_of: a tick that a lane takes along to another slot; lanes that were made together share theirs.
select posthorn.by_slot('copy_tick_of(p_slot smallint, p_tick posthorn.tick)', 'void', $body$
  insert into posthorn.tick_{slot} (id, ceiling_id, snapshot, at) values (p_tick.id, p_tick.ceiling_id, p_tick.snapshot, clock_timestamp()) on conflict do nothing;
$body$);

-- lock_slot: nobody else reads or writes this slot until the end of the transaction; raises 55P03 at once when anybody does now.
select posthorn.by_slot('lock_slot(p_slot smallint)', 'void', $body$
  lock table posthorn.message_{slot}, posthorn.claim_{slot}, posthorn.settlement_{slot}, posthorn.ending_{slot}, posthorn.tick_{slot} in access exclusive mode nowait;
$body$);

select posthorn.by_slot('truncate_slot(p_slot smallint)', 'void', $body$
  truncate posthorn.message_{slot}, posthorn.claim_{slot}, posthorn.settlement_{slot}, posthorn.ending_{slot}, posthorn.tick_{slot};
$body$);

-- is_written_of: whether a message lies in this slot; it and its endings are removed together.
select posthorn.by_slot('is_written_of(p_slot smallint, p_channel int, p_lane int, p_message bigint)', 'boolean', $body$
  return exists (select from posthorn.message_{slot} m where m.channel = p_channel and m.lane = p_lane and m.id = p_message);
$body$);

-- declare_retention(keep, bytes, by, explicit): what the fleet keeps. The newest start that says so wins; who says nothing leaves what others said.
create or replace function posthorn.declare_retention(p_keep_ms float8, p_max_bytes bigint, p_by text, p_explicit boolean) returns void
language plpgsql as $$
begin
  perform posthorn.require_home(), posthorn.check_kept(p_keep_ms);
  insert into posthorn.retention (keep_ms, max_bytes, declared_by) values (p_keep_ms, p_max_bytes, p_by)
    on conflict (singleton) do update set keep_ms = excluded.keep_ms, max_bytes = excluded.max_bytes, declared_by = excluded.declared_by,
      declared_at = clock_timestamp()
    where p_explicit and (posthorn.retention.keep_ms, posthorn.retention.max_bytes) is distinct from (excluded.keep_ms, excluded.max_bytes);
end $$;

-- check_kept(ms): PH015 for a time with which nobody could compute when a segment goes: then none would.
create or replace function posthorn.check_kept(p_ms float8) returns void
language plpgsql as $$
begin
  if p_ms not between 0 and 315360000000 then
    raise exception 'what is kept is kept for at most ten years, got % ms', p_ms using errcode = 'PH015';
  end if;
end $$;

-- keep_segments(): until the end of this transaction no segment is truncated. For verbs that read the log again.
create or replace function posthorn.keep_segments() returns void
language plpgsql as $$
begin
  perform pg_advisory_xact_lock_shared(posthorn.lock_key('truncate'));
end $$;

-- is_forgotten(public id): whether a message of this id, if there was one, may have been removed with its segment.
create or replace function posthorn.is_forgotten(p_public text) returns boolean
language sql stable as $$
  select coalesce(posthorn.id_of(p_public) between 1 and r.forgotten_upto, false) from posthorn.ring r
$$;

-- segment_ms: how long messages go to one segment: a quarter of the longest time that anything is kept, so that the kept ones fit into the ring.
create or replace function posthorn.segment_ms(p_retention posthorn.retention) returns float8
language plpgsql stable as $$
begin
  return greatest(p_retention.keep_ms, (select max(c.keep_ms) from posthorn.channel c)) / 4;
end $$;

-- is_rotation_due: whether the open segment is to be closed: by its age; or by its size, while that leaves slots for its age.
create or replace function posthorn.is_rotation_due(p_ring posthorn.ring, p_retention posthorn.retention) returns boolean
language plpgsql as $$
declare
  v_open posthorn.segment;
begin
  select * into v_open from posthorn.segment s where s.slot = p_ring.slot;
  return (v_open.opened_at < clock_timestamp() - posthorn.segment_ms(p_retention) * interval '1 ms'
      or cardinality(p_ring.slots) <= 5 and posthorn.bytes_of(p_ring.slot) >= p_retention.max_bytes / 4)
    and posthorn.is_used_of(p_ring.slot);
end $$;

-- next_slot(ring): the slot after the newest one; null while it is in use.
create or replace function posthorn.next_slot(p_ring posthorn.ring) returns smallint
language plpgsql immutable as $$
declare
  v_next smallint := p_ring.slots[cardinality(p_ring.slots)] % 8 + 1;
begin
  return case when v_next <> all (p_ring.slots) then v_next end;
end $$;

-- rotate(): one step of a rotation or a truncation, if there is one to do. Never waits for whoever works: what is locked is tried again. Returns
-- JSON { did: opened | moved | switched | sealed | advanced | finished | truncated | null, segment, slot, pending }: `pending` while something is under way.
create or replace function posthorn.rotate() returns json
language plpgsql as $$
declare
  v_ring posthorn.ring := posthorn.own_transaction(true);
  v_retention posthorn.retention;
  v_first posthorn.segment;
  v_did text;
begin
  select * into v_retention from posthorn.retention;
  -- Nothing is kept for a time before a worker has said so.
  if v_retention.keep_ms is null or not pg_try_advisory_xact_lock(posthorn.lock_key('rotate')) then
    return '{"did":null,"pending":false}';
  end if;
  perform set_config('lock_timeout', '1s', true);
  -- Later than the lock: whoever held it may have made a step.
  select * into v_ring from posthorn.ring;
  -- A lane that was made while the others moved may have been left behind.
  if exists (select from posthorn.lane l where l.slot <> v_ring.slots[cardinality(v_ring.slots)]) or v_ring.slots[cardinality(v_ring.slots)] <> v_ring.slot then
    return posthorn.go_on_to(v_ring);
  elsif posthorn.next_slot(v_ring) is not null and posthorn.is_rotation_due(v_ring, v_retention) then
    return posthorn.open_segment(v_ring);
  elsif cardinality(v_ring.slots) = 1 then
    return '{"did":null,"pending":false}';
  end if;
  select * into v_first from posthorn.segment s where s.n = v_ring.first_segment;
  if v_first.finished_xid is not null then
    v_did := posthorn.truncate_segment(v_ring, v_first, v_retention);
  end if;
  v_did := coalesce(v_did, posthorn.seal_segments(v_ring), posthorn.advance_lanes(v_ring));
  if v_did is null and v_first.finished_xid is null and posthorn.is_over(v_ring, v_first, v_retention) and posthorn.pins(v_first.n) = '{}' then
    update posthorn.segment set finished_xid = pg_current_xact_id() where n = v_first.n;
    v_did := 'finished';
  end if;
  return json_build_object('did', v_did, 'segment', v_first.n, 'slot', v_first.slot,
    'pending', v_did is not null or v_first.finished_xid is not null or v_first.sealed_xid is null);
end $$;

-- open_segment: the next slot, for the claims of lanes that move to it. Messages follow when all have: a message is never removed later than the
-- claim that took it.
create or replace function posthorn.open_segment(p_ring posthorn.ring) returns json
language plpgsql as $$
declare
  v_slot smallint := posthorn.next_slot(p_ring);
  v_n bigint := p_ring.first_segment + cardinality(p_ring.slots);
begin
  insert into posthorn.segment (n, slot) values (v_n, v_slot);
  update posthorn.ring set slots = slots || v_slot;
  return json_build_object('did', 'opened', 'segment', v_n, 'slot', v_slot, 'pending', true);
end $$;

-- go_on_to: moves lanes to the newest slot, and messages when every lane has moved.
create or replace function posthorn.go_on_to(p_ring posthorn.ring) returns json
language plpgsql as $$
declare
  v_slot smallint := p_ring.slots[cardinality(p_ring.slots)];
  v_moved int := posthorn.move_lanes(v_slot, 50);
  v_left boolean := exists (select from posthorn.lane l where l.slot <> v_slot);
begin
  if not v_left and v_slot <> p_ring.slot then
    update posthorn.segment set closed_at = clock_timestamp(), closed_xid = pg_current_xact_id() where slot = p_ring.slot;
    update posthorn.segment set opened_at = clock_timestamp() where slot = v_slot;
    update posthorn.ring set slot = v_slot;
  end if;
  return json_build_object('did', case when not v_left and v_slot <> p_ring.slot then 'switched' when v_moved > 0 then 'moved' end, 'slot', v_slot, 'pending', true);
end $$;

-- move_lanes(slot, limit): positions of lanes become their base in this slot, under their locks. Lanes that somebody claims from just now are passed
-- over; where all are, one is waited for, for a second at most: a claim is short. Returns how many have moved.
create or replace function posthorn.move_lanes(p_slot smallint, p_limit int) returns int
language plpgsql as $$
declare
  v_lane record;
  v_moved int := 0;
begin
  for v_lane in select l.subscription, l.lane from posthorn.lane l where l.slot <> p_slot order by l.subscription, l.lane limit p_limit loop
    continue when not pg_try_advisory_xact_lock(posthorn.lock_key('lane', v_lane.subscription, v_lane.lane));
    perform posthorn.move_lane(v_lane.subscription, v_lane.lane, p_slot);
    v_moved := v_moved + 1;
  end loop;
  if v_moved = 0 and v_lane.subscription is not null then
    begin
      perform pg_advisory_xact_lock(posthorn.lock_key('lane', v_lane.subscription, v_lane.lane));
    exception when lock_not_available then
      return 0;
    end;
    perform posthorn.move_lane(v_lane.subscription, v_lane.lane, p_slot);
    v_moved := 1;
  end if;
  return v_moved;
end $$;

-- move_lane: for the holder of the lane's lock, in a later statement than it was taken in. Raises PH004.
create or replace function posthorn.move_lane(p_subscription int, p_lane int, p_slot smallint) returns void
language plpgsql as $$
declare
  v_at posthorn.position := posthorn.position_of(p_subscription, p_lane);
  v_floor posthorn.tick := posthorn.tick_of(v_at.slot, v_at.floor);
  v_ceiling posthorn.tick := posthorn.tick_of(v_at.slot, v_at.ceiling);
begin
  if v_ceiling.id is null or v_floor.id is null and v_at.late then
    raise exception 'the ticks of subscription %, lane % are gone', p_subscription, p_lane using errcode = 'PH004';
  end if;
  if v_floor.id is not null then
    perform posthorn.copy_tick_of(p_slot, v_floor);
  end if;
  perform posthorn.copy_tick_of(p_slot, v_ceiling);
  update posthorn.lane set slot = p_slot, n = v_at.n, floor = v_at.floor, ceiling = v_at.ceiling, last_id = v_at.last_id, late = v_at.late,
      late_xids = v_at.late_xids
    where subscription = p_subscription and lane = p_lane;
end $$;

-- seal_segments: of closed segments that nobody can choose any more; "sealed" when there was one.
create or replace function posthorn.seal_segments(p_ring posthorn.ring) returns text
language plpgsql as $$
declare
  v_horizon xid8;
  v_xid xid8;
begin
  if not exists (select from posthorn.segment s where s.closed_xid is not null and s.sealed_xid is null) then
    return null;
  end if;
  v_horizon := (posthorn.horizon()).xid;
  if not exists (select from posthorn.segment s where s.sealed_xid is null and s.closed_xid < v_horizon) then
    return null;
  end if;
  -- Drawn after the look: whoever chose this slot has written to it by now, and has a lower one. So have its messages.
  v_xid := pg_current_xact_id();
  update posthorn.segment s set sealed_at = clock_timestamp(), sealed_xid = v_xid, sealed_id = coalesce(pg_sequence_last_value('posthorn.message_id'), 0)
    where s.sealed_xid is null and s.closed_xid < v_horizon;
  return 'sealed';
end $$;

-- still_upto(ring): the newest segment that is still, with all before it; one below the first when none is.
create or replace function posthorn.still_upto(p_ring posthorn.ring) returns bigint
language plpgsql as $$
declare
  v_horizon xid8 := (posthorn.horizon()).xid;
begin
  return coalesce((select min(s.n) from posthorn.segment s where s.sealed_xid is null or s.sealed_xid >= v_horizon),
    p_ring.first_segment + cardinality(p_ring.slots)) - 1;
end $$;

-- advance_lanes: looks how far each lane has come with the segments that are still; "advanced" when one has come on.
create or replace function posthorn.advance_lanes(p_ring posthorn.ring) returns text
language plpgsql as $$
declare
  v_still bigint;
  v_lane record;
  v_read bigint[] := '{}';
  v_subscriptions int[] := '{}';
  v_lanes int[] := '{}';
  v_count int;
begin
  if not exists (select from posthorn.lane l where least(l.read_from, l.held_from) < p_ring.first_segment + cardinality(p_ring.slots) - 1) then
    return null;
  end if;
  v_still := posthorn.still_upto(p_ring);
  for v_lane in select l.subscription, l.lane, l.read_from, s.channel from posthorn.lane l join posthorn.subscription s on s.id = l.subscription
      where least(l.read_from, l.held_from) <= v_still loop
    v_subscriptions := v_subscriptions || v_lane.subscription;
    v_lanes := v_lanes || v_lane.lane;
    v_read := v_read || posthorn.read_upto(p_ring, v_lane.subscription, v_lane.lane, v_lane.channel, greatest(v_lane.read_from, p_ring.first_segment), v_still);
  end loop;
  -- A later statement than the looks at the positions: a claim that took from a segment lies before them. The slot of a lane is that of its newest
  -- claims; in the segments before it are no claims to come.
  with held as (
    select o.subscription, o.lane, min(p_ring.first_segment + array_position(p_ring.slots, m.slot) - 1) as segment
      from posthorn.open_places() o cross join lateral unnest(o.slots) m(slot) group by 1, 2
  ), found as (
    select f.subscription, f.lane, f.read_from, least(f.read_from, h.segment, p_ring.first_segment + array_position(p_ring.slots, l.slot) - 1) as held_from
      from unnest(v_subscriptions, v_lanes, v_read) f(subscription, lane, read_from)
      join posthorn.lane l on l.subscription = f.subscription and l.lane = f.lane
      left join held h on h.subscription = f.subscription and h.lane = f.lane
  )
  update posthorn.lane l set read_from = f.read_from, held_from = greatest(f.held_from, l.held_from) from found f
    where l.subscription = f.subscription and l.lane = f.lane and (l.read_from < f.read_from or l.held_from < f.held_from);
  get diagnostics v_count = row_count;
  return case when v_count > 0 then 'advanced' end;
end $$;

-- open_places(): claims that are open, with the slots that they lie in and took messages from.
create or replace function posthorn.open_places() returns table (subscription int, lane int, id bigint, worker bigint, slots smallint[])
language sql volatile as $$
  select c.subscription, c.lane, c.id, c.worker, array(select distinct p.slot from unnest(c.message_slots || s.slot) p(slot))
    from posthorn.worker w cross join (select unnest(r.slots) as slot from posthorn.ring r) s
    cross join lateral posthorn.open_claims_of(s.slot, w.id, w.oldest_open_claim, 2147483647) c
$$;

-- read_upto: the first segment from one on that a lane still has messages to take from, or that is not still.
create or replace function posthorn.read_upto(p_ring posthorn.ring, p_subscription int, p_lane int, p_channel int, p_from bigint, p_still bigint) returns bigint
language plpgsql as $$
declare
  v_at posthorn.position := posthorn.position_of(p_subscription, p_lane);
  v_ceiling posthorn.tick := posthorn.tick_of(v_at.slot, v_at.ceiling);
  v_floor_id bigint := case when v_at.late then (posthorn.tick_of(v_at.slot, v_at.floor)).ceiling_id end;
  v_now pg_snapshot := pg_current_snapshot();
  v_n bigint := p_from;
  v_slot smallint;
begin
  if v_ceiling.id is null then
    raise exception 'the ticks of subscription %, lane % are gone', p_subscription, p_lane using errcode = 'PH004';
  end if;
  while v_n <= p_still loop
    v_slot := p_ring.slots[v_n - p_ring.first_segment + 1];
    -- As a claim would look for them: what is left of the late part of its window, its main part with all behind it, and what its window missed.
    exit when v_at.late and (posthorn.late_page_of(v_slot, p_channel, p_lane, v_at.late_xids, v_at.last_id, v_floor_id, 1)).ids is not null;
    exit when posthorn.has_after_of(v_slot, p_channel, p_lane, coalesce(v_floor_id, v_at.last_id));
    exit when posthorn.late_xids_of(v_slot, p_channel, p_lane, v_ceiling.snapshot, v_ceiling.ceiling_id, p_ring.first_id, v_now) is not null;
    v_n := v_n + 1;
  end loop;
  return v_n;
end $$;

-- has_spilled: whether a message of a segment runs outside of its claim under its first delivery: its end belongs beside it.
create or replace function posthorn.has_spilled(p_slot smallint) returns boolean
language plpgsql as $$
begin
  return exists (select from posthorn.deferred d where d.token is not null and d.delivery = 1 and d.lane >= 0
    and posthorn.is_written_of(p_slot, d.channel, d.lane, d.message));
end $$;

-- is_over: whether a segment was kept for its time: that of topics always, that of all others while there is room.
create or replace function posthorn.is_over(p_ring posthorn.ring, p_segment posthorn.segment, p_retention posthorn.retention) returns boolean
language plpgsql as $$
begin
  return coalesce(posthorn.kept_until(p_segment, p_retention, posthorn.is_full(p_ring, p_retention)) <= clock_timestamp(), false);
end $$;

-- kept_until: how long a segment is kept; null while it is not known.
create or replace function posthorn.kept_until(p_segment posthorn.segment, p_retention posthorn.retention, p_full boolean) returns timestamptz
language plpgsql as $$
begin
  return p_segment.sealed_at + interval '1 ms' * greatest(case when p_full then 0 else p_retention.keep_ms end,
    (select max(c.keep_ms) from posthorn.channel c where c.keep_ms is not null and posthorn.has_channel_of(p_segment.slot, c.id)));
end $$;

-- pins(segment): the lanes that need it, each as text; empty when none does. The passes of the fleet keep it up to date.
create or replace function posthorn.pins(p_n bigint) returns text[]
language plpgsql as $$
begin
  return array(
    select format(case when count(*) filter (where l.read_from <= p_n) > 0
        then '"%s" has not taken all of its messages: have a worker work on it, or remove it' else '"%s" has messages of it that run' end, s.name)
      from posthorn.lane l join posthorn.subscription s on s.id = l.subscription
      where least(l.read_from, l.held_from) <= p_n group by s.name order by s.name)
    || array(select 'messages of it run, apart from those around them' from posthorn.segment s where s.n = p_n and posthorn.has_spilled(s.slot));
end $$;

-- waits_for(segment): the transaction that a segment waits for, and how to end it; null for none.
create or replace function posthorn.waits_for(p_segment posthorn.segment) returns text
language plpgsql as $$
declare
  v_horizon record;
begin
  if p_segment.closed_xid is null then
    return null;
  end if;
  select * into v_horizon from posthorn.horizon();
  if v_horizon.xid > coalesce(p_segment.finished_xid, p_segment.sealed_xid, p_segment.closed_xid) then
    return null;
  elsif v_horizon.prepared is not null then
    return format('the transaction "%s" is prepared since %s: commit prepared or rollback prepared ends it', v_horizon.prepared, v_horizon.since);
  end if;
  return format('the transaction of backend %s is open%s: select pg_terminate_backend(%1$s) ends it', v_horizon.pid, ' since ' || v_horizon.since);
end $$;

-- segment_now(slot): what is in a slot: { segment, state, opened_at, closed_at, bytes, pinned_by }. `state` is empty, active, kept, or pinned: it was kept
-- for its time, and something needs it still.
create or replace function posthorn.segment_now(
  p_slot smallint, out segment bigint, out state text, out opened_at timestamptz, out closed_at timestamptz, out bytes bigint, out kept_until timestamptz,
  out pinned_by text[]
) language plpgsql as $$
declare
  v_ring posthorn.ring;
  v_segment posthorn.segment;
  v_retention posthorn.retention;
begin
  select * into v_ring from posthorn.ring;
  select * into v_segment from posthorn.segment s where s.slot = p_slot;
  select * into v_retention from posthorn.retention;
  segment := v_segment.n;
  bytes := posthorn.bytes_of(p_slot);
  pinned_by := '{}';
  if segment is null then
    state := 'empty';
    return;
  end if;
  opened_at := v_segment.opened_at;
  closed_at := v_segment.closed_at;
  if closed_at is null then
    state := 'active';
    return;
  end if;
  -- Before that transaction has ended nobody looks whether a lane has done with it.
  pinned_by := coalesce(array[posthorn.waits_for(v_segment)], '{}');
  if pinned_by[1] is null then
    pinned_by := posthorn.pins(segment);
  end if;
  kept_until := posthorn.kept_until(v_segment, v_retention, posthorn.is_full(v_ring, v_retention));
  -- Where it is not known, somebody may still write to it.
  state := case when pinned_by <> '{}' and coalesce(kept_until, closed_at) <= clock_timestamp() then 'pinned' else 'kept' end;
end $$;

-- is_full: whether the log is larger than what was said to be kept.
create or replace function posthorn.is_full(p_ring posthorn.ring, p_retention posthorn.retention) returns boolean
language plpgsql as $$
begin
  return (select sum(posthorn.bytes_of(u.slot)) from unnest(p_ring.slots) u(slot)) > p_retention.max_bytes;
end $$;

-- space_in_words(): why the log cannot go on to another segment: what the oldest waits for; null while it can.
create or replace function posthorn.space_in_words() returns text
language plpgsql as $$
declare
  v_ring posthorn.ring;
  v_now record;
begin
  select * into v_ring from posthorn.ring;
  if posthorn.next_slot(v_ring) is not null then
    return null;
  end if;
  select * into v_now from posthorn.segment_now(v_ring.slots[1]);
  return format('The log grows in its newest segment, because all eight are in use. The oldest, closed at %s, %s.', v_now.closed_at,
    case when v_now.pinned_by <> '{}' then 'is pinned: ' || array_to_string(v_now.pinned_by, '; ')
      when v_now.kept_until > clock_timestamp() then 'is kept until ' || v_now.kept_until::text
      else 'goes with the next pass of a worker' end);
end $$;

-- truncate_segment: "truncated" when the oldest segment was. Not while anybody may have an older picture of the log, or touches one of its tables.
create or replace function posthorn.truncate_segment(p_ring posthorn.ring, p_segment posthorn.segment, p_retention posthorn.retention) returns text
language plpgsql as $$
begin
  if (posthorn.horizon()).xid <= p_segment.finished_xid or not pg_try_advisory_xact_lock(posthorn.lock_key('truncate')) then
    return null;
  end if;
  begin
    perform posthorn.lock_slot(p_segment.slot);
  exception when lock_not_available then
    return null;
  end;
  if posthorn.pins(p_segment.n) <> '{}' or not posthorn.is_over(p_ring, p_segment, p_retention) then
    -- A reader that was made meanwhile, or a topic that is kept longer.
    update posthorn.segment set finished_xid = null where n = p_segment.n;
    return null;
  end if;
  perform posthorn.truncate_slot(p_segment.slot);
  delete from posthorn.segment where n = p_segment.n;
  -- Nobody wrote to it after it was sealed.
  update posthorn.retention set forgotten_until = greatest(forgotten_until, p_segment.sealed_at);
  update posthorn.ring set slots = slots[2 :], first_segment = first_segment + 1, forgotten_upto = greatest(forgotten_upto, p_segment.sealed_id);
  return 'truncated';
end $$;

-- rebase_segments(): for a database that was moved to another server, where no transaction id means anything: segments that are closed are found to be so
-- anew. Before any traffic.
create or replace function posthorn.rebase_segments() returns void
language plpgsql as $$
begin
  update posthorn.segment set closed_xid = pg_current_xact_id(), sealed_xid = null, finished_xid = null where closed_xid is not null;
end $$;
