-- Removing an intake that is gone from the code. What it took in stays, and so do the marks of it in the inbox, for their time: they are made of its name,
-- or of one that it had before, so one that is declared again under this name takes nothing in a second time.

-- intake_named(name): the intake of this name. Raises PH060.
create or replace function posthorn.intake_named(p_name text) returns posthorn.intake
language plpgsql as $$
declare
  v_row posthorn.intake;
begin
  select * into v_row from posthorn.intake i where i.name = p_name;
  if v_row.id is null and exists (select from posthorn.subscription s where s.name = p_name) then
    raise exception '"%" is a queue or subscription, and no intake', p_name using errcode = 'PH060', hint = 'A subscription is removed by posthorn.remove_subscription.';
  elsif v_row.id is null then
    raise exception 'no intake is called "%"', left(p_name, 80) using errcode = 'PH060',
      hint = format('Known are: %s.', coalesce((select string_agg(i.name, ', ' order by i.name) from (select name from posthorn.intake order by name limit 50) i), 'none'));
  end if;
  return v_row;
end $$;

-- remaining_of_intake(name): what would go with an intake, as JSON { name, invalid }. Raises PH060.
create or replace function posthorn.remaining_of_intake(p_name text) returns json
language sql volatile as $$
  select json_build_object('name', n.name, 'invalid', (select count(*) from posthorn.intake_invalid v where v.intake = n.id)) from posthorn.intake_named(p_name) n
$$;

-- remove_intake(name, by, reason, confirm): begins to remove an intake with what fitted nothing; `confirm` repeats the name. Refused while a process that lives runs it.
-- A process that declares it makes it anew. Its events may be published here from then on. Returns the operation. Raises PH060, PH061, PH015, PH068.
create or replace function posthorn.remove_intake(name text, by text default null, reason text default null, confirm text default null) returns json
language plpgsql as $$
declare
  v_row posthorn.intake := posthorn.intake_named($1);
  v_rest json := posthorn.remaining_of_intake($1);
begin
  perform posthorn.refuse_run(v_row);
  perform posthorn.confirmed(confirm, v_row.name, format('the removal of "%s"', v_row.name));
  return posthorn.begin_operation('remove', v_row.name, (v_rest::jsonb || '{"list":"intake"}')::json, coalesce($2, current_user::text), $3,
    (v_rest ->> 'invalid')::bigint, json_build_object('intake', v_row.id));
end $$;

-- refuse_run(row, hint): raises PH068 while somebody runs an intake.
create or replace function posthorn.refuse_run(p_row posthorn.intake, p_hint text default 'Stop these, or deploy them without it.') returns void
language plpgsql as $$
declare
  v_workers text := (select string_agg(format('%s (%s, pid %s on %s)', r.worker, r.service, r.pid, r.host), ', ' order by r.worker)
    from posthorn.intake_runners() r where r.intake = p_row.id);
begin
  if v_workers is not null then
    raise exception '"%" is run by worker %', p_row.name, v_workers using errcode = 'PH068', hint = p_hint;
  end if;
end $$;

-- remove_intake_piece: as remove_piece. The row is locked: who declares it waits, and makes a new one; who begins to run it has it or finds it gone.
create or replace function posthorn.remove_intake_piece(p_row posthorn.operation, p_limit int, out done bigint, out more boolean, out busy boolean, out place json)
language plpgsql as $$
declare
  v_row posthorn.intake;
begin
  place := p_row.place;
  busy := false;
  more := false;
  done := 0;
  select * into v_row from posthorn.intake i where i.id = (p_row.place ->> 'intake')::int for update;
  if v_row.id is null then
    return;
  end if;
  perform posthorn.refuse_run(v_row);
  delete from posthorn.intake_invalid v where v.ctid = any (array(select k.ctid from posthorn.intake_invalid k where k.intake = v_row.id limit p_limit));
  get diagnostics done = row_count;
  more := done > 0;
  if not more then
    delete from posthorn.intake i where i.id = v_row.id;
  end if;
end $$;
