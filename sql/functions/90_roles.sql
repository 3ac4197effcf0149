-- Three roles for those who do not own the schema: producer, worker, observer, each named after the schema with `_` before its own name. They have no
-- rights on tables of the log: they call functions, which run with the rights of their owner. Whoever migrates the schema owns it, and alone may do
-- what stands in no list here: pause, purge, redrive, discard, replay, erase, remove, rebase.

-- role_functions(): what each role may call; a worker may call what a producer may.
create or replace function posthorn.role_functions() returns table (role text, functions text[])
language sql immutable as $$
  values
    ('producer', array['send', 'publish', 'cancel', 'register_contract', 'make_lane', 'write_one', 'write_once', 'write_many', 'write_said', 'wake', 'wake_with',
      'backlog_limits', 'grant_backlog', 'check_backlog', 'message_status', 'message_statuses', 'is_forgotten', 'register_topic']),
    ('worker', array['work', 'settle', 'take_due', 'spill', 'promote', 'peek', 'end_in_transaction', 'end_many', 'end_with_result', 'register_subscription',
      'register_worker', 'heartbeat', 'forget_worker', 'rescue', 'watch', 'prune', 'sweep_keys', 'sweep_steps', 'tidy_dedupe', 'record_step', 'steps_of',
      'write_progress', 'circuit_hear', 'cancel_requests', 'declare_schedule', 'schedule_now', 'due_schedules', 'fire_schedules', 'note_schedule_failure',
      'standing', 'count_skipped', 'declare_retention', 'rotate', 'registered_intakes', 'declare_intake', 'begin_intake', 'withdraw_intake', 'hold_intakes', 'take_in', 'take_again', 'read_again', 'unfit_again', 'sweep_inbox']),
    ('observer', array['message_status', 'message_statuses', 'why', 'waiting_messages', 'letters', 'letters_count', 'crossed_alerts', 'recent_alerts', 'fleet', 'error_groups',
      'registered', 'list_schedules', 'circuit_of', 'detail_now', 'gauges', 'limits_now', 'scaling',
      'is_forgotten', 'policy_changes', 'orphaned', 'unsettled', 'is_drained', 'subscriptions', 'operations', 'operation_state', 'segment_now', 'rebase_plan', 'unfit_list', 'unfit_count', 'find_outside', 'inboxes', 'intake_runners'])
$$;

-- role_tables(): what each role may read beside the views, which are the observer's.
create or replace function posthorn.role_tables() returns table (role text, tables text[])
language sql immutable as $$
  values
    ('producer', array['migration', 'installation', 'ring']),
    ('worker', array['migration', 'installation', 'ring', 'attendance']),
    ('observer', array['migration', 'installation', 'ring', 'subscription'])
$$;

-- grant_roles(): gives the roles that may enter this schema what they need, and takes what they had before. Every migration ends with it, so that
-- a role has the rights of the functions of today. Does nothing where the roles were not made: functions then run with the rights of who calls them.
create or replace function posthorn.grant_roles() returns void
language plpgsql as $$
declare
  v_prefix text := 'posthorn'::regnamespace::text || '_';
  v_role record;
  v_function regprocedure;
  v_relation regclass;
begin
  for v_role in select r.role, r.functions, v_prefix || r.role as name from posthorn.role_functions() r join pg_roles p on p.rolname = v_prefix || r.role
      where has_schema_privilege(p.oid, 'posthorn'::regnamespace, 'usage') loop
    execute format('revoke all on all functions in schema posthorn from %1$I; revoke all on all tables in schema posthorn from %1$I;', v_role.name);
    -- The path is their owner's to choose: a function of a caller's own schema would run with the owner's rights.
    for v_function in select oid from pg_proc where pronamespace = 'posthorn'::regnamespace and (proname = any (v_role.functions)
        or (v_role.role = 'worker' and proname in (select unnest(f.functions) from posthorn.role_functions() f where f.role = 'producer'))) loop
      execute format('alter function %s security definer set search_path = pg_catalog, pg_temp; grant execute on function %1$s to %2$I', v_function, v_role.name);
    end loop;
    for v_relation in select c.oid from pg_class c where c.relnamespace = 'posthorn'::regnamespace and ((v_role.role = 'observer' and c.relkind = 'v')
        or c.relname in (select unnest(t.tables) from posthorn.role_tables() t where t.role = v_role.role)) loop
      execute format('grant select on %s to %I', v_relation, v_role.name);
    end loop;
    if v_role.role = 'observer' then
      -- For the views. It reads nothing, and what is called for each row stays a plain function.
      execute format('grant execute on function posthorn.public_id(bigint, bigint) to %I', v_role.name);
    end if;
  end loop;
end $$;
