-- Rotation: which segments the log consists of, and how long they are kept.
-- Locks: ring, lane and alert, access exclusive, for a moment.

-- slots[1] is the slot of segment `first_segment`, and each slot after it that of the next number. Messages are written to `slot`, claims to the
-- slot of their lane. Of ids up to `forgotten_upto` messages were removed.
alter table posthorn.ring
  add column first_segment bigint not null default 1,
  add column forgotten_upto bigint not null default 0;

-- One row for each slot that is in use. A number is never given twice: it tells the one that was truncated from the one that has its slot now.
create table posthorn.segment (
  n bigint primary key,
  slot smallint not null unique check (slot between 1 and 8),
  opened_at timestamptz not null default clock_timestamp(),
  -- When messages went to the next one, and in which transaction.
  closed_at timestamptz,
  closed_xid xid8,
  -- When nobody could choose it for a message any more; whoever had written to it has a lower transaction id, and its messages have no higher ids.
  sealed_at timestamptz,
  sealed_xid xid8,
  sealed_id bigint,
  -- In which transaction it was found that nobody needs it.
  finished_xid xid8
);
insert into posthorn.segment (n, slot) values (1, 1);

-- The oldest segment that may hold messages which no claim of the lane has taken; and the oldest that a claim which is open lies in or took
-- messages from.
alter table posthorn.lane
  add column read_from bigint not null default 1,
  add column held_from bigint not null default 1;

-- What the fleet was told to keep; no row until a worker has told it.
create table posthorn.retention (
  singleton boolean primary key default true check (singleton),
  keep_ms float8 not null,
  max_bytes bigint not null,
  declared_by text not null,
  declared_at timestamptz not null default clock_timestamp()
);

-- An alert without a subscription is one of the whole log.
alter table posthorn.alert alter column subscription drop not null;
drop index posthorn.alert_open;
create unique index alert_open on posthorn.alert (coalesce(subscription, 0), name) where resolved_at is null;
