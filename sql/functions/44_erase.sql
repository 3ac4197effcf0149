-- Erasing: what was said under a key, and what came of it, cannot be read any more. The one thing that ever changes a row of the log.
--
-- What has not begun ends as discarded before its payload is overwritten, so no handler runs with what stands in its place. What runs has its payload in
-- memory and goes on to its end; a request in cancel_request sees to it that it does not run again, and its message is looked at until it has ended.

-- erased_payload(): what stands in the place of an erased payload.
create or replace function posthorn.erased_payload() returns text
language sql immutable as $$ select '{"~posthorn":"erased"}' $$;

-- erase(key, by, reason, confirm, contract, channel): begins it; `confirm` repeats the key. Of every message with this key that is committed now, for every
-- receiver: payload, headers, errors, results, steps, progress and dedupe keys go, from the log, from what waits, from the lists. Ids, keys, times and outcomes stay.
-- What came from a broker with this key and fitted nothing is removed from its list at once.
-- It is done when nothing of the key runs any more. Returns the operation; see proceed and run. Raises PH015, PH060, PH061, PH065 (a schedule sends this key).
create or replace function posthorn.erase(
  key text, by text default null, reason text default null, confirm text default null, contract text default null, channel text default null
) returns json
language plpgsql as $$
declare
  v_upto bigint;
  v_unfit bigint;
  v_channels int[];
  v_schedule text;
begin
  if $1 is null or octet_length($1) not between 1 and 512 then
    raise exception 'a key is a text of 1 to 512 bytes' using errcode = 'PH015';
  end if;
  v_channels := array(select distinct c.channel from posthorn.contract c join posthorn.channel h on h.id = c.channel
    where ($5 is null or c.name = $5) and ($6 is null or h.name = $6) order by 1);
  if v_channels = '{}' and coalesce($5, $6) is not null then
    raise exception 'no contract%', coalesce(' "' || left($5, 80) || '"', '') || coalesce(' of the queue or topic "' || left($6, 80) || '"', '') || ' is registered'
      using errcode = 'PH060', hint = 'See select name from posthorn.contract.';
  end if;
  select s.name into v_schedule from posthorn.schedule s join posthorn.contract c on c.id = s.contract
    where s.key = $1 and ($5 is null or c.name = $5) and c.channel = any (v_channels) order by s.name limit 1;
  if v_schedule is not null then
    raise exception 'the schedule "%" sends messages with this key', v_schedule using errcode = 'PH065',
      hint = format('Remove it first: posthorn schedules remove %s. Otherwise it would say again what is erased.', v_schedule);
  end if;
  perform posthorn.confirmed(confirm, $1, 'erasing what was said under this key');
  -- Before it is looked how far the log reaches: an entry that is redriven in this moment is a message of the log then, or it is gone.
  with gone as (delete from posthorn.intake_invalid v where v.id in (select u.id from posthorn.unfit_of_key($1, $5, $6) u) returning v.id)
    select count(*) into v_unfit from gone;
  v_upto := coalesce(pg_sequence_last_value('posthorn.message_id'), 0);
  return posthorn.begin_operation('erase', $6, json_strip_nulls(json_build_object('key', $1, 'contract', $5, 'channel', $6)),
    coalesce($2, current_user::text), $3, posthorn.erasable($1, $5, $6) + v_unfit,
    json_build_object('upto', v_upto::text, 'channels', v_channels, 'after', '0', 'running', json_build_array(), 'unfit', v_unfit));
end $$;

-- unfit_of_key(key, contract, channel): what came in by intakes with this key and fitted nothing. Where contract or channel are named only what says that it is of
-- one of these contracts, behind whatever prefix.
create or replace function posthorn.unfit_of_key(p_key text, p_contract text, p_channel text) returns setof posthorn.intake_invalid
language sql stable as $$
  select v.* from posthorn.intake_invalid v where v.key = p_key and (p_contract is null and p_channel is null or exists (
    select from posthorn.contract c where c.id = any (posthorn.erased_contracts(p_contract, p_channel)) and right(v.type, length(c.name)) = c.name
      and substr(v.type, length(v.type) - length(c.name), 1) !~ '[[:alnum:]]'))
$$;

-- erasable(key, contract, channel): how many messages are kept under a key, in the log, or in the lists when the log has them no more. Reads the log.
create or replace function posthorn.erasable(p_key text, p_contract text, p_channel text) returns bigint
language plpgsql as $$
declare
  v_contracts int[] := posthorn.erased_contracts(p_contract, p_channel);
  v_count bigint;
