-- Schedules: a command that is sent at the times of a cron line, once for each in the whole fleet.
--
-- A row says all that is needed to send, so that any worker can, also after the process that declared it is gone. The times themselves are
-- computed by the workers; the row alone says which of them is next, and it only moves forward.

-- Never given twice, also where a schedule was removed and declared anew.
create sequence posthorn.schedule_revision;

create table posthorn.schedule (
  name text primary key check (length(name) between 1 and 80),
  -- Changes with what is declared. A worker whose function computes the payload sends for its own revision only.
  revision bigint not null default nextval('posthorn.schedule_revision'),
  cron text not null,
  time_zone text not null,
  contract int not null references posthorn.contract (id),
  missed text not null check (missed in ('skip', 'once', 'all')),
  jitter_ms int not null check (jitter_ms >= 0),
  payload json,
  key text,
  headers json,
  -- A digest of the function that computes payload and key, where they are not the same each time.
  function text,
  -- The next time of the cron line, and when its command is sent: later by the jitter. No finer than the clock of JavaScript, which compares them.
  next_at timestamptz(3) not null,
  due_at timestamptz(3) not null,
  -- The newest time whose command was sent, and that message. No time up to this is sent again, whatever the clock does.
  last_at timestamptz(3),
  last_message bigint,
  last_nonce bigint,
  -- Why its command could not be made at the last try.
  error text,
  failed_at timestamptz,
  service text not null,
  declared_at timestamptz not null default clock_timestamp(),
  check ((payload is null) = (function is not null))
);
create index schedule_due on posthorn.schedule (due_at);
