-- Dead workers and what they held.

-- register_worker(…): a new worker; its claims will have higher ids than the sequence shows now.
create or replace function posthorn.register_worker(
  p_service text, p_host text, p_pid int, p_timeout_ms int, p_session_key bigint, p_backends json, p_attends json, p_library text default null
) returns bigint
language plpgsql as $$
declare
  v_worker bigint;
begin
  perform posthorn.require_home();
  perform posthorn.hold_policies(p_service, p_attends);
  -- Whose its sessions are: a rescuer, which has the rights of the owner, ends no others.
  insert into posthorn.worker (service, host, pid, timeout_ms, session_key, backends, oldest_open_claim, library)
    values (p_service, p_host, p_pid, p_timeout_ms, p_session_key,
      coalesce((select json_agg(b.one::jsonb || jsonb_build_object('role', session_user::text)) from json_array_elements(p_backends) b(one)), '[]'), coalesce(pg_sequence_last_value('posthorn.claim_id'), 0), p_library)
    returning id into v_worker;
  insert into posthorn.attendance (worker, subscription, contracts, policy)
    select v_worker, a.subscription, a.contracts, a.policy from json_to_recordset(p_attends) as a(subscription int, contracts int[], policy json);
  return v_worker;
end $$;

-- heartbeat(worker, oldest open claim): null when the worker counts as dead; it must then drop what it holds and register anew.
-- `p_oldest` is null for "none": the bound then moves on to the newest claim of all, but not past a claim of this worker that is
-- under way or whose answer has not arrived.
create or replace function posthorn.heartbeat(p_worker bigint, p_oldest bigint) returns boolean
language plpgsql as $$
declare
  v_oldest bigint := p_oldest;
  v_last bigint := coalesce(pg_sequence_last_value('posthorn.claim_id'), 0);
begin
  perform posthorn.require_home();
  -- In this order: a claim that is neither under way now nor committed below draws its id later.
  if v_oldest is null and not posthorn.is_locked(posthorn.lock_key('worker', p_worker)) then
    select v_last into v_oldest where not exists (
      select from posthorn.worker w cross join (select unnest(slots) as slot from posthorn.ring) s
        cross join lateral posthorn.open_claims_of(s.slot, w.id, w.oldest_open_claim, 1) where w.id = p_worker);
  end if;
  update posthorn.worker w set heartbeat_at = clock_timestamp(), oldest_open_claim = coalesce(v_oldest, w.oldest_open_claim) where w.id = p_worker;
  return case when found then true end;
end $$;

-- forget_worker(worker): forgets a worker that holds nothing any more; one that does hold something is left to the rescuer, at once.
create or replace function posthorn.forget_worker(p_worker bigint) returns void
language plpgsql as $$
begin
  perform posthorn.own_transaction(true), pg_advisory_xact_lock(posthorn.lock_key('worker', p_worker));
  if exists (select from posthorn.deferred d where d.worker = p_worker and d.token is not null) or exists (
      select from posthorn.worker w cross join (select unnest(slots) as slot from posthorn.ring) s
        cross join lateral posthorn.open_claims_of(s.slot, w.id, w.oldest_open_claim, 1) where w.id = p_worker) then
    update posthorn.worker set heartbeat_at = '-infinity' where id = p_worker;
  else
    delete from posthorn.worker where id = p_worker;
  end if;
end $$;

-- is_locked(key): whether any session holds this advisory lock. Looked up, never tried: trying one's own succeeds behind a pooler.
create or replace function posthorn.is_locked(p_key bigint) returns boolean
language sql volatile as $$
  select exists (select from pg_locks l where l.locktype = 'advisory' and l.granted and l.objsubid = 1
    and l.database = (select oid from pg_database where datname = current_database())
    and l.classid = ((p_key >> 32) & 4294967295)::oid and l.objid = (p_key & 4294967295)::oid)
$$;

-- dead_workers(): who counts as dead, and why.
create or replace function posthorn.dead_workers() returns table (worker bigint, why text)
language sql volatile as $$
  select w.id, case
      when w.heartbeat_at < clock_timestamp() - w.timeout_ms * interval '1 ms' then 'no heartbeat'
      else 'session ended' end
  from posthorn.worker w
  where w.heartbeat_at < clock_timestamp() - w.timeout_ms * interval '1 ms'
    or (w.session_key is null and w.server_started_at <> pg_postmaster_start_time())
    or (w.session_key is not null and not posthorn.is_locked(w.session_key))
$$;

-- rescue(limit): one pass: frees what dead workers held, at most `limit` claims, and forgets workers that hold nothing any more.
-- Returns [{ worker, service, host, pid, why, messages, done }]. Waits at most a second for what somebody has locked; that worker's
-- messages are tried again in the next pass, those of the others are freed in this one.
create or replace function posthorn.rescue(p_limit int) returns json
language plpgsql as $$
declare
  v_dead record;
  v_worker posthorn.worker;
  v_left int := p_limit;
  v_freed record;
  v_report json[] := '{}';
