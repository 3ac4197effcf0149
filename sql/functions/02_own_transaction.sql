-- own_transaction(durable): called first in every transaction of the library itself, never in a caller's.
-- Refuses anything but READ COMMITTED: a claim reads what was committed after its snapshot was stored, and a snapshot that is
-- older than the one stored in a tick would deliver messages twice. Sets, for this transaction only, what keeps the plans of the
-- few hot statements the same whatever the statistics say; and whether COMMIT waits for the disk.
-- Raises PH002 (wrong isolation level), PH003 (restored or moved database).
create or replace function posthorn.own_transaction(p_durable boolean) returns posthorn.ring
language plpgsql as $$
declare
  v_ring posthorn.ring;
  v_home text;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'this needs a READ COMMITTED transaction, not %', upper(current_setting('transaction_isolation')) using errcode = 'PH002';
  end if;
  perform posthorn.plain_plans(), set_config('synchronous_commit', case when p_durable then 'on' else 'off' end, true);
  select * into v_ring from posthorn.ring;
  -- A session never changes its server and database, so it is asked once: the answer costs as much as the rest of this function.
  v_home := concat(v_ring.system_identifier, '/', v_ring.database);
  if current_setting('posthorn.home', true) is distinct from v_home then
    if posthorn.is_here(v_ring.system_identifier, v_ring.database) is not true then
      perform posthorn.raise_away();
    end if;
    perform set_config('posthorn.home', v_home, false);
  end if;
  return v_ring;
end $$;

-- plain_plans(): what keeps plans the same whatever the statistics say, until the end of this transaction. Called before any statement
-- whose plan is kept: one that was made while a segment was empty would be kept for a full one. `work` sets the
-- same in a statement that it needs anyway.
create or replace function posthorn.plain_plans() returns void
language plpgsql as $$
begin
  perform set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true), set_config('enable_sort', 'off', true),
    set_config('jit', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true);
end $$;

-- is_here(system, database): whether these name the server and database that this session is in, and the log is not ahead of it. In PL/pgSQL, whose
-- plans are kept: a function in SQL would be planned anew in every statement that calls it.
create or replace function posthorn.is_here(p_system bigint, p_database oid) returns boolean
language plpgsql volatile as $$
begin
  return posthorn.is_server(p_system, p_database) and posthorn.ahead() is null;
end $$;

-- lock_key(purpose, a, b): the advisory lock for a purpose, apart from those of other installations and other software.
create or replace function posthorn.lock_key(p_purpose text, p_a bigint default 0, p_b bigint default 0) returns bigint
language plpgsql immutable as $$
begin
  return hashtextextended(concat('posthorn:', p_purpose, ':', p_a, ':', p_b), 0);
end $$;

-- random_bigint(): 64 bits from the server's strong source. For nonces, which make public ids unguessable.
create or replace function posthorn.random_bigint() returns bigint
language sql volatile as $$
  select ('x' || substr(u, 1, 8) || substr(u, 25, 8))::bit(64)::bigint from (select gen_random_uuid()::text as u) x
$$;

-- public_id(id, nonce): the id of a message as people and programs see it; id_of and nonce_of read it back, null if it is none.
create or replace function posthorn.public_id(p_id bigint, p_nonce bigint) returns text
language sql immutable as $$ select p_id::text || '-' || lpad(to_hex(p_nonce), 16, '0') $$;

create or replace function posthorn.id_of(p_public text) returns bigint
language sql immutable as $$
  select case when p_public ~ '^[0-9]{1,18}-[0-9a-f]{16}$' then split_part(p_public, '-', 1)::bigint end
$$;

create or replace function posthorn.nonce_of(p_public text) returns bigint
language sql immutable as $$
  select case when p_public ~ '^[0-9]{1,18}-[0-9a-f]{16}$' then ('x' || split_part(p_public, '-', 2))::bit(64)::bigint end
$$;
