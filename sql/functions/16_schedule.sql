-- Schedules. The workers compute times, because cron lines and time zones are theirs to read; whether a time is sent is decided here.

-- schedule_now(name): the clock that decides, and what is known of a schedule: { now, cron, timeZone, nextAt, lastAt } as JSON, times in ms.
create or replace function posthorn.schedule_now(p_name text) returns json
language plpgsql as $$
declare
  v_row posthorn.schedule;
begin
  select * into v_row from posthorn.schedule where name = p_name;
  return json_build_object('now', posthorn.ms_of(clock_timestamp()), 'cron', v_row.cron, 'timeZone', v_row.time_zone,
    'nextAt', posthorn.ms_of(v_row.next_at), 'lastAt', posthorn.ms_of(v_row.last_at));
end $$;

-- ms_of(at): a time as JavaScript counts it, rounded down.
create or replace function posthorn.ms_of(p_at timestamptz) returns bigint
language plpgsql immutable as $$
begin
  return floor(extract(epoch from p_at) * 1000)::bigint;
end $$;

-- declare_schedule(…): the newest start wins. Cron line and zone unchanged: the next time stays, so that what was missed is seen as missed.
-- Changed or new: `next` counts, and nothing of the past is sent. Returns { revision, before } as JSON; before is null where nothing else was
-- declared: { service, cron, timeZone, changed: the names of the options that differ }. Raises PH020 when another service's schedule for another command has the name.
create or replace function posthorn.declare_schedule(
  p_name text, p_cron text, p_zone text, p_contract int, p_missed text, p_jitter_ms int, p_payload json, p_key text, p_headers json,
  p_function text, p_service text, p_next timestamptz, p_due timestamptz
) returns json
language plpgsql as $$
declare
  v_old posthorn.schedule;
  v_revision bigint;
begin
  perform posthorn.require_home();
  insert into posthorn.schedule (name, cron, time_zone, contract, missed, jitter_ms, payload, key, headers, function, next_at, due_at, service)
    values (p_name, p_cron, p_zone, p_contract, p_missed, p_jitter_ms, p_payload, p_key, p_headers, p_function, p_next, p_due, p_service)
    on conflict (name) do nothing returning revision into v_revision;
  if v_revision is not null then
    return json_build_object('revision', v_revision, 'before', null);
  end if;
  select * into v_old from posthorn.schedule where name = p_name for update;
  if v_old.name is null then
    -- Removed in this moment.
    return posthorn.declare_schedule(p_name, p_cron, p_zone, p_contract, p_missed, p_jitter_ms, p_payload, p_key, p_headers, p_function,
      p_service, p_next, p_due);
  end if;
  if v_old.service <> p_service and (select name from posthorn.contract where id = v_old.contract)
      <> (select name from posthorn.contract where id = p_contract) then
    raise exception 'the schedule "%" sends "%" for service "%", and service "%" declares it for "%"', p_name,
      (select name from posthorn.contract where id = v_old.contract), v_old.service, p_service,
      (select name from posthorn.contract where id = p_contract) using errcode = 'PH020',
      hint = 'Rename one of them, or remove the old one: posthorn schedules remove ' || p_name || '.';
  end if;
  v_revision := v_old.revision;
  if (v_old.cron, v_old.time_zone, v_old.contract, v_old.missed, v_old.jitter_ms, v_old.payload::text, v_old.key, v_old.headers::text, v_old.function)
      is distinct from (p_cron, p_zone, p_contract, p_missed, p_jitter_ms, p_payload::text, p_key, p_headers::text, p_function) then
    v_revision := nextval('posthorn.schedule_revision');
  end if;
  update posthorn.schedule s set revision = v_revision, cron = p_cron, time_zone = p_zone, contract = p_contract, missed = p_missed,
      jitter_ms = p_jitter_ms, payload = p_payload, key = p_key, headers = p_headers, function = p_function, service = p_service,
      declared_at = clock_timestamp(), error = null, failed_at = null,
      next_at = case when (s.cron, s.time_zone) = (p_cron, p_zone) then s.next_at else p_next end,
      due_at = case when (s.cron, s.time_zone) <> (p_cron, p_zone) or s.next_at = p_next then p_due else s.due_at end
    where s.name = p_name;
  return json_build_object('revision', v_revision, 'before', case when v_revision <> v_old.revision then
    json_build_object('service', v_old.service, 'cron', v_old.cron, 'timeZone', v_old.time_zone, 'changed', array_remove(array[
      case when v_old.cron <> p_cron then 'cron' end, case when v_old.time_zone <> p_zone then 'timeZone' end,
      case when v_old.contract <> p_contract then 'command' end, case when v_old.missed <> p_missed then 'missed' end,
      case when v_old.jitter_ms <> p_jitter_ms then 'jitterMs' end,
      case when (v_old.payload::text, v_old.key, v_old.function) is distinct from (p_payload::text, p_key, p_function) then 'payload' end,
      case when v_old.headers::text is distinct from p_headers::text then 'headers' end], null)) end);
end $$;

-- due_schedules(own, limit): what is due by this clock, the longest first, and how long until the next is: { now, due, waitMs } as JSON. `own`
-- names the revisions whose payload the caller can compute; of others that need a function it sees nothing.
create or replace function posthorn.due_schedules(p_own json, p_limit int) returns json
language plpgsql as $$
declare
  v_now timestamptz := clock_timestamp();
  v_due json;
  v_next timestamptz;
