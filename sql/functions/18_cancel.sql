-- Cancelling commands.
--
-- A message that waits in the log is cancelled under its lane's lock, by a mark that the claim of its window leaves out: whether a claim has
-- come to it is looked at in a later statement than the lock is taken in, so no claim and no mark both get it. One that waits in `deferred`
-- is removed, under the lock of its row. One that runs is asked to stop: its request is a row that the worker looks for, and that stays until the
-- message has ended; whatever would have it run again (a failure, a crash, a hand-back, a take) finds the row and ends it instead.

-- cancel(message, by): cancels a command by its public id, in a transaction of its own: it holds the lock of the message's lane until COMMIT. Returns
--   cancelled  it waited, and will not run; or it was cancelled before
--   signalled  it runs, and its signal fires; if it fails now, it is cancelled, and if it succeeds all the same, it has succeeded
--   too-late   it has ended
-- Raises PH030 (no such message), PH032 (older than what the log keeps), PH011 (an event), PH031 (the transaction has written something before).
create or replace function posthorn.cancel(message text, by text default null) returns text
language sql volatile as $$ select posthorn.cancel_message($1, coalesce($2, session_user::text)) $$;

create or replace function posthorn.cancel_message(p_public text, p_by text) returns text
language plpgsql as $$
declare
  v_id bigint := posthorn.id_of(p_public);
  v_nonce bigint := posthorn.nonce_of(p_public);
  v_log record;
  v_subscription posthorn.subscription;
  v_fate record;
begin
  if pg_current_xact_id_if_assigned() is not null then
    raise exception 'cancel was called in a transaction that has written something: others would wait for its end' using errcode = 'PH031',
      hint = 'Call it alone, after your transaction.';
  end if;
  perform posthorn.own_transaction(true), set_config('lock_timeout', '5s', true);
  select w.*, c.channel, c.kind, c.name into v_log from posthorn.where_in_log(v_id, v_nonce) w join posthorn.contract c on c.id = w.contract;
  if v_log.kind = 'event' then
    raise exception '"%" is an event and cannot be cancelled: it has happened', v_log.name using errcode = 'PH011';
  elsif v_log.contract is null then
    select s.* into v_subscription from posthorn.subscription s join posthorn.channel c on c.id = s.channel
      where c.kind = 'command' and posthorn.waiting_status(s, v_id, v_nonce) is not null limit 1;
  else
    -- A queue has one reader.
    select s.* into v_subscription from posthorn.subscription s where s.channel = v_log.channel;
  end if;
  if v_subscription.id is null and posthorn.is_forgotten(p_public) then
    raise exception 'if there was a command with the id %, it has ended, and the log does not keep it any more', left(p_public, 80) using errcode = 'PH032',
      hint = 'It is too late to cancel it.';
  elsif v_subscription.id is null then
    raise exception 'no command has the id %', left(p_public, 80) using errcode = 'PH030',
      hint = 'Is it whole, and is this the database that it was sent in?';
  end if;
  if posthorn.cancel_waiting(v_subscription, v_id, v_nonce, p_by) then
    return 'cancelled';
  end if;
  if v_log.contract is not null and posthorn.waiting_status(v_subscription, v_id, v_nonce) is null then
    perform pg_advisory_xact_lock(posthorn.lock_key('lane', v_subscription.id, v_log.lane));
    select f.* into v_fate from posthorn.fate_in_log(v_subscription, v_log.lane, v_id, v_log.xid) f;
    if v_fate.state = 'queued' and posthorn.waiting_status(v_subscription, v_id, v_nonce) is null then
      insert into posthorn.cancel_mark (subscription, message) values (v_subscription.id, v_id);
      perform posthorn.write_cancelled(posthorn.delivery_of(v_subscription.id, v_log.lane, v_id, v_log.slot), 'before it began', p_by);
      return 'cancelled';
    end if;
  end if;
  return posthorn.request_cancel(v_subscription, v_id, v_nonce, p_by);
end $$;

-- cancel_waiting: ends a delivery that waits in `deferred`; false when none does. Waits for whoever is taking it just now.
create or replace function posthorn.cancel_waiting(p_subscription posthorn.subscription, p_id bigint, p_nonce bigint, p_by text) returns boolean
language plpgsql as $$
declare
  v_row posthorn.deferred;
  v_request posthorn.cancel_request;
begin
  delete from posthorn.deferred d where d.subscription = p_subscription.id and d.message = p_id and d.nonce = p_nonce and d.token is null
    returning d.* into v_row;
  if v_row.id is null then
    return false;
  end if;
  delete from posthorn.cancel_request c where c.subscription = p_subscription.id and c.message = p_id and c.nonce = p_nonce returning * into v_request;
  perform posthorn.write_stopped(v_row, v_request.erased, case when v_row.attempts = 0 and v_row.crashes = 0 then 'before it began'
    else 'between two attempts' end, p_by);
  if v_row.once_more then
    perform posthorn.let_go(v_row.id);
  end if;
  -- Where order is kept, those of its key that waited behind it go on.
  if v_row.place is not null then
    perform posthorn.promote_key(v_row.subscription, v_row.key);
  end if;
  return true;
