-- The log: message, claim, settlement. Only appended to; space comes back by truncating whole segments.
--
-- A segment is one slot of a fixed ring: five plain tables with the slot's number. The hot path writes and reads them by name;
-- a partitioned parent would be planned and locked in every statement. `ring.slots` lists the slots that hold data, oldest
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

    -- How a part of a claim ended. `messages` is null for "all of the claim". A claim is open until a part closes it.
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

    -- How one delivery of one message ended: written by the handler's own transaction, or for a delivery from `deferred`.
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
-- claim in `slot`, else this row. Neither is an error, never a first window.
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