begin
  select coalesce(sum(posthorn.count_key_of(s.slot, p_key, v_contracts)), 0) into v_count from (select unnest(r.slots) as slot from posthorn.ring r) s;
  return v_count + (select count(*) from posthorn.unfit_of_key(p_key, p_contract, p_channel)) + (select count(distinct l.message) from posthorn.listed(p_key, v_contracts, (select r.forgotten_upto from posthorn.ring r), 1000000) l);
end $$;

create or replace function posthorn.erased_contracts(p_contract text, p_channel text) returns int[]
language sql stable as $$
  select coalesce(array_agg(c.id), '{}') from posthorn.contract c join posthorn.channel h on h.id = c.channel
    where (p_contract is null or c.name = p_contract) and (p_channel is null or h.name = p_channel)
$$;

select posthorn.by_slot('count_key_of(p_slot smallint, p_key text, p_contracts int[])', 'bigint', $body$
  return (select count(*) from posthorn.message_{slot} m where m.key = p_key and m.contract = any (p_contracts));
$body$);

-- erase_of: overwrites messages of the log. Plan: message_N_by_id.
select posthorn.by_slot('erase_of(p_slot smallint, p_channel int, p_lane int, p_ids bigint[])', 'bigint', $body$
  declare v_rows bigint;
  begin
    update posthorn.message_{slot} m set payload = posthorn.erased_payload()::json, headers = null
      where m.channel = p_channel and m.lane = p_lane and m.id = any (p_ids);
    get diagnostics v_rows = row_count;
    return v_rows;
  end;
$body$);

-- erase_piece: looks through the log of one channel after the other; then through the lists for messages that the log has no more; then waits for what runs.
create or replace function posthorn.erase_piece(p_row posthorn.operation, p_limit int, out done bigint, out more boolean, out busy boolean, out place json)
language plpgsql as $$
declare
  v_channels int[] := array(select c::int from json_array_elements_text(p_row.place -> 'channels') c);
  v_log record;
begin
  place := p_row.place;
  busy := false;
  more := true;
  done := 0;
  if v_channels <> '{}' then
    v_log := posthorn.erase_in_log(p_row, v_channels[1], p_limit);
    done := v_log.done;
    place := (p_row.place::jsonb || jsonb_build_object('running', (p_row.place::jsonb -> 'running') || v_log.running))::json;
    place := (place::jsonb || case when v_log.after is null then jsonb_build_object('channels', v_channels[2 :], 'after', '0')
      else jsonb_build_object('after', v_log.after::text) end)::json;
  elsif p_row.place -> 'listed' is null then
    v_log := posthorn.erase_in_lists(p_row, p_limit);
    done := v_log.done;
    place := (p_row.place::jsonb || jsonb_build_object('running', (p_row.place::jsonb -> 'running') || v_log.running)
      || case when v_log.done < p_limit then '{"listed":true}'::jsonb else '{}' end)::json;
  else
    place := (p_row.place::jsonb || jsonb_build_object('running', posthorn.erase_running(p_row)))::json;
    more := json_array_length(place -> 'running') > 0;
    busy := more;
  end if;
  -- Removed when it began, and counted once.
  done := done + coalesce((p_row.place ->> 'unfit')::bigint, 0);
  place := (place::jsonb - 'unfit')::json;
end $$;

-- erase_in_log: a page of the log of a channel. `after`: where the next begins; null when it was the last. `running`: [[subscription, message]] that run.
create or replace function posthorn.erase_in_log(p_row posthorn.operation, p_channel int, p_limit int, out done bigint, out after bigint, out running jsonb)
language plpgsql as $$
declare
  v_contracts int[] := posthorn.erased_contracts(p_row.arguments ->> 'contract', p_row.arguments ->> 'channel');
  v_key text := p_row.arguments ->> 'key';
  v_heads posthorn.log_head[];
  v_ids bigint[];
  v_head record;
  v_reader posthorn.subscription;
  v_seen bigint;