end $$;

-- request_cancel: asks a message that runs to stop; if it has come to wait meanwhile, ends it.
create or replace function posthorn.request_cancel(p_subscription posthorn.subscription, p_id bigint, p_nonce bigint, p_by text) returns text
language plpgsql as $$
declare
  v_end text := posthorn.end_by_now(p_subscription, p_id, p_nonce);
begin
  if v_end is not null then
    return case when v_end = 'cancelled' then 'cancelled' else 'too-late' end;
  end if;
  insert into posthorn.cancel_request (subscription, message, nonce, requested_at, requested_by)
    values (p_subscription.id, p_id, p_nonce, clock_timestamp(), p_by) on conflict (subscription, message) do update set quiet = false;
  if posthorn.cancel_waiting(p_subscription, p_id, p_nonce, p_by) then
    return 'cancelled';
  end if;
  perform pg_notify('posthorn_wake', 'cancel');
  return 'signalled';
end $$;

-- end_by_now: the state in which a message has ended, 'unknown' when nothing is left of it; null while it has not ended.
create or replace function posthorn.end_by_now(p_subscription posthorn.subscription, p_id bigint, p_nonce bigint) returns text
language plpgsql stable as $$
declare
  v_state text;
begin
  select r.status ->> 'state' into v_state from json_array_elements(posthorn.message_status(posthorn.public_id(p_id, p_nonce))) r(status)
    where r.status ->> 'subscription' = p_subscription.name;
  return case when v_state is null then 'unknown' when v_state in ('succeeded', 'dead', 'invalid', 'cancelled', 'expired', 'discarded') then v_state end;
end $$;

-- write_stopped: the end of a message that somebody asked to cancel, or whose payload was erased while it ran. What failed then may quote the payload.
create or replace function posthorn.write_stopped(p_row posthorn.deferred, p_erased boolean, p_reason text, p_by text) returns void
language plpgsql as $$
begin
  if p_erased then
    p_row.history := '[]';
    perform posthorn.write_discarded(p_row, 'erased', p_by, 'erased');
  else
    perform posthorn.write_cancelled(p_row, p_reason, p_by);
  end if;
end $$;

