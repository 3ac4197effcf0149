-- Pausing, and the question whether anything is left.

-- pause(name, by, reason): nobody in the fleet takes anything of this queue or subscription: nothing of the log, nothing that waits, no trial of its circuit.
-- A claim that begins after COMMIT takes nothing. What runs or is in a worker's hands goes on to its end. What is said is still taken in, and schedules go on
-- sending. Returns { name, pausedAt, pausedBy, reason, changed }; one that is paused already stays as it is. Raises PH060.
create or replace function posthorn.pause(name text, by text default null, reason text default null) returns json
language plpgsql as $$
declare
  v_row posthorn.subscription;
  v_by text := coalesce($2, current_user::text);
begin
  perform posthorn.require_home();
  if posthorn.is_intake($1) then
    return posthorn.pause_intake($1, $2, $3);
  end if;
  v_row := posthorn.reader($1);
  update posthorn.subscription s set paused_at = clock_timestamp(), paused_by = left(v_by, 200), paused_reason = left($3, 500)
    where s.id = v_row.id and s.paused_at is null returning s.* into v_row;
  if found then
    perform posthorn.note_operation('pause', json_build_object('name', v_row.name), v_by, $3, 1);
    return (posthorn.pause_of(v_row)::jsonb || jsonb_build_object('name', v_row.name, 'changed', true))::json;
  end if;
  v_row := posthorn.reader($1);
  return (coalesce(posthorn.pause_of(v_row)::jsonb, '{}') || jsonb_build_object('name', v_row.name, 'changed', false))::json;
end $$;

-- resume(name, by): ends a pause, and has a circuit that is open tried at once; workers look again within a second. Returns { name, changed }, with the pause that it ended. Raises PH060.
create or replace function posthorn.resume(name text, by text default null) returns json
language plpgsql as $$
declare
  v_row posthorn.subscription;
  v_was json;
begin
  perform posthorn.require_home();
  if posthorn.is_intake($1) then
    return posthorn.resume_intake($1, $2);
  end if;
  v_row := posthorn.reader($1);
  select posthorn.pause_of(s) into v_was from posthorn.subscription s where s.id = v_row.id for update;
  perform posthorn.circuit_due(v_row.id);
  update posthorn.subscription s set paused_at = null, paused_by = null, paused_reason = null where s.id = v_row.id and s.paused_at is not null;
  if found then
    perform posthorn.note_operation('resume', json_build_object('name', v_row.name), coalesce($2, current_user::text), null, 1);
  end if;
  return (coalesce(v_was::jsonb, '{}') || jsonb_build_object('name', v_row.name, 'changed', v_was is not null))::json;
end $$;

-- pause_of(subscription): { at, by, reason } of a reader that is paused; null for one that is not.
create or replace function posthorn.pause_of(p_row posthorn.subscription) returns json
language sql immutable as $$
  select case when (p_row).paused_at is not null then json_strip_nulls(json_build_object('at', (p_row).paused_at, 'by', (p_row).paused_by, 'reason', (p_row).paused_reason)) end
$$;

-- unsettled(name): what has not ended of a queue or subscription, as JSON { waiting, scheduled, retrying, parked, running, lists, paused, workers }: each is
-- counted up to a million. `waiting` is in the log, or was handed back. `stuck`: those of `parked` whose key waits for an operator. Raises PH060.
-- Looks in the order in which a message moves, each time with what is committed by then: what is not counted has ended.
create or replace function posthorn.unsettled(name text) returns json
language plpgsql as $$
declare
  v_row posthorn.subscription := posthorn.reader($1);
  v_log record;
  v_running bigint;
  v_states jsonb;
begin
  select * into v_log from posthorn.waiting_in_log(v_row.id, 1000000);
  select coalesce(sum(cardinality(c.messages)), 0) into v_running from posthorn.open_claims() c where c.subscription = v_row.id;
  select coalesce(jsonb_object_agg(w.state, w.messages), '{}') into v_states from (
    select d.state, count(*) as messages from (select posthorn.waiting_state(d.token, d.place, d.due_at, d.reason) as state from posthorn.deferred d
      where d.subscription = v_row.id limit 1000000) d group by 1) w;
  return json_build_object('name', v_row.name,
    'waiting', greatest(0, v_log.messages - (select count(*) from posthorn.cancel_mark k where k.subscription = v_row.id)) + coalesce((v_states ->> 'queued')::bigint, 0),
    'scheduled', coalesce((v_states ->> 'scheduled')::bigint, 0), 'retrying', coalesce((v_states ->> 'retrying')::bigint, 0),
    'parked', coalesce((v_states ->> 'parked')::bigint, 0), 'running', v_running + coalesce((v_states ->> 'running')::bigint, 0),
    'stuck', (select count(*) from posthorn.deferred d where d.subscription = v_row.id and d.place is not null and d.due_at = 'infinity' and exists (
      select from posthorn.dead_letter l where l.subscription = d.subscription and l.key = d.key and l.place < d.place
      union all select from posthorn.invalid l where l.subscription = d.subscription and l.key = d.key and l.place < d.place)),
    'paused', posthorn.pause_of(v_row),
    'workers', (select count(*) from posthorn.attendance a where a.subscription = v_row.id and a.worker not in (select d.worker from posthorn.dead_workers() d)));
end $$;

-- is_drained(name): whether everything of a queue or subscription has ended; see has_unsettled. Raises PH060.
create or replace function posthorn.is_drained(name text) returns boolean
language plpgsql as $$
begin
  return not posthorn.has_unsettled((posthorn.reader($1)).id);
end $$;
