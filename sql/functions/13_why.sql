-- Why a message is where it is. For people and tools, not for the hot path.

-- why(public id): the facts that decide what became of a message, for each of its receivers, as JSON
--   { message, kind, contract, version, channel, publishedAt, now, receivers: [{ subscription, state, … }] };
--   null when no message has this id. `state` is null for a reader that began after the message. Stable, so everything is read in
--   one snapshot and no message is met between two states; whether a worker lives is looked up at the end, as it is then.
create or replace function posthorn.why(p_public text) returns json
language plpgsql stable as $$
declare
  v_id bigint := posthorn.id_of(p_public);
  v_nonce bigint := posthorn.nonce_of(p_public);
  v_found record;
  v_contract int;
  v_published_at timestamptz;
  v_receivers json;
begin
  select * into v_found from posthorn.where_in_log(v_id, v_nonce);
  v_contract := v_found.contract;
  v_published_at := v_found.published_at;
  if v_contract is null then
    select w.contract, w.published_at into v_contract, v_published_at from (
      select w.contract, w.published_at from posthorn.subscription s join posthorn.deferred w on w.subscription = s.id and w.message = v_id and w.nonce = v_nonce
      union all select w.contract, w.published_at from posthorn.subscription s join posthorn.dead_letter w on w.subscription = s.id and w.message = v_id and w.nonce = v_nonce
      union all select w.contract, w.published_at from posthorn.subscription s join posthorn.invalid w on w.subscription = s.id and w.message = v_id and w.nonce = v_nonce
      union all select w.contract, w.published_at from posthorn.subscription s join posthorn.discarded w on w.subscription = s.id and w.message = v_id and w.nonce = v_nonce
      union all select w.contract, w.published_at from posthorn.subscription s join posthorn.cancelled w on w.subscription = s.id and w.message = v_id and w.nonce = v_nonce) w limit 1;
  end if;
  if v_contract is null then
    return null;
  end if;
  select coalesce(json_agg(f.facts order by s.name), '[]') into v_receivers
    from posthorn.contract c join posthorn.subscription s on s.channel = c.channel
    cross join lateral (select coalesce(posthorn.why_waiting(s, v_id, v_nonce),
      case when v_found.contract is not null then posthorn.why_in_log(s, v_found.lane, v_id, v_found.xid) end)) f(facts)
    where c.id = v_contract and f.facts is not null;
  return (select json_build_object('message', p_public, 'kind', c.kind, 'contract', c.name, 'version', c.version, 'channel', h.name,
      'publishedAt', v_published_at, 'now', clock_timestamp(), 'receivers', (
        select coalesce(json_agg(r::jsonb || posthorn.why_attended(r ->> 'subscription', c.name) || posthorn.why_told(r, v_id, v_nonce)
          || jsonb_strip_nulls(jsonb_build_object('limits', posthorn.limits_now(r ->> 'subscription'))) || coalesce((
            select jsonb_build_object('circuit', posthorn.circuit_of(s.id)) from posthorn.subscription s where s.name = r ->> 'subscription'
              and s.has_breaker), '{}') || coalesce((select jsonb_build_object('paused', posthorn.pause_of(s)) from posthorn.subscription s
              where s.name = r ->> 'subscription' and s.paused_at is not null), '{}') || coalesce((select jsonb_build_object('relay', s.policy -> 'relay')
              from posthorn.subscription s where s.name = r ->> 'subscription' and s.policy -> 'relay' is not null), '{}')), '[]')
          from json_array_elements(v_receivers) r))
    from posthorn.contract c join posthorn.channel h on h.id = c.channel where c.id = v_contract);
end $$;

-- where_in_log: the place of a message in the log; null columns when it is not there.
create or replace function posthorn.where_in_log(
  p_id bigint, p_nonce bigint, out slot smallint, out lane int, out contract int, out published_at timestamptz, out xid xid8
) language plpgsql stable as $$
declare
  v_slot smallint;
