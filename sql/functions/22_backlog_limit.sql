-- What a producer meets when too much waits in a queue. Nothing is counted for a message: the backlog is counted now and then, at most every
-- `backlog_recount_ms`, and what is said meanwhile is added to what was found.

-- set_backlog_limit(subscription, policy): the limit of a queue that was registered; the newest start wins.
create or replace function posthorn.set_backlog_limit(p_subscription int, p_policy json) returns void
language plpgsql as $$
declare
  v_limit json := p_policy -> 'backlogLimit';
  v_channel int := (select c.id from posthorn.subscription s join posthorn.channel c on c.id = s.channel where s.id = p_subscription and c.kind = 'command');
begin
  if v_limit is null or v_channel is null then
    delete from posthorn.backlog_limit where subscription = p_subscription;
    return;
  end if;
  if to_regclass(format('posthorn.backlog_%s', v_channel)) is null then
    execute format('create sequence posthorn.backlog_%s minvalue 0 start 0', v_channel);
  end if;
  insert into posthorn.backlog_limit (channel, subscription, messages, when_full, wait_ms)
    values (v_channel, p_subscription, (v_limit ->> 'messages')::bigint, v_limit ->> 'whenFull', coalesce((v_limit ->> 'waitMs')::float8, 30000))
    on conflict (channel) do update set messages = excluded.messages, when_full = excluded.when_full, wait_ms = excluded.wait_ms;
end $$;

-- backlog_limits(): queues with a limit, as JSON [[channel, name, whenFull, waitMs] …], for producers to keep in mind.
create or replace function posthorn.backlog_limits() returns json
language sql stable as $$
  select coalesce(json_agg(json_build_array(l.channel, c.name, l.when_full, l.wait_ms)), '[]')
    from posthorn.backlog_limit l join posthorn.channel c on c.id = l.channel
$$;

-- The sequence holds the time of the count in tenths of a second, modulo 2^31, above 32 bits for the backlog.
create or replace function posthorn.backlog_tenths() returns bigint
language plpgsql volatile as $$
begin
  return floor(extract(epoch from clock_timestamp()) * 10)::bigint & 2147483647;
end $$;

-- backlog_known(channel): what is known. A clock that was put back makes an old count of it.
create or replace function posthorn.backlog_known(p_channel int) returns posthorn.backlog_known
language plpgsql as $$
declare
  v_value bigint := coalesce(pg_sequence_last_value(format('posthorn.backlog_%s', p_channel)::regclass), 0);
begin
  return row(v_value & 4294967295, ((posthorn.backlog_tenths() - (v_value >> 32)) & 2147483647) * 100.0)::posthorn.backlog_known;
end $$;

-- set_backlog(channel, backlog): counted now.
create or replace function posthorn.set_backlog(p_channel int, p_backlog bigint) returns void
language plpgsql as $$
begin
  perform setval(format('posthorn.backlog_%s', p_channel)::regclass, (posthorn.backlog_tenths() << 32) | least(greatest(p_backlog, 0), 4294967295));
end $$;

-- backlog_recount_ms: the shortest time between two counts: a count of many takes longer.
create or replace function posthorn.backlog_recount_ms(p_backlog bigint) returns float8
language plpgsql immutable as $$
begin
  return 100 + p_backlog / 100.0;
end $$;

-- waiting_for(limit, most): what waits unclaimed or deferred, counted up to about so many.
create or replace function posthorn.waiting_for(p_limit posthorn.backlog_limit, p_most int) returns bigint
language plpgsql set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off as $$
begin
  return (select w.messages + (select count(*) from (select from posthorn.deferred d where d.subscription = p_limit.subscription and d.token is null limit p_most) d)
    from posthorn.waiting_in_log(p_limit.subscription, p_most) w);
end $$;

-- count_backlog(limit): counts what waits unclaimed or deferred, as far as twice the limit, and says so. Who begins to count says the old figure
-- with the new time, so that nobody else does; what others say meanwhile is kept.
create or replace function posthorn.count_backlog(p_limit posthorn.backlog_limit) returns bigint
language plpgsql as $$
declare
  v_before bigint := (posthorn.backlog_known(p_limit.channel)).backlog;
  v_count bigint;
  v_added bigint;
begin
  perform posthorn.set_backlog(p_limit.channel, v_before);
  v_count := posthorn.waiting_for(p_limit, least(p_limit.messages * 2 + 1, 2000000000)::int);
  v_added := greatest(0, (posthorn.backlog_known(p_limit.channel)).backlog - v_before);
  perform posthorn.set_backlog(p_limit.channel, v_count + v_added);
  return v_count + v_added;
end $$;

-- backlog_now(limit, more): what waits, with `more`. Counted anew when that is at the limit, or once in a while, and the last count is not too new.
create or replace function posthorn.backlog_now(p_limit posthorn.backlog_limit, p_more bigint) returns bigint
language plpgsql as $$
declare
  v_known posthorn.backlog_known := posthorn.backlog_known(p_limit.channel);
  v_full boolean := v_known.backlog + p_more >= p_limit.messages;
