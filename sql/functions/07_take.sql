-- take(subscription, worker, contracts, limit): takes deliveries that are due from `deferred`, as one JSON list of
--   [id, nonce, null, contract, key, payload, headers, published_at in ms, deferred, token, delivery, attempts, crashes,
--    and in how many ms it expires, or null].
-- Only contracts that this worker has handlers for: a message that was handed back waits for a worker that knows it. A message that
-- has been under two crashed workers is a suspect: a worker holds one of them at a time, and beside it none that has been under one
-- crash, so that of several killers none makes the others' neighbours pay: both would be blamed for the next crash.
-- Order: by due time; where a queue has priorities, by urgency since then. Rows that others are taking are passed over.
create or replace function posthorn.take(p_subscription int, p_worker bigint, p_contracts json, p_limit int) returns json
language plpgsql as $$
declare
  v_contracts int[] := array(select c::int from json_array_elements_text(p_contracts) c);
  -- What the worker may take, by crashes so far: fewer than these; and whether a suspect as well.
  v_below int := 1;
  v_suspects boolean := false;
  v_ids bigint[];
  v_taken json;
begin
  perform posthorn.own_transaction((select idempotency = 'at-most-once' from posthorn.subscription where id = p_subscription));
  perform posthorn.hold_worker(p_worker);
  -- One session of a worker at a time takes what has been under a crash, and looks at what it holds in a later statement than it takes
  -- the lock in.
  if pg_try_advisory_xact_lock(posthorn.lock_key('suspects', p_worker)) then
    select case when bool_or(d.crashes >= 2) then 1 else 2 end, count(*) = 0 into v_below, v_suspects
      from posthorn.deferred d where d.worker = p_worker and d.token is not null and d.crashes >= 1;
  end if;
  v_ids := posthorn.lock_due(p_subscription, v_contracts, 0, v_below, p_limit);
  if coalesce(array_length(v_ids, 1), 0) < p_limit and v_suspects
      and not exists (select from posthorn.deferred d where d.id = any (v_ids) and d.crashes = 1) then
    v_ids := v_ids || posthorn.lock_due(p_subscription, v_contracts, 2, 2147483647, 1);
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
  return v_taken;
end $$;
