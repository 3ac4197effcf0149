-- What operators order, and how far it is. Each thing is one row of posthorn.operation. Pauses and what concerns one message are done at once; the rest
-- is done in pieces, each a transaction of its own: whoever drives them may die at any time, and anybody goes on.

-- begin_operation(verb, target, arguments, by, reason, found, place): writes the row down, and returns it.
create or replace function posthorn.begin_operation(
  p_verb text, p_target text, p_arguments json, p_by text, p_reason text, p_found bigint, p_place json
) returns json
language plpgsql as $$
declare
  v_row posthorn.operation;
begin
  perform posthorn.require_home();
  if p_by is null or length(p_by) not between 1 and 200 then
    raise exception 'who orders this is not said, or is longer than 200 letters' using errcode = 'PH015', hint = 'Say it as "by".';
  elsif length(p_reason) > 500 then
    raise exception 'the reason is longer than 500 letters' using errcode = 'PH015', hint = 'Make it shorter.';
  end if;
  insert into posthorn.operation (verb, target, arguments, ordered_by, reason, found, place)
    values (p_verb, p_target, p_arguments, p_by, p_reason, p_found, p_place) returning * into v_row;
  return posthorn.operation_of(v_row);
end $$;

-- note_operation(verb, arguments, by, reason, done): what was done at once.
create or replace function posthorn.note_operation(p_verb text, p_arguments json, p_by text, p_reason text, p_done bigint) returns void
language plpgsql as $$
begin
  if p_done > 0 then
    insert into posthorn.operation (verb, target, arguments, ordered_by, reason, ended_at, state, found, done)
      values (p_verb, coalesce(p_arguments ->> 'subscription', p_arguments ->> 'name'), p_arguments, left(p_by, 200), left(p_reason, 500), clock_timestamp(),
        'done', p_done, p_done);
  end if;
end $$;

-- operation_of(row): an operation as JSON. One that runs and that nobody has touched for 30 s is interrupted: whoever drove it is gone.
create or replace function posthorn.operation_of(p_row posthorn.operation) returns json
language sql volatile as $$
  select json_strip_nulls(json_build_object('operation', (p_row).id::text, 'verb', (p_row).verb, 'target', (p_row).target, 'arguments', (p_row).arguments,
    'by', (p_row).ordered_by, 'reason', (p_row).reason, 'begunAt', (p_row).begun_at, 'touchedAt', (p_row).touched_at, 'endedAt', (p_row).ended_at,
    'state', posthorn.operation_state((p_row).state, (p_row).touched_at), 'found', (p_row).found, 'done', (p_row).done, 'passed', (p_row).place -> 'passed'))
$$;

create or replace function posthorn.operation_state(p_state text, p_touched_at timestamptz) returns text
language sql volatile as $$
  select case when p_state = 'running' and p_touched_at < clock_timestamp() - interval '30 s' then 'interrupted' else p_state end
$$;

-- proceed(operation, limit): does the next piece of an operation: at most `limit` messages, in one transaction. Returns the operation as JSON, with
-- { busy: true } where somebody else is at it just now and it pays to ask again a little later. One that has ended comes back as it is.
-- Raises PH062 (no such operation).
create or replace function posthorn.proceed(operation bigint, "limit" int default 500) returns json
language plpgsql as $$
declare
  v_row posthorn.operation;
  v_did record;
  v_limit constant int := least(greatest("limit", 1), 5000);
begin
  perform posthorn.own_transaction(true), set_config('lock_timeout', '5s', true);
  select o.* into v_row from posthorn.operation o where o.id = $1 for update;
  if v_row.id is null then
    raise exception 'no operation has the number %', $1 using errcode = 'PH062', hint = 'See select * from posthorn.audit.';
  elsif v_row.state <> 'running' then
    return posthorn.operation_of(v_row);
  end if;
  begin
    v_did := case v_row.verb
      when 'purge' then posthorn.purge_piece(v_row, v_limit)
      when 'redrive' then posthorn.letters_piece(v_row, v_limit)
      when 'discard' then posthorn.letters_piece(v_row, v_limit)
      when 'replay' then posthorn.replay_piece(v_row, v_limit)
      when 'erase' then posthorn.erase_piece(v_row, v_limit)
      when 'remove' then case when v_row.place ->> 'intake' is null then posthorn.remove_piece(v_row, v_limit) else posthorn.remove_intake_piece(v_row, v_limit) end end;
  exception when lock_not_available or deadlock_detected then
    -- Live traffic comes first: nothing of this piece was done.
    select 0::bigint as done, true as more, true as busy, v_row.place as place into v_did;
  end;
  update posthorn.operation o set touched_at = clock_timestamp(), done = o.done + v_did.done, place = v_did.place,
      state = case when v_did.more then 'running' else 'done' end, ended_at = case when not v_did.more then clock_timestamp() end
    where o.id = v_row.id returning o.* into v_row;
  if v_row.state = 'done' then
    v_row := posthorn.hide_key(v_row);
  end if;
  return (posthorn.operation_of(v_row)::jsonb || jsonb_build_object('busy', v_did.busy))::json;
