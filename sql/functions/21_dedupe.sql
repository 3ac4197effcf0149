-- Dedupe: what counts as the same request, by the contract's name and a key.
--
-- The row of posthorn.dedupe is the lock: of two that say the same key at once the second waits until the first has committed or rolled back.
-- Everything but drop waits in `deferred`, where it stays changeable; the row there is locked by who counts on it, so that it is not taken before
-- that commits. A delivery that runs is never locked from here: its worker would wait for a producer's transaction.

-- dedupe_of(dedupe, key, timed): the part `dedupe` of options, checked. `timed`: the options say a time as well. Raises PH015.
create or replace function posthorn.dedupe_of(
  p_dedupe json, p_key text, p_timed boolean, out key text, out mode text, out window_ms bigint, out wait_ms bigint
) language plpgsql as $$
begin
  perform posthorn.option_keys(p_dedupe, '{key,mode,windowMs,maxWaitMs}', 'options of dedupe');
  key := coalesce(p_key, p_dedupe ->> 'key');
  mode := p_dedupe ->> 'mode';
  window_ms := posthorn.option_number(p_dedupe, 'windowMs', 1, 315360000000);
  wait_ms := posthorn.option_number(p_dedupe, 'maxWaitMs', 1, 315360000000);
  if key is null or (p_key is null and json_typeof(p_dedupe -> 'key') <> 'string') or octet_length(key) not between 1 and 512 then
    raise exception 'the key of dedupe must be a text of 1 to 512 bytes' using errcode = 'PH015';
  elsif mode is null or mode not in ('drop', 'throttle', 'debounce', 'replace', 'once-more') then
    raise exception 'the mode of dedupe must be drop, throttle, debounce, replace or once-more, got %', left(mode, 40) using errcode = 'PH015';
  elsif mode in ('drop', 'throttle', 'debounce') and window_ms is null then
    raise exception 'the mode % of dedupe needs a windowMs', mode using errcode = 'PH015';
  elsif mode in ('replace', 'once-more') and window_ms is not null then
    raise exception 'the mode % of dedupe has no windowMs', mode using errcode = 'PH015';
  elsif wait_ms is not null and mode <> 'debounce' then
    raise exception 'the mode % of dedupe has no maxWaitMs', mode using errcode = 'PH015';
  elsif wait_ms < window_ms then
    raise exception 'maxWaitMs (%) must not be shorter than windowMs (%)', wait_ms, window_ms using errcode = 'PH015';
  elsif p_timed and mode not in ('drop', 'replace') then
    raise exception 'the mode % of dedupe says itself when the message begins, and excludes delayMs and runAt', mode using errcode = 'PH015';
  end if;
end $$;

-- longest_redelivery(policy): the longest time from the first run of a message to the end of its last, in ms: every run as long as it may take, every
-- wait as long as it can be. Null where that is not known: a function computes the waits.
create or replace function posthorn.longest_redelivery(p_policy json) returns float8
language plpgsql immutable as $$
declare
  v_retry json := p_policy -> 'retry';
  v_attempts int := (v_retry ->> 'attempts')::int;
  -- The first so many waits are none.
  v_immediate int := coalesce((v_retry ->> 'immediate')::int, 0);
begin
  return v_attempts * (p_policy ->> 'visibilityTimeoutMs')::float8 + case v_retry ->> 'kind'
    when 'none' then 0
    when 'fixed' then greatest(v_attempts - 1 - v_immediate, 0) * (v_retry ->> 'delayMs')::float8
    when 'exponential' then (select coalesce(sum(least((v_retry ->> 'maxMs')::float8, (v_retry ->> 'firstMs')::float8 * 2 ^ least(n - 1, 60))), 0)
      from generate_series(1, v_attempts - 1 - v_immediate) n)
    when 'delays' then (select coalesce(sum(d.ms::float8), 0) from json_array_elements_text(v_retry -> 'delaysMs') d(ms)) end;
end $$;

-- hold_dedupe: locks the row of a key, waiting for who holds it, and returns it. Where it was not there, it is made for this message; its nonce tells.
-- An update that changes nothing is what locks a row in the same statement. Raises 40001 where the caller's transaction cannot see who was first.
create or replace function posthorn.hold_dedupe(
  p_name text, p_key text, p_subscription int, p_message bigint, p_nonce bigint, p_window_ms bigint
) returns posthorn.dedupe
language plpgsql as $$
declare
  v_now timestamptz := clock_timestamp();
  v_until timestamptz := v_now + coalesce(p_window_ms, 0) * interval '1 ms';
  v_held posthorn.dedupe;
