-- What is said beside the payload: delay, expiry, priority. Messages without any of it do not come here.
--
-- A message that must wait lies in the log, in a lane that nobody reads, so that its id, history and status are those of any message; and as
-- its first delivery in `deferred`, in the same transaction. All times are on the clock of the database.

-- lane_of_priority, priority_of: a priority has a lane of its own in its queue, with a number that no channel counts up to. Zero has lane 0.
create or replace function posthorn.lane_of_priority(p_priority int) returns int
language sql immutable as $$ select case when p_priority = 0 then 0 else 2000 + p_priority end $$;

create or replace function posthorn.priority_of(p_lane int) returns smallint
language sql immutable as $$ select (case when p_lane > 1024 then p_lane - 2000 else 0 end)::smallint $$;

-- urgency(priority, since): what comes first among several priorities: the class, and one class more for each 30 seconds of waiting, so that
-- the lowest waits two minutes longer than the highest and is never starved.
create or replace function posthorn.urgency(p_priority int, p_since timestamptz) returns float8
language sql volatile as $$ select p_priority + extract(epoch from clock_timestamp() - p_since)::float8 / 30 $$;

-- classes(subscription): the priorities that its queue has lanes for; zero alone where none was ever used.
create or replace function posthorn.classes(p_subscription int) returns setof smallint
language sql stable as $$
  select 0::smallint union all select posthorn.priority_of(l.lane) from posthorn.lane l where l.subscription = p_subscription and l.lane > 1024
$$;

-- fits_order(channel, options): refuses for a queue that keeps the order of each key what would have a message overtake those before it, or what
-- changes a message that has its place already. A time does not: a message takes its place when it is due. Raises PH015.
create or replace function posthorn.fits_order(p_channel int, p_options json) returns void
language plpgsql as $$
declare
  v_queue text := (select s.name from posthorn.subscription s where s.channel = p_channel and s.ordering is not null);
  v_mode text := p_options #>> '{dedupe,mode}';
begin
  if v_queue is null then
    return;
  elsif json_typeof(p_options -> 'priority') = 'number' and (p_options ->> 'priority')::numeric <> 0 then
    raise exception 'the queue "%" keeps the order of each key and takes no priority: it would have a message overtake those of its key', v_queue
      using errcode = 'PH015', hint = 'Leave it out, or declare the queue with ordering "none".';
  elsif v_mode in ('throttle', 'debounce', 'replace', 'once-more') then
    raise exception 'the queue "%" keeps the order of each key and takes no dedupe of the mode %: it changes a message that has its place in the order of its key',
      v_queue, v_mode using errcode = 'PH015', hint = 'The mode drop works there. Or declare the queue with ordering "none".';
  end if;
end $$;

-- make_lane(channel, priority): the lane of a priority, made when it is first used. Its reader starts at the beginning. Who comes second while
-- the first has not committed waits, so producers have it made beside their transactions where they can.
create or replace function posthorn.make_lane(p_channel int, p_priority int) returns void
language plpgsql as $$
declare
  v_subscription int := (select id from posthorn.subscription where channel = p_channel);
  v_lane int := posthorn.lane_of_priority(p_priority);
  v_slot smallint;
  v_tick bigint;
begin
  if exists (select from posthorn.lane l where l.subscription = v_subscription and l.lane = v_lane) then
    return;
  end if;
  perform posthorn.fits_order(p_channel, json_build_object('priority', p_priority));
  select r.slots[cardinality(r.slots)] into v_slot from posthorn.ring r;
  v_tick := nextval('posthorn.tick_id');
  perform posthorn.write_tick(v_slot, v_tick, 0, '3:3:');
  insert into posthorn.lane (subscription, lane, slot, n, floor, ceiling, last_id, late, late_xids)
    values (v_subscription, v_lane, v_slot, 0, v_tick, v_tick, 0, false, null) on conflict do nothing;
end $$;