begin
  running := '[]';
  done := 0;
  select count(*), max(h.id), array_agg(row(h.id, h.lane, h.nonce, h.xid, h.slot)::posthorn.log_head order by h.id) filter (where h.key = v_key and h.contract = any (v_contracts))
    into v_seen, after, v_heads from posthorn.log_heads(p_channel, (p_row.place ->> 'after')::bigint, (p_row.place ->> 'upto')::bigint, 1000) h;
  if v_seen < 1000 then
    after := null;
  end if;
  if v_heads is null then
    return;
  elsif cardinality(v_heads) > p_limit then
    v_heads := v_heads[1 : p_limit];
    after := (v_heads[p_limit]).id;
  end if;
  -- No claim is made of these lanes until COMMIT; where they stand is looked at in later statements.
  perform pg_advisory_xact_lock(posthorn.lock_key('lane', l.subscription, l.lane)) from (select l.subscription, l.lane from posthorn.lane l
    join posthorn.subscription s on s.id = l.subscription where s.channel = p_channel order by l.subscription, l.lane) l;
  -- None is removed until COMMIT; one that was removed meanwhile is left out.
  for v_reader in select * from posthorn.subscription s where s.channel = p_channel order by s.id for key share loop
    for v_head in select h.* from unnest(v_heads) h loop
      if posthorn.erase_one(p_row, v_reader, v_head.id, v_head.nonce, v_head.lane, v_head.xid, v_head.slot) then
        running := running || jsonb_build_array(jsonb_build_array(v_reader.id, v_head.id::text));
      end if;
    end loop;
  end loop;
  for v_head in select h.slot, h.lane, array_agg(h.id) as ids from unnest(v_heads) h group by 1, 2 loop
    done := done + posthorn.erase_of(v_head.slot, p_channel, v_head.lane, v_head.ids);
  end loop;
end $$;

-- erase_one: ends a message for one receiver where it waits or lies in a list, and removes what came of it; true when it runs, and is to be looked at
-- again. `p_lane` is null for one that the log has no more.
create or replace function posthorn.erase_one(
  p_row posthorn.operation, p_reader posthorn.subscription, p_id bigint, p_nonce bigint, p_lane int, p_xid xid8, p_slot smallint
) returns boolean
language plpgsql as $$
declare
  v_found boolean := posthorn.erase_waiting(p_row, p_reader, p_id, p_nonce);
  v_runs boolean := false;
  v_delivery posthorn.deferred;
  v_state text;
begin
  if not v_found then
    update posthorn.deferred d set payload = posthorn.erased_payload()::json, headers = null, history = '[]'
      where d.subscription = p_reader.id and d.message = p_id and d.nonce = p_nonce;
    v_runs := found;
    if not v_runs and p_lane is not null and posthorn.waiting_status(p_reader, p_id, p_nonce) is null then
      v_state := (posthorn.fate_in_log(p_reader, p_lane, p_id, p_xid)).state;
      v_runs := v_state = 'running';
      if v_state = 'queued' then
        v_delivery := posthorn.delivery_of(p_reader.id, p_lane, p_id, p_slot);
        insert into posthorn.cancel_mark (subscription, message) values (p_reader.id, p_id) on conflict do nothing;
        perform posthorn.write_discarded(v_delivery, 'erased', p_row.ordered_by, 'erased');
      end if;
    end if;
  end if;
  if v_runs then
    insert into posthorn.cancel_request (subscription, message, nonce, requested_at, requested_by, erased, quiet)
      values (p_reader.id, p_id, p_nonce, clock_timestamp(), p_row.ordered_by, true, true)
      on conflict (subscription, message) do update set erased = true;
  end if;
  update posthorn.discarded d set history = '[]' where d.subscription = p_reader.id and d.message = p_id and d.nonce = p_nonce and d.history::text <> '[]';
  update posthorn.cancelled d set history = '[]' where d.subscription = p_reader.id and d.message = p_id and d.nonce = p_nonce and d.history::text <> '[]';
  delete from posthorn.result r where r.subscription = p_reader.id and r.message = p_id;
  delete from posthorn.progress r where r.subscription = p_reader.id and r.message = p_id;
  delete from posthorn.step r where r.subscription = p_reader.id and r.message = p_id and not v_runs;
  delete from posthorn.dedupe r where r.subscription = p_reader.id and r.message = p_id and r.nonce = p_nonce;
  return coalesce(v_runs, false);
end $$;

-- erase_waiting: ends a message that waits in `deferred` or lies in a list; false where it is in none.
create or replace function posthorn.erase_waiting(p_row posthorn.operation, p_reader posthorn.subscription, p_id bigint, p_nonce bigint) returns boolean
language plpgsql as $$
declare
  v_waiting posthorn.deferred;
  v_filter json := json_build_object('message', posthorn.public_id(p_id, p_nonce), 'subscription', p_reader.name);
begin
  delete from posthorn.deferred d where d.subscription = p_reader.id and d.message = p_id and d.nonce = p_nonce and d.token is null returning d.* into v_waiting;
  if v_waiting.id is not null then
    delete from posthorn.cancel_request c where c.subscription = p_reader.id and c.message = p_id;
    if v_waiting.once_more then
      perform posthorn.let_go(v_waiting.id);
    end if;
  elsif exists (select from posthorn.dead_letter d where d.subscription = p_reader.id and d.message = p_id and d.nonce = p_nonce) then
    select * into v_waiting from posthorn.take_letters((v_filter::jsonb || '{"list":"dead-letters"}')::json, 1);
  elsif exists (select from posthorn.invalid d where d.subscription = p_reader.id and d.message = p_id and d.nonce = p_nonce) then
    select * into v_waiting from posthorn.take_letters((v_filter::jsonb || '{"list":"invalid"}')::json, 1);
  end if;
  if v_waiting.message is null then
    return false;
  end if;
  v_waiting.history := '[]';
  perform posthorn.write_discarded(v_waiting, 'erased', p_row.ordered_by, 'erased');
  if v_waiting.place is not null then
    perform posthorn.promote_key(p_reader.id, v_waiting.key);
  end if;
  return true;
