-- The way in: what takes messages from a broker, which of them were taken in, and which fitted nothing.
-- Locks: alert, access exclusive: a column without a default and an index of a few rows, for a moment. Nothing of the log.

create table posthorn.intake (
  id int generated always as identity primary key,
  name text not null unique,
  -- Who declared it last, where it takes messages from (without a password), and how long its inbox is kept.
  service text not null,
  broker text not null,
  place text not null,
  keep_ms float8 not null,
  -- An alert says it when it has not been connected for so long.
  away_ms float8 not null,
  declared_at timestamptz not null default clock_timestamp(),
  -- The one worker that runs it. Everything that it writes is refused once this is another.
  worker bigint,
  held_at timestamptz,
  -- What its holder reported last: when that was, since when it is not connected (null while it is), and why.
  seen_at timestamptz not null default clock_timestamp(),
  away_since timestamptz default clock_timestamp(),
  trouble text,
  -- Counted in the transactions that write. What is not among the last three was taken in before.
  received bigint not null default 0,
  written bigint not null default 0,
  invalid bigint not null default 0,
  skipped bigint not null default 0,
  last_message_at timestamptz,
  paused_at timestamptz,
  paused_by text,
  paused_reason text
);

-- What an intake brings in. An event that comes from outside has its one source there.
create table posthorn.intake_contract (
  intake int not null references posthorn.intake (id) on delete cascade,
  contract text not null,
  primary key (intake, contract)
);

-- What was taken in. The mark is the first half of a SHA-256 of intake, source and id: 16 bytes whatever they are, in the row and in the one index. Of a
-- million million marks two are the same with a chance of one in 10^15; who could make such a pair would have to send both. There is no index of the
-- age, which each message would pay for: a sweep walks over the pages.
create table posthorn.inbox (
  mark uuid primary key,
  intake int not null,
  keep_until timestamptz not null
);

-- What fitted nothing. It stays until somebody redrives or discards it.
create table posthorn.intake_invalid (
  id bigint generated always as identity primary key,
  intake int not null references posthorn.intake (id) on delete cascade,
  mark uuid not null,
  found_at timestamptz not null,
  -- It came again, as far as the inbox did not notice it.
  times int not null default 1,
  last_at timestamptz not null,
  reason text not null,
  source text,
  event text,
  type text,
  content_type text,
  headers json not null,
  key text,
  broker_id text,
  position text,
  body bytea not null,
  bytes bigint not null,
  -- False where it was too large to be kept: then `body` is its beginning, or headers are missing.
  whole boolean not null,
  -- Its intake is to read it again.
  redrive_at timestamptz,
  redrive_by text,
  unique (intake, mark)
);
create index intake_invalid_redriven on posthorn.intake_invalid (intake, id) where redrive_at is not null;

-- An alert is one of a subscription, of an intake, or of the whole log.
alter table posthorn.alert add column intake int references posthorn.intake (id) on delete cascade;
drop index posthorn.alert_open;
create unique index alert_open on posthorn.alert (coalesce(subscription, 0), coalesce(intake, 0), name) where resolved_at is null;