-- option_number(options, field, least, most): a whole number of the options, null when it is not given. Raises PH015.
create or replace function posthorn.option_number(p_options json, p_field text, p_least bigint, p_most bigint) returns bigint
language plpgsql immutable as $$
declare
  v_text text := p_options ->> p_field;
begin
  if v_text is null then
    return null;
  end if;
  if json_typeof(p_options -> p_field) <> 'number' or v_text !~ '^-?[0-9]{1,18}$' or v_text::bigint not between p_least and p_most then
    raise exception 'the option % must be an integer from % to %, got %', p_field, p_least, p_most, left(v_text, 40) using errcode = 'PH015';
  end if;
  return v_text::bigint;
end $$;

-- option_keys(options, known, what): refuses what is no object, and names that are not known. Raises PH015.
create or replace function posthorn.option_keys(p_options json, p_known text[], p_what text) returns void
language plpgsql immutable as $$
declare
  v_unknown text;
begin
  if json_typeof(p_options) <> 'object' then
    raise exception 'the % are no object', p_what using errcode = 'PH015';
  end if;
  select k into v_unknown from json_object_keys(p_options) k where k <> all (p_known) limit 1;
  if v_unknown is not null then
    raise exception 'the % know no "%"', p_what, left(v_unknown, 80) using errcode = 'PH015', hint = format('Known are: %s.', array_to_string(p_known, ', '));
  end if;
end $$;

-- options_of(options, key): options as JSON { delayMs, runAt, expiresInMs, priority, dedupe: { key, mode, windowMs, maxWaitMs } }, checked and on the clock of
-- the database. `due_at` is null where it may begin at once. The key of dedupe may come beside them. Raises PH015.
create or replace function posthorn.options_of(
  p_options json, p_key text, out due_at timestamptz, out expires_at timestamptz, out priority smallint, out key text, out mode text, out window_ms bigint,
  out wait_ms bigint
) language plpgsql as $$
declare
  v_now timestamptz := clock_timestamp();
  v_longest constant bigint := 315360000000;
  v_delay bigint;
  v_expires bigint;
begin
  perform posthorn.option_keys(p_options, '{delayMs,runAt,expiresInMs,priority,dedupe}', 'options of a command');
  v_delay := posthorn.option_number(p_options, 'delayMs', 0, v_longest);
  v_expires := posthorn.option_number(p_options, 'expiresInMs', 1, v_longest);
  priority := coalesce(posthorn.option_number(p_options, 'priority', -2, 2), 0);
  if p_options ->> 'runAt' is not null then
    due_at := posthorn.run_at(p_options ->> 'runAt', v_now + v_longest * interval '1 ms');
    if v_delay is not null then
      raise exception 'delayMs and runAt exclude each other' using errcode = 'PH015';
    end if;
  elsif v_delay > 0 then
    due_at := v_now + v_delay * interval '1 ms';
  end if;
  if due_at <= v_now then
    due_at := null;
  end if;
  expires_at := v_now + v_expires * interval '1 ms';
  if expires_at <= due_at then
    raise exception 'it would expire before it may begin: at % and not before %', expires_at, due_at using errcode = 'PH015',
      hint = 'Make expiresInMs longer than the delay.';
  end if;
  if p_options ->> 'dedupe' is not null then
    select d.key, d.mode, d.window_ms, d.wait_ms into key, mode, window_ms, wait_ms from posthorn.dedupe_of(p_options -> 'dedupe', p_key, due_at is not null) d;
  end if;
end $$;

-- run_at(text, latest): a time with a date, as ISO 8601 writes it. Raises PH015.
create or replace function posthorn.run_at(p_text text, p_latest timestamptz) returns timestamptz
language plpgsql stable as $$
declare
  v_at timestamptz;
begin
  begin
    v_at := case when p_text ~ '^[0-9]{4,6}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}' then p_text::timestamptz end;
  exception when others then
    v_at := null;
  end;
  if v_at is null or v_at > p_latest then
    raise exception 'the option runAt must be a time in ISO 8601, at most 10 years from now, got %', left(p_text, 40) using errcode = 'PH015';
  end if;
  return v_at;
