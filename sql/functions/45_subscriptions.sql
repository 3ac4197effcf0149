-- Subscriptions as a whole: which there are, and removing one.

-- subscriptions(): all readers as JSON [{ name, kind, channel, service, since, paused, workers, unread }]: `unread` is what a reader has not read of the log, up to a million.
create or replace function posthorn.subscriptions() returns json
language sql volatile as $$
  select coalesce(json_agg(json_build_object('name', s.name, 'kind', c.kind, 'channel', c.name, 'service', s.service, 'since', s.created_at,
      'declaredAt', s.declared_at, 'paused', posthorn.pause_of(s), 'unread', w.messages,
      'workers', (select count(*) from posthorn.attendance a where a.subscription = s.id and a.worker not in (select d.worker from posthorn.dead_workers() d)))
      order by s.name), '[]')
    from posthorn.subscription s join posthorn.channel c on c.id = s.channel cross join lateral posthorn.waiting_in_log(s.id, 1000000) w
$$;

-- remaining(name): what would go with a subscription, as JSON { unread, waiting, parked, deadLetters, invalid }. Raises PH060.
create or replace function posthorn.remaining(name text) returns json
language plpgsql as $$
declare
  v_row posthorn.subscription := posthorn.reader($1);
begin
  return json_build_object('name', v_row.name, 'unread', (posthorn.waiting_in_log(v_row.id, 1000000)).messages,
    'waiting', (select count(*) from posthorn.deferred d where d.subscription = v_row.id and d.due_at < 'infinity'),
    'parked', (select count(*) from posthorn.deferred d where d.subscription = v_row.id and d.due_at = 'infinity'),
    'deadLetters', (select count(*) from posthorn.dead_letter d where d.subscription = v_row.id),
    'invalid', (select count(*) from posthorn.invalid d where d.subscription = v_row.id));
end $$;

-- remove_subscription(name, by, reason, confirm): begins to remove a reader of a topic, with all that waits, is dead or invalid for it; `confirm` repeats the name. What
-- it has not read is not delivered. Refused while a live worker works on it, or a dead one is not rescued yet; and for a queue, which has its reader for as long as
-- it exists. A process that declares it at a later start makes it anew, and that one starts where it says. Returns the operation. Raises PH060, PH061, PH015, PH066.
create or replace function posthorn.remove_subscription(name text, by text default null, reason text default null, confirm text default null) returns json
language plpgsql as $$
declare
  v_row posthorn.subscription := posthorn.reader($1);
  v_rest json := posthorn.remaining($1);
begin
  if (select c.kind from posthorn.channel c where c.id = v_row.channel) = 'command' then
    raise exception '"%" is a queue and has its reader for as long as it exists', v_row.name using errcode = 'PH015',
      hint = 'Pause it, or purge what waits in it.';
  end if;
  perform posthorn.refuse_worked(v_row);
  perform posthorn.confirmed(confirm, v_row.name, format('the removal of "%s"', v_row.name));
  return posthorn.begin_operation('remove', v_row.name, v_rest, coalesce($2, current_user::text), $3, (select sum(f.value::text::bigint)::bigint from json_each(v_rest) f where f.key <> 'name'),
    json_build_object('subscription', v_row.id));
end $$;

-- refuse_worked: raises PH066 while somebody works on a reader, or holds messages of it.
create or replace function posthorn.refuse_worked(p_row posthorn.subscription) returns void
language plpgsql as $$
declare
  v_workers text := (select string_agg(format('%s (%s, pid %s on %s)', w.id, w.service, w.pid, w.host), ', ' order by w.id)
    from posthorn.attendance a join posthorn.worker w on w.id = a.worker where a.subscription = p_row.id);
begin
  if v_workers is not null then
    raise exception '"%" is worked on by worker %', p_row.name, v_workers using errcode = 'PH066',
      hint = 'Stop these, or deploy them without it. One that was killed is forgotten within seconds while any worker lives.';
  elsif exists (select from posthorn.open_claims() c where c.subscription = p_row.id)
      or exists (select from posthorn.deferred d where d.subscription = p_row.id and d.token is not null) then
    raise exception '"%" has messages that a worker holds', p_row.name using errcode = 'PH066', hint = 'Wait until they were settled or rescued.';
  end if;
end $$;

-- remove_piece: a piece of what it has; then all the rest with the subscription itself, under its row's lock: who registers it waits, and makes a new one.
create or replace function posthorn.remove_piece(p_row posthorn.operation, p_limit int, out done bigint, out more boolean, out busy boolean, out place json)
language plpgsql as $$
declare
  v_reader posthorn.subscription;
  v_table text;
  v_rows bigint;
begin
  place := p_row.place;
  busy := false;
  more := false;
  done := 0;
  select * into v_reader from posthorn.subscription s where s.id = (p_row.place ->> 'subscription')::int for update;
  if v_reader.id is null then
    return;
  end if;
  perform posthorn.refuse_worked(v_reader);
  foreach v_table in array '{deferred,dead_letter,invalid,discarded,cancelled,result,progress,step,cancel_mark,cancel_request,parked_key,key_permit}'::text[] loop
    execute format('delete from posthorn.%1$I t where t.ctid = any (array(select k.ctid from posthorn.%1$I k where k.subscription = $1 limit $2))',
      v_table) using v_reader.id, p_limit;
    get diagnostics v_rows = row_count;
    done := done + case when v_table in ('deferred', 'dead_letter', 'invalid') then v_rows else 0 end;
    if v_rows > 0 then
      more := true;
      return;
    end if;
  end loop;
  done := (posthorn.waiting_in_log(v_reader.id, 1000000)).messages;
  delete from posthorn.circuit c where c.subscription = v_reader.id;
  delete from posthorn.permit c where c.subscription = v_reader.id;
  delete from posthorn.run_limit c where c.subscription = v_reader.id;
  delete from posthorn.alert c where c.subscription = v_reader.id;
  delete from posthorn.lane c where c.subscription = v_reader.id;
  delete from posthorn.subscription s where s.id = v_reader.id;
end $$;
