-- Whose log this is. Transaction ids mean something only on the server that gave them, and two databases that work on the same messages do
-- everything twice. So whoever writes asks first whether this database is the home of its log; a session is answered once.

-- why_away(): why this database is not the home of its log; null columns when it is. `reason` is copied, behind, moved or unfinished.
create or replace function posthorn.why_away(out reason text, out says text, out hint text) returns record
language plpgsql as $$
declare
  v_ring posthorn.ring;
  v_move posthorn.move;
  v_ahead xid8;
begin
  select * into v_ring from posthorn.ring;
  if coalesce(v_ring.system_identifier, 0) = 0 then
    select * into v_move from posthorn.move m order by m.n desc limit 1;
    if v_move.side = 'target' then
      reason := 'unfinished';
      says := format('the move from %s into this database was not finished', v_move.other);
      hint := 'Nothing was written. Run the same `posthorn move` again. Until it has succeeded, its source may still be the one that works.';
    else
      reason := 'moved';
      says := format('this database was moved to %s, where its messages are worked on', coalesce(v_move.other, 'another one'));
      hint := 'Nothing was written. Point the application at that database.';
    end if;
    return;
  elsif not posthorn.is_server(v_ring.system_identifier, v_ring.database) then
    reason := 'copied';
    says := format('this database is a copy: its log belongs to %s. It was restored from a dump, copied, moved by hand, or upgraded by pg_upgrade',
      case when v_ring.system_identifier = (select c.system_identifier from pg_control_system() c) then 'another database of this server' else 'another server' end);
  else
    v_ahead := posthorn.ahead();
    if v_ahead is null then
      return;
    end if;
    reason := 'behind';
    says := format('this server is behind its log, which has seen transaction %s: files of it were restored, or its counter was reset', v_ahead);
  end if;
  hint := 'Nothing was written. Two databases that work on the same messages do everything twice: each mail is sent again. While the original works, '
    'leave this one alone. If this one is to take its place, stop the other for good, and run `posthorn migrate --rebase` here.';
end $$;

-- raise_away(): PH003, with the reason in the detail. For whoever has found out that this is not the home.
create or replace function posthorn.raise_away() returns void
language plpgsql as $$
declare
  v_why record := posthorn.why_away();
begin
  -- Only a transaction that looks at the past finds nothing wrong here.
  raise exception '%', coalesce(v_why.says, 'this database was moved while the transaction was open') using errcode = 'PH003',
    detail = coalesce(v_why.reason, 'moved'), hint = coalesce(v_why.hint, 'Nothing was written. Repeat the transaction.');
end $$;

-- moved_away(): the same as an answer, for transactions of callers, which a refusal must not fail.
create or replace function posthorn.moved_away() returns text
language plpgsql as $$
declare
  v_why record := posthorn.why_away();
begin
  return concat('moved ', json_build_object('detail', v_why.reason, 'says', v_why.says, 'hint', v_why.hint));
end $$;

-- require_home(): for what writes without own_transaction. Raises PH003.
create or replace function posthorn.require_home() returns void
language plpgsql as $$
declare
  v_ring posthorn.ring;
  v_home text;
begin
  select * into v_ring from posthorn.ring;
  v_home := concat(v_ring.system_identifier, '/', v_ring.database);
  if current_setting('posthorn.home', true) is distinct from v_home then
    if posthorn.is_here(v_ring.system_identifier, v_ring.database) is not true then
      perform posthorn.raise_away();
    end if;
    perform set_config('posthorn.home', v_home, false);
  end if;
end $$;

-- is_server(system, database): whether these name the server and database that this session is in.
create or replace function posthorn.is_server(p_system bigint, p_database oid) returns boolean
language plpgsql stable as $$
begin
  return p_system = (select c.system_identifier from pg_control_system() c)
    and p_database = (select d.oid from pg_database d where d.datname = current_database());
end $$;

-- ahead(): the transaction that the newest tick of this epoch names and this server has not come to; null when there is none. Compared are the oldest
-- transactions of snapshots: those never go down, and a crash of the server, which may give ids again, gives none that is older.
create or replace function posthorn.ahead() returns xid8
language plpgsql volatile as $$
declare
  v_ring posthorn.ring;
  v_tick posthorn.tick;
  v_now pg_snapshot;
begin
  select * into v_ring from posthorn.ring;
  if v_ring.slots is null then
    return null;
  end if;
  v_tick := posthorn.newest_tick_of(v_ring.slots[cardinality(v_ring.slots)]);
  -- In a later statement than the tick: its snapshot is the newer one.
  select pg_current_snapshot() into v_now;
  return case when v_tick.ceiling_id >= v_ring.first_id and pg_snapshot_xmin(v_tick.snapshot) > pg_snapshot_xmin(v_now)
    then pg_snapshot_xmin(v_tick.snapshot) end;
end $$;

select posthorn.by_slot('newest_tick_of(p_slot smallint)', 'posthorn.tick', $body$
  return (select row(t.id, t.ceiling_id, t.snapshot)::posthorn.tick from posthorn.tick_{slot} t order by t.id desc limit 1);
$body$);