end $$;

-- digest_of(key): what the record of an erased key is kept under.
create or replace function posthorn.digest_of(p_key text) returns text
language sql immutable as $$ select 'sha256:' || encode(sha256(convert_to(p_key, 'UTF8')), 'hex') $$;

-- hide_key(row): of an erasure that goes on no more the record says which key it was only to whoever knows the key.
create or replace function posthorn.hide_key(p_row posthorn.operation) returns posthorn.operation
language plpgsql as $$
begin
  if p_row.verb = 'erase' then
    update posthorn.operation o set arguments = (o.arguments::jsonb || jsonb_build_object('key', posthorn.digest_of(o.arguments ->> 'key')))::json
      where o.id = p_row.id returning o.* into p_row;
  end if;
  return p_row;
end $$;

-- stop_operation(operation): ends it where it is; what is done stays done. False where it does not run.
create or replace function posthorn.stop_operation(operation bigint) returns boolean
language plpgsql as $$
declare
  v_row posthorn.operation;
begin
  perform posthorn.require_home();
  update posthorn.operation o set state = 'stopped', ended_at = clock_timestamp() where o.id = $1 and o.state = 'running' returning o.* into v_row;
  if v_row.id is null then
    return false;
  end if;
  perform posthorn.hide_key(v_row);
  return true;
end $$;

-- call run(operation, per_second): does all that is left of an operation, at most so many messages a second; null for as fast as it goes. For psql: it
-- commits after each piece, so it cannot be called inside a transaction.
create or replace procedure posthorn.run(operation bigint, per_second int default null)
language plpgsql as $$
declare
  v_limit constant int := case when per_second is null then 500 else greatest(1, per_second / 5) end;
  v_before bigint;
  v_row json;
begin
  loop
    v_before := (select o.done from posthorn.operation o where o.id = $1);
    v_row := posthorn.proceed($1, v_limit);
    commit;
    exit when v_row ->> 'state' in ('done', 'stopped');
    if (v_row ->> 'busy')::boolean then
      perform pg_sleep(0.05);
    elsif per_second is not null then
      perform pg_sleep(((v_row ->> 'done')::bigint - v_before)::float8 / per_second);
    end if;
  end loop;
end $$;

-- operations(limit, before): the record, the newest first, as JSON.
create or replace function posthorn.operations(p_limit int, p_running boolean) returns json
language sql volatile as $$
  select coalesce(json_agg(posthorn.operation_of(o) order by (o).id desc), '[]')
    from (select o from posthorn.operation o where not p_running or o.state = 'running' order by o.id desc limit p_limit) x(o)
$$;

-- confirmed(given, wanted, what): raises PH061 unless the caller has repeated what will be changed.
create or replace function posthorn.confirmed(p_given text, p_wanted text, p_what text) returns void
language plpgsql as $$
begin
  if p_given is distinct from p_wanted then
    raise exception '% was not confirmed', p_what using errcode = 'PH061', hint = format('Pass confirm => %L. Nothing was changed.', p_wanted);
  end if;
end $$;

-- reader(name): the subscription of this name, or that of the queue. Raises PH060.
create or replace function posthorn.reader(p_name text) returns posthorn.subscription
language plpgsql as $$
declare
  v_row posthorn.subscription;
begin
  select * into v_row from posthorn.subscription s where s.name = p_name;
  if v_row.id is null and exists (select from posthorn.intake i where i.name = p_name) then
    raise exception '"%" is an intake, and no queue or subscription', p_name using errcode = 'PH060',
      hint = 'It is paused by posthorn.pause and removed by posthorn.remove_intake; how it stands says the view posthorn.intakes.';
  elsif v_row.id is null then
    raise exception 'no queue or subscription is called "%"', left(p_name, 80) using errcode = 'PH060',
      hint = format('Known are: %s.', coalesce((select string_agg(s.name, ', ' order by s.name) from (select name from posthorn.subscription order by name limit 50) s), 'none'));
  end if;
  return v_row;
end $$;

