-- message_status(public id): what became of a message, for each of its receivers, as JSON
--   [{ subscription, state, delivery, attempts, crashes, dueAt, reason, history }]; null when no message has this id.
-- One snapshot for all it reads, so it never sees a message between two states. For people and receipts, not for the hot path.
create or replace function posthorn.message_status(p_public text) returns json
language plpgsql stable as $$
declare
  v_id bigint := posthorn.id_of(p_public);
  v_nonce bigint := posthorn.nonce_of(p_public);
  v_slot smallint;
  v_found record;
  v_channel int;
  v_lane int;
begin
  for v_slot in select unnest(slots) from posthorn.ring loop
    for v_found in execute format('select m.channel, m.lane from posthorn.channel c cross join lateral generate_series(0, c.lanes - 1) l
        cross join lateral (select * from posthorn.message_%s m where m.channel = c.id and m.lane = l and m.id = $1) m where m.nonce = $2', v_slot)
        using v_id, v_nonce loop
      v_channel := v_found.channel;
      v_lane := v_found.lane;
    end loop;
    exit when v_channel is not null;
  end loop;
  if v_channel is null then
    return (select json_agg(posthorn.waiting_status(s, v_id, v_nonce)) from posthorn.subscription s
      where posthorn.waiting_status(s, v_id, v_nonce) is not null);
  end if;
  return (select coalesce(json_agg(coalesce(posthorn.waiting_status(s, v_id, v_nonce), posthorn.log_status(s, v_lane, v_id)) order by s.name), '[]')
    from posthorn.subscription s where s.channel = v_channel);
end $$;

-- waiting_status: the state of a message that waits or ended outside the log; null when it is in none of the four tables.
create or replace function posthorn.waiting_status(p_subscription posthorn.subscription, p_id bigint, p_nonce bigint) returns json
language sql stable as $$
  select json_build_object('subscription', p_subscription.name, 'state', w.state, 'delivery', w.delivery, 'attempts', w.attempts,
      'crashes', w.crashes, 'dueAt', w.due_at, 'reason', w.reason, 'history', w.history)
  from (
    select case when token is not null then 'running' when reason = 'released' then 'queued' else 'retrying' end as state,
        delivery, attempts, crashes, due_at, reason::text, history
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
  ) w
$$;

-- log_status: the state of a message that the log alone knows.
create or replace function posthorn.log_status(p_subscription posthorn.subscription, p_lane int, p_id bigint) returns json
language plpgsql stable as $$
declare
  v_state text := 'queued';
  v_ended boolean;
  v_claim posthorn.claim_1;
  v_slot smallint;
begin
  -- An ending lies in the slot of its message, or where the log was open when a retry ended.
  for v_slot in select unnest(slots) from posthorn.ring loop
    execute format('select true from posthorn.ending_%s where message = $1 and subscription = $2 and outcome in (''succeeded'', ''skipped'') limit 1', v_slot)
      into v_ended using p_id, p_subscription.id;
    if v_ended then
      return json_build_object('subscription', p_subscription.name, 'state', 'succeeded');
    end if;
  end loop;
  for v_slot in select unnest(slots) from posthorn.ring loop
    execute format('select c.* from (select * from posthorn.claim_%1$s where subscription = $1 and lane = $2 and not took_late and last_id >= $3
        order by last_id, n limit 1) c where $3 = any (c.messages)
      union all select c.* from posthorn.claim_%1$s c where subscription = $1 and lane = $2 and took_late and $3 = any (c.messages) limit 1', v_slot)
      into v_claim using p_subscription.id, p_lane, p_id;
    if v_claim.id is not null then
      v_state := 'running';
      execute format('select true from posthorn.settlement_%s where claim = $1 and outcome in (''succeeded'', ''skipped'')
        and (messages is null or $2 = any (messages))', v_slot) into v_ended using v_claim.id, p_id;
      if v_ended then
        v_state := 'succeeded';
      end if;
      exit;
    end if;
  end loop;
  return json_build_object('subscription', p_subscription.name, 'state', v_state);
end $$;
