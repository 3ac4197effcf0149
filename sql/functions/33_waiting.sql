-- Which messages wait: the oldest of a reader with their ids, so that of each can be asked why. For people, and bounded: it reads the next messages of each lane
-- by the log's own index, counts nothing, takes nothing and locks nothing.

-- waiting_messages(name, limit, states): the oldest messages of a queue or subscription that have not ended, in the order in which they were said, as JSON
--   { name, kind, channel, now, more, messages: [{ message, contract, version, key, publishedAt, since, state, at, delivery, attempts, crashes, dueAt, expiresAt,
--   worker, outcome, error, note }] }. Of the states queued, scheduled, retrying, parked and running; null: all, but not what is scheduled for later. `more`: there
--   are others, or may be: outside of the log the 10,000 that were said first are looked at, those that are due next, and those that run. Stable, so that all
--   is read in one snapshot: what moves meanwhile is met once. Raises PH060, PH015.
-- The plans are those of the indexes, whatever the statistics say; `offset 0` keeps what is probed for each row from becoming a join, which would read all.
create or replace function posthorn.waiting_messages(p_name text, p_limit int, p_states text[] default null) returns json
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_row posthorn.subscription := posthorn.reader(p_name);
  v_states text[] := coalesce(p_states, '{queued,scheduled,retrying,parked,running}');
  v_limit int := least(greatest(coalesce(p_limit, 20), 1), 1000);