end $$;

-- listed(key, contracts, upto, limit): messages of a key of which something that can be read lies outside of the log, at most `limit` of each list.
create or replace function posthorn.listed(p_key text, p_contracts int[], p_upto bigint, p_limit int)
returns table (subscription int, message bigint, nonce bigint)
language sql volatile as $$
  (select d.subscription, d.message, d.nonce from posthorn.subscription s join posthorn.deferred d on d.subscription = s.id and d.key = p_key and d.contract = any (p_contracts)
    and d.message <= p_upto and d.payload::text <> posthorn.erased_payload() limit p_limit)
  union (select d.subscription, d.message, d.nonce from posthorn.dead_letter d where d.key = p_key and d.contract = any (p_contracts) and d.message <= p_upto limit p_limit)
  union (select d.subscription, d.message, d.nonce from posthorn.invalid d where d.key = p_key and d.contract = any (p_contracts) and d.message <= p_upto limit p_limit)
  union (select d.subscription, d.message, d.nonce from posthorn.result d where d.key = p_key and d.contract = any (p_contracts) and d.message <= p_upto limit p_limit)
  union (select d.subscription, d.message, d.nonce from posthorn.discarded d where d.key = p_key and d.contract = any (p_contracts) and d.message <= p_upto
    and d.history::text <> '[]' limit p_limit)
  union (select d.subscription, d.message, d.nonce from posthorn.cancelled d where d.key = p_key and d.contract = any (p_contracts) and d.message <= p_upto
    and d.history::text <> '[]' limit p_limit)
$$;

-- erase_in_lists: messages of the key that the log has no more; their copies are in these tables.
create or replace function posthorn.erase_in_lists(p_row posthorn.operation, p_limit int, out done bigint, out running jsonb)
language plpgsql as $$
declare
  v_contracts int[] := posthorn.erased_contracts(p_row.arguments ->> 'contract', p_row.arguments ->> 'channel');
  v_key text := p_row.arguments ->> 'key';
  v_upto bigint := (p_row.place ->> 'upto')::bigint;
  v_one record;
begin
  running := '[]';
  done := 0;
  for v_one in select s as reader, l.message, l.nonce from posthorn.listed(v_key, v_contracts, v_upto, p_limit) l
      join posthorn.subscription s on s.id = l.subscription order by s.id, l.message limit p_limit for key share of s loop
    done := done + 1;
    if posthorn.erase_one(p_row, v_one.reader, v_one.message, v_one.nonce, null, null, null) then
      running := running || jsonb_build_array(jsonb_build_array((v_one.reader).id, v_one.message::text));
    end if;
  end loop;
end $$;

-- erase_running: looks again at messages that ran when they were erased; those that still do.
create or replace function posthorn.erase_running(p_row posthorn.operation) returns jsonb
language plpgsql as $$
declare
  v_one record;
  v_left jsonb := '[]';
  v_log record;
  v_nonce bigint;
begin
  for v_one in select s as reader, (r.one ->> 1)::bigint as message from json_array_elements(p_row.place -> 'running') r(one)
      join posthorn.subscription s on s.id = (r.one ->> 0)::int order by s.id, 2 for key share of s loop
    select h.lane, h.xid, h.slot, h.nonce into v_log from posthorn.log_heads((v_one.reader).channel, v_one.message - 1, v_one.message, 1) h;
    v_nonce := coalesce(v_log.nonce, (select d.nonce from posthorn.deferred d where d.subscription = (v_one.reader).id and d.message = v_one.message),
      (select c.nonce from posthorn.cancel_request c where c.subscription = (v_one.reader).id and c.message = v_one.message));
    if posthorn.erase_one(p_row, v_one.reader, v_one.message, v_nonce, v_log.lane, v_log.xid, v_log.slot) then
      v_left := v_left || jsonb_build_array(jsonb_build_array((v_one.reader).id, v_one.message::text));
    else
      delete from posthorn.step r where r.subscription = (v_one.reader).id and r.message = v_one.message;
    end if;
  end loop;
  return v_left;
end $$;
