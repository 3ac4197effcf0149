/** Written by scripts/embed-sql.mjs from the folder sql; do not edit. */
export const sqlFiles: readonly { readonly name: string; readonly text: string }[] = [
  { name: "migrations/0001_registry.sql", text: `-- The registry: which channels, contracts and subscriptions exist, and which server this data belongs to.

create table posthorn.migration (
  n int primary key,
  name text not null,
  applied_at timestamptz not null default clock_timestamp()
);

-- One row: what the schema in this database is made of. The digest tells whether the functions are those of the code.
create table posthorn.installation (
  singleton boolean primary key default true check (singleton),
  functions_digest text not null
);

create type posthorn.kind as enum ('command', 'event');
create type posthorn.idempotency as enum ('transaction', 'handler', 'at-most-once');

-- A queue (of commands) or a topic (of events). \`lanes\` is fixed when the channel is made.
create table posthorn.channel (
  id int generated always as identity primary key,
  kind posthorn.kind not null,
  name text not null check (length(name) between 1 and 80),
  lanes int not null default 1 check (lanes between 1 and 1024),
  created_at timestamptz not null default clock_timestamp(),
  unique (kind, name)
);

-- One row for each version of a contract. Kind, channel, key and owner are the same in all versions of a name.
create table posthorn.contract (
  id int generated always as identity primary key,
  name text not null check (length(name) between 1 and 80),
  version int not null check (version >= 1),
  kind posthorn.kind not null,
  channel int not null references posthorn.channel (id),
  keyed boolean not null,
  owner text,
  registered_by text not null,
  registered_at timestamptz not null default clock_timestamp(),
  unique (name, version)
);

-- A named reader of a channel. A queue has exactly one, of the queue's name; it exists before any worker has told its policy.
create table posthorn.subscription (
  id int generated always as identity primary key,
  name text not null unique check (length(name) between 1 and 80),
  channel int not null references posthorn.channel (id),
  idempotency posthorn.idempotency,
  policy json,
  service text,
  created_at timestamptz not null default clock_timestamp(),
  declared_at timestamptz
);
create index subscription_channel on posthorn.subscription (channel);

-- Transaction ids mean something only on the server that gave them. A restored copy has another identity and is refused.
create table posthorn.epoch (
  n int primary key,
  system_identifier bigint not null,
  database oid not null,
  first_id bigint not null,
  begun_at timestamptz not null default clock_timestamp()
);
` },
  { name: "migrations/0002_log.sql", text: `-- The log: message, claim, settlement. Only appended to; space comes back by truncating whole segments.
--
-- A segment is one slot of a fixed ring: five plain tables with the slot's number. The hot path writes and reads them by name;
-- a partitioned parent would be planned and locked in every statement. \`ring.slots\` lists the slots that hold data, oldest
-- first; the last one is written to.

create sequence posthorn.message_id;
create sequence posthorn.claim_id;
create sequence posthorn.tick_id;

create type posthorn.outcome as enum (
  'succeeded', 'failed', 'crashed', 'released', 'rejected', 'invalid', 'skipped', 'begun', 'unknown'
);

create table posthorn.ring (
  singleton boolean primary key default true check (singleton),
  slots smallint[] not null,
  slot smallint not null check (slot between 1 and 8),
  system_identifier bigint not null,
  database oid not null,
  first_id bigint not null
);

do $do$
begin
  for slot in 1..8 loop
    -- xid comes first: an insert evaluates columns in this order, and a transaction should have its id before it draws a message id.
    execute format($sql$
      create table posthorn.message_%1$s (
        xid xid8 not null,
        id bigint not null,
        nonce bigint not null,
        published_at timestamptz not null,
        channel int not null,
        lane int not null,
        contract int not null,
        key text,
        payload json not null,
        headers json
      )$sql$, slot);
    -- Two indexes that the planner cannot confuse: the second starts with an expression that only the late probe uses.
    execute format('create index message_%1$s_by_id on posthorn.message_%1$s (channel, lane, id)', slot);
    execute format('create index message_%1$s_by_xid on posthorn.message_%1$s (((channel::bigint << 32) | lane), xid, id)', slot);

    -- An edge between two windows: every message with id <= ceiling_id that the snapshot sees lies before it.
    execute format($sql$
      create table posthorn.tick_%1$s (
        id bigint primary key,
        ceiling_id bigint not null,
        snapshot pg_snapshot not null,
        at timestamptz not null
      )$sql$, slot);

    -- Who took what, and how far the lane has come. message_slots is null when all messages lie in the claim's own slot.
    execute format($sql$
      create table posthorn.claim_%1$s (
        id bigint not null,
        n bigint not null,
        token bigint not null,
        worker bigint not null,
        floor bigint not null,
        ceiling bigint not null,
        last_id bigint not null,
        at timestamptz not null,
        subscription int not null,
        lane int not null,
        late boolean not null,
        -- These messages were committed late: their ids lie below those of earlier claims.
        took_late boolean not null,
        late_xids xid8[],
        messages bigint[] not null,
        message_slots smallint[]
      )$sql$, slot);
    execute format('create unique index claim_%1$s_by_n on posthorn.claim_%1$s (subscription, lane, n)', slot);
    execute format('create unique index claim_%1$s_by_id on posthorn.claim_%1$s (id)', slot);
    -- To find the claim of one message: the first in whose reach its id lies, else one of the few that took late ones.
    execute format('create index claim_%1$s_by_reach on posthorn.claim_%1$s (subscription, lane, last_id) where not took_late', slot);
    execute format('create index claim_%1$s_late on posthorn.claim_%1$s (subscription, lane, n) where took_late', slot);

    -- How a part of a claim ended. \`messages\` is null for "all of the claim". A claim is open until a part closes it.
    execute format($sql$
      create table posthorn.settlement_%1$s (
        claim bigint not null,
        part int not null,
        outcome posthorn.outcome,
        closes boolean not null,
        at timestamptz not null,
        messages bigint[]
      )$sql$, slot);
    execute format('create unique index settlement_%1$s_by_part on posthorn.settlement_%1$s (claim, part)', slot);

    -- How one delivery of one message ended: written by the handler's own transaction, or for a delivery from \`deferred\`.
    execute format($sql$
      create table posthorn.ending_%1$s (
        message bigint not null,
        claim bigint,
        worker bigint,
        at timestamptz not null,
        subscription int not null,
        delivery int not null,
        outcome posthorn.outcome not null
      )$sql$, slot);
    execute format('create unique index ending_%1$s_by_delivery on posthorn.ending_%1$s (message, subscription, delivery)', slot);
  end loop;
end $do$;

-- The base position of a lane: where it stood when it was registered or at the last rotation. The position now is the newest
-- claim in \`slot\`, else this row. Neither is an error, never a first window.
create table posthorn.lane (
  subscription int not null references posthorn.subscription (id),
  lane int not null,
  slot smallint not null,
  n bigint not null,
  floor bigint not null,
  ceiling bigint not null,
  last_id bigint not null,
  late boolean not null,
  late_xids xid8[],
  primary key (subscription, lane)
);

-- Shapes that functions hand to each other.
create type posthorn.position as (slot smallint, n bigint, floor bigint, ceiling bigint, last_id bigint, late boolean, late_xids xid8[]);
create type posthorn.tick as (id bigint, ceiling_id bigint, snapshot pg_snapshot);
create type posthorn.stored as (
  id bigint, nonce bigint, contract int, key text, payload json, headers json, published_at timestamptz, slot smallint
);
-- What a claim takes, by id: the ids, the items of a JSON list, and the slots where the messages lie in more than one.
create type posthorn.batch as (ids bigint[], slots smallint[], items text);
` },
  { name: "migrations/0003_waiting.sql", text: `-- What waits or went wrong: ordinary tables, because it is updated, changed and deleted. Rows carry a copy of the message,
-- so that segments can be truncated beneath them.

create sequence posthorn.deferred_id;

create table posthorn.deferred (
  id bigint primary key default nextval('posthorn.deferred_id'),
  subscription int not null references posthorn.subscription (id),
  due_at timestamptz not null,
  -- The delivery that waits here, or runs while \`token\` is set.
  delivery int not null,
  attempts int not null,
  crashes int not null,
  reason posthorn.outcome not null,
  token bigint,
  worker bigint,
  taken_at timestamptz,
  message bigint not null,
  nonce bigint not null,
  channel int not null,
  lane int not null,
  contract int not null,
  key text,
  payload json not null,
  headers json,
  published_at timestamptz not null,
  -- Every attempt so far: number, worker, times, error.
  history json not null,
  unique (subscription, message)
);
create index deferred_due on posthorn.deferred (subscription, due_at) where token is null;
create index deferred_held on posthorn.deferred (worker) where token is not null;

create table posthorn.dead_letter (
  id bigint generated always as identity primary key,
  subscription int not null references posthorn.subscription (id),
  died_at timestamptz not null,
  keep_until timestamptz not null,
  reason text not null,
  delivery int not null,
  attempts int not null,
  crashes int not null,
  message bigint not null,
  nonce bigint not null,
  channel int not null,
  lane int not null,
  contract int not null,
  key text,
  payload json not null,
  headers json,
  published_at timestamptz not null,
  history json not null,
  unique (subscription, message)
);
create index dead_letter_kept on posthorn.dead_letter (keep_until);

create table posthorn.invalid (
  id bigint generated always as identity primary key,
  subscription int not null references posthorn.subscription (id),
  found_at timestamptz not null,
  issues json not null,
  delivery int not null,
  message bigint not null,
  nonce bigint not null,
  channel int not null,
  lane int not null,
  contract int not null,
  key text,
  payload json not null,
  headers json,
  published_at timestamptz not null,
  history json not null,
  unique (subscription, message)
);
` },
  { name: "migrations/0004_fleet.sql", text: `-- The fleet: who works, who watches, and what is wrong.

create table posthorn.worker (
  id bigint generated always as identity primary key,
  service text not null,
  host text not null,
  pid int not null,
  started_at timestamptz not null default clock_timestamp(),
  heartbeat_at timestamptz not null default clock_timestamp(),
  -- After so long without a heartbeat the worker counts as dead, whatever its session says.
  timeout_ms int not null,
  -- Key of the session lock that the worker's listening connection holds; null where there are no sessions of one's own.
  session_key bigint,
  -- The backends that this worker claims and listens on, so that those of a stopped process can be ended: one that waits for its
  -- client to read would keep its lane locked. Started times guard against a number that was given again.
  backends json not null default '[]',
  -- A worker without a session lock dies with its server: an embedded database starts anew with each process.
  server_started_at timestamptz not null default pg_postmaster_start_time(),
  -- Every claim of this worker that may be open has an id of at least this.
  oldest_open_claim bigint not null
);

-- What a worker works on, and which contracts it has handlers for.
create table posthorn.attendance (
  worker bigint not null references posthorn.worker (id) on delete cascade,
  subscription int not null references posthorn.subscription (id),
  contracts int[] not null,
  primary key (worker, subscription)
);
create index attendance_subscription on posthorn.attendance (subscription);

create table posthorn.alert (
  id bigint generated always as identity primary key,
  name text not null,
  subscription int not null references posthorn.subscription (id),
  raised_at timestamptz not null default clock_timestamp(),
  resolved_at timestamptz,
  value bigint not null,
  threshold bigint not null
);
-- Raised once in the fleet, whoever notices.
create unique index alert_open on posthorn.alert (subscription, name) where resolved_at is null;

-- When a pass of maintenance last ran; the lock that elects its runner is an advisory one.
create table posthorn.maintenance (
  name text primary key,
  ran_at timestamptz not null,
  -- Facts that a pass keeps for the next one.
  notes json
);
` },
  { name: "migrations/0005_discarded.sql", text: `-- What an operator discarded: kept without its payload for as long as a dead letter would be, so that the question what became of a
-- message has an answer.

create table posthorn.discarded (
  subscription int not null references posthorn.subscription (id),
  message bigint not null,
  nonce bigint not null,
  contract int not null,
  discarded_at timestamptz not null,
  keep_until timestamptz not null,
  discarded_by text not null,
  reason text not null,
  -- The list that it was taken from.
  list text not null check (list in ('dead-letters', 'invalid')),
  delivery int not null,
  attempts int not null,
  published_at timestamptz not null,
  history json not null,
  primary key (subscription, message)
);
create index discarded_kept on posthorn.discarded (keep_until);
` },
  { name: "migrations/0006_said.sql", text: `-- What a producer may say beside the payload: a time, an expiry, a priority, and what counts as the same request.

-- Not used by a function in SQL: the value of an enum cannot be named before the transaction that adds it has committed.
alter type posthorn.outcome add value 'scheduled';
alter type posthorn.outcome add value 'expired';

do $do$
begin
  for slot in 1..8 loop
    execute format('alter table posthorn.message_%s add column expires_at timestamptz', slot);
  end loop;
end $do$;
alter type posthorn.stored add attribute expires_at timestamptz;

alter table posthorn.deferred
  -- A run that would begin after it does not.
  add column expires_at timestamptz,
  add column priority smallint not null default 0,
  -- Another may wait behind it, which its end lets go.
  add column once_more boolean not null default false,
  -- The waiting delivery that this one waits for, with due_at at infinity.
  add column behind bigint,
  -- Producers write here now, and their transactions must not lock a row of the registry.
  drop constraint deferred_subscription_fkey;
drop index posthorn.deferred_due;
create index deferred_due on posthorn.deferred (subscription, priority, due_at) where token is null;
create index deferred_behind on posthorn.deferred (behind) where behind is not null;
-- What has been delivered before, apart from any number that is only scheduled.
create index deferred_again on posthorn.deferred (subscription) where delivery > 1;

-- The longest time between the first and the last run of a message by the declared policy; null when it is not known.
alter table posthorn.subscription add column redelivery_ms float8;

-- The newest message of each key that a producer asked to be recognised. The primary key is what lets one of two at once through.
create table posthorn.dedupe (
  name text not null,
  key text not null,
  subscription int not null,
  message bigint not null,
  nonce bigint not null,
  -- The end of the window of drop and throttle.
  until timestamptz not null,
  -- When the message that waits was first asked for.
  since timestamptz not null,
  -- When to ask whether the row may be forgotten; never before \`until\`.
  look_at timestamptz not null,
  primary key (name, key)
);
create index dedupe_looks on posthorn.dedupe (look_at);
` },
  { name: "functions/01_slots.sql", text: `-- by_slot(signature, returns, body): makes posthorn.<signature> from one body for all slots of the ring: {slot} in the body is
-- the number of a slot, and the first argument, p_slot, chooses. The statements inside name their tables directly, so each has a
-- cached plan over one plain table. Not for use at run time.
create or replace function posthorn.by_slot(p_signature text, p_returns text, p_body text) returns void
language plpgsql as $$
declare
  v_branches text;
begin
  select string_agg(format('when %s then %s', slot, replace(p_body, '{slot}', slot::text)), E'\\n' order by slot)
    into v_branches from generate_series(1, 8) slot;
  execute format('create or replace function posthorn.%s returns %s language plpgsql as %L', p_signature, p_returns,
    format(E'begin case p_slot\\n%s\\nelse raise exception ''slot %% does not exist'', p_slot using errcode = ''PH099'';\\nend case; end', v_branches));
end $$;
` },
  { name: "functions/02_own_transaction.sql", text: `-- own_transaction(durable): called first in every transaction of the library itself, never in a caller's.
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
    if not posthorn.is_here(v_ring.system_identifier, v_ring.database) then
      raise exception 'this database was restored or moved: its transaction ids belong to another server' using errcode = 'PH003';
    end if;
    perform set_config('posthorn.home', v_home, false);
  end if;
  return v_ring;
end $$;

-- plain_plans(): what keeps plans the same whatever the statistics say, until the end of this transaction. Called before any statement
-- whose plan is kept: one that was made while a segment was empty would be kept for a full one.
create or replace function posthorn.plain_plans() returns void
language plpgsql as $$
begin
  perform set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true), set_config('enable_sort', 'off', true),
    set_config('jit', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true);
end $$;

-- is_here(system, database): whether these name the server and database that this session is in. In PL/pgSQL, whose plans are kept: a
-- function in SQL would be planned anew in every statement that calls it.
create or replace function posthorn.is_here(p_system bigint, p_database oid) returns boolean
language plpgsql stable as $$
begin
  return p_system = (select c.system_identifier from pg_control_system() c)
    and p_database = (select d.oid from pg_database d where d.datname = current_database());
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
` },
  { name: "functions/03_read.sql", text: `-- Reading the log. Every function reads one slot; the functions without "_of" merge several, which happens only around a rotation.

-- item(…): one message as a claim returns it: [id, nonce, slot, contract, key, payload, headers, published_at in ms], and where it
-- expires, in how many ms. One expression that is inlined where it is called; building it with json_build_array costs half as much again.
create or replace function posthorn.item(
  p_id bigint, p_nonce bigint, p_slot smallint, p_contract int, p_key text, p_payload json, p_headers json, p_published_at timestamptz,
  p_expires_at timestamptz
) returns text
language sql stable as $$
  select concat('["', p_id, '","', p_nonce, '",', p_slot, ',', p_contract, ',', coalesce(to_json(p_key)::text, 'null'), ',', p_payload, ',',
    coalesce(p_headers::text, 'null'), ',', (date_part('epoch', p_published_at) * 1000)::bigint,
    ',' || ceil(date_part('epoch', p_expires_at - statement_timestamp()) * 1000)::bigint, ']')
$$;

-- page_of: committed messages of a lane after an id and up to a ceiling that the ceiling's snapshot sees, by id, as one batch.
-- Plan: message_N_by_id, range on id, stops at the limit.
select posthorn.by_slot(
  'page_of(p_slot smallint, p_channel int, p_lane int, p_after bigint, p_upto bigint, p_snapshot pg_snapshot, p_limit int)',
  'posthorn.batch', $body$
  return (select row(array_agg(m.id), null, string_agg(
      posthorn.item(m.id, m.nonce, {slot}::smallint, m.contract, m.key, m.payload, m.headers, m.published_at, m.expires_at), ','))::posthorn.batch
    from (select * from posthorn.message_{slot} m
      where m.channel = p_channel and m.lane = p_lane and m.id > p_after and m.id <= p_upto and pg_visible_in_snapshot(m.xid, p_snapshot)
      order by m.id limit p_limit) m);
$body$);

-- late_xids_of: the transactions with messages at or below the floor's id that the floor's snapshot did not see and the ceiling's
-- sees. The floor's list of running transactions does not hold those at or above its xmax, hence the second part.
-- Plan: message_N_by_xid; one probe for each transaction, then a range of the index alone.
select posthorn.by_slot(
  'late_xids_of(p_slot smallint, p_channel int, p_lane int, p_floor pg_snapshot, p_floor_id bigint, p_first_id bigint, p_ceiling pg_snapshot)',
  'xid8[]', $body$
  return (select array_agg(distinct late.xid) from (
    select probe.xid from pg_snapshot_xip(p_floor) running(xid)
      cross join lateral (select m.xid from posthorn.message_{slot} m
        where ((m.channel::bigint << 32) | m.lane) = ((p_channel::bigint << 32) | p_lane)
          and m.xid = running.xid and m.id >= p_first_id and m.id <= p_floor_id limit 1) probe
      where pg_visible_in_snapshot(running.xid, p_ceiling)
    union all
    select m.xid from posthorn.message_{slot} m
      where ((m.channel::bigint << 32) | m.lane) = ((p_channel::bigint << 32) | p_lane)
        and m.xid >= pg_snapshot_xmax(p_floor) and m.xid < pg_snapshot_xmax(p_ceiling)
        and m.id >= p_first_id and m.id <= p_floor_id and pg_visible_in_snapshot(m.xid, p_ceiling)) late);
$body$);

-- late_page_of: messages of the listed transactions after an id and up to the floor's, by id, as one batch.
-- Plan: one probe of message_N_by_xid for each transaction. \`xid = any(…)\` would become a filter over the whole lane.
select posthorn.by_slot(
  'late_page_of(p_slot smallint, p_channel int, p_lane int, p_xids xid8[], p_after bigint, p_upto bigint, p_limit int)',
  'posthorn.batch', $body$
  return (select row(array_agg(m.id), null, string_agg(
      posthorn.item(m.id, m.nonce, {slot}::smallint, m.contract, m.key, m.payload, m.headers, m.published_at, m.expires_at), ','))::posthorn.batch
    from (select late.* from unnest(p_xids) listed(xid)
      cross join lateral (select * from posthorn.message_{slot} m
        where ((m.channel::bigint << 32) | m.lane) = ((p_channel::bigint << 32) | p_lane)
          and m.xid = listed.xid and m.id > p_after and m.id <= p_upto
        order by m.id limit p_limit) late
      order by late.id limit p_limit) m);
$body$);

-- newest_claim_of: the position a lane has reached in a slot; null columns when the slot has no claim of the lane.
select posthorn.by_slot('newest_claim_of(p_slot smallint, p_subscription int, p_lane int)', 'posthorn.position', $body$
  return (select row({slot}::smallint, c.n, c.floor, c.ceiling, c.last_id, c.late, c.late_xids)::posthorn.position from posthorn.claim_{slot} c
    where c.subscription = p_subscription and c.lane = p_lane order by c.n desc limit 1);
$body$);

select posthorn.by_slot('tick_of(p_slot smallint, p_id bigint)', 'posthorn.tick', $body$
  return (select row(t.id, t.ceiling_id, t.snapshot)::posthorn.tick from posthorn.tick_{slot} t where t.id = p_id);
$body$);

-- message_of: one message by its place; the caller compares the nonce.
select posthorn.by_slot('message_of(p_slot smallint, p_channel int, p_lane int, p_id bigint)', 'posthorn.stored', $body$
  return (select row(m.id, m.nonce, m.contract, m.key, m.payload, m.headers, m.published_at, {slot}::smallint, m.expires_at)::posthorn.stored
    from posthorn.message_{slot} m where m.channel = p_channel and m.lane = p_lane and m.id = p_id);
$body$);

-- page: page_of over several slots. The pages of all slots are merged by id, and what is over the limit is left for the next claim.
create or replace function posthorn.page(p_slots smallint[], p_channel int, p_lane int, p_after bigint, p_upto bigint, p_snapshot pg_snapshot, p_limit int)
returns posthorn.batch language plpgsql as $$
begin
  if array_length(p_slots, 1) = 1 then
    return posthorn.page_of(p_slots[1], p_channel, p_lane, p_after, p_upto, p_snapshot, p_limit);
  end if;
  return posthorn.merged(p_slots, array(select posthorn.page_of(s.slot, p_channel, p_lane, p_after, p_upto, p_snapshot, p_limit) from unnest(p_slots) s(slot)), p_limit);
end $$;

-- merged: a batch of each slot as one, by id, cut at the limit.
create or replace function posthorn.merged(p_slots smallint[], p_batches posthorn.batch[], p_limit int) returns posthorn.batch
language plpgsql as $$
begin
  return (select row(array_agg(m.id), array_agg(m.slot), string_agg(m.item::text, ','))::posthorn.batch
    from (select i.id, b.slot, i.item from unnest(p_slots, p_batches) b(slot, ids, slots, items)
        cross join lateral rows from (unnest(b.ids), json_array_elements(('[' || b.items || ']')::json)) i(id, item)
      order by i.id limit p_limit) m);
end $$;

create or replace function posthorn.late_page(p_slots smallint[], p_channel int, p_lane int, p_xids xid8[], p_after bigint, p_upto bigint, p_limit int)
returns posthorn.batch language plpgsql as $$
begin
  if array_length(p_slots, 1) = 1 then
    return posthorn.late_page_of(p_slots[1], p_channel, p_lane, p_xids, p_after, p_upto, p_limit);
  end if;
  return posthorn.merged(p_slots, array(select posthorn.late_page_of(s.slot, p_channel, p_lane, p_xids, p_after, p_upto, p_limit) from unnest(p_slots) s(slot)), p_limit);
end $$;

create or replace function posthorn.late_xids(p_slots smallint[], p_channel int, p_lane int, p_floor pg_snapshot, p_floor_id bigint, p_first_id bigint, p_ceiling pg_snapshot)
returns xid8[] language plpgsql as $$
begin
  if array_length(p_slots, 1) = 1 then
    return posthorn.late_xids_of(p_slots[1], p_channel, p_lane, p_floor, p_floor_id, p_first_id, p_ceiling);
  end if;
  return (select array_agg(distinct x.xid) from unnest(p_slots) s(slot)
    cross join lateral unnest(posthorn.late_xids_of(s.slot, p_channel, p_lane, p_floor, p_floor_id, p_first_id, p_ceiling)) x(xid));
end $$;
` },
  { name: "functions/04_claim.sql", text: `-- claim(subscription, lane, worker, limit): takes the next messages of a lane for a worker. Returns the text of a JSON document:
--   { missed } when another session is claiming this lane just now, { } when there is nothing, else
--   { claim, token, slot, messages: [[id, nonce, slot, contract, key, payload, headers, published_at in ms]] }.
-- Windows between ticks: a position names a floor tick, a ceiling tick and a place between them. First come the messages that
-- were committed late (at or below the floor's id, unseen by the floor, seen by the ceiling), then those above the floor's id.
-- Every committed message is in exactly one window, because ceilings never go down, snapshots only grow, and pages are read after
-- the snapshot was taken. Must run in a transaction that publishes nothing: its own rows would count as seen; \`work\` has begun it.
-- Raises PH004 (position lost), PH007 (the worker counts as dead).
create or replace function posthorn.claim(p_subscription int, p_lane int, p_worker bigint, p_limit int) returns text
language plpgsql as $$
declare
  v_channel int := (select s.channel from posthorn.subscription s where s.id = p_subscription);
  v_ring posthorn.ring;
  v_at posthorn.position;
  v_floor posthorn.tick;
  v_ceiling posthorn.tick;
  v_opened boolean := false;
  v_took_late boolean;
  v_batch posthorn.batch;
  v_taken int := 0;
  v_claim bigint;
  v_token bigint := (random() * 9e18)::bigint;
begin
  perform posthorn.hold_worker(p_worker);
  if not pg_try_advisory_xact_lock(posthorn.lock_key('lane', p_subscription, p_lane)) then
    return '{"missed":true}';
  end if;
  -- From here each statement sees what the previous holder of the lock committed. The ring is read only now: the previous holder may
  -- have opened a window that holds messages of a slot which was not there before.
  select * into v_ring from posthorn.ring;
  v_at := posthorn.position_of(p_subscription, p_lane);
  v_ceiling := posthorn.tick_of(v_at.slot, v_at.ceiling);
  v_floor := posthorn.tick_of(v_at.slot, v_at.floor);
  if v_ceiling.id is null or v_floor.id is null then
    raise exception 'the ticks of subscription %, lane % are gone', p_subscription, p_lane using errcode = 'PH004';
  end if;

  loop
    v_took_late := v_at.late;
    if v_at.late then
      v_batch := posthorn.late_page(v_ring.slots, v_channel, p_lane, v_at.late_xids, v_at.last_id, v_floor.ceiling_id, p_limit);
      v_taken := coalesce(cardinality(v_batch.ids), 0);
      if v_taken < p_limit then
        v_at.late := false;
        v_at.late_xids := null;
        v_at.last_id := v_floor.ceiling_id;
      else
        v_at.last_id := v_batch.ids[p_limit];
      end if;
    elsif v_at.last_id < v_ceiling.ceiling_id then
      v_batch := posthorn.page(v_ring.slots, v_channel, p_lane, v_at.last_id, v_ceiling.ceiling_id, v_ceiling.snapshot, p_limit);
      v_taken := coalesce(cardinality(v_batch.ids), 0);
      v_at.last_id := case when v_taken < p_limit then v_ceiling.ceiling_id else v_batch.ids[p_limit] end;
    elsif v_opened then
      return '{}';
    else
      -- The window is done. Its ceiling is the floor of the next, whose id is read before its snapshot is taken, in an earlier
      -- statement: a message above the id may be seen and waits for the window after, one below it is late if it is unseen.
      -- The slots are those that the same snapshot sees: it sees no message whose slot it does not know.
      v_floor := v_ceiling;
      v_ceiling.ceiling_id := greatest(v_floor.ceiling_id, coalesce(pg_sequence_last_value('posthorn.message_id'), 0));
      select pg_current_snapshot(), r.slots into v_ceiling.snapshot, v_ring.slots from posthorn.ring r;
      v_opened := true;
      v_at.late_xids := posthorn.late_xids(v_ring.slots, v_channel, p_lane, v_floor.snapshot, v_floor.ceiling_id,
        v_ring.first_id, v_ceiling.snapshot);
      v_at.late := v_at.late_xids is not null;
      v_at.last_id := case when v_at.late then v_ring.first_id - 1 else v_floor.ceiling_id end;
    end if;
    exit when v_taken > 0;
  end loop;

  if v_opened then
    v_ceiling.id := nextval('posthorn.tick_id');
    perform posthorn.write_tick(v_at.slot, v_ceiling.id, v_ceiling.ceiling_id, v_ceiling.snapshot);
  end if;
  v_claim := nextval('posthorn.claim_id');
  v_at.n := v_at.n + 1;
  v_at.floor := v_floor.id;
  v_at.ceiling := v_ceiling.id;
  if v_batch.slots is null and v_ring.slots[1] <> v_at.slot then
    v_batch.slots := array_fill(v_ring.slots[1], array[v_taken]);
  end if;
  perform posthorn.write_claim(v_at.slot, v_claim, v_token, p_worker, p_subscription, p_lane, v_at, v_took_late, v_batch.ids, v_batch.slots);
  return concat('{"claim":"', v_claim, '","token":"', v_token, '","slot":', v_at.slot, ',"messages":[', v_batch.items, ']}');
end $$;

-- hold_worker(worker): until the end of this transaction nobody rescues what this worker holds, so that a claim is never written
-- for a worker that is forgotten in the same moment. Raises PH007 when it counts as dead already.
create or replace function posthorn.hold_worker(p_worker bigint) returns void
language plpgsql as $$
declare
  v_held boolean := pg_try_advisory_xact_lock_shared(posthorn.lock_key('worker', p_worker));
begin
  -- A later statement than the lock: with one snapshot for both, the row of a worker that was just forgotten could still be seen.
  if not v_held or not exists (select from posthorn.worker w where w.id = p_worker) then
    raise exception 'worker % counts as dead; its messages were rescued', p_worker using errcode = 'PH007';
  end if;
end $$;

-- position_of(subscription, lane): where a lane stands: its newest claim, else its base row. Raises PH004 when there is neither.
create or replace function posthorn.position_of(p_subscription int, p_lane int) returns posthorn.position
language plpgsql as $$
declare
  v_base posthorn.lane;
  v_at posthorn.position;
begin
  select * into v_base from posthorn.lane l where l.subscription = p_subscription and l.lane = p_lane;
  if v_base.subscription is null then
    raise exception 'subscription % has no position for lane %', p_subscription, p_lane using errcode = 'PH004';
  end if;
  v_at := posthorn.newest_claim_of(v_base.slot, p_subscription, p_lane);
  if v_at.n is null then
    return row(v_base.slot, v_base.n, v_base.floor, v_base.ceiling, v_base.last_id, v_base.late, v_base.late_xids)::posthorn.position;
  end if;
  return v_at;
end $$;

select posthorn.by_slot('write_tick(p_slot smallint, p_id bigint, p_ceiling_id bigint, p_snapshot pg_snapshot)', 'void', $body$
  insert into posthorn.tick_{slot} (id, ceiling_id, snapshot, at) values (p_id, p_ceiling_id, p_snapshot, clock_timestamp());
$body$);

select posthorn.by_slot(
  'write_claim(p_slot smallint, p_claim bigint, p_token bigint, p_worker bigint, p_subscription int, p_lane int, p_at posthorn.position, p_took_late boolean, p_messages bigint[], p_message_slots smallint[])',
  'void', $body$
  insert into posthorn.claim_{slot} (id, n, token, worker, floor, ceiling, last_id, at, subscription, lane, late, took_late, late_xids, messages, message_slots)
    values (p_claim, p_at.n, p_token, p_worker, p_at.floor, p_at.ceiling, p_at.last_id, clock_timestamp(), p_subscription, p_lane, p_at.late,
      p_took_late, p_at.late_xids, p_messages, p_message_slots);
$body$);
` },
  { name: "functions/05_append.sql", text: `-- Writing messages into the slot of the ring that is open, in the caller's transaction. In PL/pgSQL, whose plans are kept: an insert that a client
-- sends as text is planned each time, which costs several times the insert.

-- open_slot(home): the slot that is written to; or, below zero, why nothing may be: -1 a restored copy, -2 another database. \`home\` names the
-- database that the ids of contracts are from, where somebody else brought the transaction; null for the library's own.
-- A session never changes its server and database, and asking reads a file: the answer is kept in a variable of ours, which is the one thing
-- that is set in a caller's session.
create or replace function posthorn.open_slot(p_home text) returns smallint
language plpgsql as $$
declare
  v_slot smallint;
  v_home text;
begin
  select r.slot, concat(r.system_identifier, '/', r.database) into v_slot, v_home from posthorn.ring r;
  if current_setting('posthorn.home', true) is distinct from v_home then
    if not posthorn.is_here(split_part(v_home, '/', 1)::bigint, split_part(v_home, '/', 2)::oid) then
      return -1;
    end if;
    perform set_config('posthorn.home', v_home, false);
  end if;
  return case when p_home <> v_home then -2 else v_slot end;
end $$;

-- own_slot(): the slot that is written to, for statements that fail as a whole. Raises PH003 (moved).
create or replace function posthorn.own_slot() returns smallint
language plpgsql as $$
declare
  v_slot smallint := posthorn.open_slot(null);
begin
  if v_slot < 0 then
    raise exception 'this database was restored or moved: its transaction ids belong to another server' using errcode = 'PH003';
  end if;
  return v_slot;
end $$;

-- append_one_of: writes one message and returns its id.
select posthorn.by_slot(
  'append_one_of(p_slot smallint, p_nonce bigint, p_channel int, p_contract int, p_key text, p_payload json, p_headers json)', 'bigint', $body$
  declare v_id bigint;
  begin
    insert into posthorn.message_{slot} (xid, id, nonce, published_at, channel, lane, contract, key, payload, headers)
      values (pg_current_xact_id(), nextval('posthorn.message_id'), p_nonce, clock_timestamp(), p_channel, 0, p_contract, p_key, p_payload, p_headers)
      returning id into v_id;
    return v_id;
  end;
$body$);

-- append_of: writes messages, whose columns are lists of the same length, and returns their ids in that order: rows are made in the order of
-- the lists, and each draws its id then. Null for \`keys\` or \`headers\` means none has any; one channel and contract stand for all.
select posthorn.by_slot(
  'append_of(p_slot smallint, p_nonces bigint[], p_channels int[], p_contracts int[], p_keys json, p_payloads json, p_headers json)', 'bigint[]', $body$
  declare v_ids bigint[];
  begin
    if p_keys is null and p_headers is null and cardinality(p_channels) = 1 and cardinality(p_contracts) = 1 then
      with written as (
        insert into posthorn.message_{slot} (xid, id, nonce, published_at, channel, lane, contract, key, payload, headers)
          select pg_current_xact_id(), nextval('posthorn.message_id'), r.nonce, clock_timestamp(), p_channels[1], 0, p_contracts[1], null, r.payload, null
          from rows from (unnest(p_nonces), json_array_elements(p_payloads)) r(nonce, payload)
          returning id)
        select array_agg(id) into v_ids from written;
    else
      with written as (
        insert into posthorn.message_{slot} (xid, id, nonce, published_at, channel, lane, contract, key, payload, headers)
          select pg_current_xact_id(), nextval('posthorn.message_id'), r.nonce, clock_timestamp(), coalesce(r.channel, p_channels[1]), 0,
            coalesce(r.contract, p_contracts[1]), r.key, r.payload, case when json_typeof(r.headers) <> 'null' then r.headers end
          from rows from (unnest(p_nonces), unnest(p_channels), unnest(p_contracts), json_array_elements_text(p_keys), json_array_elements(p_payloads),
            json_array_elements(p_headers)) r(nonce, channel, contract, key, payload, headers)
          returning id)
        select array_agg(id) into v_ids from written;
    end if;
    return v_ids;
  end;
$body$);

-- write_one(home, nonce, channel, contract, key, payload, headers): appends one message, as a producer does. Returns its id and the id of the
-- transaction as text, separated by a blank; or why nothing was written: a refusal fails no transaction of the caller.
create or replace function posthorn.write_one(
  p_home text, p_nonce bigint, p_channel int, p_contract int, p_key text, p_payload json, p_headers json
) returns text
language plpgsql as $$
declare
  v_slot smallint := posthorn.open_slot(p_home);
begin
  if v_slot < 0 then
    return case v_slot when -1 then 'moved' else 'elsewhere' end;
  end if;
  return concat(posthorn.append_one_of(v_slot, p_nonce, p_channel, p_contract, p_key, p_payload, p_headers), ' ', pg_current_xact_id());
end $$;

-- write_many(home, lists): appends many messages. Returns their ids in the order given and the id of the transaction, separated by blanks. Ids
-- without a gap come back as first:last.
create or replace function posthorn.write_many(
  p_home text, p_nonces bigint[], p_channels int[], p_contracts int[], p_keys json, p_payloads json, p_headers json
) returns text
language plpgsql as $$
declare
  v_slot smallint := posthorn.open_slot(p_home);
  v_ids bigint[];
  v_count int := cardinality(p_nonces);
begin
  if v_slot < 0 then
    return case v_slot when -1 then 'moved' else 'elsewhere' end;
  end if;
  v_ids := posthorn.append_of(v_slot, p_nonces, p_channels, p_contracts, p_keys, p_payloads, p_headers);
  -- They grow, so these two ends leave no room for a gap.
  if v_ids[v_count] - v_ids[1] = v_count - 1 then
    return concat(v_ids[1], ':', v_ids[v_count], ' ', pg_current_xact_id());
  end if;
  return concat(array_to_string(v_ids, ' '), ' ', pg_current_xact_id());
end $$;

-- append(messages): what handlers said, as one JSON list [{ n: nonce, ch: channel, c: contract, k: key, p: payload, h: headers }]; returns
-- [[nonce, id]] as JSON. Where some have options, the list comes as append_said takes it, and a third element names the nonce that the id has.
create or replace function posthorn.append(p_messages json) returns json
language plpgsql as $$
declare
  v_slot smallint := posthorn.own_slot();
  v_first json := p_messages -> 0;
begin
  if v_first is null then
    return posthorn.append_said(v_slot, p_messages);
  end if;
  if json_array_length(p_messages) = 1 then
    return json_build_array(json_build_array(v_first ->> 'n', posthorn.append_one_of(v_slot, (v_first ->> 'n')::bigint, (v_first ->> 'ch')::int,
      (v_first ->> 'c')::int, v_first ->> 'k', v_first -> 'p', v_first -> 'h')::text));
  end if;
  return posthorn.append_list_of(v_slot, p_messages);
end $$;

select posthorn.by_slot('append_list_of(p_slot smallint, p_messages json)', 'json', $body$
  declare v_ids json;
  begin
  with written as (
    insert into posthorn.message_{slot} (xid, id, nonce, published_at, channel, lane, contract, key, payload, headers)
    select pg_current_xact_id(), nextval('posthorn.message_id'), r.n, clock_timestamp(), r.ch, 0, r.c, r.k, coalesce(r.p, 'null'::json), r.h
    from json_to_recordset(p_messages) as r(n bigint, ch int, c int, k text, p json, h json)
    returning nonce, id)
  select json_agg(json_build_array(nonce::text, id::text)) into v_ids from written;
  return v_ids;
  end;
$body$);

-- said(name, kind, payload, key, headers, options): what send and publish share. Looks the newest version of the contract up and holds the
-- caller to it. Raises PH010 (unknown contract), PH011 (wrong kind), PH012 (key), PH013 (payload is no JSON for us), PH014 (too large), PH015 (options).
create or replace function posthorn.said(
  p_name text, p_kind posthorn.kind, p_payload json, p_key text, p_headers json, p_options json default null
) returns text
language plpgsql as $$
declare
  v_contract posthorn.contract;
  v_nonce bigint := posthorn.random_bigint();
  v_place json;
begin
  select * into v_contract from posthorn.contract where name = p_name order by version desc limit 1;
  if v_contract.id is null then
    raise exception 'no contract is called "%"', left(p_name, 80) using errcode = 'PH010',
      hint = 'Contracts are registered by the first TypeScript process that declares or says them. See select name, kind from posthorn.contract.';
  end if;
  if v_contract.kind <> p_kind then
    raise exception '"%" is % % and cannot be %', p_name, case v_contract.kind when 'event' then 'an' else 'a' end, v_contract.kind,
      case p_kind when 'event' then 'published' else 'sent' end using errcode = 'PH011',
      hint = case v_contract.kind when 'event' then 'Use posthorn.publish.' else 'Use posthorn.send.' end;
  end if;
  if v_contract.keyed and (p_key is null or p_key = '') then
    raise exception 'every "%" has a key, and this one has none', p_name using errcode = 'PH012', hint = 'Pass key => ….';
  end if;
  if p_key is not null and (p_key = '' or octet_length(p_key) > 512) then
    raise exception 'the key of "%" is empty or longer than 512 bytes', p_name using errcode = 'PH012';
  end if;
  if p_payload is null then
    raise exception 'the payload of "%" is null', p_name using errcode = 'PH013', hint = 'Pass ''null''::json to say nothing in JSON.';
  end if;
  if octet_length(p_payload::text) > 1048576 or octet_length(coalesce(p_headers::text, '')) > 8192 then
    raise exception 'the payload or headers of "%" are too large', p_name using errcode = 'PH014';
  end if;
  -- json takes what no reader can decode (\\u0000, half surrogate pairs); jsonb does not.
  begin
    perform p_payload::jsonb, p_headers::jsonb;
  exception when others then
    raise exception 'the payload of "%" cannot be decoded: %', p_name, sqlerrm using errcode = 'PH013';
  end;
  if p_headers is not null and (json_typeof(p_headers) <> 'object' or exists (
      select from json_each(case when json_typeof(p_headers) = 'object' then p_headers else '{}' end) h where json_typeof(h.value) <> 'string')) then
    raise exception 'the headers of "%" are not an object of strings', p_name using errcode = 'PH013';
  end if;
  if p_options is not null then
    v_place := posthorn.say_one(posthorn.own_slot(), json_build_object('n', v_nonce::text, 'ch', v_contract.channel, 'c', v_contract.id, 'k', p_key,
      'p', p_payload, 'h', p_headers), p_options, null);
    return posthorn.public_id((v_place ->> 1)::bigint, (v_place ->> 2)::bigint);
  end if;
  return posthorn.public_id(posthorn.append_one_of(posthorn.own_slot(), v_nonce, v_contract.channel, v_contract.id, p_key, p_payload, p_headers), v_nonce);
end $$;

-- publish(name, payload, key, headers): states a fact in the caller's transaction; returns the message's id. Visible after COMMIT.
create or replace function posthorn.publish(name text, payload json, key text default null, headers json default null) returns text
language sql volatile as $$ select posthorn.said($1, 'event', $2, $3, $4) $$;

-- send(name, payload, key, headers, options): asks for something in the caller's transaction; returns the message's id, or that of the message that
-- stands for it. Options are JSON { delayMs, runAt, expiresInMs, priority, dedupe: { key, mode, windowMs, maxWaitMs } }; see options_of.
create or replace function posthorn.send(name text, payload json, key text default null, headers json default null, options json default null) returns text
language sql volatile as $$ select posthorn.said($1, 'command', $2, $3, $4, $5) $$;

-- The one without options would make every short call ambiguous. Who had been granted it gets the new one.
do $do$
declare
  v_role name;
begin
  if to_regprocedure('posthorn.send(text,json,text,json)') is not null then
    for v_role in select r.rolname from pg_proc p cross join lateral aclexplode(p.proacl) a join pg_roles r on r.oid = a.grantee
        where p.oid = to_regprocedure('posthorn.send(text,json,text,json)') and a.privilege_type = 'EXECUTE' and a.grantee <> p.proowner loop
      execute format('grant execute on function posthorn.send(text, json, text, json, json) to %I', v_role);
    end loop;
    drop function posthorn.send(text, json, text, json);
  end if;
end $do$;
` },
  { name: "functions/06_conclude.sql", text: `-- How deliveries end. Each delivery ends at most once, whatever the end, in one transaction with its consequence:
--   a delivery from the log in a claim-settling mode: a numbered part of its claim, unique (claim, part), fenced by the claim's token;
--   a delivery from the log in transaction mode: an ending, unique (message, subscription, delivery), fenced by the claim's token;
--   a delivery from \`deferred\`: the row itself, fenced by its token.
-- A stale holder's success, its failure and a rescue therefore meet on the same row, and the second one loses.

-- settle_part_of: writes one part of a claim. False when it could not be written: the token is not the holder's, the part is there already, or
-- the one before it is missing or closed the claim. Parts leave no number out, and none comes after the one that closes: a stale holder
-- cannot pass by the rescuer's.
-- Plan: probes of claim_N_by_id and settlement_N_by_part.
select posthorn.by_slot(
  'settle_part_of(p_slot smallint, p_claim bigint, p_token bigint, p_part int, p_outcome posthorn.outcome, p_closes boolean, p_messages bigint[])',
  'boolean', $body$
  insert into posthorn.settlement_{slot} (claim, part, outcome, closes, at, messages)
    select p_claim, p_part, p_outcome, p_closes, clock_timestamp(), p_messages
    where exists (select from posthorn.claim_{slot} c where c.id = p_claim and c.token = p_token offset 0)
      and (p_part = 1 or exists (select from posthorn.settlement_{slot} t where t.claim = p_claim and t.part = p_part - 1 and not t.closes offset 0))
    on conflict do nothing;
  return found;
$body$);

-- end_of: writes the end of one delivery into the slot of its message. False when it had ended already.
select posthorn.by_slot(
  'end_of(p_slot smallint, p_subscription int, p_message bigint, p_delivery int, p_outcome posthorn.outcome, p_claim bigint, p_worker bigint)',
  'boolean', $body$
  insert into posthorn.ending_{slot} (message, claim, worker, at, subscription, delivery, outcome)
    values (p_message, p_claim, p_worker, clock_timestamp(), p_subscription, p_delivery, p_outcome) on conflict do nothing;
  return found;
$body$);

-- end_held_of: as end_of, for a message that lies in the slot of its claim, as most do: the holder's token is compared in the same statement.
select posthorn.by_slot(
  'end_held_of(p_slot smallint, p_subscription int, p_message bigint, p_delivery int, p_outcome posthorn.outcome, p_claim bigint, p_token bigint)',
  'boolean', $body$
  insert into posthorn.ending_{slot} (message, claim, worker, at, subscription, delivery, outcome)
    select p_message, p_claim, held.worker, clock_timestamp(), p_subscription, p_delivery, p_outcome
    from (select c.worker from posthorn.claim_{slot} c where c.id = p_claim and c.token = p_token offset 0) held
    on conflict do nothing;
  return found;
$body$);

-- claim_of: a claim by its id, whoever holds it; null columns when it is gone.
select posthorn.by_slot('claim_of(p_slot smallint, p_claim bigint)', 'posthorn.claim_1', $body$
  return (select row(c.*)::posthorn.claim_1 from posthorn.claim_{slot} c where c.id = p_claim);
$body$);

-- end_in_transaction: the last statement of a handler's transaction: ends the delivery that the holder's token proves, and writes
-- what the handler said. \`p_deferred\` is null for a delivery from the log. \`p_started\` is now() at BEGIN, in seconds as text.
-- Returns [[nonce, id]] of what was said. Raises PH005 (claim lost), PH006 (the handler ended the transaction).
create or replace function posthorn.end_in_transaction(
  p_subscription int, p_message bigint, p_message_slot smallint, p_delivery int,
  p_claim bigint, p_claim_slot smallint, p_deferred bigint, p_token bigint, p_started text, p_say json
) returns json
language plpgsql as $$
declare
  v_claim posthorn.claim_1;
begin
  -- Nothing of the handler comes after this, so nothing of it is affected. A process that is stopped between here and COMMIT lets go of the
  -- rows' locks soon, however long a handler may run. Zero: a database without the limit, which PGlite is.
  perform posthorn.plain_plans(), case when current_setting('idle_in_transaction_session_timeout') <> '0'
    then set_config('idle_in_transaction_session_timeout', '5s', true) end;
  if extract(epoch from now())::text <> p_started then
    raise exception 'the transaction that the handler was given has ended' using errcode = 'PH006';
  end if;
  if p_deferred is null and p_message_slot = p_claim_slot then
    if not posthorn.end_held_of(p_claim_slot, p_subscription, p_message, p_delivery, 'succeeded', p_claim, p_token) then
      perform posthorn.raise_lost(json_build_object('ended', p_message::text));
    end if;
  elsif p_deferred is null then
    v_claim := posthorn.claim_of(p_claim_slot, p_claim);
    if v_claim.token is distinct from p_token
      or not posthorn.end_of(p_message_slot, p_subscription, p_message, p_delivery, 'succeeded', p_claim, v_claim.worker) then
      perform posthorn.raise_lost(json_build_object('ended', p_message::text));
    end if;
  else
    perform posthorn.end_deferred(p_deferred, p_token, 'succeeded');
  end if;
  return case when p_say is null then null else posthorn.append(p_say) end;
end $$;

-- raise_lost(what): PH005; the detail says what is lost: { claims: [id] }, { deferred: id } or { ended: message }.
create or replace function posthorn.raise_lost(p_what json) returns void
language plpgsql as $$
begin
  raise exception 'the holder no longer holds this: it was rescued or ended elsewhere' using errcode = 'PH005', detail = p_what::text;
end $$;

-- end_deferred: ends a delivery that was taken from \`deferred\`, for good. Raises PH005.
create or replace function posthorn.end_deferred(p_deferred bigint, p_token bigint, p_outcome posthorn.outcome) returns posthorn.deferred
language plpgsql as $$
declare
  v_row posthorn.deferred;
begin
  delete from posthorn.deferred d where d.id = p_deferred and d.token = p_token returning * into v_row;
  if v_row.id is null then
    perform posthorn.raise_lost(json_build_object('deferred', p_deferred::text));
  end if;
  if v_row.once_more then
    perform posthorn.let_go(v_row.id);
  end if;
  -- The fence was the row; the ending is for the history, and lies where the log is open now.
  perform posthorn.end_of((select slot from posthorn.ring), v_row.subscription, v_row.message, v_row.delivery, p_outcome, null, v_row.worker);
  return v_row;
end $$;

-- ids(list): a JSON list of ids as an array; null for none.
create or replace function posthorn.ids(p_list json) returns bigint[]
language plpgsql immutable as $$
begin
  if p_list is null then
    return null;
  end if;
  return array(select i::bigint from json_array_elements_text(p_list) i);
end $$;

-- conclude(parts, ends, say): settles what a worker holds, in one transaction of the library's own.
--   parts: parts of claims, those of one claim in their order: [{ claim, token, slot, part, outcome, messages, closes }]; no \`messages\`: all of it
--   ends:  every delivery that did not simply succeed from the log, with its consequence (see conclude_one)
--   say:   what handlers said, as in append
-- All or nothing. Returns [[nonce, id]] of what was said. Raises PH005 with the lost claim in the detail.
create or replace function posthorn.conclude(p_parts json, p_ends json default null, p_say json default null) returns json
language plpgsql as $$
declare
  v_part json;
  v_lost bigint[];
  v_end json;
begin
  if p_parts is not null then
    for v_part in select * from json_array_elements(p_parts) loop
      if not posthorn.settle_part_of((v_part ->> 'slot')::smallint, (v_part ->> 'claim')::bigint, (v_part ->> 'token')::bigint, (v_part ->> 'part')::int,
          (v_part ->> 'outcome')::posthorn.outcome, (v_part ->> 'closes')::boolean, posthorn.ids(v_part -> 'messages')) then
        v_lost := v_lost || (v_part ->> 'claim')::bigint;
      end if;
    end loop;
    if v_lost is not null then
      perform posthorn.raise_lost(json_build_object('claims', v_lost::text[]));
    end if;
  end if;
  if p_ends is not null then
    for v_end in select * from json_array_elements(p_ends) loop
      perform posthorn.conclude_one(v_end);
    end loop;
  end if;
  return case when p_say is null then null else posthorn.append(p_say) end;
end $$;

-- settle(parts, ends, say): conclude as a statement of its own. What handlers said must not be lost, so then COMMIT waits for the disk. A key of dedupe
-- that a producer holds is waited for a second: 55P03.
create or replace function posthorn.settle(p_parts json, p_ends json, p_say json) returns json
language plpgsql as $$
begin
  perform posthorn.own_transaction(p_say is not null or p_ends is not null);
  if json_typeof(p_say) = 'object' then
    perform set_config('lock_timeout', '1s', true);
  end if;
  return posthorn.conclude(p_parts, p_ends, p_say);
end $$;

-- work(subscription, lane, worker, limit, parts): settles what succeeded and claims the next, in one transaction. Claims of an
-- at-most-once subscription are on disk when it returns. Where a queue has lanes for priorities, the most urgent one is claimed from.
-- Raises what own_transaction, conclude and claim raise.
create or replace function posthorn.work(p_subscription int, p_lane int, p_worker bigint, p_limit int, p_parts json) returns text
language plpgsql as $$
declare
  v_once boolean;
  v_classes boolean;
begin
  select s.idempotency = 'at-most-once', exists (select from posthorn.lane l where l.subscription = s.id and l.lane > 1024) into v_once, v_classes
    from posthorn.subscription s where s.id = p_subscription;
  perform posthorn.own_transaction(v_once);
  if p_parts is not null then
    perform posthorn.conclude(p_parts);
  end if;
  if v_classes then
    return posthorn.claim_by_priority(p_subscription, p_worker, p_limit);
  end if;
  return posthorn.claim(p_subscription, p_lane, p_worker, p_limit);
end $$;

-- conclude_one(end): one delivery's end and its consequence:
--   { subscription, message, nonce, messageSlot, delivery, outcome, entry, ends?, deferred?, token?, claim?, claimSlot?,
--     next: { defer: { delayMs, attempts, crashes } } | { dead: { reason, keepMs, attempts, crashes } } | { invalid: issues } | null }
-- \`ends\` true writes an ending for a delivery from the log (transaction mode); otherwise a part in the same call has ended it.
create or replace function posthorn.conclude_one(p_end json) returns void
language plpgsql as $$
declare
  v_claim posthorn.claim_1;
  v_row posthorn.deferred;
  v_outcome posthorn.outcome := (p_end ->> 'outcome')::posthorn.outcome;
begin
  if p_end ->> 'deferred' is not null then
    if p_end #>> '{next,defer}' is not null then
      select * into v_row from posthorn.deferred d where d.id = (p_end ->> 'deferred')::bigint and d.token = (p_end ->> 'token')::bigint for update;
      if v_row.id is null then
        perform posthorn.raise_lost(json_build_object('deferred', p_end ->> 'deferred'));
      end if;
    else
      v_row := posthorn.end_deferred((p_end ->> 'deferred')::bigint, (p_end ->> 'token')::bigint, v_outcome);
    end if;
  else
    v_claim := posthorn.claim_of((p_end ->> 'claimSlot')::smallint, (p_end ->> 'claim')::bigint);
    if v_claim.token is distinct from (p_end ->> 'token')::bigint then
      perform posthorn.raise_lost(json_build_object('claims', json_build_array(p_end ->> 'claim')));
    elsif coalesce((p_end ->> 'ends')::boolean, false) and not posthorn.end_of((p_end ->> 'messageSlot')::smallint, v_claim.subscription,
        (p_end ->> 'message')::bigint, 1, v_outcome, v_claim.id, v_claim.worker) then
      perform posthorn.raise_lost(json_build_object('ended', p_end ->> 'message'));
    end if;
    v_row := posthorn.delivery_of(v_claim.subscription, v_claim.lane, (p_end ->> 'message')::bigint, (p_end ->> 'messageSlot')::smallint);
  end if;
  if p_end ->> 'entry' is not null then
    v_row.history := posthorn.with_entry(v_row.history, p_end -> 'entry');
  end if;
  perform posthorn.follow(v_row, v_outcome, p_end -> 'next');
end $$;

-- delivery_of: the first delivery of a message of the log, as a row that can wait.
create or replace function posthorn.delivery_of(p_subscription int, p_lane int, p_message bigint, p_slot smallint) returns posthorn.deferred
language plpgsql as $$
declare
  v_channel int := (select channel from posthorn.subscription where id = p_subscription);
  v_message posthorn.stored := posthorn.message_of(p_slot, v_channel, p_lane, p_message);
  v_row posthorn.deferred;
begin
  if v_message.id is null then
    raise exception 'message % is not in slot %', p_message, p_slot using errcode = 'PH099';
  end if;
  v_row.subscription := p_subscription;
  v_row.delivery := 1;
  v_row.attempts := 0;
  v_row.crashes := 0;
  v_row.message := v_message.id;
  v_row.nonce := v_message.nonce;
  v_row.channel := v_channel;
  v_row.lane := p_lane;
  v_row.contract := v_message.contract;
  v_row.key := v_message.key;
  v_row.payload := v_message.payload;
  v_row.headers := v_message.headers;
  v_row.published_at := v_message.published_at;
  v_row.history := '[]';
  v_row.expires_at := v_message.expires_at;
  v_row.priority := posthorn.priority_of(p_lane);
  v_row.once_more := false;
  return v_row;
end $$;

-- with_entry: the history with one more attempt; of a long one the first and the newest stay.
create or replace function posthorn.with_entry(p_history json, p_entry json) returns json
language sql immutable as $$
  select case when json_array_length(p_history) >= 50
    then ((p_history::jsonb - 1) || jsonb_build_array(p_entry::jsonb))::json
    else (p_history::jsonb || jsonb_build_array(p_entry::jsonb))::json end
$$;

-- follow(row, outcome, next): the consequence of an ended delivery. The next delivery exists only once this one has ended.
create or replace function posthorn.follow(p_row posthorn.deferred, p_outcome posthorn.outcome, p_next json) returns void
language plpgsql as $$
declare
  v_defer json := p_next -> 'defer';
  v_dead json := p_next -> 'dead';
begin
  if p_row.once_more and p_row.id is not null then
    perform posthorn.let_go(p_row.id);
  end if;
  if v_defer is not null then
    insert into posthorn.deferred (subscription, due_at, delivery, attempts, crashes, reason, message, nonce, channel, lane, contract, key, payload,
        headers, published_at, history, expires_at, priority, once_more)
      values (p_row.subscription, least(clock_timestamp() + (v_defer ->> 'delayMs')::float8 * interval '1 ms', p_row.expires_at), p_row.delivery + 1,
        (v_defer ->> 'attempts')::int, (v_defer ->> 'crashes')::int, p_outcome, p_row.message, p_row.nonce, p_row.channel, p_row.lane,
        p_row.contract, p_row.key, p_row.payload, p_row.headers, p_row.published_at, p_row.history, p_row.expires_at, coalesce(p_row.priority, 0),
        coalesce(p_row.once_more, false))
      on conflict (subscription, message) do update set due_at = excluded.due_at, delivery = excluded.delivery, attempts = excluded.attempts,
        crashes = excluded.crashes, reason = excluded.reason, history = excluded.history, token = null, worker = null, taken_at = null;
  elsif v_dead is not null then
    insert into posthorn.dead_letter (subscription, died_at, keep_until, reason, delivery, attempts, crashes, message, nonce, channel, lane,
        contract, key, payload, headers, published_at, history)
      values (p_row.subscription, clock_timestamp(), clock_timestamp() + (v_dead ->> 'keepMs')::float8 * interval '1 ms', v_dead ->> 'reason',
        p_row.delivery, (v_dead ->> 'attempts')::int, (v_dead ->> 'crashes')::int, p_row.message, p_row.nonce, p_row.channel, p_row.lane,
        p_row.contract, p_row.key, p_row.payload, p_row.headers, p_row.published_at, p_row.history);
  elsif p_next -> 'invalid' is not null then
    insert into posthorn.invalid (subscription, found_at, issues, delivery, message, nonce, channel, lane, contract, key, payload, headers,
        published_at, history)
      values (p_row.subscription, clock_timestamp(), p_next -> 'invalid', p_row.delivery, p_row.message, p_row.nonce, p_row.channel, p_row.lane,
        p_row.contract, p_row.key, p_row.payload, p_row.headers, p_row.published_at, p_row.history);
  end if;
end $$;
` },
  { name: "functions/07_take.sql", text: `-- take(subscription, worker, contracts, limit): takes deliveries that are due from \`deferred\`, as one JSON list of
--   [id, nonce, null, contract, key, payload, headers, published_at in ms, deferred, token, delivery, attempts, crashes,
--    and in how many ms it expires, or null].
-- Only contracts that this worker has handlers for: a message that was handed back waits for a worker that knows it. A message that
-- has been under two crashed workers is a suspect: a worker holds one of them at a time, and beside it none that has been under one
-- crash, so that of several killers none makes the others' neighbours pay: both would be blamed for the next crash.
-- Order: by due time; where a queue has priorities, by urgency since then. Rows that others are taking are passed over.
create or replace function posthorn.take(p_subscription int, p_worker bigint, p_contracts json, p_limit int) returns json
language plpgsql as $$
declare
  v_contracts int[] := array(select c::int from json_array_elements_text(p_contracts) c);
  -- What the worker may take, by crashes so far: fewer than these; and whether a suspect as well.
  v_below int := 1;
  v_suspects boolean := false;
  v_ids bigint[];
  v_taken json;
begin
  perform posthorn.own_transaction((select idempotency = 'at-most-once' from posthorn.subscription where id = p_subscription));
  perform posthorn.hold_worker(p_worker);
  -- One session of a worker at a time takes what has been under a crash, and looks at what it holds in a later statement than it takes
  -- the lock in.
  if pg_try_advisory_xact_lock(posthorn.lock_key('suspects', p_worker)) then
    select case when bool_or(d.crashes >= 2) then 1 else 2 end, count(*) = 0 into v_below, v_suspects
      from posthorn.deferred d where d.worker = p_worker and d.token is not null and d.crashes >= 1;
  end if;
  v_ids := posthorn.lock_due(p_subscription, v_contracts, 0, v_below, p_limit);
  if coalesce(array_length(v_ids, 1), 0) < p_limit and v_suspects
      and not exists (select from posthorn.deferred d where d.id = any (v_ids) and d.crashes = 1) then
    v_ids := v_ids || posthorn.lock_due(p_subscription, v_contracts, 2, 2147483647, 1);
  end if;
  if v_ids = '{}' then
    return '[]';
  end if;
  with taken as (
    update posthorn.deferred d set token = (random() * 9e18)::bigint, worker = p_worker, taken_at = clock_timestamp()
      where d.id = any (v_ids) returning d.*)
    select json_agg(json_build_array(t.message::text, t.nonce::text, null, t.contract, t.key, t.payload, t.headers,
      floor(extract(epoch from t.published_at) * 1000), t.id::text, t.token::text, t.delivery, t.attempts, t.crashes,
      ceil(extract(epoch from t.expires_at - clock_timestamp()) * 1000)) order by t.due_at)
      into v_taken from taken t;
  return v_taken;
end $$;
` },
  { name: "functions/08_registry.sql", text: `-- The registry: names are registered by whoever declares or says them first; a second party that disagrees is refused, and both are named.

-- new_lanes: the first positions of a subscription. A queue starts at the beginning of its channel; a subscription to a topic starts
-- now: what commits from here on is delivered, also what is in flight. The id is read before the snapshot, as in claim.
create or replace function posthorn.new_lanes(p_subscription int, p_lanes int, p_from_start boolean) returns void
language plpgsql as $$
declare
  v_slot smallint := (select slot from posthorn.ring);
  v_tick bigint := nextval('posthorn.tick_id');
  v_ceiling bigint := 0;
  v_snapshot pg_snapshot := '3:3:';
begin
  if not p_from_start then
    v_ceiling := coalesce(pg_sequence_last_value('posthorn.message_id'), 0);
    select pg_current_snapshot() into v_snapshot;
  end if;
  perform posthorn.write_tick(v_slot, v_tick, v_ceiling, v_snapshot);
  insert into posthorn.lane (subscription, lane, slot, n, floor, ceiling, last_id, late, late_xids)
    select p_subscription, lane, v_slot, 0, v_tick, v_tick, v_ceiling, false, null from generate_series(0, p_lanes - 1) lane;
end $$;

-- register_channel(kind, name): the channel's id. A new queue gets its reader at once, so that what is sent before any worker
-- exists is kept for it.
create or replace function posthorn.register_channel(p_kind posthorn.kind, p_name text) returns int
language plpgsql as $$
declare
  v_channel int := (select id from posthorn.channel where kind = p_kind and name = p_name);
  v_subscription int;
begin
  if v_channel is not null then
    return v_channel;
  end if;
  insert into posthorn.channel (kind, name) values (p_kind, p_name) on conflict do nothing returning id into v_channel;
  if v_channel is null then
    return (select id from posthorn.channel where kind = p_kind and name = p_name);
  end if;
  if p_kind = 'command' then
    insert into posthorn.subscription (name, channel) values (p_name, v_channel) on conflict do nothing returning id into v_subscription;
    if v_subscription is null then
      raise exception 'the queue "%" cannot be made: a subscription has this name', p_name using errcode = 'PH020',
        hint = 'Queues and subscriptions share one set of names. Rename one of them.';
    end if;
    perform posthorn.new_lanes(v_subscription, 1, true);
  end if;
  return v_channel;
end $$;

-- register_contract(…): the ids of a contract and its channel as JSON { contract, channel }; raises PH020 on a conflict.
-- The first service that publishes an event owns it, unless its contract names the owner.
create or replace function posthorn.register_contract(
  p_name text, p_version int, p_kind posthorn.kind, p_channel text, p_keyed boolean, p_owner text, p_service text, p_publishes boolean
) returns json
language plpgsql as $$
declare
  v_channel int;
  v_known record;
  v_owner text := coalesce(p_owner, case when p_kind = 'event' and p_publishes then p_service end);
begin
  select c.*, h.name as channel_name, h.kind as channel_kind into v_known from posthorn.contract c join posthorn.channel h on h.id = c.channel
    where c.name = p_name order by (c.version = p_version) desc, c.version desc limit 1;
  if v_known.id is not null then
    perform posthorn.check_contract(v_known.name, v_known.kind, v_known.channel_name, v_known.keyed, v_known.owner, v_known.registered_by,
      p_kind, p_channel, p_keyed, v_owner, p_service);
    if v_known.owner is null and v_owner is not null then
      update posthorn.contract set owner = v_owner where name = p_name and owner is null;
    end if;
    if v_known.version = p_version then
      return json_build_object('contract', v_known.id, 'channel', v_known.channel);
    end if;
  end if;
  v_channel := posthorn.register_channel(p_kind, p_channel);
  insert into posthorn.contract (name, version, kind, channel, keyed, owner, registered_by)
    values (p_name, p_version, p_kind, v_channel, p_keyed, v_owner, p_service) on conflict do nothing;
  if not found then
    -- Somebody registered it in this moment: hold us to what they said.
    return posthorn.register_contract(p_name, p_version, p_kind, p_channel, p_keyed, p_owner, p_service, p_publishes);
  end if;
  return (select json_build_object('contract', id, 'channel', channel) from posthorn.contract where name = p_name and version = p_version);
end $$;

create or replace function posthorn.check_contract(
  p_name text, p_kind posthorn.kind, p_channel text, p_keyed boolean, p_owner text, p_by text,
  p_new_kind posthorn.kind, p_new_channel text, p_new_keyed boolean, p_new_owner text, p_new_by text
) returns void
language plpgsql as $$
begin
  if p_kind <> p_new_kind then
    raise exception '"%" is registered as % by service "%", and service "%" declares it as %', p_name,
      case p_kind when 'event' then 'an event' else 'a command' end, p_by, p_new_by,
      case p_new_kind when 'event' then 'an event' else 'a command' end using errcode = 'PH020', hint = 'Give one of the two another name.';
  end if;
  if p_channel <> p_new_channel then
    raise exception '"%" is carried by "%" since service "%" registered it, and service "%" declares "%"', p_name, p_channel, p_by, p_new_by,
      p_new_channel using errcode = 'PH020', hint = 'A contract has one queue or topic in the whole fleet.';
  end if;
  if p_keyed <> p_new_keyed then
    raise exception 'service "%" registered "%" % a key, and service "%" declares it % one', p_by, p_name,
      case when p_keyed then 'with' else 'without' end, p_new_by, case when p_new_keyed then 'with' else 'without' end using errcode = 'PH020',
      hint = 'Whether a contract has a key is the same for everybody; make a new contract to change it.';
  end if;
  if p_owner <> p_new_owner then
    raise exception 'the event "%" is owned by service "%", and service "%" wants to publish it', p_name, p_owner, p_new_owner
      using errcode = 'PH020', hint = 'A fact has one source. Let the owner publish it, or make an event of your own.';
  end if;
end $$;

-- register_subscription(name, kind, channel, idempotency, policy, service): the subscription's id and its channel's as JSON.
-- The newest start wins for the policy. Raises PH020 when the name reads another channel.
create or replace function posthorn.register_subscription(
  p_name text, p_kind posthorn.kind, p_channel text, p_idempotency posthorn.idempotency, p_policy json, p_service text
) returns json
language plpgsql as $$
declare
  v_channel int := posthorn.register_channel(p_kind, p_channel);
  v_row posthorn.subscription;
  v_new boolean := false;
begin
  select * into v_row from posthorn.subscription where name = p_name for update;
  if v_row.id is null then
    insert into posthorn.subscription (name, channel) values (p_name, v_channel) on conflict do nothing returning * into v_row;
    v_new := v_row.id is not null;
    if not v_new then
      select * into v_row from posthorn.subscription where name = p_name for update;
    end if;
  end if;
  if v_row.channel <> v_channel then
    raise exception '"%" already reads the % "%"%, and service "%" declares it on the % "%"', p_name,
      (select case kind when 'event' then 'topic' else 'queue' end from posthorn.channel where id = v_row.channel),
      (select name from posthorn.channel where id = v_row.channel), coalesce(' for service "' || v_row.service || '"', ''), p_service,
      case p_kind when 'event' then 'topic' else 'queue' end, p_channel using errcode = 'PH020',
      hint = 'Queues and subscriptions share one set of names. Rename one of them.';
  end if;
  if v_new then
    perform posthorn.new_lanes(v_row.id, (select lanes from posthorn.channel where id = v_channel), false);
  end if;
  update posthorn.subscription set idempotency = p_idempotency, policy = p_policy, service = p_service, declared_at = clock_timestamp(),
      redelivery_ms = posthorn.longest_redelivery(p_policy)
    where id = v_row.id;
  return json_build_object('subscription', v_row.id, 'channel', v_channel);
end $$;
` },
  { name: "functions/09_peek.sql", text: `-- peek(worker, subscriptions, seen, watch): whether there is anything to claim or take, in one statement for a whole process, as JSON
--   { snapshot, ready: [subscription …], due: [[subscription, ms] …], dead }.
-- \`seen\` is the snapshot of an earlier peek that found nothing: while no transaction has ended since, nothing can have appeared,
-- and only the clock is looked at (ready is then empty). \`watch\` asks as well whether any worker counts as dead. Takes nothing and locks nothing; never a proof that a claim will succeed.
create or replace function posthorn.peek(p_worker bigint, p_subscriptions json, p_seen text, p_watch boolean default false) returns json
language plpgsql as $$
declare
  v_ring posthorn.ring := posthorn.own_transaction(false);
  v_subscriptions int[] := array(select s::int from json_array_elements_text(p_subscriptions) s);
  v_snapshot pg_snapshot;
  v_lane record;
  v_ready int[] := '{}';
begin
  -- With the slots that it sees: a message in a slot that was not looked at must not count as seen.
  select pg_current_snapshot(), r.slots into v_snapshot, v_ring.slots from posthorn.ring r;
  if v_snapshot::text is distinct from p_seen then
    for v_lane in select l.subscription, l.lane, s.channel from posthorn.lane l join posthorn.subscription s on s.id = l.subscription
        where l.subscription = any (v_subscriptions) loop
      if posthorn.is_ready(v_ring, v_lane.subscription, v_lane.lane, v_lane.channel) then
        v_ready := v_ready || v_lane.subscription;
      end if;
    end loop;
  end if;
  return json_build_object('snapshot', v_snapshot::text, 'ready', to_json(v_ready), 'dead',
    p_watch and exists (select from posthorn.dead_workers()), 'due', coalesce((
    select json_agg(json_build_array(s.id, ceil(extract(epoch from first.due_at - clock_timestamp()) * 1000)))
    from unnest(v_subscriptions) s(id)
    cross join lateral (select posthorn.first_due(s.id,
      (select a.contracts from posthorn.attendance a where a.worker = p_worker and a.subscription = s.id)::int[]) as due_at offset 0) first
    where first.due_at is not null), '[]'));
end $$;

-- is_ready: whether a claim of this lane would find something.
create or replace function posthorn.is_ready(p_ring posthorn.ring, p_subscription int, p_lane int, p_channel int) returns boolean
language plpgsql as $$
declare
  v_at posthorn.position := posthorn.position_of(p_subscription, p_lane);
  v_ceiling posthorn.tick;
  v_slot smallint;
  v_now pg_snapshot;
begin
  if v_at.late then
    return true;
  end if;
  foreach v_slot in array p_ring.slots loop
    if posthorn.has_after_of(v_slot, p_channel, p_lane, v_at.last_id) then
      return true;
    end if;
  end loop;
  v_ceiling := posthorn.tick_of(v_at.slot, v_at.ceiling);
  select pg_current_snapshot() into v_now;
  return posthorn.late_xids(p_ring.slots, p_channel, p_lane, v_ceiling.snapshot, v_ceiling.ceiling_id, p_ring.first_id, v_now) is not null;
end $$;

select posthorn.by_slot('has_after_of(p_slot smallint, p_channel int, p_lane int, p_after bigint)', 'boolean', $body$
  return exists (select from posthorn.message_{slot} m where m.channel = p_channel and m.lane = p_lane and m.id > p_after);
$body$);
` },
  { name: "functions/10_rescue.sql", text: `-- Dead workers and what they held.

-- register_worker(…): a new worker; its claims will have higher ids than the sequence shows now.
create or replace function posthorn.register_worker(
  p_service text, p_host text, p_pid int, p_timeout_ms int, p_session_key bigint, p_backends json, p_attends json
) returns bigint
language plpgsql as $$
declare
  v_worker bigint;
begin
  insert into posthorn.worker (service, host, pid, timeout_ms, session_key, backends, oldest_open_claim)
    values (p_service, p_host, p_pid, p_timeout_ms, p_session_key, p_backends, coalesce(pg_sequence_last_value('posthorn.claim_id'), 0))
    returning id into v_worker;
  insert into posthorn.attendance (worker, subscription, contracts)
    select v_worker, a.subscription, a.contracts from json_to_recordset(p_attends) as a(subscription int, contracts int[]);
  return v_worker;
end $$;

-- heartbeat(worker, oldest open claim): null when the worker counts as dead; it must then drop what it holds and register anew.
-- \`p_oldest\` is null for "none": the bound then moves on to the newest claim of all, but not past a claim of this worker that is
-- under way or whose answer has not arrived.
create or replace function posthorn.heartbeat(p_worker bigint, p_oldest bigint) returns boolean
language plpgsql as $$
declare
  v_oldest bigint := p_oldest;
  v_last bigint := coalesce(pg_sequence_last_value('posthorn.claim_id'), 0);
begin
  -- In this order: a claim that is neither under way now nor committed below draws its id later.
  if v_oldest is null and not posthorn.is_locked(posthorn.lock_key('worker', p_worker)) then
    select v_last into v_oldest where not exists (
      select from posthorn.worker w cross join (select unnest(slots) as slot from posthorn.ring) s
        cross join lateral posthorn.open_claims_of(s.slot, w.id, w.oldest_open_claim, 1) where w.id = p_worker);
  end if;
  update posthorn.worker w set heartbeat_at = clock_timestamp(), oldest_open_claim = coalesce(v_oldest, w.oldest_open_claim) where w.id = p_worker;
  return case when found then true end;
end $$;

-- forget_worker(worker): forgets a worker that holds nothing any more; one that does hold something is left to the rescuer, at once.
create or replace function posthorn.forget_worker(p_worker bigint) returns void
language plpgsql as $$
begin
  perform posthorn.own_transaction(true), pg_advisory_xact_lock(posthorn.lock_key('worker', p_worker));
  if exists (select from posthorn.deferred d where d.worker = p_worker and d.token is not null) or exists (
      select from posthorn.worker w cross join (select unnest(slots) as slot from posthorn.ring) s
        cross join lateral posthorn.open_claims_of(s.slot, w.id, w.oldest_open_claim, 1) where w.id = p_worker) then
    update posthorn.worker set heartbeat_at = '-infinity' where id = p_worker;
  else
    delete from posthorn.worker where id = p_worker;
  end if;
end $$;

-- is_locked(key): whether any session holds this advisory lock. Looked up, never tried: trying one's own succeeds behind a pooler.
create or replace function posthorn.is_locked(p_key bigint) returns boolean
language sql volatile as $$
  select exists (select from pg_locks l where l.locktype = 'advisory' and l.granted and l.objsubid = 1
    and l.database = (select oid from pg_database where datname = current_database())
    and l.classid = ((p_key >> 32) & 4294967295)::oid and l.objid = (p_key & 4294967295)::oid)
$$;

-- dead_workers(): who counts as dead, and why.
create or replace function posthorn.dead_workers() returns table (worker bigint, why text)
language sql volatile as $$
  select w.id, case
      when w.heartbeat_at < clock_timestamp() - w.timeout_ms * interval '1 ms' then 'no heartbeat'
      else 'session ended' end
  from posthorn.worker w
  where w.heartbeat_at < clock_timestamp() - w.timeout_ms * interval '1 ms'
    or (w.session_key is null and w.server_started_at <> pg_postmaster_start_time())
    or (w.session_key is not null and not posthorn.is_locked(w.session_key))
$$;

-- rescue(limit): one pass: frees what dead workers held, at most \`limit\` claims, and forgets workers that hold nothing any more.
-- Returns [{ worker, service, host, pid, why, messages, done }]. Waits at most a second for what somebody has locked; that worker's
-- messages are tried again in the next pass, those of the others are freed in this one.
create or replace function posthorn.rescue(p_limit int) returns json
language plpgsql as $$
declare
  v_dead record;
  v_worker posthorn.worker;
  v_left int := p_limit;
  v_freed record;
  v_report json[] := '{}';
begin
  perform posthorn.own_transaction(true), set_config('lock_timeout', '1s', true);
  if not pg_try_advisory_xact_lock(posthorn.lock_key('rescue')) then
    return '[]';
  end if;
  for v_dead in select * from posthorn.dead_workers() order by worker loop
    exit when v_left <= 0;
    select * into v_worker from posthorn.worker where id = v_dead.worker;
    -- Before anything waits for them: a backend that cannot send its answer to a stopped process keeps its locks.
    perform pg_terminate_backend(a.pid) from json_to_recordset(v_worker.backends) as b(pid int, started text)
      join pg_stat_activity a on a.pid = b.pid and a.backend_start = case when b.started ~ '^[0-9]{4}-' then b.started::timestamptz end
      where v_dead.why = 'no heartbeat' and a.pid <> pg_backend_pid();
    begin
      v_freed := posthorn.rescue_worker(v_worker, v_left);
    exception when lock_not_available or deadlock_detected then
      select 0 as claims, 0 as messages, false as done into v_freed;
    end;
    v_left := v_left - v_freed.claims;
    v_report := v_report || json_build_object('worker', v_worker.id::text, 'service', v_worker.service, 'host', v_worker.host,
      'pid', v_worker.pid, 'why', v_dead.why, 'messages', v_freed.messages, 'done', v_freed.done);
  end loop;
  return to_json(v_report);
end $$;

-- rescue_worker: frees what one dead worker held, at most \`limit\` claims; with fewer it also forgets the worker, and is done.
create or replace function posthorn.rescue_worker(p_worker posthorn.worker, p_limit int, out claims int, out messages int, out done boolean)
language plpgsql as $$
begin
  -- Waits for a claim that this worker is making just now; from here on it makes none.
  perform pg_advisory_xact_lock(posthorn.lock_key('worker', p_worker.id));
  select count(*), coalesce(sum(freed), 0) into claims, messages from (
    select posthorn.rescue_claim(p_worker, c) as freed from (select unnest(slots) as slot from posthorn.ring) s
      cross join lateral posthorn.open_claims_of(s.slot, p_worker.id, p_worker.oldest_open_claim, p_limit) c) r;
  done := claims < p_limit;
  if done then
    messages := messages + posthorn.rescue_deferred(p_worker);
    delete from posthorn.worker where id = p_worker.id;
  end if;
end $$;

-- open_claims_of: claims of a worker that no part has closed, from an id on.
-- Plan: claim_N_by_id from the id on, one probe of settlement_N_by_part for each of the worker's claims. \`offset 0\` keeps the
-- probe from becoming a join, which would read the settlements from their beginning.
select posthorn.by_slot('open_claims_of(p_slot smallint, p_worker bigint, p_from bigint, p_limit int)', 'setof posthorn.claim_1', $body$
  return query select c.* from posthorn.claim_{slot} c where c.id >= p_from and c.worker = p_worker
    and not exists (select from posthorn.settlement_{slot} t where t.claim = c.id and t.closes offset 0) order by c.id limit p_limit;
$body$);

-- parts_of: what the parts of a claim say.
select posthorn.by_slot('parts_of(p_slot smallint, p_claim bigint)', 'setof posthorn.settlement_1', $body$
  return query select t.* from posthorn.settlement_{slot} t where t.claim = p_claim order by t.part;
$body$);

-- rescue_claim: closes an open claim with its next part, and gives each message without an end its consequence. The next part has
-- one number: a holder that wakes up and settles meets it and loses. Returns how many messages were freed.
create or replace function posthorn.rescue_claim(p_worker posthorn.worker, p_claim posthorn.claim_1) returns int
language plpgsql as $$
declare
  v_subscription posthorn.subscription;
  v_slot smallint := posthorn.slot_of_claim(p_claim.id);
  v_ended bigint[];
  v_begun bigint[];
  v_part int;
  v_freed int := 0;
  v_i int;
begin
  select * into v_subscription from posthorn.subscription where id = p_claim.subscription;
  select coalesce(array_agg(m) filter (where t.outcome is distinct from 'begun'), '{}'), coalesce(array_agg(m) filter (where t.outcome = 'begun'), '{}'),
      coalesce(max(t.part), 0) + 1
    into v_ended, v_begun, v_part
    from posthorn.parts_of(v_slot, p_claim.id) t cross join lateral unnest(coalesce(t.messages, p_claim.messages)) m;
  select greatest(v_part, coalesce(max(t.part), 0) + 1) into v_part from posthorn.parts_of(v_slot, p_claim.id) t;
  if not posthorn.settle_part_of(v_slot, p_claim.id, p_claim.token, v_part, 'crashed', true,
      array(select m from unnest(p_claim.messages) m where m <> all (v_ended))) then
    -- The holder wrote a part in this moment: it closed the claim, or what is left is counted again.
    return case when exists (select from posthorn.parts_of(v_slot, p_claim.id) t where t.closes) then 0
      else posthorn.rescue_claim(p_worker, p_claim) end;
  end if;
  for v_i in 1 .. array_length(p_claim.messages, 1) loop
    continue when p_claim.messages[v_i] = any (v_ended);
    if v_subscription.idempotency = 'transaction' and not posthorn.end_of(coalesce(p_claim.message_slots[v_i], v_slot), p_claim.subscription,
        p_claim.messages[v_i], 1, 'crashed', p_claim.id, p_claim.worker) then
      continue;
    end if;
    perform posthorn.after_crash(p_worker, v_subscription, p_claim.at,
      posthorn.delivery_of(p_claim.subscription, p_claim.lane, p_claim.messages[v_i], coalesce(p_claim.message_slots[v_i], v_slot)),
      v_subscription.idempotency = 'at-most-once' and p_claim.messages[v_i] = any (v_begun),
      v_subscription.idempotency <> 'at-most-once');
    v_freed := v_freed + 1;
  end loop;
  return v_freed;
end $$;

-- slot_of_claim: where a claim lies. Not for the hot path.
create or replace function posthorn.slot_of_claim(p_claim bigint) returns smallint
language sql volatile as $$
  select s.slot from posthorn.ring r cross join lateral unnest(r.slots) s(slot)
    where (posthorn.claim_of(s.slot, p_claim)).id is not null limit 1
$$;

-- rescue_deferred: frees the deliveries from \`deferred\` that a dead worker held. Returns how many. Under a suspect those without a crash
-- so far are not blamed. One that has been under a crash already is: as long as it killed unblamed beside suspects, these paid for it.
create or replace function posthorn.rescue_deferred(p_worker posthorn.worker) returns int
language plpgsql as $$
declare
  v_row posthorn.deferred;
  v_subscription posthorn.subscription;
  v_suspects boolean := exists (select from posthorn.deferred where worker = p_worker.id and token is not null and crashes >= 2);
  v_freed int := 0;
begin
  for v_row in select * from posthorn.deferred where worker = p_worker.id and token is not null order by id for update loop
    select * into v_subscription from posthorn.subscription where id = v_row.subscription;
    perform posthorn.end_of((select slot from posthorn.ring), v_row.subscription, v_row.message, v_row.delivery, 'crashed', null, p_worker.id);
    perform posthorn.after_crash(p_worker, v_subscription, v_row.taken_at, v_row, v_subscription.idempotency = 'at-most-once',
      v_row.crashes >= 1 or not v_suspects);
    v_freed := v_freed + 1;
  end loop;
  return v_freed;
end $$;

-- after_crash: the consequence of a delivery that died with its worker: again at once, and no attempt is burnt. \`p_unknown\`: it may
-- have taken effect and must not be repeated. \`p_blamed\`: whether this message may be what killed the worker; one that has
-- killed too many is quarantined.
create or replace function posthorn.after_crash(
  p_worker posthorn.worker, p_subscription posthorn.subscription, p_begun_at timestamptz, p_row posthorn.deferred, p_unknown boolean, p_blamed boolean
) returns void
language plpgsql as $$
declare
  v_crashes int := p_row.crashes + case when p_blamed then 1 else 0 end;
  v_keep_ms float8 := coalesce((p_subscription.policy #>> '{deadLetter,keepMs}')::float8, 2592000000);
  v_next json;
begin
  p_row.history := posthorn.with_entry(p_row.history, json_build_object('attempt', p_row.attempts + 1, 'outcome', case when p_unknown then 'unknown' else 'crashed' end,
    'worker', json_build_object('id', p_worker.id::text, 'service', p_worker.service, 'host', p_worker.host, 'pid', p_worker.pid),
    'startedAt', p_begun_at, 'endedAt', clock_timestamp(),
    'error', json_build_object('name', 'WorkerDied', 'message', 'the worker died before the attempt ended')));
  v_next := case
    when p_unknown then json_build_object('dead', json_build_object('reason', 'outcome unknown', 'keepMs', v_keep_ms, 'attempts', p_row.attempts + 1, 'crashes', v_crashes))
    when v_crashes >= 5 then json_build_object('dead', json_build_object('reason', 'killed its workers', 'keepMs', v_keep_ms, 'attempts', p_row.attempts, 'crashes', v_crashes))
    else json_build_object('defer', json_build_object('delayMs', 0, 'attempts', p_row.attempts, 'crashes', v_crashes)) end;
  if v_next -> 'dead' is not null and p_row.id is not null then
    delete from posthorn.deferred where id = p_row.id;
  end if;
  perform posthorn.follow(p_row, 'crashed', v_next);
end $$;
` },
  { name: "functions/11_status.sql", text: `-- message_status(public id): what became of a message, for each of its receivers, as JSON
--   [{ subscription, state, delivery, attempts, crashes, dueAt, reason, history }]; null when no message has this id. A reader that began
--   after the message is none of its receivers.
-- One snapshot for all it reads, so it never sees a message between two states. For people and receipts, not for the hot path.
create or replace function posthorn.message_status(p_public text) returns json
language plpgsql stable as $$
declare
  v_id bigint := posthorn.id_of(p_public);
  v_nonce bigint := posthorn.nonce_of(p_public);
  v_found record;
begin
  select w.*, c.channel into v_found from posthorn.where_in_log(v_id, v_nonce) w join posthorn.contract c on c.id = w.contract;
  if v_found.contract is null then
    return (select json_agg(posthorn.waiting_status(s, v_id, v_nonce)) from posthorn.subscription s
      where posthorn.waiting_status(s, v_id, v_nonce) is not null);
  end if;
  return (select coalesce(json_agg(f.status order by s.name), '[]') from posthorn.subscription s
    cross join lateral (select coalesce(posthorn.waiting_status(s, v_id, v_nonce), posthorn.log_status(s, v_found.lane, v_id, v_found.xid))) f(status)
    where s.channel = v_found.channel and f.status is not null);
end $$;

-- waiting_status: the state of a message that waits or ended outside the log; null when it is in none of the four tables.
create or replace function posthorn.waiting_status(p_subscription posthorn.subscription, p_id bigint, p_nonce bigint) returns json
language sql stable as $$
  select json_build_object('subscription', p_subscription.name, 'state', w.state, 'delivery', w.delivery, 'attempts', w.attempts,
      'crashes', w.crashes, 'dueAt', nullif(w.due_at, 'infinity'), 'reason', w.reason, 'history', w.history)
  from (
    select case when token is not null then 'running' when reason::text = 'scheduled' then 'scheduled' when reason = 'released' then 'queued'
          else 'retrying' end as state,
        delivery, attempts, crashes, due_at, reason::text, history
      from posthorn.deferred where subscription = p_subscription.id and message = p_id and nonce = p_nonce
    union all
    select 'dead', delivery, attempts, crashes, null, reason, history
      from posthorn.dead_letter where subscription = p_subscription.id and message = p_id and nonce = p_nonce
    union all
    select 'invalid', delivery, null, null, null, issues::text, history
      from posthorn.invalid where subscription = p_subscription.id and message = p_id and nonce = p_nonce
    union all
    select 'discarded', delivery, attempts, null, null, reason, history
      from posthorn.discarded where subscription = p_subscription.id and message = p_id and nonce = p_nonce
  ) w
$$;

-- log_status: the state of a message that the log alone knows; null for a reader that began after the message.
create or replace function posthorn.log_status(p_subscription posthorn.subscription, p_lane int, p_id bigint, p_xid xid8) returns json
language sql stable as $$
  select json_build_object('subscription', p_subscription.name, 'state', f.state, 'delivery', f.delivery, 'reason',
      case when f.state = 'dead' then f.outcome end)
    from posthorn.fate_in_log(p_subscription, p_lane, p_id, p_xid) f where f.state is not null
$$;
` },
  { name: "functions/12_watch.sql", text: `-- What is waiting, and what is wrong.

-- waiting_in_log(subscription, limit): committed messages that no claim has taken, counted up to a limit; and when the oldest was said.
create or replace function posthorn.waiting_in_log(p_subscription int, p_limit int, out messages bigint, out oldest timestamptz)
language plpgsql as $$
declare
  v_ring posthorn.ring;
  v_lane record;
  v_at posthorn.position;
  v_slot smallint;
  v_part record;
begin
  select * into v_ring from posthorn.ring;
  messages := 0;
  for v_lane in select l.lane, s.channel from posthorn.lane l join posthorn.subscription s on s.id = l.subscription where l.subscription = p_subscription loop
    v_at := posthorn.position_of(p_subscription, v_lane.lane);
    foreach v_slot in array v_ring.slots loop
      v_part := posthorn.count_after_of(v_slot, v_lane.channel, v_lane.lane, v_at.last_id, greatest(p_limit - messages, 0)::int);
      messages := messages + v_part.messages;
      oldest := least(oldest, v_part.oldest);
    end loop;
  end loop;
end $$;

select posthorn.by_slot('count_after_of(p_slot smallint, p_channel int, p_lane int, p_after bigint, p_limit int, out messages bigint, out oldest timestamptz)',
  'record', $body$
  select count(*), min(m.published_at) into messages, oldest from (
    select m.published_at from posthorn.message_{slot} m where m.channel = p_channel and m.lane = p_lane and m.id > p_after order by m.id limit p_limit) m;
  return;
$body$);

-- open_claims(): claims that workers hold open. Bounded by the oldest open claim of each.
create or replace function posthorn.open_claims() returns setof posthorn.claim_1
language sql volatile as $$
  select c.* from posthorn.worker w cross join (select unnest(slots) as slot from posthorn.ring) s
    cross join lateral posthorn.open_claims_of(s.slot, w.id, w.oldest_open_claim, 10000) c
$$;

-- gauges(limit): one row for each subscription: backlog counted up to the limit, age of the oldest message that has not ended, and
-- who attends: a worker that counts as dead does not. Messages that a worker holds count as running, not as backlog, but for the age.
create or replace function posthorn.gauges(p_limit int)
returns table (subscription int, backlog bigint, age_ms bigint, running bigint, dead_letters bigint, invalid bigint, workers bigint, retrying bigint)
language sql volatile as $$
  with held as materialized (
    select c.subscription, sum(cardinality(c.messages)) as messages, min(c.at) as since from posthorn.open_claims() c group by 1
  ), dead as materialized (
    select d.worker from posthorn.dead_workers() d
  )
  select s.id, log.messages + d.waiting,
      coalesce(extract(epoch from clock_timestamp() - least(log.oldest, d.oldest, h.since)) * 1000, 0)::bigint,
      coalesce(h.messages, 0)::bigint + d.taken, l.letters, i.messages, a.workers, d.waiting
    from posthorn.subscription s
    cross join lateral posthorn.waiting_in_log(s.id, p_limit) log
    cross join lateral (
      -- What is only scheduled is no backlog before its time, and ages from then on.
      select count(*) filter (where d.token is null) as waiting, count(*) filter (where d.token is not null) as taken, min(d.since) as oldest
      from ((select d.token, d.published_at as since from posthorn.deferred d where d.subscription = s.id and d.delivery > 1 limit p_limit)
        union all (select d.token, d.due_at from posthorn.classes(s.id) c(class) join posthorn.deferred d on d.subscription = s.id and d.priority = c.class
          and d.token is null and d.due_at <= statement_timestamp() and d.delivery = 1 limit p_limit)
        union all (select d.token, d.taken_at from posthorn.deferred d where d.token is not null and d.worker in (select w.id from posthorn.worker w)
          and d.subscription = s.id and d.delivery = 1 limit p_limit)) d) d
    cross join lateral (select count(*) as letters from (select from posthorn.dead_letter l where l.subscription = s.id limit p_limit) l) l
    cross join lateral (select count(*) as messages from (select from posthorn.invalid i where i.subscription = s.id limit p_limit) i) i
    cross join lateral (select count(*) as workers from posthorn.attendance a where a.subscription = s.id and a.worker not in (select d.worker from dead d)) a
    left join held h on h.subscription = s.id
$$;

-- watch(every): raises and resolves alerts, once in the fleet: whoever comes first within \`every\` ms does it for all. Returns what changed:
-- [{ change: raised | resolved, alert, subscription, value, threshold }]; null when it was not our turn. Also forgets dead letters past their keeping.
create or replace function posthorn.watch(p_every_ms int) returns json
language plpgsql as $$
declare
  v_changes json[] := '{}';
  v_rule record;
  v_open posthorn.alert;
begin
  perform posthorn.own_transaction(true);
  if not pg_try_advisory_xact_lock(posthorn.lock_key('watch')) then
    return null;
  end if;
  insert into posthorn.maintenance (name, ran_at) values ('watch', clock_timestamp())
    on conflict (name) do update set ran_at = excluded.ran_at where posthorn.maintenance.ran_at < clock_timestamp() - p_every_ms * interval '1 ms';
  if not found then
    return null;
  end if;
  for v_rule in select * from posthorn.alert_rules() loop
    select * into v_open from posthorn.alert a where a.subscription = v_rule.subscription and a.name = v_rule.name and a.resolved_at is null;
    if v_rule.value >= v_rule.threshold and v_open.id is null then
      insert into posthorn.alert (name, subscription, value, threshold) values (v_rule.name, v_rule.subscription, v_rule.value, v_rule.threshold);
    elsif v_rule.value < v_rule.threshold and v_open.id is not null then
      update posthorn.alert set resolved_at = clock_timestamp() where id = v_open.id;
    else
      continue;
    end if;
    v_changes := v_changes || json_build_object('change', case when v_open.id is null then 'raised' else 'resolved' end, 'alert', v_rule.name,
      'subscription', v_rule.subscription_name, 'value', v_rule.value, 'threshold', v_rule.threshold);
  end loop;
  delete from posthorn.dead_letter where id in (select id from posthorn.dead_letter where keep_until < clock_timestamp() order by keep_until limit 1000);
  return to_json(v_changes);
end $$;

-- alert_rules(): every rule of every declared policy with its value now. A queue that nobody declared has no policy, and shows as unattended.
create or replace function posthorn.alert_rules() returns table (subscription int, subscription_name text, name text, value bigint, threshold bigint)
language sql volatile as $$
  select g.subscription, s.name, r.name, r.value, r.threshold from posthorn.gauges(100000) g
    join posthorn.subscription s on s.id = g.subscription
    cross join lateral (values
      ('oldestAgeMs', g.age_ms, (s.policy #>> '{alerts,oldestAgeMs}')::bigint),
      ('backlog', g.backlog, (s.policy #>> '{alerts,backlog}')::bigint),
      ('deadLetters', g.dead_letters, (s.policy #>> '{alerts,deadLetters}')::bigint),
      ('noWorkerMs', case when g.workers = 0 then g.age_ms else 0 end, (s.policy #>> '{alerts,noWorkerMs}')::bigint)
    ) r(name, value, threshold) where r.threshold is not null
$$;
` },
  { name: "functions/13_why.sql", text: `-- Why a message is where it is. For people and tools, not for the hot path.

-- why(public id): the facts that decide what became of a message, for each of its receivers, as JSON
--   { message, kind, contract, version, channel, publishedAt, now, receivers: [{ subscription, state, … }] };
--   null when no message has this id. \`state\` is null for a reader that began after the message. Stable, so everything is read in
--   one snapshot and no message is met between two states; whether a worker lives is looked up at the end, as it is then.
create or replace function posthorn.why(p_public text) returns json
language plpgsql stable as $$
declare
  v_id bigint := posthorn.id_of(p_public);
  v_nonce bigint := posthorn.nonce_of(p_public);
  v_found record;
  v_contract int;
  v_published_at timestamptz;
  v_receivers json;
begin
  select * into v_found from posthorn.where_in_log(v_id, v_nonce);
  v_contract := v_found.contract;
  v_published_at := v_found.published_at;
  if v_contract is null then
    select w.contract, w.published_at into v_contract, v_published_at from (
      select w.contract, w.published_at from posthorn.subscription s join posthorn.deferred w on w.subscription = s.id and w.message = v_id and w.nonce = v_nonce
      union all select w.contract, w.published_at from posthorn.subscription s join posthorn.dead_letter w on w.subscription = s.id and w.message = v_id and w.nonce = v_nonce
      union all select w.contract, w.published_at from posthorn.subscription s join posthorn.invalid w on w.subscription = s.id and w.message = v_id and w.nonce = v_nonce
      union all select w.contract, w.published_at from posthorn.subscription s join posthorn.discarded w on w.subscription = s.id and w.message = v_id and w.nonce = v_nonce) w limit 1;
  end if;
  if v_contract is null then
    return null;
  end if;
  select coalesce(json_agg(f.facts order by s.name), '[]') into v_receivers
    from posthorn.contract c join posthorn.subscription s on s.channel = c.channel
    cross join lateral (select coalesce(posthorn.why_waiting(s, v_id, v_nonce),
      case when v_found.contract is not null then posthorn.why_in_log(s, v_found.lane, v_id, v_found.xid) end)) f(facts)
    where c.id = v_contract and f.facts is not null;
  return (select json_build_object('message', p_public, 'kind', c.kind, 'contract', c.name, 'version', c.version, 'channel', h.name,
      'publishedAt', v_published_at, 'now', clock_timestamp(), 'receivers', (
        select coalesce(json_agg(r::jsonb || posthorn.why_attended(r ->> 'subscription', c.name)), '[]') from json_array_elements(v_receivers) r))
    from posthorn.contract c join posthorn.channel h on h.id = c.channel where c.id = v_contract);
end $$;

-- where_in_log: the place of a message in the log; null columns when it is not there.
create or replace function posthorn.where_in_log(
  p_id bigint, p_nonce bigint, out slot smallint, out lane int, out contract int, out published_at timestamptz, out xid xid8
) language plpgsql stable as $$
declare
  v_slot smallint;
begin
  for v_slot in select unnest(slots) from posthorn.ring loop
    execute format('select m.lane, m.contract, m.published_at, m.xid from posthorn.channel c
        cross join lateral (select generate_series(0, c.lanes - 1) union all select -1 where c.kind = ''command''
          union all select l.lane from posthorn.subscription s join posthorn.lane l on l.subscription = s.id where s.channel = c.id and l.lane > 1024) l(lane)
        cross join lateral (select * from posthorn.message_%s m where m.channel = c.id and m.lane = l.lane and m.id = $1) m where m.nonce = $2', v_slot)
      into lane, contract, published_at, xid using p_id, p_nonce;
    if contract is not null then
      slot := v_slot;
      return;
    end if;
  end loop;
end $$;

-- why_waiting: the facts of a message that waits, runs again or ended outside of the log; null when it is in none of these tables.
create or replace function posthorn.why_waiting(p_subscription posthorn.subscription, p_id bigint, p_nonce bigint) returns json
language sql stable as $$
  select json_strip_nulls(json_build_object('subscription', p_subscription.name, 'state', w.state, 'delivery', w.delivery, 'attempts', w.attempts,
      'crashes', w.crashes, 'at', w.at, 'dueAt', nullif(w.due_at, 'infinity'), 'expiresAt', w.expires_at, 'behind', (
        select posthorn.public_id(b.message, b.nonce) from posthorn.deferred b where b.id = w.behind), 'reason', w.reason, 'by', w.by, 'issues', w.issues, 'worker', posthorn.why_worker(w.worker),
      'keptUntil', w.keep_until, 'before', case when w.state in ('queued', 'retrying', 'scheduled') then (
        select count(*) from (select from posthorn.deferred d where d.subscription = p_subscription.id and d.token is null and d.due_at < w.due_at
          limit 100001) d) end,
      'error', (select e.entry -> 'error' from json_array_elements(w.history) with ordinality e(entry, n)
        where e.entry ->> 'error' is not null order by e.n desc limit 1),
      'lastEntry', (select json_build_object('outcome', e.entry -> 'outcome', 'endedAt', e.entry -> 'endedAt', 'by', e.entry -> 'by')
        from json_array_elements(w.history) with ordinality e(entry, n) order by e.n desc limit 1)))
  from (
    select case when token is not null then 'running' when reason::text = 'scheduled' then 'scheduled' when reason = 'released' then 'queued'
        else 'retrying' end as state, delivery, attempts, crashes, taken_at as at, due_at, reason::text, null as by, null::json as issues, worker,
        null::timestamptz as keep_until, history, expires_at, behind
      from posthorn.deferred where subscription = p_subscription.id and message = p_id and nonce = p_nonce
    union all
    select 'dead', delivery, attempts, crashes, died_at, null, reason, null, null, null, keep_until, history, null, null
      from posthorn.dead_letter where subscription = p_subscription.id and message = p_id and nonce = p_nonce
    union all
    select 'invalid', delivery, null, null, found_at, null, null, null, issues, null, null, history, null, null
      from posthorn.invalid where subscription = p_subscription.id and message = p_id and nonce = p_nonce
    union all
    select 'discarded', delivery, attempts, null, discarded_at, null, reason, discarded_by, null, null, keep_until, history, null, null
      from posthorn.discarded where subscription = p_subscription.id and message = p_id and nonce = p_nonce
  ) w
$$;

-- why_worker: who that is, and why it counts as dead if it does; null when it is forgotten.
create or replace function posthorn.why_worker(p_worker bigint) returns json
language sql stable as $$
  select json_build_object('id', w.id::text, 'service', w.service, 'host', w.host, 'pid', w.pid, 'dead',
      (select d.why from posthorn.dead_workers() d where d.worker = w.id))
    from posthorn.worker w where w.id = p_worker
$$;

-- why_in_log: the facts of a message that only the log knows.
create or replace function posthorn.why_in_log(p_subscription posthorn.subscription, p_lane int, p_id bigint, p_xid xid8) returns json
language plpgsql stable as $$
declare
  v_fate record;
begin
  select * into v_fate from posthorn.fate_in_log(p_subscription, p_lane, p_id, p_xid);
  return case
    when v_fate.state is null then json_build_object('subscription', p_subscription.name, 'state', null, 'at', p_subscription.created_at)
    when v_fate.state = 'running' then json_build_object('subscription', p_subscription.name, 'state', 'running', 'at', v_fate.at, 'delivery', 1,
      'attempts', 0, 'worker', posthorn.why_worker(v_fate.worker))
    when v_fate.state = 'queued' then json_build_object('subscription', p_subscription.name, 'state', 'queued', 'delivery', 1, 'attempts', 0,
      'before', posthorn.count_between(p_subscription.channel, p_lane, (v_fate.lane_at).last_id, p_id, 100001),
      'perSecond', posthorn.recent_rate(p_subscription.id, p_lane, (v_fate.lane_at).slot))
    else json_build_object('subscription', p_subscription.name, 'at', v_fate.at, 'delivery', v_fate.delivery, 'reason', v_fate.outcome,
      'state', v_fate.state) end;
end $$;

-- fate_in_log: what became of a message that only the log knows: succeeded; dead, when it failed and is in no list, because its dead letter
-- was kept for its time and is gone; expired; running, in a claim; queued; null when it was passed by before the reader began.
create or replace function posthorn.fate_in_log(
  p_subscription posthorn.subscription, p_lane int, p_id bigint, p_xid xid8,
  out state text, out at timestamptz, out delivery int, out outcome text, out worker bigint, out lane_at posthorn.position
) language plpgsql stable as $$
declare
  v_slot smallint;
  v_claim posthorn.claim_1;
  v_ended record;
begin
  select * into v_ended from posthorn.newest_ending(p_subscription.id, p_id);
  for v_slot in select unnest(slots) from posthorn.ring loop
    execute format('select c.* from (select * from posthorn.claim_%1$s where subscription = $1 and lane = $2 and not took_late and last_id >= $3
        order by last_id, n limit 1) c where $3 = any (c.messages)
      union all select c.* from posthorn.claim_%1$s c where subscription = $1 and lane = $2 and took_late and $3 = any (c.messages) limit 1', v_slot)
      into v_claim using p_subscription.id, p_lane, p_id;
    exit when v_claim.id is not null;
  end loop;
  if v_ended.outcome is null and v_claim.id is not null then
    execute format('select t.outcome::text as outcome, t.at, 1 as delivery from posthorn.settlement_%s t where t.claim = $1
      and t.outcome is not null and t.outcome <> ''begun'' and (t.messages is null or $2 = any (t.messages)) order by t.part desc limit 1', v_slot)
      into v_ended using v_claim.id, p_id;
  end if;
  if v_ended.outcome is not null then
    state := case when v_ended.outcome in ('succeeded', 'skipped') then 'succeeded' when v_ended.outcome = 'expired' then 'expired' else 'dead' end;
    at := v_ended.at;
    delivery := v_ended.delivery;
    outcome := v_ended.outcome;
  elsif v_claim.id is not null then
    state := 'running';
    at := v_claim.at;
    delivery := 1;
    worker := v_claim.worker;
  elsif p_lane >= 0 then
    lane_at := posthorn.why_position(p_subscription.id, p_lane);
    if not posthorn.is_passed(lane_at, p_id, p_xid) then
      state := 'queued';
      delivery := 1;
    end if;
  end if;
end $$;

-- newest_ending: how the newest ended delivery of a message ended that has an ending of its own; null columns when none has.
create or replace function posthorn.newest_ending(p_subscription int, p_id bigint, out outcome text, out at timestamptz, out delivery int)
language plpgsql stable as $$
declare
  v_slot smallint;
  v_ending record;
begin
  for v_slot in select unnest(slots) from posthorn.ring loop
    execute format('select e.outcome::text as outcome, e.at, e.delivery from posthorn.ending_%s e where e.message = $1 and e.subscription = $2
      order by e.delivery desc limit 1', v_slot) into v_ending using p_id, p_subscription;
    if v_ending.delivery > coalesce(delivery, 0) then
      outcome := v_ending.outcome;
      at := v_ending.at;
      delivery := v_ending.delivery;
    end if;
  end loop;
end $$;

-- why_position: as position_of, in the caller's snapshot.
create or replace function posthorn.why_position(p_subscription int, p_lane int) returns posthorn.position
language plpgsql stable as $$
declare
  v_at posthorn.position;
  v_newest posthorn.position;
begin
  select l.slot, l.n, l.floor, l.ceiling, l.last_id, l.late, l.late_xids into v_at
    from posthorn.lane l where l.subscription = p_subscription and l.lane = p_lane;
  execute format('select %1$s::smallint, n, floor, ceiling, last_id, late, late_xids from posthorn.claim_%1$s
    where subscription = $1 and lane = $2 order by n desc limit 1', v_at.slot) into v_newest using p_subscription, p_lane;
  return case when v_newest.n is null then v_at else v_newest end;
end $$;

-- is_passed: whether the windows up to a position hold a message. See claim for what a window holds.
create or replace function posthorn.is_passed(p_at posthorn.position, p_id bigint, p_xid xid8) returns boolean
language plpgsql stable as $$
declare
  v_floor posthorn.tick;
  v_ceiling posthorn.tick;
begin
  execute format('select id, ceiling_id, snapshot from posthorn.tick_%s where id = $1', p_at.slot) into v_floor using p_at.floor;
  execute format('select id, ceiling_id, snapshot from posthorn.tick_%s where id = $1', p_at.slot) into v_ceiling using p_at.ceiling;
  if p_id > v_ceiling.ceiling_id or not pg_visible_in_snapshot(p_xid, v_ceiling.snapshot) then
    return false;
  elsif p_id > v_floor.ceiling_id then
    return not p_at.late and p_id <= p_at.last_id;
  end if;
  return pg_visible_in_snapshot(p_xid, v_floor.snapshot) or not p_at.late or p_id <= p_at.last_id;
end $$;

-- count_between: committed messages of a lane between two ids, counted up to a limit.
create or replace function posthorn.count_between(p_channel int, p_lane int, p_after bigint, p_before bigint, p_limit int) returns bigint
language plpgsql stable as $$
declare
  v_slot smallint;
  v_count bigint;
  v_sum bigint := 0;
begin
  for v_slot in select unnest(slots) from posthorn.ring loop
    execute format('select count(*) from (select from posthorn.message_%s m where m.channel = $1 and m.lane = $2 and m.id > $3 and m.id < $4 limit $5) m', v_slot)
      into v_count using p_channel, p_lane, p_after, p_before, p_limit;
    v_sum := v_sum + v_count;
  end loop;
  return least(v_sum, p_limit);
end $$;

-- recent_rate: messages a second that left a lane in the last minute while anybody worked on it; null when none did. Of the newest
-- hundred claims; pauses between them do not count.
create or replace function posthorn.recent_rate(p_subscription int, p_lane int, p_slot smallint) returns float8
language plpgsql stable as $$
declare
  v_rate float8;
begin
  execute format('with recent as (
      select c.at, cardinality(c.messages) as messages, (select t.at from posthorn.settlement_%1$s t where t.claim = c.id and t.closes) as closed_at
      from posthorn.claim_%1$s c where c.subscription = $1 and c.lane = $2 order by c.n desc limit 100)
    select (select sum(messages) filter (where closed_at is not null) from recent where at > clock_timestamp() - interval ''1 minute'')
      / nullif(sum(extract(epoch from upper(b) - lower(b))), 0)
    from (select range_agg(tstzrange(at, greatest(at, coalesce(closed_at, clock_timestamp())), ''[]'')) as busy from recent
      where at > clock_timestamp() - interval ''1 minute'') r cross join lateral unnest(r.busy) b', p_slot)
    into v_rate using p_subscription, p_lane;
  return v_rate;
end $$;

-- why_attended: who works on a subscription now, and which of them have a handler for which version of a contract, as JSON
--   { attended: { workers, versions: [{ version, workers }], lastSign } }. Dead workers do not count; \`lastSign\` is the newest trace of any, null when there was none.
create or replace function posthorn.why_attended(p_subscription text, p_contract text) returns jsonb
language sql stable as $$
  with here as (
    select a.worker, a.contracts, s.id as subscription from posthorn.subscription s join posthorn.attendance a on a.subscription = s.id
      where s.name = p_subscription and a.worker not in (select d.worker from posthorn.dead_workers() d)
  )
  select jsonb_build_object('attended', jsonb_build_object('workers', (select count(*) from here), 'versions', (
      select coalesce(jsonb_agg(jsonb_build_object('version', v.version, 'workers', v.workers) order by v.version), '[]') from (
        select c.version, count(*) as workers from here h join posthorn.contract c on c.id = any (h.contracts) where c.name = p_contract group by 1) v),
    'lastSign', (select greatest(s.declared_at, posthorn.newest_claim_at(s.id), (select max(w.heartbeat_at) from posthorn.attendance a
        join posthorn.worker w on w.id = a.worker where a.subscription = s.id)) from posthorn.subscription s where s.name = p_subscription)))
$$;

-- newest_claim_at: when anybody last claimed of a subscription.
create or replace function posthorn.newest_claim_at(p_subscription int) returns timestamptz
language plpgsql stable as $$
declare
  v_lane record;
  v_at timestamptz;
  v_newest timestamptz;
begin
  for v_lane in select l.lane, l.slot from posthorn.lane l where l.subscription = p_subscription loop
    execute format('select at from posthorn.claim_%s where subscription = $1 and lane = $2 order by n desc limit 1', v_lane.slot)
      into v_at using p_subscription, v_lane.lane;
    v_newest := greatest(v_newest, v_at);
  end loop;
  return v_newest;
end $$;
` },
  { name: "functions/14_operate.sql", text: `-- What operators look at, and what they do to messages that ended badly. Lists are 'dead-letters' and 'invalid'.

-- letters_where(filter): the condition that a filter means, as SQL over a list "l" with the filter as $1. With a message the indexes of
-- the lists are probed once for each subscription.
create or replace function posthorn.letters_where(p_filter json) returns text
language sql immutable as $$
  select concat_ws(' and ', 'true',
    case when p_filter ->> 'message' is not null then 'l.subscription in (select s.id from posthorn.subscription s)
      and l.message = posthorn.id_of($1 ->> ''message'') and l.nonce = posthorn.nonce_of($1 ->> ''message'')' end,
    case when p_filter ->> 'subscription' is not null then
      'l.subscription = (select s.id from posthorn.subscription s where s.name = $1 ->> ''subscription'')' end,
    case when p_filter ->> 'contract' is not null then
      'l.contract in (select c.id from posthorn.contract c where c.name = $1 ->> ''contract'')' end,
    case when p_filter ->> 'upto' is not null then 'l.id <= ($1 ->> ''upto'')::bigint' end)
$$;

-- take_letters(filter, limit): removes entries from a list and returns them as deliveries that can wait. Of several sessions that want an entry
-- one gets it; those that others are taking are passed over. The filter is JSON { list, message?, subscription?, contract?, upto? }: a public id,
-- names, and the highest id in the list, so that what dies again meanwhile is not taken again. Order: by id in the list, which is in \`id\`. Who orders
-- that it runs again means it to run: it has no expiry any more.
create or replace function posthorn.take_letters(p_filter json, p_limit int) returns setof posthorn.deferred
language plpgsql as $$
begin
  return query execute format($sql$
    with picked as (
      select l.id from posthorn.%1$I l where %4$s order by l.id limit $2 for update skip locked
    )
    delete from posthorn.%1$I l using picked where l.id = picked.id
      returning l.id, l.subscription, null::timestamptz, l.delivery, %2$s, %3$s, 'released'::posthorn.outcome, null::bigint, null::bigint,
        null::timestamptz, l.message, l.nonce, l.channel, l.lane, l.contract, l.key, l.payload, l.headers, l.published_at, l.history,
        null::timestamptz, posthorn.priority_of(l.lane), false, null::bigint $sql$,
    case p_filter ->> 'list' when 'invalid' then 'invalid' else 'dead_letter' end,
    case p_filter ->> 'list' when 'invalid' then '0' else 'l.attempts' end,
    case p_filter ->> 'list' when 'invalid' then '0' else 'l.crashes' end,
    posthorn.letters_where(p_filter)) using p_filter, p_limit;
end $$;

-- redrive(filter, by, limit): gives entries of a list a new delivery, due at once. Attempts and crashes start anew, the history stays and says who.
-- Returns [{ message, subscription }]; an entry is redriven once, however many ask at the same time.
create or replace function posthorn.redrive(p_filter json, p_by text, p_limit int) returns json
language plpgsql as $$
declare
  v_row posthorn.deferred;
  v_done json[] := '{}';
begin
  perform posthorn.own_transaction(true);
  for v_row in select * from posthorn.take_letters(p_filter, p_limit) loop
    v_row.history := posthorn.with_entry(v_row.history, json_build_object('attempt', v_row.attempts, 'outcome', 'redriven', 'by', p_by,
      'endedAt', clock_timestamp()));
    perform posthorn.follow(v_row, 'released', '{"defer":{"delayMs":0,"attempts":0,"crashes":0}}');
    v_done := v_done || json_build_object('message', posthorn.public_id(v_row.message, v_row.nonce),
      'subscription', (select name from posthorn.subscription where id = v_row.subscription));
  end loop;
  return to_json(v_done);
end $$;

-- discard(filter, by, reason, limit): ends entries of a list for good, without their payload; who and why is kept as long as a dead letter would be.
-- Returns [{ message, subscription }].
create or replace function posthorn.discard(p_filter json, p_by text, p_reason text, p_limit int) returns json
language plpgsql as $$
declare
  v_row posthorn.deferred;
  v_subscription posthorn.subscription;
  v_done json[] := '{}';
begin
  perform posthorn.own_transaction(true);
  for v_row in select * from posthorn.take_letters(p_filter, p_limit) loop
    select * into v_subscription from posthorn.subscription where id = v_row.subscription;
    insert into posthorn.discarded (subscription, message, nonce, contract, discarded_at, keep_until, discarded_by, reason, list, delivery, attempts,
        published_at, history)
      values (v_row.subscription, v_row.message, v_row.nonce, v_row.contract, clock_timestamp(), clock_timestamp()
        + coalesce((v_subscription.policy #>> '{deadLetter,keepMs}')::float8, 2592000000) * interval '1 ms', p_by, p_reason, p_filter ->> 'list',
        v_row.delivery, v_row.attempts, v_row.published_at, v_row.history);
    v_done := v_done || json_build_object('message', posthorn.public_id(v_row.message, v_row.nonce), 'subscription', v_subscription.name);
  end loop;
  delete from posthorn.discarded where (subscription, message) in (
    select d.subscription, d.message from posthorn.discarded d where d.keep_until < clock_timestamp() order by d.keep_until limit 1000);
  return to_json(v_done);
end $$;

-- letters(filter, limit): entries of a list, the newest first, as JSON [{ message, subscription, contract, version, key, at, attempts, crashes, reason,
-- error, issues, keptUntil, publishedAt }]; with { full: true } also payload, headers and history.
create or replace function posthorn.letters(p_filter json, p_limit int) returns json
language plpgsql stable as $$
declare
  v_json json;
begin
  execute format($sql$
    select coalesce(json_agg(json_build_object('message', posthorn.public_id(l.message, l.nonce), 'subscription', s.name, 'contract', c.name,
        'version', c.version, 'key', l.key, 'publishedAt', l.published_at, %2$s,
        'error', (select e.entry -> 'error' from json_array_elements(l.history) with ordinality e(entry, n)
          where e.entry ->> 'error' is not null order by e.n desc limit 1),
        'payload', case when ($1 ->> 'full')::boolean then l.payload end, 'headers', case when ($1 ->> 'full')::boolean then l.headers end,
        'history', case when ($1 ->> 'full')::boolean then l.history end) order by l.id desc), '[]')
      from (select * from posthorn.%1$I l where %3$s order by l.id desc limit $2) l
      join posthorn.subscription s on s.id = l.subscription join posthorn.contract c on c.id = l.contract $sql$,
    case p_filter ->> 'list' when 'invalid' then 'invalid' else 'dead_letter' end,
    case p_filter ->> 'list' when 'invalid' then $list$'at', l.found_at, 'issues', l.issues$list$
      else $list$'at', l.died_at, 'keptUntil', l.keep_until, 'attempts', l.attempts, 'crashes', l.crashes, 'reason', l.reason$list$ end,
    posthorn.letters_where(p_filter))
    into v_json using p_filter, p_limit;
  return v_json;
end $$;

-- letters_count(filter): how many entries a filter finds, and the highest id among them, as JSON { count, upto }.
create or replace function posthorn.letters_count(p_filter json) returns json
language plpgsql stable as $$
declare
  v_json json;
begin
  execute format($sql$
    select json_build_object('count', count(*), 'upto', max(l.id)::text) from posthorn.%1$I l where %2$s $sql$,
    case p_filter ->> 'list' when 'invalid' then 'invalid' else 'dead_letter' end, posthorn.letters_where(p_filter)) into v_json using p_filter;
  return v_json;
end $$;

-- crossed_alerts(): open alerts, and rules that are crossed now although nobody has raised them yet (raisedAt is null), as JSON
--   [{ alert, subscription, value, threshold, raisedAt }]. Without a worker nobody raises alerts; this sees them all the same.
create or replace function posthorn.crossed_alerts() returns json
language sql volatile as $$
  with open as (
    select a.name, a.subscription, s.name as subscription_name, a.value, a.threshold, a.raised_at
      from posthorn.alert a join posthorn.subscription s on s.id = a.subscription where a.resolved_at is null
  ), crossed as (
    select * from open
    union all
    select r.name, r.subscription, r.subscription_name, r.value, r.threshold, null from posthorn.alert_rules() r
      where r.value >= r.threshold and not exists (select from open o where o.subscription = r.subscription and o.name = r.name)
  )
  select coalesce(json_agg(json_build_object('alert', name, 'subscription', subscription_name, 'value', value, 'threshold', threshold,
    'raisedAt', raised_at) order by raised_at, subscription_name, name), '[]') from crossed
$$;

-- recent_alerts(limit): alerts that are resolved, the newest first.
create or replace function posthorn.recent_alerts(p_limit int) returns json
language sql stable as $$
  select coalesce(json_agg(json_build_object('alert', a.name, 'subscription', a.subscription, 'value', a.value, 'threshold', a.threshold,
      'raisedAt', a.raised_at, 'resolvedAt', a.resolved_at) order by a.resolved_at desc), '[]')
    from (select a.*, s.name as subscription from posthorn.alert a join posthorn.subscription s on s.id = a.subscription
      where a.resolved_at is not null order by a.resolved_at desc limit p_limit) a(id, name, subscription_id, raised_at, resolved_at, value, threshold, subscription)
$$;

-- fleet(): workers that are registered, and why one counts as dead.
create or replace function posthorn.fleet() returns json
language sql volatile as $$
  select coalesce(json_agg(json_build_object('id', w.id::text, 'service', w.service, 'host', w.host, 'pid', w.pid, 'startedAt', w.started_at,
      'heartbeatAt', w.heartbeat_at, 'worksOn', w.works_on, 'dead', d.why) order by w.id), '[]')
    from posthorn.workers w left join posthorn.dead_workers() d on d.worker = w.id
$$;

-- normalised: the text of an error without what differs from message to message: ids, numbers, quoted values.
create or replace function posthorn.normalised(p_text text) returns text
language sql immutable as $$
  select regexp_replace(regexp_replace(regexp_replace(left(p_text, 500),
    '[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}', '#', 'g'),
    '"[^"]*"|''[^'']*''', '"…"', 'g'),
    '[0-9]+([.:][0-9]+)*|\\m[0-9a-f]*[0-9][0-9a-f]{7,}\\M', '#', 'g')
$$;

-- error_groups(filter, limit, read): errors of messages that wait or are dead, grouped by what they have in common: queue, contract, name, code,
-- normalised message, and the first line of the stack. Every failed attempt counts. Reads the newest \`read\` messages of each list. Returns JSON
--   [{ fingerprint, subscription, contract, name, code, message, at, count, messages, firstSeen, lastSeen, example }], the latest first.
create or replace function posthorn.error_groups(p_filter json, p_limit int, p_read int) returns json
language sql stable as $$
  with held as (
    (select d.subscription, d.contract, d.message, d.nonce, d.history from posthorn.deferred d order by d.id desc limit p_read)
    union all
    (select d.subscription, d.contract, d.message, d.nonce, d.history from posthorn.dead_letter d order by d.id desc limit p_read)
  ), failures as (
    select s.name as subscription, c.name as contract, h.message, h.nonce, e.entry #>> '{error,name}' as name, e.entry #>> '{error,code}' as code,
        e.entry #>> '{error,message}' as text, (e.entry ->> 'endedAt')::timestamptz as seen_at,
        regexp_replace(substring(e.entry #>> '{error,stack}' from '\\n\\s*at ([^\\n]+)'), ':[0-9]+:[0-9]+', '') as at
      from held h join posthorn.subscription s on s.id = h.subscription join posthorn.contract c on c.id = h.contract
      cross join lateral json_array_elements(h.history) e(entry)
      where e.entry ->> 'error' is not null
        and (p_filter ->> 'subscription' is null or s.name = p_filter ->> 'subscription')
        and (p_filter ->> 'contract' is null or c.name = p_filter ->> 'contract')
  ), groups as (
    select subscription, contract, name, code, posthorn.normalised(text) as message, at, count(*) as count, count(distinct (message, nonce)) as messages,
        min(seen_at) as first_seen, max(seen_at) as last_seen,
        (array_agg(posthorn.public_id(message, nonce) order by seen_at desc))[1] as example
      from failures group by 1, 2, 3, 4, 5, 6 order by max(seen_at) desc limit p_limit
  )
  select coalesce(json_agg(json_build_object('fingerprint', left(md5(concat_ws(chr(10), subscription, contract, name, coalesce(code, '-'), message, coalesce(at, '-'))), 12),
      'subscription', subscription, 'contract', contract, 'name', name, 'code', code, 'message', message, 'at', at, 'count', count, 'messages', messages,
      'firstSeen', first_seen, 'lastSeen', last_seen, 'example', example) order by last_seen desc), '[]') from groups
$$;

-- registered(): what the registry knows, for comparison with code: { subscriptions: [{ name, kind, channel, service, policy }],
-- contracts: [{ name, version, kind, channel, keyed, owner, by }] }.
create or replace function posthorn.registered() returns json
language sql stable as $$
  select json_build_object('subscriptions', (
      select coalesce(json_agg(json_build_object('name', s.name, 'kind', c.kind, 'channel', c.name, 'service', s.service, 'policy', s.policy) order by s.name), '[]')
        from posthorn.subscription s join posthorn.channel c on c.id = s.channel),
    'contracts', (
      select coalesce(json_agg(json_build_object('name', t.name, 'version', t.version, 'kind', t.kind, 'channel', c.name, 'keyed', t.keyed,
          'owner', t.owner, 'by', t.registered_by) order by t.name, t.version), '[]')
        from posthorn.contract t join posthorn.channel c on c.id = t.channel))
$$;
` },
  { name: "functions/20_options.sql", text: `-- What is said beside the payload: delay, expiry, priority. Messages without any of it do not come here.
--
-- A message that must wait lies in the log, in a lane that nobody reads, so that its id, history and status are those of any message; and as
-- its first delivery in \`deferred\`, in the same transaction. All times are on the clock of the database.

-- lane_of_priority, priority_of: a priority has a lane of its own in its queue, with a number that no channel counts up to. Zero has lane 0.
create or replace function posthorn.lane_of_priority(p_priority int) returns int
language sql immutable as $$ select case when p_priority = 0 then 0 else 2000 + p_priority end $$;

create or replace function posthorn.priority_of(p_lane int) returns smallint
language sql immutable as $$ select (case when p_lane > 1024 then p_lane - 2000 else 0 end)::smallint $$;

-- urgency(priority, since): what comes first among several priorities: the class, and one class more for each 30 seconds of waiting, so that
-- the lowest waits two minutes longer than the highest and is never starved.
create or replace function posthorn.urgency(p_priority int, p_since timestamptz) returns float8
language sql volatile as $$ select p_priority + extract(epoch from clock_timestamp() - p_since)::float8 / 30 $$;

-- classes(subscription): the priorities that its queue has lanes for; zero alone where none was ever used.
create or replace function posthorn.classes(p_subscription int) returns setof smallint
language sql stable as $$
  select 0::smallint union all select posthorn.priority_of(l.lane) from posthorn.lane l where l.subscription = p_subscription and l.lane > 1024
$$;

-- make_lane(channel, priority): the lane of a priority, made when it is first used. Its reader starts at the beginning. Who comes second while
-- the first has not committed waits, so producers have it made beside their transactions where they can.
create or replace function posthorn.make_lane(p_channel int, p_priority int) returns void
language plpgsql as $$
declare
  v_subscription int := (select id from posthorn.subscription where channel = p_channel);
  v_lane int := posthorn.lane_of_priority(p_priority);
  v_slot smallint;
  v_tick bigint;
begin
  if exists (select from posthorn.lane l where l.subscription = v_subscription and l.lane = v_lane) then
    return;
  end if;
  select slot into v_slot from posthorn.ring;
  v_tick := nextval('posthorn.tick_id');
  perform posthorn.write_tick(v_slot, v_tick, 0, '3:3:');
  insert into posthorn.lane (subscription, lane, slot, n, floor, ceiling, last_id, late, late_xids)
    values (v_subscription, v_lane, v_slot, 0, v_tick, v_tick, 0, false, null) on conflict do nothing;
end $$;

-- option_number(options, field, least, most): a whole number of the options, null when it is not given. Raises PH015.
create or replace function posthorn.option_number(p_options json, p_field text, p_least bigint, p_most bigint) returns bigint
language plpgsql immutable as $$
declare
  v_text text := p_options ->> p_field;
begin
  if v_text is null then
    return null;
  end if;
  if json_typeof(p_options -> p_field) <> 'number' or v_text !~ '^-?[0-9]{1,18}$' or v_text::bigint not between p_least and p_most then
    raise exception 'the option % must be an integer from % to %, got %', p_field, p_least, p_most, left(v_text, 40) using errcode = 'PH015';
  end if;
  return v_text::bigint;
end $$;

-- option_keys(options, known, what): refuses what is no object, and names that are not known. Raises PH015.
create or replace function posthorn.option_keys(p_options json, p_known text[], p_what text) returns void
language plpgsql immutable as $$
declare
  v_unknown text;
begin
  if json_typeof(p_options) <> 'object' then
    raise exception 'the % are no object', p_what using errcode = 'PH015';
  end if;
  select k into v_unknown from json_object_keys(p_options) k where k <> all (p_known) limit 1;
  if v_unknown is not null then
    raise exception 'the % know no "%"', p_what, left(v_unknown, 80) using errcode = 'PH015', hint = format('Known are: %s.', array_to_string(p_known, ', '));
  end if;
end $$;

-- options_of(options, key): options as JSON { delayMs, runAt, expiresInMs, priority, dedupe: { key, mode, windowMs, maxWaitMs } }, checked and on the clock of
-- the database. \`due_at\` is null where it may begin at once. The key of dedupe may come beside them. Raises PH015.
create or replace function posthorn.options_of(
  p_options json, p_key text, out due_at timestamptz, out expires_at timestamptz, out priority smallint, out key text, out mode text, out window_ms bigint,
  out wait_ms bigint
) language plpgsql as $$
declare
  v_now timestamptz := clock_timestamp();
  v_longest constant bigint := 315360000000;
  v_delay bigint;
  v_expires bigint;
begin
  perform posthorn.option_keys(p_options, '{delayMs,runAt,expiresInMs,priority,dedupe}', 'options of a command');
  v_delay := posthorn.option_number(p_options, 'delayMs', 0, v_longest);
  v_expires := posthorn.option_number(p_options, 'expiresInMs', 1, v_longest);
  priority := coalesce(posthorn.option_number(p_options, 'priority', -2, 2), 0);
  if p_options ->> 'runAt' is not null then
    due_at := posthorn.run_at(p_options ->> 'runAt', v_now + v_longest * interval '1 ms');
    if v_delay is not null then
      raise exception 'delayMs and runAt exclude each other' using errcode = 'PH015';
    end if;
  elsif v_delay > 0 then
    due_at := v_now + v_delay * interval '1 ms';
  end if;
  if due_at <= v_now then
    due_at := null;
  end if;
  expires_at := v_now + v_expires * interval '1 ms';
  if expires_at <= due_at then
    raise exception 'it would expire before it may begin: at % and not before %', expires_at, due_at using errcode = 'PH015',
      hint = 'Make expiresInMs longer than the delay.';
  end if;
  if p_options ->> 'dedupe' is not null then
    select d.key, d.mode, d.window_ms, d.wait_ms into key, mode, window_ms, wait_ms from posthorn.dedupe_of(p_options -> 'dedupe', p_key, due_at is not null) d;
  end if;
end $$;

-- run_at(text, latest): a time with a date, as ISO 8601 writes it. Raises PH015.
create or replace function posthorn.run_at(p_text text, p_latest timestamptz) returns timestamptz
language plpgsql stable as $$
declare
  v_at timestamptz;
begin
  begin
    v_at := case when p_text ~ '^[0-9]{4,6}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}' then p_text::timestamptz end;
  exception when others then
    v_at := null;
  end;
  if v_at is null or v_at > p_latest then
    raise exception 'the option runAt must be a time in ISO 8601, at most 10 years from now, got %', left(p_text, 40) using errcode = 'PH015';
  end if;
  return v_at;
end $$;

-- append_said(slot, said): as append, for JSON { said: list, options: list }: the entries of \`said\` name their options by index, from 0, as "o", and their
-- keys of dedupe as "dk". All keys are locked first and in one order, so that two lists wait for each other and never in a ring.
-- Returns [[nonce, id, nonce of the id]]; the two nonces differ where an earlier message stands for this one. This runs in transactions of callers, where
-- nothing may be set, and its plans are kept: those that were made beside empty tables must be right beside full ones. So it sets for itself alone.
create or replace function posthorn.append_said(p_slot smallint, p_said json) returns json
language plpgsql
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_entry json;
  v_places json[] := '{}';
  -- Taken out once: each look into the whole would read all of it.
  v_said json := p_said -> 'said';
  v_options json := p_said -> 'options';
begin
  perform pg_current_xact_id();
  if json_array_length(v_said) = 1 then
    return json_build_array(posthorn.say_one(p_slot, v_said -> 0, v_options -> 0, v_said -> 0 ->> 'dk'));
  end if;
  if exists (select from json_array_elements(v_options) o(options) where o.options ->> 'priority' is not null) then
    perform posthorn.make_lane(p.ch, p.priority) from (
      select distinct r.ch, (v_options -> r.o ->> 'priority')::int as priority from json_to_recordset(v_said) as r(ch int, o int)) p
      where p.priority between -2 and 2 and p.priority <> 0;
  end if;
  if exists (select from json_array_elements(v_options) o(options) where o.options ->> 'dedupe' is not null) then
    perform posthorn.hold_keys(v_said, v_options);
  end if;
  if not exists (select from json_array_elements(v_options) o(options) where o.options #>> '{dedupe,mode}' <> 'drop') then
    return posthorn.append_many_of(p_slot, v_said, v_options);
  end if;
  for v_entry in select json_array_elements(v_said) loop
    v_places := v_places || posthorn.say_one(p_slot, v_entry, v_options -> (v_entry ->> 'o')::int, v_entry ->> 'dk');
  end loop;
  return to_json(v_places);
end $$;

-- append_many_of: writes the entries of append_said, in one statement; of those with a key the ones whose nonce its row has, see hold_keys.
select posthorn.by_slot('append_many_of(p_slot smallint, p_said json, p_options json)', 'json', $body$
  declare v_places json;
  begin
  with options as materialized (
    select o.n - 1 as i, p.* from json_array_elements(p_options) with ordinality o(options, n)
      cross join lateral posthorn.options_of(o.options, 'checked') p
  ), entry as materialized (
    select r.*, row_number() over () as place
      from json_to_recordset(p_said) as r(n bigint, ch int, c int, k text, p json, h json, o int, dk text)
  ), said as materialized (
    select e.*, case when e.message is null then nextval('posthorn.message_id') else e.message end as id from (
      select e.*, o.due_at, o.expires_at, coalesce(o.priority, 0)::smallint as priority, d.message, coalesce(d.nonce, e.n) as nonce
        from entry e left join options o on o.i = e.o left join posthorn.contract c on e.dk is not null and c.id = e.c
        left join lateral (select * from posthorn.dedupe d where d.name = c.name and d.key = e.dk offset 0) d on e.dk is not null
        order by e.place offset 0) e
  ), written as (
    insert into posthorn.message_{slot} (xid, id, nonce, published_at, channel, lane, contract, key, payload, headers, expires_at)
      select pg_current_xact_id(), s.id, s.n, clock_timestamp(), s.ch, case when s.due_at is null then posthorn.lane_of_priority(s.priority) else -1 end,
        s.c, s.k, coalesce(s.p, 'null'), s.h, s.expires_at from said s where s.nonce = s.n
  ), later as (
    insert into posthorn.deferred (subscription, due_at, delivery, attempts, crashes, reason, message, nonce, channel, lane, contract, key, payload, headers,
        published_at, history, expires_at, priority)
      select q.id, s.due_at, 1, 0, 0, 'scheduled', s.id, s.n, s.ch, -1, s.c, s.k, coalesce(s.p, 'null'), s.h, clock_timestamp(), '[]', s.expires_at, s.priority
        from said s join posthorn.subscription q on q.channel = s.ch where s.nonce = s.n and s.due_at is not null
  )
  select json_agg(json_build_array(s.n::text, s.id::text, s.nonce::text)) into v_places from said s;
  return v_places;
  end;
$body$);

-- write_said(home, said): append_said as a producer does it; returns { xid, places }, or why nothing was written, as write_one.
create or replace function posthorn.write_said(p_home text, p_said json) returns text
language plpgsql as $$
declare
  v_slot smallint := posthorn.open_slot(p_home);
begin
  if v_slot < 0 then
    return case v_slot when -1 then 'moved' else 'elsewhere' end;
  end if;
  return json_build_object('places', posthorn.append_said(v_slot, p_said), 'xid', pg_current_xact_id()::text);
end $$;

-- say_one(slot, entry, options, key): one entry of append_said. The key may lie in the options.
create or replace function posthorn.say_one(p_slot smallint, p_entry json, p_options json, p_key text) returns json
language plpgsql
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set plan_cache_mode = force_generic_plan as $$
declare
  v_options record;
  v_subscription int;
begin
  if p_options is null then
    return json_build_array(p_entry ->> 'n', posthorn.append_one_of(p_slot, (p_entry ->> 'n')::bigint, (p_entry ->> 'ch')::int, (p_entry ->> 'c')::int,
      p_entry ->> 'k', p_entry -> 'p', p_entry -> 'h')::text, p_entry ->> 'n');
  end if;
  select * into v_options from posthorn.options_of(p_options, p_key);
  v_subscription := (select s.id from posthorn.subscription s where s.channel = (p_entry ->> 'ch')::int);
  if v_options.priority <> 0 then
    perform posthorn.make_lane((p_entry ->> 'ch')::int, v_options.priority);
  end if;
  if v_options.mode is not null then
    return posthorn.say_once(p_slot, v_subscription, p_entry, v_options.due_at, v_options.expires_at, v_options.priority, v_options.key, v_options.mode,
      v_options.window_ms, v_options.wait_ms);
  end if;
  return posthorn.say_new(p_slot, v_subscription, p_entry, null, v_options.due_at, v_options.expires_at, v_options.priority);
end $$;

-- say_new: writes a message, and where it has a time, its first delivery into \`deferred\`. \`p_id\` is null for the next id.
create or replace function posthorn.say_new(
  p_slot smallint, p_subscription int, p_entry json, p_id bigint, p_due_at timestamptz, p_expires_at timestamptz, p_priority smallint,
  p_once_more boolean default false, p_behind bigint default null
) returns json
language plpgsql as $$
declare
  v_id bigint := posthorn.append_said_of(p_slot, p_entry, p_id, case when p_due_at is null then posthorn.lane_of_priority(p_priority) else -1 end,
    p_expires_at);
begin
  if p_due_at is not null then
    insert into posthorn.deferred (subscription, due_at, delivery, attempts, crashes, reason, message, nonce, channel, lane, contract, key, payload, headers,
        published_at, history, expires_at, priority, once_more, behind)
      values (p_subscription, least(p_due_at, p_expires_at), 1, 0, 0, 'scheduled', v_id, (p_entry ->> 'n')::bigint, (p_entry ->> 'ch')::int, -1,
        (p_entry ->> 'c')::int, p_entry ->> 'k', coalesce(p_entry -> 'p', 'null'), p_entry -> 'h', clock_timestamp(), '[]', p_expires_at, p_priority,
        p_once_more, p_behind);
  end if;
  return json_build_array(p_entry ->> 'n', v_id::text, p_entry ->> 'n');
end $$;

select posthorn.by_slot('append_said_of(p_slot smallint, p_entry json, p_id bigint, p_lane int, p_expires_at timestamptz)', 'bigint', $body$
  declare v_id bigint;
  begin
    insert into posthorn.message_{slot} (xid, id, nonce, published_at, channel, lane, contract, key, payload, headers, expires_at)
      values (pg_current_xact_id(), coalesce(p_id, nextval('posthorn.message_id')), (p_entry ->> 'n')::bigint, clock_timestamp(), (p_entry ->> 'ch')::int,
        p_lane, (p_entry ->> 'c')::int, p_entry ->> 'k', coalesce(p_entry -> 'p', 'null'), p_entry -> 'h', p_expires_at)
      returning id into v_id;
    return v_id;
  end;
$body$);

-- claim_by_priority: as claim, of the lane of a queue that is most urgent now. With "more": true where another lane has something as well.
create or replace function posthorn.claim_by_priority(p_subscription int, p_worker bigint, p_limit int) returns text
language plpgsql as $$
declare
  v_ring posthorn.ring;
  v_channel int := (select s.channel from posthorn.subscription s where s.id = p_subscription);
  v_lane record;
  v_claimed text;
  v_taken text;
  v_missed boolean := false;
begin
  select * into v_ring from posthorn.ring;
  for v_lane in
    select l.lane from posthorn.lane l cross join lateral (select posthorn.lane_head(v_ring, p_subscription, l.lane, v_channel) as oldest offset 0) head
      where l.subscription = p_subscription and head.oldest is not null
      order by posthorn.urgency(posthorn.priority_of(l.lane), head.oldest) desc, head.oldest
  loop
    if v_taken is not null then
      return '{"more":true,' || substr(v_taken, 2);
    end if;
    v_claimed := posthorn.claim(p_subscription, v_lane.lane, p_worker, p_limit);
    if v_claimed like '{"claim"%' then
      v_taken := v_claimed;
    elsif v_claimed like '{"missed"%' then
      v_missed := true;
    end if;
  end loop;
  return coalesce(v_taken, case when v_missed then '{"missed":true}' else '{}' end);
end $$;

-- lane_head: when the oldest message of a lane was said that a claim would find; null when there is none.
create or replace function posthorn.lane_head(p_ring posthorn.ring, p_subscription int, p_lane int, p_channel int) returns timestamptz
language plpgsql as $$
declare
  v_at posthorn.position := posthorn.position_of(p_subscription, p_lane);
  v_ceiling posthorn.tick := posthorn.tick_of(v_at.slot, v_at.ceiling);
  v_floor_id bigint := (posthorn.tick_of(v_at.slot, v_at.floor)).ceiling_id;
  v_slot smallint;
  v_xids xid8[];
  v_now pg_snapshot;
  v_late posthorn.batch;
  v_oldest timestamptz;
begin
  foreach v_slot in array p_ring.slots loop
    v_oldest := least(v_oldest, (posthorn.count_after_of(v_slot, p_channel, p_lane,
      case when v_at.late then v_floor_id else v_at.last_id end, 1)).oldest);
  end loop;
  -- Committed late: in the window that is open, or below its ceiling and seen only now.
  if v_at.late then
    v_late := posthorn.late_page(p_ring.slots, p_channel, p_lane, v_at.late_xids, v_at.last_id, v_floor_id, 1);
  end if;
  if v_late.ids is null then
    select pg_current_snapshot() into v_now;
    v_xids := posthorn.late_xids(p_ring.slots, p_channel, p_lane, v_ceiling.snapshot, v_ceiling.ceiling_id, p_ring.first_id, v_now);
    if v_xids is not null then
      v_late := posthorn.late_page(p_ring.slots, p_channel, p_lane, v_xids, p_ring.first_id - 1, v_ceiling.ceiling_id, 1);
    end if;
  end if;
  if v_late.ids is not null then
    v_oldest := least(v_oldest, to_timestamp((v_late.items::json ->> 7)::float8 / 1000));
  end if;
  -- A window whose late part was not finished has to be claimed from, whatever is left in it.
  return case when v_oldest is null and v_at.late then clock_timestamp() else v_oldest end;
end $$;

-- lock_due: the ids of deliveries that are due, locked, the most urgent first: of these contracts, with at least \`from\` and fewer than \`below\` crashes.
-- Rows that others are taking are passed over.
-- Plan: deferred_due in its order, once for each priority in use.
create or replace function posthorn.lock_due(p_subscription int, p_contracts int[], p_from int, p_below int, p_limit int) returns bigint[]
language plpgsql as $$
declare
  -- Read once: compared with a function that may change, the index would be read on to its end.
  v_now timestamptz := clock_timestamp();
begin
  return array(select first.id from posthorn.classes(p_subscription) c(class)
    cross join lateral (select d.id, d.due_at from posthorn.deferred d
      where d.subscription = p_subscription and d.priority = c.class and d.token is null and d.due_at <= v_now
        and d.contract = any (p_contracts) and d.crashes >= p_from and d.crashes < p_below
      order by d.due_at limit p_limit for update skip locked) first
    order by posthorn.urgency(c.class, first.due_at) desc limit p_limit);
end $$;

-- first_due: when the first delivery that waits is due, of the contracts that a worker has handlers for; null for none.
-- Plan: deferred_due, one probe for each priority in use.
create or replace function posthorn.first_due(p_subscription int, p_contracts int[]) returns timestamptz
language plpgsql as $$
begin
  return (select min(first.due_at) from posthorn.classes(p_subscription) c(class)
    cross join lateral (select d.due_at from posthorn.deferred d
      where d.subscription = p_subscription and d.priority = c.class and d.token is null and d.due_at < 'infinity' and d.contract = any (p_contracts)
      order by d.due_at limit 1) first);
end $$;

-- take_due: take, and when the next is due in ms: JSON { taken, next }; \`next\` is null when more may be due already, or nothing waits.
create or replace function posthorn.take_due(p_subscription int, p_worker bigint, p_contracts json, p_limit int) returns json
language plpgsql as $$
declare
  v_taken json := posthorn.take(p_subscription, p_worker, p_contracts, p_limit);
begin
  return json_build_object('taken', v_taken, 'next', case when json_array_length(v_taken) < p_limit then
    (ceil(extract(epoch from posthorn.first_due(p_subscription, array(select c::int from json_array_elements_text(p_contracts) c)) - clock_timestamp()) * 1000))::float8 end);
end $$;
` },
  { name: "functions/21_dedupe.sql", text: `-- Dedupe: what counts as the same request, by the contract's name and a key.
--
-- The row of posthorn.dedupe is the lock: of two that say the same key at once the second waits until the first has committed or rolled back.
-- Everything but drop waits in \`deferred\`, where it stays changeable; the row there is locked by who counts on it, so that it is not taken before
-- that commits. A delivery that runs is never locked from here: its worker would wait for a producer's transaction.

-- dedupe_of(dedupe, key, timed): the part \`dedupe\` of options, checked. \`timed\`: the options say a time as well. Raises PH015.
create or replace function posthorn.dedupe_of(
  p_dedupe json, p_key text, p_timed boolean, out key text, out mode text, out window_ms bigint, out wait_ms bigint
) language plpgsql as $$
begin
  perform posthorn.option_keys(p_dedupe, '{key,mode,windowMs,maxWaitMs}', 'options of dedupe');
  key := coalesce(p_key, p_dedupe ->> 'key');
  mode := p_dedupe ->> 'mode';
  window_ms := posthorn.option_number(p_dedupe, 'windowMs', 1, 315360000000);
  wait_ms := posthorn.option_number(p_dedupe, 'maxWaitMs', 1, 315360000000);
  if key is null or (p_key is null and json_typeof(p_dedupe -> 'key') <> 'string') or octet_length(key) not between 1 and 512 then
    raise exception 'the key of dedupe must be a text of 1 to 512 bytes' using errcode = 'PH015';
  elsif mode is null or mode not in ('drop', 'throttle', 'debounce', 'replace', 'once-more') then
    raise exception 'the mode of dedupe must be drop, throttle, debounce, replace or once-more, got %', left(mode, 40) using errcode = 'PH015';
  elsif mode in ('drop', 'throttle', 'debounce') and window_ms is null then
    raise exception 'the mode % of dedupe needs a windowMs', mode using errcode = 'PH015';
  elsif mode in ('replace', 'once-more') and window_ms is not null then
    raise exception 'the mode % of dedupe has no windowMs', mode using errcode = 'PH015';
  elsif wait_ms is not null and mode <> 'debounce' then
    raise exception 'the mode % of dedupe has no maxWaitMs', mode using errcode = 'PH015';
  elsif wait_ms < window_ms then
    raise exception 'maxWaitMs (%) must not be shorter than windowMs (%)', wait_ms, window_ms using errcode = 'PH015';
  elsif p_timed and mode not in ('drop', 'replace') then
    raise exception 'the mode % of dedupe says itself when the message begins, and excludes delayMs and runAt', mode using errcode = 'PH015';
  end if;
end $$;

-- longest_redelivery(policy): the longest time from the first run of a message to the end of its last, in ms: every run as long as it may take, every
-- wait as long as it can be. Null where the kind of its retries is not known here.
create or replace function posthorn.longest_redelivery(p_policy json) returns float8
language plpgsql immutable as $$
declare
  v_retry json := p_policy -> 'retry';
  v_attempts int := (v_retry ->> 'attempts')::int;
begin
  return v_attempts * (p_policy ->> 'visibilityTimeoutMs')::float8 + case v_retry ->> 'kind'
    when 'none' then 0
    when 'fixed' then (v_attempts - 1) * (v_retry ->> 'delayMs')::float8
    when 'exponential' then (select coalesce(sum(least((v_retry ->> 'maxMs')::float8, (v_retry ->> 'firstMs')::float8 * 2 ^ least(n - 1, 60))), 0)
      from generate_series(1, v_attempts - 1) n) end;
end $$;

-- hold_dedupe: locks the row of a key, waiting for who holds it, and returns it. Where it was not there, it is made for this message; its nonce tells.
-- An update that changes nothing is what locks a row in the same statement. Raises 40001 where the caller's transaction cannot see who was first.
create or replace function posthorn.hold_dedupe(
  p_name text, p_key text, p_subscription int, p_message bigint, p_nonce bigint, p_window_ms bigint
) returns posthorn.dedupe
language plpgsql as $$
declare
  v_now timestamptz := clock_timestamp();
  v_until timestamptz := v_now + coalesce(p_window_ms, 0) * interval '1 ms';
  v_held posthorn.dedupe;
begin
  insert into posthorn.dedupe (name, key, subscription, message, nonce, until, since, look_at)
    values (p_name, p_key, p_subscription, p_message, p_nonce, v_until, v_now, v_until)
    on conflict (name, key) do update set look_at = excluded.look_at where false;
  select * into v_held from posthorn.dedupe d where d.name = p_name and d.key = p_key;
  return v_held;
end $$;

-- hold_keys(said, options): hold_dedupe for all keys of append_said, in the order of contract and key. Afterwards the row of a key of drop names the message that
-- stands for it: that of its first entry where the key is new or its window is over. Raises PH015 for a window that is too short.
create or replace function posthorn.hold_keys(p_said json, p_options json) returns void
language plpgsql as $$
declare
  v_now timestamptz := clock_timestamp();
  v_wanted json;
begin
  select json_agg(json_build_object('name', w.name, 'key', w.dk, 'n', w.n, 'queue', w.queue, 'mode', w.mode, 'ms', w.ms)
      order by w.name collate "C", w.dk collate "C") into v_wanted
    from (select distinct on (c.name collate "C", e.dk collate "C") c.name, e.dk, e.n, q.id as queue,
        p_options -> e.o #>> '{dedupe,mode}' as mode, posthorn.option_number(p_options -> e.o -> 'dedupe', 'windowMs', 1, 315360000000) as ms
      from (select r.*, row_number() over () as place from json_to_recordset(p_said) as r(n bigint, ch int, c int, o int, dk text)) e
      join posthorn.contract c on c.id = e.c join posthorn.subscription q on q.channel = e.ch
      where e.dk is not null order by c.name collate "C", e.dk collate "C", e.place) w;
  perform posthorn.check_window(w.queue, w.ms) from (
    select distinct w.queue, w.ms from json_to_recordset(v_wanted) as w(queue int, mode text, ms bigint) where w.mode = 'drop') w;
  insert into posthorn.dedupe (name, key, subscription, message, nonce, until, since, look_at)
    select w.name, w.key, w.queue, nextval('posthorn.message_id'), w.n, v_now + coalesce(w.ms, 0) * interval '1 ms', v_now, v_now + coalesce(w.ms, 0) * interval '1 ms'
      from json_to_recordset(v_wanted) as w(name text, key text, queue int, n bigint, ms bigint)
    on conflict (name, key) do update set look_at = excluded.look_at where false;
  -- Who was waited for may have taken a while.
  v_now := clock_timestamp();
  update posthorn.dedupe d set subscription = w.queue, message = nextval('posthorn.message_id'), nonce = w.n, until = v_now + w.ms * interval '1 ms',
      since = v_now, look_at = v_now + w.ms * interval '1 ms'
    from json_to_recordset(v_wanted) as w(name text, key text, queue int, n bigint, mode text, ms bigint)
    where w.mode = 'drop' and d.name = w.name and d.key = w.key and d.until <= v_now and d.nonce <> w.n;
end $$;

-- say_once: writes a message, or finds the one that stands for it. Returns [nonce, id, nonce of the id].
create or replace function posthorn.say_once(
  p_slot smallint, p_subscription int, p_entry json, p_due_at timestamptz, p_expires_at timestamptz, p_priority smallint, p_key text, p_mode text,
  p_window_ms bigint, p_wait_ms bigint
) returns json
language plpgsql as $$
declare
  v_name text := (select c.name from posthorn.contract c where c.id = (p_entry ->> 'c')::int);
  v_nonce bigint := (p_entry ->> 'n')::bigint;
  v_id bigint;
  v_held posthorn.dedupe;
  v_fresh boolean;
  v_now timestamptz;
  v_window constant interval := coalesce(p_window_ms, 0) * interval '1 ms';
  v_waiting posthorn.deferred;
  v_due timestamptz := p_due_at;
  v_until timestamptz;
  v_behind bigint;
begin
  if p_mode = 'drop' then
    perform posthorn.check_window(p_subscription, p_window_ms);
  end if;
  -- A transaction has its id before it draws the id of a message.
  perform pg_current_xact_id();
  v_id := nextval('posthorn.message_id');
  v_held := posthorn.hold_dedupe(v_name, p_key, p_subscription, v_id, v_nonce, p_window_ms);
  v_fresh := v_held.nonce = v_nonce;
  if v_fresh then
    v_id := v_held.message;
  end if;
  v_now := clock_timestamp();
  if not v_fresh then
    if p_mode = 'drop' then
      if v_held.until > v_now then
        return posthorn.stands_for(p_entry, v_held);
      end if;
    else
      v_waiting := posthorn.waiting_of(v_held);
      if v_waiting.id is not null and (p_mode <> 'throttle' or v_waiting.attempts + v_waiting.crashes = 0) then
        perform posthorn.collapse(v_waiting, v_held, p_entry, coalesce(p_due_at, v_now), p_expires_at, p_mode, v_window, p_wait_ms);
        return posthorn.stands_for(p_entry, v_held);
      end if;
    end if;
  end if;
  v_until := v_now + v_window;
  if p_mode = 'throttle' and not v_fresh and v_held.until > v_now then
    v_due := v_held.until;
    v_until := v_due + v_window;
  elsif p_mode = 'debounce' then
    v_due := v_now + v_window;
  elsif p_mode = 'once-more' and not v_fresh then
    v_behind := (select d.id from posthorn.deferred d where d.subscription = v_held.subscription and d.message = v_held.message
      and d.nonce = v_held.nonce and d.token is not null);
    v_due := case when v_behind is not null then 'infinity'::timestamptz else v_now end;
  elsif p_mode in ('replace', 'once-more') then
    v_due := coalesce(v_due, v_now);
  end if;
  if not v_fresh then
    update posthorn.dedupe d set subscription = p_subscription, message = v_id, nonce = v_nonce, until = v_until, since = v_now, look_at = v_until
      where d.name = v_name and d.key = p_key;
  end if;
  return posthorn.say_new(p_slot, p_subscription, p_entry, v_id, v_due, p_expires_at, p_priority, p_mode = 'once-more', v_behind);
end $$;

-- check_window: a window that is over before a message can run for the last time would let the same request in beside it. Raises PH015.
create or replace function posthorn.check_window(p_subscription int, p_window_ms bigint) returns void
language plpgsql as $$
declare
  v_queue posthorn.subscription;
begin
  select * into v_queue from posthorn.subscription s where s.id = p_subscription;
  if p_window_ms < v_queue.redelivery_ms then
    raise exception 'a window of % ms is shorter than the % ms in which the queue "%" may run a message again', p_window_ms, ceil(v_queue.redelivery_ms),
      v_queue.name using errcode = 'PH015', hint = 'Make windowMs at least as long, or the retries and the visibility timeout of the queue shorter.';
  end if;
end $$;

create or replace function posthorn.stands_for(p_entry json, p_held posthorn.dedupe) returns json
language plpgsql as $$
begin
  return json_build_array(p_entry ->> 'n', p_held.message::text, p_held.nonce::text);
end $$;

-- waiting_of: the waiting delivery of a key's message, locked; null columns when it runs or has ended.
create or replace function posthorn.waiting_of(p_held posthorn.dedupe) returns posthorn.deferred
language plpgsql as $$
declare
  v_row posthorn.deferred;
begin
  select * into v_row from posthorn.deferred d where d.subscription = p_held.subscription and d.message = p_held.message and d.nonce = p_held.nonce
    and d.token is null for update;
  return v_row;
end $$;

-- collapse: what a further request changes about the one that waits. The latest payload counts, but for once-more. A retry keeps its attempts and is
-- not hastened.
create or replace function posthorn.collapse(
  p_row posthorn.deferred, p_held posthorn.dedupe, p_entry json, p_due_at timestamptz, p_expires_at timestamptz, p_mode text, p_window interval,
  p_wait_ms bigint
) returns void
language plpgsql as $$
declare
  v_due timestamptz := case p_mode when 'replace' then p_due_at when 'debounce' then least(clock_timestamp() + p_window, p_held.since + p_wait_ms * interval '1 ms')
    else p_row.due_at end;
begin
  if p_mode = 'once-more' then
    return;
  end if;
  if p_row.behind is not null or p_row.attempts + p_row.crashes > 0 then
    v_due := greatest(v_due, p_row.due_at);
  end if;
  update posthorn.deferred d set contract = (p_entry ->> 'c')::int, key = p_entry ->> 'k', payload = coalesce(p_entry -> 'p', 'null'), headers = p_entry -> 'h',
    expires_at = p_expires_at, due_at = least(v_due, p_expires_at) where d.id = p_row.id;
end $$;

-- let_go(deferred): the one that waited behind this delivery may run. Passes over what a producer holds just now; tidy_dedupe finds it.
create or replace function posthorn.let_go(p_deferred bigint) returns void
language plpgsql as $$
begin
  update posthorn.deferred d set due_at = least(clock_timestamp(), d.expires_at), behind = null
    where d.id in (select b.id from posthorn.deferred b where b.behind = p_deferred and b.token is null for update skip locked);
end $$;

-- tidy_dedupe(limit): one pass: lets go what waits behind a delivery that runs no more, and forgets keys whose window is over and whose message neither
-- waits nor runs. Returns how many it looked at; as many as \`limit\`: there may be more.
create or replace function posthorn.tidy_dedupe(p_limit int) returns int
language plpgsql
set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_looked int;
  v_now timestamptz := clock_timestamp();
begin
  perform posthorn.own_transaction(true);
  if not pg_try_advisory_xact_lock(posthorn.lock_key('dedupe')) then
    return 0;
  end if;
  update posthorn.deferred d set due_at = least(clock_timestamp(), d.expires_at), behind = null
    where d.id in (select b.id from posthorn.deferred b where b.behind is not null and b.token is null
      and not exists (select from posthorn.deferred r where r.id = b.behind and r.token is not null offset 0) order by b.behind limit p_limit for update skip locked);
  -- Those that live on are looked at again after a minute.
  with over as materialized (
    select d.name, d.key, exists (select from posthorn.deferred w where w.subscription = d.subscription and w.message = d.message offset 0) as lives
      from posthorn.dedupe d where d.look_at < v_now order by d.look_at limit p_limit for update skip locked
  ), kept as (
    update posthorn.dedupe d set look_at = clock_timestamp() + interval '1 minute' from over o where o.lives and d.name = o.name and d.key = o.key
  ), gone as (
    delete from posthorn.dedupe d using over o where not o.lives and d.name = o.name and d.key = o.key
  )
  select count(*) into v_looked from over;
  return v_looked;
end $$;
` },
  { name: "views.sql", text: `-- For people and tools: stable names over tables that may change.

create or replace view posthorn.backlog as
  select s.name, c.kind, c.name as channel, g.backlog, g.retrying, g.running, g.age_ms, g.dead_letters, g.invalid, g.workers,
    g.workers = 0 as unattended
  from posthorn.gauges(1000000) g
  join posthorn.subscription s on s.id = g.subscription
  join posthorn.channel c on c.id = s.channel;

create or replace view posthorn.dead_letters as
  select posthorn.public_id(d.message, d.nonce) as message, s.name as subscription, c.name as contract, d.key, d.payload, d.reason, d.attempts,
    d.crashes, d.published_at, d.died_at, d.keep_until, d.history
  from posthorn.dead_letter d
  join posthorn.subscription s on s.id = d.subscription
  join posthorn.contract c on c.id = d.contract;

create or replace view posthorn.invalid_messages as
  select posthorn.public_id(i.message, i.nonce) as message, s.name as subscription, c.name as contract, i.key, i.payload, i.issues,
    i.published_at, i.found_at
  from posthorn.invalid i
  join posthorn.subscription s on s.id = i.subscription
  join posthorn.contract c on c.id = i.contract;

create or replace view posthorn.workers as
  select w.id, w.service, w.host, w.pid, w.started_at, w.heartbeat_at,
    array(select s.name from posthorn.attendance a join posthorn.subscription s on s.id = a.subscription where a.worker = w.id order by s.name) as works_on
  from posthorn.worker w;

create or replace view posthorn.alerts as
  select s.name as subscription, a.name as alert, a.value, a.threshold, a.raised_at, a.resolved_at
  from posthorn.alert a join posthorn.subscription s on s.id = a.subscription;
` },
  { name: "grants.sql", text: `-- Nothing is granted to public: not the schema, and no function in it.
revoke all on schema posthorn from public;
revoke all on all tables in schema posthorn from public;
revoke all on all functions in schema posthorn from public;
` },
];
