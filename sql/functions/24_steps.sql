-- Steps of handlers: recorded while the delivery runs, read by the next one, removed when the message has ended.

-- record_step(worker, subscription, message, claim, claim slot, deferred, token, name, result): records that a step is done, in a transaction of the
-- library's own, on disk when it returns. `p_deferred` is null for a delivery from the log. Returns null; or what was recorded under this name
-- before, as JSON { result? }: the first one stands. Raises PH005 or PH007 when the worker no longer holds the delivery: nothing is recorded.
create or replace function posthorn.record_step(
  p_worker bigint, p_subscription int, p_message bigint, p_claim bigint, p_claim_slot smallint, p_deferred bigint, p_token bigint,
  p_name text, p_result json
) returns json
language plpgsql as $$
declare
  v_found json;
begin
  perform posthorn.own_transaction(true);
  -- Until COMMIT nobody rescues what this worker holds; what is looked at from here on is what the last rescuer left.
  perform posthorn.hold_worker(p_worker);
  if p_deferred is null then
    if not posthorn.holds_of(p_claim_slot, p_claim, p_token, p_message) then
      perform posthorn.raise_lost(json_build_object('claims', json_build_array(p_claim::text)));
    end if;
  elsif not exists (select from posthorn.deferred d where d.id = p_deferred and d.token = p_token) then
    perform posthorn.raise_lost(json_build_object('deferred', p_deferred::text));
  end if;
  insert into posthorn.step (subscription, message, name, result, claim, claim_slot)
    values (p_subscription, p_message, p_name, p_result, p_claim, p_claim_slot) on conflict do nothing;
  if found then
    return null;
  end if;
  select case when s.result is null then '{}' else json_build_object('result', s.result) end into v_found
    from posthorn.step s where s.subscription = p_subscription and s.message = p_message and s.name = p_name;
  if v_found is null then
    -- Removed in this moment: the message has ended.
    perform posthorn.raise_lost(json_build_object('ended', p_message::text));
  end if;
  return v_found;
end $$;

-- holds_of: whether a message of a claim has no end so far, and the claim has this token; a null token is any.
-- Plan: probes of claim_N_by_id and settlement_N_by_part.
select posthorn.by_slot('holds_of(p_slot smallint, p_claim bigint, p_token bigint, p_message bigint)', 'boolean', $body$
  return exists (select from posthorn.claim_{slot} c where c.id = p_claim and (p_token is null or c.token = p_token) offset 0)
    and not exists (select from posthorn.settlement_{slot} t where t.claim = p_claim
      and (t.closes or t.outcome is not null and t.outcome <> 'begun' and (t.messages is null or p_message = any (t.messages))) offset 0);
$body$);

-- steps_of(subscription, message): what is recorded, as JSON [[name, result?]]; without a result it was undefined.
create or replace function posthorn.steps_of(p_subscription int, p_message bigint) returns json
language plpgsql as $$
begin
  perform posthorn.own_transaction(false);
  return coalesce((select json_agg(case when s.result is null then json_build_array(s.name) else json_build_array(s.name, s.result) end)
    from posthorn.step s where s.subscription = p_subscription and s.message = p_message), '[]');
end $$;

-- forget_steps(subscription, message): in the transaction that ends the message for good.
create or replace function posthorn.forget_steps(p_subscription int, p_message bigint) returns void
language plpgsql as $$
begin
  delete from posthorn.step s where s.subscription = p_subscription and s.message = p_message;
end $$;

-- sweep_steps(limit, every): removes steps of messages that have ended in another way than by a run that used steps: discarded, no longer kept as
-- dead letters, or handled by code without steps. Looks at some rows a call, where the last call stopped; once in `every` ms in the fleet.
-- Steps of what waits, runs, is dead or invalid stay. Returns { removed, more }.
create or replace function posthorn.sweep_steps(p_limit int, p_every_ms int) returns json
language plpgsql as $$
declare
  v_pass posthorn.maintenance;
  v_message record;
  v_last record;
  v_seen int := 0;
  v_subscriptions int[] := '{}';
  v_messages bigint[] := '{}';
  v_removed int;
begin
  perform posthorn.own_transaction(false);
  if not exists (select from posthorn.step) or not pg_try_advisory_xact_lock(posthorn.lock_key('steps')) then
    return '{"removed":0,"more":false}';
  end if;
  select * into v_pass from posthorn.maintenance m where m.name = 'steps';
  if v_pass.ran_at > clock_timestamp() - p_every_ms * interval '1 ms' then
    return '{"removed":0,"more":false}';
  end if;
  for v_message in select s.subscription, s.message, count(*) as steps, max(s.claim) as claim, max(s.claim_slot) as claim_slot from (
      select * from posthorn.step p where (p.subscription, p.message) > (coalesce((v_pass.notes ->> 'subscription')::int, 0), coalesce((v_pass.notes ->> 'message')::bigint, 0))
      order by p.subscription, p.message, p.name limit p_limit) s group by s.subscription, s.message order by s.subscription, s.message loop
    v_last := v_message;
    v_seen := v_seen + v_message.steps;
    continue when v_message.claim is not null and posthorn.holds_of(v_message.claim_slot, v_message.claim, null, v_message.message);
    v_subscriptions := v_subscriptions || v_message.subscription;
    v_messages := v_messages || v_message.message;
  end loop;
  -- A later statement than the look at the claims, and one for all lists: a message that has left its claim never comes back to it, and goes from list
  -- to list in one transaction.
  delete from posthorn.step s using unnest(v_subscriptions, v_messages) e(subscription, message)
    where s.subscription = e.subscription and s.message = e.message
      and not exists (select from posthorn.deferred d where d.subscription = e.subscription and d.message = e.message)
      and not exists (select from posthorn.dead_letter d where d.subscription = e.subscription and d.message = e.message)
      and not exists (select from posthorn.invalid d where d.subscription = e.subscription and d.message = e.message);
  get diagnostics v_removed = row_count;
  insert into posthorn.maintenance (name, ran_at, notes) values ('steps', clock_timestamp(),
      case when v_seen = p_limit then json_build_object('subscription', v_last.subscription, 'message', v_last.message) end)
    on conflict (name) do update set ran_at = excluded.ran_at, notes = excluded.notes;
  return json_build_object('removed', v_removed, 'more', v_seen = p_limit);
end $$;

-- why_steps: how many steps of a message are done and which was the last, as JSON { done, last }; null when none is.
create or replace function posthorn.why_steps(p_subscription int, p_message bigint) returns json
language sql stable as $$
  select case when count(*) > 0 then json_build_object('done', count(*), 'last', (array_agg(s.name order by s.at desc))[1]) end
    from posthorn.step s where s.subscription = p_subscription and s.message = p_message
$$;