begin
  perform posthorn.own_transaction(true), set_config('lock_timeout', '1s', true);
  if not pg_try_advisory_xact_lock(posthorn.lock_key('rescue')) then
    return '[]';
  end if;
  for v_dead in select * from posthorn.dead_workers() order by worker loop
    exit when v_left <= 0;
    select * into v_worker from posthorn.worker where id = v_dead.worker;
    -- Before anything waits for them: a backend that cannot send its answer to a stopped process keeps its locks.
    if v_dead.why = 'no heartbeat' then
      perform posthorn.end_backends(v_worker.backends);
    end if;
    begin
      v_freed := posthorn.rescue_worker(v_worker, v_left);
    exception when lock_not_available or deadlock_detected then
      select 0 as claims, 0 as messages, false as done into v_freed;
    end;
    v_left := v_left - v_freed.claims;
    v_report := v_report || json_build_object('worker', v_worker.id::text, 'service', v_worker.service, 'host', v_worker.host,
      'pid', v_worker.pid, 'why', v_dead.why, 'messages', v_freed.messages, 'done', v_freed.done);
  end loop;
  return to_json(v_report);
end $$;

-- end_backends(backends): ends the sessions of a dead worker, where the right is there: that of another role's needs pg_signal_backend and
-- pg_read_all_stats. Without it they end by their own time-outs, and what they send later meets the fences.
create or replace function posthorn.end_backends(p_backends json) returns void
language plpgsql as $$
begin
  perform pg_terminate_backend(a.pid) from json_to_recordset(p_backends) as b(pid int, started text, role text)
    join pg_stat_activity a on a.pid = b.pid and a.backend_start = case when b.started ~ '^[0-9]{4}-' then b.started::timestamptz end
    where a.pid <> pg_backend_pid() and a.datname = current_database() and a.usename = coalesce(b.role, a.usename);
exception when insufficient_privilege then null;
end $$;

-- rescue_worker: frees what one dead worker held, at most `limit` claims; with fewer it also forgets the worker, and is done.
create or replace function posthorn.rescue_worker(p_worker posthorn.worker, p_limit int, out claims int, out messages int, out done boolean)
language plpgsql as $$
begin
  -- Waits for a claim that this worker is making just now; from here on it makes none.
  perform pg_advisory_xact_lock(posthorn.lock_key('worker', p_worker.id));
  select count(*), coalesce(sum(freed), 0) into claims, messages from (
    select posthorn.rescue_claim(p_worker, c) as freed from (select unnest(slots) as slot from posthorn.ring) s
      cross join lateral posthorn.open_claims_of(s.slot, p_worker.id, p_worker.oldest_open_claim, p_limit) c) r;
  done := claims < p_limit;
  if done then
    messages := messages + posthorn.rescue_deferred(p_worker);
    delete from posthorn.worker where id = p_worker.id;
  end if;
end $$;

-- open_claims_of: claims of a worker that no part has closed, from an id on.
-- Plan: claim_N_by_id from the id on, one probe of settlement_N_by_part for each of the worker's claims. `offset 0` keeps the
-- probe from becoming a join, which would read the settlements from their beginning.
select posthorn.by_slot('open_claims_of(p_slot smallint, p_worker bigint, p_from bigint, p_limit int)', 'setof posthorn.claim_1 stable', $body$
  return query select c.* from posthorn.claim_{slot} c where c.id >= p_from and c.worker = p_worker
    and not exists (select from posthorn.settlement_{slot} t where t.claim = c.id and t.closes offset 0) order by c.id limit p_limit;
$body$);

-- parts_of: what the parts of a claim say.
select posthorn.by_slot('parts_of(p_slot smallint, p_claim bigint)', 'setof posthorn.settlement_1', $body$
  return query select t.* from posthorn.settlement_{slot} t where t.claim = p_claim order by t.part;
$body$);

-- rescue_claim: closes an open claim with its next part, and gives each message without an end its consequence. The next part has
-- one number: a holder that wakes up and settles meets it and loses. Returns how many messages were freed.
create or replace function posthorn.rescue_claim(p_worker posthorn.worker, p_claim posthorn.claim_1) returns int
language plpgsql as $$
declare
  v_subscription posthorn.subscription;
  v_slot smallint := posthorn.slot_of_claim(p_claim.id);
  v_ended bigint[];
  v_begun bigint[];
  v_part int;
  v_freed int := 0;
  v_i int;