begin
  insert into posthorn.dedupe (name, key, subscription, message, nonce, until, since, look_at)
    values (p_name, p_key, p_subscription, p_message, p_nonce, v_until, v_now, v_until)
    on conflict (name, key) do update set look_at = excluded.look_at where false;
  select * into v_held from posthorn.dedupe d where d.name = p_name and d.key = p_key;
  return v_held;
end $$;

-- hold_keys(said, options): hold_dedupe for all keys of append_said, in the order of contract and key. Afterwards the row of a key of drop names the message that
-- stands for it: that of its first entry where the key is new or its window is over. Raises PH015 for a window that is too short.
create or replace function posthorn.hold_keys(p_said json, p_options json) returns void
language plpgsql as $$
declare
  v_now timestamptz := clock_timestamp();
  v_wanted json;
begin
  select json_agg(json_build_object('name', w.name, 'key', w.dk, 'n', w.n, 'queue', w.queue, 'mode', w.mode, 'ms', w.ms)
      order by w.name collate "C", w.dk collate "C") into v_wanted
    from (select distinct on (c.name collate "C", e.dk collate "C") c.name, e.dk, e.n, q.id as queue,
        p_options -> e.o #>> '{dedupe,mode}' as mode, posthorn.option_number(p_options -> e.o -> 'dedupe', 'windowMs', 1, 315360000000) as ms
      from (select r.*, row_number() over () as place from json_to_recordset(p_said) as r(n bigint, ch int, c int, o int, dk text)) e
      join posthorn.contract c on c.id = e.c join posthorn.subscription q on q.channel = e.ch
      where e.dk is not null order by c.name collate "C", e.dk collate "C", e.place) w;
  perform posthorn.check_window(w.queue, w.ms) from (
    select distinct w.queue, w.ms from json_to_recordset(v_wanted) as w(queue int, mode text, ms bigint) where w.mode = 'drop') w;
  insert into posthorn.dedupe (name, key, subscription, message, nonce, until, since, look_at)
    select w.name, w.key, w.queue, nextval('posthorn.message_id'), w.n, v_now + coalesce(w.ms, 0) * interval '1 ms', v_now, v_now + coalesce(w.ms, 0) * interval '1 ms'
      from json_to_recordset(v_wanted) as w(name text, key text, queue int, n bigint, ms bigint)
    on conflict (name, key) do update set look_at = excluded.look_at where false;
  -- Who was waited for may have taken a while.
  v_now := clock_timestamp();
  update posthorn.dedupe d set subscription = w.queue, message = nextval('posthorn.message_id'), nonce = w.n, until = v_now + w.ms * interval '1 ms',
      since = v_now, look_at = v_now + w.ms * interval '1 ms', behind = null
    from json_to_recordset(v_wanted) as w(name text, key text, queue int, n bigint, mode text, ms bigint)
    where w.mode = 'drop' and d.name = w.name and d.key = w.key and d.until <= v_now and d.nonce <> w.n;
end $$;

-- say_once: writes a message, or finds the one that stands for it. Returns [nonce, id, nonce of the id].
create or replace function posthorn.say_once(
  p_slot smallint, p_subscription int, p_entry json, p_due_at timestamptz, p_expires_at timestamptz, p_priority smallint, p_key text, p_mode text,
  p_window_ms bigint, p_wait_ms bigint
) returns json
language plpgsql as $$
declare
  v_name text := (select c.name from posthorn.contract c where c.id = (p_entry ->> 'c')::int);
  v_nonce bigint := (p_entry ->> 'n')::bigint;
  v_id bigint;
  v_held posthorn.dedupe;
  v_fresh boolean;
  v_now timestamptz;
  v_window constant interval := coalesce(p_window_ms, 0) * interval '1 ms';
  v_waiting posthorn.deferred;
  v_due timestamptz := p_due_at;
  v_until timestamptz;
  v_behind bigint;
