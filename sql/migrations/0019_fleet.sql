-- What the fleet knows of itself: which policy each worker carries, how policies changed, what was skipped, and which library the schema is for.
-- Locks: worker, attendance, alert and installation, access exclusive: columns without a default, for a moment. Nothing of the log.

alter table posthorn.worker
  -- Version of the library.
  add column library text;
alter table posthorn.attendance
  -- As this worker carries it; null for a worker whose library did not tell.
  add column policy json;
alter table posthorn.alert
  -- What exactly, in words.
  add column detail text;

-- Every change of the policy of a queue or subscription. The newest start wins, and is the last row.
create table posthorn.policy_change (
  id bigint generated always as identity primary key,
  subscription int not null references posthorn.subscription (id) on delete cascade,
  changed_at timestamptz not null default clock_timestamp(),
  service text not null,
  host text,
  pid int,
  library text,
  was json,
  became json not null
);
create index policy_change_subscription on posthorn.policy_change (subscription, id);

-- Events without a handler, counted. A worker that is killed forgets what it counted in the last seconds.
create table posthorn.skipped (
  subscription int not null,
  contract int not null,
  messages bigint not null,
  first_at timestamptz not null,
  last_at timestamptz not null,
  primary key (subscription, contract)
);

-- The library that made the schema what it is, and the oldest one that still works on it.
alter table posthorn.installation
  add column library text,
  add column oldest_library text;
