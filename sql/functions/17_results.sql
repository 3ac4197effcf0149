-- What handlers return and tell: results and progress. And what receipts ask for.

-- keep_result(subscription, message, nonce, result): keeps a result, in the transaction that ends the delivery, which fences it. The result is
-- JSON { text, keepMs, key, contract }: its own JSON as text, so that it is stored as it was returned. Older workers leave out whose it is.
create or replace function posthorn.keep_result(p_subscription int, p_message bigint, p_nonce bigint, p_result json) returns void
language plpgsql as $$
begin
  insert into posthorn.result (subscription, message, nonce, ended_at, keep_until, result, key, contract)
    values (p_subscription, p_message, p_nonce, clock_timestamp(), clock_timestamp() + (p_result ->> 'keepMs')::float8 * interval '1 ms',
      (p_result ->> 'text')::json, p_result ->> 'key', (p_result ->> 'contract')::int)
    on conflict (subscription, message) do update set nonce = excluded.nonce, ended_at = excluded.ended_at, keep_until = excluded.keep_until,
      result = excluded.result, key = excluded.key, contract = excluded.contract;
end $$;

-- end_with_result(…, as end_in_transaction but for nonce before say, result): the last statement of a handler's transaction whose message has a result.
create or replace function posthorn.end_with_result(
  p_subscription int, p_message bigint, p_message_slot smallint, p_delivery int, p_claim bigint, p_claim_slot smallint, p_deferred bigint,
  p_token bigint, p_started text, p_nonce bigint, p_say json, p_result json
) returns json
language plpgsql as $$
declare
  v_said json := posthorn.end_in_transaction(p_subscription, p_message, p_message_slot, p_delivery, p_claim, p_claim_slot, p_deferred, p_token,
    p_started, p_say);
begin
  perform posthorn.keep_result(p_subscription, p_message, p_nonce, p_result);
  return v_said;
end $$;

-- write_progress(worker, values, ended): keeps the last value of each run, [{ subscription, message, delivery, value }], and forgets those that
-- ended, [{ subscription, message, delivery }]. A stale holder changes nothing: the higher delivery wins. Nobody waits for the disk.
create or replace function posthorn.write_progress(p_worker bigint, p_values json, p_ended json) returns void
language plpgsql as $$
begin
  perform posthorn.own_transaction(false);
  insert into posthorn.progress (subscription, message, delivery, worker, at, value)
    select v.subscription, v.message, v.delivery, p_worker, clock_timestamp(), v.value
    from json_to_recordset(p_values) as v(subscription int, message bigint, delivery int, value json)
    -- In one order for everybody: two processes that write the same rows must not wait for each other.
    order by v.subscription, v.message
    on conflict (subscription, message) do update set delivery = excluded.delivery, worker = excluded.worker, at = excluded.at,
      value = excluded.value where posthorn.progress.delivery <= excluded.delivery;
  delete from posthorn.progress p using json_to_recordset(p_ended) as e(subscription int, message bigint, delivery int)
    where p.subscription = e.subscription and p.message = e.message and p.delivery = e.delivery;
end $$;

-- with_outcome(subscription, message, nonce, contract, status): a status of message_status with what receipts want beside it: the progress
-- of a running message and whether somebody asked to cancel it; the result of one that succeeded, for as long as it is kept; and kind and name of
-- the contract, where it is known.
create or replace function posthorn.with_outcome(p_subscription int, p_message bigint, p_nonce bigint, p_contract int, p_status json) returns json
language plpgsql stable as $$
declare
  v_more jsonb := coalesce((select jsonb_build_object('contract', c.name, 'kind', c.kind) from posthorn.contract c where c.id = p_contract), '{}');
  v_result json;
begin
  if p_status ->> 'state' = 'running' then
    v_more := v_more
      || coalesce((select jsonb_build_object('progress', p.value) from posthorn.progress p
        where p.subscription = p_subscription and p.message = p_message and p.delivery = (p_status ->> 'delivery')::int), '{}')
      || coalesce((select jsonb_build_object('cancelRequestedAt', c.requested_at) from posthorn.cancel_request c
        where c.subscription = p_subscription and c.message = p_message and c.nonce = p_nonce and not c.quiet), '{}');
  elsif p_status ->> 'state' = 'succeeded' then
    select r.result into v_result from posthorn.result r
      where r.subscription = p_subscription and r.message = p_message and r.nonce = p_nonce and r.keep_until > clock_timestamp();
  end if;
  if v_result is null and v_more = '{}' then
    return p_status;
  end if;
  -- Put together as text: a result comes back as it was stored.
  return concat(left(p_status::text, -1), case when v_more <> '{}' then ',' || substr(left(v_more::text, -1), 2) end,
    case when v_result is not null then ',"result":' || v_result end, '}')::json;
end $$;

-- message_statuses(public ids): message_status of many messages in one snapshot, as JSON { id: status or null }.
create or replace function posthorn.message_statuses(p_publics json) returns json
language plpgsql stable as $$
begin
  return (select json_object_agg(i.id, posthorn.message_status(i.id)) from json_array_elements_text(p_publics) i(id));
end $$;

-- prune(every, limit): removes what has been kept for its time, at most `limit` rows of each kind, once in the fleet within `every` ms. Returns how
-- many rows the fullest kind lost; null when it was not our turn.
create or replace function posthorn.prune(p_every_ms int, p_limit int) returns int
language plpgsql as $$
declare
  v_rows int;
  v_most int := 0;
begin
  perform posthorn.own_transaction(false);
  if not pg_try_advisory_xact_lock(posthorn.lock_key('prune')) then
    return null;
  end if;
  insert into posthorn.maintenance (name, ran_at) values ('prune', clock_timestamp())
    on conflict (name) do update set ran_at = excluded.ran_at where posthorn.maintenance.ran_at <= clock_timestamp() - p_every_ms * interval '1 ms';
  if not found then
    return null;
  end if;
  delete from posthorn.result r using (
    select k.subscription, k.message from posthorn.result k where k.keep_until < clock_timestamp() order by k.keep_until limit p_limit) old
    where r.subscription = old.subscription and r.message = old.message;
  get diagnostics v_rows = row_count;
  v_most := greatest(v_most, v_rows);
  delete from posthorn.cancelled c using (
    select k.subscription, k.message from posthorn.cancelled k where k.keep_until < clock_timestamp() order by k.keep_until limit p_limit) old
    where c.subscription = old.subscription and c.message = old.message;
  get diagnostics v_rows = row_count;
  v_most := greatest(v_most, v_rows);
  delete from posthorn.discarded d using (
    select k.subscription, k.message from posthorn.discarded k where k.keep_until < clock_timestamp() order by k.keep_until limit p_limit) old
    where d.subscription = old.subscription and d.message = old.message;
  get diagnostics v_rows = row_count;
  v_most := greatest(v_most, v_rows);
  -- A live worker removes its own; those of a worker that is gone are nobody's.
  delete from posthorn.progress p where not exists (select from posthorn.worker w where w.id = p.worker);
  -- History: `posthorn alerts` shows the newest of it, and nobody looks further back than this.
  delete from posthorn.alert a where a.id in (
    select k.id from posthorn.alert k where k.resolved_at < clock_timestamp() - interval '90 days' limit p_limit);
  get diagnostics v_rows = row_count;
  v_most := greatest(v_most, v_rows);
  perform posthorn.sweep_cancel_requests(p_limit);
  return v_most;
end $$;