begin
  if p_mode = 'drop' then
    perform posthorn.check_window(p_subscription, p_window_ms);
  end if;
  -- A transaction has its id before it draws the id of a message.
  perform pg_current_xact_id();
  v_id := nextval('posthorn.message_id');
  v_held := posthorn.hold_dedupe(v_name, p_key, p_subscription, v_id, v_nonce, p_window_ms);
  v_fresh := v_held.nonce = v_nonce;
  if v_fresh then
    v_id := v_held.message;
  end if;
  v_now := clock_timestamp();
  if not v_fresh then
    if p_mode = 'drop' then
      if v_held.until > v_now then
        return posthorn.stands_for(p_entry, v_held);
      end if;
    else
      v_waiting := posthorn.waiting_of(v_held);
      if v_waiting.id is null and p_mode = 'once-more' then
        -- The newest was cancelled, or has ended while the one before it waits for a retry.
        select * into v_waiting from posthorn.deferred d where d.id = v_held.behind and d.token is null for update;
        v_held.message := coalesce(v_waiting.message, v_held.message);
        v_held.nonce := coalesce(v_waiting.nonce, v_held.nonce);
      end if;
      if v_waiting.id is not null and (p_mode <> 'throttle' or v_waiting.attempts + v_waiting.crashes = 0) then
        perform posthorn.collapse(v_waiting, v_held, p_entry, coalesce(p_due_at, v_now), p_expires_at, p_mode, v_window, p_wait_ms);
        return posthorn.stands_for(p_entry, v_held);
      end if;
    end if;
  end if;
  v_until := v_now + v_window;
  if p_mode = 'throttle' and not v_fresh and v_held.until > v_now then
    v_due := v_held.until;
    v_until := v_due + v_window;
  elsif p_mode = 'debounce' then
    v_due := v_now + v_window;
  elsif p_mode = 'once-more' and not v_fresh then
    v_behind := coalesce((select d.id from posthorn.deferred d where d.subscription = v_held.subscription and d.message = v_held.message
      and d.nonce = v_held.nonce and d.token is not null), (select d.id from posthorn.deferred d where d.id = v_held.behind and d.token is not null));
    v_due := case when v_behind is not null then 'infinity'::timestamptz else v_now end;
  elsif p_mode in ('replace', 'once-more') then
    v_due := coalesce(v_due, v_now);
  end if;
  if not v_fresh then
    update posthorn.dedupe d set subscription = p_subscription, message = v_id, nonce = v_nonce, until = v_until, since = v_now, look_at = v_until,
        behind = v_behind where d.name = v_name and d.key = p_key;
  end if;
  return posthorn.say_new(p_slot, p_subscription, p_entry, v_id, v_due, p_expires_at, p_priority, p_mode = 'once-more', v_behind);
end $$;

-- write_once(home, nonce, channel, contract, key, payload, headers, dedupe key, window): write_one for one message with dedupe of the mode drop and nothing
-- else beside its payload, which is what most keys are for. A key that nobody holds is taken and the message written in few statements, as say_once does it;
-- everything else is for write_said, whose answer is then returned.
select posthorn.by_found_slot(
  'write_once(p_home text, p_nonce bigint, p_channel int, p_contract int, p_key text, p_payload json, p_headers json, p_once text, p_window_ms bigint)',
  'text', $declarations$
  v_home text;
  v_id bigint;
  v_name text;
  v_queue int;
  v_redelivery_ms float8;
  v_now timestamptz;
  v_until timestamptz;
  $declarations$, $before$
  select r.slot, concat(r.system_identifier, '/', r.database), c.name, s.id, s.redelivery_ms into v_slot, v_home, v_name, v_queue, v_redelivery_ms
    from posthorn.ring r left join posthorn.contract c on c.id = p_contract left join posthorn.subscription s on s.channel = p_channel;
  if p_home <> v_home or current_setting('posthorn.home', true) is distinct from v_home then
    v_slot := posthorn.open_slot(p_home);
    if v_slot < 0 then
      return case v_slot when -1 then 'moved' else 'elsewhere' end;
    end if;
  end if;
  if p_window_ms < v_redelivery_ms then
    perform posthorn.check_window(v_queue, p_window_ms);
  end if;
  -- A transaction has its id before it draws the id of a message.
  perform pg_current_xact_id();
  v_now := clock_timestamp();
  v_until := v_now + p_window_ms * interval '1 ms';
  insert into posthorn.dedupe (name, key, subscription, message, nonce, until, since, look_at)
    values (v_name, p_once, v_queue, nextval('posthorn.message_id'), p_nonce, v_until, v_now, v_until)
    on conflict (name, key) do update set look_at = excluded.look_at where false
    returning message into v_id;
  if v_id is null then
    return posthorn.write_said(p_home, json_build_object(
      'said', json_build_array(json_build_object('n', p_nonce::text, 'ch', p_channel, 'c', p_contract, 'k', p_key, 'p', p_payload, 'h', p_headers, 'o', 0, 'dk', p_once)),
      'options', json_build_array(json_build_object('dedupe', json_build_object('mode', 'drop', 'windowMs', p_window_ms)))));
  end if;
  $before$, $body$
    insert into posthorn.message_{slot} (xid, id, nonce, published_at, channel, lane, contract, key, payload, headers)
      values (pg_current_xact_id(), v_id, p_nonce, clock_timestamp(), p_channel, 0, p_contract, p_key, p_payload, p_headers);
  $body$, $after$
  return concat(v_id, ' ', pg_current_xact_id());
  $after$);