-- write_cancelled: the end of a message that was cancelled.
create or replace function posthorn.write_cancelled(p_row posthorn.deferred, p_reason text, p_by text) returns void
language plpgsql as $$
begin
  insert into posthorn.cancelled (subscription, message, nonce, contract, cancelled_at, keep_until, cancelled_by, reason, delivery, attempts,
      published_at, history, key)
    select p_row.subscription, p_row.message, p_row.nonce, p_row.contract, clock_timestamp(), clock_timestamp()
      + coalesce((s.policy #>> '{deadLetter,keepMs}')::float8, 2592000000) * interval '1 ms', left(p_by, 200), p_reason, p_row.delivery, p_row.attempts,
      p_row.published_at, p_row.history, p_row.key
    from posthorn.subscription s where s.id = p_row.subscription;
end $$;

-- without_marked(subscription, batch): what a claim found without what was cancelled, whose marks are used up. For the holder of the lane's lock.
create or replace function posthorn.without_marked(p_subscription int, p_batch posthorn.batch) returns posthorn.batch
language plpgsql as $$
declare
  v_marked bigint[];
begin
  with used as (
    delete from posthorn.cancel_mark k where k.subscription = p_subscription and k.message = any (p_batch.ids) returning k.message)
    select array_agg(u.message) into v_marked from used u;
  if v_marked is null then
    return p_batch;
  end if;
  return (select row(coalesce(array_agg(i.id order by i.n), '{}'),
      case when p_batch.slots is not null then coalesce(array_agg(i.slot order by i.n), '{}') end,
      string_agg(i.item::text, ',' order by i.n))::posthorn.batch
    from rows from (unnest(p_batch.ids), unnest(p_batch.slots), json_array_elements(('[' || p_batch.items || ']')::json))
      with ordinality i(id, slot, item, n)
    where i.id <> all (v_marked));
end $$;

-- cancel_instead(row, next): ends a message for good that somebody asked to cancel and that would otherwise run again or be a dead letter; true if it
-- did. An outcome that is unknown stays so: a person has to look. Whatever the end is, the request has done its work.
create or replace function posthorn.cancel_instead(p_row posthorn.deferred, p_next json) returns boolean
language plpgsql as $$
declare
  v_by text;
  v_erased boolean;
begin
  delete from posthorn.cancel_request c where c.subscription = p_row.subscription and c.message = p_row.message and c.nonce = p_row.nonce
    returning c.requested_by, c.erased into v_by, v_erased;
  if v_by is null or not v_erased and ((p_next -> 'defer' is null and p_next -> 'dead' is null) or p_next #>> '{dead,reason}' = 'outcome unknown')
      or v_erased and p_next -> 'defer' is null and p_next -> 'dead' is null and p_next -> 'invalid' is null then
    return false;
  end if;
  delete from posthorn.deferred d where d.subscription = p_row.subscription and d.message = p_row.message;
  p_row.attempts := coalesce((p_next #>> '{defer,attempts}')::int, (p_next #>> '{dead,attempts}')::int, p_row.attempts);
  perform posthorn.write_stopped(p_row, v_erased, 'while it ran', v_by);
  return true;
end $$;

-- without_requested(subscription, ids): deliveries that a take has locked, without those that somebody asked to cancel, which end here.
create or replace function posthorn.without_requested(p_subscription int, p_ids bigint[]) returns bigint[]
language plpgsql as $$
declare
  v_row posthorn.deferred;
  v_by text;
  v_erased boolean;
  v_keys text[] := '{}';
begin
  for v_row in delete from posthorn.deferred d using posthorn.cancel_request c
      where d.id = any (p_ids) and c.subscription = d.subscription and c.message = d.message and c.nonce = d.nonce returning d.* loop
    p_ids := array_remove(p_ids, v_row.id);
    delete from posthorn.cancel_request c where c.subscription = v_row.subscription and c.message = v_row.message returning c.requested_by, c.erased
      into v_by, v_erased;
    perform posthorn.write_stopped(v_row, v_erased, 'between two attempts', v_by);
    if v_row.once_more then
      perform posthorn.let_go(v_row.id);
    end if;
    if v_row.place is not null then
      v_keys := v_keys || v_row.key;
    end if;
  end loop;
  -- In one order for everybody, as promote does it.
  perform posthorn.promote_key(p_subscription, k.key) from (select distinct u.key from unnest(v_keys) u(key) order by u.key) k;
  return p_ids;
end $$;

-- cancel_requests(worker): messages that somebody asked to cancel, of all that a worker works on: [[subscription, message]]. Another worker may hold
-- them.
create or replace function posthorn.cancel_requests(p_worker bigint) returns json
language plpgsql as $$
begin
  perform posthorn.own_transaction(false);
  return (select coalesce(json_agg(json_build_array(c.subscription, c.message::text)), '[]') from posthorn.cancel_request c
    where not c.quiet and c.subscription in (select a.subscription from posthorn.attendance a where a.worker = p_worker));
end $$;

-- sweep_cancel_requests(limit): forgets requests whose messages have ended, and ends messages that wait: their run ended in the moment of the
-- request.
create or replace function posthorn.sweep_cancel_requests(p_limit int) returns void
language plpgsql as $$
declare
  v_request posthorn.cancel_request;
  v_subscription posthorn.subscription;
begin
  -- Never waits for a row: a settlement that holds one may want another that is held here.
  for v_request in select * from posthorn.cancel_request order by subscription, message limit p_limit for update skip locked loop
    select * into v_subscription from posthorn.subscription where id = v_request.subscription;
    perform d.id from posthorn.deferred d where d.subscription = v_request.subscription and d.message = v_request.message
      and d.nonce = v_request.nonce and d.token is null for update skip locked;
    if found then
      perform posthorn.cancel_waiting(v_subscription, v_request.message, v_request.nonce, v_request.requested_by);
    elsif posthorn.end_by_now(v_subscription, v_request.message, v_request.nonce) is not null then
      delete from posthorn.cancel_request c where c.subscription = v_request.subscription and c.message = v_request.message;
    end if;
  end loop;
end $$;

-- why_told: what is known about a running message beside its place: { progress, cancelRequestedAt, cancelRequestedBy }.
create or replace function posthorn.why_told(p_receiver json, p_id bigint, p_nonce bigint) returns jsonb
language plpgsql stable as $$
declare
  v_subscription int;
begin
  if p_receiver ->> 'state' is distinct from 'running' then
    return '{}';
  end if;
  select s.id into v_subscription from posthorn.subscription s where s.name = p_receiver ->> 'subscription';
  return coalesce((select jsonb_build_object('progress', p.value) from posthorn.progress p
      where p.subscription = v_subscription and p.message = p_id and p.delivery = (p_receiver ->> 'delivery')::int), '{}')
    || coalesce((select jsonb_build_object('cancelRequestedAt', c.requested_at, 'cancelRequestedBy', c.requested_by) from posthorn.cancel_request c
      where c.subscription = v_subscription and c.message = p_id and c.nonce = p_nonce and not c.quiet), '{}');
end $$;