begin
  if v_known.age_ms >= posthorn.backlog_recount_ms(v_known.backlog) and (v_full or v_known.age_ms >= 5000) then
    v_known.backlog := posthorn.count_backlog(p_limit);
  end if;
  return v_known.backlog + p_more;
end $$;

-- grant_backlog(channel, messages, spent): asks for leave to say so many messages; `spent` were said without. In a transaction of its own. Returns JSON:
--   null when the queue has no limit, { granted } when it has room, which may be more than was asked for, else { backlog, limit, retryAfterMs }.
-- A list of messages is let in as a whole while there is any room.
create or replace function posthorn.grant_backlog(p_channel int, p_messages bigint, p_spent bigint) returns json
language plpgsql as $$
declare
  v_limit posthorn.backlog_limit;
  v_backlog bigint;
  v_granted bigint;
begin
  perform posthorn.own_transaction(false);
  select * into v_limit from posthorn.backlog_limit where channel = p_channel;
  if v_limit.channel is null then
    return null;
  end if;
  perform posthorn.backlog_now(v_limit, p_spent);
  -- After the count, which may take a while; under it a figure is read and written by one session at a time.
  perform pg_advisory_xact_lock(posthorn.lock_key('backlog', p_channel));
  v_backlog := (posthorn.backlog_known(p_channel)).backlog + p_spent;
  v_granted := case when v_backlog < v_limit.messages
    then greatest(p_messages, least(posthorn.backlog_share(v_limit.messages), v_limit.messages - v_backlog)) else 0 end;
  if p_spent + v_granted > 0 then
    perform posthorn.add_backlog(p_channel, p_spent + v_granted);
  end if;
  return case when v_granted > 0 then json_build_object('granted', v_granted)
    else json_build_object('backlog', v_backlog, 'limit', v_limit.messages, 'retryAfterMs', posthorn.backlog_retry_ms(v_limit, v_backlog)) end;
end $$;

-- add_backlog(channel, messages): so many more, without a new time.
create or replace function posthorn.add_backlog(p_channel int, p_messages bigint) returns void
language plpgsql as $$
declare
  v_sequence regclass := format('posthorn.backlog_%s', p_channel)::regclass;
begin
  perform setval(v_sequence, coalesce(pg_sequence_last_value(v_sequence), 0) + p_messages);
end $$;

-- backlog_share(limit): what a process is granted at once beyond what it asks for: a hundredth of the limit, so that it need not ask each time.
create or replace function posthorn.backlog_share(p_messages bigint) returns bigint
language plpgsql immutable as $$
begin
  return least(greatest(p_messages / 100, 1), 1000);
end $$;

-- backlog_retry_ms: when there may be room, by what left the queue in the last minute: from a tenth of a second to a minute, which it is when nothing did.
create or replace function posthorn.backlog_retry_ms(p_limit posthorn.backlog_limit, p_backlog bigint) returns int
language plpgsql as $$
declare
  v_rate float8 := (select sum(posthorn.recent_rate(l.subscription, l.lane, l.slot)) from posthorn.lane l where l.subscription = p_limit.subscription);
begin
  return case when coalesce(v_rate, 0) <= 0 then 60000
    else least(60000, greatest(100, ceil((p_backlog - p_limit.messages + 1) / v_rate * 1000))) end;
end $$;

-- check_backlog(channel, messages): for producers inside a transaction of their own that ask here: adds messages, or raises PH040 with { queue, backlog, limit,
-- retryAfterMs } as its detail. Takes no lock, and what it adds stays although the transaction is rolled back, until the next count.
create or replace function posthorn.check_backlog(p_channel int, p_messages bigint default 1) returns void
language plpgsql as $$
declare
  v_limit posthorn.backlog_limit;
  v_backlog bigint;
  v_retry_ms int;
  v_queue text;
begin
  select * into v_limit from posthorn.backlog_limit where channel = p_channel;
  if v_limit.channel is null then
    return;
  end if;
  v_backlog := posthorn.backlog_now(v_limit, 0);
  if v_backlog >= v_limit.messages then
    v_retry_ms := posthorn.backlog_retry_ms(v_limit, v_backlog);
    v_queue := (select name from posthorn.channel where id = p_channel);
    raise exception 'the queue "%" is full: % messages wait, and its backlogLimit is %', v_queue, v_backlog, v_limit.messages using errcode = 'PH040',
      detail = json_build_object('queue', v_queue, 'backlog', v_backlog, 'limit', v_limit.messages, 'retryAfterMs', v_retry_ms)::text,
      hint = format('Try again in %s ms, or do without.', v_retry_ms);
  end if;
  if p_messages = 1 then
    perform nextval(format('posthorn.backlog_%s', p_channel)::regclass);
  else
    perform posthorn.add_backlog(p_channel, p_messages);
  end if;
end $$;
