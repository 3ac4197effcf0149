-- Moving a log to another database. The source is the owner until it says that it has left, in the same transaction in which it held still; the target
-- refuses until it has been rebased after that. So there is never a second owner, and at no moment is anything lost.

-- move_facts(): what a move has to know of a side, as JSON { system, database, away, says, hint, move, used, workers }. `used`: what stands in the way of a target.
create or replace function posthorn.move_facts() returns json
language plpgsql as $$
declare
  v_why record := posthorn.why_away();
begin
  return json_build_object('system', (select c.system_identifier::text from pg_control_system() c),
    'database', (select d.oid::text from pg_database d where d.datname = current_database()), 'away', v_why.reason, 'says', v_why.says, 'hint', v_why.hint,
    'move', (select json_build_object('id', m.id, 'side', m.side, 'other', m.other, 'system', m.other_system::text, 'database', m.other_database::text,
      'finished', m.finished_at is not null) from posthorn.move m order by m.n desc limit 1),
    'used', (select format('%s "%s"', case c.kind when 'event' then 'the topic' else 'the queue' end, c.name) from posthorn.channel c order by c.id limit 1),
    'workers', (select coalesce(json_agg(json_build_object('service', w.service, 'host', w.host, 'pid', w.pid,
      'dead', w.id in (select d.worker from posthorn.dead_workers() d)) order by w.id), '[]') from posthorn.worker w));
end $$;

-- move_tables(): the tables of a log in the order of their references, with the columns that are written, and all in their order.
create or replace function posthorn.move_tables() returns json
language sql volatile as $$
  with recursive tables as (
    select c.oid, c.relname from pg_class c where c.relnamespace = 'posthorn'::regnamespace and c.relkind = 'r'
      and c.relname not in ('migration', 'installation', 'move', 'ring')
  ), depths as (
    select t.oid, 0 as depth from tables t
    union select r.conrelid, d.depth + 1 from depths d join pg_constraint r on r.confrelid = d.oid and r.contype = 'f' and r.conrelid <> r.confrelid
  )
  select json_agg(json_build_object('name', t.relname, 'columns', a.columns, 'written', a.written) order by d.depth, t.relname)
    from tables t cross join lateral (select max(d.depth) as depth from depths d where d.oid = t.oid) d
    cross join lateral (select string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' order by a.attnum) as columns,
      json_agg(format('%I', a.attname) order by a.attnum) filter (where a.attgenerated = '') as written
      from pg_attribute a where a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped) a
$$;

-- hold_still(): until the end of this transaction nobody writes to the log, and whoever had begun to has ended. Waits up to ten seconds. PH003.
create or replace function posthorn.hold_still() returns void
language plpgsql as $$
declare
  v_table regclass;
begin
  perform set_config('lock_timeout', '10s', true), set_config('idle_in_transaction_session_timeout', '0', true);
  -- Whoever has said anything in its transaction has read this, and holds a lock on it until its end.
  lock table posthorn.ring in access exclusive mode;
  for v_table in select c.oid from pg_class c where c.relnamespace = 'posthorn'::regnamespace and c.relkind = 'r' and c.relname <> 'ring' order by c.oid loop
    execute format('lock table %s in share mode', v_table);
  end loop;
  if (posthorn.why_away()).reason is not null then
    perform posthorn.raise_away();
  end if;
end $$;

-- go_away(): this database is not the home of its log any more. The row is not updated but written anew: a transaction with an older snapshot sees
-- no row then, and writes nothing.
create or replace function posthorn.go_away() returns void
language plpgsql as $$
declare
  v_ring posthorn.ring;
begin
  select * into v_ring from posthorn.ring;
  v_ring.system_identifier := 0;
  v_ring.database := 0;
  truncate posthorn.ring;
  insert into posthorn.ring select v_ring.*;
end $$;

-- leave(move, other, system, database): from its commit on the source refuses, and says where its messages are.
create or replace function posthorn.leave(p_move uuid, p_other text, p_system bigint, p_database oid) returns void
language plpgsql as $$
begin
  insert into posthorn.move (id, side, other, other_system, other_database) values (p_move, 'source', p_other, p_system, p_database);
  perform posthorn.go_away();
end $$;

-- expect_move(move, other, system, database): from its commit on the target refuses, until the move has been finished. False where it must not become
-- one: it is used, or the target of a move from elsewhere. From one source no two moves can come at once, since it holds still for one.
create or replace function posthorn.expect_move(p_move uuid, p_other text, p_system bigint, p_database oid) returns boolean
language plpgsql as $$
declare
  v_move posthorn.move;
  v_away text;
begin
  perform set_config('lock_timeout', '10s', true);
  lock table posthorn.ring in access exclusive mode;
  v_away := (posthorn.why_away()).reason;
  select * into v_move from posthorn.move m order by m.n desc limit 1;
  if v_away = 'unfinished' and (v_move.other_system, v_move.other_database) is distinct from (p_system, p_database)
      or v_away is null and exists (select from posthorn.channel) or v_away <> 'unfinished' then
    return false;
  end if;
  insert into posthorn.move (id, side, other, other_system, other_database) values (p_move, 'target', p_other, p_system, p_database);
  perform posthorn.go_away();
  return true;
end $$;

-- empty_target(): removes what a move has brought that was not finished.
create or replace function posthorn.empty_target() returns void
language plpgsql as $$
declare
  v_tables text;
begin
  if (posthorn.why_away()).reason is distinct from 'unfinished' then
    raise exception 'this is no target of a move that was not finished' using errcode = 'PH099';
  end if;
  perform set_config('lock_timeout', '10s', true), set_config('idle_in_transaction_session_timeout', '0', true);
  lock table posthorn.ring in access exclusive mode;
  select string_agg(format('posthorn.%I', t ->> 'name'), ', ') into v_tables from json_array_elements(posthorn.move_tables()) t;
  execute 'truncate ' || v_tables;
end $$;

-- ring_text(): the ring of a source, which take_ring makes that of a target that is not at home yet.
create or replace function posthorn.ring_text() returns text
language sql volatile as $$ select r::text from posthorn.ring r $$;

create or replace function posthorn.take_ring(p_ring text) returns void
language plpgsql as $$
declare
  v_ring posthorn.ring := p_ring::posthorn.ring;
begin
  truncate posthorn.ring;
  insert into posthorn.ring select v_ring.*;
  perform posthorn.go_away();
end $$;

-- sequence_values(): all sequences of a log with their last values, as JSON; those that gave none are left out. take_sequences puts them right elsewhere.
create or replace function posthorn.sequence_values() returns json
language sql volatile as $$
  -- A condition beside others may be asked of what is no sequence.
  select json_agg(json_build_object('name', s.name, 'value', s.value::text)) filter (where s.value is not null)
    from (select c.relname as name, case when c.relkind = 'S' then pg_sequence_last_value(c.oid) end as value from pg_class c
      where c.relnamespace = 'posthorn'::regnamespace and c.relkind = 'S') s
$$;

create or replace function posthorn.take_sequences(p_values json) returns void
language plpgsql as $$
declare
  v_one record;
begin
  perform posthorn.make_backlogs();
  for v_one in select * from json_to_recordset(p_values) s(name text, value bigint) loop
    if to_regclass(format('posthorn.%I', v_one.name)) is not null then
      perform setval(format('posthorn.%I', v_one.name)::regclass, v_one.value);
    end if;
  end loop;
end $$;