begin
  for v_slot in select unnest(slots) from posthorn.ring loop
    execute format('select m.lane, m.contract, m.published_at, m.xid from posthorn.channel c
        cross join lateral (select generate_series(0, c.lanes - 1) union all select -1 where c.kind = ''command''
          union all select l.lane from posthorn.subscription s join posthorn.lane l on l.subscription = s.id where s.channel = c.id and l.lane > 1024) l(lane)
        cross join lateral (select * from posthorn.message_%s m where m.channel = c.id and m.lane = l.lane and m.id = $1) m where m.nonce = $2', v_slot)
      into lane, contract, published_at, xid using p_id, p_nonce;
    if contract is not null then
      slot := v_slot;
      return;
    end if;
  end loop;
end $$;

-- why_waiting: the facts of a message that waits, runs again or ended outside of the log; null when it is in none of these tables.
create or replace function posthorn.why_waiting(p_subscription posthorn.subscription, p_id bigint, p_nonce bigint) returns json
language sql stable as $$
  select json_strip_nulls(json_build_object('subscription', p_subscription.name, 'state', w.state, 'delivery', w.delivery, 'attempts', w.attempts,
      'crashes', w.crashes, 'at', w.at, 'dueAt', w.due_at, 'expiresAt', w.expires_at,
      'behind', (select posthorn.public_id(b.message, b.nonce) from posthorn.deferred b where b.id = w.behind),
      'reason', w.reason, 'by', w.by, 'issues', w.issues, 'worker', posthorn.why_worker(w.worker),
      'keptUntil', w.keep_until, 'before', case when w.state in ('queued', 'retrying', 'scheduled') then (
        select count(*) from (select from posthorn.deferred d where d.subscription = p_subscription.id and d.token is null and d.due_at < w.due_at
          limit 100001) d) end,
      'steps', posthorn.why_steps(p_subscription.id, p_id),
      'order', case when w.place is not null then posthorn.why_order(p_subscription.id, w.key, w.place) end,
      'error', (select e.entry -> 'error' from json_array_elements(w.history) with ordinality e(entry, n)
        where e.entry ->> 'error' is not null order by e.n desc limit 1),
      'lastEntry', (select json_build_object('outcome', e.entry -> 'outcome', 'endedAt', e.entry -> 'endedAt', 'by', e.entry -> 'by',
          'note', e.entry -> 'note', 'times', e.entry -> 'times')
        from json_array_elements(w.history) with ordinality e(entry, n) order by e.n desc limit 1)))
  from (
    select posthorn.waiting_state(token, place, due_at, reason) as state, delivery, attempts, crashes, taken_at as at, nullif(due_at, 'infinity') as due_at,
        reason::text, null as by, null::json as issues, worker, null::timestamptz as keep_until, history, key, place, expires_at, behind
      from posthorn.deferred where subscription = p_subscription.id and message = p_id and nonce = p_nonce
    union all
    select 'dead', delivery, attempts, crashes, died_at, null, reason, null, null, null, keep_until, history, key, place, null, null
      from posthorn.dead_letter where subscription = p_subscription.id and message = p_id and nonce = p_nonce
    union all
    select 'invalid', delivery, null, null, found_at, null, null, null, issues, null, null, history, key, place, null, null
      from posthorn.invalid where subscription = p_subscription.id and message = p_id and nonce = p_nonce
    union all
    select 'discarded', delivery, attempts, null, discarded_at, null, reason, discarded_by, null, null, keep_until, history, null, null, null, null
      from posthorn.discarded where subscription = p_subscription.id and message = p_id and nonce = p_nonce
    union all
    select 'cancelled', delivery, attempts, null, cancelled_at, null, reason, cancelled_by, null, null, keep_until, history, null, null, null, null
      from posthorn.cancelled where subscription = p_subscription.id and message = p_id and nonce = p_nonce
  ) w
$$;

-- why_order: the order of a key around one of its messages, as JSON { key, ahead, behind, first: { message, state, dueAt } }: how many messages are
-- before it and behind it, and the one that all wait for.
create or replace function posthorn.why_order(p_subscription int, p_key text, p_place bigint) returns json
language sql stable as $$
  with row as (
    select d.place, posthorn.public_id(d.message, d.nonce) as message, posthorn.waiting_state(d.token, d.place, d.due_at, d.reason) as state, d.due_at
      from posthorn.deferred d where d.subscription = p_subscription and d.key = p_key and d.place is not null
    union all
    select d.place, posthorn.public_id(d.message, d.nonce), 'dead', null from posthorn.dead_letter d
      where d.subscription = p_subscription and d.key = p_key and d.place is not null
    union all
    select d.place, posthorn.public_id(d.message, d.nonce), 'invalid', null from posthorn.invalid d
      where d.subscription = p_subscription and d.key = p_key and d.place is not null
  )
  select json_build_object('key', p_key, 'ahead', (select count(*) from row where place < p_place), 'behind', (select count(*) from row where place > p_place),
    'first', (select json_build_object('message', f.message, 'state', f.state, 'dueAt', nullif(f.due_at, 'infinity')) from row f order by f.place limit 1))
$$;

-- why_worker: who that is, and why it counts as dead if it does; null when it is forgotten.
create or replace function posthorn.why_worker(p_worker bigint) returns json
language sql stable as $$
  select json_build_object('id', w.id::text, 'service', w.service, 'host', w.host, 'pid', w.pid, 'dead',
      (select d.why from posthorn.dead_workers() d where d.worker = w.id))
    from posthorn.worker w where w.id = p_worker
$$;

-- why_in_log: the facts of a message that only the log knows.
create or replace function posthorn.why_in_log(p_subscription posthorn.subscription, p_lane int, p_id bigint, p_xid xid8) returns json
language plpgsql stable as $$
declare
  v_fate record;
begin
  select * into v_fate from posthorn.fate_in_log(p_subscription, p_lane, p_id, p_xid);
  return case
    when v_fate.state is null then json_build_object('subscription', p_subscription.name, 'state', null, 'at', p_subscription.created_at)
    when v_fate.state = 'running' then json_build_object('subscription', p_subscription.name, 'state', 'running', 'at', v_fate.at, 'delivery', 1,
      'attempts', 0, 'worker', posthorn.why_worker(v_fate.worker), 'steps', posthorn.why_steps(p_subscription.id, p_id))
    when v_fate.state = 'queued' then json_build_object('subscription', p_subscription.name, 'state', 'queued', 'delivery', 1, 'attempts', 0,
      'before', posthorn.count_between(p_subscription.channel, p_lane, (v_fate.lane_at).last_id, p_id, 100001),
      'perSecond', posthorn.recent_rate(p_subscription.id, p_lane, (v_fate.lane_at).slot))
    else json_build_object('subscription', p_subscription.name, 'at', v_fate.at, 'delivery', v_fate.delivery, 'reason', v_fate.outcome,
      'state', v_fate.state) end;
end $$;

-- fate_in_log: what became of a message that only the log knows: succeeded; dead, when it failed and is in no list, because its dead letter
-- was kept for its time and is gone; expired; running, in a claim; queued; null when it was passed by before the reader began.
create or replace function posthorn.fate_in_log(
  p_subscription posthorn.subscription, p_lane int, p_id bigint, p_xid xid8,
  out state text, out at timestamptz, out delivery int, out outcome text, out worker bigint, out lane_at posthorn.position
) language plpgsql stable as $$
declare
  v_slot smallint;
  v_claim posthorn.claim_1;
  v_ended record;
begin
  select * into v_ended from posthorn.newest_ending(p_subscription.id, p_id);
  for v_slot in select unnest(slots) from posthorn.ring loop
    execute format('select c.* from (select * from posthorn.claim_%1$s where subscription = $1 and lane = $2 and not took_late and last_id >= $3
        order by last_id, n limit 1) c where $3 = any (c.messages)
      union all select c.* from posthorn.claim_%1$s c where subscription = $1 and lane = $2 and took_late and $3 = any (c.messages) limit 1', v_slot)
      into v_claim using p_subscription.id, p_lane, p_id;
    exit when v_claim.id is not null;
  end loop;
  if v_ended.outcome is null and v_claim.id is not null then
    execute format('select t.outcome::text as outcome, t.at, 1 as delivery from posthorn.settlement_%s t where t.claim = $1
      and t.outcome is not null and t.outcome <> ''begun'' and (t.messages is null or $2 = any (t.messages)) order by t.part desc limit 1', v_slot)
      into v_ended using v_claim.id, p_id;
  end if;
  if v_ended.outcome is not null then
    state := case when v_ended.outcome in ('succeeded', 'skipped') then 'succeeded' when v_ended.outcome in ('expired', 'discarded') then v_ended.outcome else 'dead' end;
    at := v_ended.at;
    delivery := v_ended.delivery;
    outcome := v_ended.outcome;
  elsif v_claim.id is not null then
    state := 'running';
    at := v_claim.at;
    delivery := 1;
    worker := v_claim.worker;
  elsif p_lane >= 0 then
    lane_at := posthorn.why_position(p_subscription.id, p_lane);
    if not posthorn.is_passed(lane_at, p_id, p_xid) then
      state := 'queued';
      delivery := 1;
    end if;
  end if;
end $$;

-- newest_ending: how the newest ended delivery of a message ended that has an ending of its own; null columns when none has.
create or replace function posthorn.newest_ending(p_subscription int, p_id bigint, out outcome text, out at timestamptz, out delivery int)
language plpgsql stable as $$
declare
  v_slot smallint;
  v_ending record;
begin
  for v_slot in select unnest(slots) from posthorn.ring loop
    execute format('select e.outcome::text as outcome, e.at, e.delivery from posthorn.ending_%s e where e.message = $1 and e.subscription = $2
      order by e.delivery desc limit 1', v_slot) into v_ending using p_id, p_subscription;
    if v_ending.delivery > coalesce(delivery, 0) then
      outcome := v_ending.outcome;
      at := v_ending.at;
      delivery := v_ending.delivery;
    end if;
  end loop;
end $$;

-- why_position: as position_of, in the caller's snapshot.
create or replace function posthorn.why_position(p_subscription int, p_lane int) returns posthorn.position
language plpgsql stable as $$
declare
  v_at posthorn.position;
  v_newest posthorn.position;
begin
  select l.slot, l.n, l.floor, l.ceiling, l.last_id, l.late, l.late_xids into v_at
    from posthorn.lane l where l.subscription = p_subscription and l.lane = p_lane;
  execute format('select %1$s::smallint, n, floor, ceiling, last_id, late, late_xids from posthorn.claim_%1$s
    where subscription = $1 and lane = $2 order by n desc limit 1', v_at.slot) into v_newest using p_subscription, p_lane;
  return case when v_newest.n is null then v_at else v_newest end;
end $$;

-- is_passed: whether the windows up to a position hold a message. See claim for what a window holds.
create or replace function posthorn.is_passed(p_at posthorn.position, p_id bigint, p_xid xid8) returns boolean
language plpgsql stable as $$
declare
  v_floor posthorn.tick;
  v_ceiling posthorn.tick;
begin
  execute format('select id, ceiling_id, snapshot from posthorn.tick_%s where id = $1', p_at.slot) into v_floor using p_at.floor;
  execute format('select id, ceiling_id, snapshot from posthorn.tick_%s where id = $1', p_at.slot) into v_ceiling using p_at.ceiling;
  if p_id < (select r.first_id from posthorn.ring r) then
    -- Of an earlier epoch, whose transaction ids mean nothing here.
    return p_id <= p_at.last_id;
  elsif p_id > v_ceiling.ceiling_id or not pg_visible_in_snapshot(p_xid, v_ceiling.snapshot) then
    return false;
  elsif p_id > v_floor.ceiling_id then
    return not p_at.late and p_id <= p_at.last_id;
  end if;
  return pg_visible_in_snapshot(p_xid, v_floor.snapshot) or not p_at.late or p_id <= p_at.last_id;
end $$;

-- count_between: committed messages of a lane between two ids, counted up to a limit.
create or replace function posthorn.count_between(p_channel int, p_lane int, p_after bigint, p_before bigint, p_limit int) returns bigint
language plpgsql stable as $$
declare
  v_slot smallint;
  v_count bigint;
  v_sum bigint := 0;
begin
  for v_slot in select unnest(slots) from posthorn.ring loop
    execute format('select count(*) from (select from posthorn.message_%s m where m.channel = $1 and m.lane = $2 and m.id > $3 and m.id < $4 limit $5) m', v_slot)
      into v_count using p_channel, p_lane, p_after, p_before, p_limit;
    v_sum := v_sum + v_count;
  end loop;
  return least(v_sum, p_limit);
end $$;

-- recent_rate: messages a second that left a lane in the last minute while anybody worked on it; null when none did. Of the newest
-- hundred claims; pauses between them do not count.
create or replace function posthorn.recent_rate(p_subscription int, p_lane int, p_slot smallint) returns float8
language plpgsql stable as $$
declare
  v_rate float8;
begin
  execute format('with recent as (
      select c.at, cardinality(c.messages) as messages, (select t.at from posthorn.settlement_%1$s t where t.claim = c.id and t.closes) as closed_at
      from posthorn.claim_%1$s c where c.subscription = $1 and c.lane = $2 order by c.n desc limit 100)
    select (select sum(messages) filter (where closed_at is not null) from recent where at > clock_timestamp() - interval ''1 minute'')
      / nullif(sum(extract(epoch from upper(b) - lower(b))), 0)
    from (select range_agg(tstzrange(at, greatest(at, coalesce(closed_at, clock_timestamp())), ''[]'')) as busy from recent
      where at > clock_timestamp() - interval ''1 minute'') r cross join lateral unnest(r.busy) b', p_slot)
    into v_rate using p_subscription, p_lane;
  return v_rate;
end $$;

-- why_attended: who works on a subscription now, and which of them have a handler for which version of a contract, as JSON
--   { attended: { workers, versions: [{ version, workers }], lastSign } }. Dead workers do not count; `lastSign` is the newest trace of any, null when there was none.
create or replace function posthorn.why_attended(p_subscription text, p_contract text) returns jsonb
language sql stable as $$
  with here as (
    select a.worker, posthorn.every_of(s.id, a.contracts) as contracts, s.id as subscription from posthorn.subscription s join posthorn.attendance a on a.subscription = s.id
      where s.name = p_subscription and a.worker not in (select d.worker from posthorn.dead_workers() d)
  )
  select jsonb_build_object('attended', jsonb_build_object('workers', (select count(*) from here), 'versions', (
      select coalesce(jsonb_agg(jsonb_build_object('version', v.version, 'workers', v.workers) order by v.version), '[]') from (
        select c.version, count(*) as workers from here h join posthorn.contract c on c.id = any (h.contracts) where c.name = p_contract group by 1) v),
    'lastSign', (select greatest(s.declared_at, posthorn.newest_claim_at(s.id), (select max(w.heartbeat_at) from posthorn.attendance a
        join posthorn.worker w on w.id = a.worker where a.subscription = s.id)) from posthorn.subscription s where s.name = p_subscription)))
$$;

-- newest_claim_at: when anybody last claimed of a subscription.
create or replace function posthorn.newest_claim_at(p_subscription int) returns timestamptz
language plpgsql stable as $$
declare
  v_lane record;
  v_at timestamptz;
  v_newest timestamptz;
begin
  for v_lane in select l.lane, u.slot from posthorn.lane l cross join posthorn.ring r cross join lateral unnest(r.slots) u(slot)
      where l.subscription = p_subscription loop
    execute format('select at from posthorn.claim_%s where subscription = $1 and lane = $2 order by n desc limit 1', v_lane.slot)
      into v_at using p_subscription, v_lane.lane;
    v_newest := greatest(v_newest, v_at);
  end loop;
  return v_newest;
end $$;