begin
  if v_states = '{}' or not v_states <@ '{queued,scheduled,retrying,parked,running}' then
    raise exception 'what waits is of the states queued, scheduled, retrying, parked, running, got %', left(array_to_string(v_states, ', ', 'null'), 200)
      using errcode = 'PH015';
  end if;
  return (
    with found as materialized (
      select * from posthorn.waiting_outside(v_row.id, v_states, p_states is null, v_limit + 1)
      union all
      select * from posthorn.running_in_log(v_row.id, v_row.idempotency = 'transaction', v_limit + 1) where 'running' = any (v_states)
      union all
      select * from posthorn.unclaimed(v_row.id, v_row.channel, v_limit + 1) where 'queued' = any (v_states)
    ), shown as materialized (
      select * from found order by message limit v_limit
    )
    select json_build_object('name', v_row.name, 'kind', h.kind, 'channel', h.name, 'now', clock_timestamp(),
        'more', (select count(*) > v_limit from found) or exists (select from posthorn.deferred d where d.subscription = v_row.id order by d.message offset 10000),
        'messages', (select coalesce(json_agg(json_strip_nulls(json_build_object('message', posthorn.public_id(w.message, w.nonce), 'contract', c.name,
            'version', c.version, 'key', w.key, 'publishedAt', w.published_at, 'since', coalesce(d.since, w.published_at), 'state', w.state, 'at', w.at,
            'delivery', coalesce(d.delivery, 1), 'attempts', coalesce(d.attempts, 0), 'crashes', coalesce(d.crashes, 0),
            'dueAt', nullif(d.due_at, 'infinity'), 'expiresAt', w.expires_at,
            'worker', (select json_build_object('id', k.id::text, 'service', k.service, 'host', k.host, 'pid', k.pid) from posthorn.worker k where k.id = w.worker),
            'outcome', e.entry -> 'outcome', 'note', left(e.entry ->> 'note', 1000), 'error', case when e.entry -> 'error' is not null then json_build_object(
              'name', left(e.entry #>> '{error,name}', 100), 'code', left(e.entry #>> '{error,code}', 100), 'message', left(e.entry #>> '{error,message}', 1000)) end))
          order by w.message), '[]')
          from shown w join posthorn.contract c on c.id = w.contract left join lateral (select * from posthorn.deferred d where d.id = w.deferred offset 0) d on true
            left join lateral (select d.history -> -1) e(entry) on true))
      from posthorn.channel h where h.id = v_row.channel);
end $$;

-- waiting_outside: deliveries that wait or run outside of the log. `p_now`: not those that are scheduled for later.
-- Plan: deferred_subscription_message_key from the first on; deferred_due, for each priority; deferred_held, for each worker.
create or replace function posthorn.waiting_outside(p_subscription int, p_states text[], p_now boolean, p_limit int)
returns table (message bigint, nonce bigint, contract int, key text, published_at timestamptz, state text, at timestamptz, worker bigint, expires_at timestamptz,
  deferred bigint)
language plpgsql stable as $$
begin
  return query
    with oldest as materialized (
      select d.id, d.token, d.place, d.due_at, d.reason, d.message from posthorn.deferred d where d.subscription = p_subscription order by d.message limit 10000
    ), looked as (
      select o.id, o.token, o.place, o.due_at, o.reason, o.message from oldest o
      union
      select n.id, n.token, n.place, n.due_at, n.reason, n.message from posthorn.classes(p_subscription) c(class) cross join lateral (
        select * from posthorn.deferred d where d.subscription = p_subscription and d.priority = c.class and d.token is null order by d.due_at limit p_limit) n
      union
      select r.id, r.token, r.place, r.due_at, r.reason, r.message from posthorn.worker w cross join lateral (
        select * from posthorn.deferred d where d.worker = w.id and d.token is not null offset 0) r where r.subscription = p_subscription
    ), chosen as materialized (
      select l.id from looked l cross join lateral (select posthorn.waiting_state(l.token, l.place, l.due_at, l.reason)) s(state)
        where s.state = any (p_states) and not (p_now and s.state = 'scheduled' and l.due_at > statement_timestamp()) order by l.message limit p_limit
    )
    select d.message, d.nonce, d.contract, d.key, d.published_at, posthorn.waiting_state(d.token, d.place, d.due_at, d.reason),
        case when d.token is not null then d.taken_at end, case when d.token is not null then d.worker end, d.expires_at, d.id
      from chosen c cross join lateral (select * from posthorn.deferred d where d.id = c.id offset 0) d;
end $$;

-- running_in_log: messages of claims that workers hold open, and that have no end yet. Bounded by what runs in the fleet.
create or replace function posthorn.running_in_log(p_subscription int, p_ends boolean, p_limit int)
returns table (message bigint, nonce bigint, contract int, key text, published_at timestamptz, state text, at timestamptz, worker bigint, expires_at timestamptz,
  deferred bigint)
language sql stable as $$
  select m.id, m.nonce, m.contract, m.key, m.published_at, 'running', h.at, h.worker, m.expires_at, null::bigint
    from (select h.*, w.id as worker, s.channel from posthorn.subscription s cross join posthorn.ring r cross join lateral unnest(r.slots) u(slot)
        cross join posthorn.worker w cross join lateral posthorn.held_of(u.slot, s.id, w.id, w.oldest_open_claim, p_ends, p_limit) h
      where s.id = p_subscription order by h.message limit p_limit) h
    cross join lateral posthorn.messages_of(h.slot, h.channel, h.lane, h.message - 1, h.message, 1) m
$$;

-- held_of: messages of a worker's open claims that no part has ended and, where handlers end them in their own transaction, no ending.
-- Plan: claim_N_by_id from an id on, and probes of settlement_N_by_part and ending_N_by_delivery. `offset 0` keeps the probes from becoming joins, and the
-- search for claims from reading all those of the subscription.
select posthorn.by_slot('held_of(p_slot smallint, p_subscription int, p_worker bigint, p_from bigint, p_ends boolean, p_limit int)',
  'table (message bigint, slot smallint, lane int, at timestamptz) stable', $body$
  return query select m.id, coalesce(m.slot, {slot}::smallint), c.lane, c.at from (
      select * from posthorn.claim_{slot} c where c.id >= p_from and c.worker = p_worker
        and not exists (select from posthorn.settlement_{slot} t where t.claim = c.id and t.closes offset 0) offset 0) c
    cross join lateral (select coalesce(array_agg(e.id), '{}') as ids from (select * from posthorn.settlement_{slot} t where t.claim = c.id offset 0) t
      cross join lateral unnest(coalesce(t.messages, c.messages)) e(id) where t.outcome is distinct from 'begun') ended
    cross join lateral unnest(c.messages, c.message_slots) m(id, slot)
    where c.subscription = p_subscription and m.id <> all (ended.ids)
      and not (p_ends and posthorn.has_ended(coalesce(m.slot, {slot}::smallint), c.subscription, m.id))
    order by m.id limit p_limit;
$body$);

-- has_ended: as has_ended_of, in the caller's snapshot.
select posthorn.by_slot('has_ended(p_slot smallint, p_subscription int, p_message bigint)', 'boolean stable', $body$
  return exists (select from posthorn.ending_{slot} e where e.message = p_message and e.subscription = p_subscription and e.delivery = 1);
$body$);

-- unclaimed: the next messages of each lane that nobody has claimed: those behind its position, and those before it that were committed late; see claim.
create or replace function posthorn.unclaimed(p_subscription int, p_channel int, p_limit int)
returns table (message bigint, nonce bigint, contract int, key text, published_at timestamptz, state text, at timestamptz, worker bigint, expires_at timestamptz,
  deferred bigint)
language plpgsql stable as $$
declare
  v_ring posthorn.ring;
  v_now pg_snapshot := pg_current_snapshot();
  v_lane record;
  v_at posthorn.position;
  v_seen posthorn.tick;
  v_upto bigint;
  v_slots smallint[];
  v_slot smallint;
  v_late xid8[];
begin
  select * into v_ring from posthorn.ring;
  for v_lane in select l.lane, l.read_from from posthorn.lane l where l.subscription = p_subscription loop
    v_slots := posthorn.slots_from(v_ring, v_lane.read_from);
    v_at := posthorn.position_of(p_subscription, v_lane.lane);
    v_seen := posthorn.tick_of(v_at.slot, v_at.ceiling);
    v_upto := case when v_at.late then (posthorn.tick_of(v_at.slot, v_at.floor)).ceiling_id else v_at.last_id end;
    foreach v_slot in array v_slots loop
      v_late := posthorn.late_since_of(v_slot, p_channel, v_lane.lane, v_seen.snapshot, v_upto, v_ring.first_id, v_now);
      return query select m.id, m.nonce, m.contract, m.key, m.published_at, 'queued', null::timestamptz, null::bigint, m.expires_at, null::bigint from (
          select * from posthorn.messages_of(v_slot, p_channel, v_lane.lane, v_upto, 9223372036854775807, p_limit, p_subscription)
          union all
          select * from posthorn.late_messages_of(v_slot, p_channel, v_lane.lane, v_at.late_xids, v_at.last_id, v_upto, p_limit, p_subscription) where v_at.late
          union all
          select * from posthorn.late_messages_of(v_slot, p_channel, v_lane.lane, v_late, v_ring.first_id - 1, v_upto, p_limit, p_subscription) where v_late is not null
        ) m;
    end loop;
  end loop;
end $$;

-- late_since_of: as late_xids_of, and bounded: of the transactions that began to say something after the snapshot was taken only the first can have drawn an id
-- before it, and 10,000 of their lists are looked at.
-- Plan: message_N_by_xid, one probe for each transaction that ran then, and a range that stops at the limit.
select posthorn.by_slot(
  'late_since_of(p_slot smallint, p_channel int, p_lane int, p_seen pg_snapshot, p_upto bigint, p_first_id bigint, p_now pg_snapshot)', 'xid8[] stable', $body$
  return (select array_agg(distinct late.xid) from (
    select probe.xid from pg_snapshot_xip(p_seen) running(xid)
      cross join lateral (select m.xid from posthorn.message_{slot} m
        where ((m.channel::bigint << 32) | m.lane) = ((p_channel::bigint << 32) | p_lane) and m.reach is not null
          and m.xid = running.xid and m.id >= p_first_id and m.id <= p_upto limit 1) probe
      where pg_visible_in_snapshot(running.xid, p_now)
    union all
    select m.xid from (select m.xid, m.id from posthorn.message_{slot} m
        where ((m.channel::bigint << 32) | m.lane) = ((p_channel::bigint << 32) | p_lane) and m.reach is not null
          and m.xid >= pg_snapshot_xmax(p_seen) and m.xid < pg_snapshot_xmax(p_now) order by m.xid, m.id limit 10000) m
      where m.id >= p_first_id and m.id <= p_upto and pg_visible_in_snapshot(m.xid, p_now)) late);
$body$);

-- messages_of: committed messages of a lane after an id and up to another, by id, without those that a subscription's marks cancel.
-- Plan: message_N_by_id, range on id, stops at the limit.
select posthorn.by_slot(
  'messages_of(p_slot smallint, p_channel int, p_lane int, p_after bigint, p_upto bigint, p_limit int, p_marked int default null)',
  'table (id bigint, nonce bigint, contract int, key text, published_at timestamptz, expires_at timestamptz) stable', $body$
  return query select m.id, m.nonce, m.contract, m.key, m.published_at, m.expires_at from posthorn.message_{slot} m
    where m.channel = p_channel and m.lane = p_lane and m.id > p_after and m.id <= p_upto
      and not exists (select from posthorn.cancel_mark k where k.subscription = p_marked and k.message = m.id offset 0)
    order by m.id limit p_limit;
$body$);

-- late_messages_of: the same of the listed transactions. Plan: as late_page_of, which is for the hot path and reads payloads.
select posthorn.by_slot(
  'late_messages_of(p_slot smallint, p_channel int, p_lane int, p_xids xid8[], p_after bigint, p_upto bigint, p_limit int, p_marked int)',
  'table (id bigint, nonce bigint, contract int, key text, published_at timestamptz, expires_at timestamptz) stable', $body$
  return query select late.id, late.nonce, late.contract, late.key, late.published_at, late.expires_at from unnest(p_xids) listed(xid)
    cross join lateral (select m.* from posthorn.message_{slot} f
      cross join lateral (select * from posthorn.message_{slot} m
        where m.channel = p_channel and m.lane = p_lane and m.id > greatest(p_after, f.id - 1) and m.id <= least(p_upto, f.id + f.reach) and m.xid = f.xid
          and not exists (select from posthorn.cancel_mark k where k.subscription = p_marked and k.message = m.id offset 0)
        order by m.id limit p_limit) m
      where ((f.channel::bigint << 32) | f.lane) = ((p_channel::bigint << 32) | p_lane) and f.reach is not null and f.xid = listed.xid and f.id <= p_upto
        and f.id >= coalesce((select b.id from posthorn.message_{slot} b
          where ((b.channel::bigint << 32) | b.lane) = ((p_channel::bigint << 32) | p_lane) and b.reach is not null and b.xid = listed.xid and b.id <= p_after
          order by b.id desc limit 1), 0)
      order by f.id, m.id limit p_limit) late
    order by late.id limit p_limit;
$body$);