begin
  select * into v_subscription from posthorn.subscription where id = p_claim.subscription;
  select coalesce(array_agg(m) filter (where t.outcome is distinct from 'begun'), '{}'), coalesce(array_agg(m) filter (where t.outcome = 'begun'), '{}'),
      coalesce(max(t.part), 0) + 1
    into v_ended, v_begun, v_part
    from posthorn.parts_of(v_slot, p_claim.id) t cross join lateral unnest(coalesce(t.messages, p_claim.messages)) m;
  select greatest(v_part, coalesce(max(t.part), 0) + 1) into v_part from posthorn.parts_of(v_slot, p_claim.id) t;
  if not posthorn.settle_part_of(v_slot, p_claim.id, p_claim.token, v_part, 'crashed', true,
      array(select m from unnest(p_claim.messages) m where m <> all (v_ended))) then
    -- The holder wrote a part in this moment: it closed the claim, or what is left is counted again.
    return case when exists (select from posthorn.parts_of(v_slot, p_claim.id) t where t.closes) then 0
      else posthorn.rescue_claim(p_worker, p_claim) end;
  end if;
  for v_i in 1 .. array_length(p_claim.messages, 1) loop
    continue when p_claim.messages[v_i] = any (v_ended);
    if v_subscription.idempotency = 'transaction' and not posthorn.end_of(coalesce(p_claim.message_slots[v_i], v_slot), p_claim.subscription,
        p_claim.messages[v_i], 1, 'crashed', p_claim.id, p_claim.worker) then
      continue;
    end if;
    perform posthorn.after_crash(p_worker, v_subscription, p_claim.at,
      posthorn.delivery_of(p_claim.subscription, p_claim.lane, p_claim.messages[v_i], coalesce(p_claim.message_slots[v_i], v_slot)),
      v_subscription.idempotency = 'at-most-once' and p_claim.messages[v_i] = any (v_begun),
      v_subscription.idempotency <> 'at-most-once');
    v_freed := v_freed + 1;
  end loop;
  return v_freed;
end $$;

-- slot_of_claim: where a claim lies. Not for the hot path.
create or replace function posthorn.slot_of_claim(p_claim bigint) returns smallint
language sql volatile as $$
  select s.slot from posthorn.ring r cross join lateral unnest(r.slots) s(slot)
    where (posthorn.claim_of(s.slot, p_claim)).id is not null limit 1
$$;

-- rescue_deferred: frees the deliveries from `deferred` that a dead worker held. Returns how many. Under a suspect those without a crash
-- so far are not blamed. One that has been under a crash already is: as long as it killed unblamed beside suspects, these paid for it.
create or replace function posthorn.rescue_deferred(p_worker posthorn.worker) returns int
language plpgsql as $$
declare
  v_row posthorn.deferred;
  v_subscription posthorn.subscription;
  v_suspects boolean := exists (select from posthorn.deferred where worker = p_worker.id and token is not null and crashes >= 2);
  v_freed int := 0;
begin
  for v_row in select * from posthorn.deferred where worker = p_worker.id and token is not null order by id for update loop
    select * into v_subscription from posthorn.subscription where id = v_row.subscription;
    if not posthorn.end_of(posthorn.slot_for_end(v_row), v_row.subscription, v_row.message, v_row.delivery, 'crashed', null, p_worker.id) then
      -- Moved here from an open claim while its handler's transaction committed under its first hold.
      delete from posthorn.deferred where id = v_row.id;
      continue;
    end if;
    perform posthorn.after_crash(p_worker, v_subscription, v_row.taken_at, v_row, v_subscription.idempotency = 'at-most-once',
      v_row.crashes >= 1 or not v_suspects);
    v_freed := v_freed + 1;
  end loop;
  return v_freed;
end $$;

-- after_crash: the consequence of a delivery that died with its worker: again at once, and no attempt is burnt. `p_unknown`: it may
-- have taken effect and must not be repeated. `p_blamed`: whether this message may be what killed the worker; one that has
-- killed too many is quarantined.
create or replace function posthorn.after_crash(
  p_worker posthorn.worker, p_subscription posthorn.subscription, p_begun_at timestamptz, p_row posthorn.deferred, p_unknown boolean, p_blamed boolean
) returns void
language plpgsql as $$
declare
  v_crashes int := p_row.crashes + case when p_blamed then 1 else 0 end;
  v_keep_ms float8 := coalesce((p_subscription.policy #>> '{deadLetter,keepMs}')::float8, 2592000000);
  v_next json;
begin
  p_row.history := posthorn.with_entry(p_row.history, json_build_object('attempt', p_row.attempts + 1, 'outcome', case when p_unknown then 'unknown' else 'crashed' end,
    'worker', json_build_object('id', p_worker.id::text, 'service', p_worker.service, 'host', p_worker.host, 'pid', p_worker.pid),
    'startedAt', p_begun_at, 'endedAt', clock_timestamp(),
    'error', json_build_object('name', 'WorkerDied', 'message', 'the worker died before the attempt ended')));
  v_next := case
    when p_unknown then json_build_object('dead', json_build_object('reason', 'outcome unknown', 'keepMs', v_keep_ms, 'attempts', p_row.attempts + 1, 'crashes', v_crashes))
    when v_crashes >= 5 then json_build_object('dead', json_build_object('reason', 'killed its workers', 'keepMs', v_keep_ms, 'attempts', p_row.attempts, 'crashes', v_crashes))
    else json_build_object('defer', json_build_object('delayMs', 0, 'attempts', p_row.attempts, 'crashes', v_crashes)) end;
  if v_next -> 'dead' is not null and p_row.id is not null then
    delete from posthorn.deferred where id = p_row.id;
  end if;
  perform posthorn.follow(p_row, 'crashed', v_next);
end $$;
