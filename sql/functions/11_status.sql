-- message_status(public id): what became of a message, for each of its receivers, as JSON
--   [{ subscription, state, delivery, attempts, crashes, dueAt, reason, history, contract, kind, progress, cancelRequestedAt, result }]; null when no message has this id. A reader that began
--   after the message is none of its receivers.
-- One snapshot for all it reads, so it never sees a message between two states. For people and receipts, not for the hot path.
create or replace function posthorn.message_status(p_public text) returns json
language plpgsql stable as $$
declare
  v_id bigint := posthorn.id_of(p_public);
  v_nonce bigint := posthorn.nonce_of(p_public);
  v_found record;
begin
  select w.*, c.channel into v_found from posthorn.where_in_log(v_id, v_nonce) w join posthorn.contract c on c.id = w.contract;
  if v_found.contract is null then
    -- Its segment is gone, or it is in no log: what waits has its copy, and a result that is kept says that it succeeded.
    return (select json_agg(posthorn.with_outcome(s.id, v_id, v_nonce, w.contract, f.status) order by s.name) from posthorn.subscription s
      cross join lateral (select coalesce(posthorn.waiting_status(s, v_id, v_nonce), (select json_build_object('subscription', s.name, 'state', 'succeeded',
        'delivery', null) from posthorn.result r where r.subscription = s.id and r.message = v_id and r.nonce = v_nonce))) f(status)
      left join lateral posthorn.contract_outside(s.id, v_id, v_nonce) w(contract) on true
      where f.status is not null);
  end if;
  return (select coalesce(json_agg(posthorn.with_outcome(s.id, v_id, v_nonce, v_found.contract, f.status) order by s.name), '[]') from posthorn.subscription s
    cross join lateral (select coalesce(posthorn.waiting_status(s, v_id, v_nonce), posthorn.log_status(s, v_found.lane, v_id, v_found.xid))) f(status)
    where s.channel = v_found.channel and f.status is not null);
end $$;

-- contract_outside: the contract of a message that waits or ended outside the log; null when it is in none of the tables that say it.
create or replace function posthorn.contract_outside(p_subscription int, p_id bigint, p_nonce bigint) returns int
language sql stable as $$
  select w.contract from (
    select contract from posthorn.deferred where subscription = p_subscription and message = p_id and nonce = p_nonce
    union all select contract from posthorn.dead_letter where subscription = p_subscription and message = p_id and nonce = p_nonce
    union all select contract from posthorn.invalid where subscription = p_subscription and message = p_id and nonce = p_nonce
    union all select contract from posthorn.discarded where subscription = p_subscription and message = p_id and nonce = p_nonce
    union all select contract from posthorn.cancelled where subscription = p_subscription and message = p_id and nonce = p_nonce) w limit 1
$$;

-- waiting_status: the state of a message that waits or ended outside the log; null when it is in none of the five tables.
create or replace function posthorn.waiting_status(p_subscription posthorn.subscription, p_id bigint, p_nonce bigint) returns json
language sql stable as $$
  select json_build_object('subscription', p_subscription.name, 'state', w.state, 'delivery', w.delivery, 'attempts', w.attempts,
      'crashes', w.crashes, 'dueAt', w.due_at, 'reason', w.reason, 'history', w.history)
  from (
    select posthorn.waiting_state(token, place, due_at, reason) as state,
        delivery, attempts, crashes, nullif(due_at, 'infinity') as due_at, reason::text, history
      from posthorn.deferred where subscription = p_subscription.id and message = p_id and nonce = p_nonce
    union all
    select 'dead', delivery, attempts, crashes, null, reason, history
      from posthorn.dead_letter where subscription = p_subscription.id and message = p_id and nonce = p_nonce
    union all
    select 'invalid', delivery, null, null, null, issues::text, history
      from posthorn.invalid where subscription = p_subscription.id and message = p_id and nonce = p_nonce
    union all
    select 'discarded', delivery, attempts, null, null, reason, history
      from posthorn.discarded where subscription = p_subscription.id and message = p_id and nonce = p_nonce
    union all
    select 'cancelled', delivery, attempts, null, null, reason || ', by ' || cancelled_by, history
      from posthorn.cancelled where subscription = p_subscription.id and message = p_id and nonce = p_nonce
  ) w
$$;

-- waiting_state: the state of a row of `deferred`.
create or replace function posthorn.waiting_state(p_token bigint, p_place bigint, p_due_at timestamptz, p_reason posthorn.outcome) returns text
language sql immutable as $$
  select case when p_token is not null then 'running' when p_place is not null and p_due_at = 'infinity' then 'parked'
    when p_reason = 'scheduled' then 'scheduled' when p_reason in ('released', 'parked', 'throttled') then 'queued' else 'retrying' end
$$;

-- log_status: the state of a message that the log alone knows; null for a reader that began after the message.
create or replace function posthorn.log_status(p_subscription posthorn.subscription, p_lane int, p_id bigint, p_xid xid8) returns json
language sql stable as $$
  select json_build_object('subscription', p_subscription.name, 'state', f.state, 'delivery', f.delivery, 'reason',
      case when f.state = 'dead' then f.outcome end)
    from posthorn.fate_in_log(p_subscription, p_lane, p_id, p_xid) f where f.state is not null
$$;