end $$;

-- append_said(slot, said): as append, for JSON { said: list, options: list }: the entries of `said` name their options by index, from 0, as "o", and their
-- keys of dedupe as "dk". All keys are locked first and in one order, so that two lists wait for each other and never in a ring.
-- Returns [[nonce, id, nonce of the id]]; the two nonces differ where an earlier message stands for this one. This runs in transactions of callers, where
-- nothing may be set, and its plans are kept: those that were made beside empty tables must be right beside full ones. So it sets for itself alone.
create or replace function posthorn.append_said(p_slot smallint, p_said json) returns json
language plpgsql
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_entry json;
  v_places json[] := '{}';
  -- Taken out once: each look into the whole would read all of it.
  v_said json := p_said -> 'said';
  v_options json := p_said -> 'options';
begin
  perform pg_current_xact_id();
  if json_array_length(v_said) = 1 then
    return json_build_array(posthorn.say_one(p_slot, v_said -> 0, v_options -> 0, v_said -> 0 ->> 'dk'));
  end if;
  perform posthorn.fits_order(q.ch, v_options -> q.o) from (
    select distinct r.ch, r.o from json_to_recordset(v_said) as r(ch int, o int) where r.o is not null) q;
  if exists (select from json_array_elements(v_options) o(options) where o.options ->> 'priority' is not null) then
    perform posthorn.make_lane(p.ch, p.priority) from (
      select distinct r.ch, (v_options -> r.o ->> 'priority')::int as priority from json_to_recordset(v_said) as r(ch int, o int)) p
      where p.priority between -2 and 2 and p.priority <> 0;
  end if;
  if exists (select from json_array_elements(v_options) o(options) where o.options ->> 'dedupe' is not null) then
    perform posthorn.hold_keys(v_said, v_options);
  end if;
  if not exists (select from json_array_elements(v_options) o(options) where o.options #>> '{dedupe,mode}' <> 'drop') then
    return posthorn.append_many_of(p_slot, v_said, v_options);
  end if;
  for v_entry in select json_array_elements(v_said) loop
    v_places := v_places || posthorn.say_one(p_slot, v_entry, v_options -> (v_entry ->> 'o')::int, v_entry ->> 'dk');
  end loop;
  return to_json(v_places);
end $$;

-- append_many_of: writes the entries of append_said, in one statement; of those with a key the ones whose nonce its row has, see hold_keys. Ids were drawn
-- there in the order of the keys; where a queue keeps order they are drawn anew in the order of the list, which is the order of its messages.
select posthorn.by_slot('append_many_of(p_slot smallint, p_said json, p_options json)', 'json', $body$
  declare v_places json;
  begin
  with options as materialized (
    select o.n - 1 as i, p.* from json_array_elements(p_options) with ordinality o(options, n)
      cross join lateral posthorn.options_of(o.options, 'checked') p
  ), entry as materialized (
    select r.*, row_number() over () as place
      from json_to_recordset(p_said) as r(n bigint, ch int, c int, k text, p json, h json, o int, dk text)
  ), said as materialized (
    select e.*, case when e.message is null or e.anew then nextval('posthorn.message_id') else e.message end as id from (
      select e.*, o.due_at, o.expires_at, coalesce(o.priority, 0)::smallint as priority, d.message, coalesce(d.nonce, e.n) as nonce, c.name,
          d.nonce = e.n and exists (select from posthorn.subscription q where q.channel = e.ch and q.ordering is not null) as anew
        from entry e left join options o on o.i = e.o left join posthorn.contract c on e.dk is not null and c.id = e.c
        left join lateral (select * from posthorn.dedupe d where d.name = c.name and d.key = e.dk offset 0) d on e.dk is not null
        order by e.place offset 0) e
  ), named as (
    update posthorn.dedupe d set message = s.id from said s where s.anew and d.name = s.name and d.key = s.dk
  ), written as (
    insert into posthorn.message_{slot} (xid, id, nonce, published_at, channel, lane, contract, key, payload, headers, expires_at)
      select pg_current_xact_id(), s.id, s.n, clock_timestamp(), s.ch & 2097151,
        case when s.due_at is not null then -1 when s.o is null then posthorn.lane_in(s.ch, s.k) else posthorn.lane_of_priority(s.priority) end,
        s.c, s.k, coalesce(s.p, 'null'), s.h, s.expires_at from said s where s.nonce = s.n
  ), later as (
    insert into posthorn.deferred (subscription, due_at, delivery, attempts, crashes, reason, message, nonce, channel, lane, contract, key, payload, headers,
        published_at, history, expires_at, priority)
      select q.id, s.due_at, 1, 0, 0, 'scheduled', s.id, s.n, s.ch, -1, s.c, s.k, coalesce(s.p, 'null'), s.h, clock_timestamp(), '[]', s.expires_at, s.priority
        from said s join posthorn.subscription q on q.channel = s.ch where s.nonce = s.n and s.due_at is not null
  )
  select json_agg(json_build_array(s.n::text, s.id::text, s.nonce::text)) into v_places
    from (select s.n, s.nonce, coalesce(max(s.id) filter (where s.n = s.nonce) over (partition by s.nonce), s.id) as id from said s) s;
  return v_places;
  end;
$body$);

-- write_said(home, said): append_said as a producer does it; returns { xid, places }, or why nothing was written, as write_one.
create or replace function posthorn.write_said(p_home text, p_said json) returns text
language plpgsql as $$
declare
  v_slot smallint := posthorn.open_slot(p_home);
begin
  if v_slot < 0 then
    return case v_slot when -1 then posthorn.moved_away() else 'elsewhere' end;
  end if;
  return json_build_object('places', posthorn.append_said(v_slot, p_said), 'xid', pg_current_xact_id()::text);
end $$;

-- say_one(slot, entry, options, key): one entry of append_said. The key may lie in the options.
create or replace function posthorn.say_one(p_slot smallint, p_entry json, p_options json, p_key text) returns json
language plpgsql
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_options record;
  v_subscription int;
begin
  if p_options is null then
    return json_build_array(p_entry ->> 'n', posthorn.append_one_of(p_slot, (p_entry ->> 'n')::bigint, (p_entry ->> 'ch')::int, (p_entry ->> 'c')::int,
      p_entry ->> 'k', p_entry -> 'p', p_entry -> 'h')::text, p_entry ->> 'n');
  end if;
  select * into v_options from posthorn.options_of(p_options, p_key);
  perform posthorn.fits_order((p_entry ->> 'ch')::int, p_options);
  v_subscription := (select s.id from posthorn.subscription s where s.channel = (p_entry ->> 'ch')::int);
  if v_options.priority <> 0 then
    perform posthorn.make_lane((p_entry ->> 'ch')::int, v_options.priority);
  end if;
  if v_options.mode is not null then
    return posthorn.say_once(p_slot, v_subscription, p_entry, v_options.due_at, v_options.expires_at, v_options.priority, v_options.key, v_options.mode,
      v_options.window_ms, v_options.wait_ms);
  end if;
  return posthorn.say_new(p_slot, v_subscription, p_entry, null, v_options.due_at, v_options.expires_at, v_options.priority);
end $$;

-- say_new: writes a message, and where it has a time, its first delivery into `deferred`. `p_id` is null for the next id.
create or replace function posthorn.say_new(
  p_slot smallint, p_subscription int, p_entry json, p_id bigint, p_due_at timestamptz, p_expires_at timestamptz, p_priority smallint,
  p_once_more boolean default false, p_behind bigint default null
) returns json
language plpgsql as $$
declare
  v_id bigint := posthorn.append_said_of(p_slot, p_entry, p_id, case when p_due_at is null then posthorn.lane_of_priority(p_priority) else -1 end,
    p_expires_at);
begin
  if p_due_at is not null then
    insert into posthorn.deferred (subscription, due_at, delivery, attempts, crashes, reason, message, nonce, channel, lane, contract, key, payload, headers,
        published_at, history, expires_at, priority, once_more, behind)
      values (p_subscription, least(p_due_at, p_expires_at), 1, 0, 0, 'scheduled', v_id, (p_entry ->> 'n')::bigint, (p_entry ->> 'ch')::int, -1,
        (p_entry ->> 'c')::int, p_entry ->> 'k', coalesce(p_entry -> 'p', 'null'), p_entry -> 'h', clock_timestamp(), '[]', p_expires_at, p_priority,
        p_once_more, p_behind);
  end if;
  return json_build_array(p_entry ->> 'n', v_id::text, p_entry ->> 'n');
end $$;

select posthorn.by_slot('append_said_of(p_slot smallint, p_entry json, p_id bigint, p_lane int, p_expires_at timestamptz)', 'bigint', $body$
  declare v_id bigint;
  begin
    insert into posthorn.message_{slot} (xid, id, nonce, published_at, channel, lane, contract, key, payload, headers, expires_at)
      values (pg_current_xact_id(), coalesce(p_id, nextval('posthorn.message_id')), (p_entry ->> 'n')::bigint, clock_timestamp(), (p_entry ->> 'ch')::int,
        p_lane, (p_entry ->> 'c')::int, p_entry ->> 'k', coalesce(p_entry -> 'p', 'null'), p_entry -> 'h', p_expires_at)
      returning id into v_id;
    return v_id;
  end;
$body$);

-- claim_by_priority: as claim, of the lane of a queue that is most urgent now. With "more": true where another lane has something as well.
create or replace function posthorn.claim_by_priority(p_subscription int, p_worker bigint, p_limit int) returns text
language plpgsql as $$
declare
  v_ring posthorn.ring;
  v_channel int := (select s.channel from posthorn.subscription s where s.id = p_subscription);
  v_lane record;
  v_claimed text;
  v_taken text;
  v_other text;
begin
  select * into v_ring from posthorn.ring;
  for v_lane in
    select l.lane from posthorn.lane l cross join lateral (select posthorn.lane_head(posthorn.slots_from(v_ring, l.read_from), p_subscription, l.lane, v_channel) as oldest offset 0) head
      where l.subscription = p_subscription and head.oldest is not null
      order by posthorn.urgency(posthorn.priority_of(l.lane), head.oldest) desc, head.oldest
  loop
    if v_taken is not null then
      return '{"more":true,' || substr(v_taken, 2);
    end if;
    v_claimed := posthorn.claim(p_subscription, v_lane.lane, p_worker, p_limit);
    if posthorn.is_claim(v_claimed) then
      v_taken := v_claimed;
    elsif v_claimed <> '{}' then
      -- Why this lane gave nothing; or that it is to be asked again.
      v_other := case when v_other is null or v_claimed = '{"again":true}' then v_claimed else v_other end;
    end if;
  end loop;
  return coalesce(v_taken, v_other, '{}');
end $$;

-- lane_head: when the oldest message of a lane was said that a claim would find; null when there is none.
create or replace function posthorn.lane_head(p_slots smallint[], p_subscription int, p_lane int, p_channel int) returns timestamptz
language plpgsql as $$
declare
  v_first_id bigint := (select r.first_id from posthorn.ring r);
  v_at posthorn.position := posthorn.position_of(p_subscription, p_lane);
  v_ceiling posthorn.tick := posthorn.tick_of(v_at.slot, v_at.ceiling);
  v_floor_id bigint := (posthorn.tick_of(v_at.slot, v_at.floor)).ceiling_id;
  v_slot smallint;
  v_xids xid8[];
  v_now pg_snapshot;
  v_late posthorn.batch;
  v_oldest timestamptz;
begin
  foreach v_slot in array p_slots loop
    v_oldest := least(v_oldest, (posthorn.count_after_of(v_slot, p_channel, p_lane,
      case when v_at.late then v_floor_id else v_at.last_id end, 1)).oldest);
  end loop;
  -- Committed late: in the window that is open, or below its ceiling and seen only now.
  if v_at.late then
    v_late := posthorn.late_page(p_slots, p_channel, p_lane, v_at.late_xids, v_at.last_id, v_floor_id, 1);
  end if;
  if v_late.ids is null then
    select pg_current_snapshot() into v_now;
    v_xids := posthorn.late_xids(p_slots, p_channel, p_lane, v_ceiling.snapshot, v_ceiling.ceiling_id, v_first_id, v_now);
    if v_xids is not null then
      v_late := posthorn.late_page(p_slots, p_channel, p_lane, v_xids, v_first_id - 1, v_ceiling.ceiling_id, 1);
    end if;
  end if;
  if v_late.ids is not null then
    v_oldest := least(v_oldest, to_timestamp((v_late.items::json ->> 7)::float8 / 1000));
  end if;
  -- A window whose late part was not finished has to be claimed from, whatever is left in it.
  return case when v_oldest is null and v_at.late then clock_timestamp() else v_oldest end;
end $$;

-- lock_due: the ids of deliveries that are due, locked, the most urgent first: of these contracts, with at least `from` and fewer than `below` crashes.
-- Rows that others are taking are passed over. Ordered: of messages with a key only those that have a place.
-- Plan: deferred_due in its order, once for each priority in use.
create or replace function posthorn.lock_due(p_subscription int, p_contracts int[], p_from int, p_below int, p_limit int, p_ordered boolean)
returns bigint[]
language plpgsql as $$
declare
  -- Read once: compared with a function that may change, the index would be read on to its end.
  v_now timestamptz := clock_timestamp();
begin
  return array(select first.id from posthorn.classes(p_subscription) c(class)
    cross join lateral (select d.id, d.due_at from posthorn.deferred d
      where d.subscription = p_subscription and d.priority = c.class and d.token is null and d.due_at <= v_now
        and d.contract = any (p_contracts) and d.crashes >= p_from and d.crashes < p_below
        and (not p_ordered or d.place is not null or d.key is null)
      order by d.due_at limit p_limit for update skip locked) first
    order by posthorn.urgency(c.class, first.due_at) desc limit p_limit);
end $$;

-- first_due: when the first delivery that waits is due, of the contracts that a worker has handlers for; null for none.
-- Plan: deferred_due, one probe for each priority in use.
create or replace function posthorn.first_due(p_subscription int, p_contracts int[]) returns timestamptz
language plpgsql as $$
begin
  return (select min(first.due_at) from posthorn.classes(p_subscription) c(class)
    cross join lateral (select d.due_at from posthorn.deferred d
      where d.subscription = p_subscription and d.priority = c.class and d.token is null and d.due_at < 'infinity' and d.contract = any (p_contracts)
      order by d.due_at limit 1) first);
end $$;

-- take_due: take, and when the next is due in ms: JSON { taken, next }; `next` is null when more may be due already, or nothing waits. Where a
-- breaker is declared { openMs } and { probe, taken }, as take.
create or replace function posthorn.take_due(p_subscription int, p_worker bigint, p_contracts json, p_limit int) returns json
language plpgsql as $$
declare
  v_taken json := posthorn.take(p_subscription, p_worker, p_contracts, p_limit);
begin
  if json_typeof(v_taken) = 'object' then
    return v_taken;
  end if;
  return json_build_object('taken', v_taken, 'next', case when json_array_length(v_taken) < p_limit then
    (ceil(extract(epoch from posthorn.first_due(p_subscription, posthorn.every_of(p_subscription, array(select c::int from json_array_elements_text(p_contracts) c))) - clock_timestamp()) * 1000))::float8 end);
end $$;