-- lanes_of(channel): all lanes that messages of a channel lie in: those that are claimed, and that of what waits for its time.
create or replace function posthorn.lanes_of(p_channel int) returns setof int
language sql stable as $$
  select generate_series(0, c.lanes - 1) from posthorn.channel c where c.id = p_channel
  union all select -1 from posthorn.channel c where c.id = p_channel and c.kind = 'command'
  union select l.lane from posthorn.subscription s join posthorn.lane l on l.subscription = s.id where s.channel = p_channel and l.lane > 1024
$$;

-- log_heads_of: messages of a lane between two ids without what they carry. Plan: message_N_by_id.
select posthorn.by_slot('log_heads_of(p_slot smallint, p_channel int, p_lane int, p_after bigint, p_upto bigint, p_limit int)',
  'table (id bigint, lane int, nonce bigint, contract int, key text, published_at timestamptz, xid xid8, slot smallint)', $body$
  return query select m.id, m.lane, m.nonce, m.contract, m.key, m.published_at, m.xid, {slot}::smallint from posthorn.message_{slot} m
    where m.channel = p_channel and m.lane = p_lane and m.id > p_after and m.id <= p_upto order by m.id limit p_limit;
$body$);

-- log_heads(channel, after, upto, limit): the same of all lanes and slots, by id.
create or replace function posthorn.log_heads(p_channel int, p_after bigint, p_upto bigint, p_limit int)
returns table (id bigint, lane int, nonce bigint, contract int, key text, published_at timestamptz, xid xid8, slot smallint)
language plpgsql as $$
begin
  return query select h.* from (select unnest(r.slots) as slot from posthorn.ring r) s cross join posthorn.lanes_of(p_channel) l(lane)
    cross join lateral posthorn.log_heads_of(s.slot, p_channel, l.lane, p_after, p_upto, p_limit) h order by h.id limit p_limit;
end $$;

-- oldest_kept(channel): when the oldest message of a channel was said that the log still has; null when it has none.
-- Plan: message_N_by_id, one probe for each lane and slot. Ids follow the clock but for the time between drawing one and writing its row.
create or replace function posthorn.oldest_kept(p_channel int) returns timestamptz
language plpgsql as $$
begin
  return (select min(h.published_at) from (select unnest(r.slots) as slot from posthorn.ring r) s cross join posthorn.lanes_of(p_channel) l(lane)
    cross join lateral posthorn.log_heads_of(s.slot, p_channel, l.lane, 0, 9223372036854775807, 100) h);
end $$;

-- letters(…) of a list that are redriven or discarded together, in the order of the list: begin_letters(verb, filter, by, reason) counts them.
-- The filter is that of take_letters, without a message.
create or replace function posthorn.begin_letters(p_verb text, p_filter json, p_by text, p_reason text) returns json
language plpgsql as $$
declare
  v_count json;
begin
  if p_verb not in ('redrive', 'discard') or coalesce(p_filter ->> 'list', '') not in ('dead-letters', 'invalid') then
    raise exception 'a list is redriven or discarded: dead-letters or invalid' using errcode = 'PH015';
  elsif p_verb = 'discard' and coalesce(trim(p_reason), '') = '' then
    raise exception 'a discard needs a reason' using errcode = 'PH015', hint = 'It is kept with the messages.';
  elsif p_filter ->> 'subscription' is not null then
    perform posthorn.reader(p_filter ->> 'subscription');
  end if;
  v_count := posthorn.letters_count(p_filter);
  return posthorn.begin_operation(p_verb, p_filter ->> 'subscription', p_filter, p_by, p_reason, (v_count ->> 'count')::bigint,
    json_build_object('after', '0', 'upto', coalesce(v_count ->> 'upto', '0')));
end $$;

create or replace function posthorn.letters_piece(p_row posthorn.operation, p_limit int, out done bigint, out more boolean, out busy boolean, out place json)
language plpgsql as $$
declare
  v_letter posthorn.deferred;
  v_last bigint := (p_row.place ->> 'after')::bigint;
begin
  done := 0;
  busy := false;
  for v_letter in select * from posthorn.take_letters((p_row.arguments::jsonb || p_row.place::jsonb)::json, p_limit) loop
    v_last := greatest(v_last, v_letter.id);
    if p_row.verb = 'redrive' then
      perform posthorn.redrive_row(v_letter, p_row.ordered_by);
    else
      perform posthorn.discard_row(v_letter, p_row.arguments ->> 'list', p_row.ordered_by, p_row.reason);
    end if;
    done := done + 1;
  end loop;
  more := done = p_limit;
  place := json_build_object('after', v_last::text, 'upto', p_row.place ->> 'upto');
end $$;