-- check_window: a window that is over before a message can run for the last time would let the same request in beside it. Raises PH015.
create or replace function posthorn.check_window(p_subscription int, p_window_ms bigint) returns void
language plpgsql as $$
declare
  v_queue posthorn.subscription;
begin
  select * into v_queue from posthorn.subscription s where s.id = p_subscription;
  if p_window_ms < v_queue.redelivery_ms then
    raise exception 'a window of % ms is shorter than the % ms in which the queue "%" may run a message again', p_window_ms, ceil(v_queue.redelivery_ms),
      v_queue.name using errcode = 'PH015', hint = 'Make windowMs at least as long, or the retries and the visibility timeout of the queue shorter.';
  end if;
end $$;

create or replace function posthorn.stands_for(p_entry json, p_held posthorn.dedupe) returns json
language plpgsql as $$
begin
  return json_build_array(p_entry ->> 'n', p_held.message::text, p_held.nonce::text);
end $$;

-- waiting_of: the waiting delivery of a key's message, locked; null columns when it runs or has ended.
create or replace function posthorn.waiting_of(p_held posthorn.dedupe) returns posthorn.deferred
language plpgsql as $$
declare
  v_row posthorn.deferred;
begin
  select * into v_row from posthorn.deferred d where d.subscription = p_held.subscription and d.message = p_held.message and d.nonce = p_held.nonce
    and d.token is null for update;
  return v_row;
end $$;

-- collapse: what a further request changes about the one that waits. The latest payload counts, but for once-more. A retry keeps its attempts and is
-- not hastened.
create or replace function posthorn.collapse(
  p_row posthorn.deferred, p_held posthorn.dedupe, p_entry json, p_due_at timestamptz, p_expires_at timestamptz, p_mode text, p_window interval,
  p_wait_ms bigint
) returns void
language plpgsql as $$
declare
  v_due timestamptz := case p_mode when 'replace' then p_due_at when 'debounce' then least(clock_timestamp() + p_window, p_held.since + p_wait_ms * interval '1 ms')
    else p_row.due_at end;
begin
  if p_mode = 'once-more' then
    return;
  end if;
  if p_row.behind is not null or p_row.attempts + p_row.crashes > 0 then
    v_due := greatest(v_due, p_row.due_at);
  end if;
  update posthorn.deferred d set contract = (p_entry ->> 'c')::int, key = p_entry ->> 'k', payload = coalesce(p_entry -> 'p', 'null'), headers = p_entry -> 'h',
    expires_at = p_expires_at, due_at = least(v_due, p_expires_at) where d.id = p_row.id;
end $$;

-- let_go(deferred): the one that waited behind this delivery may run. Passes over what a producer holds just now; tidy_dedupe finds it.
create or replace function posthorn.let_go(p_deferred bigint) returns void
language plpgsql as $$
begin
  update posthorn.deferred d set due_at = least(clock_timestamp(), d.expires_at), behind = null
    where d.id in (select b.id from posthorn.deferred b where b.behind = p_deferred and b.token is null for update skip locked);
end $$;

-- tidy_dedupe(limit): one pass: lets go what waits behind a delivery that runs no more, and forgets keys whose window is over and whose message neither
-- waits nor runs, nor the one that it was behind. Returns how many it looked at; as many as `limit`: there may be more.
create or replace function posthorn.tidy_dedupe(p_limit int) returns int
language plpgsql
set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_looked int;
  v_now timestamptz := clock_timestamp();
begin
  perform posthorn.own_transaction(true);
  if not pg_try_advisory_xact_lock(posthorn.lock_key('dedupe')) then
    return 0;
  end if;
  update posthorn.deferred d set due_at = least(clock_timestamp(), d.expires_at), behind = null
    where d.id in (select b.id from posthorn.deferred b where b.behind is not null and b.token is null
      and not exists (select from posthorn.deferred r where r.id = b.behind and r.token is not null offset 0) order by b.behind limit p_limit for update skip locked);
  -- Those that live on are looked at again after a minute.
  with over as materialized (
    select d.name, d.key, exists (select from posthorn.deferred w where w.subscription = d.subscription and w.message = d.message offset 0)
        or exists (select from posthorn.deferred w where w.id = d.behind offset 0) as lives
      from posthorn.dedupe d where d.look_at < v_now order by d.look_at limit p_limit for update skip locked
  ), kept as (
    update posthorn.dedupe d set look_at = clock_timestamp() + interval '1 minute' from over o where o.lives and d.name = o.name and d.key = o.key
  ), gone as (
    delete from posthorn.dedupe d using over o where not o.lives and d.name = o.name and d.key = o.key
  )
  select count(*) into v_looked from over;
  return v_looked;
end $$;
