-- The fleet: who works, who watches, and what is wrong.

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
