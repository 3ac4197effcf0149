-- take(subscription, worker, contracts, limit): takes deliveries that are due from `deferred`, as one JSON list of
--   [id, nonce, null, contract, key, payload, headers, published_at in ms, deferred, token, delivery, attempts, crashes,
--    and in how many ms it expires, or null].
-- Only contracts that this worker has handlers for: a message that was handed back waits for a worker that knows it. A message that
-- has been under two crashed workers is a suspect: a worker holds one of them at a time, and beside it none that has been under one
-- crash, so that of several killers none makes the others' neighbours pay: both would be blamed for the next crash.
-- Order: by due time; where a queue has priorities, by urgency since then. Rows that others are taking are passed over. Where order is kept, only
-- the first of each key is due.
-- Where a breaker is declared or limits hold: { taken, probe, waitMs }, or { openMs } while the circuit is open or the reader is paused. `probe`: one message that is tried;
-- `waitMs` as in claim_limited.
create or replace function posthorn.take(p_subscription int, p_worker bigint, p_contracts json, p_limit int) returns json
language plpgsql as $$
declare
  v_contracts int[] := posthorn.every_of(p_subscription, array(select c::int from json_array_elements_text(p_contracts) c));
  -- What the worker may take, by crashes so far: fewer than these; and whether a suspect as well.
  v_below int := 1;
  v_suspects boolean := false;
  v_ids bigint[];
  v_taken json;
  v_ordered boolean;
  v_guarded boolean;
  v_limited boolean;
  v_slot smallint;
  v_wanted int := p_limit;
  v_limit int;
  v_open_ms bigint;
  v_probe bigint;
  v_allow posthorn.allowance;
begin
  select s.has_breaker or s.paused_at is not null, s.limited, s.ordering is not null, (posthorn.own_transaction(s.idempotency = 'at-most-once')).slot
    into v_guarded, v_limited, v_ordered, v_slot from posthorn.subscription s where s.id = p_subscription;
  if v_guarded then
    select g.wait_ms, g.probe into v_open_ms, v_probe from posthorn.circuit_gate(p_subscription) g;
    if v_open_ms is not null then
      return json_build_object('openMs', v_open_ms);
    end if;
    v_wanted := case when v_probe is null then p_limit else 1 end;
  end if;
  perform posthorn.hold_worker(p_worker);
  v_limit := v_wanted;
  if v_limited then
    v_allow := posthorn.allow(p_subscription, v_wanted);
    if coalesce(v_allow.permits, 0) <= 0 then
      return case when posthorn.first_due(p_subscription, v_contracts) <= clock_timestamp()
        then json_build_object('taken', '[]'::json, 'waitMs', posthorn.wait_after(v_allow, 0, v_wanted)) else '[]' end;
    end if;
    v_limit := posthorn.candidates(v_allow);
  end if;
  if v_ordered then
    perform posthorn.enter(p_subscription);
  end if;
  -- One session of a worker at a time takes what has been under a crash, and looks at what it holds in a later statement than it takes
  -- the lock in.
  if pg_try_advisory_xact_lock(posthorn.lock_key('suspects', p_worker)) then
    select case when bool_or(d.crashes >= 2) then 1 else 2 end, count(*) = 0 into v_below, v_suspects
      from posthorn.deferred d where d.worker = p_worker and d.token is not null and d.crashes >= 1;
  end if;
  v_ids := posthorn.lock_due(p_subscription, v_contracts, 0, v_below, v_limit, v_ordered);
  if coalesce(array_length(v_ids, 1), 0) < v_limit and v_suspects
      and not exists (select from posthorn.deferred d where d.id = any (v_ids) and d.crashes = 1) then
    v_ids := v_ids || posthorn.lock_due(p_subscription, v_contracts, 2, 2147483647, 1, v_ordered);
  end if;
  if v_ids <> '{}' and exists (select from posthorn.cancel_request c where c.subscription = p_subscription) then
    v_ids := posthorn.without_requested(p_subscription, v_ids);
  end if;
  if v_limited and v_ids <> '{}' then
    v_ids := posthorn.admit(v_allow, v_ids, v_contracts);
  end if;
  if v_ids = '{}' then
    return '[]';
  end if;
  with taken as (
    update posthorn.deferred d set token = (random() * 9e18)::bigint, worker = p_worker, taken_at = clock_timestamp()
      where d.id = any (v_ids) returning d.*)
    select json_agg(json_build_array(t.message::text, t.nonce::text, null, t.contract, t.key, t.payload, t.headers,
      floor(extract(epoch from t.published_at) * 1000), t.id::text, t.token::text, t.delivery, t.attempts, t.crashes,
      ceil(extract(epoch from t.expires_at - clock_timestamp()) * 1000)) order by t.due_at)
      into v_taken from taken t;
  if v_probe is not null then
    perform posthorn.circuit_begin(p_subscription, p_worker, v_probe);
  elsif not v_limited then
    return v_taken;
  end if;
  return json_build_object('taken', v_taken, 'probe', v_probe::text,
    'waitMs', case when v_limited then posthorn.wait_after(v_allow, json_array_length(v_taken), v_wanted) end);
end $$;