begin
  select json_agg(json_build_object('name', s.name, 'revision', s.revision, 'cron', s.cron, 'timeZone', s.time_zone, 'missed', s.missed,
      'jitterMs', s.jitter_ms, 'nextAt', posthorn.ms_of(s.next_at), 'computed', s.function is not null,
      'bytes', coalesce(octet_length(s.payload::text), 0))) into v_due
    from (select * from posthorn.schedule s where s.due_at <= v_now and (s.function is null or (p_own ->> s.name)::bigint = s.revision)
      order by s.due_at limit p_limit) s;
  select min(s.due_at) into v_next from posthorn.schedule s
    where s.due_at > v_now and (s.function is null or (p_own ->> s.name)::bigint = s.revision);
  return json_build_object('now', posthorn.ms_of(v_now), 'due', coalesce(v_due, '[]'), 'waitMs', ceil(extract(epoch from v_next - v_now) * 1000));
end $$;

-- fire_schedules(list): fire_schedule for each, in one transaction: at midnight many are due at once. A row that another session holds is passed
-- over and not waited for, so no two of them can wait for each other. `list` is [{ name, revision, next, upcoming, due, messages }]; returns
-- what fire_schedule returns, in that order.
create or replace function posthorn.fire_schedules(p_list json) returns json
language plpgsql as $$
declare
  v_one record;
  v_done json[] := '{}';
begin
  for v_one in select * from json_to_recordset(p_list)
      l(name text, revision bigint, next timestamptz, upcoming timestamptz, due timestamptz, messages json) loop
    v_done := v_done || coalesce(
      posthorn.fire_schedule(v_one.name, v_one.revision, v_one.next, v_one.upcoming, v_one.due, v_one.messages), 'null'::json);
  end loop;
  return to_json(v_done);
end $$;

-- fire_schedule(name, revision, next, upcoming, due, messages): sends what is due and moves on, in one transaction: the command exists if and
-- only if the schedule has moved. Of all who try the same `next` one succeeds; null for the others, for a schedule that was declared anew
-- or removed, and where this clock says that it is not due. `messages` are [{ at, k: key, p: payload }] in order; key and payload only where
-- a function computes them. None at all means that what is due is passed over. Returns { messages, channel }.
create or replace function posthorn.fire_schedule(
  p_name text, p_revision bigint, p_next timestamptz, p_upcoming timestamptz, p_due timestamptz, p_messages json
) returns json
language plpgsql as $$
declare
  v_row posthorn.schedule;
  v_contract posthorn.contract;
  v_list json;
  v_newest timestamptz;
  v_written json;
begin
  perform posthorn.own_transaction(true);
  select * into v_row from posthorn.schedule
    where name = p_name and revision = p_revision and next_at = p_next and due_at <= clock_timestamp() for update skip locked;
  if v_row.name is null then
    return null;
  end if;
  if p_upcoming <= p_next or p_due < p_upcoming then
    raise exception 'the schedule "%" would not move forward: from % to %', p_name, p_next, p_upcoming using errcode = 'PH099';
  end if;
  select * into v_contract from posthorn.contract where id = v_row.contract;
  select max(m.at), json_agg(json_build_object('n', posthorn.random_bigint()::text, 'ch', v_contract.channel, 'c', v_contract.id,
      'k', case when v_row.function is null then v_row.key else m.k end, 'p', case when v_row.function is null then v_row.payload else m.p end,
      'h', coalesce(v_row.headers::jsonb, '{}') || jsonb_build_object('posthorn-schedule', v_row.name,
        'posthorn-scheduled-for', to_char(m.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))) order by m.at)
    into v_newest, v_list
    from json_to_recordset(p_messages) m(at timestamptz, k text, p json)
    where m.at > coalesce(v_row.last_at, '-infinity') and m.at < p_upcoming;
  v_written := case when v_list is not null then posthorn.append(v_list) end;
  update posthorn.schedule set next_at = p_upcoming, due_at = p_due, error = null, failed_at = null,
      last_at = coalesce(v_newest, last_at), last_nonce = coalesce((v_written #>> '{-1,0}')::bigint, last_nonce),
      last_message = coalesce((v_written #>> '{-1,1}')::bigint, last_message)
    where name = p_name;
  return json_build_object('messages', coalesce(json_array_length(v_written), 0), 'channel', v_contract.channel);
end $$;

-- note_schedule_failure(name, revision, error): why a worker could not make the command of a schedule, for whoever lists them.
create or replace function posthorn.note_schedule_failure(p_name text, p_revision bigint, p_error text) returns void
language plpgsql as $$
begin
  perform posthorn.require_home();
  update posthorn.schedule set error = p_error, failed_at = clock_timestamp() where name = p_name and revision = p_revision;
end $$;

-- remove_schedule(name): whether there was one. What it has sent stays sent. A process that declares it makes it anew at its next start.
create or replace function posthorn.remove_schedule(p_name text) returns boolean
language plpgsql as $$
begin
  perform posthorn.require_home();
  delete from posthorn.schedule where name = p_name;
  return found;
end $$;

-- list_schedules(late): all schedules as JSON, by name. Overdue: nobody has sent a command `late` ms after it was due.
create or replace function posthorn.list_schedules(p_late_ms int) returns json
language plpgsql as $$
begin
  return (select coalesce(json_agg(json_build_object('name', s.name, 'cron', s.cron, 'timeZone', s.time_zone, 'command', c.name, 'missed', s.missed,
      'jitterMs', s.jitter_ms, 'computed', s.function is not null, 'nextAt', s.next_at, 'dueAt', s.due_at,
      'overdue', s.due_at < clock_timestamp() - p_late_ms * interval '1 ms', 'lastAt', s.last_at,
      'lastMessage', posthorn.public_id(s.last_message, s.last_nonce), 'error', s.error, 'failedAt', s.failed_at, 'service', s.service,
      'declaredAt', s.declared_at) order by s.name), '[]')
    from posthorn.schedule s join posthorn.contract c on c.id = s.contract);
end $$;
