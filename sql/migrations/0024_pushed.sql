-- A broker that is pushed to: every worker runs its intake, and holds it by a row of its own.
-- Locks: intake, access exclusive: a column of a few rows, for a moment. Nothing of the log.

-- Set by whoever holds it: whether it is run by many.
alter table posthorn.intake add column pushed boolean not null default false;

create table posthorn.intake_holder (
  intake int not null references posthorn.intake (id) on delete cascade,
  worker bigint not null,
  held_at timestamptz not null default clock_timestamp(),
  -- What it reported last.
  seen_at timestamptz not null default clock_timestamp(),
  connected boolean not null,
  trouble text,
  -- Counted in the transactions that write, and added to those of the intake when it is held no more.
  received bigint not null default 0,
  written bigint not null default 0,
  invalid bigint not null default 0,
  skipped bigint not null default 0,
  last_message_at timestamptz,
  primary key (intake, worker)
);
