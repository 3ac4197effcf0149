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
  -- The delivery that the message waited behind.
  behind bigint,
  primary key (name, key)
);
create index dedupe_looks on posthorn.dedupe (look_at);
` },
  { name: "migrations/0007_circuit.sql", text: `-- A run that its handler put off, and the circuit breaker of a queue or subscription.

alter type posthorn.outcome add value 'postponed';

-- Read together with the rest of the row in every claim, so that where no breaker is declared nothing more is looked at.
alter table posthorn.subscription
  add column has_breaker boolean not null generated always as ((policy ->> 'circuitBreaker') is not null) stored;

-- One row for each subscription whose circuit was ever needed; none means closed. What the breaker allows stands in the policy.
create table posthorn.circuit (
  subscription int primary key references posthorn.subscription (id),
  state text not null default 'closed' check (state in ('closed', 'open', 'half-open')),
  -- While closed: when runs failed within the window, the newest last, at most as many as open it.
  failed_at timestamptz[] not null default '{}',
  -- Since it was last closed: when it opened, after how many failed runs (null: a handler said so), and what was said.
  opened_at timestamptz,
  failures int,
  reason text,
  -- While open: how long this time, and when one message may be tried.
  open_ms bigint,
  probe_at timestamptz,
  -- While half-open: who tries one, proved by the token.
  probe bigint,
  probe_worker bigint,
  probe_since timestamptz,
  -- Probes that failed since it opened.
  probes int not null default 0
);
` },
  { name: "migrations/0008_schedule.sql", text: `-- Schedules: a command that is sent at the times of a cron line, once for each in the whole fleet.
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
` },
  { name: "migrations/0009_results.sql", text: `-- Results, progress, and what was cancelled.

-- What handlers returned, where the contract has a result: written with the end of the delivery, kept for the time that the policy says.
create table posthorn.result (
  subscription int not null references posthorn.subscription (id),
  message bigint not null,
  nonce bigint not null,
  ended_at timestamptz not null,
  keep_until timestamptz not null,
  -- As the handler returned it.
  result json not null,
  primary key (subscription, message)
);
create index result_kept on posthorn.result (keep_until);

-- The last progress of deliveries that run. A row means nothing once its delivery has ended.
create table posthorn.progress (
  subscription int not null references posthorn.subscription (id),
  message bigint not null,
  delivery int not null,
  worker bigint not null,
  at timestamptz not null,
  value json not null,
  primary key (subscription, message)
);

-- Messages that were cancelled while they waited in the log: a claim that comes to them leaves them out, and removes the row.
create table posthorn.cancel_mark (
  subscription int not null references posthorn.subscription (id),
  message bigint not null,
  primary key (subscription, message)
);

-- Running messages that are to be cancelled: the signal of the run fires, and whatever would have it run again ends it.
create table posthorn.cancel_request (
  subscription int not null references posthorn.subscription (id),
  message bigint not null,
  nonce bigint not null,
  requested_at timestamptz not null,
  requested_by text not null,
  primary key (subscription, message)
);

-- What was cancelled: kept without its payload for as long as a dead letter would be, so that the question what became of a message has an
-- answer.
create table posthorn.cancelled (
  subscription int not null references posthorn.subscription (id),
  message bigint not null,
  nonce bigint not null,
  contract int not null,
  cancelled_at timestamptz not null,
  keep_until timestamptz not null,
  cancelled_by text not null,
  reason text not null,
  delivery int not null,
  attempts int not null,
  published_at timestamptz not null,
  history json not null,
  primary key (subscription, message)
);
create index cancelled_kept on posthorn.cancelled (keep_until);
` },
  { name: "migrations/0010_order.sql", text: `-- Order per key: which readers keep it, whose turn it is, and what waits behind what.

alter type posthorn.outcome add value 'parked';

-- What happens to the messages behind a dead one; null where no order is kept.
alter table posthorn.subscription add column ordering text check (ordering in ('park', 'skip'));

-- A key whose later messages wait outside of the log, behind the first of those that wait. No counter: what waits is counted when asked.
create table posthorn.parked_key (
  subscription int not null references posthorn.subscription (id),
  key text not null,
  parked_at timestamptz not null default clock_timestamp(),
  primary key (subscription, key)
);

-- The turn of a waiting message within its key: by place, not by id, because a message that was committed late has a lower id. Those
-- behind the first are due at infinity. Null: not of an ordered reader, or it has not entered its key's order yet.
create sequence posthorn.place;
alter table posthorn.deferred add column place bigint;
create index deferred_by_place on posthorn.deferred (subscription, key, place) where place is not null;
-- What lies dead or invalid in the way of its key keeps its place; null where the key goes on without it.
alter table posthorn.dead_letter add column place bigint;
create index dead_letter_by_place on posthorn.dead_letter (subscription, key, place) where place is not null;
alter table posthorn.invalid add column place bigint;
create index invalid_by_place on posthorn.invalid (subscription, key, place) where place is not null;

-- Of an ordered claim: a hash of each message's key, and the number of the oldest claim of its lane that was open then.
do $do$
begin
  for slot in 1..8 loop
    execute format('alter table posthorn.claim_%s add column keys bigint[], add column open_from bigint', slot);
  end loop;
end $do$;

-- What an ordered claim may take of a page: the first \`taken\` messages. \`messages\`, with hashes of their keys, are those that are not cancelled: of
-- them \`ids\` are to run, and the key of those in \`parked\` is parked.
create type posthorn.turn as (
  taken int, messages bigint[], message_slots smallint[], keys bigint[], open_from bigint,
  ids bigint[], slots smallint[], items text, parked bigint[], parked_slots smallint[]
);
` },
  { name: "migrations/0011_limits.sql", text: `-- What a fleet keeps to: how much may run, how fast it may begin, and how much may wait.

-- Whether a claim has to ask for permits. Here, because a claim reads this row anyway.
alter table posthorn.subscription add column limited boolean not null default false;

-- Why a message waits in \`deferred\` that its key's limit did not let through.
alter type posthorn.outcome add value 'throttled';

-- The limits of a policy, of those that have any. A rate: so many messages begin within so many milliseconds, and so many at once.
create table posthorn.run_limit (
  subscription int primary key references posthorn.subscription (id),
  rate_messages float8,
  rate_ms float8,
  rate_burst int,
  fleet_concurrency int,
  key_rate_messages float8,
  key_rate_ms float8,
  key_rate_burst int,
  key_concurrency int
);

-- The state of a limited subscription: the newest row. A row is written and the one before deleted for each claim, and never updated: the newest
-- is found at once however many dead ones an open transaction keeps.
-- \`tat\`: when the next message would begin if they came evenly (the theoretical arrival time of ITU-T I.371). \`open_claims\`: claims that may be
-- open, each of which is looked at again; \`looked_upto\`: the number of the newest claim that was looked at, by lane. Nothing is counted here.
create table posthorn.permit (
  subscription int not null references posthorn.subscription (id),
  n bigint not null,
  tat timestamptz not null,
  open_claims bigint[] not null,
  looked_upto bigint[] not null,
  primary key (subscription, n)
);

-- The same for a key, while anything of it is limited. \`line_end\`: the due time of the last message of the key that was put aside.
create table posthorn.key_permit (
  subscription int not null references posthorn.subscription (id),
  key text not null,
  tat timestamptz not null,
  line_end timestamptz not null,
  primary key (subscription, key)
);
create index key_permit_idle on posthorn.key_permit (greatest(tat, line_end));

-- The oldest waiting message of a key.
create index deferred_by_key on posthorn.deferred (subscription, key, message) where token is null and key is not null;

-- How much may wait in a queue. What is known about it lies in a sequence, \`backlog_\` and the id of the channel: what is said into it takes part in
-- no transaction, so no producer waits for another, and a refusal that rolls back is not forgotten.
create table posthorn.backlog_limit (
  channel int primary key references posthorn.channel (id),
  subscription int not null references posthorn.subscription (id),
  messages bigint not null check (messages between 1 and 1000000000),
  when_full text not null check (when_full in ('reject', 'wait')),
  wait_ms float8 not null
);

-- Shapes that functions hand to each other. What a claim may take; \`permits\` is null while another session asks.
create type posthorn.allowance as (
  subscription int, permits int, crowded boolean, at timestamptz, tat timestamptz, gap_ms float8, burst int,
  key_concurrency int, key_gap_ms float8, key_burst int, n bigint, open_claims bigint[], looked_upto bigint[], open_keys jsonb
);
-- How many messages of a key may begin; where its rate stands, and where its line ends.
create type posthorn.key_room as (room int, tat timestamptz, line_end timestamptz);
-- What is known about the backlog of a queue: how much waits, with what was said since it was counted, and when that was.
create type posthorn.backlog_known as (backlog bigint, age_ms float8);
` },
  { name: "migrations/0012_steps.sql", text: `-- Steps: what a handler has done so far of one message, so that a run after this one does not do it again.

create table posthorn.step (
  subscription int not null,
  message bigint not null,
  name text not null,
  -- Null: the step returned undefined. JSON's null is a value.
  result json,
  at timestamptz not null default clock_timestamp(),
  -- The claim that it was recorded under; null for a delivery from \`deferred\`. A message whose claim is open has not ended.
  claim bigint,
  claim_slot smallint,
  primary key (subscription, message, name)
);
` },
  { name: "migrations/0013_skipped.sql", text: `-- Locks: none that a running worker would wait for.
-- Of a page of which some messages are put aside, an answer holds all, and says which to skip: to read and write it anew costs more than the claim.
alter type posthorn.turn add attribute skipped bigint[];
` },
  { name: "migrations/0014_priority.sql", text: `-- Locks: for a moment, whoever writes to the two tables or reads them.
-- What is redriven has the priority that it was said with. Null: a message that ended before; the lane tells, where it came from one.
alter table posthorn.dead_letter add column priority smallint;
alter table posthorn.invalid add column priority smallint;
` },
  { name: "migrations/0015_segments.sql", text: `-- Rotation: which segments the log consists of, and how long they are kept.
-- Locks: ring, lane and alert, access exclusive, for a moment.

-- slots[1] is the slot of segment \`first_segment\`, and each slot after it that of the next number. Messages are written to \`slot\`, claims to the
-- slot of their lane. Of ids up to \`forgotten_upto\` messages were removed.
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
` },
  { name: "migrations/0016_topic.sql", text: `-- What a topic was declared with.
-- Locks: channel, access exclusive: a column without a default, for a moment.

-- How long its messages stay readable at least; null for what the whole log is kept.
alter table posthorn.channel add column keep_ms float8;
` },
  { name: "migrations/0017_operating.sql", text: `-- What operators do: who paused what, and each thing that was ordered, with how far it is.
-- Locks: subscription, discarded, cancelled, cancel_request and deferred, access exclusive, for a moment; dead_letter and invalid against writing, while an index of each is built.

alter table posthorn.subscription
  -- Nobody takes anything while it is set. Read together with the rest of the row in every claim.
  add column paused_at timestamptz,
  add column paused_by text,
  add column paused_reason text;

-- One row for each thing that somebody ordered. What takes more than a moment is done in pieces: \`place\` says where the next one begins, so
-- that whoever drives it can die at any time and another goes on.
create table posthorn.operation (
  id bigint generated always as identity primary key,
  verb text not null check (verb in ('pause', 'resume', 'purge', 'redrive', 'discard', 'replay', 'erase', 'remove')),
  -- The queue, subscription or list that it is about; null for all.
  target text,
  -- What was asked for, as JSON.
  arguments json not null default '{}',
  ordered_by text not null,
  reason text,
  begun_at timestamptz not null default clock_timestamp(),
  -- When its last piece was done.
  touched_at timestamptz not null default clock_timestamp(),
  ended_at timestamptz,
  state text not null default 'running' check (state in ('running', 'done', 'stopped')),
  -- Messages that it found when it began, and those that it has done so far.
  found bigint not null default 0,
  done bigint not null default 0,
  place json not null default '{}'
);
create index operation_running on posthorn.operation (id) where state = 'running';

-- How a message ends that is purged or erased.
alter type posthorn.outcome add value 'discarded';

alter table posthorn.discarded
  -- For whoever erases what is known of a key.
  add column key text,
  drop constraint discarded_list_check,
  add constraint discarded_list_check check (list in ('dead-letters', 'invalid', 'waiting', 'erased'));
alter table posthorn.cancelled add column key text;

-- A running message whose payload was erased: no signal fires, but it does not run again.
alter table posthorn.cancel_request add column erased boolean not null default false, add column quiet boolean not null default false;

-- Since when a delivery waits that came of what an operator ordered, long after its message was said; null: since it was said.
alter table posthorn.deferred add column since timestamptz;
-- To find what is known of a key.
create index dead_letter_by_key on posthorn.dead_letter (key) where key is not null;
create index invalid_by_key on posthorn.invalid (key) where key is not null;
` },
  { name: "migrations/0018_log_head.sql", text: `-- What names a message in the log, without what it carries. A shape that functions hand to each other.
-- Locks: nothing that is there already.
create type posthorn.log_head as (id bigint, lane int, nonce bigint, xid xid8, slot smallint);
` },
  { name: "migrations/0019_fleet.sql", text: `-- What the fleet knows of itself: which policy each worker carries, how policies changed, what was skipped, and which library the schema is for.
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
` },
  { name: "migrations/0020_move.sql", text: `-- Where the log came from and where it went. One row for each move, on either side of it; the newest counts.
-- Locks: nothing that is there already.
create table posthorn.move (
  n bigint generated always as identity primary key,
  -- The same on both sides.
  id uuid not null,
  side text not null check (side in ('source', 'target')),
  -- The other side: for people, without a password, and as it tells itself apart.
  other text not null,
  other_system bigint not null,
  other_database oid not null,
  begun_at timestamptz not null default clock_timestamp(),
  -- Of a target: since when it is the owner.
  finished_at timestamptz
);
` },
  { name: "migrations/0021_reach.sql", text: `-- A list of messages of one lane is found through its first one: the second index has one entry for a list, not for each message.
-- Locks: the tables of messages, access exclusive, for as long as an index over what they hold is built. Nothing is rewritten.
do $do$
begin
  for slot in 1..8 loop
    -- The first of a list reaches over the ids up to the last one; null: it lies in the reach of another. A message by itself, as every one of before,
    -- reaches over nothing else.
    execute format('alter table posthorn.message_%1$s add column reach int default 0', slot);
    execute format('drop index posthorn.message_%1$s_by_xid', slot);
    execute format(
      'create index message_%1$s_by_xid on posthorn.message_%1$s (((channel::bigint << 32) | lane), xid, id) where reach is not null', slot);
  end loop;
end $do$;
` },
  { name: "migrations/0022_intake.sql", text: `-- The way in: what takes messages from a broker, which of them were taken in, and which fitted nothing.
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
  -- False where it was too large to be kept: then \`body\` is its beginning, or headers are missing.
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
` },
  { name: "migrations/0023_kept.sql", text: `-- What is kept: whose a result is, so that it is found by its key when the log has its message no more; and from when on the log has all that was said.
-- Locks: result, access exclusive, for the building of an index of what new workers write, which is empty; retention and the log's messages, access exclusive, for a moment.

-- Null in results that older workers have written: these are found only while the log has their message.
alter table posthorn.result add column key text, add column contract int;
create index result_by_key on posthorn.result (key) where key is not null;

-- What was said before may have gone with a segment; null where none has gone since this is written down.
alter table posthorn.retention add column forgotten_until timestamptz;

-- Of keys that are longer no entry of an index can be made: a reader could neither park nor end such a message. Producers are held to it before;
-- whoever has a producer's rights may call what writes without that.
do $check$ begin
  for slot in 1..8 loop
    execute format('alter table posthorn.message_%1$s add constraint message_%1$s_key_length check (octet_length(key) <= 512) not valid', slot);
  end loop;
end $check$;
` },
  { name: "migrations/0024_pushed.sql", text: `-- A broker that is pushed to: every worker runs its intake, and holds it by a row of its own.
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
` },
  { name: "migrations/0025_refused.sql", text: `-- What those that are pushed to have refused, and from when on an alert says it; and from how many invalid messages on one says that.
-- Locks: intake and intake_holder, access exclusive: columns of a few rows, for a moment. Nothing of the log.

-- Bounds are null where only a library has declared the intake that does not know them: then there is no alert.
alter table posthorn.intake add column refused_bound bigint, add column invalid_bound bigint,
  -- By holders that are gone.
  add column refused bigint not null default 0;

alter table posthorn.intake_holder
  -- Since it began to hold the intake.
  add column refused bigint not null default 0,
  -- Of what looked like a sender that means this intake, without a long pause in between; when the last was refused, and why. Null while none is.
  add column refused_now bigint, add column refused_at timestamptz, add column refusal text;
` },
  { name: "migrations/0026_identity.sql", text: `-- What fits nothing is known by its identity and by its content: the same id with another content is another message.
-- Locks: intake_invalid, access exclusive: a column without a default, for a moment. Nothing of the log.

-- What it would be taken in under; its own \`mark\` is another one. Null where it has no identity, and in entries of before, whose mark is their identity.
alter table posthorn.intake_invalid add column identity uuid;
` },
  { name: "migrations/0027_renamed.sql", text: `-- Under which names the inbox knows what an intake took in, where that is not the name of the intake alone: it was renamed.
-- Locks: operation, access exclusive: what operators did is looked at once, for a moment. Nothing of the log.

create table posthorn.inbox_name (
  -- What marks are made of. An intake without a row has its own name. A name is one intake's for good: under the same one of two the inbox would take what
  -- is one's for the other's.
  name text primary key,
  -- By name, since marks outlive an intake that is removed.
  intake text not null,
  -- Null: what is taken in now is marked by it. Else it was that of another intake, and what came under it is recognised until then.
  until timestamptz
);
create unique index inbox_name_now on posthorn.inbox_name (intake) where until is null;

alter table posthorn.operation drop constraint operation_verb_check,
  add constraint operation_verb_check check (verb in ('pause', 'resume', 'purge', 'redrive', 'discard', 'replay', 'erase', 'remove', 'rename'));
` },
  { name: "migrations/0028_other_types.sql", text: `-- Which type an intake passed over last because no contract has it, and when: a prefix that is mistyped is seen.
-- Locks: intake and intake_holder, access exclusive: columns without a default of a few rows, for a moment. Nothing of the log.

-- Null while none was, and where only a library has written that does not say it.
alter table posthorn.intake add column skipped_type text, add column skipped_at timestamptz;
alter table posthorn.intake_holder add column skipped_type text, add column skipped_at timestamptz;
` },
  { name: "functions/01_slots.sql", text: `-- slot_branches(body): the body for each slot of the ring, as branches of a CASE.
create or replace function posthorn.slot_branches(p_body text) returns text
language sql immutable as $$
  select string_agg(format('when %s then %s', slot, replace(p_body, '{slot}', slot::text)), E'\\n' order by slot) from generate_series(1, 8) slot
$$;

-- by_slot(signature, returns, body): makes posthorn.<signature> from one body for all slots of the ring: {slot} in the body is
-- the number of a slot, and the first argument, p_slot, chooses. The statements inside name their tables directly, so each has a
-- cached plan over one plain table. Not for use at run time.
create or replace function posthorn.by_slot(p_signature text, p_returns text, p_body text) returns void
language plpgsql as $$
begin
  execute format('create or replace function posthorn.%s returns %s language plpgsql as %L', p_signature, p_returns,
    format(E'begin case p_slot\\n%s\\nelse raise exception ''slot %% does not exist'', p_slot using errcode = ''PH099'';\\nend case; end', posthorn.slot_branches(p_body)));
end $$;

-- by_found_slot(signature, returns, declarations, before, body, after): the same for a function that finds the slot by itself: \`before\` sets v_slot. What
-- is one function costs a third less than two of which one calls the other.
create or replace function posthorn.by_found_slot(p_signature text, p_returns text, p_declarations text, p_before text, p_body text, p_after text) returns void
language plpgsql as $$
begin
  execute format('create or replace function posthorn.%s returns %s language plpgsql as %L', p_signature, p_returns,
    format(E'declare v_slot smallint; %s\\nbegin %s\\ncase v_slot\\n%s\\nelse raise exception ''slot %% does not exist'', v_slot using errcode = ''PH099'';\\nend case;\\n%s end',
      p_declarations, p_before, posthorn.slot_branches(p_body), p_after));
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
    if posthorn.is_here(v_ring.system_identifier, v_ring.database) is not true then
      perform posthorn.raise_away();
    end if;
    perform set_config('posthorn.home', v_home, false);
  end if;
  return v_ring;
end $$;

-- plain_plans(): what keeps plans the same whatever the statistics say, until the end of this transaction. Called before any statement
-- whose plan is kept: one that was made while a segment was empty would be kept for a full one. \`work\` sets the
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
-- sees. The floor's list of running transactions does not hold those at or above its xmax, hence the second part. Of a list its first message
-- counts: the others have higher ids.
-- Plan: message_N_by_xid; one probe for each transaction, then a range of the index alone.
select posthorn.by_slot(
  'late_xids_of(p_slot smallint, p_channel int, p_lane int, p_floor pg_snapshot, p_floor_id bigint, p_first_id bigint, p_ceiling pg_snapshot)',
  'xid8[]', $body$
  return (select array_agg(distinct late.xid) from (
    select probe.xid from pg_snapshot_xip(p_floor) running(xid)
      cross join lateral (select m.xid from posthorn.message_{slot} m
        where ((m.channel::bigint << 32) | m.lane) = ((p_channel::bigint << 32) | p_lane) and m.reach is not null
          and m.xid = running.xid and m.id >= p_first_id and m.id <= p_floor_id limit 1) probe
      where pg_visible_in_snapshot(running.xid, p_ceiling)
    union all
    select m.xid from posthorn.message_{slot} m
      where ((m.channel::bigint << 32) | m.lane) = ((p_channel::bigint << 32) | p_lane) and m.reach is not null
        and m.xid >= pg_snapshot_xmax(p_floor) and m.xid < pg_snapshot_xmax(p_ceiling)
        and m.id >= p_first_id and m.id <= p_floor_id and pg_visible_in_snapshot(m.xid, p_ceiling)) late);
$body$);

-- late_page_of: messages of the listed transactions after an id and up to the floor's, by id, as one batch. The lists of a transaction do not
-- overlap, so their order is that of their messages; other transactions' messages lie between.
-- Plan: message_N_by_xid, for each transaction one probe for the list that holds the id, then its lists from there on; message_N_by_id for each list.
-- \`xid = any(…)\` would become a filter over the whole lane.
select posthorn.by_slot(
  'late_page_of(p_slot smallint, p_channel int, p_lane int, p_xids xid8[], p_after bigint, p_upto bigint, p_limit int)',
  'posthorn.batch', $body$
  return (select row(array_agg(m.id), null, string_agg(
      posthorn.item(m.id, m.nonce, {slot}::smallint, m.contract, m.key, m.payload, m.headers, m.published_at, m.expires_at), ','))::posthorn.batch
    from (select late.* from unnest(p_xids) listed(xid)
      cross join lateral (select m.* from posthorn.message_{slot} f
        cross join lateral (select * from posthorn.message_{slot} m
          where m.channel = p_channel and m.lane = p_lane and m.id > greatest(p_after, f.id - 1) and m.id <= least(p_upto, f.id + f.reach) and m.xid = f.xid
          order by m.id limit p_limit) m
        where ((f.channel::bigint << 32) | f.lane) = ((p_channel::bigint << 32) | p_lane) and f.reach is not null and f.xid = listed.xid and f.id <= p_upto
          and f.id >= coalesce((select b.id from posthorn.message_{slot} b
            where ((b.channel::bigint << 32) | b.lane) = ((p_channel::bigint << 32) | p_lane) and b.reach is not null and b.xid = listed.xid and b.id <= p_after
            order by b.id desc limit 1), 0)
        order by f.id, m.id limit p_limit) late
      order by late.id limit p_limit) m);
$body$);

-- newest_claim_of: the position a lane has reached in a slot; null columns when the slot has no claim of the lane.
select posthorn.by_slot('newest_claim_of(p_slot smallint, p_subscription int, p_lane int)', 'posthorn.position stable', $body$
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
--   { missed } when another session is claiming this lane just now, { } when there is nothing; where order is kept { blocked } when the next
--   message must wait for one that runs, { again } when all that was taken waits behind parked keys; else
--   { claim, token, slot, parts?, skipped?, messages: [[id, nonce, slot, contract, key, payload, headers, published_at in ms]] }; \`parts\` of it are
--   written; the ids of \`skipped\` are not of it, though they are in the list.
-- Windows between ticks: a position names a floor tick, a ceiling tick and a place between them. First come the messages that
-- were committed late (at or below the floor's id, unseen by the floor, seen by the ceiling), then those above the floor's id.
-- Every committed message is in exactly one window, because ceilings never go down, snapshots only grow, and pages are read after
-- the snapshot was taken. Must run in a transaction that publishes nothing: its own rows would count as seen; \`work\` has begun it.
-- Raises PH004 (position lost), PH007 (the worker counts as dead).
-- One function for each slot, with few and plain statements: a claim for one message costs as much as one for a hundred, and it is what a message waits for.
select posthorn.by_found_slot('claim(p_subscription int, p_lane int, p_worker bigint, p_limit int)', 'text', $declarations$
  v_held boolean;
  v_free boolean;
  v_alive boolean;
  v_marked boolean;
  v_channel int;
  v_ordering text;
  v_slots smallint[];
  v_read_from bigint;
  v_first_id bigint;
  -- Where the lane stands.
  v_n bigint;
  v_floor bigint;
  v_ceiling bigint;
  v_last_id bigint;
  v_late boolean;
  v_late_xids xid8[];
  -- What its ticks say: up to which id they go, and what they have seen.
  v_floor_upto bigint;
  v_floor_seen pg_snapshot;
  v_upto bigint;
  v_seen pg_snapshot;
  v_opened boolean := false;
  v_left_out boolean := false;
  v_is_late boolean;
  v_took_late boolean := false;
  -- What the late part gave, where the main part of its window is read as well.
  v_late_ids bigint[] := '{}';
  v_late_items text;
  v_late_slots smallint[];
  v_room int;
  v_ids bigint[];
  v_items text;
  v_message_slots smallint[];
  v_keys text[];
  v_batch posthorn.batch;
  v_taken int;
  v_before posthorn.position;
  v_turn posthorn.turn;
  v_ring posthorn.ring;
  v_claim bigint;
  v_token bigint;
  $declarations$, $before$
  -- The worker's as hold_worker does, the lane's against whoever else would claim from it.
  select pg_try_advisory_xact_lock_shared(posthorn.lock_key('worker', p_worker)), pg_try_advisory_xact_lock(posthorn.lock_key('lane', p_subscription, p_lane))
    into v_held, v_free;
  -- From here each statement sees what the previous holders of the locks committed. The ring is read only now: the previous holder may
  -- have opened a window that holds messages of a slot which was not there before.
  select exists (select from posthorn.worker w where w.id = p_worker), exists (select from posthorn.cancel_mark k where k.subscription = p_subscription),
      s.channel, s.ordering, r.slots[greatest(l.read_from - r.first_segment, 0)::int + 1 :], l.read_from, r.first_id, l.slot, l.n, l.floor, l.ceiling, l.last_id, l.late, l.late_xids
    into v_alive, v_marked, v_channel, v_ordering, v_slots, v_read_from, v_first_id, v_slot, v_n, v_floor, v_ceiling, v_last_id, v_late, v_late_xids
    from posthorn.ring r left join posthorn.subscription s on s.id = p_subscription
      left join posthorn.lane l on l.subscription = p_subscription and l.lane = p_lane;
  if not v_held or not v_alive then
    raise exception 'worker % counts as dead; its messages were rescued', p_worker using errcode = 'PH007';
  elsif not v_free then
    return '{"missed":true}';
  elsif v_slot is null then
    raise exception 'subscription % has no position for lane %', p_subscription, p_lane using errcode = 'PH004';
  end if;
  $before$, $body$
  -- Its newest claim, else the base row.
  select coalesce(c.n, v_n), coalesce(c.floor, v_floor), coalesce(c.ceiling, v_ceiling), coalesce(c.last_id, v_last_id), coalesce(c.late, v_late),
      case when c.n is null then v_late_xids else c.late_xids end, t.ceiling_id, t.snapshot
    into v_n, v_floor, v_ceiling, v_last_id, v_late, v_late_xids, v_upto, v_seen
    from (select) base left join lateral (select * from posthorn.claim_{slot} c
      where c.subscription = p_subscription and c.lane = p_lane order by c.n desc limit 1) c on true
      left join posthorn.tick_{slot} t on t.id = coalesce(c.ceiling, v_ceiling);
  if v_late then
    select t.ceiling_id into v_floor_upto from posthorn.tick_{slot} t where t.id = v_floor;
  end if;
  if v_upto is null or v_late and v_floor_upto is null then
    raise exception 'the ticks of subscription %, lane % are gone', p_subscription, p_lane using errcode = 'PH004';
  end if;

  loop
    v_room := p_limit - cardinality(v_late_ids);
    v_is_late := v_late;
    v_took_late := v_late or cardinality(v_late_ids) > 0;
    if v_ordering is not null then
      v_before := row({slot}::smallint, v_n, v_floor, v_ceiling, v_last_id, v_late, v_late_xids);
    end if;
    if v_late then
      select b.ids, b.items, b.slots into v_ids, v_items, v_message_slots
        from posthorn.late_page(v_slots, v_channel, p_lane, v_late_xids, v_last_id, v_floor_upto, p_limit) b;
      v_taken := coalesce(cardinality(v_ids), 0);
      if v_taken < p_limit then
        v_late := false;
        v_late_xids := null;
        v_last_id := v_floor_upto;
      else
        v_last_id := v_ids[p_limit];
      end if;
    elsif v_last_id < v_upto then
      -- As page; of the one slot that holds data without a call.
      if v_slots = array[{slot}]::smallint[] then
        select array_agg(m.id), string_agg(
            posthorn.item(m.id, m.nonce, {slot}::smallint, m.contract, m.key, m.payload, m.headers, m.published_at, m.expires_at), ','), null,
            array_agg(m.key) filter (where v_ordering is not null)
          into v_ids, v_items, v_message_slots, v_keys
          from (select * from posthorn.message_{slot} m
            where m.channel = v_channel and m.lane = p_lane and m.id > v_last_id and m.id <= v_upto and pg_visible_in_snapshot(m.xid, v_seen)
            order by m.id limit v_room) m;
      else
        select b.ids, b.items, b.slots into v_ids, v_items, v_message_slots
          from posthorn.page(v_slots, v_channel, p_lane, v_last_id, v_upto, v_seen, v_room) b;
      end if;
      v_taken := coalesce(cardinality(v_ids), 0);
      v_last_id := case when v_taken < v_room then v_upto else v_ids[v_room] end;
    elsif v_opened then
      -- Where all that was found had been cancelled, the position moves on all the same.
      exit when v_left_out;
      return '{}';
    else
      -- The window is done. Its ceiling is the floor of the next, whose id is read before its snapshot is taken, in an earlier
      -- statement: a message above the id may be seen and waits for the window after, one below it is late if it is unseen.
      -- The slots are those that the same snapshot sees: it sees no message whose slot it does not know. Those that the lane has done with are
      -- left out: history costs nothing.
      v_floor := v_ceiling;
      v_floor_upto := v_upto;
      v_floor_seen := v_seen;
      v_upto := greatest(v_upto, coalesce(pg_sequence_last_value('posthorn.message_id'), 0));
      select pg_current_snapshot(), r.slots[greatest(v_read_from - r.first_segment, 0)::int + 1 :] into v_seen, v_slots from posthorn.ring r;
      v_opened := true;
      -- Nearly always nobody was writing then, and a glance at whoever began since tells that nobody is late.
      if v_slots = array[{slot}]::smallint[] and pg_snapshot_xmin(v_floor_seen) = pg_snapshot_xmax(v_floor_seen) and not exists (
          select from posthorn.message_{slot} m where ((m.channel::bigint << 32) | m.lane) = ((v_channel::bigint << 32) | p_lane) and m.reach is not null
            and m.xid >= pg_snapshot_xmax(v_floor_seen) and m.xid < pg_snapshot_xmax(v_seen) and m.id >= v_first_id and m.id <= v_floor_upto) then
        v_late_xids := null;
      else
        v_late_xids := posthorn.late_xids(v_slots, v_channel, p_lane, v_floor_seen, v_floor_upto, v_first_id, v_seen);
      end if;
      v_late := v_late_xids is not null;
      v_last_id := case when v_late then v_first_id - 1 else v_floor_upto end;
      v_taken := 0;
    end if;
    if v_marked and v_taken > 0 and v_ordering is null then
      select b.ids, b.items, b.slots into v_ids, v_items, v_message_slots
        from posthorn.without_marked(p_subscription, row(v_ids, v_message_slots, v_items)::posthorn.batch) b;
      v_left_out := v_left_out or cardinality(v_ids) < v_taken;
      v_taken := cardinality(v_ids);
    end if;
    if v_is_late and not v_late and v_taken > 0 and v_last_id < v_upto and v_ordering is null then
      -- There is room for the main part of the same window: where many commit at once, nearly every window has both.
      v_late_ids := v_ids;
      v_late_items := v_items;
      v_late_slots := v_message_slots;
      continue;
    end if;
    exit when v_taken > 0 or cardinality(v_late_ids) > 0;
  end loop;
  if cardinality(v_late_ids) > 0 then
    v_ids := v_late_ids || v_ids;
    v_items := concat_ws(',', v_late_items, v_items);
    v_message_slots := v_late_slots || v_message_slots;
    v_taken := cardinality(v_ids);
  end if;

  if v_ordering is not null then
    v_batch := row(v_ids, v_message_slots, v_items);
    v_turn := posthorn.in_order(v_slots, p_subscription, v_channel, p_lane, v_batch, v_keys, v_marked);
    if v_turn.taken = 0 then
      return '{"blocked":true}';
    elsif v_turn.taken < v_taken then
      v_late := v_before.late;
      v_late_xids := v_before.late_xids;
      v_last_id := v_ids[v_turn.taken];
    end if;
  end if;
  if v_opened then
    insert into posthorn.tick_{slot} (id, ceiling_id, snapshot, at) values (nextval('posthorn.tick_id'), v_upto, v_seen, clock_timestamp())
      returning id into v_ceiling;
  end if;
  if v_message_slots is null and v_slots[1] <> {slot} then
    v_message_slots := array_fill(v_slots[1], array[v_taken]);
    v_turn.message_slots := v_message_slots[1 : cardinality(v_turn.messages)];
  end if;
  if v_ordering is not null then
    v_claim := nextval('posthorn.claim_id');
    v_token := (random() * 9e18)::bigint;
    select * into v_ring from posthorn.ring;
    v_ring.slots := v_slots;
    perform posthorn.write_turn(v_claim, v_token, p_worker, p_subscription, v_channel, p_lane,
      row({slot}::smallint, v_n + 1, v_floor, v_ceiling, v_last_id, v_late, v_late_xids)::posthorn.position, v_took_late, v_ring, v_turn);
    return case when v_turn.ids is null then '{"again":true}' else concat('{', case when v_took_late and not v_late and v_last_id < v_upto then '"more":true,' end,
      '"claim":"', v_claim, '","token":"', v_token, '","slot":', {slot}, ',"parts":', case when v_turn.parked is null then 0 else 1 end,
      ',"skipped":' || to_json(v_turn.skipped::text[]), ',"messages":[', v_turn.items, ']}') end;
  end if;
  insert into posthorn.claim_{slot} (id, n, token, worker, floor, ceiling, last_id, at, subscription, lane, late, took_late, late_xids, messages, message_slots)
    values (nextval('posthorn.claim_id'), v_n + 1, (random() * 9e18)::bigint, p_worker, v_floor, v_ceiling, v_last_id, clock_timestamp(), p_subscription,
      p_lane, v_late, v_took_late, v_late_xids, coalesce(v_ids, '{}'), v_message_slots)
    returning id, token into v_claim, v_token;
  if v_taken = 0 then
    perform posthorn.settle_part_of({slot}::smallint, v_claim, v_token, 1, null, true, '{}');
    return '{}';
  end if;
  return concat('{"claim":"', v_claim, '","token":"', v_token, '","slot":', {slot}, ',"messages":[', v_items, ']}');
  $body$, '');

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
language plpgsql stable as $$
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
` },
  { name: "functions/05_append.sql", text: `-- Writing messages into the slot of the ring that is open, in the caller's transaction. In PL/pgSQL, whose plans are kept: an insert that a client
-- sends as text is planned each time, which costs several times the insert.

-- An address is what producers name as the channel of a message: the id of the channel, and above its 21 bits the number of its lanes less one. So a
-- channel with one lane, which most are, is its id.
create or replace function posthorn.address(p_channel int, p_lanes int) returns int
language sql immutable as $$ select p_channel | ((p_lanes - 1) << 21) $$;

-- lane_in(address, key): the lane of a message: the same for all of a key. Inlined where it is called.
create or replace function posthorn.lane_in(p_address int, p_key text) returns int
language sql immutable as $$
  select case when p_address < 2097152 or p_key is null then 0 else (((hashtextextended(p_key, 0) % ((p_address >> 21) + 1)) + (p_address >> 21) + 1) % ((p_address >> 21) + 1))::int end
$$;

-- open_slot(home): the slot that is written to. \`home\` names the database that the ids of contracts are from, where somebody else brought the
-- transaction; then a number below zero says why nothing may be written: -1 not the home of its log, -2 another database. Null in transactions of the
-- library's own, which must fail as a whole: raises PH003 (moved).
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
    if posthorn.is_here(nullif(split_part(v_home, '/', 1), '')::bigint, nullif(split_part(v_home, '/', 2), '')::oid) is not true then
      if p_home is null then
        perform posthorn.raise_away();
      end if;
      return -1;
    end if;
    perform set_config('posthorn.home', v_home, false);
  end if;
  return case when p_home <> v_home then -2 else v_slot end;
end $$;

-- append_one_of: writes one message and returns its id.
select posthorn.by_slot(
  'append_one_of(p_slot smallint, p_nonce bigint, p_channel int, p_contract int, p_key text, p_payload json, p_headers json)', 'bigint', $body$
  declare v_id bigint;
  begin
    insert into posthorn.message_{slot} (xid, id, nonce, published_at, channel, lane, contract, key, payload, headers)
      values (pg_current_xact_id(), nextval('posthorn.message_id'), p_nonce, clock_timestamp(), p_channel & 2097151, posthorn.lane_in(p_channel, p_key), p_contract,
        p_key, p_payload, p_headers)
      returning id into v_id;
    return v_id;
  end;
$body$);

-- append_of: writes messages, whose columns are lists of the same length, and returns their ids in that order. Null for \`keys\` or \`headers\` means none
-- has any; one channel and contract stand for all. Messages of one lane are a list: their ids are drawn before, within the transaction, so that the
-- first row can say how far it reaches. Elsewhere each draws its id when it is made, in the order of the lists, and reaches over itself alone.
select posthorn.by_slot(
  'append_of(p_slot smallint, p_nonces bigint[], p_channels int[], p_contracts int[], p_keys json, p_payloads json, p_headers json)', 'bigint[]', $body$
  declare
    v_xid xid8 := pg_current_xact_id();
    v_ids bigint[];
    v_first bigint;
    v_reach int;
  begin
    -- Above its 21 bits an address has the number of lanes.
    if cardinality(p_channels) = 1 and p_channels[1] < 2097152 then
      v_ids := array(select nextval('posthorn.message_id') from generate_series(1, cardinality(p_nonces)));
      v_first := v_ids[1];
      v_reach := v_ids[cardinality(v_ids)] - v_first;
      if p_keys is null and p_headers is null and cardinality(p_contracts) = 1 then
        insert into posthorn.message_{slot} (xid, id, nonce, published_at, channel, lane, contract, key, payload, headers, reach)
          select v_xid, r.id, r.nonce, clock_timestamp(), p_channels[1], 0, p_contracts[1], null, r.payload, null, case when r.id = v_first then v_reach end
            from rows from (unnest(v_ids), unnest(p_nonces), json_array_elements(p_payloads)) r(id, nonce, payload);
      else
        insert into posthorn.message_{slot} (xid, id, nonce, published_at, channel, lane, contract, key, payload, headers, reach)
          select v_xid, r.id, r.nonce, clock_timestamp(), p_channels[1], 0, coalesce(r.contract, p_contracts[1]), r.key, r.payload,
              case when json_typeof(r.headers) <> 'null' then r.headers end, case when r.id = v_first then v_reach end
            from rows from (unnest(v_ids), unnest(p_nonces), unnest(p_contracts), json_array_elements_text(p_keys), json_array_elements(p_payloads),
              json_array_elements(p_headers)) r(id, nonce, contract, key, payload, headers);
      end if;
    else
      with written as (
        insert into posthorn.message_{slot} (xid, id, nonce, published_at, channel, lane, contract, key, payload, headers)
          select v_xid, nextval('posthorn.message_id'), r.nonce, clock_timestamp(), coalesce(r.channel, p_channels[1]) & 2097151,
            posthorn.lane_in(coalesce(r.channel, p_channels[1]), r.key), coalesce(r.contract, p_contracts[1]), r.key, r.payload, case when json_typeof(r.headers) <> 'null' then r.headers end
          from rows from (unnest(p_nonces), unnest(p_channels), unnest(p_contracts), json_array_elements_text(p_keys), json_array_elements(p_payloads),
            json_array_elements(p_headers)) r(nonce, channel, contract, key, payload, headers)
          returning id)
        select array_agg(id) into v_ids from written;
    end if;
    return v_ids;
  end;
$body$);

-- write_one(home, nonce, channel, contract, key, payload, headers): appends one message, as a producer does. Returns its id and the id of the
-- transaction as text, separated by a blank; or why nothing was written: a refusal fails no transaction of a caller who named a home.
select posthorn.by_found_slot(
  'write_one(p_home text, p_nonce bigint, p_channel int, p_contract int, p_key text, p_payload json, p_headers json)', 'text', $declarations$
  v_home text;
  v_id bigint;
  $declarations$, $before$
  select r.slot, concat(r.system_identifier, '/', r.database) into v_slot, v_home from posthorn.ring r;
  -- As in open_slot, which is asked where the answer is not plain.
  if p_home <> v_home or current_setting('posthorn.home', true) is distinct from v_home then
    v_slot := posthorn.open_slot(p_home);
    if v_slot < 0 then
      return case v_slot when -1 then posthorn.moved_away() else 'elsewhere' end;
    end if;
  end if;
  $before$, $body$
    insert into posthorn.message_{slot} (xid, id, nonce, published_at, channel, lane, contract, key, payload, headers)
      values (pg_current_xact_id(), nextval('posthorn.message_id'), p_nonce, clock_timestamp(), p_channel & 2097151, posthorn.lane_in(p_channel, p_key), p_contract,
        p_key, p_payload, p_headers)
      returning id into v_id;
  $body$, $after$
  return concat(v_id, ' ', pg_current_xact_id());
  $after$);

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
    return case v_slot when -1 then posthorn.moved_away() else 'elsewhere' end;
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
  v_slot smallint := posthorn.open_slot(null);
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
    select pg_current_xact_id(), nextval('posthorn.message_id'), r.n, clock_timestamp(), r.ch & 2097151, posthorn.lane_in(r.ch, r.k), r.c, r.k, coalesce(r.p, 'null'::json), r.h
    from json_to_recordset(p_messages) as r(n bigint, ch int, c int, k text, p json, h json)
    returning nonce, id)
  select json_agg(json_build_array(nonce::text, id::text)) into v_ids from written;
  return v_ids;
  end;
$body$);

-- said(name, kind, payload, key, headers, options, version): what send and publish share. Looks the contract up, the newest version where none is
-- named, and holds the caller to it. Raises PH010 (unknown contract), PH011 (wrong kind), PH012 (key), PH013 (payload is no JSON for us), PH014 (too large), PH015 (options),
-- PH040 (the queue is full).
create or replace function posthorn.said(
  p_name text, p_kind posthorn.kind, p_payload json, p_key text, p_headers json, p_options json default null,
  p_version int default null
) returns text
language plpgsql as $$
declare
  v_contract posthorn.contract;
  v_nonce bigint := posthorn.random_bigint();
  v_place json;
begin
  select * into v_contract from posthorn.contract where name = p_name and (p_version is null or version = p_version) order by version desc limit 1;
  if v_contract.id is null and exists (select from posthorn.contract where name = p_name) then
    raise exception '"%" has no version %; known are %', p_name, p_version, (select string_agg(version::text, ', ' order by version) from posthorn.contract
      where name = p_name) using errcode = 'PH010', hint = 'A version is registered by the first TypeScript process that says it or works on it.';
  end if;
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
  if p_kind = 'command' then
    perform posthorn.check_backlog(v_contract.channel);
  end if;
  if p_options is not null then
    v_place := posthorn.say_one(posthorn.open_slot(null), json_build_object('n', v_nonce::text, 'ch', v_contract.channel, 'c', v_contract.id, 'k', p_key,
      'p', p_payload, 'h', p_headers), p_options, null);
    return posthorn.public_id((v_place ->> 1)::bigint, (v_place ->> 2)::bigint);
  end if;
  return posthorn.public_id(posthorn.append_one_of(posthorn.open_slot(null), v_nonce,
    posthorn.address(v_contract.channel, (select c.lanes from posthorn.channel c where c.id = v_contract.channel)), v_contract.id, p_key, p_payload, p_headers), v_nonce);
end $$;

-- publish(name, payload, key, headers, version): states a fact in the caller's transaction; returns the message's id. Visible after COMMIT. Without a
-- version the payload counts as one of the newest that is registered: name it, so that a deployment does not change what yours is taken for.
create or replace function posthorn.publish(name text, payload json, key text default null, headers json default null, version int default null) returns text
language sql volatile as $$ select posthorn.said($1, 'event', $2, $3, $4, null, $5) $$;

-- send(name, payload, key, headers, options, version): asks for something in the caller's transaction; returns the message's id, or that of the message that
-- stands for it. Options are JSON { delayMs, runAt, expiresInMs, priority, dedupe: { key, mode, windowMs, maxWaitMs } }; see options_of. The
-- version as in publish.
create or replace function posthorn.send(
  name text, payload json, key text default null, headers json default null, options json default null, version int default null
) returns text
language sql volatile as $$ select posthorn.said($1, 'command', $2, $3, $4, $5, $6) $$;

-- Those with fewer parameters would make every short call ambiguous. Who had been granted one gets the new one.
do $do$
declare
  v_old record;
  v_role name;
begin
  for v_old in select o.old::regprocedure as old, o.new from (values
      (to_regprocedure('posthorn.send(text,json,text,json)'), 'posthorn.send(text, json, text, json, json, int)'),
      (to_regprocedure('posthorn.send(text,json,text,json,json)'), 'posthorn.send(text, json, text, json, json, int)'),
      (to_regprocedure('posthorn.publish(text,json,text,json)'), 'posthorn.publish(text, json, text, json, int)')) o(old, new)
      where o.old is not null loop
    for v_role in select r.rolname from pg_proc p cross join lateral aclexplode(p.proacl) a join pg_roles r on r.oid = a.grantee
        where p.oid = v_old.old and a.privilege_type = 'EXECUTE' and a.grantee <> p.proowner loop
      execute format('grant execute on function %s to %I', v_old.new, v_role);
    end loop;
    execute format('drop function %s', v_old.old);
  end loop;
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
  if p_part = 1 then
    insert into posthorn.settlement_{slot} (claim, part, outcome, closes, at, messages)
      select p_claim, 1, p_outcome, p_closes, clock_timestamp(), p_messages
      where exists (select from posthorn.claim_{slot} c where c.id = p_claim and c.token = p_token offset 0) on conflict do nothing;
  else
    insert into posthorn.settlement_{slot} (claim, part, outcome, closes, at, messages)
      select p_claim, p_part, p_outcome, p_closes, clock_timestamp(), p_messages
      where exists (select from posthorn.claim_{slot} c where c.id = p_claim and c.token = p_token offset 0)
        and exists (select from posthorn.settlement_{slot} t where t.claim = p_claim and t.part = p_part - 1 and not t.closes offset 0)
      on conflict do nothing;
  end if;
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

-- claim_of: a claim by its id, whoever holds it; null columns when it is gone.
select posthorn.by_slot('claim_of(p_slot smallint, p_claim bigint)', 'posthorn.claim_1', $body$
  return (select row(c.*)::posthorn.claim_1 from posthorn.claim_{slot} c where c.id = p_claim);
$body$);

-- end_in_transaction: the last statement of a handler's transaction: ends the delivery that the holder's token proves, and writes
-- what the handler said. \`p_deferred\` is null for a delivery from the log. \`p_started\` is what the
-- transaction was marked with: posthorn.mark, or now() at BEGIN in seconds as text.
-- Returns [[nonce, id]] of what was said. Raises PH005 (claim lost), PH006 (the handler ended the transaction).
select posthorn.by_found_slot(
  'end_in_transaction(p_subscription int, p_message bigint, p_message_slot smallint, p_delivery int, p_claim bigint, p_claim_slot smallint, p_deferred bigint, p_token bigint, p_started text, p_say json)',
  'json', '', $before$
  if coalesce(nullif(current_setting('posthorn.mark', true), ''), extract(epoch from now())::text) <> p_started then
    raise exception 'the transaction that the handler was given has ended' using errcode = 'PH006';
  elsif p_deferred is not null or p_say is not null or p_message_slot <> p_claim_slot then
    return posthorn.end_with(p_subscription, p_message, p_message_slot, p_delivery, p_claim, p_claim_slot, p_deferred, p_token, p_say);
  end if;
  -- Most messages lie in the slot of their claim, and their handlers said nothing: one statement, whose plan needs no more than this.
  perform set_config('enable_seqscan', 'off', true);
  v_slot := p_claim_slot;
  $before$, $body$
  insert into posthorn.ending_{slot} (message, claim, worker, at, subscription, delivery, outcome)
    select p_message, p_claim, held.worker, clock_timestamp(), p_subscription, p_delivery, 'succeeded'
    from (select c.worker from posthorn.claim_{slot} c where c.id = p_claim and c.token = p_token offset 0) held
    on conflict do nothing;
  $body$, $after$
  if not found then
    perform posthorn.raise_lost(json_build_object('ended', p_message::text));
  end if;
  return null;
  $after$);

-- end_with: the same for all others. Nothing of the handler comes after it, so nothing of it is affected by how plans are made. Where the message
-- lies in another slot than its claim, that slot may have been truncated under a stale holder, with the ending that the rescuer wrote. A message
-- and its endings go together, so whoever finds the message finds its end; and while this transaction has looked at it, it cannot go.
create or replace function posthorn.end_with(
  p_subscription int, p_message bigint, p_message_slot smallint, p_delivery int,
  p_claim bigint, p_claim_slot smallint, p_deferred bigint, p_token bigint, p_say json
) returns json
language plpgsql as $$
declare
  v_claim posthorn.claim_1;
begin
  -- What a handler said can be too long for one packet with COMMIT. A process that is stopped between them lets go of the rows' locks soon, however
  -- long a handler may run. Zero: a database without the limit, which PGlite is.
  perform posthorn.plain_plans(), case when current_setting('idle_in_transaction_session_timeout') <> '0'
    then set_config('idle_in_transaction_session_timeout', '5s', true) end;
  if p_deferred is null then
    v_claim := posthorn.claim_of(p_claim_slot, p_claim);
    if v_claim.token is distinct from p_token
      or p_message_slot <> p_claim_slot and not posthorn.is_written_of(p_message_slot, (select s.channel from posthorn.subscription s
        where s.id = p_subscription), v_claim.lane, p_message)
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
  -- The fence was the row; the ending is for the history.
  perform posthorn.end_of(posthorn.slot_for_end(v_row), v_row.subscription, v_row.message, v_row.delivery, p_outcome, null, v_row.worker);
  return v_row;
end $$;

-- slot_for_end(row): where the end of a delivery from \`deferred\` is written: where the log is open now; of a first delivery, which was moved there
-- while it ran, where its message lies, since its first hold may end it there as well. One that was scheduled was in no claim.
create or replace function posthorn.slot_for_end(p_row posthorn.deferred) returns smallint
language plpgsql as $$
begin
  return coalesce(case when p_row.delivery = 1 and p_row.lane >= 0 then (posthorn.where_in_log(p_row.message, p_row.nonce)).slot end, (select slot from posthorn.ring));
end $$;

-- ids(list): a JSON list of ids as an array; null for none.
create or replace function posthorn.ids(p_list json) returns bigint[]
language plpgsql immutable strict as $$
begin
  return array(select i::bigint from json_array_elements_text(p_list) i);
end $$;

-- settle_part(part): settle_part_of with a part as conclude takes it. The claim in a list when it could not be written, else null.
create or replace function posthorn.settle_part(p_part json) returns bigint[]
language plpgsql as $$
begin
  if posthorn.settle_part_of((p_part ->> 'slot')::smallint, (p_part ->> 'claim')::bigint, (p_part ->> 'token')::bigint, (p_part ->> 'part')::int,
      (p_part ->> 'outcome')::posthorn.outcome, (p_part ->> 'closes')::boolean, posthorn.ids(p_part -> 'messages')) then
    return null;
  end if;
  return array[(p_part ->> 'claim')::bigint];
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
    -- Where messages come one by one it is one part, and reading it from a query costs as much as writing it.
    if json_array_length(p_parts) = 1 then
      v_lost := posthorn.settle_part(p_parts -> 0);
    else
      for v_part in select * from json_array_elements(p_parts) loop
        v_lost := v_lost || posthorn.settle_part(v_part);
      end loop;
    end if;
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
-- at-most-once subscription are on disk when it returns. Where a queue has lanes for priorities, or a topic several, the most urgent one is claimed from.
-- Raises what own_transaction, conclude and claim raise.
create or replace function posthorn.work(p_subscription int, p_lane int, p_worker bigint, p_limit int, p_parts json) returns text
language plpgsql as $$
declare
  v_guarded boolean;
  v_limited boolean;
  v_classes boolean;
  v_durable boolean;
  v_home text;
  v_set text;
begin
  select s.has_breaker or s.paused_at is not null, s.limited, exists (select from posthorn.lane l where l.subscription = s.id and l.lane > 0), s.idempotency = 'at-most-once',
      concat(r.system_identifier, '/', r.database),
      concat(set_config('synchronous_commit', case s.idempotency when 'at-most-once' then 'on' else 'off' end, true), set_config('enable_seqscan', 'off', true),
        set_config('enable_bitmapscan', 'off', true), set_config('enable_sort', 'off', true), set_config('jit', 'off', true),
        set_config('plan_cache_mode', 'force_generic_plan', true))
    into v_guarded, v_limited, v_classes, v_durable, v_home, v_set
    from posthorn.ring r left join posthorn.subscription s on s.id = p_subscription;
  -- The rest of what own_transaction sees to: it was found so where this session has been here before.
  if current_setting('posthorn.home', true) is distinct from v_home or current_setting('transaction_isolation') <> 'read committed' then
    perform posthorn.own_transaction(v_durable);
  end if;
  if p_parts is not null then
    perform posthorn.conclude(p_parts);
  end if;
  if v_guarded then
    return posthorn.claim_guarded(p_subscription, case when not v_classes then p_lane end, p_worker, p_limit, v_limited);
  elsif v_limited then
    return posthorn.claim_limited(p_subscription, case when not v_classes then p_lane end, p_worker, p_limit);
  elsif v_classes then
    return posthorn.claim_by_priority(p_subscription, p_worker, p_limit);
  end if;
  return posthorn.claim(p_subscription, p_lane, p_worker, p_limit);
end $$;

-- conclude_one(end): one delivery's end and its consequence:
--   { subscription, message, nonce, messageSlot, delivery, outcome, entry, ends?, deferred?, token?, claim?, claimSlot?,
--     next: { defer: { delayMs, attempts, crashes } } | { dead: { reason, keepMs, attempts, crashes } } | { invalid: issues } | { result: { text, keepMs } } | null }
-- \`ends\` true writes an ending for a delivery from the log (transaction mode); otherwise a part in the same call has ended it.
-- \`stepped\`: it succeeded in a run with steps, which are not needed any more.
create or replace function posthorn.conclude_one(p_end json) returns void
language plpgsql as $$
declare
  v_claim posthorn.claim_1;
  v_row posthorn.deferred;
  v_outcome posthorn.outcome := (p_end ->> 'outcome')::posthorn.outcome;
begin
  if p_end ->> 'deferred' is null and not coalesce((p_end ->> 'ends')::boolean, false) then
    perform posthorn.check_parted(p_end, v_outcome);
  end if;
  if p_end #> '{next,result}' is not null and p_end ->> 'deferred' is null then
    perform posthorn.keep_result((p_end ->> 'subscription')::int, (p_end ->> 'message')::bigint, (p_end ->> 'nonce')::bigint, p_end #> '{next,result}');
    if p_end -> 'stepped' is not null then
      perform posthorn.forget_steps((p_end ->> 'subscription')::int, (p_end ->> 'message')::bigint);
    end if;
    return;
  end if;
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
    elsif coalesce((p_end ->> 'ends')::boolean, false) and (not posthorn.is_written_of((p_end ->> 'messageSlot')::smallint,
        (select s.channel from posthorn.subscription s where s.id = v_claim.subscription), v_claim.lane, (p_end ->> 'message')::bigint)
      or not posthorn.end_of((p_end ->> 'messageSlot')::smallint, v_claim.subscription,
        (p_end ->> 'message')::bigint, 1, v_outcome, v_claim.id, v_claim.worker)) then
      perform posthorn.raise_lost(json_build_object('ended', p_end ->> 'message'));
    end if;
    if p_end -> 'stepped' is not null then
      -- It succeeded, and a part has ended it.
      perform posthorn.forget_steps(v_claim.subscription, (p_end ->> 'message')::bigint);
      return;
    end if;
    v_row := posthorn.delivery_of(v_claim.subscription, v_claim.lane, (p_end ->> 'message')::bigint, (p_end ->> 'messageSlot')::smallint);
  end if;
  if p_end -> 'stepped' is not null then
    perform posthorn.forget_steps(v_row.subscription, v_row.message);
  end if;
  if p_end ->> 'entry' is not null then
    v_row.history := posthorn.with_entry(v_row.history, p_end -> 'entry');
  end if;
  perform posthorn.follow(v_row, v_outcome, p_end -> 'next');
end $$;

-- check_parted: that a part of its claim has ended a delivery so: the part was fenced, and the claim's row and token outlive a rescue, whose part says
-- otherwise. Raises PH005.
create or replace function posthorn.check_parted(p_end json, p_outcome posthorn.outcome) returns void
language plpgsql as $$
begin
  if not exists (select from posthorn.parts_of((p_end ->> 'claimSlot')::smallint, (p_end ->> 'claim')::bigint) t
      where t.outcome = p_outcome and (t.messages is null or (p_end ->> 'message')::bigint = any (t.messages))) then
    perform posthorn.raise_lost(json_build_object('claims', json_build_array(p_end ->> 'claim')));
  end if;
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

-- with_entry: the history with one more attempt; of a long one the first and the newest stay. A handler that puts its message off again and
-- again has one entry for all of it, which counts the times: it does not push the failures out.
create or replace function posthorn.with_entry(p_history json, p_entry json) returns json
language sql immutable as $$
  select case when p_entry ->> 'outcome' = 'postponed' and p_history -> -1 ->> 'outcome' = 'postponed'
    then ((p_history::jsonb - -1) || jsonb_build_array(p_entry::jsonb || jsonb_build_object(
      'times', coalesce((p_history -> -1 ->> 'times')::int, 1) + 1,
      'firstAt', coalesce(p_history -> -1 ->> 'firstAt', p_history -> -1 ->> 'endedAt'))))::json
    when json_array_length(p_history) >= 50
    then ((p_history::jsonb - 1) || jsonb_build_array(p_entry::jsonb))::json
    else (p_history::jsonb || jsonb_build_array(p_entry::jsonb))::json end
$$;

-- follow(row, outcome, next): the consequence of an ended delivery. The next delivery exists only once this one has ended.
create or replace function posthorn.follow(p_row posthorn.deferred, p_outcome posthorn.outcome, p_next json) returns void
language plpgsql as $$
declare
  v_defer json := p_next -> 'defer';
  v_dead json := p_next -> 'dead';
  v_ordering text := case when p_row.key is not null then (select s.ordering from posthorn.subscription s where s.id = p_row.subscription) end;
  v_cancelled boolean;
begin
  v_cancelled := posthorn.cancel_instead(p_row, p_next);
  -- Whatever became of it, it does not run any more.
  if p_row.once_more and p_row.id is not null then
    perform posthorn.let_go(p_row.id);
  end if;
  if v_cancelled then
    return;
  end if;
  if v_defer is not null then
    p_row.due_at := least(clock_timestamp() + (v_defer ->> 'delayMs')::float8 * interval '1 ms', p_row.expires_at);
    -- What comes from outside of its key's order enters it when it is due.
    if v_ordering is not null and (p_row.place is not null or v_defer -> 'outside' is null) then
      p_row := posthorn.turn_of(p_row);
    end if;
    insert into posthorn.deferred (subscription, due_at, delivery, attempts, crashes, reason, message, nonce, channel, lane, contract, key, payload,
        headers, published_at, history, place, expires_at, priority, once_more)
      values (p_row.subscription, p_row.due_at, p_row.delivery + 1,
        (v_defer ->> 'attempts')::int, (v_defer ->> 'crashes')::int, p_outcome, p_row.message, p_row.nonce, p_row.channel, p_row.lane,
        p_row.contract, p_row.key, p_row.payload, p_row.headers, p_row.published_at, p_row.history, p_row.place, p_row.expires_at,
        coalesce(p_row.priority, 0), coalesce(p_row.once_more, false))
      on conflict (subscription, message) do update set due_at = excluded.due_at, delivery = excluded.delivery, attempts = excluded.attempts,
        crashes = excluded.crashes, reason = excluded.reason, history = excluded.history, place = excluded.place, token = null, worker = null, taken_at = null;
    return;
  end if;
  if p_next -> 'result' is not null then
    perform posthorn.keep_result(p_row.subscription, p_row.message, p_row.nonce, p_next -> 'result');
    return;
  end if;
  if v_dead is null and p_next -> 'invalid' is null then
    return;
  end if;
  -- One that ended badly lies in the way of those behind it, or does not.
  p_row.place := case v_ordering when 'park' then coalesce(p_row.place, nextval('posthorn.place')) end;
  if p_row.place is not null then
    perform posthorn.park(p_row.subscription, p_row.key);
  end if;
  if v_dead is not null then
    insert into posthorn.dead_letter (subscription, died_at, keep_until, reason, delivery, attempts, crashes, message, nonce, channel, lane,
        contract, key, payload, headers, published_at, history, place, priority)
      values (p_row.subscription, clock_timestamp(), clock_timestamp() + (v_dead ->> 'keepMs')::float8 * interval '1 ms', v_dead ->> 'reason',
        p_row.delivery, (v_dead ->> 'attempts')::int, (v_dead ->> 'crashes')::int, p_row.message, p_row.nonce, p_row.channel, p_row.lane,
        p_row.contract, p_row.key, p_row.payload, p_row.headers, p_row.published_at, p_row.history, p_row.place, p_row.priority);
  elsif p_next -> 'invalid' is not null then
    insert into posthorn.invalid (subscription, found_at, issues, delivery, message, nonce, channel, lane, contract, key, payload, headers,
        published_at, history, place, priority)
      values (p_row.subscription, clock_timestamp(), p_next -> 'invalid', p_row.delivery, p_row.message, p_row.nonce, p_row.channel, p_row.lane,
        p_row.contract, p_row.key, p_row.payload, p_row.headers, p_row.published_at, p_row.history, p_row.place, p_row.priority);
  end if;
end $$;
` },
  { name: "functions/07_take.sql", text: `-- take(subscription, worker, contracts, limit): takes deliveries that are due from \`deferred\`, as one JSON list of
--   [id, nonce, null, contract, key, payload, headers, published_at in ms, deferred, token, delivery, attempts, crashes,
--    and in how many ms it expires, or null].
-- Only contracts that this worker has handlers for: a message that was handed back waits for a worker that knows it. A message that
-- has been under two crashed workers is a suspect: a worker holds one of them at a time, and beside it none that has been under one
-- crash, so that of several killers none makes the others' neighbours pay: both would be blamed for the next crash.
-- Order: by due time; where a queue has priorities, by urgency since then. Rows that others are taking are passed over. Where order is kept, only
-- the first of each key is due.
-- Where a breaker is declared or limits hold: { taken, probe, waitMs }, or { openMs } while the circuit is open or the reader is paused. \`probe\`: one message that is tried;
-- \`waitMs\` as in claim_limited.
create or replace function posthorn.take(p_subscription int, p_worker bigint, p_contracts json, p_limit int) returns json
language plpgsql as $$
declare
  v_contracts int[] := posthorn.every_of(p_subscription, array(select c::int from json_array_elements_text(p_contracts) c));
  -- What the worker may take, by crashes so far: fewer than these; and whether a suspect as well.
  v_below int := 1;
  v_suspects boolean := false;
  v_ids bigint[];
  v_taken json;
  v_ordered boolean;
  v_guarded boolean;
  v_limited boolean;
  v_slot smallint;
  v_wanted int := p_limit;
  v_limit int;
  v_open_ms bigint;
  v_probe bigint;
  v_allow posthorn.allowance;
begin
  select s.has_breaker or s.paused_at is not null, s.limited, s.ordering is not null, (posthorn.own_transaction(s.idempotency = 'at-most-once')).slot
    into v_guarded, v_limited, v_ordered, v_slot from posthorn.subscription s where s.id = p_subscription;
  if v_guarded then
    select g.wait_ms, g.probe into v_open_ms, v_probe from posthorn.circuit_gate(p_subscription) g;
    if v_open_ms is not null then
      return json_build_object('openMs', v_open_ms);
    end if;
    v_wanted := case when v_probe is null then p_limit else 1 end;
  end if;
  perform posthorn.hold_worker(p_worker);
  v_limit := v_wanted;
  if v_limited then
    v_allow := posthorn.allow(p_subscription, v_wanted);
    if coalesce(v_allow.permits, 0) <= 0 then
      return case when posthorn.first_due(p_subscription, v_contracts) <= clock_timestamp()
        then json_build_object('taken', '[]'::json, 'waitMs', posthorn.wait_after(v_allow, 0, v_wanted)) else '[]' end;
    end if;
    v_limit := posthorn.candidates(v_allow);
  end if;
  if v_ordered then
    perform posthorn.enter(p_subscription);
  end if;
  -- One session of a worker at a time takes what has been under a crash, and looks at what it holds in a later statement than it takes
  -- the lock in.
  if pg_try_advisory_xact_lock(posthorn.lock_key('suspects', p_worker)) then
    select case when bool_or(d.crashes >= 2) then 1 else 2 end, count(*) = 0 into v_below, v_suspects
      from posthorn.deferred d where d.worker = p_worker and d.token is not null and d.crashes >= 1;
  end if;
  v_ids := posthorn.lock_due(p_subscription, v_contracts, 0, v_below, v_limit, v_ordered);
  if coalesce(array_length(v_ids, 1), 0) < v_limit and v_suspects
      and not exists (select from posthorn.deferred d where d.id = any (v_ids) and d.crashes = 1) then
    v_ids := v_ids || posthorn.lock_due(p_subscription, v_contracts, 2, 2147483647, 1, v_ordered);
  end if;
  if v_ids <> '{}' and exists (select from posthorn.cancel_request c where c.subscription = p_subscription) then
    v_ids := posthorn.without_requested(p_subscription, v_ids);
  end if;
  if v_limited and v_ids <> '{}' then
    v_ids := posthorn.admit(v_allow, v_ids, v_contracts);
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
  if v_probe is not null then
    perform posthorn.circuit_begin(p_subscription, p_worker, v_probe);
  elsif not v_limited then
    return v_taken;
  end if;
  return json_build_object('taken', v_taken, 'probe', v_probe::text,
    'waitMs', case when v_limited then posthorn.wait_after(v_allow, json_array_length(v_taken), v_wanted) end);
end $$;
` },
  { name: "functions/08_registry.sql", text: `-- The registry: names are registered by whoever declares or says them first; a second party that disagrees is refused, and both are named.

-- new_lanes: the first positions of a subscription. A queue starts at the beginning of its channel; a subscription to a topic starts
-- now: what commits from here on is delivered, also what is in flight. The id is read before the snapshot, as in claim.
create or replace function posthorn.new_lanes(p_subscription int, p_lanes int, p_from_start boolean) returns void
language plpgsql as $$
declare
  v_slot smallint := (select r.slots[cardinality(r.slots)] from posthorn.ring r);
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

-- every_of(subscription, contracts): the contracts that a list names. 0 in it stands for all of the channel, also those that are registered later: a
-- relay takes whatever is said.
create or replace function posthorn.every_of(p_subscription int, p_contracts int[]) returns int[]
language plpgsql stable as $$
begin
  if p_contracts is null or not 0 = any (p_contracts) then
    return p_contracts;
  end if;
  return array(select c.id from posthorn.subscription s join posthorn.contract c on c.channel = s.channel where s.id = p_subscription);
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

-- register_contract(…): the ids of a contract and its channel as JSON { contract, channel, lanes }; raises PH020 on a conflict.
-- The first service that publishes an event owns it, unless its contract names the owner. Only who owns it can give it away, by naming another.
create or replace function posthorn.register_contract(
  p_name text, p_version int, p_kind posthorn.kind, p_channel text, p_keyed boolean, p_owner text, p_service text, p_publishes boolean
) returns json
language plpgsql as $$
declare
  v_channel int;
  v_known record;
  v_owner text := coalesce(p_owner, case when p_kind = 'event' and p_publishes then p_service end);
begin
  perform posthorn.require_home();
  select c.*, h.name as channel_name, h.kind as channel_kind, h.lanes into v_known from posthorn.contract c join posthorn.channel h on h.id = c.channel
    where c.name = p_name order by (c.version = p_version) desc, c.version desc limit 1;
  if v_known.id is not null then
    if v_known.owner = p_service and v_known.kind = p_kind and p_owner <> p_service then
      update posthorn.contract set owner = p_owner where name = p_name and owner = p_service;
      v_known.owner := p_owner;
    end if;
    perform posthorn.check_contract(v_known.name, v_known.kind, v_known.channel_name, v_known.keyed, v_known.owner, v_known.registered_by,
      p_kind, p_channel, p_keyed, v_owner, p_service);
    if v_known.owner is null and v_owner is not null then
      perform posthorn.check_source(p_name, p_owner, p_service);
      update posthorn.contract set owner = v_owner where name = p_name and owner is null;
    end if;
    if v_known.version = p_version then
      return json_build_object('contract', v_known.id, 'channel', v_known.channel, 'lanes', v_known.lanes);
    end if;
  end if;
  v_channel := posthorn.register_channel(p_kind, p_channel);
  insert into posthorn.contract (name, version, kind, channel, keyed, owner, registered_by)
    values (p_name, p_version, p_kind, v_channel, p_keyed, v_owner, p_service) on conflict do nothing;
  if not found then
    -- Somebody registered it in this moment: hold us to what they said.
    return posthorn.register_contract(p_name, p_version, p_kind, p_channel, p_keyed, p_owner, p_service, p_publishes);
  end if;
  return (select json_build_object('contract', c.id, 'channel', c.channel, 'lanes', h.lanes) from posthorn.contract c join posthorn.channel h on h.id = c.channel
    where c.name = p_name and c.version = p_version);
end $$;

-- check_source(name, owner, service): an event that an intake brings in has its source outside. Raises PH020 for who publishes it and is not named as its owner.
create or replace function posthorn.check_source(p_name text, p_owner text, p_service text) returns void
language plpgsql as $$
declare
  v_intake text := (select i.name from posthorn.intake_contract c join posthorn.intake i on i.id = c.intake where c.contract = p_name order by i.name limit 1);
begin
  if v_intake is not null and p_owner is null then
    raise exception 'the event "%" comes in from outside by the intake "%", and service "%" wants to publish it', p_name, v_intake, p_service
      using errcode = 'PH020',
        hint = format('A fact has one source. Leave it out of the intake, or make an event of your own. An intake that is gone from the code is removed by posthorn intakes remove %s.', v_intake);
  end if;
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
      using errcode = 'PH020', hint = 'A fact has one source. Let the owner publish it, or make an event of your own. The owner gives it away by naming another as \`owner\` in its own contract.';
  end if;
end $$;

-- register_subscription(name, kind, channel, idempotency, policy, service, by, start from): the subscription's id and its channel's as JSON.
-- The newest start wins for the policy. \`by\` as in takes_policy. A new reader of a topic starts now, or where \`start from\` is "oldest" with the oldest
-- message that is kept. Raises PH020 when the name reads another channel, PH020 and PH021 as takes_policy.
create or replace function posthorn.register_subscription(
  p_name text, p_kind posthorn.kind, p_channel text, p_idempotency posthorn.idempotency, p_policy json, p_service text,
  p_by json default null, p_start_from text default 'now'
) returns json
language plpgsql as $$
declare
  v_channel int;
  v_row posthorn.subscription;
  v_new boolean := false;
begin
  perform posthorn.require_home();
  v_channel := posthorn.register_channel(p_kind, p_channel);
  select * into v_row from posthorn.subscription where name = p_name for update;
  if v_row.id is null then
    insert into posthorn.subscription (name, channel) values (p_name, v_channel) on conflict do nothing returning * into v_row;
    v_new := v_row.id is not null;
    if not v_new then
      select * into v_row from posthorn.subscription where name = p_name for update;
    end if;
  end if;
  if exists (select from posthorn.intake i where i.name = p_name) then
    raise exception 'an intake is called "%" already, and service "%" declares it as a queue or subscription', p_name, p_service using errcode = 'PH020',
      hint = format('Queues, subscriptions and intakes share one set of names. Rename one of them; an intake that is gone from the code is removed by posthorn intakes remove %s.', p_name);
  end if;
  if v_row.channel <> v_channel then
    raise exception '"%" already reads the % "%"%, and service "%" declares it on the % "%"', p_name,
      (select case kind when 'event' then 'topic' else 'queue' end from posthorn.channel where id = v_row.channel),
      (select name from posthorn.channel where id = v_row.channel), coalesce(' for service "' || v_row.service || '"', ''), p_service,
      case p_kind when 'event' then 'topic' else 'queue' end, p_channel using errcode = 'PH020',
      hint = 'Queues and subscriptions share one set of names. Rename one of them.'
        || case p_kind when 'event' then format(' Where this one is to read another topic than it did, remove what it was first: posthorn subscriptions remove %s.', p_name) else '' end;
  end if;
  if v_new then
    perform posthorn.new_lanes(v_row.id, (select lanes from posthorn.channel where id = v_channel), p_start_from = 'oldest');
  end if;
  if not posthorn.takes_policy(v_row, p_idempotency, p_policy, p_service, p_by) then
    return json_build_object('subscription', v_row.id, 'channel', v_channel);
  end if;
  update posthorn.subscription set idempotency = p_idempotency, policy = p_policy, service = p_service, declared_at = clock_timestamp(),
      redelivery_ms = posthorn.longest_redelivery(p_policy), ordering = p_policy #>> '{ordering,whenDead}'
    where id = v_row.id;
  if v_row.ordering is not null and p_policy #>> '{ordering,whenDead}' is null then
    perform posthorn.order_ends(v_row.id);
  end if;
  -- What opened it said that of another broker.
  if v_row.policy ->> 'relay' is distinct from p_policy ->> 'relay' then
    perform posthorn.circuit_due(v_row.id);
  end if;
  perform posthorn.set_limits(v_row.id, p_policy), posthorn.set_backlog_limit(v_row.id, p_policy);
  return json_build_object('subscription', v_row.id, 'channel', v_channel);
end $$;
` },
  { name: "functions/09_peek.sql", text: `-- peek(worker, subscriptions, seen, watch): whether there is anything to claim or take, in one statement for a whole process, as JSON
--   { snapshot, ready: [subscription …], due: [[subscription, ms] …], dead, cancels }.
-- \`seen\` is the snapshot of an earlier peek that found nothing: while no transaction has ended since, nothing can have appeared,
-- and only the clock is looked at (ready is then empty). \`watch\` asks as well whether any worker counts as dead, and whether somebody asked
-- to cancel what runs in one of the worker's readers. Takes nothing and locks nothing; never a proof that a claim will succeed.
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
  select pg_current_snapshot(), r.slots, r.first_segment into v_snapshot, v_ring.slots, v_ring.first_segment from posthorn.ring r;
  if v_snapshot::text is distinct from p_seen then
    for v_lane in select l.subscription, l.lane, l.read_from, s.channel from posthorn.lane l join posthorn.subscription s on s.id = l.subscription
        where l.subscription = any (v_subscriptions) loop
      if posthorn.is_ready(v_ring.slots[greatest(v_lane.read_from - v_ring.first_segment, 0)::int + 1 :], v_ring.first_id, v_lane.subscription, v_lane.lane, v_lane.channel) then
        v_ready := v_ready || v_lane.subscription;
      end if;
    end loop;
  end if;
  return json_build_object('snapshot', v_snapshot::text, 'ready', to_json(v_ready), 'dead',
    p_watch and exists (select from posthorn.dead_workers()), 'cancels', p_watch and exists (select from posthorn.cancel_request c
      where not c.quiet and c.subscription in (select a.subscription from posthorn.attendance a where a.worker = p_worker)), 'due', coalesce((
    select json_agg(json_build_array(s.id, ceil(extract(epoch from first.due_at - clock_timestamp()) * 1000)))
    from unnest(v_subscriptions) s(id)
    cross join lateral (select posthorn.first_due(s.id,
      (select posthorn.every_of(a.subscription, a.contracts) from posthorn.attendance a where a.worker = p_worker and a.subscription = s.id)::int[]) as due_at offset 0) first
    where first.due_at is not null), '[]'));
end $$;

-- is_ready: whether a claim of this lane would find something.
create or replace function posthorn.is_ready(p_slots smallint[], p_first_id bigint, p_subscription int, p_lane int, p_channel int) returns boolean
language plpgsql as $$
declare
  v_at posthorn.position := posthorn.position_of(p_subscription, p_lane);
  v_ceiling posthorn.tick;
  v_slot smallint;
  v_now pg_snapshot;
  v_late_upto bigint;
begin
  -- A claim that took the last of the late ones as its last stays among them. Nothing moves it on until there is more, so only a look tells.
  if v_at.late then
    v_late_upto := (posthorn.tick_of(v_at.slot, v_at.floor)).ceiling_id;
    if v_late_upto is null or (posthorn.late_page(p_slots, p_channel, p_lane, v_at.late_xids, v_at.last_id, v_late_upto, 1)).ids is not null then
      return true;
    end if;
    v_at.last_id := v_late_upto;
  end if;
  foreach v_slot in array p_slots loop
    if posthorn.has_after_of(v_slot, p_channel, p_lane, v_at.last_id) then
      return true;
    end if;
  end loop;
  v_ceiling := posthorn.tick_of(v_at.slot, v_at.ceiling);
  select pg_current_snapshot() into v_now;
  return posthorn.late_xids(p_slots, p_channel, p_lane, v_ceiling.snapshot, v_ceiling.ceiling_id, p_first_id, v_now) is not null;
end $$;

select posthorn.by_slot('has_after_of(p_slot smallint, p_channel int, p_lane int, p_after bigint)', 'boolean', $body$
  return exists (select from posthorn.message_{slot} m where m.channel = p_channel and m.lane = p_lane and m.id > p_after);
$body$);

-- wake_with(payload): the same as wake, in the transaction that it tells of. A worker behind a pooler has no session and hears nothing.
create or replace function posthorn.wake_with(p_payload text) returns boolean
language plpgsql as $$
begin
  if not exists (select from posthorn.worker where session_key is not null) then
    return false;
  end if;
  perform pg_notify('posthorn_wake', p_payload);
  return true;
end $$;

-- wake(payload): notifies, in a transaction of its own; false when no worker is there to listen. A notification commits with a
-- transaction id; nobody waits for the disk for its sake.
create or replace function posthorn.wake(p_payload text) returns boolean
language plpgsql as $$
begin
  if not exists (select from posthorn.worker where session_key is not null) then
    return false;
  end if;
  perform set_config('synchronous_commit', 'off', true), pg_notify('posthorn_wake', p_payload);
  return true;
end $$;
` },
  { name: "functions/10_rescue.sql", text: `-- Dead workers and what they held.

-- register_worker(…): a new worker; its claims will have higher ids than the sequence shows now.
create or replace function posthorn.register_worker(
  p_service text, p_host text, p_pid int, p_timeout_ms int, p_session_key bigint, p_backends json, p_attends json, p_library text default null
) returns bigint
language plpgsql as $$
declare
  v_worker bigint;
begin
  perform posthorn.require_home();
  perform posthorn.hold_policies(p_service, p_attends);
  -- Whose its sessions are: a rescuer, which has the rights of the owner, ends no others.
  insert into posthorn.worker (service, host, pid, timeout_ms, session_key, backends, oldest_open_claim, library)
    values (p_service, p_host, p_pid, p_timeout_ms, p_session_key,
      coalesce((select json_agg(b.one::jsonb || jsonb_build_object('role', session_user::text)) from json_array_elements(p_backends) b(one)), '[]'), coalesce(pg_sequence_last_value('posthorn.claim_id'), 0), p_library)
    returning id into v_worker;
  insert into posthorn.attendance (worker, subscription, contracts, policy)
    select v_worker, a.subscription, a.contracts, a.policy from json_to_recordset(p_attends) as a(subscription int, contracts int[], policy json);
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
  perform posthorn.require_home();
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
    if v_dead.why = 'no heartbeat' then
      perform posthorn.end_backends(v_worker.backends);
    end if;
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

-- end_backends(backends): ends the sessions of a dead worker, where the right is there: that of another role's needs pg_signal_backend and
-- pg_read_all_stats. Without it they end by their own time-outs, and what they send later meets the fences.
create or replace function posthorn.end_backends(p_backends json) returns void
language plpgsql as $$
begin
  perform pg_terminate_backend(a.pid) from json_to_recordset(p_backends) as b(pid int, started text, role text)
    join pg_stat_activity a on a.pid = b.pid and a.backend_start = case when b.started ~ '^[0-9]{4}-' then b.started::timestamptz end
    where a.pid <> pg_backend_pid() and a.datname = current_database() and a.usename = coalesce(b.role, a.usename);
exception when insufficient_privilege then null;
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
select posthorn.by_slot('open_claims_of(p_slot smallint, p_worker bigint, p_from bigint, p_limit int)', 'setof posthorn.claim_1 stable', $body$
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
    if not posthorn.end_of(posthorn.slot_for_end(v_row), v_row.subscription, v_row.message, v_row.delivery, 'crashed', null, p_worker.id) then
      -- Moved here from an open claim while its handler's transaction committed under its first hold.
      delete from posthorn.deferred where id = v_row.id;
      continue;
    end if;
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
--   [{ subscription, state, delivery, attempts, crashes, dueAt, reason, history, contract, kind, progress, cancelRequestedAt, result }]; null when no message has this id. A reader that began
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
    -- Its segment is gone, or it is in no log: what waits has its copy, and a result that is kept says that it succeeded.
    return (select json_agg(posthorn.with_outcome(s.id, v_id, v_nonce, w.contract, f.status) order by s.name) from posthorn.subscription s
      cross join lateral (select coalesce(posthorn.waiting_status(s, v_id, v_nonce), (select json_build_object('subscription', s.name, 'state', 'succeeded',
        'delivery', null) from posthorn.result r where r.subscription = s.id and r.message = v_id and r.nonce = v_nonce))) f(status)
      left join lateral posthorn.contract_outside(s.id, v_id, v_nonce) w(contract) on true
      where f.status is not null);
  end if;
  return (select coalesce(json_agg(posthorn.with_outcome(s.id, v_id, v_nonce, v_found.contract, f.status) order by s.name), '[]') from posthorn.subscription s
    cross join lateral (select coalesce(posthorn.waiting_status(s, v_id, v_nonce), posthorn.log_status(s, v_found.lane, v_id, v_found.xid))) f(status)
    where s.channel = v_found.channel and f.status is not null);
end $$;

-- contract_outside: the contract of a message that waits or ended outside the log; null when it is in none of the tables that say it.
create or replace function posthorn.contract_outside(p_subscription int, p_id bigint, p_nonce bigint) returns int
language sql stable as $$
  select w.contract from (
    select contract from posthorn.deferred where subscription = p_subscription and message = p_id and nonce = p_nonce
    union all select contract from posthorn.dead_letter where subscription = p_subscription and message = p_id and nonce = p_nonce
    union all select contract from posthorn.invalid where subscription = p_subscription and message = p_id and nonce = p_nonce
    union all select contract from posthorn.discarded where subscription = p_subscription and message = p_id and nonce = p_nonce
    union all select contract from posthorn.cancelled where subscription = p_subscription and message = p_id and nonce = p_nonce) w limit 1
$$;

-- waiting_status: the state of a message that waits or ended outside the log; null when it is in none of the five tables.
create or replace function posthorn.waiting_status(p_subscription posthorn.subscription, p_id bigint, p_nonce bigint) returns json
language sql stable as $$
  select json_build_object('subscription', p_subscription.name, 'state', w.state, 'delivery', w.delivery, 'attempts', w.attempts,
      'crashes', w.crashes, 'dueAt', w.due_at, 'reason', w.reason, 'history', w.history)
  from (
    select posthorn.waiting_state(token, place, due_at, reason) as state,
        delivery, attempts, crashes, nullif(due_at, 'infinity') as due_at, reason::text, history
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
    union all
    select 'cancelled', delivery, attempts, null, null, reason || ', by ' || cancelled_by, history
      from posthorn.cancelled where subscription = p_subscription.id and message = p_id and nonce = p_nonce
  ) w
$$;

-- waiting_state: the state of a row of \`deferred\`.
create or replace function posthorn.waiting_state(p_token bigint, p_place bigint, p_due_at timestamptz, p_reason posthorn.outcome) returns text
language sql immutable as $$
  select case when p_token is not null then 'running' when p_place is not null and p_due_at = 'infinity' then 'parked'
    when p_reason = 'scheduled' then 'scheduled' when p_reason in ('released', 'parked', 'throttled') then 'queued' else 'retrying' end
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
language plpgsql stable as $$
declare
  v_ring posthorn.ring;
  v_lane record;
  v_at posthorn.position;
  v_slot smallint;
  v_part record;
begin
  select * into v_ring from posthorn.ring;
  messages := 0;
  for v_lane in select l.lane, l.read_from, s.channel from posthorn.lane l join posthorn.subscription s on s.id = l.subscription where l.subscription = p_subscription loop
    v_at := posthorn.position_of(p_subscription, v_lane.lane);
    foreach v_slot in array posthorn.slots_from(v_ring, v_lane.read_from) loop
      v_part := posthorn.count_after_of(v_slot, v_lane.channel, v_lane.lane, v_at.last_id, greatest(p_limit - messages, 0)::int);
      messages := messages + v_part.messages;
      oldest := least(oldest, v_part.oldest);
    end loop;
  end loop;
end $$;

select posthorn.by_slot('count_after_of(p_slot smallint, p_channel int, p_lane int, p_after bigint, p_limit int, out messages bigint, out oldest timestamptz)',
  'record stable', $body$
  select count(*), min(m.published_at) into messages, oldest from (
    select m.published_at from posthorn.message_{slot} m where m.channel = p_channel and m.lane = p_lane and m.id > p_after order by m.id limit p_limit) m;
  return;
$body$);

-- open_claims(): claims that workers hold open. Bounded by the oldest open claim of each.
create or replace function posthorn.open_claims() returns setof posthorn.claim_1
language sql stable as $$
  select c.* from posthorn.worker w cross join (select unnest(slots) as slot from posthorn.ring) s
    cross join lateral posthorn.open_claims_of(s.slot, w.id, w.oldest_open_claim, 10000) c
$$;

-- gauges(limit): one row for each subscription: backlog counted up to the limit, age of the oldest message that has not ended, and
-- who attends: a worker that counts as dead does not. Messages that a worker holds count as running, not as backlog, but for the age. All that counts
-- messages is stable, so that it reads in the one snapshot of this statement: what moves meanwhile is counted once.
create or replace function posthorn.gauges(p_limit int)
returns table (subscription int, backlog bigint, age_ms bigint, running bigint, dead_letters bigint, invalid bigint, workers bigint, retrying bigint)
language sql volatile as $$
  with held as materialized (
    select c.subscription, sum(cardinality(c.messages)) as messages, min(c.at) as since from posthorn.open_claims() c group by 1
  ), dead as materialized (
    select d.worker from posthorn.dead_workers() d
  )
  select s.id, greatest(log.messages - k.messages, 0) + d.waiting,
      coalesce(extract(epoch from clock_timestamp() - least(log.oldest, d.oldest, h.since)) * 1000, 0)::bigint,
      coalesce(h.messages, 0)::bigint + d.taken, l.letters, i.messages, a.workers, d.retrying
    from posthorn.subscription s
    cross join lateral posthorn.waiting_in_log(s.id, p_limit) log
    cross join lateral (select count(*) as messages from posthorn.cancel_mark k where k.subscription = s.id) k
    cross join lateral (
      -- What is only scheduled is no backlog before its time, and ages from then on.
      -- Retrying as waiting_state() means it: what is parked, put aside or handed back has not failed, and what was scheduled has not run.
      select count(*) filter (where d.token is null) as waiting, count(*) filter (where d.token is null and not d.unfailed) as retrying,
        count(*) filter (where d.token is not null) as taken, min(d.since) as oldest
      from ((select d.token, coalesce(d.since, d.published_at) as since, (d.place is not null and d.due_at = 'infinity') or d.reason in ('released', 'parked', 'throttled') as unfailed from posthorn.deferred d where d.subscription = s.id and d.delivery > 1 limit p_limit)
        union all (select d.token, d.due_at, true from posthorn.classes(s.id) c(class) join posthorn.deferred d on d.subscription = s.id and d.priority = c.class
          and d.token is null and d.due_at <= statement_timestamp() and d.delivery = 1 limit p_limit)
        -- Its time has come, and it waits behind others of its key, which are older.
        union all (select i.token, null, true from (select d.token, d.place, d.delivery from posthorn.classes(s.id) c(class)
            join posthorn.deferred d on d.subscription = s.id and d.priority = c.class and d.token is null and d.due_at = 'infinity' limit p_limit) i
          where i.place is not null and i.delivery = 1)
        union all (select d.token, d.taken_at, false from posthorn.deferred d where d.token is not null and d.worker in (select w.id from posthorn.worker w)
          and d.subscription = s.id and d.delivery = 1 limit p_limit)) d) d
    cross join lateral (select count(*) as letters from (select from posthorn.dead_letter l where l.subscription = s.id limit p_limit) l) l
    cross join lateral (select count(*) as messages from (select from posthorn.invalid i where i.subscription = s.id limit p_limit) i) i
    cross join lateral (select count(*) as workers from posthorn.attendance a where a.subscription = s.id and a.worker not in (select d.worker from dead d)) a
    left join held h on h.subscription = s.id
$$;

-- watch(every): raises and resolves alerts, once in the fleet: whoever comes first within \`every\` ms does it for all. Returns what changed:
-- [{ change: raised | resolved, alert, subscription, value, threshold, detail }]; null when it was not our turn. Also forgets dead letters past their keeping, and keys without limits.
create or replace function posthorn.watch(p_every_ms int) returns json
language plpgsql as $$
declare
  v_changes json[] := '{}';
  v_rule record;
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
  -- An alert whose rule the policy no longer has is resolved as well: nothing else would ever end it.
  for v_rule in
    select a.id as open, coalesce(r.name, a.name) as name, coalesce(r.subscription, a.subscription) as subscription,
        coalesce(r.intake, a.intake) as intake, coalesce(r.subscription_name, s.name, i.name) as reader, coalesce(r.value, a.value) as value,
        coalesce(r.threshold, a.threshold) as threshold, case when r.name is null then 'it is watched no longer' else r.detail end as detail
      from posthorn.rules_now() r full join (select * from posthorn.alert where resolved_at is null) a
        on a.name = r.name and coalesce(a.subscription, 0) = coalesce(r.subscription, 0) and coalesce(a.intake, 0) = coalesce(r.intake, 0)
      left join posthorn.subscription s on s.id = a.subscription left join posthorn.intake i on i.id = a.intake
      where case when a.id is null then r.value >= r.threshold else r.name is null or r.value < r.threshold end
  loop
    if v_rule.open is null then
      insert into posthorn.alert (name, subscription, intake, value, threshold, detail)
        values (v_rule.name, v_rule.subscription, v_rule.intake, v_rule.value, v_rule.threshold, v_rule.detail);
    else
      update posthorn.alert set resolved_at = clock_timestamp() where id = v_rule.open;
    end if;
    v_changes := v_changes || json_build_object('change', case when v_rule.open is null then 'raised' else 'resolved' end, 'alert', v_rule.name,
      'subscription', v_rule.reader, 'value', v_rule.value, 'threshold', v_rule.threshold, 'detail', v_rule.detail);
  end loop;
  delete from posthorn.dead_letter where id in (select id from posthorn.dead_letter where keep_until < clock_timestamp() order by keep_until limit 1000);
  perform posthorn.forget_keys(10000);
  return to_json(v_changes);
end $$;

-- rules_now(): every rule of subscriptions, of the fleet and of intakes, with its value now.
create or replace function posthorn.rules_now()
returns table (name text, subscription int, intake int, subscription_name text, value bigint, threshold bigint, detail text)
language sql volatile as $$
  select r.name, r.subscription, null::int, r.subscription_name, r.value, r.threshold, r.detail from posthorn.alert_rules() r
  union all
  select n.name, null, n.intake, n.intake_name, n.value, n.threshold, n.detail from posthorn.intake_rules() n
$$;

-- alert_rules(): every rule of every declared policy with its value now. A queue that nobody declared has no policy, and shows as unattended. And
-- one rule of the whole log, without a subscription: no segment is free for the next rotation.
create or replace function posthorn.alert_rules() returns table (subscription int, subscription_name text, name text, value bigint, threshold bigint, detail text)
language sql volatile as $$
  select g.subscription, s.name, r.name, r.value, r.threshold, case r.name when 'circuitOpen' then posthorn.opened_by(c) end from posthorn.gauges(100000) g
    join posthorn.subscription s on s.id = g.subscription
    left join posthorn.circuit c on c.subscription = g.subscription and c.state <> 'closed'
    cross join lateral (values
      ('oldestAgeMs', g.age_ms, (s.policy #>> '{alerts,oldestAgeMs}')::bigint),
      ('backlog', g.backlog, (s.policy #>> '{alerts,backlog}')::bigint),
      ('deadLetters', g.dead_letters, (s.policy #>> '{alerts,deadLetters}')::bigint),
      -- Each is a message that was not handled and waits for somebody, in a list of its own.
      ('invalid', g.invalid, (s.policy #>> '{alerts,deadLetters}')::bigint),
      ('noWorkerMs', case when g.workers = 0 then g.age_ms else 0 end, (s.policy #>> '{alerts,noWorkerMs}')::bigint),
      -- From the moment it opens until it is closed. What opened it was enough: so many failures, or the word of one run; the policy may have changed since.
      ('circuitOpen', case when c.state is null then 0 else coalesce(c.failures, 1) end,
        case when c.state is null then (s.policy #>> '{circuitBreaker,failures}')::int
          when s.policy #> '{circuitBreaker,failures}' is not null then coalesce(c.failures, 1) end)
    ) r(name, value, threshold) where r.threshold is not null
  union all
  select * from posthorn.fleet_rules() f where f.threshold is not null
  union all
  select null, null, 'segmentsInUse', cardinality(r.slots), 8, case when cardinality(r.slots) >= 8 then posthorn.space_in_words() end from posthorn.ring r
$$;

-- detail_now(alert): its detail; of an open alert about a circuit that is open, or about what an intake refuses, what was said last, which nobody writes down for it.
create or replace function posthorn.detail_now(p_alert posthorn.alert) returns text
language sql stable as $$
  select coalesce(case when p_alert.resolved_at is not null then null
    when p_alert.name = 'circuitOpen' then (select posthorn.opened_by(c) from posthorn.circuit c where c.subscription = p_alert.subscription)
    when p_alert.name = 'intakeRefused' then (select h.refusal from posthorn.intake_holder h
      where h.intake = p_alert.intake and h.refused_now > 0 and h.seen_at > clock_timestamp() - interval '10 s' order by h.refused_at desc nulls last limit 1) end, p_alert.detail)
$$;

-- opened_by(circuit): what opened it, for people: failed runs, what was said last, or both. Null while it is closed.
create or replace function posthorn.opened_by(p_circuit posthorn.circuit) returns text
language sql stable as $$
  select nullif(concat_ws('; ', case when p_circuit.failures = 1 then '1 run failed' else p_circuit.failures || ' runs failed' end, p_circuit.reason), '')
    where p_circuit.state <> 'closed'
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
      union all select w.contract, w.published_at from posthorn.subscription s join posthorn.discarded w on w.subscription = s.id and w.message = v_id and w.nonce = v_nonce
      union all select w.contract, w.published_at from posthorn.subscription s join posthorn.cancelled w on w.subscription = s.id and w.message = v_id and w.nonce = v_nonce) w limit 1;
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
        select coalesce(json_agg(r::jsonb || posthorn.why_attended(r ->> 'subscription', c.name) || posthorn.why_told(r, v_id, v_nonce)
          || jsonb_strip_nulls(jsonb_build_object('limits', posthorn.limits_now(r ->> 'subscription'))) || coalesce((
            select jsonb_build_object('circuit', posthorn.circuit_of(s.id)) from posthorn.subscription s where s.name = r ->> 'subscription'
              and s.has_breaker), '{}') || coalesce((select jsonb_build_object('paused', posthorn.pause_of(s)) from posthorn.subscription s
              where s.name = r ->> 'subscription' and s.paused_at is not null), '{}') || coalesce((select jsonb_build_object('relay', s.policy -> 'relay')
              from posthorn.subscription s where s.name = r ->> 'subscription' and s.policy -> 'relay' is not null), '{}')), '[]')
          from json_array_elements(v_receivers) r))
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
      'crashes', w.crashes, 'at', w.at, 'dueAt', w.due_at, 'expiresAt', w.expires_at,
      'behind', (select posthorn.public_id(b.message, b.nonce) from posthorn.deferred b where b.id = w.behind),
      'reason', w.reason, 'by', w.by, 'issues', w.issues, 'worker', posthorn.why_worker(w.worker),
      'keptUntil', w.keep_until, 'before', case when w.state in ('queued', 'retrying', 'scheduled') then (
        select count(*) from (select from posthorn.deferred d where d.subscription = p_subscription.id and d.token is null and d.due_at < w.due_at
          limit 100001) d) end,
      'steps', posthorn.why_steps(p_subscription.id, p_id),
      'order', case when w.place is not null then posthorn.why_order(p_subscription.id, w.key, w.place) end,
      'error', (select e.entry -> 'error' from json_array_elements(w.history) with ordinality e(entry, n)
        where e.entry ->> 'error' is not null order by e.n desc limit 1),
      'lastEntry', (select json_build_object('outcome', e.entry -> 'outcome', 'endedAt', e.entry -> 'endedAt', 'by', e.entry -> 'by',
          'note', e.entry -> 'note', 'times', e.entry -> 'times')
        from json_array_elements(w.history) with ordinality e(entry, n) order by e.n desc limit 1)))
  from (
    select posthorn.waiting_state(token, place, due_at, reason) as state, delivery, attempts, crashes, taken_at as at, nullif(due_at, 'infinity') as due_at,
        reason::text, null as by, null::json as issues, worker, null::timestamptz as keep_until, history, key, place, expires_at, behind
      from posthorn.deferred where subscription = p_subscription.id and message = p_id and nonce = p_nonce
    union all
    select 'dead', delivery, attempts, crashes, died_at, null, reason, null, null, null, keep_until, history, key, place, null, null
      from posthorn.dead_letter where subscription = p_subscription.id and message = p_id and nonce = p_nonce
    union all
    select 'invalid', delivery, null, null, found_at, null, null, null, issues, null, null, history, key, place, null, null
      from posthorn.invalid where subscription = p_subscription.id and message = p_id and nonce = p_nonce
    union all
    select 'discarded', delivery, attempts, null, discarded_at, null, reason, discarded_by, null, null, keep_until, history, null, null, null, null
      from posthorn.discarded where subscription = p_subscription.id and message = p_id and nonce = p_nonce
    union all
    select 'cancelled', delivery, attempts, null, cancelled_at, null, reason, cancelled_by, null, null, keep_until, history, null, null, null, null
      from posthorn.cancelled where subscription = p_subscription.id and message = p_id and nonce = p_nonce
  ) w
$$;

-- why_order: the order of a key around one of its messages, as JSON { key, ahead, behind, first: { message, state, dueAt } }: how many messages are
-- before it and behind it, and the one that all wait for.
create or replace function posthorn.why_order(p_subscription int, p_key text, p_place bigint) returns json
language sql stable as $$
  with row as (
    select d.place, posthorn.public_id(d.message, d.nonce) as message, posthorn.waiting_state(d.token, d.place, d.due_at, d.reason) as state, d.due_at
      from posthorn.deferred d where d.subscription = p_subscription and d.key = p_key and d.place is not null
    union all
    select d.place, posthorn.public_id(d.message, d.nonce), 'dead', null from posthorn.dead_letter d
      where d.subscription = p_subscription and d.key = p_key and d.place is not null
    union all
    select d.place, posthorn.public_id(d.message, d.nonce), 'invalid', null from posthorn.invalid d
      where d.subscription = p_subscription and d.key = p_key and d.place is not null
  )
  select json_build_object('key', p_key, 'ahead', (select count(*) from row where place < p_place), 'behind', (select count(*) from row where place > p_place),
    'first', (select json_build_object('message', f.message, 'state', f.state, 'dueAt', nullif(f.due_at, 'infinity')) from row f order by f.place limit 1))
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
      'attempts', 0, 'worker', posthorn.why_worker(v_fate.worker), 'steps', posthorn.why_steps(p_subscription.id, p_id))
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
    state := case when v_ended.outcome in ('succeeded', 'skipped') then 'succeeded' when v_ended.outcome in ('expired', 'discarded') then v_ended.outcome else 'dead' end;
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
  if p_id < (select r.first_id from posthorn.ring r) then
    -- Of an earlier epoch, whose transaction ids mean nothing here.
    return p_id <= p_at.last_id;
  elsif p_id > v_ceiling.ceiling_id or not pg_visible_in_snapshot(p_xid, v_ceiling.snapshot) then
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
    select a.worker, posthorn.every_of(s.id, a.contracts) as contracts, s.id as subscription from posthorn.subscription s join posthorn.attendance a on a.subscription = s.id
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
  for v_lane in select l.lane, u.slot from posthorn.lane l cross join posthorn.ring r cross join lateral unnest(r.slots) u(slot)
      where l.subscription = p_subscription loop
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
    case when p_filter ->> 'upto' is not null then 'l.id <= ($1 ->> ''upto'')::bigint' end,
    case when p_filter ->> 'after' is not null then 'l.id > ($1 ->> ''after'')::bigint' end,
    case when p_filter ->> 'group' is not null then 'posthorn.group_of(l.subscription, l.contract, l.history) = $1 ->> ''group''' end)
$$;

-- take_letters(filter, limit): removes entries from a list and returns them as deliveries that can wait. Of several sessions that want an entry
-- one gets it; those that others are taking are passed over. The filter is JSON { list, message?, subscription?, contract?, group?, after?, upto? }: a public
-- id, names, the fingerprint of the newest error, and ids in the list, so that what dies again meanwhile is not taken again. Order: by id in the list, which is in \`id\`. Who orders
-- that it runs again means it to run: it has no expiry any more.
create or replace function posthorn.take_letters(p_filter json, p_limit int) returns setof posthorn.deferred
language plpgsql as $$
declare
  v_letter record;
  v_row posthorn.deferred;
begin
  for v_letter in execute format($sql$
    with picked as (
      select l.id from posthorn.%1$I l where %4$s order by l.id limit $2 for update skip locked
    )
    delete from posthorn.%1$I l using picked where l.id = picked.id
      returning l.id, l.subscription, l.delivery, %2$s as attempts, %3$s as crashes, l.message, l.nonce, l.channel, l.lane, l.contract, l.key, l.payload,
        l.headers, l.published_at, l.history, l.place, l.priority $sql$,
    case p_filter ->> 'list' when 'invalid' then 'invalid' else 'dead_letter' end,
    case p_filter ->> 'list' when 'invalid' then '0' else 'l.attempts' end,
    case p_filter ->> 'list' when 'invalid' then '0' else 'l.crashes' end,
    posthorn.letters_where(p_filter)) using p_filter, p_limit
  loop
    v_row := null;
    v_row.id := v_letter.id;
    v_row.subscription := v_letter.subscription;
    v_row.delivery := v_letter.delivery;
    v_row.attempts := v_letter.attempts;
    v_row.crashes := v_letter.crashes;
    v_row.reason := 'released';
    v_row.message := v_letter.message;
    v_row.nonce := v_letter.nonce;
    v_row.channel := v_letter.channel;
    v_row.lane := v_letter.lane;
    v_row.contract := v_letter.contract;
    v_row.key := v_letter.key;
    v_row.payload := v_letter.payload;
    v_row.headers := v_letter.headers;
    v_row.published_at := v_letter.published_at;
    v_row.history := v_letter.history;
    v_row.place := v_letter.place;
    v_row.priority := coalesce(v_letter.priority, posthorn.priority_of(v_letter.lane));
    v_row.once_more := false;
    return next v_row;
  end loop;
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
    perform posthorn.redrive_row(v_row, p_by);
    v_done := v_done || json_build_object('message', posthorn.public_id(v_row.message, v_row.nonce),
      'subscription', (select name from posthorn.subscription where id = v_row.subscription));
  end loop;
  perform posthorn.note_operation('redrive', p_filter, p_by, null, cardinality(v_done));
  return to_json(v_done);
end $$;

-- redrive_row(row, by): a taken entry waits for a new delivery.
create or replace function posthorn.redrive_row(p_row posthorn.deferred, p_by text) returns void
language plpgsql as $$
begin
  p_row.history := posthorn.with_entry(p_row.history, json_build_object('attempt', p_row.attempts, 'outcome', 'redriven', 'by', p_by,
    'endedAt', clock_timestamp()));
  perform posthorn.follow(p_row, 'released', '{"defer":{"delayMs":0,"attempts":0,"crashes":0,"outside":true}}');
end $$;

-- discard(filter, by, reason, limit): ends entries of a list for good, without their payload; who and why is kept as long as a dead letter would be.
-- Returns [{ message, subscription }].
create or replace function posthorn.discard(p_filter json, p_by text, p_reason text, p_limit int) returns json
language plpgsql as $$
declare
  v_row posthorn.deferred;
  v_done json[] := '{}';
begin
  perform posthorn.own_transaction(true);
  for v_row in select * from posthorn.take_letters(p_filter, p_limit) loop
    perform posthorn.discard_row(v_row, p_filter ->> 'list', p_by, p_reason);
    v_done := v_done || json_build_object('message', posthorn.public_id(v_row.message, v_row.nonce),
      'subscription', (select name from posthorn.subscription where id = v_row.subscription));
  end loop;
  perform posthorn.note_operation('discard', p_filter, p_by, p_reason, cardinality(v_done));
  delete from posthorn.discarded where (subscription, message) in (
    select d.subscription, d.message from posthorn.discarded d where d.keep_until < clock_timestamp() order by d.keep_until limit 1000);
  return to_json(v_done);
end $$;

-- discard_row(row, list, by, reason): the end of a taken entry; those of its key that waited behind it go on.
create or replace function posthorn.discard_row(p_row posthorn.deferred, p_list text, p_by text, p_reason text) returns void
language plpgsql as $$
begin
  perform posthorn.write_discarded(p_row, p_list, p_by, p_reason);
  if p_row.place is not null then
    perform posthorn.promote_key(p_row.subscription, p_row.key);
  end if;
end $$;

-- write_discarded(row, list, by, reason): that a message was ended by an operator, without its payload.
create or replace function posthorn.write_discarded(p_row posthorn.deferred, p_list text, p_by text, p_reason text) returns void
language plpgsql as $$
begin
  insert into posthorn.discarded (subscription, message, nonce, contract, discarded_at, keep_until, discarded_by, reason, list, delivery, attempts,
      published_at, history, key)
    select p_row.subscription, p_row.message, p_row.nonce, p_row.contract, clock_timestamp(), clock_timestamp()
      + coalesce((s.policy #>> '{deadLetter,keepMs}')::float8, 2592000000) * interval '1 ms', left(p_by, 200), left(p_reason, 500), p_list,
      p_row.delivery, coalesce(p_row.attempts, 0), p_row.published_at, p_row.history, p_row.key
    from posthorn.subscription s where s.id = p_row.subscription
    on conflict (subscription, message) do update set history = excluded.history, reason = excluded.reason;
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
--   [{ alert, subscription, value, threshold, raisedAt, detail }]. One of the whole log has no
--   subscription. Without a worker nobody raises alerts; this sees them all the same.
create or replace function posthorn.crossed_alerts() returns json
language sql volatile as $$
  with open as (
    select a.name, a.subscription, a.intake, coalesce(s.name, i.name) as subscription_name, a.value, a.threshold, a.raised_at,
        posthorn.detail_now(a) as detail from posthorn.alert a left join posthorn.subscription s on s.id = a.subscription left join posthorn.intake i on i.id = a.intake
      where a.resolved_at is null
  ), crossed as (
    select * from open
    union all
    select r.name, r.subscription, r.intake, r.subscription_name, r.value, r.threshold, null, r.detail from posthorn.rules_now() r
      where r.value >= r.threshold
        and not exists (select from open o where o.subscription is not distinct from r.subscription and o.intake is not distinct from r.intake and o.name = r.name)
  )
  select coalesce(json_agg(json_build_object('alert', name, 'subscription', subscription_name, 'value', value, 'threshold', threshold,
    'raisedAt', raised_at, 'detail', detail, 'detailAt', case when name = 'circuitOpen' then (
      select c.failed_at[1] from posthorn.circuit c where c.subscription = crossed.subscription and c.state <> 'closed' and c.reason is not null) end)
    order by raised_at, subscription_name, name), '[]') from crossed
$$;

-- recent_alerts(limit): alerts that are resolved, the newest first.
create or replace function posthorn.recent_alerts(p_limit int) returns json
language sql stable as $$
  select coalesce(json_agg(json_build_object('alert', a.name, 'subscription', a.subscription, 'value', a.value, 'threshold', a.threshold,
      'raisedAt', a.raised_at, 'resolvedAt', a.resolved_at, 'detail', a.detail) order by a.resolved_at desc), '[]')
    from (select a.name, a.raised_at, a.resolved_at, a.value, a.threshold, a.detail, coalesce(s.name, i.name) as subscription
      from posthorn.alert a left join posthorn.subscription s on s.id = a.subscription left join posthorn.intake i on i.id = a.intake
      where a.resolved_at is not null order by a.resolved_at desc limit p_limit) a
$$;

-- fleet(): workers that are registered, and why one counts as dead.
create or replace function posthorn.fleet() returns json
language sql volatile as $$
  select coalesce(json_agg(json_build_object('id', w.id::text, 'service', w.service, 'host', w.host, 'pid', w.pid, 'startedAt', w.started_at,
      'heartbeatAt', w.heartbeat_at, 'worksOn', w.works_on, 'dead', d.why) order by w.id), '[]')
    from posthorn.workers w left join posthorn.dead_workers() d on d.worker = w.id
$$;

-- normalised: the text of an error without what differs from message to message: ids, numbers, quoted values. "answered 404" keeps its status,
-- which is another cause than "answered 500".
create or replace function posthorn.normalised(p_text text) returns text
language sql immutable as $$
  select regexp_replace(regexp_replace(regexp_replace(left(p_text, 500),
    '[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}', '#', 'g'),
    '"[^"]*"|''[^'']*''', '"…"', 'g'),
    '(?<![0-9])(?:(?<!\\manswered )|(?![1-5][0-9]{2}\\M))[0-9]+([.:][0-9]+)*|\\m[0-9a-f]*[0-9][0-9a-f]{7,}\\M', '#', 'g')
$$;

-- fingerprint(…): names what errors have in common; thrown_at(entry): the first line of the stack without line numbers.
create or replace function posthorn.fingerprint(p_subscription text, p_contract text, p_name text, p_code text, p_message text, p_at text) returns text
language sql immutable as $$
  select left(md5(concat_ws(chr(10), p_subscription, p_contract, p_name, coalesce(p_code, '-'), p_message, coalesce(p_at, '-'))), 12)
$$;

create or replace function posthorn.thrown_at(p_entry json) returns text
language sql immutable as $$
  select regexp_replace(substring(p_entry #>> '{error,stack}' from '\\n\\s*at ([^\\n]+)'), ':[0-9]+:[0-9]+', '')
$$;

-- group_of(subscription, contract, history): the fingerprint of the newest error of a message; null where none is kept.
create or replace function posthorn.group_of(p_subscription int, p_contract int, p_history json) returns text
language plpgsql stable as $$
declare
  v_entry json := (select e.entry from json_array_elements(p_history) with ordinality e(entry, n) where e.entry ->> 'error' is not null order by e.n desc limit 1);
begin
  return posthorn.fingerprint((select s.name from posthorn.subscription s where s.id = p_subscription),
    (select c.name from posthorn.contract c where c.id = p_contract), v_entry #>> '{error,name}', v_entry #>> '{error,code}',
    posthorn.normalised(v_entry #>> '{error,message}'), posthorn.thrown_at(v_entry)) where v_entry is not null;
end $$;

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
        e.entry #>> '{error,message}' as text, (e.entry ->> 'endedAt')::timestamptz as seen_at, posthorn.thrown_at(e.entry) as at
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
  select coalesce(json_agg(json_build_object('fingerprint', posthorn.fingerprint(subscription, contract, name, code, message, at),
      'subscription', subscription, 'contract', contract, 'name', name, 'code', code, 'message', message, 'at', at, 'count', count, 'messages', messages,
      'firstSeen', first_seen, 'lastSeen', last_seen, 'example', example) order by last_seen desc), '[]') from groups
$$;

-- registered_intakes(): those of registered(), in the order of their names.
create or replace function posthorn.registered_intakes() returns json
language sql stable as $$
  select coalesce(json_agg(json_build_object('name', i.name, 'service', i.service, 'broker', i.broker, 'place', i.place, 'keepMs', i.keep_ms,
      'alerts', json_build_object('awayMs', i.away_ms, 'refused', i.refused_bound, 'invalid', i.invalid_bound), 'contracts', array(select c.contract from posthorn.intake_contract c where c.intake = i.id order by c.contract collate "C"))
    order by i.name), '[]') from posthorn.intake i
$$;

-- registered(): what the registry knows, for comparison with code: { subscriptions: [{ name, kind, channel, service, policy }],
-- contracts: [{ name, version, kind, channel, keyed, owner, by }], intakes: [{ name, service, broker, place, keepMs, alerts, contracts }] }.
create or replace function posthorn.registered() returns json
language sql stable as $$
  select json_build_object('subscriptions', (
      select coalesce(json_agg(json_build_object('name', s.name, 'kind', c.kind, 'channel', c.name, 'service', s.service, 'policy', s.policy) order by s.name), '[]')
        from posthorn.subscription s join posthorn.channel c on c.id = s.channel),
    'contracts', (
      select coalesce(json_agg(json_build_object('name', t.name, 'version', t.version, 'kind', t.kind, 'channel', c.name, 'keyed', t.keyed,
          'owner', t.owner, 'by', t.registered_by) order by t.name, t.version), '[]')
        from posthorn.contract t join posthorn.channel c on c.id = t.channel),
    'intakes', posthorn.registered_intakes())
$$;
` },
  { name: "functions/15_breaker.sql", text: `-- The circuit breaker of a queue or subscription: one row in the fleet. Closed: runs go on and failures are counted. Open: nobody takes
-- anything. Half-open: one worker tries one message. Only a success of that one closes it, only its failure opens it again; a probe that ends
-- otherwise, or dies with its worker, is given to the next message.

-- circuit_gate(subscription): whether this transaction may take messages now: \`wait_ms\` to look again, or null; \`probe\` is a token when it may take
-- exactly one, and must then say so with circuit_begin, in this transaction. A pause comes before it. A circuit that may be tried is locked until then, and whoever
-- finds it locked looks again soon. The clock may have jumped back: no circuit stays open longer than it was opened for.
create or replace function posthorn.circuit_gate(p_subscription int, out wait_ms bigint, out probe bigint)
language plpgsql as $$
declare
  v_row posthorn.circuit;
  v_now timestamptz;
begin
  -- Paused by an operator: nobody takes anything, and no message is tried.
  if exists (select from posthorn.subscription s where s.id = p_subscription and s.paused_at is not null) then
    wait_ms := 1000;
    return;
  end if;
  select * into v_row from posthorn.circuit c where c.subscription = p_subscription;
  v_now := clock_timestamp();
  if v_row.state is null or v_row.state = 'closed' then
    return;
  elsif v_row.state = 'open' and v_row.probe_at > v_now and v_row.probe_at <= v_now + v_row.open_ms * interval '1 ms' then
    wait_ms := ceil(extract(epoch from v_row.probe_at - v_now) * 1000);
    return;
  end if;
  select * into v_row from posthorn.circuit c where c.subscription = p_subscription for update skip locked;
  v_now := clock_timestamp();
  if v_row.subscription is null then
    wait_ms := 50;
  elsif v_row.state = 'closed' then
    return;
  elsif v_row.state = 'open' then
    if v_row.probe_at > v_now + v_row.open_ms * interval '1 ms' then
      v_row.probe_at := v_now + v_row.open_ms * interval '1 ms';
      update posthorn.circuit c set probe_at = v_row.probe_at where c.subscription = p_subscription;
    end if;
    wait_ms := nullif(greatest(0, ceil(extract(epoch from v_row.probe_at - v_now) * 1000)), 0)::bigint;
  elsif posthorn.is_probed(v_row, v_now) then
    wait_ms := 1000;
  end if;
  if wait_ms is null then
    probe := (random() * 9e18)::bigint;
  end if;
end $$;

-- is_probed: whether the one message of a half-open circuit is still tried. Its worker is forgotten when it dies; a run that nobody ended for far
-- longer than a run may take is not waited for.
create or replace function posthorn.is_probed(p_row posthorn.circuit, p_now timestamptz) returns boolean
language plpgsql as $$
begin
  return exists (select from posthorn.worker w where w.id = p_row.probe_worker)
    and p_row.probe_since > p_now - (select coalesce((s.policy ->> 'visibilityTimeoutMs')::float8, 0) + 60000 from posthorn.subscription s
      where s.id = p_row.subscription) * interval '1 ms';
end $$;

-- circuit_begin: the message that was taken under this token is the one that is tried.
create or replace function posthorn.circuit_begin(p_subscription int, p_worker bigint, p_probe bigint) returns void
language plpgsql as $$
begin
  update posthorn.circuit c set state = 'half-open', probe = p_probe, probe_worker = p_worker, probe_since = clock_timestamp()
    where c.subscription = p_subscription;
end $$;

-- claim_guarded: as claim, or claim_limited, where a breaker is declared: { openMs } while the circuit is open; with \`probe\` beside a claim of one message
-- that is tried. The circuit comes before the limits: what is open uses no permit, and what is tried needs one. No lane: the most urgent of a queue
-- that has lanes for priorities.
create or replace function posthorn.claim_guarded(p_subscription int, p_lane int, p_worker bigint, p_limit int, p_limited boolean) returns text
language plpgsql as $$
declare
  v_gate record;
  v_limit int;
  v_claimed text;
begin
  v_gate := posthorn.circuit_gate(p_subscription);
  if v_gate.wait_ms is not null then
    return concat('{"openMs":', v_gate.wait_ms, '}');
  end if;
  v_limit := case when v_gate.probe is null then p_limit else 1 end;
  v_claimed := case when p_limited then posthorn.claim_limited(p_subscription, p_lane, p_worker, v_limit)
    when p_lane is null then posthorn.claim_by_priority(p_subscription, p_worker, v_limit)
    else posthorn.claim(p_subscription, p_lane, p_worker, v_limit) end;
  if v_gate.probe is null or not posthorn.is_claim(v_claimed) then
    return v_claimed;
  end if;
  perform posthorn.circuit_begin(p_subscription, p_worker, v_gate.probe);
  return concat('{"probe":"', v_gate.probe, '",', substr(v_claimed, 2));
end $$;

-- is_claim: whether an answer of claim or claim_by_priority has messages.
create or replace function posthorn.is_claim(p_claimed text) returns boolean
language plpgsql immutable as $$
begin
  return p_claimed like '{"claim":%' or p_claimed like '{"more":true,"claim":%';
end $$;

-- circuit_hear(subscription, events): what a worker tells of runs that ended, in a transaction of its own. Events, in their order:
--   { failed: n }            runs failed
--   { open: ms | null, reason, relay } a handler says so; null: for as long as the policy says, and so where a relay says it of another broker than the declared
--   { succeeded: true } | { passed: true }   only together with \`probe\`, the token of the message that was tried, which \`failed\` may have as well; then \`said\`
--                            is why it did not succeed, and stands as the reason of the circuit from then on
-- Returns { changed: 'opened' | 'closed' | null, openMs, windowMs, failures, probes, reason, wasOpenMs, waiting }: whether the last of them that changed it opened or closed it;
-- the last two of one that was closed: how long it was open, and how many messages wait, counted up to 10,000.
create or replace function posthorn.circuit_hear(p_subscription int, p_events json) returns json
language plpgsql as $$
declare
  v_breaker json;
  v_relay jsonb;
  v_row posthorn.circuit;
  v_was text;
  v_opened_at timestamptz;
  v_event json;
  v_now timestamptz;
  v_closed boolean;
begin
  perform posthorn.own_transaction(false);
  select s.policy -> 'circuitBreaker', s.policy -> 'relay' into v_breaker, v_relay from posthorn.subscription s where s.id = p_subscription and s.has_breaker;
  if v_breaker is null then
    return '{"changed":null}';
  end if;
  insert into posthorn.circuit (subscription) values (p_subscription) on conflict do nothing;
  select * into v_row from posthorn.circuit c where c.subscription = p_subscription for update;
  v_was := v_row.state;
  v_opened_at := v_row.opened_at;
  v_now := clock_timestamp();
  for v_event in select * from json_array_elements(p_events) loop
    -- A process of before a deployment: for how long its broker wants nothing is not for that of now.
    if v_event -> 'relay' is not null and (v_event -> 'relay')::jsonb is distinct from v_relay then
      v_event := (v_event::jsonb - 'open')::json;
    end if;
    v_row := posthorn.circuit_after(v_row, v_event, v_breaker, v_now);
  end loop;
  update posthorn.circuit c set state = v_row.state, failed_at = v_row.failed_at, opened_at = v_row.opened_at, failures = v_row.failures,
      reason = v_row.reason, open_ms = v_row.open_ms, probe_at = v_row.probe_at, probe = v_row.probe, probe_worker = v_row.probe_worker,
      probe_since = v_row.probe_since, probes = v_row.probes
    where c.subscription = p_subscription and c is distinct from v_row;
  v_closed := v_row.state = 'closed' and v_was <> 'closed';
  return json_build_object('changed', case
      when v_closed then 'closed'
      when v_row.state = 'open' and (v_was = 'closed' or v_row.probe_at > v_now and v_was = 'half-open') then 'opened' end,
    'openMs', v_row.open_ms, 'windowMs', v_breaker -> 'windowMs', 'failures', v_row.failures, 'probes', v_row.probes, 'reason', v_row.reason,
    'wasOpenMs', case when v_closed then greatest(0, floor(extract(epoch from v_now - v_opened_at) * 1000))::bigint end,
    'waiting', case when v_closed then posthorn.waiting_again(p_subscription, 10000) end);
end $$;

-- waiting_again(subscription, limit): messages that wait for it: in the log, or put off. Counted up to the limit.
create or replace function posthorn.waiting_again(p_subscription int, p_limit int) returns bigint
language sql stable as $$
  select least(p_limit, (select w.messages from posthorn.waiting_in_log(p_subscription, p_limit) w)
    + (select count(*) from (select from posthorn.deferred d where d.subscription = p_subscription and d.delivery > 1 and d.token is null limit p_limit) d))
$$;

-- circuit_after: the circuit after one event. Failures from the future are none: the clock has jumped back since. While it is not closed \`failed_at\` holds when the
-- reason was said: that of the newest answer, for what opened it may be over long ago.
create or replace function posthorn.circuit_after(p_row posthorn.circuit, p_event json, p_breaker json, p_now timestamptz) returns posthorn.circuit
language plpgsql as $$
declare
  v_row posthorn.circuit := p_row;
  v_most int := (p_breaker ->> 'failures')::int;
  v_tried boolean := p_row.state = 'half-open' and p_row.probe = (p_event ->> 'probe')::bigint;
begin
  if p_event ->> 'open' is not null or p_event ->> 'reason' is not null then
    v_row := posthorn.circuit_opened(v_row, coalesce((p_event ->> 'open')::bigint, (p_breaker ->> 'openMs')::bigint), p_now);
    v_row.reason := p_event ->> 'reason';
    v_row.failed_at := array[p_now];
    v_row.probes := v_row.probes + case when v_tried then 1 else 0 end;
  elsif v_tried and p_event ->> 'succeeded' is not null then
    v_row := row(p_row.subscription, 'closed', '{}', null, null, null, null, null, null, null, null, 0)::posthorn.circuit;
  elsif v_tried and p_event ->> 'failed' is not null then
    v_row := posthorn.circuit_opened(v_row, (p_breaker ->> 'openMs')::bigint, p_now);
    v_row.probes := v_row.probes + 1;
  elsif v_tried then
    v_row := posthorn.circuit_opened(v_row, v_row.open_ms, p_now);
    v_row.probe_at := p_now;
  elsif p_event ->> 'failed' is not null and p_row.state = 'closed' then
    v_row.failed_at := array(select f.at from (
        select u.at from unnest(p_row.failed_at) u(at)
          where u.at > p_now - (p_breaker ->> 'windowMs')::float8 * interval '1 ms' and u.at <= p_now
        union all select p_now from generate_series(1, least((p_event ->> 'failed')::int, v_most))
        order by 1 desc limit v_most) f order by 1);
    if cardinality(v_row.failed_at) >= v_most then
      v_row := posthorn.circuit_opened(v_row, (p_breaker ->> 'openMs')::bigint, p_now);
      v_row.failures := cardinality(v_row.failed_at);
      v_row.failed_at := '{}';
    end if;
  end if;
  if v_tried and v_row.state <> 'closed' and p_event ->> 'said' is not null then
    v_row.reason := p_event ->> 'said';
    v_row.failed_at := array[p_now];
  end if;
  return v_row;
end $$;

-- circuit_opened: the circuit open for so long from now on. One that is open already is not opened for less.
create or replace function posthorn.circuit_opened(p_row posthorn.circuit, p_open_ms bigint, p_now timestamptz) returns posthorn.circuit
language plpgsql as $$
declare
  v_row posthorn.circuit := p_row;
begin
  if p_row.state = 'open' and p_row.probe_at > p_now + p_open_ms * interval '1 ms' and p_row.open_ms >= p_open_ms then
    return v_row;
  end if;
  v_row.state := 'open';
  v_row.opened_at := coalesce(p_row.opened_at, p_now);
  v_row.open_ms := p_open_ms;
  v_row.probe_at := p_now + p_open_ms * interval '1 ms';
  v_row.probe := null;
  v_row.probe_worker := null;
  v_row.probe_since := null;
  return v_row;
end $$;

-- circuit_due(subscription): a circuit that is open may be tried at once, however long it was opened for.
create or replace function posthorn.circuit_due(p_subscription int) returns void
language sql as $$
  update posthorn.circuit c set probe_at = clock_timestamp() where c.subscription = p_subscription and c.state = 'open' and c.probe_at > clock_timestamp()
$$;

-- circuit_of(subscription): what people see of a circuit, as JSON { state, openedAt, failures, reason, reasonAt, probeAt, probes }; null where no breaker is declared.
create or replace function posthorn.circuit_of(p_subscription int) returns json
language sql stable as $$
  select json_strip_nulls(json_build_object('state', coalesce(c.state, 'closed'), 'openedAt', c.opened_at, 'failures', c.failures, 'reason', c.reason,
      'reasonAt', case when c.state <> 'closed' and c.reason is not null then c.failed_at[1] end,
      'probeAt', case c.state when 'open' then c.probe_at when 'half-open' then c.probe_since end,
      'probes', case when c.state <> 'closed' then c.probes end))
    from posthorn.subscription s left join posthorn.circuit c on c.subscription = s.id where s.id = p_subscription and s.has_breaker
$$;
` },
  { name: "functions/16_schedule.sql", text: `-- Schedules. The workers compute times, because cron lines and time zones are theirs to read; whether a time is sent is decided here.

-- schedule_now(name): the clock that decides, and what is known of a schedule: { now, cron, timeZone, nextAt, lastAt } as JSON, times in ms.
create or replace function posthorn.schedule_now(p_name text) returns json
language plpgsql as $$
declare
  v_row posthorn.schedule;
begin
  select * into v_row from posthorn.schedule where name = p_name;
  return json_build_object('now', posthorn.ms_of(clock_timestamp()), 'cron', v_row.cron, 'timeZone', v_row.time_zone,
    'nextAt', posthorn.ms_of(v_row.next_at), 'lastAt', posthorn.ms_of(v_row.last_at));
end $$;

-- ms_of(at): a time as JavaScript counts it, rounded down.
create or replace function posthorn.ms_of(p_at timestamptz) returns bigint
language plpgsql immutable as $$
begin
  return floor(extract(epoch from p_at) * 1000)::bigint;
end $$;

-- declare_schedule(…): the newest start wins. Cron line and zone unchanged: the next time stays, so that what was missed is seen as missed.
-- Changed or new: \`next\` counts, and nothing of the past is sent. Returns { revision, before } as JSON; before is null where nothing else was
-- declared: { service, cron, timeZone, changed: the names of the options that differ }. Raises PH020 when another service's schedule for another command has the name.
create or replace function posthorn.declare_schedule(
  p_name text, p_cron text, p_zone text, p_contract int, p_missed text, p_jitter_ms int, p_payload json, p_key text, p_headers json,
  p_function text, p_service text, p_next timestamptz, p_due timestamptz
) returns json
language plpgsql as $$
declare
  v_old posthorn.schedule;
  v_revision bigint;
begin
  perform posthorn.require_home();
  insert into posthorn.schedule (name, cron, time_zone, contract, missed, jitter_ms, payload, key, headers, function, next_at, due_at, service)
    values (p_name, p_cron, p_zone, p_contract, p_missed, p_jitter_ms, p_payload, p_key, p_headers, p_function, p_next, p_due, p_service)
    on conflict (name) do nothing returning revision into v_revision;
  if v_revision is not null then
    return json_build_object('revision', v_revision, 'before', null);
  end if;
  select * into v_old from posthorn.schedule where name = p_name for update;
  if v_old.name is null then
    -- Removed in this moment.
    return posthorn.declare_schedule(p_name, p_cron, p_zone, p_contract, p_missed, p_jitter_ms, p_payload, p_key, p_headers, p_function,
      p_service, p_next, p_due);
  end if;
  if v_old.service <> p_service and (select name from posthorn.contract where id = v_old.contract)
      <> (select name from posthorn.contract where id = p_contract) then
    raise exception 'the schedule "%" sends "%" for service "%", and service "%" declares it for "%"', p_name,
      (select name from posthorn.contract where id = v_old.contract), v_old.service, p_service,
      (select name from posthorn.contract where id = p_contract) using errcode = 'PH020',
      hint = 'Rename one of them, or remove the old one: posthorn schedules remove ' || p_name || '.';
  end if;
  v_revision := v_old.revision;
  if (v_old.cron, v_old.time_zone, v_old.contract, v_old.missed, v_old.jitter_ms, v_old.payload::text, v_old.key, v_old.headers::text, v_old.function)
      is distinct from (p_cron, p_zone, p_contract, p_missed, p_jitter_ms, p_payload::text, p_key, p_headers::text, p_function) then
    v_revision := nextval('posthorn.schedule_revision');
  end if;
  update posthorn.schedule s set revision = v_revision, cron = p_cron, time_zone = p_zone, contract = p_contract, missed = p_missed,
      jitter_ms = p_jitter_ms, payload = p_payload, key = p_key, headers = p_headers, function = p_function, service = p_service,
      declared_at = clock_timestamp(), error = null, failed_at = null,
      next_at = case when (s.cron, s.time_zone) = (p_cron, p_zone) then s.next_at else p_next end,
      due_at = case when (s.cron, s.time_zone) <> (p_cron, p_zone) or s.next_at = p_next then p_due else s.due_at end
    where s.name = p_name;
  return json_build_object('revision', v_revision, 'before', case when v_revision <> v_old.revision then
    json_build_object('service', v_old.service, 'cron', v_old.cron, 'timeZone', v_old.time_zone, 'changed', array_remove(array[
      case when v_old.cron <> p_cron then 'cron' end, case when v_old.time_zone <> p_zone then 'timeZone' end,
      case when v_old.contract <> p_contract then 'command' end, case when v_old.missed <> p_missed then 'missed' end,
      case when v_old.jitter_ms <> p_jitter_ms then 'jitterMs' end,
      case when (v_old.payload::text, v_old.key, v_old.function) is distinct from (p_payload::text, p_key, p_function) then 'payload' end,
      case when v_old.headers::text is distinct from p_headers::text then 'headers' end], null)) end);
end $$;

-- due_schedules(own, limit): what is due by this clock, the longest first, and how long until the next is: { now, due, waitMs } as JSON. \`own\`
-- names the revisions whose payload the caller can compute; of others that need a function it sees nothing.
create or replace function posthorn.due_schedules(p_own json, p_limit int) returns json
language plpgsql as $$
declare
  v_now timestamptz := clock_timestamp();
  v_due json;
  v_next timestamptz;
begin
  select json_agg(json_build_object('name', s.name, 'revision', s.revision, 'cron', s.cron, 'timeZone', s.time_zone, 'missed', s.missed,
      'jitterMs', s.jitter_ms, 'nextAt', posthorn.ms_of(s.next_at), 'computed', s.function is not null,
      'bytes', coalesce(octet_length(s.payload::text), 0))) into v_due
    from (select * from posthorn.schedule s where s.due_at <= v_now and (s.function is null or (p_own ->> s.name)::bigint = s.revision)
      order by s.due_at limit p_limit) s;
  select min(s.due_at) into v_next from posthorn.schedule s
    where s.due_at > v_now and (s.function is null or (p_own ->> s.name)::bigint = s.revision);
  return json_build_object('now', posthorn.ms_of(v_now), 'due', coalesce(v_due, '[]'), 'waitMs', ceil(extract(epoch from v_next - v_now) * 1000));
end $$;

-- fire_schedules(list): fire_schedule for each, in one transaction: at midnight many are due at once. A row that another session holds is passed
-- over and not waited for, so no two of them can wait for each other. \`list\` is [{ name, revision, next, upcoming, due, messages }]; returns
-- what fire_schedule returns, in that order.
create or replace function posthorn.fire_schedules(p_list json) returns json
language plpgsql as $$
declare
  v_one record;
  v_done json[] := '{}';
begin
  for v_one in select * from json_to_recordset(p_list)
      l(name text, revision bigint, next timestamptz, upcoming timestamptz, due timestamptz, messages json) loop
    v_done := v_done || coalesce(
      posthorn.fire_schedule(v_one.name, v_one.revision, v_one.next, v_one.upcoming, v_one.due, v_one.messages), 'null'::json);
  end loop;
  return to_json(v_done);
end $$;

-- fire_schedule(name, revision, next, upcoming, due, messages): sends what is due and moves on, in one transaction: the command exists if and
-- only if the schedule has moved. Of all who try the same \`next\` one succeeds; null for the others, for a schedule that was declared anew
-- or removed, and where this clock says that it is not due. \`messages\` are [{ at, k: key, p: payload }] in order; key and payload only where
-- a function computes them. None at all means that what is due is passed over. Returns { messages, channel }.
create or replace function posthorn.fire_schedule(
  p_name text, p_revision bigint, p_next timestamptz, p_upcoming timestamptz, p_due timestamptz, p_messages json
) returns json
language plpgsql as $$
declare
  v_row posthorn.schedule;
  v_contract posthorn.contract;
  v_list json;
  v_newest timestamptz;
  v_written json;
begin
  perform posthorn.own_transaction(true);
  select * into v_row from posthorn.schedule
    where name = p_name and revision = p_revision and next_at = p_next and due_at <= clock_timestamp() for update skip locked;
  if v_row.name is null then
    return null;
  end if;
  if p_upcoming <= p_next or p_due < p_upcoming then
    raise exception 'the schedule "%" would not move forward: from % to %', p_name, p_next, p_upcoming using errcode = 'PH099';
  end if;
  select * into v_contract from posthorn.contract where id = v_row.contract;
  select max(m.at), json_agg(json_build_object('n', posthorn.random_bigint()::text, 'ch', v_contract.channel, 'c', v_contract.id,
      'k', case when v_row.function is null then v_row.key else m.k end, 'p', case when v_row.function is null then v_row.payload else m.p end,
      'h', coalesce(v_row.headers::jsonb, '{}') || jsonb_build_object('posthorn-schedule', v_row.name,
        'posthorn-scheduled-for', to_char(m.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))) order by m.at)
    into v_newest, v_list
    from json_to_recordset(p_messages) m(at timestamptz, k text, p json)
    where m.at > coalesce(v_row.last_at, '-infinity') and m.at < p_upcoming;
  v_written := case when v_list is not null then posthorn.append(v_list) end;
  update posthorn.schedule set next_at = p_upcoming, due_at = p_due, error = null, failed_at = null,
      last_at = coalesce(v_newest, last_at), last_nonce = coalesce((v_written #>> '{-1,0}')::bigint, last_nonce),
      last_message = coalesce((v_written #>> '{-1,1}')::bigint, last_message)
    where name = p_name;
  return json_build_object('messages', coalesce(json_array_length(v_written), 0), 'channel', v_contract.channel);
end $$;

-- note_schedule_failure(name, revision, error): why a worker could not make the command of a schedule, for whoever lists them.
create or replace function posthorn.note_schedule_failure(p_name text, p_revision bigint, p_error text) returns void
language plpgsql as $$
begin
  perform posthorn.require_home();
  update posthorn.schedule set error = p_error, failed_at = clock_timestamp() where name = p_name and revision = p_revision;
end $$;

-- remove_schedule(name): whether there was one. What it has sent stays sent. A process that declares it makes it anew at its next start.
create or replace function posthorn.remove_schedule(p_name text) returns boolean
language plpgsql as $$
begin
  perform posthorn.require_home();
  delete from posthorn.schedule where name = p_name;
  return found;
end $$;

-- list_schedules(late): all schedules as JSON, by name. Overdue: nobody has sent a command \`late\` ms after it was due.
create or replace function posthorn.list_schedules(p_late_ms int) returns json
language plpgsql as $$
begin
  return (select coalesce(json_agg(json_build_object('name', s.name, 'cron', s.cron, 'timeZone', s.time_zone, 'command', c.name, 'missed', s.missed,
      'jitterMs', s.jitter_ms, 'computed', s.function is not null, 'nextAt', s.next_at, 'dueAt', s.due_at,
      'overdue', s.due_at < clock_timestamp() - p_late_ms * interval '1 ms', 'lastAt', s.last_at,
      'lastMessage', posthorn.public_id(s.last_message, s.last_nonce), 'error', s.error, 'failedAt', s.failed_at, 'service', s.service,
      'declaredAt', s.declared_at) order by s.name), '[]')
    from posthorn.schedule s join posthorn.contract c on c.id = s.contract);
end $$;
` },
  { name: "functions/17_results.sql", text: `-- What handlers return and tell: results and progress. And what receipts ask for.

-- keep_result(subscription, message, nonce, result): keeps a result, in the transaction that ends the delivery, which fences it. The result is
-- JSON { text, keepMs, key, contract }: its own JSON as text, so that it is stored as it was returned. Older workers leave out whose it is.
create or replace function posthorn.keep_result(p_subscription int, p_message bigint, p_nonce bigint, p_result json) returns void
language plpgsql as $$
begin
  insert into posthorn.result (subscription, message, nonce, ended_at, keep_until, result, key, contract)
    values (p_subscription, p_message, p_nonce, clock_timestamp(), clock_timestamp() + (p_result ->> 'keepMs')::float8 * interval '1 ms',
      (p_result ->> 'text')::json, p_result ->> 'key', (p_result ->> 'contract')::int)
    on conflict (subscription, message) do update set nonce = excluded.nonce, ended_at = excluded.ended_at, keep_until = excluded.keep_until,
      result = excluded.result, key = excluded.key, contract = excluded.contract;
end $$;

-- end_with_result(…, as end_in_transaction but for nonce before say, result): the last statement of a handler's transaction whose message has a result.
create or replace function posthorn.end_with_result(
  p_subscription int, p_message bigint, p_message_slot smallint, p_delivery int, p_claim bigint, p_claim_slot smallint, p_deferred bigint,
  p_token bigint, p_started text, p_nonce bigint, p_say json, p_result json
) returns json
language plpgsql as $$
declare
  v_said json := posthorn.end_in_transaction(p_subscription, p_message, p_message_slot, p_delivery, p_claim, p_claim_slot, p_deferred, p_token,
    p_started, p_say);
begin
  perform posthorn.keep_result(p_subscription, p_message, p_nonce, p_result);
  return v_said;
end $$;

-- write_progress(worker, values, ended): keeps the last value of each run, [{ subscription, message, delivery, value }], and forgets those that
-- ended, [{ subscription, message, delivery }]. A stale holder changes nothing: the higher delivery wins. Nobody waits for the disk.
create or replace function posthorn.write_progress(p_worker bigint, p_values json, p_ended json) returns void
language plpgsql as $$
begin
  perform posthorn.own_transaction(false);
  insert into posthorn.progress (subscription, message, delivery, worker, at, value)
    select v.subscription, v.message, v.delivery, p_worker, clock_timestamp(), v.value
    from json_to_recordset(p_values) as v(subscription int, message bigint, delivery int, value json)
    -- In one order for everybody: two processes that write the same rows must not wait for each other.
    order by v.subscription, v.message
    on conflict (subscription, message) do update set delivery = excluded.delivery, worker = excluded.worker, at = excluded.at,
      value = excluded.value where posthorn.progress.delivery <= excluded.delivery;
  delete from posthorn.progress p using json_to_recordset(p_ended) as e(subscription int, message bigint, delivery int)
    where p.subscription = e.subscription and p.message = e.message and p.delivery = e.delivery;
end $$;

-- with_outcome(subscription, message, nonce, contract, status): a status of message_status with what receipts want beside it: the progress
-- of a running message and whether somebody asked to cancel it; the result of one that succeeded, for as long as it is kept; and kind and name of
-- the contract, where it is known.
create or replace function posthorn.with_outcome(p_subscription int, p_message bigint, p_nonce bigint, p_contract int, p_status json) returns json
language plpgsql stable as $$
declare
  v_more jsonb := coalesce((select jsonb_build_object('contract', c.name, 'kind', c.kind) from posthorn.contract c where c.id = p_contract), '{}');
  v_result json;
begin
  if p_status ->> 'state' = 'running' then
    v_more := v_more
      || coalesce((select jsonb_build_object('progress', p.value) from posthorn.progress p
        where p.subscription = p_subscription and p.message = p_message and p.delivery = (p_status ->> 'delivery')::int), '{}')
      || coalesce((select jsonb_build_object('cancelRequestedAt', c.requested_at) from posthorn.cancel_request c
        where c.subscription = p_subscription and c.message = p_message and c.nonce = p_nonce and not c.quiet), '{}');
  elsif p_status ->> 'state' = 'succeeded' then
    select r.result into v_result from posthorn.result r
      where r.subscription = p_subscription and r.message = p_message and r.nonce = p_nonce and r.keep_until > clock_timestamp();
  end if;
  if v_result is null and v_more = '{}' then
    return p_status;
  end if;
  -- Put together as text: a result comes back as it was stored.
  return concat(left(p_status::text, -1), case when v_more <> '{}' then ',' || substr(left(v_more::text, -1), 2) end,
    case when v_result is not null then ',"result":' || v_result end, '}')::json;
end $$;

-- message_statuses(public ids): message_status of many messages in one snapshot, as JSON { id: status or null }.
create or replace function posthorn.message_statuses(p_publics json) returns json
language plpgsql stable as $$
begin
  return (select json_object_agg(i.id, posthorn.message_status(i.id)) from json_array_elements_text(p_publics) i(id));
end $$;

-- prune(every, limit): removes what has been kept for its time, at most \`limit\` rows of each kind, once in the fleet within \`every\` ms. Returns how
-- many rows the fullest kind lost; null when it was not our turn.
create or replace function posthorn.prune(p_every_ms int, p_limit int) returns int
language plpgsql as $$
declare
  v_rows int;
  v_most int := 0;
begin
  perform posthorn.own_transaction(false);
  if not pg_try_advisory_xact_lock(posthorn.lock_key('prune')) then
    return null;
  end if;
  insert into posthorn.maintenance (name, ran_at) values ('prune', clock_timestamp())
    on conflict (name) do update set ran_at = excluded.ran_at where posthorn.maintenance.ran_at <= clock_timestamp() - p_every_ms * interval '1 ms';
  if not found then
    return null;
  end if;
  delete from posthorn.result r using (
    select k.subscription, k.message from posthorn.result k where k.keep_until < clock_timestamp() order by k.keep_until limit p_limit) old
    where r.subscription = old.subscription and r.message = old.message;
  get diagnostics v_rows = row_count;
  v_most := greatest(v_most, v_rows);
  delete from posthorn.cancelled c using (
    select k.subscription, k.message from posthorn.cancelled k where k.keep_until < clock_timestamp() order by k.keep_until limit p_limit) old
    where c.subscription = old.subscription and c.message = old.message;
  get diagnostics v_rows = row_count;
  v_most := greatest(v_most, v_rows);
  delete from posthorn.discarded d using (
    select k.subscription, k.message from posthorn.discarded k where k.keep_until < clock_timestamp() order by k.keep_until limit p_limit) old
    where d.subscription = old.subscription and d.message = old.message;
  get diagnostics v_rows = row_count;
  v_most := greatest(v_most, v_rows);
  -- A live worker removes its own; those of a worker that is gone are nobody's.
  delete from posthorn.progress p where not exists (select from posthorn.worker w where w.id = p.worker);
  -- History: \`posthorn alerts\` shows the newest of it, and nobody looks further back than this.
  delete from posthorn.alert a where a.id in (
    select k.id from posthorn.alert k where k.resolved_at < clock_timestamp() - interval '90 days' limit p_limit);
  get diagnostics v_rows = row_count;
  v_most := greatest(v_most, v_rows);
  perform posthorn.sweep_cancel_requests(p_limit);
  return v_most;
end $$;
` },
  { name: "functions/18_cancel.sql", text: `-- Cancelling commands.
--
-- A message that waits in the log is cancelled under its lane's lock, by a mark that the claim of its window leaves out: whether a claim has
-- come to it is looked at in a later statement than the lock is taken in, so no claim and no mark both get it. One that waits in \`deferred\`
-- is removed, under the lock of its row. One that runs is asked to stop: its request is a row that the worker looks for, and that stays until the
-- message has ended; whatever would have it run again (a failure, a crash, a hand-back, a take) finds the row and ends it instead.

-- cancel(message, by): cancels a command by its public id, in a transaction of its own: it holds the lock of the message's lane until COMMIT. Returns
--   cancelled  it waited, and will not run; or it was cancelled before
--   signalled  it runs, and its signal fires; if it fails now, it is cancelled, and if it succeeds all the same, it has succeeded
--   too-late   it has ended
-- Raises PH030 (no such message), PH032 (older than what the log keeps), PH011 (an event), PH031 (the transaction has written something before).
create or replace function posthorn.cancel(message text, by text default null) returns text
language sql volatile as $$ select posthorn.cancel_message($1, coalesce($2, session_user::text)) $$;

create or replace function posthorn.cancel_message(p_public text, p_by text) returns text
language plpgsql as $$
declare
  v_id bigint := posthorn.id_of(p_public);
  v_nonce bigint := posthorn.nonce_of(p_public);
  v_log record;
  v_subscription posthorn.subscription;
  v_fate record;
begin
  if pg_current_xact_id_if_assigned() is not null then
    raise exception 'cancel was called in a transaction that has written something: others would wait for its end' using errcode = 'PH031',
      hint = 'Call it alone, after your transaction.';
  end if;
  perform posthorn.own_transaction(true), set_config('lock_timeout', '5s', true);
  select w.*, c.channel, c.kind, c.name into v_log from posthorn.where_in_log(v_id, v_nonce) w join posthorn.contract c on c.id = w.contract;
  if v_log.kind = 'event' then
    raise exception '"%" is an event and cannot be cancelled: it has happened', v_log.name using errcode = 'PH011';
  elsif v_log.contract is null then
    select s.* into v_subscription from posthorn.subscription s join posthorn.channel c on c.id = s.channel
      where c.kind = 'command' and posthorn.waiting_status(s, v_id, v_nonce) is not null limit 1;
  else
    -- A queue has one reader.
    select s.* into v_subscription from posthorn.subscription s where s.channel = v_log.channel;
  end if;
  if v_subscription.id is null and posthorn.is_forgotten(p_public) then
    raise exception 'if there was a command with the id %, it has ended, and the log does not keep it any more', left(p_public, 80) using errcode = 'PH032',
      hint = 'It is too late to cancel it.';
  elsif v_subscription.id is null then
    raise exception 'no command has the id %', left(p_public, 80) using errcode = 'PH030',
      hint = 'Is it whole, and is this the database that it was sent in?';
  end if;
  if posthorn.cancel_waiting(v_subscription, v_id, v_nonce, p_by) then
    return 'cancelled';
  end if;
  if v_log.contract is not null and posthorn.waiting_status(v_subscription, v_id, v_nonce) is null then
    perform pg_advisory_xact_lock(posthorn.lock_key('lane', v_subscription.id, v_log.lane));
    select f.* into v_fate from posthorn.fate_in_log(v_subscription, v_log.lane, v_id, v_log.xid) f;
    if v_fate.state = 'queued' and posthorn.waiting_status(v_subscription, v_id, v_nonce) is null then
      insert into posthorn.cancel_mark (subscription, message) values (v_subscription.id, v_id);
      perform posthorn.write_cancelled(posthorn.delivery_of(v_subscription.id, v_log.lane, v_id, v_log.slot), 'before it began', p_by);
      return 'cancelled';
    end if;
  end if;
  return posthorn.request_cancel(v_subscription, v_id, v_nonce, p_by);
end $$;

-- cancel_waiting: ends a delivery that waits in \`deferred\`; false when none does. Waits for whoever is taking it just now.
create or replace function posthorn.cancel_waiting(p_subscription posthorn.subscription, p_id bigint, p_nonce bigint, p_by text) returns boolean
language plpgsql as $$
declare
  v_row posthorn.deferred;
  v_request posthorn.cancel_request;
begin
  delete from posthorn.deferred d where d.subscription = p_subscription.id and d.message = p_id and d.nonce = p_nonce and d.token is null
    returning d.* into v_row;
  if v_row.id is null then
    return false;
  end if;
  delete from posthorn.cancel_request c where c.subscription = p_subscription.id and c.message = p_id and c.nonce = p_nonce returning * into v_request;
  perform posthorn.write_stopped(v_row, v_request.erased, case when v_row.attempts = 0 and v_row.crashes = 0 then 'before it began'
    else 'between two attempts' end, p_by);
  if v_row.once_more then
    perform posthorn.let_go(v_row.id);
  end if;
  -- Where order is kept, those of its key that waited behind it go on.
  if v_row.place is not null then
    perform posthorn.promote_key(v_row.subscription, v_row.key);
  end if;
  return true;
end $$;

-- request_cancel: asks a message that runs to stop; if it has come to wait meanwhile, ends it.
create or replace function posthorn.request_cancel(p_subscription posthorn.subscription, p_id bigint, p_nonce bigint, p_by text) returns text
language plpgsql as $$
declare
  v_end text := posthorn.end_by_now(p_subscription, p_id, p_nonce);
begin
  if v_end is not null then
    return case when v_end = 'cancelled' then 'cancelled' else 'too-late' end;
  end if;
  insert into posthorn.cancel_request (subscription, message, nonce, requested_at, requested_by)
    values (p_subscription.id, p_id, p_nonce, clock_timestamp(), p_by) on conflict (subscription, message) do update set quiet = false;
  if posthorn.cancel_waiting(p_subscription, p_id, p_nonce, p_by) then
    return 'cancelled';
  end if;
  perform pg_notify('posthorn_wake', 'cancel');
  return 'signalled';
end $$;

-- end_by_now: the state in which a message has ended, 'unknown' when nothing is left of it; null while it has not ended.
create or replace function posthorn.end_by_now(p_subscription posthorn.subscription, p_id bigint, p_nonce bigint) returns text
language plpgsql stable as $$
declare
  v_state text;
begin
  select r.status ->> 'state' into v_state from json_array_elements(posthorn.message_status(posthorn.public_id(p_id, p_nonce))) r(status)
    where r.status ->> 'subscription' = p_subscription.name;
  return case when v_state is null then 'unknown' when v_state in ('succeeded', 'dead', 'invalid', 'cancelled', 'expired', 'discarded') then v_state end;
end $$;

-- write_stopped: the end of a message that somebody asked to cancel, or whose payload was erased while it ran. What failed then may quote the payload.
create or replace function posthorn.write_stopped(p_row posthorn.deferred, p_erased boolean, p_reason text, p_by text) returns void
language plpgsql as $$
begin
  if p_erased then
    p_row.history := '[]';
    perform posthorn.write_discarded(p_row, 'erased', p_by, 'erased');
  else
    perform posthorn.write_cancelled(p_row, p_reason, p_by);
  end if;
end $$;

-- write_cancelled: the end of a message that was cancelled.
create or replace function posthorn.write_cancelled(p_row posthorn.deferred, p_reason text, p_by text) returns void
language plpgsql as $$
begin
  insert into posthorn.cancelled (subscription, message, nonce, contract, cancelled_at, keep_until, cancelled_by, reason, delivery, attempts,
      published_at, history, key)
    select p_row.subscription, p_row.message, p_row.nonce, p_row.contract, clock_timestamp(), clock_timestamp()
      + coalesce((s.policy #>> '{deadLetter,keepMs}')::float8, 2592000000) * interval '1 ms', left(p_by, 200), p_reason, p_row.delivery, p_row.attempts,
      p_row.published_at, p_row.history, p_row.key
    from posthorn.subscription s where s.id = p_row.subscription;
end $$;

-- without_marked(subscription, batch): what a claim found without what was cancelled, whose marks are used up. For the holder of the lane's lock.
create or replace function posthorn.without_marked(p_subscription int, p_batch posthorn.batch) returns posthorn.batch
language plpgsql as $$
declare
  v_marked bigint[];
begin
  with used as (
    delete from posthorn.cancel_mark k where k.subscription = p_subscription and k.message = any (p_batch.ids) returning k.message)
    select array_agg(u.message) into v_marked from used u;
  if v_marked is null then
    return p_batch;
  end if;
  return (select row(coalesce(array_agg(i.id order by i.n), '{}'),
      case when p_batch.slots is not null then coalesce(array_agg(i.slot order by i.n), '{}') end,
      string_agg(i.item::text, ',' order by i.n))::posthorn.batch
    from rows from (unnest(p_batch.ids), unnest(p_batch.slots), json_array_elements(('[' || p_batch.items || ']')::json))
      with ordinality i(id, slot, item, n)
    where i.id <> all (v_marked));
end $$;

-- cancel_instead(row, next): ends a message for good that somebody asked to cancel and that would otherwise run again or be a dead letter; true if it
-- did. An outcome that is unknown stays so: a person has to look. Whatever the end is, the request has done its work.
create or replace function posthorn.cancel_instead(p_row posthorn.deferred, p_next json) returns boolean
language plpgsql as $$
declare
  v_by text;
  v_erased boolean;
begin
  delete from posthorn.cancel_request c where c.subscription = p_row.subscription and c.message = p_row.message and c.nonce = p_row.nonce
    returning c.requested_by, c.erased into v_by, v_erased;
  if v_by is null or not v_erased and ((p_next -> 'defer' is null and p_next -> 'dead' is null) or p_next #>> '{dead,reason}' = 'outcome unknown')
      or v_erased and p_next -> 'defer' is null and p_next -> 'dead' is null and p_next -> 'invalid' is null then
    return false;
  end if;
  delete from posthorn.deferred d where d.subscription = p_row.subscription and d.message = p_row.message;
  p_row.attempts := coalesce((p_next #>> '{defer,attempts}')::int, (p_next #>> '{dead,attempts}')::int, p_row.attempts);
  perform posthorn.write_stopped(p_row, v_erased, 'while it ran', v_by);
  return true;
end $$;

-- without_requested(subscription, ids): deliveries that a take has locked, without those that somebody asked to cancel, which end here.
create or replace function posthorn.without_requested(p_subscription int, p_ids bigint[]) returns bigint[]
language plpgsql as $$
declare
  v_row posthorn.deferred;
  v_by text;
  v_erased boolean;
  v_keys text[] := '{}';
begin
  for v_row in delete from posthorn.deferred d using posthorn.cancel_request c
      where d.id = any (p_ids) and c.subscription = d.subscription and c.message = d.message and c.nonce = d.nonce returning d.* loop
    p_ids := array_remove(p_ids, v_row.id);
    delete from posthorn.cancel_request c where c.subscription = v_row.subscription and c.message = v_row.message returning c.requested_by, c.erased
      into v_by, v_erased;
    perform posthorn.write_stopped(v_row, v_erased, 'between two attempts', v_by);
    if v_row.once_more then
      perform posthorn.let_go(v_row.id);
    end if;
    if v_row.place is not null then
      v_keys := v_keys || v_row.key;
    end if;
  end loop;
  -- In one order for everybody, as promote does it.
  perform posthorn.promote_key(p_subscription, k.key) from (select distinct u.key from unnest(v_keys) u(key) order by u.key) k;
  return p_ids;
end $$;

-- cancel_requests(worker): messages that somebody asked to cancel, of all that a worker works on: [[subscription, message]]. Another worker may hold
-- them.
create or replace function posthorn.cancel_requests(p_worker bigint) returns json
language plpgsql as $$
begin
  perform posthorn.own_transaction(false);
  return (select coalesce(json_agg(json_build_array(c.subscription, c.message::text)), '[]') from posthorn.cancel_request c
    where not c.quiet and c.subscription in (select a.subscription from posthorn.attendance a where a.worker = p_worker));
end $$;

-- sweep_cancel_requests(limit): forgets requests whose messages have ended, and ends messages that wait: their run ended in the moment of the
-- request.
create or replace function posthorn.sweep_cancel_requests(p_limit int) returns void
language plpgsql as $$
declare
  v_request posthorn.cancel_request;
  v_subscription posthorn.subscription;
begin
  -- Never waits for a row: a settlement that holds one may want another that is held here.
  for v_request in select * from posthorn.cancel_request order by subscription, message limit p_limit for update skip locked loop
    select * into v_subscription from posthorn.subscription where id = v_request.subscription;
    perform d.id from posthorn.deferred d where d.subscription = v_request.subscription and d.message = v_request.message
      and d.nonce = v_request.nonce and d.token is null for update skip locked;
    if found then
      perform posthorn.cancel_waiting(v_subscription, v_request.message, v_request.nonce, v_request.requested_by);
    elsif posthorn.end_by_now(v_subscription, v_request.message, v_request.nonce) is not null then
      delete from posthorn.cancel_request c where c.subscription = v_request.subscription and c.message = v_request.message;
    end if;
  end loop;
end $$;

-- why_told: what is known about a running message beside its place: { progress, cancelRequestedAt, cancelRequestedBy }.
create or replace function posthorn.why_told(p_receiver json, p_id bigint, p_nonce bigint) returns jsonb
language plpgsql stable as $$
declare
  v_subscription int;
begin
  if p_receiver ->> 'state' is distinct from 'running' then
    return '{}';
  end if;
  select s.id into v_subscription from posthorn.subscription s where s.name = p_receiver ->> 'subscription';
  return coalesce((select jsonb_build_object('progress', p.value) from posthorn.progress p
      where p.subscription = v_subscription and p.message = p_id and p.delivery = (p_receiver ->> 'delivery')::int), '{}')
    || coalesce((select jsonb_build_object('cancelRequestedAt', c.requested_at, 'cancelRequestedBy', c.requested_by) from posthorn.cancel_request c
      where c.subscription = v_subscription and c.message = p_id and c.nonce = p_nonce and not c.quiet), '{}');
end $$;
` },
  { name: "functions/19_order.sql", text: `-- Order per key. Of a reader that keeps it, these hold for each key:
--   a message runs only when all before it have ended for good, were put aside before it, or were skipped over as dead;
--   while a claim is open, no other claim takes a message whose key it holds: the page is cut before it;
--   while a key is parked, its messages are put aside behind those that wait, and only the first of them is due.
-- A claim looks at open claims in an earlier statement than at parked keys: a failing holder closes its part and parks the key in one transaction,
-- so whoever sees the part sees the key.

-- in_order(slots, subscription, channel, lane, batch, keys, marked): what may be taken of a page; \`taken\` 0 when its first message must wait. \`keys\` of its
-- messages where they are known, else null. \`marked\`: somebody has cancelled messages of this reader; their marks are used up for what is taken, and for nothing else.
create or replace function posthorn.in_order(
  p_slots smallint[], p_subscription int, p_channel int, p_lane int, p_batch posthorn.batch, p_keys text[], p_marked boolean
) returns posthorn.turn language plpgsql as $$
declare
  v_turn posthorn.turn;
  v_slots smallint[] := coalesce(p_batch.slots, array_fill(p_slots[1], array[cardinality(p_batch.ids)]));
  v_keys text[];
  v_open bigint[];
  v_unknown boolean;
  v_parked text[];
  v_waiting text[];
  v_ours text[];
  v_cancelled bigint[] := '{}';
begin
  select o.keys, o.open_from, o.unknown into v_open, v_turn.open_from, v_unknown from posthorn.open_keys(p_subscription, p_lane) o;
  v_keys := case when p_keys is not null then p_keys when p_batch.slots is null then posthorn.keys_of(p_slots[1], p_channel, p_lane, p_batch.ids)
    else array(select i.item ->> 4 from json_array_elements(('[' || p_batch.items || ']')::json) i(item)) end;
  -- A few are read as they lie there, which costs less than to ask for each key of the page.
  v_parked := array(select p.key from posthorn.parked_key p where p.subscription = p_subscription order by p.key limit 129);
  if cardinality(v_parked) <= 128 then
    v_waiting := case when v_parked = '{}' then v_parked else array(select p.key from unnest(v_parked) p(key) where p.key = any (v_keys)) end;
  else
    v_waiting := array(select p.key from posthorn.parked_key p where p.subscription = p_subscription and p.key = any (v_keys));
  end if;
  if v_waiting <> '{}' then
    -- Held until the end of this transaction, so that nobody finds the key's waiting messages gone while some are added.
    v_ours := array(select p.key from posthorn.parked_key p where p.subscription = p_subscription and p.key = any (v_waiting) for update skip locked);
  end if;
  v_turn.keys := array(select hashtextextended(k.key, 0) from unnest(v_keys) k(key));
  v_turn.taken := cardinality(v_keys);
  if v_unknown then
    v_turn.taken := 0;
  elsif v_open is not null or v_waiting <> '{}' then
    -- least passes over what is null.
    v_turn.taken := least(v_turn.taken,
      (select min(k.n) - 1 from unnest(v_turn.keys) with ordinality k(hash, n) join unnest(v_open) o(hash) on o.hash = k.hash),
      case when v_waiting <> '{}' then (select min(k.n) - 1 from unnest(v_keys) with ordinality k(key, n)
        where k.key = any (v_waiting) and k.key <> all (v_ours)) end);
  end if;
  if p_marked and v_turn.taken > 0 then
    with used as (
      delete from posthorn.cancel_mark k where k.subscription = p_subscription and k.message = any (p_batch.ids[1 : v_turn.taken]) returning k.message)
      select coalesce(array_agg(u.message), '{}') into v_cancelled from used u;
  end if;
  if v_turn.taken = cardinality(v_keys) and v_waiting = '{}' and v_cancelled = '{}' then
    v_turn.messages := p_batch.ids;
    v_turn.message_slots := p_batch.slots;
    v_turn.ids := p_batch.ids;
    v_turn.slots := p_batch.slots;
    v_turn.items := p_batch.items;
    return v_turn;
  end if;
  select coalesce(array_agg(m.id), '{}'), coalesce(array_agg(m.hash), '{}'), case when p_batch.slots is not null then coalesce(array_agg(m.slot), '{}') end,
      array_agg(m.id) filter (where not m.waits), array_agg(m.slot) filter (where not m.waits),
      array_agg(m.id) filter (where m.waits), array_agg(m.slot) filter (where m.waits)
    into v_turn.messages, v_turn.keys, v_turn.message_slots, v_turn.ids, v_turn.slots, v_turn.parked, v_turn.parked_slots
    from (select i.id, i.slot, i.hash, coalesce(i.key = any (v_waiting), false) as waits
      from rows from (unnest(p_batch.ids), unnest(v_slots), unnest(v_keys), unnest(v_turn.keys)) with ordinality i(id, slot, key, hash, n)
      where i.n <= v_turn.taken and i.id <> all (v_cancelled)) m;
  if cardinality(v_turn.ids) * 2 > cardinality(p_batch.ids) then
    v_turn.items := p_batch.items;
    v_turn.skipped := v_turn.parked || v_cancelled || p_batch.ids[v_turn.taken + 1 :];
  else
    v_turn.items := (select string_agg(i.item::text, ',') from rows from (unnest(p_batch.ids), json_array_elements(('[' || p_batch.items || ']')::json)) i(id, item)
      where i.id = any (v_turn.ids));
  end if;
  return v_turn;
end $$;

-- open_keys: hashes of the keys that open claims of a lane hold, the number from which on a claim can be open, and whether one is open whose
-- keys nobody wrote down: it was made while the reader kept no order. Claims of the lane can be open in slots whose messages it has done with.
create or replace function posthorn.open_keys(p_subscription int, p_lane int, out keys bigint[], out open_from bigint, out unknown boolean)
language plpgsql as $$
declare
  v_slots smallint[] := (select r.slots[greatest(l.held_from - r.first_segment, 0)::int + 1 :] from posthorn.ring r, posthorn.lane l
    where l.subscription = p_subscription and l.lane = p_lane);
  v_slot smallint;
  v_found record;
begin
  unknown := false;
  foreach v_slot in array v_slots loop
    v_found := posthorn.open_keys_of(v_slot, p_subscription, p_lane);
    keys := coalesce(keys || v_found.keys, v_found.keys, keys);
    open_from := coalesce(v_found.open_from, open_from);
    unknown := unknown or v_found.unknown;
  end loop;
end $$;

-- Plan: claim_N_by_n from the oldest claim that can be open, probes of settlement_N_by_part.
select posthorn.by_slot(
  'open_keys_of(p_slot smallint, p_subscription int, p_lane int, out keys bigint[], out open_from bigint, out unknown boolean)', 'record', $body$
  declare v_newest posthorn.claim_1;
  begin
    unknown := false;
    select * into v_newest from posthorn.claim_{slot} c where c.subscription = p_subscription and c.lane = p_lane order by c.n desc limit 1;
    if v_newest.id is null then
      return;
    elsif v_newest.open_from is null then
      select min(c.n), count(*) > 0 into open_from, unknown from posthorn.open_claims() c where c.subscription = p_subscription and c.lane = p_lane;
    else
      select min(c.n), array_agg(m.key), coalesce(bool_or(c.keys is null), false) into open_from, keys, unknown
        from posthorn.claim_{slot} c left join lateral unnest(c.messages, c.keys) m(id, key)
          on not exists (select from posthorn.settlement_{slot} t where t.claim = c.id and m.id = any (t.messages) and t.outcome is distinct from 'begun' offset 0)
        where c.subscription = p_subscription and c.lane = p_lane and c.n >= v_newest.open_from
          and not exists (select from posthorn.settlement_{slot} t where t.claim = c.id and t.closes offset 0);
    end if;
    open_from := coalesce(open_from, v_newest.n + 1);
  end;
$body$);

-- keys_of: the keys of messages, in the order of their ids.
select posthorn.by_slot('keys_of(p_slot smallint, p_channel int, p_lane int, p_ids bigint[])', 'text[]', $body$
  return array(select m.key from unnest(p_ids) i(id)
    cross join lateral (select m.key from posthorn.message_{slot} m where m.channel = p_channel and m.lane = p_lane and m.id = i.id offset 0) m);
$body$);

-- write_turn: the claim row of an ordered claim, and what it puts aside. Where nothing of it is to run, it is closed at once.
create or replace function posthorn.write_turn(
  p_claim bigint, p_token bigint, p_worker bigint, p_subscription int, p_channel int, p_lane int, p_at posthorn.position, p_took_late boolean,
  p_ring posthorn.ring, p_turn posthorn.turn
) returns void
language plpgsql as $$
declare
  v_slot smallint;
begin
  perform posthorn.write_ordered_claim(p_at.slot, p_claim, p_token, p_worker, p_subscription, p_lane, p_at, p_took_late, p_turn.messages,
    p_turn.message_slots, p_turn.keys, coalesce(p_turn.open_from, p_at.n));
  if p_turn.parked is not null then
    -- By slot of the ring, the oldest first: within a slot in the order of the page.
    foreach v_slot in array p_ring.slots loop
      perform posthorn.put_aside_of(v_slot, p_subscription, p_channel, p_lane,
        array(select m.id from unnest(p_turn.parked, p_turn.parked_slots) m(id, slot) where m.slot = v_slot));
    end loop;
    perform posthorn.settle_part_of(p_at.slot, p_claim, p_token, 1, 'parked', p_turn.ids is null, p_turn.parked);
  elsif p_turn.ids is null then
    perform posthorn.settle_part_of(p_at.slot, p_claim, p_token, 1, null, true, '{}');
  end if;
end $$;

select posthorn.by_slot(
  'write_ordered_claim(p_slot smallint, p_claim bigint, p_token bigint, p_worker bigint, p_subscription int, p_lane int, p_at posthorn.position, p_took_late boolean, p_messages bigint[], p_message_slots smallint[], p_keys bigint[], p_open_from bigint)',
  'void', $body$
  insert into posthorn.claim_{slot} (id, n, token, worker, floor, ceiling, last_id, at, subscription, lane, late, took_late, late_xids, messages, message_slots,
      keys, open_from)
    values (p_claim, p_at.n, p_token, p_worker, p_at.floor, p_at.ceiling, p_at.last_id, clock_timestamp(), p_subscription, p_lane, p_at.late,
      p_took_late, p_at.late_xids, p_messages, p_message_slots, p_keys, p_open_from);
$body$);

-- put_aside_of: messages that were never run, behind those of their key that wait. The first delivery ends as parked.
select posthorn.by_slot('put_aside_of(p_slot smallint, p_subscription int, p_channel int, p_lane int, p_ids bigint[])', 'void', $body$
  insert into posthorn.deferred (subscription, due_at, delivery, attempts, crashes, reason, message, nonce, channel, lane, contract, key, payload, headers,
      published_at, history, place, expires_at, priority)
    select p_subscription, 'infinity', 2, 0, 0, 'parked', m.id, m.nonce, m.channel, m.lane, m.contract, m.key, m.payload, m.headers, m.published_at, '[]',
      nextval('posthorn.place'), m.expires_at, posthorn.priority_of(m.lane)
    from unnest(p_ids) i(id)
      cross join lateral (select * from posthorn.message_{slot} m where m.channel = p_channel and m.lane = p_lane and m.id = i.id offset 0) m;
$body$);

-- park(subscription, key): later messages of the key wait from now on.
create or replace function posthorn.park(p_subscription int, p_key text) returns void
language plpgsql as $$
begin
  insert into posthorn.parked_key (subscription, key) values (p_subscription, p_key) on conflict do nothing;
end $$;

-- turn_of(row): gives a delivery that is to wait its place in the order of its key, and when it is due there: what waits behind another is
-- due at infinity. Only for a key that this holder holds or that is parked already.
create or replace function posthorn.turn_of(p_row posthorn.deferred) returns posthorn.deferred
language plpgsql as $$
begin
  perform posthorn.park(p_row.subscription, p_row.key);
  p_row.place := coalesce(p_row.place, nextval('posthorn.place'));
  if posthorn.is_behind(p_row.subscription, p_row.key, p_row.place) then
    p_row.due_at := 'infinity';
  end if;
  return p_row;
end $$;

-- is_behind: whether a message of the key with a lower place waits, runs, or lies dead in the way.
create or replace function posthorn.is_behind(p_subscription int, p_key text, p_place bigint) returns boolean
language plpgsql as $$
begin
  return exists (select from posthorn.deferred d where d.subscription = p_subscription and d.key = p_key and d.place < p_place)
    or exists (select from posthorn.dead_letter d where d.subscription = p_subscription and d.key = p_key and d.place < p_place)
    or exists (select from posthorn.invalid d where d.subscription = p_subscription and d.key = p_key and d.place < p_place);
end $$;

-- promote(subscription, keys): makes the next message of each key due, or lets the key go when nothing of it waits. Repeatable: it looks at what is
-- there. A step of its own after the end of the message before: in the handler's transaction its row lock would stop the lane.
create or replace function posthorn.promote(p_subscription int, p_keys json) returns int
language plpgsql as $$
declare
  v_key text;
  v_promoted int := 0;
begin
  perform posthorn.own_transaction(false);
  -- In one order, so that two that promote the same keys wait for each other only one way.
  for v_key in select distinct k from json_array_elements_text(p_keys) k order by k loop
    v_promoted := v_promoted + posthorn.promote_key(p_subscription, v_key);
  end loop;
  return v_promoted;
end $$;

create or replace function posthorn.promote_key(p_subscription int, p_key text) returns int
language plpgsql as $$
declare
  v_next posthorn.deferred;
begin
  perform from posthorn.parked_key p where p.subscription = p_subscription and p.key = p_key for update;
  if not found then
    return 0;
  end if;
  -- A later statement than the lock: whoever held it may have put messages aside.
  select * into v_next from posthorn.deferred d where d.subscription = p_subscription and d.key = p_key and d.place is not null order by d.place limit 1;
  if v_next.id is null then
    delete from posthorn.parked_key p where p.subscription = p_subscription and p.key = p_key
      and not posthorn.is_behind(p_subscription, p_key, 9223372036854775807);
  elsif v_next.due_at = 'infinity' and not posthorn.is_behind(p_subscription, p_key, v_next.place) then
    update posthorn.deferred set due_at = clock_timestamp() where id = v_next.id and due_at = 'infinity';
    return 1;
  end if;
  return 0;
end $$;

-- enter(subscription): messages that wait outside of the order of their key (delayed, or redriven where the others went on) and are due take their
-- place at its end. Plan: deferred_due, once for each priority in use. Not while a claim holds the key; whoever claims next must see what was decided here,
-- hence the lock of the lane.
create or replace function posthorn.enter(p_subscription int) returns void
language plpgsql as $$
declare
  v_lane int;
  v_row posthorn.deferred;
  v_open record;
  -- Read once: compared with a function that may change, the index would be read on to its end. In order of time, so that of the indexes that an
  -- empty table makes equal the one is taken that stops at it.
  v_now timestamptz := clock_timestamp();
begin
  if not exists (select from posthorn.classes(p_subscription) c(class) cross join lateral (select from posthorn.deferred d where d.subscription = p_subscription
        and d.priority = c.class and d.token is null and d.place is null and d.key is not null and d.due_at <= v_now order by d.due_at limit 1) d) then
    return;
  end if;
  -- A key is in one lane. What was scheduled was written into none, and its queue has one.
  for v_lane in select l.lane from posthorn.lane l where l.subscription = p_subscription and l.lane <= 1024 order by l.lane loop
    continue when not pg_try_advisory_xact_lock(posthorn.lock_key('lane', p_subscription, v_lane));
    select * into v_open from posthorn.open_keys(p_subscription, v_lane);
    for v_row in select due.* from posthorn.classes(p_subscription) c(class)
        cross join lateral (select d.* from posthorn.deferred d where d.subscription = p_subscription and d.priority = c.class and d.token is null
          and d.place is null and d.key is not null and d.due_at <= v_now and case when d.lane between 0 and 1024 then d.lane else 0 end = v_lane
          order by d.due_at limit 100 for update skip locked) due
        order by due.due_at limit 100 loop
      if v_open.unknown or hashtextextended(v_row.key, 0) = any (v_open.keys) then
        update posthorn.deferred set due_at = clock_timestamp() + interval '20 ms' where id = v_row.id;
      else
        v_row := posthorn.turn_of(v_row);
        update posthorn.deferred set place = v_row.place, due_at = v_row.due_at where id = v_row.id;
      end if;
    end loop;
  end loop;
end $$;

-- spill(parts, spill): ends a claim that has been open too long, so that its lane goes on: each of its messages that still runs becomes the first of
-- a parked key, held by the same worker under the same delivery; those that wait behind it are put aside. \`parts\` are settled first.
--   { claim, slot, token, part, closes, worker, running: [id], waiting: [id] }
-- Returns [[message, deferred, token]] of those that run. Raises PH005.
create or replace function posthorn.spill(p_parts json, p_spill json) returns json
language plpgsql as $$
declare
  v_claim posthorn.claim_1;
  v_running bigint[] := posthorn.ids(p_spill -> 'running');
  v_message bigint;
  v_row posthorn.deferred;
  v_held json[] := '{}';
begin
  perform posthorn.own_transaction(true);
  perform posthorn.hold_worker((p_spill ->> 'worker')::bigint);
  if p_parts is not null then
    perform posthorn.conclude(p_parts);
  end if;
  if not posthorn.settle_part_of((p_spill ->> 'slot')::smallint, (p_spill ->> 'claim')::bigint, (p_spill ->> 'token')::bigint, (p_spill ->> 'part')::int,
      'parked', (p_spill ->> 'closes')::boolean, v_running || posthorn.ids(p_spill -> 'waiting')) then
    perform posthorn.raise_lost(json_build_object('claims', json_build_array(p_spill ->> 'claim')));
  end if;
  v_claim := posthorn.claim_of((p_spill ->> 'slot')::smallint, (p_spill ->> 'claim')::bigint);
  foreach v_message in array v_running || posthorn.ids(p_spill -> 'waiting') loop
    v_row := posthorn.delivery_of(v_claim.subscription, v_claim.lane, v_message,
      coalesce(v_claim.message_slots[array_position(v_claim.messages, v_message)], (p_spill ->> 'slot')::smallint));
    v_row.due_at := clock_timestamp();
    v_row := posthorn.turn_of(v_row);
    v_row.id := nextval('posthorn.deferred_id');
    v_row.reason := 'parked';
    if v_message = any (v_running) then
      v_row.token := (random() * 9e18)::bigint;
      v_row.worker := v_claim.worker;
      v_row.taken_at := v_claim.at;
      v_held := v_held || json_build_array(v_message::text, v_row.id::text, v_row.token::text);
    else
      v_row.delivery := 2;
      -- In transaction mode each delivery ends by itself.
      perform posthorn.end_of(coalesce(v_claim.message_slots[array_position(v_claim.messages, v_message)], (p_spill ->> 'slot')::smallint),
        v_claim.subscription, v_message, 1, 'parked', v_claim.id, v_claim.worker)
        from posthorn.subscription s where s.id = v_claim.subscription and s.idempotency = 'transaction';
    end if;
    insert into posthorn.deferred values (v_row.*);
  end loop;
  return to_json(v_held);
end $$;

-- sweep_keys(limit): promotes keys whose first waiting message nobody made due: the worker that ended the one before died before it could, or
-- what lay in the way was kept for its time and is gone. Looks at some keys a call, where the last call stopped. Returns { promoted, more }.
create or replace function posthorn.sweep_keys(p_limit int) returns json
language plpgsql as $$
declare
  v_after json;
  v_key posthorn.parked_key;
  v_last posthorn.parked_key;
  v_promoted int := 0;
  v_seen int := 0;
begin
  perform posthorn.own_transaction(false);
  if not pg_try_advisory_xact_lock(posthorn.lock_key('sweep')) then
    return '{"promoted":0,"more":false}';
  end if;
  select m.notes into v_after from posthorn.maintenance m where m.name = 'sweep';
  for v_key in select * from posthorn.parked_key p
      where (p.subscription, p.key) > (coalesce((v_after ->> 'subscription')::int, 0), coalesce(v_after ->> 'key', ''))
      order by p.subscription, p.key limit p_limit loop
    v_last := v_key;
    v_seen := v_seen + 1;
    continue when exists (select from (select d.due_at from posthorn.deferred d where d.subscription = v_key.subscription and d.key = v_key.key
      and d.place is not null order by d.place limit 1) first where first.due_at < 'infinity');
    v_promoted := v_promoted + posthorn.promote_key(v_key.subscription, v_key.key);
  end loop;
  insert into posthorn.maintenance (name, ran_at, notes)
    values ('sweep', clock_timestamp(), case when v_seen = p_limit then json_build_object('subscription', v_last.subscription, 'key', v_last.key) end)
    on conflict (name) do update set ran_at = excluded.ran_at, notes = excluded.notes;
  return json_build_object('promoted', v_promoted, 'more', v_seen = p_limit);
end $$;

-- order_ends(subscription): a reader that keeps no order any more: what waited behind others is due.
create or replace function posthorn.order_ends(p_subscription int) returns void
language plpgsql as $$
begin
  update posthorn.deferred set place = null, due_at = least(due_at, clock_timestamp()) where subscription = p_subscription and place is not null;
  update posthorn.dead_letter set place = null where subscription = p_subscription and place is not null;
  update posthorn.invalid set place = null where subscription = p_subscription and place is not null;
  delete from posthorn.parked_key where subscription = p_subscription;
end $$;
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

-- fits_order(channel, options): refuses for a queue that keeps the order of each key what would have a message overtake those before it, or what
-- changes a message that has its place already. A time does not: a message takes its place when it is due. Raises PH015.
create or replace function posthorn.fits_order(p_channel int, p_options json) returns void
language plpgsql as $$
declare
  v_queue text := (select s.name from posthorn.subscription s where s.channel = p_channel and s.ordering is not null);
  v_mode text := p_options #>> '{dedupe,mode}';
begin
  if v_queue is null then
    return;
  elsif json_typeof(p_options -> 'priority') = 'number' and (p_options ->> 'priority')::numeric <> 0 then
    raise exception 'the queue "%" keeps the order of each key and takes no priority: it would have a message overtake those of its key', v_queue
      using errcode = 'PH015', hint = 'Leave it out, or declare the queue with ordering "none".';
  elsif v_mode in ('throttle', 'debounce', 'replace', 'once-more') then
    raise exception 'the queue "%" keeps the order of each key and takes no dedupe of the mode %: it changes a message that has its place in the order of its key',
      v_queue, v_mode using errcode = 'PH015', hint = 'The mode drop works there. Or declare the queue with ordering "none".';
  end if;
end $$;

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
  perform posthorn.fits_order(p_channel, json_build_object('priority', p_priority));
  select r.slots[cardinality(r.slots)] into v_slot from posthorn.ring r;
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
  perform posthorn.fits_order(q.ch, v_options -> q.o) from (
    select distinct r.ch, r.o from json_to_recordset(v_said) as r(ch int, o int) where r.o is not null) q;
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

-- append_many_of: writes the entries of append_said, in one statement; of those with a key the ones whose nonce its row has, see hold_keys. Ids were drawn
-- there in the order of the keys; where a queue keeps order they are drawn anew in the order of the list, which is the order of its messages.
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
    select e.*, case when e.message is null or e.anew then nextval('posthorn.message_id') else e.message end as id from (
      select e.*, o.due_at, o.expires_at, coalesce(o.priority, 0)::smallint as priority, d.message, coalesce(d.nonce, e.n) as nonce, c.name,
          d.nonce = e.n and exists (select from posthorn.subscription q where q.channel = e.ch and q.ordering is not null) as anew
        from entry e left join options o on o.i = e.o left join posthorn.contract c on e.dk is not null and c.id = e.c
        left join lateral (select * from posthorn.dedupe d where d.name = c.name and d.key = e.dk offset 0) d on e.dk is not null
        order by e.place offset 0) e
  ), named as (
    update posthorn.dedupe d set message = s.id from said s where s.anew and d.name = s.name and d.key = s.dk
  ), written as (
    insert into posthorn.message_{slot} (xid, id, nonce, published_at, channel, lane, contract, key, payload, headers, expires_at)
      select pg_current_xact_id(), s.id, s.n, clock_timestamp(), s.ch & 2097151,
        case when s.due_at is not null then -1 when s.o is null then posthorn.lane_in(s.ch, s.k) else posthorn.lane_of_priority(s.priority) end,
        s.c, s.k, coalesce(s.p, 'null'), s.h, s.expires_at from said s where s.nonce = s.n
  ), later as (
    insert into posthorn.deferred (subscription, due_at, delivery, attempts, crashes, reason, message, nonce, channel, lane, contract, key, payload, headers,
        published_at, history, expires_at, priority)
      select q.id, s.due_at, 1, 0, 0, 'scheduled', s.id, s.n, s.ch, -1, s.c, s.k, coalesce(s.p, 'null'), s.h, clock_timestamp(), '[]', s.expires_at, s.priority
        from said s join posthorn.subscription q on q.channel = s.ch where s.nonce = s.n and s.due_at is not null
  )
  select json_agg(json_build_array(s.n::text, s.id::text, s.nonce::text)) into v_places
    from (select s.n, s.nonce, coalesce(max(s.id) filter (where s.n = s.nonce) over (partition by s.nonce), s.id) as id from said s) s;
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
    return case v_slot when -1 then posthorn.moved_away() else 'elsewhere' end;
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
  perform posthorn.fits_order((p_entry ->> 'ch')::int, p_options);
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
  v_other text;
begin
  select * into v_ring from posthorn.ring;
  for v_lane in
    select l.lane from posthorn.lane l cross join lateral (select posthorn.lane_head(posthorn.slots_from(v_ring, l.read_from), p_subscription, l.lane, v_channel) as oldest offset 0) head
      where l.subscription = p_subscription and head.oldest is not null
      order by posthorn.urgency(posthorn.priority_of(l.lane), head.oldest) desc, head.oldest
  loop
    if v_taken is not null then
      return '{"more":true,' || substr(v_taken, 2);
    end if;
    v_claimed := posthorn.claim(p_subscription, v_lane.lane, p_worker, p_limit);
    if posthorn.is_claim(v_claimed) then
      v_taken := v_claimed;
    elsif v_claimed <> '{}' then
      -- Why this lane gave nothing; or that it is to be asked again.
      v_other := case when v_other is null or v_claimed = '{"again":true}' then v_claimed else v_other end;
    end if;
  end loop;
  return coalesce(v_taken, v_other, '{}');
end $$;

-- lane_head: when the oldest message of a lane was said that a claim would find; null when there is none.
create or replace function posthorn.lane_head(p_slots smallint[], p_subscription int, p_lane int, p_channel int) returns timestamptz
language plpgsql as $$
declare
  v_first_id bigint := (select r.first_id from posthorn.ring r);
  v_at posthorn.position := posthorn.position_of(p_subscription, p_lane);
  v_ceiling posthorn.tick := posthorn.tick_of(v_at.slot, v_at.ceiling);
  v_floor_id bigint := (posthorn.tick_of(v_at.slot, v_at.floor)).ceiling_id;
  v_slot smallint;
  v_xids xid8[];
  v_now pg_snapshot;
  v_late posthorn.batch;
  v_oldest timestamptz;
begin
  foreach v_slot in array p_slots loop
    v_oldest := least(v_oldest, (posthorn.count_after_of(v_slot, p_channel, p_lane,
      case when v_at.late then v_floor_id else v_at.last_id end, 1)).oldest);
  end loop;
  -- Committed late: in the window that is open, or below its ceiling and seen only now.
  if v_at.late then
    v_late := posthorn.late_page(p_slots, p_channel, p_lane, v_at.late_xids, v_at.last_id, v_floor_id, 1);
  end if;
  if v_late.ids is null then
    select pg_current_snapshot() into v_now;
    v_xids := posthorn.late_xids(p_slots, p_channel, p_lane, v_ceiling.snapshot, v_ceiling.ceiling_id, v_first_id, v_now);
    if v_xids is not null then
      v_late := posthorn.late_page(p_slots, p_channel, p_lane, v_xids, v_first_id - 1, v_ceiling.ceiling_id, 1);
    end if;
  end if;
  if v_late.ids is not null then
    v_oldest := least(v_oldest, to_timestamp((v_late.items::json ->> 7)::float8 / 1000));
  end if;
  -- A window whose late part was not finished has to be claimed from, whatever is left in it.
  return case when v_oldest is null and v_at.late then clock_timestamp() else v_oldest end;
end $$;

-- lock_due: the ids of deliveries that are due, locked, the most urgent first: of these contracts, with at least \`from\` and fewer than \`below\` crashes.
-- Rows that others are taking are passed over. Ordered: of messages with a key only those that have a place.
-- Plan: deferred_due in its order, once for each priority in use.
create or replace function posthorn.lock_due(p_subscription int, p_contracts int[], p_from int, p_below int, p_limit int, p_ordered boolean)
returns bigint[]
language plpgsql as $$
declare
  -- Read once: compared with a function that may change, the index would be read on to its end.
  v_now timestamptz := clock_timestamp();
begin
  return array(select first.id from posthorn.classes(p_subscription) c(class)
    cross join lateral (select d.id, d.due_at from posthorn.deferred d
      where d.subscription = p_subscription and d.priority = c.class and d.token is null and d.due_at <= v_now
        and d.contract = any (p_contracts) and d.crashes >= p_from and d.crashes < p_below
        and (not p_ordered or d.place is not null or d.key is null)
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

-- take_due: take, and when the next is due in ms: JSON { taken, next }; \`next\` is null when more may be due already, or nothing waits. Where a
-- breaker is declared { openMs } and { probe, taken }, as take.
create or replace function posthorn.take_due(p_subscription int, p_worker bigint, p_contracts json, p_limit int) returns json
language plpgsql as $$
declare
  v_taken json := posthorn.take(p_subscription, p_worker, p_contracts, p_limit);
begin
  if json_typeof(v_taken) = 'object' then
    return v_taken;
  end if;
  return json_build_object('taken', v_taken, 'next', case when json_array_length(v_taken) < p_limit then
    (ceil(extract(epoch from posthorn.first_due(p_subscription, posthorn.every_of(p_subscription, array(select c::int from json_array_elements_text(p_contracts) c))) - clock_timestamp()) * 1000))::float8 end);
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
-- wait as long as it can be. Null where that is not known: a function computes the waits.
create or replace function posthorn.longest_redelivery(p_policy json) returns float8
language plpgsql immutable as $$
declare
  v_retry json := p_policy -> 'retry';
  v_attempts int := (v_retry ->> 'attempts')::int;
  -- The first so many waits are none.
  v_immediate int := coalesce((v_retry ->> 'immediate')::int, 0);
begin
  return v_attempts * (p_policy ->> 'visibilityTimeoutMs')::float8 + case v_retry ->> 'kind'
    when 'none' then 0
    when 'fixed' then greatest(v_attempts - 1 - v_immediate, 0) * (v_retry ->> 'delayMs')::float8
    when 'exponential' then (select coalesce(sum(least((v_retry ->> 'maxMs')::float8, (v_retry ->> 'firstMs')::float8 * 2 ^ least(n - 1, 60))), 0)
      from generate_series(1, v_attempts - 1 - v_immediate) n)
    when 'delays' then (select coalesce(sum(d.ms::float8), 0) from json_array_elements_text(v_retry -> 'delaysMs') d(ms)) end;
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
      since = v_now, look_at = v_now + w.ms * interval '1 ms', behind = null
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
      if v_waiting.id is null and p_mode = 'once-more' then
        -- The newest was cancelled, or has ended while the one before it waits for a retry.
        select * into v_waiting from posthorn.deferred d where d.id = v_held.behind and d.token is null for update;
        v_held.message := coalesce(v_waiting.message, v_held.message);
        v_held.nonce := coalesce(v_waiting.nonce, v_held.nonce);
      end if;
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
    v_behind := coalesce((select d.id from posthorn.deferred d where d.subscription = v_held.subscription and d.message = v_held.message
      and d.nonce = v_held.nonce and d.token is not null), (select d.id from posthorn.deferred d where d.id = v_held.behind and d.token is not null));
    v_due := case when v_behind is not null then 'infinity'::timestamptz else v_now end;
  elsif p_mode in ('replace', 'once-more') then
    v_due := coalesce(v_due, v_now);
  end if;
  if not v_fresh then
    update posthorn.dedupe d set subscription = p_subscription, message = v_id, nonce = v_nonce, until = v_until, since = v_now, look_at = v_until,
        behind = v_behind where d.name = v_name and d.key = p_key;
  end if;
  return posthorn.say_new(p_slot, p_subscription, p_entry, v_id, v_due, p_expires_at, p_priority, p_mode = 'once-more', v_behind);
end $$;

-- write_once(home, nonce, channel, contract, key, payload, headers, dedupe key, window): write_one for one message with dedupe of the mode drop and nothing
-- else beside its payload, which is what most keys are for. A key that nobody holds is taken and the message written in few statements, as say_once does it;
-- everything else is for write_said, whose answer is then returned.
select posthorn.by_found_slot(
  'write_once(p_home text, p_nonce bigint, p_channel int, p_contract int, p_key text, p_payload json, p_headers json, p_once text, p_window_ms bigint)',
  'text', $declarations$
  v_home text;
  v_id bigint;
  v_name text;
  v_queue int;
  v_redelivery_ms float8;
  v_now timestamptz;
  v_until timestamptz;
  $declarations$, $before$
  select r.slot, concat(r.system_identifier, '/', r.database), c.name, s.id, s.redelivery_ms into v_slot, v_home, v_name, v_queue, v_redelivery_ms
    from posthorn.ring r left join posthorn.contract c on c.id = p_contract left join posthorn.subscription s on s.channel = p_channel;
  if p_home <> v_home or current_setting('posthorn.home', true) is distinct from v_home then
    v_slot := posthorn.open_slot(p_home);
    if v_slot < 0 then
      return case v_slot when -1 then posthorn.moved_away() else 'elsewhere' end;
    end if;
  end if;
  if p_window_ms < v_redelivery_ms then
    perform posthorn.check_window(v_queue, p_window_ms);
  end if;
  -- A transaction has its id before it draws the id of a message.
  perform pg_current_xact_id();
  v_now := clock_timestamp();
  v_until := v_now + p_window_ms * interval '1 ms';
  insert into posthorn.dedupe (name, key, subscription, message, nonce, until, since, look_at)
    values (v_name, p_once, v_queue, nextval('posthorn.message_id'), p_nonce, v_until, v_now, v_until)
    on conflict (name, key) do update set look_at = excluded.look_at where false
    returning message into v_id;
  if v_id is null then
    return posthorn.write_said(p_home, json_build_object(
      'said', json_build_array(json_build_object('n', p_nonce::text, 'ch', p_channel, 'c', p_contract, 'k', p_key, 'p', p_payload, 'h', p_headers, 'o', 0, 'dk', p_once)),
      'options', json_build_array(json_build_object('dedupe', json_build_object('mode', 'drop', 'windowMs', p_window_ms)))));
  end if;
  $before$, $body$
    insert into posthorn.message_{slot} (xid, id, nonce, published_at, channel, lane, contract, key, payload, headers)
      values (pg_current_xact_id(), v_id, p_nonce, clock_timestamp(), p_channel, 0, p_contract, p_key, p_payload, p_headers);
  $body$, $after$
  return concat(v_id, ' ', pg_current_xact_id());
  $after$);

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
-- waits nor runs, nor the one that it was behind. Returns how many it looked at; as many as \`limit\`: there may be more.
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
    select d.name, d.key, exists (select from posthorn.deferred w where w.subscription = d.subscription and w.message = d.message offset 0)
        or exists (select from posthorn.deferred w where w.id = d.behind offset 0) as lives
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
  { name: "functions/22_backlog_limit.sql", text: `-- What a producer meets when too much waits in a queue. Nothing is counted for a message: the backlog is counted now and then, at most every
-- \`backlog_recount_ms\`, and what is said meanwhile is added to what was found.

-- set_backlog_limit(subscription, policy): the limit of a queue that was registered; the newest start wins.
create or replace function posthorn.set_backlog_limit(p_subscription int, p_policy json) returns void
language plpgsql as $$
declare
  v_limit json := p_policy -> 'backlogLimit';
  v_channel int := (select c.id from posthorn.subscription s join posthorn.channel c on c.id = s.channel where s.id = p_subscription and c.kind = 'command');
begin
  if v_limit is null or v_channel is null then
    delete from posthorn.backlog_limit where subscription = p_subscription;
    return;
  end if;
  if to_regclass(format('posthorn.backlog_%s', v_channel)) is null then
    execute format('create sequence posthorn.backlog_%s minvalue 0 start 0', v_channel);
  end if;
  insert into posthorn.backlog_limit (channel, subscription, messages, when_full, wait_ms)
    values (v_channel, p_subscription, (v_limit ->> 'messages')::bigint, v_limit ->> 'whenFull', coalesce((v_limit ->> 'waitMs')::float8, 30000))
    on conflict (channel) do update set messages = excluded.messages, when_full = excluded.when_full, wait_ms = excluded.wait_ms;
end $$;

-- backlog_limits(): queues with a limit, as JSON [[channel, name, whenFull, waitMs] …], for producers to keep in mind.
create or replace function posthorn.backlog_limits() returns json
language sql stable as $$
  select coalesce(json_agg(json_build_array(l.channel, c.name, l.when_full, l.wait_ms)), '[]')
    from posthorn.backlog_limit l join posthorn.channel c on c.id = l.channel
$$;

-- The sequence holds the time of the count in tenths of a second, modulo 2^31, above 32 bits for the backlog.
create or replace function posthorn.backlog_tenths() returns bigint
language plpgsql volatile as $$
begin
  return floor(extract(epoch from clock_timestamp()) * 10)::bigint & 2147483647;
end $$;

-- backlog_known(channel): what is known. A clock that was put back makes an old count of it.
create or replace function posthorn.backlog_known(p_channel int) returns posthorn.backlog_known
language plpgsql as $$
declare
  v_value bigint := coalesce(pg_sequence_last_value(format('posthorn.backlog_%s', p_channel)::regclass), 0);
begin
  return row(v_value & 4294967295, ((posthorn.backlog_tenths() - (v_value >> 32)) & 2147483647) * 100.0)::posthorn.backlog_known;
end $$;

-- set_backlog(channel, backlog): counted now.
create or replace function posthorn.set_backlog(p_channel int, p_backlog bigint) returns void
language plpgsql as $$
begin
  perform setval(format('posthorn.backlog_%s', p_channel)::regclass, (posthorn.backlog_tenths() << 32) | least(greatest(p_backlog, 0), 4294967295));
end $$;

-- backlog_recount_ms: the shortest time between two counts: a count of many takes longer.
create or replace function posthorn.backlog_recount_ms(p_backlog bigint) returns float8
language plpgsql immutable as $$
begin
  return 100 + p_backlog / 100.0;
end $$;

-- waiting_for(limit, most): what waits unclaimed or deferred, counted up to about so many.
create or replace function posthorn.waiting_for(p_limit posthorn.backlog_limit, p_most int) returns bigint
language plpgsql set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off as $$
begin
  return (select w.messages + (select count(*) from (select from posthorn.deferred d where d.subscription = p_limit.subscription and d.token is null limit p_most) d)
    from posthorn.waiting_in_log(p_limit.subscription, p_most) w);
end $$;

-- count_backlog(limit): counts what waits unclaimed or deferred, as far as twice the limit, and says so. Who begins to count says the old figure
-- with the new time, so that nobody else does; what others say meanwhile is kept.
create or replace function posthorn.count_backlog(p_limit posthorn.backlog_limit) returns bigint
language plpgsql as $$
declare
  v_before bigint := (posthorn.backlog_known(p_limit.channel)).backlog;
  v_count bigint;
  v_added bigint;
begin
  perform posthorn.set_backlog(p_limit.channel, v_before);
  v_count := posthorn.waiting_for(p_limit, least(p_limit.messages * 2 + 1, 2000000000)::int);
  v_added := greatest(0, (posthorn.backlog_known(p_limit.channel)).backlog - v_before);
  perform posthorn.set_backlog(p_limit.channel, v_count + v_added);
  return v_count + v_added;
end $$;

-- backlog_now(limit, more): what waits, with \`more\`. Counted anew when that is at the limit, or once in a while, and the last count is not too new.
create or replace function posthorn.backlog_now(p_limit posthorn.backlog_limit, p_more bigint) returns bigint
language plpgsql as $$
declare
  v_known posthorn.backlog_known := posthorn.backlog_known(p_limit.channel);
  v_full boolean := v_known.backlog + p_more >= p_limit.messages;
begin
  if v_known.age_ms >= posthorn.backlog_recount_ms(v_known.backlog) and (v_full or v_known.age_ms >= 5000) then
    v_known.backlog := posthorn.count_backlog(p_limit);
  end if;
  return v_known.backlog + p_more;
end $$;

-- grant_backlog(channel, messages, spent): asks for leave to say so many messages; \`spent\` were said without. In a transaction of its own. Returns JSON:
--   null when the queue has no limit, { granted } when it has room, which may be more than was asked for, else { backlog, limit, retryAfterMs }.
-- A list of messages is let in as a whole while there is any room.
create or replace function posthorn.grant_backlog(p_channel int, p_messages bigint, p_spent bigint) returns json
language plpgsql as $$
declare
  v_limit posthorn.backlog_limit;
  v_backlog bigint;
  v_granted bigint;
begin
  perform posthorn.own_transaction(false);
  select * into v_limit from posthorn.backlog_limit where channel = p_channel;
  if v_limit.channel is null then
    return null;
  end if;
  perform posthorn.backlog_now(v_limit, p_spent);
  -- After the count, which may take a while; under it a figure is read and written by one session at a time.
  perform pg_advisory_xact_lock(posthorn.lock_key('backlog', p_channel));
  v_backlog := (posthorn.backlog_known(p_channel)).backlog + p_spent;
  v_granted := case when v_backlog < v_limit.messages
    then greatest(p_messages, least(posthorn.backlog_share(v_limit.messages), v_limit.messages - v_backlog)) else 0 end;
  if p_spent + v_granted > 0 then
    perform posthorn.add_backlog(p_channel, p_spent + v_granted);
  end if;
  return case when v_granted > 0 then json_build_object('granted', v_granted)
    else json_build_object('backlog', v_backlog, 'limit', v_limit.messages, 'retryAfterMs', posthorn.backlog_retry_ms(v_limit, v_backlog)) end;
end $$;

-- add_backlog(channel, messages): so many more, without a new time.
create or replace function posthorn.add_backlog(p_channel int, p_messages bigint) returns void
language plpgsql as $$
declare
  v_sequence regclass := format('posthorn.backlog_%s', p_channel)::regclass;
begin
  perform setval(v_sequence, coalesce(pg_sequence_last_value(v_sequence), 0) + p_messages);
end $$;

-- backlog_share(limit): what a process is granted at once beyond what it asks for: a hundredth of the limit, so that it need not ask each time.
create or replace function posthorn.backlog_share(p_messages bigint) returns bigint
language plpgsql immutable as $$
begin
  return least(greatest(p_messages / 100, 1), 1000);
end $$;

-- backlog_retry_ms: when there may be room, by what left the queue in the last minute: from a tenth of a second to a minute, which it is when nothing did.
create or replace function posthorn.backlog_retry_ms(p_limit posthorn.backlog_limit, p_backlog bigint) returns int
language plpgsql as $$
declare
  v_rate float8 := (select sum(posthorn.recent_rate(l.subscription, l.lane, l.slot)) from posthorn.lane l where l.subscription = p_limit.subscription);
begin
  return case when coalesce(v_rate, 0) <= 0 then 60000
    else least(60000, greatest(100, ceil((p_backlog - p_limit.messages + 1) / v_rate * 1000))) end;
end $$;

-- check_backlog(channel, messages): for producers inside a transaction of their own that ask here: adds messages, or raises PH040 with { queue, backlog, limit,
-- retryAfterMs } as its detail. Takes no lock, and what it adds stays although the transaction is rolled back, until the next count.
create or replace function posthorn.check_backlog(p_channel int, p_messages bigint default 1) returns void
language plpgsql as $$
declare
  v_limit posthorn.backlog_limit;
  v_backlog bigint;
  v_retry_ms int;
  v_queue text;
begin
  select * into v_limit from posthorn.backlog_limit where channel = p_channel;
  if v_limit.channel is null then
    return;
  end if;
  v_backlog := posthorn.backlog_now(v_limit, 0);
  if v_backlog >= v_limit.messages then
    v_retry_ms := posthorn.backlog_retry_ms(v_limit, v_backlog);
    v_queue := (select name from posthorn.channel where id = p_channel);
    raise exception 'the queue "%" is full: % messages wait, and its backlogLimit is %', v_queue, v_backlog, v_limit.messages using errcode = 'PH040',
      detail = json_build_object('queue', v_queue, 'backlog', v_backlog, 'limit', v_limit.messages, 'retryAfterMs', v_retry_ms)::text,
      hint = format('Try again in %s ms, or do without.', v_retry_ms);
  end if;
  if p_messages = 1 then
    perform nextval(format('posthorn.backlog_%s', p_channel)::regclass);
  else
    perform posthorn.add_backlog(p_channel, p_messages);
  end if;
end $$;
` },
  { name: "functions/23_limits.sql", text: `-- Limits of the fleet: rates and concurrency, of a subscription and of a key. A claim asks for permits and takes no more messages than it
-- gets; what it does not use was never taken. All of it is decided under one advisory lock of the subscription, which nobody waits for.
-- Rates: the generic cell rate algorithm. Concurrency is counted from what is open each time, never kept in a counter: a worker that dies
-- holds its permits until it is rescued, and nobody has to give any back.

-- set_limits(subscription, policy): the limits of a policy that was registered; the newest start wins.
create or replace function posthorn.set_limits(p_subscription int, p_policy json) returns void
language plpgsql as $$
declare
  v_limited boolean := coalesce(p_policy ->> 'rateLimit', p_policy ->> 'keyRateLimit', p_policy ->> 'fleetConcurrency', p_policy ->> 'keyConcurrency') is not null;
  v_old posthorn.run_limit;
  v_new posthorn.run_limit;
begin
  select * into v_old from posthorn.run_limit where subscription = p_subscription;
  if not v_limited then
    delete from posthorn.run_limit where subscription = p_subscription;
    delete from posthorn.permit where subscription = p_subscription;
  else
    v_new := row(p_subscription, (p_policy #>> '{rateLimit,messages}')::float8, (p_policy #>> '{rateLimit,perMs}')::float8,
      (p_policy #>> '{rateLimit,burst}')::int, (p_policy ->> 'fleetConcurrency')::int, (p_policy #>> '{keyRateLimit,messages}')::float8,
      (p_policy #>> '{keyRateLimit,perMs}')::float8, (p_policy #>> '{keyRateLimit,burst}')::int, (p_policy ->> 'keyConcurrency')::int)::posthorn.run_limit;
    insert into posthorn.run_limit select v_new.* on conflict (subscription) do update set rate_messages = excluded.rate_messages, rate_ms = excluded.rate_ms,
      rate_burst = excluded.rate_burst, fleet_concurrency = excluded.fleet_concurrency, key_rate_messages = excluded.key_rate_messages,
      key_rate_ms = excluded.key_rate_ms, key_rate_burst = excluded.key_rate_burst, key_concurrency = excluded.key_concurrency;
  end if;
  if v_old is distinct from v_new then
    -- What waits for its key stands in line by the old limits. It is due now, and stands in line again by the new ones.
    update posthorn.deferred set due_at = clock_timestamp()
      where subscription = p_subscription and token is null and key is not null and reason::text = 'throttled' and due_at > clock_timestamp();
    delete from posthorn.key_permit where subscription = p_subscription;
    update posthorn.subscription set limited = v_limited where id = p_subscription and limited <> v_limited;
  end if;
end $$;

-- allow(subscription, limit): how many messages may begin now, at most \`limit\`. \`permits\` is null when another session asks just now; the
-- lock is held until the end of this transaction. The clock is read after the lock was taken. Should it jump back, it costs one full burst.
create or replace function posthorn.allow(p_subscription int, p_limit int) returns posthorn.allowance
language plpgsql as $$
declare
  v_limit posthorn.run_limit;
  v_state posthorn.permit;
  v_allow posthorn.allowance;
  v_open int;
begin
  if not pg_try_advisory_xact_lock(posthorn.lock_key('permits', p_subscription)) then
    return v_allow;
  end if;
  select * into v_limit from posthorn.run_limit where subscription = p_subscription;
  select * into v_state from posthorn.permit where subscription = p_subscription order by n desc limit 1;
  if v_state.n is null then
    v_state := posthorn.first_permit(p_subscription);
  end if;
  v_allow := row(p_subscription, p_limit, false, clock_timestamp(), v_state.tat, v_limit.rate_ms / v_limit.rate_messages, v_limit.rate_burst,
    v_limit.key_concurrency, v_limit.key_rate_ms / v_limit.key_rate_messages, v_limit.key_rate_burst, v_state.n, v_state.open_claims,
    v_state.looked_upto, null)::posthorn.allowance;
  if v_allow.gap_ms is not null then
    v_allow.tat := posthorn.tat_from(v_state.tat, v_allow.at, v_allow.gap_ms, v_allow.burst);
    v_allow.permits := least(p_limit, posthorn.room_at(v_allow.tat, v_allow.at, v_allow.gap_ms, v_allow.burst));
    if v_allow.tat < v_state.tat then
      -- Forgotten for good: otherwise each that asks would find a full burst ahead of its own time.
      update posthorn.permit set tat = v_allow.tat where subscription = p_subscription and n = v_state.n;
    end if;
  end if;
  if v_allow.permits <= 0 or coalesce(v_limit.fleet_concurrency, v_limit.key_concurrency) is null then
    return v_allow;
  end if;
  v_allow := posthorn.look_at_claims(v_allow);
  select count(*), jsonb_object_agg(o.key, o.running) filter (where o.key is not null) into v_open, v_allow.open_keys
    from (select r.key, count(*) as running from posthorn.open_runs(v_allow, v_limit.key_concurrency is not null) r group by 1) o;
  if v_limit.fleet_concurrency is not null then
    select count(*) into v_open from posthorn.open_runs(v_allow, false);
    v_allow.crowded := v_limit.fleet_concurrency - v_open < v_allow.permits;
    v_allow.permits := least(v_allow.permits, v_limit.fleet_concurrency - v_open);
  end if;
  return v_allow;
end $$;

-- tat_from: where a rate stands now: not in the past, and no further ahead than a full burst, which it is only when the clock was put back.
create or replace function posthorn.tat_from(p_tat timestamptz, p_at timestamptz, p_gap_ms float8, p_burst int) returns timestamptz
language plpgsql immutable as $$
begin
  return least(greatest(p_tat, p_at), p_at + p_burst * p_gap_ms * interval '1 ms');
end $$;

-- room_at: messages that a rate lets begin at once.
create or replace function posthorn.room_at(p_tat timestamptz, p_at timestamptz, p_gap_ms float8, p_burst int) returns int
language plpgsql immutable as $$
begin
  -- A little more, because times are rounded to microseconds.
  return floor(p_burst - extract(epoch from p_tat - p_at)::float8 * 1000 / p_gap_ms + 0.001)::int;
end $$;

-- first_permit: the state of a subscription that has been without limits so far: which claim is the newest, and then what is open: a claim that
-- somebody makes in between without asking is in both, and counts once.
create or replace function posthorn.first_permit(p_subscription int) returns posthorn.permit
language plpgsql as $$
declare
  v_state posthorn.permit;
begin
  v_state.subscription := p_subscription;
  v_state.n := 0;
  v_state.tat := '-infinity';
  v_state.looked_upto := array(select (posthorn.position_of(p_subscription, l.lane)).n from posthorn.lane l where l.subscription = p_subscription order by l.lane);
  v_state.open_claims := array(select c.id from posthorn.open_claims() c where c.subscription = p_subscription);
  return v_state;
end $$;

-- look_at_claims: the claims that are open now: those that were at the last look, and those since, as far as they still are.
create or replace function posthorn.look_at_claims(p_allow posthorn.allowance) returns posthorn.allowance
language plpgsql as $$
declare
  v_slots smallint[] := (select slots from posthorn.ring);
  v_lane int;
  v_slot smallint;
  v_found record;
begin
  for v_lane in select l.lane from posthorn.lane l where l.subscription = p_allow.subscription loop
    foreach v_slot in array v_slots loop
      v_found := posthorn.claims_after_of(v_slot, p_allow.subscription, v_lane, coalesce(p_allow.looked_upto[v_lane + 1], 0));
      if v_found.ids is not null then
        p_allow.open_claims := p_allow.open_claims || v_found.ids;
        p_allow.looked_upto[v_lane + 1] := v_found.newest;
      end if;
    end loop;
  end loop;
  p_allow.open_claims := array(select distinct c.id from unnest(p_allow.open_claims) c(id)
    where exists (select from unnest(v_slots) s(slot) where posthorn.is_open_of(s.slot, c.id)));
  return p_allow;
end $$;

-- claims_after_of: ids of the claims of a lane after a number. Plan: claim_N_by_n.
select posthorn.by_slot('claims_after_of(p_slot smallint, p_subscription int, p_lane int, p_n bigint, out ids bigint[], out newest bigint)', 'record', $body$
  select array_agg(c.id), max(c.n) into ids, newest from posthorn.claim_{slot} c where c.subscription = p_subscription and c.lane = p_lane and c.n > p_n;
  return;
$body$);

-- is_open_of: whether a claim lies in this slot and no part has closed it.
select posthorn.by_slot('is_open_of(p_slot smallint, p_claim bigint)', 'boolean', $body$
  return exists (select from posthorn.claim_{slot} c where c.id = p_claim)
    and not exists (select from posthorn.settlement_{slot} t where t.claim = p_claim and t.closes);
$body$);

-- unsettled_of: the messages of a claim in this slot that have not ended, with the slots that they lie in.
select posthorn.by_slot('unsettled_of(p_slot smallint, p_claim bigint)', 'table (message bigint, lane int, slot smallint, subscription int)', $body$
  return query select m.id, c.lane, coalesce(c.message_slots[m.n], {slot}::smallint), c.subscription
    from posthorn.claim_{slot} c cross join lateral unnest(c.messages) with ordinality m(id, n)
    where c.id = p_claim and not exists (select from posthorn.settlement_{slot} t where t.claim = c.id
      and t.outcome is distinct from 'begun' and (t.messages is null or m.id = any (t.messages)) offset 0);
$body$);

-- has_ended_of: whether the first delivery of a message has an ending of its own.
select posthorn.by_slot('has_ended_of(p_slot smallint, p_subscription int, p_message bigint)', 'boolean', $body$
  return exists (select from posthorn.ending_{slot} e where e.message = p_message and e.subscription = p_subscription and e.delivery = 1);
$body$);

-- open_runs: one row for each message that somebody in the fleet holds; with its key where that is asked for.
create or replace function posthorn.open_runs(p_allow posthorn.allowance, p_keys boolean) returns table (key text)
language plpgsql as $$
declare
  v_channel int := (select s.channel from posthorn.subscription s where s.id = p_allow.subscription);
begin
  return query
    select case when p_keys then (posthorn.message_of(u.slot, v_channel, u.lane, u.message)).key end
      from unnest(p_allow.open_claims) c(id) cross join (select unnest(slots) as slot from posthorn.ring) s
      cross join lateral posthorn.unsettled_of(s.slot, c.id) u
      where not posthorn.has_ended_of(u.slot, p_allow.subscription, u.message)
    union all
    select d.key from posthorn.deferred d where d.token is not null and d.subscription = p_allow.subscription;
end $$;

-- use_permits(allowance, used, wanted): writes down that so many messages begin. Returns in how many milliseconds it pays to ask again; null when
-- the limits were no obstacle.
create or replace function posthorn.use_permits(p_allow posthorn.allowance, p_used int, p_wanted int) returns int
language plpgsql as $$
declare
  v_tat timestamptz := p_allow.tat + coalesce(p_used * p_allow.gap_ms, 0) * interval '1 ms';
  v_worth int;
  v_wait_ms float8 := 0;
begin
  if p_used > 0 then
    insert into posthorn.permit (subscription, n, tat, open_claims, looked_upto)
      values (p_allow.subscription, p_allow.n + 1, v_tat, p_allow.open_claims, p_allow.looked_upto);
    delete from posthorn.permit where subscription = p_allow.subscription and n = p_allow.n;
  end if;
  if p_used < p_allow.permits or p_allow.permits >= p_wanted then
    return null;
  end if;
  if p_allow.gap_ms is not null then
    -- For several at once, where there may be several: a claim costs the same for one.
    v_worth := greatest(1, least(p_wanted, p_allow.burst / 4));
    v_wait_ms := extract(epoch from v_tat - p_allow.at)::float8 * 1000 + (v_worth - p_allow.burst) * p_allow.gap_ms;
  end if;
  -- Nobody tells when a run of another process ends.
  return ceil(greatest(v_wait_ms, case when p_allow.crowded then 50 else 1 end));
end $$;

-- claim_limited: as claim, within the limits of the subscription; \`work\` has begun the transaction. The answer has more fields: { waitMs, dueMs }, when
-- the limits left messages for later, which may come alone; { aside }, how many messages of the claim were put aside for their keys' limits, which
-- \`parts\` of it say. No lane: as in claim_guarded. Where order is kept no key is limited, because it is by its order.
create or replace function posthorn.claim_limited(p_subscription int, p_lane int, p_worker bigint, p_limit int) returns text
language plpgsql as $$
declare
  v_allow posthorn.allowance := posthorn.allow(p_subscription, p_limit);
  v_text text;
  v_claim json;
  v_split record;
  v_count int;
  v_wait_ms int;
begin
  if v_allow.permits is null then
    return '{"missed":true}';
  elsif v_allow.permits <= 0 then
    -- Who would find nothing need not ask again: a peek tells when there is something.
    return case when not exists (select from posthorn.ring r cross join posthorn.lane l join posthorn.subscription s on s.id = l.subscription
        where l.subscription = p_subscription and (p_lane is null or l.lane = p_lane)
          and posthorn.is_ready(posthorn.slots_from(r, l.read_from), r.first_id, l.subscription, l.lane, s.channel)) then '{}'
      else concat('{', posthorn.when_again(p_subscription, posthorn.use_permits(v_allow, 0, p_limit)), '}') end;
  end if;
  -- A key that floods is put aside page by page, so that others come to their turn.
  for v_round in 1 .. 20 loop
    v_text := case when p_lane is null then posthorn.claim_by_priority(p_subscription, p_worker, v_allow.permits)
      else posthorn.claim(p_subscription, p_lane, p_worker, v_allow.permits) end;
    v_claim := v_text::json;
    v_count := coalesce(json_array_length(v_claim -> 'messages') - coalesce(json_array_length(v_claim -> 'skipped'), 0), 0);
    if v_count = 0 then
      return v_text;
    elsif v_allow.key_concurrency is null and v_allow.key_gap_ms is null then
      v_wait_ms := posthorn.use_permits(v_allow, v_count, p_limit);
      return case when v_wait_ms is null then v_text else concat(left(v_text, -1), ',', posthorn.when_again(p_subscription, v_wait_ms), '}') end;
    end if;
    v_split := posthorn.put_aside(v_allow, v_claim, coalesce(p_lane,
      (posthorn.claim_of((v_claim ->> 'slot')::smallint, (v_claim ->> 'claim')::bigint)).lane), p_worker);
    exit when v_split.kept > 0;
  end loop;
  if v_split.kept = 0 then
    return concat('{', posthorn.when_again(p_subscription, 0), '}');
  end if;
  v_wait_ms := posthorn.use_permits(v_allow, v_split.kept, p_limit);
  if v_wait_ms is null and v_count = v_allow.permits and v_split.kept < v_count then
    v_wait_ms := 0;
  end if;
  return concat('{"claim":"', v_claim ->> 'claim', '","token":"', v_claim ->> 'token', '","slot":', v_claim ->> 'slot', ',"parts":', v_split.parts,
    ',"aside":', v_count - v_split.kept, ',' || posthorn.when_again(p_subscription, v_wait_ms), ',"messages":[', v_split.items, ']}');
end $$;

-- when_again: fields of an answer: when to ask again, and when the first waiting delivery is due; what waits behind another is due at infinity, which is
-- no time. Null without a time.
create or replace function posthorn.when_again(p_subscription int, p_wait_ms int) returns text
language plpgsql as $$
begin
  return format('"waitMs":%s,"dueMs":%s', p_wait_ms, coalesce((
    select greatest(0, ceil(extract(epoch from d.due_at - clock_timestamp()) * 1000)) from posthorn.deferred d
      where d.subscription = p_subscription and d.token is null and d.due_at < 'infinity' order by d.due_at limit 1)::text, 'null'))
    where p_wait_ms is not null;
end $$;

-- key_room(allowance, key, in line): how many messages of a key may begin. Those that arrive stand behind those that are in line.
create or replace function posthorn.key_room(p_allow posthorn.allowance, p_key text, p_in_line boolean) returns posthorn.key_room
language plpgsql as $$
declare
  v_state posthorn.key_permit;
  v_room posthorn.key_room;
begin
  select * into v_state from posthorn.key_permit where subscription = p_allow.subscription and key = p_key;
  v_room := row(1000000, greatest(v_state.tat, p_allow.at), greatest(v_state.line_end, '-infinity'))::posthorn.key_room;
  if p_allow.key_gap_ms is not null then
    v_room.tat := posthorn.tat_from(v_state.tat, p_allow.at, p_allow.key_gap_ms, p_allow.key_burst);
    v_room.room := posthorn.room_at(v_room.tat, p_allow.at, p_allow.key_gap_ms, p_allow.key_burst);
  end if;
  if p_allow.key_concurrency is not null then
    v_room.room := least(v_room.room, p_allow.key_concurrency - coalesce((p_allow.open_keys ->> p_key)::int, 0));
  end if;
  if not p_in_line and v_state.line_end > '-infinity' and exists (select from posthorn.deferred d
      where d.subscription = p_allow.subscription and d.key = p_key and d.token is null and d.reason::text = 'throttled') then
    v_room.room := 0;
  end if;
  v_room.room := greatest(v_room.room, 0);
  return v_room;
end $$;

-- begin_and_line_up(allowance, key, room, begins, waits): so many messages of a key begin, so many stand in line. Returns the time after which the
-- first of these is due; the others follow at a distance of line_step_ms.
create or replace function posthorn.begin_and_line_up(p_allow posthorn.allowance, p_key text, p_room posthorn.key_room, p_begins int, p_waits int)
returns timestamptz language plpgsql as $$
declare
  v_tat timestamptz := p_room.tat + p_begins * coalesce(p_allow.key_gap_ms, 0) * interval '1 ms';
  v_start timestamptz := greatest(p_room.line_end, p_allow.at, v_tat - coalesce(p_allow.key_burst * p_allow.key_gap_ms, 0) * interval '1 ms');
begin
  if p_waits > 0 or p_allow.key_gap_ms is not null then
    insert into posthorn.key_permit (subscription, key, tat, line_end) values (p_allow.subscription, p_key, v_tat,
        case when p_waits > 0 then v_start + p_waits * posthorn.line_step_ms(p_allow) * interval '1 ms' else p_room.line_end end)
      on conflict (subscription, key) do update set tat = excluded.tat, line_end = excluded.line_end;
  end if;
  return v_start;
end $$;

-- line_step_ms: the distance of messages in line. Without a rate the end of a run makes room, of which nobody tells: one of them looks every so often.
create or replace function posthorn.line_step_ms(p_allow posthorn.allowance) returns float8
language plpgsql immutable as $$
begin
  return coalesce(p_allow.key_gap_ms, 50);
end $$;

-- put_aside: of a claim that was just made, hands back to \`deferred\` what the limits of the keys do not let through, without burning an
-- attempt, each due when its key's next permit is. Returns the items that are left, how many, and how many parts of the claim it wrote.
create or replace function posthorn.put_aside(p_allow posthorn.allowance, p_claim json, p_lane int, p_worker bigint, out items text, out kept int, out parts int)
language plpgsql as $$
declare
  v_aside bigint[];
  v_slots smallint[];
  v_due timestamptz[];
  v_slot smallint := (p_claim ->> 'slot')::smallint;
  v_claim bigint := (p_claim ->> 'claim')::bigint;
  v_ends boolean := (select s.idempotency = 'transaction' from posthorn.subscription s where s.id = p_allow.subscription);
begin
  with listed as materialized (
    select i.n, i.item, i.item ->> 4 as key, row_number() over (partition by i.item ->> 4 order by i.n)::int as place
      from json_array_elements(p_claim -> 'messages') with ordinality i(item, n)
  ), rooms as materialized (
    select k.key, k.messages, r.room, posthorn.begin_and_line_up(p_allow, k.key, r, least(k.messages, r.room), greatest(k.messages - r.room, 0)) as start
      from (select l.key, max(l.place) as messages from listed l where l.key is not null group by 1) k
      cross join lateral posthorn.key_room(p_allow, k.key, false) r
  ), judged as (
    select l.n, l.item, coalesce(l.place > r.room, false) as aside, r.start + (l.place - r.room) * posthorn.line_step_ms(p_allow) * interval '1 ms' as due_at
      from listed l left join rooms r on r.key = l.key
  )
  select string_agg(j.item::text, ',' order by j.n) filter (where not j.aside), count(*) filter (where not j.aside),
      array_agg((j.item ->> 0)::bigint order by j.n) filter (where j.aside), array_agg((j.item ->> 2)::smallint order by j.n) filter (where j.aside),
      array_agg(j.due_at order by j.n) filter (where j.aside)
    into items, kept, v_aside, v_slots, v_due from judged j;
  parts := 0;
  if v_aside is null then
    return;
  end if;
  if not v_ends or kept = 0 then
    perform posthorn.settle_part_of(v_slot, v_claim, (p_claim ->> 'token')::bigint, 1, case when not v_ends then 'released'::posthorn.outcome end, kept = 0,
      case when v_ends then '{}' else v_aside end);
    parts := 1;
  end if;
  for v_i in 1 .. cardinality(v_aside) loop
    if v_ends then
      perform posthorn.end_of(v_slots[v_i], p_allow.subscription, v_aside[v_i], 1, 'released', v_claim, p_worker);
    end if;
    perform posthorn.follow(posthorn.delivery_of(p_allow.subscription, p_lane, v_aside[v_i], v_slots[v_i]), 'throttled',
      json_build_object('defer', json_build_object('delayMs', extract(epoch from v_due[v_i] - clock_timestamp()) * 1000, 'attempts', 0, 'crashes', 0)));
  end loop;
end $$;

-- candidates: how many deliveries \`take\` looks at: more than may begin where some of them stand in the way of others.
create or replace function posthorn.candidates(p_allow posthorn.allowance) returns int
language plpgsql immutable as $$
begin
  return case when p_allow.key_concurrency is null and p_allow.key_gap_ms is null then p_allow.permits else greatest(p_allow.permits, 100) end;
end $$;

-- wait_after(allowance, taken, wanted): in how many milliseconds it pays to look again, after \`take\` took so many; writes the permits down that
-- it used. Null when the limits were no obstacle.
create or replace function posthorn.wait_after(p_allow posthorn.allowance, p_taken int, p_wanted int) returns int
language plpgsql as $$
begin
  if p_allow.permits is null then
    return 1 + floor(random() * 4);
  end if;
  return posthorn.use_permits(p_allow, p_taken, p_wanted);
end $$;

-- admit(allowance, ids, contracts): of deliveries from \`deferred\` that are due, those that the limits of their keys let through, at most the permits. In the
-- place of one that was put aside the oldest of its key goes, so that they keep their order. Those that its key keeps back stand in line again.
create or replace function posthorn.admit(p_allow posthorn.allowance, p_ids bigint[], p_contracts int[]) returns bigint[]
language plpgsql as $$
declare
  v_key record;
  v_row record;
  v_older posthorn.deferred;
  v_begins int;
  v_waits bigint[];
  v_start timestamptz;
  v_admitted bigint[] := array(select d.id from posthorn.deferred d where d.id = any (p_ids) and d.key is null limit p_allow.permits);
begin
  if p_allow.key_concurrency is null and p_allow.key_gap_ms is null then
    return p_ids;
  end if;
  for v_key in select k.key, r as room from (select d.key, min(d.due_at) as due_at from posthorn.deferred d
        where d.id = any (p_ids) and d.key is not null group by 1) k cross join lateral posthorn.key_room(p_allow, k.key, true) r order by k.due_at loop
    v_begins := 0;
    v_waits := '{}';
    for v_row in select d.id, d.message, d.due_at, d.reason from posthorn.deferred d where d.id = any (p_ids) and d.key = v_key.key order by d.due_at, d.id loop
      continue when v_row.id = any (v_admitted);
      if v_begins >= (v_key.room).room then
        v_waits := v_waits || v_row.id;
        continue;
      end if;
      exit when cardinality(v_admitted) >= p_allow.permits;
      v_begins := v_begins + 1;
      v_older := null;
      if v_row.reason::text = 'throttled' then
        select o.* into v_older from posthorn.deferred o
          where o.subscription = p_allow.subscription and o.key = v_key.key and o.token is null and o.message < v_row.message
            and o.reason::text = 'throttled' and o.contract = any (p_contracts) and o.id <> all (v_admitted)
          order by o.message limit 1 for update skip locked;
      end if;
      if v_older.id is not null then
        update posthorn.deferred set due_at = v_older.due_at where id = v_row.id;
      end if;
      v_admitted := v_admitted || coalesce(v_older.id, v_row.id);
    end loop;
    v_start := posthorn.begin_and_line_up(p_allow, v_key.key, v_key.room, v_begins, cardinality(v_waits));
    update posthorn.deferred d set due_at = v_start + w.place * posthorn.line_step_ms(p_allow) * interval '1 ms'
      from unnest(v_waits) with ordinality w(id, place) where d.id = w.id;
  end loop;
  return v_admitted;
end $$;

-- forget_keys(limit): forgets keys that nothing limits any more. Called by the watch.
create or replace function posthorn.forget_keys(p_limit int) returns void
language plpgsql as $$
begin
  delete from posthorn.key_permit k using (select subscription, key from posthorn.key_permit
      where greatest(tat, line_end) < clock_timestamp() - interval '1 minute' order by greatest(tat, line_end) limit p_limit for update skip locked) idle
    where k.subscription = idle.subscription and k.key = idle.key;
end $$;

-- limits_now(subscription): the limits of a subscription and how they stand, as JSON { rateLimit, keyRateLimit, fleetConcurrency, keyConcurrency,
-- backlogLimit, permits, running, putAside, full }: what may begin at once by the rate, what runs, what waits for its key, whether producers are
-- refused; what is not limited is absent. Null without limits. For people and tools.
create or replace function posthorn.limits_now(p_subscription text) returns json
language plpgsql stable as $$
declare
  v_subscription posthorn.subscription;
  v_full posthorn.backlog_limit;
  v_allow posthorn.allowance;
  v_state posthorn.permit;
  v_limit posthorn.run_limit;
begin
  select * into v_subscription from posthorn.subscription s where s.name = p_subscription;
  select * into v_full from posthorn.backlog_limit b where b.subscription = v_subscription.id;
  if not coalesce(v_subscription.limited, false) and v_full.channel is null then
    return null;
  end if;
  select * into v_limit from posthorn.run_limit where subscription = v_subscription.id;
  select * into v_state from posthorn.permit where subscription = v_subscription.id order by n desc limit 1;
  v_allow.subscription := v_subscription.id;
  v_allow.open_claims := array(select c.id from posthorn.open_claims() c where c.subscription = v_subscription.id);
  return json_strip_nulls(json_build_object('rateLimit', v_subscription.policy -> 'rateLimit', 'keyRateLimit', v_subscription.policy -> 'keyRateLimit',
    'fleetConcurrency', v_limit.fleet_concurrency, 'keyConcurrency', v_limit.key_concurrency,
    'backlogLimit', case when v_full.channel is not null then v_subscription.policy -> 'backlogLimit' end,
    'permits', case when v_limit.rate_ms is not null then posthorn.room_at(
      posthorn.tat_from(v_state.tat, clock_timestamp(), v_limit.rate_ms / v_limit.rate_messages, v_limit.rate_burst),
      clock_timestamp(), v_limit.rate_ms / v_limit.rate_messages, v_limit.rate_burst) end,
    'running', case when v_limit.fleet_concurrency is not null then (select count(*) from posthorn.open_runs(v_allow, false)) end,
    'putAside', case when coalesce(v_limit.key_rate_ms, v_limit.key_concurrency) is not null then (
      select count(*) from (select from posthorn.deferred d where d.subscription = v_subscription.id and d.token is null
        and d.reason::text = 'throttled' limit 100001) d) end,
    -- What is known may be old: it is counted anew when somebody asks for room, and then looks so.
    'full', case when v_full.channel is not null then (posthorn.backlog_known(v_full.channel)).backlog >= v_full.messages
      and posthorn.waiting_for(v_full, least(v_full.messages, 2000000000)::int) >= v_full.messages end));
end $$;
` },
  { name: "functions/24_steps.sql", text: `-- Steps of handlers: recorded while the delivery runs, read by the next one, removed when the message has ended.

-- record_step(worker, subscription, message, claim, claim slot, deferred, token, name, result): records that a step is done, in a transaction of the
-- library's own, on disk when it returns. \`p_deferred\` is null for a delivery from the log. Returns null; or what was recorded under this name
-- before, as JSON { result? }: the first one stands. Raises PH005 or PH007 when the worker no longer holds the delivery: nothing is recorded.
create or replace function posthorn.record_step(
  p_worker bigint, p_subscription int, p_message bigint, p_claim bigint, p_claim_slot smallint, p_deferred bigint, p_token bigint,
  p_name text, p_result json
) returns json
language plpgsql as $$
declare
  v_found json;
begin
  perform posthorn.own_transaction(true);
  -- Until COMMIT nobody rescues what this worker holds; what is looked at from here on is what the last rescuer left.
  perform posthorn.hold_worker(p_worker);
  if p_deferred is null then
    if not posthorn.holds_of(p_claim_slot, p_claim, p_token, p_message) then
      perform posthorn.raise_lost(json_build_object('claims', json_build_array(p_claim::text)));
    end if;
  elsif not exists (select from posthorn.deferred d where d.id = p_deferred and d.token = p_token) then
    perform posthorn.raise_lost(json_build_object('deferred', p_deferred::text));
  end if;
  insert into posthorn.step (subscription, message, name, result, claim, claim_slot)
    values (p_subscription, p_message, p_name, p_result, p_claim, p_claim_slot) on conflict do nothing;
  if found then
    return null;
  end if;
  select case when s.result is null then '{}' else json_build_object('result', s.result) end into v_found
    from posthorn.step s where s.subscription = p_subscription and s.message = p_message and s.name = p_name;
  if v_found is null then
    -- Removed in this moment: the message has ended.
    perform posthorn.raise_lost(json_build_object('ended', p_message::text));
  end if;
  return v_found;
end $$;

-- holds_of: whether a message of a claim has no end so far, and the claim has this token; a null token is any.
-- Plan: probes of claim_N_by_id and settlement_N_by_part.
select posthorn.by_slot('holds_of(p_slot smallint, p_claim bigint, p_token bigint, p_message bigint)', 'boolean', $body$
  return exists (select from posthorn.claim_{slot} c where c.id = p_claim and (p_token is null or c.token = p_token) offset 0)
    and not exists (select from posthorn.settlement_{slot} t where t.claim = p_claim
      and (t.closes or t.outcome is not null and t.outcome <> 'begun' and (t.messages is null or p_message = any (t.messages))) offset 0);
$body$);

-- steps_of(subscription, message): what is recorded, as JSON [[name, result?]]; without a result it was undefined.
create or replace function posthorn.steps_of(p_subscription int, p_message bigint) returns json
language plpgsql as $$
begin
  perform posthorn.own_transaction(false);
  return coalesce((select json_agg(case when s.result is null then json_build_array(s.name) else json_build_array(s.name, s.result) end)
    from posthorn.step s where s.subscription = p_subscription and s.message = p_message), '[]');
end $$;

-- forget_steps(subscription, message): in the transaction that ends the message for good.
create or replace function posthorn.forget_steps(p_subscription int, p_message bigint) returns void
language plpgsql as $$
begin
  delete from posthorn.step s where s.subscription = p_subscription and s.message = p_message;
end $$;

-- sweep_steps(limit, every): removes steps of messages that have ended in another way than by a run that used steps: discarded, no longer kept as
-- dead letters, or handled by code without steps. Looks at some rows a call, where the last call stopped; once in \`every\` ms in the fleet.
-- Steps of what waits, runs, is dead or invalid stay. Returns { removed, more }.
create or replace function posthorn.sweep_steps(p_limit int, p_every_ms int) returns json
language plpgsql as $$
declare
  v_pass posthorn.maintenance;
  v_message record;
  v_last record;
  v_seen int := 0;
  v_subscriptions int[] := '{}';
  v_messages bigint[] := '{}';
  v_removed int;
begin
  perform posthorn.own_transaction(false);
  if not exists (select from posthorn.step) or not pg_try_advisory_xact_lock(posthorn.lock_key('steps')) then
    return '{"removed":0,"more":false}';
  end if;
  select * into v_pass from posthorn.maintenance m where m.name = 'steps';
  if v_pass.ran_at > clock_timestamp() - p_every_ms * interval '1 ms' then
    return '{"removed":0,"more":false}';
  end if;
  for v_message in select s.subscription, s.message, count(*) as steps, max(s.claim) as claim, max(s.claim_slot) as claim_slot from (
      select * from posthorn.step p where (p.subscription, p.message) > (coalesce((v_pass.notes ->> 'subscription')::int, 0), coalesce((v_pass.notes ->> 'message')::bigint, 0))
      order by p.subscription, p.message, p.name limit p_limit) s group by s.subscription, s.message order by s.subscription, s.message loop
    v_last := v_message;
    v_seen := v_seen + v_message.steps;
    continue when v_message.claim is not null and posthorn.holds_of(v_message.claim_slot, v_message.claim, null, v_message.message);
    v_subscriptions := v_subscriptions || v_message.subscription;
    v_messages := v_messages || v_message.message;
  end loop;
  -- A later statement than the look at the claims, and one for all lists: a message that has left its claim never comes back to it, and goes from list
  -- to list in one transaction.
  delete from posthorn.step s using unnest(v_subscriptions, v_messages) e(subscription, message)
    where s.subscription = e.subscription and s.message = e.message
      and not exists (select from posthorn.deferred d where d.subscription = e.subscription and d.message = e.message)
      and not exists (select from posthorn.dead_letter d where d.subscription = e.subscription and d.message = e.message)
      and not exists (select from posthorn.invalid d where d.subscription = e.subscription and d.message = e.message);
  get diagnostics v_removed = row_count;
  insert into posthorn.maintenance (name, ran_at, notes) values ('steps', clock_timestamp(),
      case when v_seen = p_limit then json_build_object('subscription', v_last.subscription, 'message', v_last.message) end)
    on conflict (name) do update set ran_at = excluded.ran_at, notes = excluded.notes;
  return json_build_object('removed', v_removed, 'more', v_seen = p_limit);
end $$;

-- why_steps: how many steps of a message are done and which was the last, as JSON { done, last }; null when none is.
create or replace function posthorn.why_steps(p_subscription int, p_message bigint) returns json
language sql stable as $$
  select case when count(*) > 0 then json_build_object('done', count(*), 'last', (array_agg(s.name order by s.at desc))[1]) end
    from posthorn.step s where s.subscription = p_subscription and s.message = p_message
$$;
` },
  { name: "functions/25_batch.sql", text: `-- end_many(ends, started, say): the last statement of a transaction whose handler was given several messages: ends each delivery as
-- end_in_transaction does, and writes what the handler said. All or nothing: effects of one message cannot be undone alone.
--   ends: [[subscription, message, message slot, delivery, claim, claim slot, deferred, token]], in the order in which a rescuer would end them,
--   so that the two wait for each other and do not block each other.
-- Returns [[nonce, id]] of what was said. Raises PH005 (claim lost), whose detail names the one delivery that is lost, PH006.
create or replace function posthorn.end_many(p_ends json, p_started text, p_say json) returns json
language plpgsql as $$
declare
  v_end json;
begin
  for v_end in select * from json_array_elements(p_ends) loop
    perform posthorn.end_in_transaction((v_end ->> 0)::int, (v_end ->> 1)::bigint, (v_end ->> 2)::smallint, (v_end ->> 3)::int, (v_end ->> 4)::bigint,
      (v_end ->> 5)::smallint, (v_end ->> 6)::bigint, (v_end ->> 7)::bigint, p_started, null);
  end loop;
  return case when p_say is null then null else posthorn.append(p_say) end;
end $$;
` },
  { name: "functions/26_home.sql", text: `-- Whose log this is. Transaction ids mean something only on the server that gave them, and two databases that work on the same messages do
-- everything twice. So whoever writes asks first whether this database is the home of its log; a session is answered once.

-- why_away(): why this database is not the home of its log; null columns when it is. \`reason\` is copied, behind, moved or unfinished.
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
      hint := 'Nothing was written. Run the same \`posthorn move\` again. Until it has succeeded, its source may still be the one that works.';
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
    'leave this one alone. If this one is to take its place, stop the other for good, and run \`posthorn migrate --rebase\` here.';
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
` },
  { name: "functions/27_rebase.sql", text: `-- Rebase: makes a copy of a log at home where it lies now. Transaction ids of before mean nothing here, so nothing is read by them again: everything that
-- waits in the log is in the first window of its lane, whose snapshot sees all, and what was committed late below it is put aside. Ids from here
-- on are an epoch of their own, and only in it is anything looked for by transaction id.

-- log_ids(): the columns that hold values of a sequence of ours, by their names; what a table draws itself is known to the catalog.
create or replace function posthorn.log_ids() returns table (sequence regclass, relation regclass, col name)
language sql stable as $$
  with named(col, sequence) as (values
    ('message', 'message_id'), ('last_message', 'message_id'), ('ceiling_id', 'message_id'), ('last_id', 'message_id'), ('first_id', 'message_id'),
    ('forgotten_upto', 'message_id'), ('sealed_id', 'message_id'), ('claim', 'claim_id'), ('oldest_open_claim', 'claim_id'), ('floor', 'tick_id'),
    ('ceiling', 'tick_id'), ('place', 'place'), ('behind', 'deferred_id'), ('revision', 'schedule_revision'), ('worker', 'worker_id_seq'))
  select format('posthorn.%I', coalesce(own.sequence, n.sequence))::regclass, c.oid::regclass, a.attname
    from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.atttypid in ('bigint'::regtype, 'int'::regtype)
      left join named n on n.col = a.attname
      cross join lateral (select case
        when a.attname = 'id' and c.relname ~ '^(message|claim|tick)_[1-8]$' then split_part(c.relname, '_', 1) || '_id'
        when a.attidentity <> '' then (select s.relname::text from pg_depend d join pg_class s on s.oid = d.objid
          where d.classid = 'pg_class'::regclass and d.refobjid = c.oid and d.refobjsubid = a.attnum and s.relkind = 'S')
        when c.relname = 'deferred' and a.attname = 'id' then 'deferred_id' end) own(sequence)
    where c.relnamespace = 'posthorn'::regnamespace and c.relkind = 'r' and coalesce(own.sequence, n.sequence) is not null
$$;

-- sequence_floors(): each sequence with the highest value that is in use anywhere. A dump without sequences would give ids again.
create or replace function posthorn.sequence_floors() returns table (sequence regclass, at_least bigint)
language plpgsql as $$
declare
  v_one record;
begin
  for v_one in select i.sequence as name, string_agg(format('(select max(%I)::bigint from %s)', i.col, i.relation), ', ') as highest
      from posthorn.log_ids() i group by 1 order by 1 loop
    sequence := v_one.name;
    execute format('select greatest(%s, 0)', v_one.highest) into at_least;
    return next;
  end loop;
end $$;

-- raise_sequences(): no sequence gives anything that is in use. Not undone by a rollback; higher is never wrong.
create or replace function posthorn.raise_sequences() returns void
language plpgsql as $$
begin
  perform setval(f.sequence, f.at_least) from posthorn.sequence_floors() f where f.at_least > coalesce(pg_sequence_last_value(f.sequence), 0);
end $$;

-- missed_of: messages of a lane below its position that it has not delivered: committed late, or left of the late part of its window.
-- Plan: message_N_by_xid from the oldest transaction on that the floor did not see, then message_N_by_id for each list.
select posthorn.by_slot(
  'missed_of(p_slot smallint, p_channel int, p_lane int, p_from bigint, p_upto bigint, p_floor pg_snapshot, p_ceiling pg_snapshot, p_after bigint)',
  'bigint[]', $body$
  -- No floor: the late part of the window was read to its end.
  return (select array_agg(m.id order by m.id) from posthorn.message_{slot} f
    cross join lateral (select * from posthorn.message_{slot} m where m.channel = p_channel and m.lane = p_lane
      and m.id >= greatest(p_from, f.id) and m.id <= least(p_upto, f.id + f.reach) and m.xid = f.xid) m
    where ((f.channel::bigint << 32) | f.lane) = ((p_channel::bigint << 32) | p_lane) and f.reach is not null
      and f.xid >= pg_snapshot_xmin(coalesce(p_floor, p_ceiling)) and f.id <= p_upto
      and (not pg_visible_in_snapshot(m.xid, p_ceiling) or (m.id > p_after and not pg_visible_in_snapshot(m.xid, p_floor))));
$body$);

-- lane_missed(subscription, lane): where the first window of a lane begins, and what of the messages below it was missed: ids and slots, by id. Without
-- what was cancelled.
create or replace function posthorn.lane_missed(p_subscription int, p_lane int, out last_id bigint, out n bigint, out ids bigint[], out slots smallint[])
language plpgsql as $$
declare
  v_at posthorn.position := posthorn.position_of(p_subscription, p_lane);
  v_ceiling posthorn.tick := posthorn.tick_of(v_at.slot, v_at.ceiling);
  v_floor posthorn.tick;
  v_ring posthorn.ring;
  v_channel int := (select s.channel from posthorn.subscription s where s.id = p_subscription);
begin
  select * into v_ring from posthorn.ring;
  if v_at.late then
    v_floor := posthorn.tick_of(v_at.slot, v_at.floor);
  end if;
  if v_ceiling.id is null or v_at.late and v_floor.id is null then
    raise exception 'the ticks of subscription %, lane % are gone', p_subscription, p_lane using errcode = 'PH004';
  end if;
  n := v_at.n;
  last_id := case when v_at.late then v_floor.ceiling_id else v_at.last_id end;
  select array_agg(m.id order by m.id), array_agg(s.slot order by m.id) into ids, slots
    from unnest(v_ring.slots) s(slot) cross join lateral unnest(
      posthorn.missed_of(s.slot, v_channel, p_lane, v_ring.first_id, last_id, v_floor.snapshot, v_ceiling.snapshot, v_at.last_id)) m(id)
    where not exists (select from posthorn.cancel_mark k where k.subscription = p_subscription and k.message = m.id);
end $$;

-- put_off(subscription, lane, id, slot): a message that was missed, as a first delivery outside of the log, due at once. Where order is kept it comes
-- behind what waits of its key. What comes after it in the log has a higher id, and of transactions that conflict the later one has.
create or replace function posthorn.put_off(p_subscription int, p_lane int, p_message bigint, p_slot smallint) returns void
language plpgsql as $$
declare
  v_row posthorn.deferred := posthorn.delivery_of(p_subscription, p_lane, p_message, p_slot);
begin
  v_row.due_at := least(clock_timestamp(), v_row.expires_at);
  if v_row.key is not null and exists (select from posthorn.subscription s where s.id = p_subscription and s.ordering is not null) then
    v_row := posthorn.turn_of(v_row);
  end if;
  insert into posthorn.deferred (subscription, due_at, delivery, attempts, crashes, reason, message, nonce, channel, lane, contract, key, payload, headers,
      published_at, history, place, expires_at, priority)
    values (v_row.subscription, v_row.due_at, v_row.delivery, 0, 0, 'released', v_row.message, v_row.nonce, v_row.channel, v_row.lane, v_row.contract,
      v_row.key, v_row.payload, v_row.headers, v_row.published_at, v_row.history, v_row.place, v_row.expires_at, coalesce(v_row.priority, 0));
end $$;

-- begin_lane: the first position of a lane in the new epoch: an empty claim that is closed, whose window ends at the tick.
select posthorn.by_slot('begin_lane(p_slot smallint, p_subscription int, p_lane int, p_n bigint, p_tick bigint, p_last_id bigint)', 'void', $body$
  declare
    v_claim bigint := nextval('posthorn.claim_id');
    v_token bigint := posthorn.random_bigint();
  begin
    insert into posthorn.claim_{slot} (id, n, token, worker, floor, ceiling, last_id, at, subscription, lane, late, took_late, late_xids, messages, keys, open_from)
      values (v_claim, p_n, v_token, 0, p_tick, p_tick, p_last_id, clock_timestamp(), p_subscription, p_lane, false, false, null, '{}', '{}', p_n);
    perform posthorn.settle_part_of({slot}::smallint, v_claim, v_token, 1, null, true, '{}');
  end;
$body$);

-- rebase_lanes(base): begins every lane anew, with what it missed put aside. Returns how many messages that were.
create or replace function posthorn.rebase_lanes(p_base bigint) returns bigint
language plpgsql as $$
declare
  v_tick bigint := nextval('posthorn.tick_id');
  v_slots smallint[] := '{}';
  v_lane record;
  v_missed record;
  v_count bigint := 0;
begin
  for v_lane in select l.subscription, l.lane, l.slot from posthorn.lane l order by l.subscription, l.lane loop
    v_missed := posthorn.lane_missed(v_lane.subscription, v_lane.lane);
    perform posthorn.put_off(v_lane.subscription, v_lane.lane, m.id, m.slot) from unnest(v_missed.ids, v_missed.slots) m(id, slot);
    v_count := v_count + coalesce(cardinality(v_missed.ids), 0);
    if v_lane.slot <> all (v_slots) then
      perform posthorn.write_tick(v_lane.slot, v_tick, p_base, '9223372036854775807:9223372036854775807:');
      v_slots := v_slots || v_lane.slot;
    end if;
    perform posthorn.begin_lane(v_lane.slot, v_lane.subscription, v_lane.lane, v_missed.n + 1, v_tick, v_missed.last_id);
    -- What is cancelled and below is not come to any more.
    delete from posthorn.cancel_mark k where k.subscription = v_lane.subscription and k.message <= v_missed.last_id
      and v_lane.lane = (select w.lane from posthorn.cancelled c cross join lateral posthorn.where_in_log(c.message, c.nonce) w
        where c.subscription = k.subscription and c.message = k.message);
  end loop;
  return v_count;
end $$;

-- rebase_plan(): what rebase would find, as JSON; { needed: false } at home. Changes nothing.
create or replace function posthorn.rebase_plan() returns json
language plpgsql as $$
declare
  v_why record := posthorn.why_away();
  v_missed bigint := 0;
  v_waiting bigint := 0;
  v_lane record;
begin
  if v_why.reason is null then
    return '{"needed":false}';
  end if;
  for v_lane in select l.subscription, l.lane from posthorn.lane l loop
    v_missed := v_missed + coalesce(cardinality((posthorn.lane_missed(v_lane.subscription, v_lane.lane)).ids), 0);
  end loop;
  select coalesce(sum((posthorn.waiting_in_log(s.id, 2147483647)).messages), 0) into v_waiting from posthorn.subscription s;
  return json_build_object('needed', true, 'reason', v_why.reason, 'says', v_why.says, 'hint', v_why.hint,
    'workers', (select count(*) from posthorn.worker),
    'held', (select coalesce(sum(cardinality(c.messages)), 0) from posthorn.open_claims() c) + (select count(*) from posthorn.deferred d where d.token is not null),
    'missed', v_missed, 'waiting', v_waiting, 'deferred', (select count(*) from posthorn.deferred));
end $$;

-- rebase(): makes this database the home of its log, in the transaction that it is called in: all of it or nothing. Returns the plan that it carried
-- out, with { epoch, firstId }. Waits for whoever reads the ring; nobody writes to the log before, because it is not at home.
-- What the workers of before held is rescued, as after their death. Raises PH004 (position lost).
create or replace function posthorn.rebase() returns json
language plpgsql as $$
declare
  v_plan json;
  v_worker posthorn.worker;
  v_base bigint;
  v_epoch int;
  v_missed bigint;
  v_key record;
begin
  perform posthorn.plain_plans(), set_config('lock_timeout', '10s', true);
  lock table posthorn.ring in access exclusive mode;
  v_plan := posthorn.rebase_plan();
  if not (v_plan ->> 'needed')::boolean then
    return v_plan;
  end if;
  perform posthorn.raise_sequences();
  for v_worker in select * from posthorn.worker order by id loop
    perform posthorn.rescue_worker(v_worker, 2147483647);
  end loop;
  v_base := coalesce(pg_sequence_last_value('posthorn.message_id'), 0);
  v_missed := posthorn.rebase_lanes(v_base);
  perform posthorn.rebase_segments(), posthorn.make_backlogs();
  select coalesce(max(e.n), 0) + 1 into v_epoch from posthorn.epoch e;
  insert into posthorn.epoch (n, system_identifier, database, first_id)
    select v_epoch, c.system_identifier, d.oid, v_base + 1 from pg_control_system() c, pg_database d where d.datname = current_database();
  update posthorn.ring r set system_identifier = e.system_identifier, database = e.database, first_id = e.first_id from posthorn.epoch e where e.n = v_epoch;
  update posthorn.move set finished_at = clock_timestamp() where side = 'target' and finished_at is null;
  for v_key in select p.subscription, p.key from posthorn.parked_key p order by p.subscription, p.key loop
    perform posthorn.promote_key(v_key.subscription, v_key.key);
  end loop;
  return (v_plan::jsonb || jsonb_build_object('missed', v_missed, 'epoch', v_epoch, 'firstId', (v_base + 1)::text))::json;
end $$;

-- make_backlogs(): the counts of full queues, where a copy came without them.
create or replace function posthorn.make_backlogs() returns void
language plpgsql as $$
declare
  v_channel int;
begin
  for v_channel in select l.channel from posthorn.backlog_limit l where to_regclass(format('posthorn.backlog_%s', l.channel)) is null loop
    execute format('create sequence posthorn.backlog_%s minvalue 0 start 0', v_channel);
  end loop;
end $$;
` },
  { name: "functions/28_move.sql", text: `-- Moving a log to another database. The source is the owner until it says that it has left, in the same transaction in which it held still; the target
-- refuses until it has been rebased after that. So there is never a second owner, and at no moment is anything lost.

-- move_facts(): what a move has to know of a side, as JSON { system, database, away, says, hint, move, used, workers }. \`used\`: what stands in the way of a target.
create or replace function posthorn.move_facts() returns json
language plpgsql as $$
declare
  v_why record := posthorn.why_away();
begin
  return json_build_object('system', (select c.system_identifier::text from pg_control_system() c),
    'database', (select d.oid::text from pg_database d where d.datname = current_database()), 'away', v_why.reason, 'says', v_why.says, 'hint', v_why.hint,
    'move', (select json_build_object('id', m.id, 'side', m.side, 'other', m.other, 'system', m.other_system::text, 'database', m.other_database::text,
      'finished', m.finished_at is not null) from posthorn.move m order by m.n desc limit 1),
    'used', (select format('%s "%s"', case c.kind when 'event' then 'the topic' else 'the queue' end, c.name) from posthorn.channel c order by c.id limit 1),
    'workers', (select coalesce(json_agg(json_build_object('service', w.service, 'host', w.host, 'pid', w.pid,
      'dead', w.id in (select d.worker from posthorn.dead_workers() d)) order by w.id), '[]') from posthorn.worker w));
end $$;

-- move_tables(): the tables of a log in the order of their references, with the columns that are written, and all in their order.
create or replace function posthorn.move_tables() returns json
language sql volatile as $$
  with recursive tables as (
    select c.oid, c.relname from pg_class c where c.relnamespace = 'posthorn'::regnamespace and c.relkind = 'r'
      and c.relname not in ('migration', 'installation', 'move', 'ring')
  ), depths as (
    select t.oid, 0 as depth from tables t
    union select r.conrelid, d.depth + 1 from depths d join pg_constraint r on r.confrelid = d.oid and r.contype = 'f' and r.conrelid <> r.confrelid
  )
  select json_agg(json_build_object('name', t.relname, 'columns', a.columns, 'written', a.written) order by d.depth, t.relname)
    from tables t cross join lateral (select max(d.depth) as depth from depths d where d.oid = t.oid) d
    cross join lateral (select string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' order by a.attnum) as columns,
      json_agg(format('%I', a.attname) order by a.attnum) filter (where a.attgenerated = '') as written
      from pg_attribute a where a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped) a
$$;

-- hold_still(): until the end of this transaction nobody writes to the log, and whoever had begun to has ended. Waits up to ten seconds. PH003.
create or replace function posthorn.hold_still() returns void
language plpgsql as $$
declare
  v_table regclass;
begin
  perform set_config('lock_timeout', '10s', true), set_config('idle_in_transaction_session_timeout', '0', true);
  -- Whoever has said anything in its transaction has read this, and holds a lock on it until its end.
  lock table posthorn.ring in access exclusive mode;
  for v_table in select c.oid from pg_class c where c.relnamespace = 'posthorn'::regnamespace and c.relkind = 'r' and c.relname <> 'ring' order by c.oid loop
    execute format('lock table %s in share mode', v_table);
  end loop;
  if (posthorn.why_away()).reason is not null then
    perform posthorn.raise_away();
  end if;
end $$;

-- go_away(): this database is not the home of its log any more. The row is not updated but written anew: a transaction with an older snapshot sees
-- no row then, and writes nothing.
create or replace function posthorn.go_away() returns void
language plpgsql as $$
declare
  v_ring posthorn.ring;
begin
  select * into v_ring from posthorn.ring;
  v_ring.system_identifier := 0;
  v_ring.database := 0;
  truncate posthorn.ring;
  insert into posthorn.ring select v_ring.*;
end $$;

-- leave(move, other, system, database): from its commit on the source refuses, and says where its messages are.
create or replace function posthorn.leave(p_move uuid, p_other text, p_system bigint, p_database oid) returns void
language plpgsql as $$
begin
  insert into posthorn.move (id, side, other, other_system, other_database) values (p_move, 'source', p_other, p_system, p_database);
  perform posthorn.go_away();
end $$;

-- expect_move(move, other, system, database): from its commit on the target refuses, until the move has been finished. False where it must not become
-- one: it is used, or the target of a move from elsewhere. From one source no two moves can come at once, since it holds still for one.
create or replace function posthorn.expect_move(p_move uuid, p_other text, p_system bigint, p_database oid) returns boolean
language plpgsql as $$
declare
  v_move posthorn.move;
  v_away text;
begin
  perform set_config('lock_timeout', '10s', true);
  lock table posthorn.ring in access exclusive mode;
  v_away := (posthorn.why_away()).reason;
  select * into v_move from posthorn.move m order by m.n desc limit 1;
  if v_away = 'unfinished' and (v_move.other_system, v_move.other_database) is distinct from (p_system, p_database)
      or v_away is null and exists (select from posthorn.channel) or v_away <> 'unfinished' then
    return false;
  end if;
  insert into posthorn.move (id, side, other, other_system, other_database) values (p_move, 'target', p_other, p_system, p_database);
  perform posthorn.go_away();
  return true;
end $$;

-- empty_target(): removes what a move has brought that was not finished.
create or replace function posthorn.empty_target() returns void
language plpgsql as $$
declare
  v_tables text;
begin
  if (posthorn.why_away()).reason is distinct from 'unfinished' then
    raise exception 'this is no target of a move that was not finished' using errcode = 'PH099';
  end if;
  perform set_config('lock_timeout', '10s', true), set_config('idle_in_transaction_session_timeout', '0', true);
  lock table posthorn.ring in access exclusive mode;
  select string_agg(format('posthorn.%I', t ->> 'name'), ', ') into v_tables from json_array_elements(posthorn.move_tables()) t;
  execute 'truncate ' || v_tables;
end $$;

-- ring_text(): the ring of a source, which take_ring makes that of a target that is not at home yet.
create or replace function posthorn.ring_text() returns text
language sql volatile as $$ select r::text from posthorn.ring r $$;

create or replace function posthorn.take_ring(p_ring text) returns void
language plpgsql as $$
declare
  v_ring posthorn.ring := p_ring::posthorn.ring;
begin
  truncate posthorn.ring;
  insert into posthorn.ring select v_ring.*;
  perform posthorn.go_away();
end $$;

-- sequence_values(): all sequences of a log with their last values, as JSON; those that gave none are left out. take_sequences puts them right elsewhere.
create or replace function posthorn.sequence_values() returns json
language sql volatile as $$
  -- A condition beside others may be asked of what is no sequence.
  select json_agg(json_build_object('name', s.name, 'value', s.value::text)) filter (where s.value is not null)
    from (select c.relname as name, case when c.relkind = 'S' then pg_sequence_last_value(c.oid) end as value from pg_class c
      where c.relnamespace = 'posthorn'::regnamespace and c.relkind = 'S') s
$$;

create or replace function posthorn.take_sequences(p_values json) returns void
language plpgsql as $$
declare
  v_one record;
begin
  perform posthorn.make_backlogs();
  for v_one in select * from json_to_recordset(p_values) s(name text, value bigint) loop
    if to_regclass(format('posthorn.%I', v_one.name)) is not null then
      perform setval(format('posthorn.%I', v_one.name)::regclass, v_one.value);
    end if;
  end loop;
end $$;
` },
  { name: "functions/29_intake.sql", text: `-- The way in: one worker of the fleet runs an intake at a time, and every message of a broker is written to the log once.
--
-- The row of the intake is locked by whoever writes for it, and by whoever takes it over: two never write at the same time, and a holder that has lost it
-- writes nothing more. So messages lie in the log in the order of the broker, whatever died.
--
-- A broker that is pushed to has no order to keep across processes, and each process has messages that no other can take in: every worker holds it, by a row
-- of its own in intake_holder, and they write beside each other. Of two that write one message at the same time the inbox lets one.

-- register_intake(…): makes an intake or brings it up to date; the newest start wins. Contracts as [{ name, owner }], the owner that the contract itself names. Bounds
-- of alerts as { refused, invalid }; an older library says none, and leaves those that are known. \`knows\`: it marks by inbox_names(). Returns JSON { id, made }: \`made\`,
-- for withdraw_intake, where it was not there before. Raises PH020 where somebody else has the name, for an event that is published here (a fact has one source), and
-- for a library that would not recognise what a renamed one took in.
create or replace function posthorn.register_intake(
  p_name text, p_service text, p_broker text, p_place text, p_keep_ms float8, p_away_ms float8, p_contracts json, p_bounds json, p_knows boolean
) returns json
language plpgsql as $$
declare
  v_row posthorn.intake;
  v_new boolean;
  v_own record;
begin
  perform posthorn.require_home();
  loop
    insert into posthorn.intake (name, service, broker, place, keep_ms, away_ms) values (p_name, p_service, p_broker, p_place, p_keep_ms, p_away_ms)
      on conflict (name) do nothing;
    v_new := found;
    select * into v_row from posthorn.intake where name = p_name for update;
    -- Else it was removed in between.
    exit when found;
  end loop;
  if v_row.service <> p_service then
    raise exception 'the intake "%" is one of service "%", and service "%" declares it', p_name, v_row.service, p_service
      using errcode = 'PH020', hint = format('Give one of the two another name. Where the service was renamed, or the other intake is gone from the code, stop its processes and remove it: posthorn intakes remove %s. What it took in is recognised here as well.', p_name);
  end if;
  if exists (select from posthorn.subscription s where s.name = p_name) then
    raise exception 'the intake "%" cannot be made: a queue or subscription has this name', p_name using errcode = 'PH020',
      hint = 'Queues, subscriptions and intakes share one set of names. Rename one of them.';
  end if;
  perform posthorn.own_inbox(p_name, v_row.id);
  if not p_knows and posthorn.inbox_names(p_name) <> array[p_name] then
    raise exception 'the intake "%" was renamed, and the library of this process would not recognise what it took in', p_name using errcode = 'PH020',
      hint = 'Start this process with a newer version of posthorn.';
  end if;
  -- Who owns an event without being named in its contract has published it here.
  select c.name, c.owner into v_own from posthorn.contract c join json_to_recordset(p_contracts) as d(name text, owner text) on d.name = c.name
    where c.kind = 'event' and c.owner is not null and (c.owner = p_service or d.owner is distinct from c.owner) limit 1;
  if v_own.name is not null then
    raise exception 'the event "%" is published here by service "%", which owns it, and the intake "%" would bring it in from outside', v_own.name, v_own.owner, p_name
      using errcode = 'PH020', hint = 'A fact has one source. Leave it out of the intake; or, where its source is a service elsewhere, name that one as \`owner\` in the contract: then this service gives it away.';
  end if;
  update posthorn.intake set broker = p_broker, place = p_place, keep_ms = p_keep_ms, away_ms = p_away_ms, declared_at = clock_timestamp(),
    refused_bound = coalesce((p_bounds ->> 'refused')::bigint, refused_bound), invalid_bound = coalesce((p_bounds ->> 'invalid')::bigint, invalid_bound)
    where id = v_row.id returning * into v_row;
  delete from posthorn.intake_contract c where c.intake = v_row.id and c.contract not in (select d ->> 'name' from json_array_elements(p_contracts) d);
  insert into posthorn.intake_contract (intake, contract) select v_row.id, d ->> 'name' from json_array_elements(p_contracts) d on conflict do nothing;
  return json_build_object('id', v_row.id, 'made', case when v_new then extract(epoch from v_row.declared_at)::text end);
end $$;

-- declare_intake(…): as register_intake, for libraries that call it so. Returns the id.
create or replace function posthorn.declare_intake(
  p_name text, p_service text, p_broker text, p_place text, p_keep_ms float8, p_away_ms float8, p_contracts json, p_bounds json default null
) returns int
language sql volatile as $$
  select (posthorn.register_intake(p_name, p_service, p_broker, p_place, p_keep_ms, p_away_ms, p_contracts, p_bounds, false) ->> 'id')::int
$$;

-- withdraw_intake(id, made): takes back what begin_intake has made for a start that was refused; returns whether it did. Who declares it meanwhile moves declared_at, and has it then.
create or replace function posthorn.withdraw_intake(p_id int, p_made numeric) returns boolean
language plpgsql as $$
begin
  delete from posthorn.intake i where i.id = p_id and extract(epoch from i.declared_at) = p_made and i.received = 0 and i.paused_at is null;
  return found;
end $$;

-- intake_runners(): who runs which intake, and lives. \`alone\`: nobody runs it beside this one; else messages are pushed to it. \`seen_at\`: when it said last how it stands.
create or replace function posthorn.intake_runners() returns table (
  intake int, worker bigint, service text, host text, pid int, alone boolean, seen_at timestamptz, connected boolean, trouble text
)
language sql volatile as $$
  with living as materialized (
    select w.* from posthorn.worker w where w.id not in (select d.worker from posthorn.dead_workers() d)
  )
  select i.id, w.id, w.service, w.host, w.pid, true, i.seen_at, i.away_since is null, i.trouble from posthorn.intake i join living w on w.id = i.worker
  union all
  select h.intake, w.id, w.service, w.host, w.pid, false, h.seen_at, h.connected, h.trouble from posthorn.intake_holder h join living w on w.id = h.worker
$$;

-- away_anew(intake): since when it is away, for whoever begins to run it: what nobody could do while nobody ran it does not count.
create or replace function posthorn.away_anew(p_intake posthorn.intake) returns timestamptz
language sql volatile as $$
  select coalesce(least(clock_timestamp(), p_intake.away_since + (clock_timestamp() - p_intake.seen_at)), clock_timestamp())
$$;

-- is_free(intake): whether nobody who lives runs it.
create or replace function posthorn.is_free(p_intake posthorn.intake) returns boolean
language plpgsql as $$
begin
  return p_intake.worker is null or not exists (select from posthorn.worker w where w.id = p_intake.worker)
    or p_intake.worker in (select d.worker from posthorn.dead_workers() d);
end $$;

-- hold_intakes(worker, reports): what a worker says and asks each second about the intakes of its process: [{ id, wants, connected, trouble, pushed, refused, broker, place }], \`refused\` of
-- what is pushed to: { total, now, agoMs, why }; what is shown of the broker is where the one that runs it reads from, and an older library does not say it. Takes those that it wants and nobody runs, or that are pushed to; lets go those that it does not want. Returns [{ id, held, paused, redrive }]: whether it runs each, and
-- whether there is something for it to read again; { gone: true } of one that was removed. A worker that counts as dead holds nothing.
create or replace function posthorn.hold_intakes(p_worker bigint, p_reports json) returns json
language plpgsql as $$
declare
  v_report record;
  v_row posthorn.intake;
  v_lives boolean;
  v_held boolean;
  v_answers json[] := '{}';
begin
  perform posthorn.own_transaction(false);
  v_lives := exists (select from posthorn.worker w where w.id = p_worker);
  for v_report in select * from json_to_recordset(p_reports) as r(id int, wants boolean, connected boolean, trouble text, pushed boolean, refused json, broker text,
      place text) order by r.id loop
    select * into v_row from posthorn.intake i where i.id = v_report.id;
    if found and v_report.pushed then
      v_held := v_lives and v_report.wants;
      begin
        perform posthorn.hold_pushed(v_report.id, p_worker, v_held, coalesce(v_report.connected, false), v_report.trouble, v_report.refused);
      exception when foreign_key_violation then
        -- Removed in this moment.
        v_row := null;
      end;
    end if;
    if v_row.id is null then
      v_answers := v_answers || json_build_object('id', v_report.id, 'held', false, 'paused', false, 'redrive', false, 'gone', true);
      continue;
    end if;
    if v_report.pushed then
      -- What is to be read again is read by the one that has held it for the longest.
      v_answers := v_answers || json_build_object('id', v_report.id, 'held', v_held, 'paused', v_row.paused_at is not null,
        'redrive', p_worker = (select min(h.worker) from posthorn.intake_holder h where h.intake = v_report.id)
          and exists (select from posthorn.intake_invalid v where v.intake = v_report.id and v.redrive_at is not null));
      continue;
    end if;
    if v_lives and v_report.wants and v_row.worker is distinct from p_worker and posthorn.is_free(v_row) then
      -- Whoever holds the lock is writing for it, or takes it.
      select * into v_row from posthorn.intake i where i.id = v_report.id for no key update skip locked;
      if found and v_row.worker is distinct from p_worker and posthorn.is_free(v_row) then
        update posthorn.intake i set worker = p_worker, pushed = false, held_at = clock_timestamp(), seen_at = clock_timestamp(),
          away_since = posthorn.away_anew(i), trouble = null, broker = coalesce(v_report.broker, i.broker), place = coalesce(v_report.place, i.place)
          where i.id = v_report.id returning * into v_row;
      end if;
    elsif v_row.worker = p_worker then
      update posthorn.intake i set seen_at = clock_timestamp(), worker = case when v_lives and v_report.wants then i.worker end,
          away_since = case when not coalesce(v_report.connected, false) then coalesce(i.away_since, clock_timestamp()) end, trouble = v_report.trouble,
          broker = coalesce(v_report.broker, i.broker), place = coalesce(v_report.place, i.place)
        where i.id = v_report.id and i.worker = p_worker returning * into v_row;
    end if;
    v_answers := v_answers || json_build_object('id', v_report.id, 'held', coalesce(v_row.worker = p_worker, false), 'paused', v_row.paused_at is not null,
      'redrive', exists (select from posthorn.intake_invalid v where v.intake = v_report.id and v.redrive_at is not null));
  end loop;
  return to_json(v_answers);
end $$;

-- hold_pushed(intake, worker, holds, connected, trouble, refused): one of the many that run an intake says how it stands, or lets it go; what dead workers held is let go with
-- it. The intake is connected as long as one of them is.
create or replace function posthorn.hold_pushed(p_intake int, p_worker bigint, p_holds boolean, p_connected boolean, p_trouble text, p_refused json) returns void
language plpgsql as $$
declare
  v_first boolean;
begin
  with gone as (
    delete from posthorn.intake_holder h where h.intake = p_intake and case when h.worker = p_worker then not p_holds
        else h.seen_at < clock_timestamp() - interval '3 s' and (not exists (select from posthorn.worker w where w.id = h.worker)
          or h.worker in (select d.worker from posthorn.dead_workers() d)) end
      returning h.*
  ), counted as (
    select sum(g.received) as received, sum(g.written) as written, sum(g.invalid) as invalid, sum(g.skipped) as skipped, sum(g.refused) as refused,
      max(g.last_message_at) as last_at, max(g.skipped_at) as skipped_at, (array_agg(g.skipped_type order by g.skipped_at desc nulls last))[1] as skipped_type
      from gone g having count(*) > 0)
    update posthorn.intake i set received = i.received + c.received, written = i.written + c.written, invalid = i.invalid + c.invalid,
      skipped = i.skipped + c.skipped, refused = i.refused + c.refused, last_message_at = greatest(i.last_message_at, c.last_at),
      skipped_type = case when c.skipped_at >= coalesce(i.skipped_at, '-infinity') then c.skipped_type else i.skipped_type end,
      skipped_at = greatest(i.skipped_at, c.skipped_at) from counted c where i.id = p_intake;
  v_first := p_holds and not exists (select from posthorn.intake_holder h where h.intake = p_intake);
  if p_holds then
    -- What is refused costs no statement of its own: this one comes each second.
    insert into posthorn.intake_holder (intake, worker, connected, trouble, refused, refused_now, refused_at, refusal)
      values (p_intake, p_worker, p_connected, p_trouble, coalesce((p_refused ->> 'total')::bigint, 0), (p_refused ->> 'now')::bigint,
        clock_timestamp() - (p_refused ->> 'agoMs')::float8 * interval '1 ms', left(p_refused ->> 'why', 500))
      on conflict (intake, worker) do update set seen_at = clock_timestamp(), connected = excluded.connected, trouble = excluded.trouble,
        refused = excluded.refused, refused_now = excluded.refused_now, refused_at = excluded.refused_at, refusal = excluded.refusal;
  end if;
  -- One row for all of them: written when something is new, or it is time to say that somebody is there.
  update posthorn.intake i set pushed = true, seen_at = clock_timestamp(), trouble = a.trouble,
      away_since = case when a.connected then null when v_first then posthorn.away_anew(i) else coalesce(i.away_since, clock_timestamp()) end
    from (select coalesce(bool_or(h.connected), false) as connected, max(h.trouble) as trouble from posthorn.intake_holder h where h.intake = p_intake) a
    where i.id = p_intake and (not i.pushed or v_first or i.seen_at < clock_timestamp() - interval '0.5 s' or a.connected <> (i.away_since is null)
      or i.trouble is distinct from a.trouble);
end $$;

-- own_intake(intake, worker): called first by whatever a holder writes; returns how long what it takes in now is recognised. Raises PH005 when it is the
-- holder no more.
create or replace function posthorn.own_intake(p_intake int, p_worker bigint) returns timestamptz
language plpgsql as $$
declare
  v_keep_until timestamptz;
begin
  select clock_timestamp() + i.keep_ms * interval '1 ms' into v_keep_until from posthorn.intake i where i.id = p_intake and i.worker = p_worker for no key update;
  if not found then
    -- One of many: its own row is locked, and others write meanwhile.
    select clock_timestamp() + i.keep_ms * interval '1 ms' into v_keep_until from posthorn.intake_holder h join posthorn.intake i on i.id = h.intake
      where h.intake = p_intake and h.worker = p_worker for no key update of h;
  end if;
  if not found then
    raise exception 'the intake "%" is run by another worker', (select i.name from posthorn.intake i where i.id = p_intake) using errcode = 'PH005',
      hint = 'Nothing was written; the other one takes these messages in.';
  end if;
  return v_keep_until;
end $$;

-- mark_places(intake, marks, keep until): puts marks into the inbox, and returns the places of those that are new and no repetition of one before them; null when
-- all are, which is the rule: then they are written without asking about each, which costs a quarter less. In the order of the marks, so that two who write the
-- same ones at the same time wait for each other in one direction only.
create or replace function posthorn.mark_places(p_intake int, p_marks uuid[], p_keep_until timestamptz) returns int[]
language plpgsql as $$
declare
  v_fresh uuid[];
begin
  begin
    insert into posthorn.inbox (mark, intake, keep_until) select m, p_intake, p_keep_until from unnest(p_marks) m order by m;
    return null;
  exception when unique_violation then
    null;
  end;
  with fresh as (
    insert into posthorn.inbox (mark, intake, keep_until) select m, p_intake, p_keep_until from unnest(p_marks) m order by m on conflict do nothing returning mark)
    select array_agg(f.mark) into v_fresh from fresh f;
  return array(select min(m.n)::int from unnest(p_marks) with ordinality m(mark, n) where m.mark = any (v_fresh) group by m.mark order by 1);
end $$;

-- former_places(intake, places, count, former, keep until): those of places (null: all) of \`count\` messages that were not taken in under a former name either. \`former\`: the
-- marks of each message under all former names, one message after the other. They are put into the inbox as well, so that whatever asks by one of them finds it.
create or replace function posthorn.former_places(p_intake int, p_places int[], p_count int, p_former uuid[], p_keep_until timestamptz) returns int[]
language sql as $$
  with former as materialized (
    select (f.n - 1) / (cardinality(p_former) / p_count) + 1 as place, f.mark from unnest(p_former) with ordinality f(mark, n)
  ), fresh as (
    insert into posthorn.inbox (mark, intake, keep_until) select f.mark, p_intake, p_keep_until from former f where p_places is null or f.place = any (p_places)
      order by f.mark on conflict do nothing returning mark)
    select coalesce(array_agg(p.place order by p.place), '{}') from generate_series(1, p_count) p(place)
      where (p_places is null or p.place = any (p_places))
        and p.place not in (select f.place from former f where f.mark not in (select r.mark from fresh r))
$$;

-- take_in(intake, worker, marks, lists, invalid, skipped, former, skipped type): writes those of a batch of messages whose marks are new, in their order, as write_many
-- does; in a transaction of its own. \`skipped\` is a number for the statistics, and \`skipped type\` that of the last of them that was passed over because no contract
-- has its type; an older library says none. Returns JSON { written, invalid, noted, everWritten }: the places of those of \`invalid\` that are new; and, where there
-- is a skipped type, whether the intake has ever written anything. \`former\`: as in former_places. Raises PH005 (not the holder), PH003, PH040 (a queue is full); then nothing is written.
drop function if exists posthorn.take_in(int, bigint, uuid[], bigint[], int[], int[], json, json, json, json, int);
drop function if exists posthorn.take_in(int, bigint, uuid[], bigint[], int[], int[], json, json, json, json, int, uuid[]);
create or replace function posthorn.take_in(
  p_intake int, p_worker bigint, p_marks uuid[], p_nonces bigint[], p_channels int[], p_contracts int[], p_keys json, p_payloads json, p_headers json,
  p_invalid json, p_skipped int, p_former uuid[] default null, p_skipped_type text default null
) returns json
language plpgsql as $$
declare
  v_now timestamptz := clock_timestamp();
  v_keep_until timestamptz;
  v_places int[];
  v_written int := cardinality(p_marks);
  v_invalid int := 0;
  v_noted int[];
begin
  perform posthorn.own_transaction(true);
  v_keep_until := posthorn.own_intake(p_intake, p_worker);
  if v_written > 0 then
    v_places := posthorn.mark_places(p_intake, p_marks, v_keep_until);
    if p_former is not null then
      v_places := posthorn.former_places(p_intake, v_places, v_written, p_former, v_keep_until);
    end if;
    v_written := coalesce(cardinality(v_places), v_written);
    perform posthorn.write_places(v_places, p_nonces, p_channels, p_contracts, p_keys, p_payloads, p_headers);
  end if;
  if p_invalid is not null then
    v_noted := posthorn.note_unfit(p_intake, p_invalid, v_now, v_keep_until);
    v_invalid := cardinality(v_noted);
  end if;
  update posthorn.intake i set received = i.received + cardinality(p_marks) + coalesce(json_array_length(p_invalid), 0) + p_skipped,
      written = i.written + v_written, invalid = i.invalid + v_invalid, skipped = i.skipped + p_skipped, last_message_at = v_now,
      skipped_type = coalesce(p_skipped_type, i.skipped_type), skipped_at = case when p_skipped_type is null then i.skipped_at else v_now end
    where i.id = p_intake and i.worker = p_worker;
  if not found then
    update posthorn.intake_holder h set received = h.received + cardinality(p_marks) + coalesce(json_array_length(p_invalid), 0) + p_skipped,
        written = h.written + v_written, invalid = h.invalid + v_invalid, skipped = h.skipped + p_skipped, last_message_at = v_now,
        skipped_type = coalesce(p_skipped_type, h.skipped_type), skipped_at = case when p_skipped_type is null then h.skipped_at else v_now end
      where h.intake = p_intake and h.worker = p_worker;
  end if;
  return json_build_object('written', v_written, 'invalid', v_invalid, 'noted', v_noted, 'everWritten', case when p_skipped_type is not null then
    exists (select from posthorn.intake i where i.id = p_intake and i.written > 0)
      or exists (select from posthorn.intake_holder h where h.intake = p_intake and h.written > 0) end);
end $$;

-- write_places(places, lists): appends the messages of lists, or those at places that are named. Null means all, an empty list none. Raises PH040.
create or replace function posthorn.write_places(
  p_places int[], p_nonces bigint[], p_channels int[], p_contracts int[], p_keys json, p_payloads json, p_headers json
) returns void
language plpgsql as $$
declare
  v_limited record;
  v_picked record;
begin
  if p_places is not null then
    if cardinality(p_places) = 0 then
      return;
    end if;
    select array_agg(r.nonce order by r.n) as nonces, array_agg(coalesce(r.channel, p_channels[1]) order by r.n) as channels,
        array_agg(coalesce(r.contract, p_contracts[1]) order by r.n) as contracts, json_agg(r.key order by r.n) as keys,
        json_agg(r.payload order by r.n) as payloads, json_agg(r.headers order by r.n) as headers into v_picked
      from rows from (unnest(p_nonces), unnest(p_channels), unnest(p_contracts), json_array_elements_text(p_keys), json_array_elements(p_payloads),
        json_array_elements(p_headers)) with ordinality r(nonce, channel, contract, key, payload, headers, n)
      where r.n = any (p_places);
    perform posthorn.write_places(null, v_picked.nonces, v_picked.channels, v_picked.contracts, v_picked.keys, v_picked.payloads, v_picked.headers);
    return;
  end if;
  for v_limited in select l.channel, count(*) as messages from posthorn.backlog_limit l
      join generate_series(1, cardinality(p_nonces)) n on coalesce(p_channels[n], p_channels[1]) & 2097151 = l.channel group by l.channel order by 1 loop
    perform posthorn.check_backlog(v_limited.channel, v_limited.messages);
  end loop;
  perform posthorn.append_of(posthorn.open_slot(null), p_nonces, p_channels, p_contracts, p_keys, p_payloads, p_headers);
end $$;

-- unfit_mark(identity, content type, headers, body, bytes): what tells a message that fits nothing from others of its identity. The same bytes have the same; what its sender
-- has mended has not.
create or replace function posthorn.unfit_mark(p_identity uuid, p_content_type text, p_headers json, p_body bytea, p_bytes bigint) returns uuid
language sql immutable as $$
  select substr(encode(sha256(convert_to(jsonb_build_array(p_identity, p_content_type, p_headers, p_bytes)::text, 'UTF8') || p_body), 'hex'), 1, 32)::uuid
$$;

-- note_unfit(intake, messages, now, keep until): keeps what fits nothing: [{ mark, once, reason, source, event, type, contentType, headers, key, brokerId, position, body,
-- bytes, whole, former }], \`body\` in base64; \`once\` where it has an identity of its own, which is its mark then. That identity is left to a message that fits: only the content is
-- remembered, so that what comes again is absorbed, also when its entry is gone. What was taken in under its identity is absorbed as well. \`former\`: its marks under
-- former names of the intake. Returns the places of those that are new.
create or replace function posthorn.note_unfit(p_intake int, p_messages json, p_now timestamptz, p_keep_until timestamptz) returns int[]
language plpgsql as $$
declare
  v_new int[];
begin
  with said as materialized (
    select u.*, decode(u.body64, 'base64') as body from rows from (json_to_recordset(p_messages) as (mark uuid, once boolean, reason text, source text, event text,
      type text, "contentType" text, headers json, key text, "brokerId" text, position text, body text, bytes bigint, whole boolean, former json)) with ordinality
      u(own, once, reason, source, event, type, "contentType", headers, key, "brokerId", position, body64, bytes, whole, former, n)
  ), unfit as materialized (
    select distinct on (m.mark) m.mark, s.* from said s
        cross join lateral (select case when s.once then posthorn.unfit_mark(s.own, s."contentType", s.headers, s.body, s.bytes)
          else coalesce((select v.mark from posthorn.intake_invalid v where v.intake = p_intake
            and v.mark = any (array(select f::uuid from json_array_elements_text(s.former) f)) limit 1), s.own) end as mark) m
      where not s.once or not exists (select from posthorn.inbox b where b.mark = s.own)
          and not exists (select from json_array_elements_text(s.former) f join posthorn.inbox b
            on b.mark = any (array[f::uuid, posthorn.unfit_mark(f::uuid, s."contentType", s.headers, s.body, s.bytes)]))
        order by m.mark, s.n
  ), fresh as (
    insert into posthorn.inbox (mark, intake, keep_until) select u.mark, p_intake, p_keep_until from unfit u where u.once on conflict do nothing returning mark
  ), noted as (
    insert into posthorn.intake_invalid (intake, mark, identity, found_at, last_at, reason, source, event, type, content_type, headers, key, broker_id, position, body,
        bytes, whole)
      select p_intake, u.mark, case when u.once then u.own end, p_now, p_now, u.reason, u.source, u.event, u.type, u."contentType", u.headers, u.key, u."brokerId",
        u.position, u.body, u.bytes, u.whole
      from unfit u where not u.once or u.mark in (select f.mark from fresh f) order by u.n
      on conflict (intake, mark) do update set times = posthorn.intake_invalid.times + 1, last_at = excluded.last_at
      returning mark, times)
    select coalesce(array_agg(u.n::int order by u.n), '{}') into v_new from noted o join unfit u on u.mark = o.mark where o.times = 1;
  return v_new;
end $$;

-- sweep_inbox(pages): removes what has been kept for its time, from at most so many pages, where the last sweep stopped. It is due to go over all of the
-- inbox within a twentieth of the shortest time that any intake keeps it, and does no more. Returns whether it is behind. In a transaction of its own.
create or replace function posthorn.sweep_inbox(p_pages int) returns boolean
language plpgsql as $$
declare
  v_all bigint := pg_relation_size('posthorn.inbox') / current_setting('block_size')::bigint;
  v_round_ms float8 := (select coalesce(min(i.keep_ms), 604800000) / 20 from posthorn.intake i);
  v_page bigint;
  v_due float8;
  v_upto bigint;
begin
  perform posthorn.own_transaction(false);
  if v_all = 0 then
    return false;
  end if;
  insert into posthorn.maintenance (name, ran_at) values ('inbox', clock_timestamp()) on conflict (name) do nothing;
  select coalesce((m.notes ->> 'page')::bigint, 0), least(v_all, v_all * extract(epoch from clock_timestamp() - m.ran_at) * 1000 / v_round_ms) into v_page, v_due
    from posthorn.maintenance m where m.name = 'inbox' for update skip locked;
  if v_due is null or v_due < 1 then
    return false;
  end if;
  v_page := case when v_page < v_all then v_page else 0 end;
  v_upto := least(v_all, v_page + least(p_pages, floor(v_due)::bigint));
  delete from posthorn.inbox b where b.ctid >= format('(%s,0)', v_page)::tid and b.ctid < format('(%s,0)', v_upto)::tid and b.keep_until < clock_timestamp();
  update posthorn.maintenance set notes = json_build_object('page', v_upto),
    ran_at = clock_timestamp() - (v_due - (v_upto - v_page)) / v_all * v_round_ms * interval '1 ms' where name = 'inbox';
  return v_due - (v_upto - v_page) >= 1;
end $$;
` },
  { name: "functions/30_segments.sql", text: `-- Space: the log is a ring of eight slots. Rotation opens the next one, and a segment that nobody needs is truncated.
--
-- Each step is a transaction of its own, and whoever comes next goes on from what is committed. What is found about a segment stays true:
--   closed    messages go to another slot, but whoever has read the ring before may still choose this one
--   sealed    nobody can choose it any more, but some who did may not have committed
--   still     all of them have ended: what it holds is what it will ever hold
--   finished  every lane has taken what it holds, no claim that is open lies in it or took from it, and it was kept for its time
-- and it is truncated when everybody sees it finished. "Everybody" is asked of the server: see horizon.

-- horizon(): the oldest transaction id that somebody else in this database has, or has a snapshot from, and who that is: everything below it has
-- ended, and everybody sees its end. Without anybody the next id. A prepared transaction has no pid.
create or replace function posthorn.horizon(out xid xid8, out pid int, out since timestamptz, out prepared text)
language plpgsql as $$
declare
  v_next bigint := pg_snapshot_xmax(pg_current_snapshot())::text::bigint;
begin
  perform pg_stat_clear_snapshot();
  select h.full_xid::text::xid8, h.pid, h.since, h.gid into xid, pid, since, prepared from (
      -- Ids of 32 bits are near the next one, before or behind it.
      select v_next + ((a.short::text::bigint - v_next + 2147483648) & 4294967295) - 2147483648 as full_xid, a.pid, a.since, a.gid, a.own from (
        select x.short, s.pid, s.xact_start as since, null as gid, x.own from pg_stat_activity s
          cross join lateral (values (s.backend_xid, true), (s.backend_xmin, false)) x(short, own)
          where s.datname = current_database() and s.pid <> pg_backend_pid() and x.short is not null and s.backend_type is distinct from 'autovacuum worker'
        union all
        select p.transaction, null, p.prepared, p.gid, true from pg_prepared_xacts p where p.database = current_database()) a) h
    -- Many have a snapshot from the oldest transaction's time; the one to name is that transaction.
    order by h.full_xid, h.own desc, h.since limit 1;
  xid := coalesce(xid, v_next::text::xid8);
end $$;

-- slots_from(ring, segment): the slots of the ring from a segment on.
create or replace function posthorn.slots_from(p_ring posthorn.ring, p_segment bigint) returns smallint[]
language plpgsql immutable as $$
begin
  return p_ring.slots[greatest(p_segment - p_ring.first_segment, 0)::int + 1 :];
end $$;

select posthorn.by_slot('bytes_of(p_slot smallint)', 'bigint', $body$
  return pg_total_relation_size('posthorn.message_{slot}') + pg_total_relation_size('posthorn.claim_{slot}') + pg_total_relation_size('posthorn.settlement_{slot}')
    + pg_total_relation_size('posthorn.ending_{slot}') + pg_total_relation_size('posthorn.tick_{slot}');
$body$);

select posthorn.by_slot('is_used_of(p_slot smallint)', 'boolean', $body$
  return exists (select from posthorn.message_{slot}) or exists (select from posthorn.claim_{slot}) or exists (select from posthorn.ending_{slot});
$body$);

-- has_channel_of: whether a channel has a message in this slot. Plan: message_N_by_id.
select posthorn.by_slot('has_channel_of(p_slot smallint, p_channel int)', 'boolean', $body$
  return exists (select from posthorn.message_{slot} m where m.channel = p_channel);
$body$);

-- copy_tick_of: a tick that a lane takes along to another slot; lanes that were made together share theirs.
select posthorn.by_slot('copy_tick_of(p_slot smallint, p_tick posthorn.tick)', 'void', $body$
  insert into posthorn.tick_{slot} (id, ceiling_id, snapshot, at) values (p_tick.id, p_tick.ceiling_id, p_tick.snapshot, clock_timestamp()) on conflict do nothing;
$body$);

-- lock_slot: nobody else reads or writes this slot until the end of the transaction; raises 55P03 at once when anybody does now.
select posthorn.by_slot('lock_slot(p_slot smallint)', 'void', $body$
  lock table posthorn.message_{slot}, posthorn.claim_{slot}, posthorn.settlement_{slot}, posthorn.ending_{slot}, posthorn.tick_{slot} in access exclusive mode nowait;
$body$);

select posthorn.by_slot('truncate_slot(p_slot smallint)', 'void', $body$
  truncate posthorn.message_{slot}, posthorn.claim_{slot}, posthorn.settlement_{slot}, posthorn.ending_{slot}, posthorn.tick_{slot};
$body$);

-- is_written_of: whether a message lies in this slot; it and its endings are removed together.
select posthorn.by_slot('is_written_of(p_slot smallint, p_channel int, p_lane int, p_message bigint)', 'boolean', $body$
  return exists (select from posthorn.message_{slot} m where m.channel = p_channel and m.lane = p_lane and m.id = p_message);
$body$);

-- declare_retention(keep, bytes, by, explicit): what the fleet keeps. The newest start that says so wins; who says nothing leaves what others said.
create or replace function posthorn.declare_retention(p_keep_ms float8, p_max_bytes bigint, p_by text, p_explicit boolean) returns void
language plpgsql as $$
begin
  perform posthorn.require_home(), posthorn.check_kept(p_keep_ms);
  insert into posthorn.retention (keep_ms, max_bytes, declared_by) values (p_keep_ms, p_max_bytes, p_by)
    on conflict (singleton) do update set keep_ms = excluded.keep_ms, max_bytes = excluded.max_bytes, declared_by = excluded.declared_by,
      declared_at = clock_timestamp()
    where p_explicit and (posthorn.retention.keep_ms, posthorn.retention.max_bytes) is distinct from (excluded.keep_ms, excluded.max_bytes);
end $$;

-- check_kept(ms): PH015 for a time with which nobody could compute when a segment goes: then none would.
create or replace function posthorn.check_kept(p_ms float8) returns void
language plpgsql as $$
begin
  if p_ms not between 0 and 315360000000 then
    raise exception 'what is kept is kept for at most ten years, got % ms', p_ms using errcode = 'PH015';
  end if;
end $$;

-- keep_segments(): until the end of this transaction no segment is truncated. For verbs that read the log again.
create or replace function posthorn.keep_segments() returns void
language plpgsql as $$
begin
  perform pg_advisory_xact_lock_shared(posthorn.lock_key('truncate'));
end $$;

-- is_forgotten(public id): whether a message of this id, if there was one, may have been removed with its segment.
create or replace function posthorn.is_forgotten(p_public text) returns boolean
language sql stable as $$
  select coalesce(posthorn.id_of(p_public) between 1 and r.forgotten_upto, false) from posthorn.ring r
$$;

-- segment_ms: how long messages go to one segment: a quarter of the longest time that anything is kept, so that the kept ones fit into the ring.
create or replace function posthorn.segment_ms(p_retention posthorn.retention) returns float8
language plpgsql stable as $$
begin
  return greatest(p_retention.keep_ms, (select max(c.keep_ms) from posthorn.channel c)) / 4;
end $$;

-- is_rotation_due: whether the open segment is to be closed: by its age; or by its size, while that leaves slots for its age.
create or replace function posthorn.is_rotation_due(p_ring posthorn.ring, p_retention posthorn.retention) returns boolean
language plpgsql as $$
declare
  v_open posthorn.segment;
begin
  select * into v_open from posthorn.segment s where s.slot = p_ring.slot;
  return (v_open.opened_at < clock_timestamp() - posthorn.segment_ms(p_retention) * interval '1 ms'
      or cardinality(p_ring.slots) <= 5 and posthorn.bytes_of(p_ring.slot) >= p_retention.max_bytes / 4)
    and posthorn.is_used_of(p_ring.slot);
end $$;

-- next_slot(ring): the slot after the newest one; null while it is in use.
create or replace function posthorn.next_slot(p_ring posthorn.ring) returns smallint
language plpgsql immutable as $$
declare
  v_next smallint := p_ring.slots[cardinality(p_ring.slots)] % 8 + 1;
begin
  return case when v_next <> all (p_ring.slots) then v_next end;
end $$;

-- rotate(): one step of a rotation or a truncation, if there is one to do. Never waits for whoever works: what is locked is tried again. Returns
-- JSON { did: opened | moved | switched | sealed | advanced | finished | truncated | null, segment, slot, pending }: \`pending\` while something is under way.
create or replace function posthorn.rotate() returns json
language plpgsql as $$
declare
  v_ring posthorn.ring := posthorn.own_transaction(true);
  v_retention posthorn.retention;
  v_first posthorn.segment;
  v_did text;
begin
  select * into v_retention from posthorn.retention;
  -- Nothing is kept for a time before a worker has said so.
  if v_retention.keep_ms is null or not pg_try_advisory_xact_lock(posthorn.lock_key('rotate')) then
    return '{"did":null,"pending":false}';
  end if;
  perform set_config('lock_timeout', '1s', true);
  -- Later than the lock: whoever held it may have made a step.
  select * into v_ring from posthorn.ring;
  -- A lane that was made while the others moved may have been left behind.
  if exists (select from posthorn.lane l where l.slot <> v_ring.slots[cardinality(v_ring.slots)]) or v_ring.slots[cardinality(v_ring.slots)] <> v_ring.slot then
    return posthorn.go_on_to(v_ring);
  elsif posthorn.next_slot(v_ring) is not null and posthorn.is_rotation_due(v_ring, v_retention) then
    return posthorn.open_segment(v_ring);
  elsif cardinality(v_ring.slots) = 1 then
    return '{"did":null,"pending":false}';
  end if;
  select * into v_first from posthorn.segment s where s.n = v_ring.first_segment;
  if v_first.finished_xid is not null then
    v_did := posthorn.truncate_segment(v_ring, v_first, v_retention);
  end if;
  v_did := coalesce(v_did, posthorn.seal_segments(v_ring), posthorn.advance_lanes(v_ring));
  if v_did is null and v_first.finished_xid is null and posthorn.is_over(v_ring, v_first, v_retention) and posthorn.pins(v_first.n) = '{}' then
    update posthorn.segment set finished_xid = pg_current_xact_id() where n = v_first.n;
    v_did := 'finished';
  end if;
  return json_build_object('did', v_did, 'segment', v_first.n, 'slot', v_first.slot,
    'pending', v_did is not null or v_first.finished_xid is not null or v_first.sealed_xid is null);
end $$;

-- open_segment: the next slot, for the claims of lanes that move to it. Messages follow when all have: a message is never removed later than the
-- claim that took it.
create or replace function posthorn.open_segment(p_ring posthorn.ring) returns json
language plpgsql as $$
declare
  v_slot smallint := posthorn.next_slot(p_ring);
  v_n bigint := p_ring.first_segment + cardinality(p_ring.slots);
begin
  insert into posthorn.segment (n, slot) values (v_n, v_slot);
  update posthorn.ring set slots = slots || v_slot;
  return json_build_object('did', 'opened', 'segment', v_n, 'slot', v_slot, 'pending', true);
end $$;

-- go_on_to: moves lanes to the newest slot, and messages when every lane has moved.
create or replace function posthorn.go_on_to(p_ring posthorn.ring) returns json
language plpgsql as $$
declare
  v_slot smallint := p_ring.slots[cardinality(p_ring.slots)];
  v_moved int := posthorn.move_lanes(v_slot, 50);
  v_left boolean := exists (select from posthorn.lane l where l.slot <> v_slot);
begin
  if not v_left and v_slot <> p_ring.slot then
    update posthorn.segment set closed_at = clock_timestamp(), closed_xid = pg_current_xact_id() where slot = p_ring.slot;
    update posthorn.segment set opened_at = clock_timestamp() where slot = v_slot;
    update posthorn.ring set slot = v_slot;
  end if;
  return json_build_object('did', case when not v_left and v_slot <> p_ring.slot then 'switched' when v_moved > 0 then 'moved' end, 'slot', v_slot, 'pending', true);
end $$;

-- move_lanes(slot, limit): positions of lanes become their base in this slot, under their locks. Lanes that somebody claims from just now are passed
-- over; where all are, one is waited for, for a second at most: a claim is short. Returns how many have moved.
create or replace function posthorn.move_lanes(p_slot smallint, p_limit int) returns int
language plpgsql as $$
declare
  v_lane record;
  v_moved int := 0;
begin
  for v_lane in select l.subscription, l.lane from posthorn.lane l where l.slot <> p_slot order by l.subscription, l.lane limit p_limit loop
    continue when not pg_try_advisory_xact_lock(posthorn.lock_key('lane', v_lane.subscription, v_lane.lane));
    perform posthorn.move_lane(v_lane.subscription, v_lane.lane, p_slot);
    v_moved := v_moved + 1;
  end loop;
  if v_moved = 0 and v_lane.subscription is not null then
    begin
      perform pg_advisory_xact_lock(posthorn.lock_key('lane', v_lane.subscription, v_lane.lane));
    exception when lock_not_available then
      return 0;
    end;
    perform posthorn.move_lane(v_lane.subscription, v_lane.lane, p_slot);
    v_moved := 1;
  end if;
  return v_moved;
end $$;

-- move_lane: for the holder of the lane's lock, in a later statement than it was taken in. Raises PH004.
create or replace function posthorn.move_lane(p_subscription int, p_lane int, p_slot smallint) returns void
language plpgsql as $$
declare
  v_at posthorn.position := posthorn.position_of(p_subscription, p_lane);
  v_floor posthorn.tick := posthorn.tick_of(v_at.slot, v_at.floor);
  v_ceiling posthorn.tick := posthorn.tick_of(v_at.slot, v_at.ceiling);
begin
  if v_ceiling.id is null or v_floor.id is null and v_at.late then
    raise exception 'the ticks of subscription %, lane % are gone', p_subscription, p_lane using errcode = 'PH004';
  end if;
  if v_floor.id is not null then
    perform posthorn.copy_tick_of(p_slot, v_floor);
  end if;
  perform posthorn.copy_tick_of(p_slot, v_ceiling);
  update posthorn.lane set slot = p_slot, n = v_at.n, floor = v_at.floor, ceiling = v_at.ceiling, last_id = v_at.last_id, late = v_at.late,
      late_xids = v_at.late_xids
    where subscription = p_subscription and lane = p_lane;
end $$;

-- seal_segments: of closed segments that nobody can choose any more; "sealed" when there was one.
create or replace function posthorn.seal_segments(p_ring posthorn.ring) returns text
language plpgsql as $$
declare
  v_horizon xid8;
  v_xid xid8;
begin
  if not exists (select from posthorn.segment s where s.closed_xid is not null and s.sealed_xid is null) then
    return null;
  end if;
  v_horizon := (posthorn.horizon()).xid;
  if not exists (select from posthorn.segment s where s.sealed_xid is null and s.closed_xid < v_horizon) then
    return null;
  end if;
  -- Drawn after the look: whoever chose this slot has written to it by now, and has a lower one. So have its messages.
  v_xid := pg_current_xact_id();
  update posthorn.segment s set sealed_at = clock_timestamp(), sealed_xid = v_xid, sealed_id = coalesce(pg_sequence_last_value('posthorn.message_id'), 0)
    where s.sealed_xid is null and s.closed_xid < v_horizon;
  return 'sealed';
end $$;

-- still_upto(ring): the newest segment that is still, with all before it; one below the first when none is.
create or replace function posthorn.still_upto(p_ring posthorn.ring) returns bigint
language plpgsql as $$
declare
  v_horizon xid8 := (posthorn.horizon()).xid;
begin
  return coalesce((select min(s.n) from posthorn.segment s where s.sealed_xid is null or s.sealed_xid >= v_horizon),
    p_ring.first_segment + cardinality(p_ring.slots)) - 1;
end $$;

-- advance_lanes: looks how far each lane has come with the segments that are still; "advanced" when one has come on.
create or replace function posthorn.advance_lanes(p_ring posthorn.ring) returns text
language plpgsql as $$
declare
  v_still bigint;
  v_lane record;
  v_read bigint[] := '{}';
  v_subscriptions int[] := '{}';
  v_lanes int[] := '{}';
  v_count int;
begin
  if not exists (select from posthorn.lane l where least(l.read_from, l.held_from) < p_ring.first_segment + cardinality(p_ring.slots) - 1) then
    return null;
  end if;
  v_still := posthorn.still_upto(p_ring);
  for v_lane in select l.subscription, l.lane, l.read_from, s.channel from posthorn.lane l join posthorn.subscription s on s.id = l.subscription
      where least(l.read_from, l.held_from) <= v_still loop
    v_subscriptions := v_subscriptions || v_lane.subscription;
    v_lanes := v_lanes || v_lane.lane;
    v_read := v_read || posthorn.read_upto(p_ring, v_lane.subscription, v_lane.lane, v_lane.channel, greatest(v_lane.read_from, p_ring.first_segment), v_still);
  end loop;
  -- A later statement than the looks at the positions: a claim that took from a segment lies before them. The slot of a lane is that of its newest
  -- claims; in the segments before it are no claims to come.
  with held as (
    select o.subscription, o.lane, min(p_ring.first_segment + array_position(p_ring.slots, m.slot) - 1) as segment
      from posthorn.open_places() o cross join lateral unnest(o.slots) m(slot) group by 1, 2
  ), found as (
    select f.subscription, f.lane, f.read_from, least(f.read_from, h.segment, p_ring.first_segment + array_position(p_ring.slots, l.slot) - 1) as held_from
      from unnest(v_subscriptions, v_lanes, v_read) f(subscription, lane, read_from)
      join posthorn.lane l on l.subscription = f.subscription and l.lane = f.lane
      left join held h on h.subscription = f.subscription and h.lane = f.lane
  )
  update posthorn.lane l set read_from = f.read_from, held_from = greatest(f.held_from, l.held_from) from found f
    where l.subscription = f.subscription and l.lane = f.lane and (l.read_from < f.read_from or l.held_from < f.held_from);
  get diagnostics v_count = row_count;
  return case when v_count > 0 then 'advanced' end;
end $$;

-- open_places(): claims that are open, with the slots that they lie in and took messages from.
create or replace function posthorn.open_places() returns table (subscription int, lane int, id bigint, worker bigint, slots smallint[])
language sql volatile as $$
  select c.subscription, c.lane, c.id, c.worker, array(select distinct p.slot from unnest(c.message_slots || s.slot) p(slot))
    from posthorn.worker w cross join (select unnest(r.slots) as slot from posthorn.ring r) s
    cross join lateral posthorn.open_claims_of(s.slot, w.id, w.oldest_open_claim, 2147483647) c
$$;

-- read_upto: the first segment from one on that a lane still has messages to take from, or that is not still.
create or replace function posthorn.read_upto(p_ring posthorn.ring, p_subscription int, p_lane int, p_channel int, p_from bigint, p_still bigint) returns bigint
language plpgsql as $$
declare
  v_at posthorn.position := posthorn.position_of(p_subscription, p_lane);
  v_ceiling posthorn.tick := posthorn.tick_of(v_at.slot, v_at.ceiling);
  v_floor_id bigint := case when v_at.late then (posthorn.tick_of(v_at.slot, v_at.floor)).ceiling_id end;
  v_now pg_snapshot := pg_current_snapshot();
  v_n bigint := p_from;
  v_slot smallint;
begin
  if v_ceiling.id is null then
    raise exception 'the ticks of subscription %, lane % are gone', p_subscription, p_lane using errcode = 'PH004';
  end if;
  while v_n <= p_still loop
    v_slot := p_ring.slots[v_n - p_ring.first_segment + 1];
    -- As a claim would look for them: what is left of the late part of its window, its main part with all behind it, and what its window missed.
    exit when v_at.late and (posthorn.late_page_of(v_slot, p_channel, p_lane, v_at.late_xids, v_at.last_id, v_floor_id, 1)).ids is not null;
    exit when posthorn.has_after_of(v_slot, p_channel, p_lane, coalesce(v_floor_id, v_at.last_id));
    exit when posthorn.late_xids_of(v_slot, p_channel, p_lane, v_ceiling.snapshot, v_ceiling.ceiling_id, p_ring.first_id, v_now) is not null;
    v_n := v_n + 1;
  end loop;
  return v_n;
end $$;

-- has_spilled: whether a message of a segment runs outside of its claim under its first delivery: its end belongs beside it.
create or replace function posthorn.has_spilled(p_slot smallint) returns boolean
language plpgsql as $$
begin
  return exists (select from posthorn.deferred d where d.token is not null and d.delivery = 1 and d.lane >= 0
    and posthorn.is_written_of(p_slot, d.channel, d.lane, d.message));
end $$;

-- is_over: whether a segment was kept for its time: that of topics always, that of all others while there is room.
create or replace function posthorn.is_over(p_ring posthorn.ring, p_segment posthorn.segment, p_retention posthorn.retention) returns boolean
language plpgsql as $$
begin
  return coalesce(posthorn.kept_until(p_segment, p_retention, posthorn.is_full(p_ring, p_retention)) <= clock_timestamp(), false);
end $$;

-- kept_until: how long a segment is kept; null while it is not known.
create or replace function posthorn.kept_until(p_segment posthorn.segment, p_retention posthorn.retention, p_full boolean) returns timestamptz
language plpgsql as $$
begin
  return p_segment.sealed_at + interval '1 ms' * greatest(case when p_full then 0 else p_retention.keep_ms end,
    (select max(c.keep_ms) from posthorn.channel c where c.keep_ms is not null and posthorn.has_channel_of(p_segment.slot, c.id)));
end $$;

-- pins(segment): the lanes that need it, each as text; empty when none does. The passes of the fleet keep it up to date.
create or replace function posthorn.pins(p_n bigint) returns text[]
language plpgsql as $$
begin
  return array(
    select format(case when count(*) filter (where l.read_from <= p_n) > 0
        then '"%s" has not taken all of its messages: have a worker work on it, or remove it' else '"%s" has messages of it that run' end, s.name)
      from posthorn.lane l join posthorn.subscription s on s.id = l.subscription
      where least(l.read_from, l.held_from) <= p_n group by s.name order by s.name)
    || array(select 'messages of it run, apart from those around them' from posthorn.segment s where s.n = p_n and posthorn.has_spilled(s.slot));
end $$;

-- waits_for(segment): the transaction that a segment waits for, and how to end it; null for none.
create or replace function posthorn.waits_for(p_segment posthorn.segment) returns text
language plpgsql as $$
declare
  v_horizon record;
begin
  if p_segment.closed_xid is null then
    return null;
  end if;
  select * into v_horizon from posthorn.horizon();
  if v_horizon.xid > coalesce(p_segment.finished_xid, p_segment.sealed_xid, p_segment.closed_xid) then
    return null;
  elsif v_horizon.prepared is not null then
    return format('the transaction "%s" is prepared since %s: commit prepared or rollback prepared ends it', v_horizon.prepared, v_horizon.since);
  end if;
  return format('the transaction of backend %s is open%s: select pg_terminate_backend(%1$s) ends it', v_horizon.pid, ' since ' || v_horizon.since);
end $$;

-- segment_now(slot): what is in a slot: { segment, state, opened_at, closed_at, bytes, pinned_by }. \`state\` is empty, active, kept, or pinned: it was kept
-- for its time, and something needs it still.
create or replace function posthorn.segment_now(
  p_slot smallint, out segment bigint, out state text, out opened_at timestamptz, out closed_at timestamptz, out bytes bigint, out kept_until timestamptz,
  out pinned_by text[]
) language plpgsql as $$
declare
  v_ring posthorn.ring;
  v_segment posthorn.segment;
  v_retention posthorn.retention;
begin
  select * into v_ring from posthorn.ring;
  select * into v_segment from posthorn.segment s where s.slot = p_slot;
  select * into v_retention from posthorn.retention;
  segment := v_segment.n;
  bytes := posthorn.bytes_of(p_slot);
  pinned_by := '{}';
  if segment is null then
    state := 'empty';
    return;
  end if;
  opened_at := v_segment.opened_at;
  closed_at := v_segment.closed_at;
  if closed_at is null then
    state := 'active';
    return;
  end if;
  -- Before that transaction has ended nobody looks whether a lane has done with it.
  pinned_by := coalesce(array[posthorn.waits_for(v_segment)], '{}');
  if pinned_by[1] is null then
    pinned_by := posthorn.pins(segment);
  end if;
  kept_until := posthorn.kept_until(v_segment, v_retention, posthorn.is_full(v_ring, v_retention));
  -- Where it is not known, somebody may still write to it.
  state := case when pinned_by <> '{}' and coalesce(kept_until, closed_at) <= clock_timestamp() then 'pinned' else 'kept' end;
end $$;

-- is_full: whether the log is larger than what was said to be kept.
create or replace function posthorn.is_full(p_ring posthorn.ring, p_retention posthorn.retention) returns boolean
language plpgsql as $$
begin
  return (select sum(posthorn.bytes_of(u.slot)) from unnest(p_ring.slots) u(slot)) > p_retention.max_bytes;
end $$;

-- space_in_words(): why the log cannot go on to another segment: what the oldest waits for; null while it can.
create or replace function posthorn.space_in_words() returns text
language plpgsql as $$
declare
  v_ring posthorn.ring;
  v_now record;
begin
  select * into v_ring from posthorn.ring;
  if posthorn.next_slot(v_ring) is not null then
    return null;
  end if;
  select * into v_now from posthorn.segment_now(v_ring.slots[1]);
  return format('The log grows in its newest segment, because all eight are in use. The oldest, closed at %s, %s.', v_now.closed_at,
    case when v_now.pinned_by <> '{}' then 'is pinned: ' || array_to_string(v_now.pinned_by, '; ')
      when v_now.kept_until > clock_timestamp() then 'is kept until ' || v_now.kept_until::text
      else 'goes with the next pass of a worker' end);
end $$;

-- truncate_segment: "truncated" when the oldest segment was. Not while anybody may have an older picture of the log, or touches one of its tables.
create or replace function posthorn.truncate_segment(p_ring posthorn.ring, p_segment posthorn.segment, p_retention posthorn.retention) returns text
language plpgsql as $$
begin
  if (posthorn.horizon()).xid <= p_segment.finished_xid or not pg_try_advisory_xact_lock(posthorn.lock_key('truncate')) then
    return null;
  end if;
  begin
    perform posthorn.lock_slot(p_segment.slot);
  exception when lock_not_available then
    return null;
  end;
  if posthorn.pins(p_segment.n) <> '{}' or not posthorn.is_over(p_ring, p_segment, p_retention) then
    -- A reader that was made meanwhile, or a topic that is kept longer.
    update posthorn.segment set finished_xid = null where n = p_segment.n;
    return null;
  end if;
  perform posthorn.truncate_slot(p_segment.slot);
  delete from posthorn.segment where n = p_segment.n;
  -- Nobody wrote to it after it was sealed.
  update posthorn.retention set forgotten_until = greatest(forgotten_until, p_segment.sealed_at);
  update posthorn.ring set slots = slots[2 :], first_segment = first_segment + 1, forgotten_upto = greatest(forgotten_upto, p_segment.sealed_id);
  return 'truncated';
end $$;

-- rebase_segments(): for a database that was moved to another server, where no transaction id means anything: segments that are closed are found to be so
-- anew. Before any traffic.
create or replace function posthorn.rebase_segments() returns void
language plpgsql as $$
begin
  update posthorn.segment set closed_xid = pg_current_xact_id(), sealed_xid = null, finished_xid = null where closed_xid is not null;
end $$;
` },
  { name: "functions/31_topic.sql", text: `-- Topics that were declared: how long their messages are kept, and in how many lanes they lie.

-- register_topic(name, keep, lanes, service): makes a topic, or holds the caller to its lanes: they say where the messages of a key are, so they are fixed
-- when it is made, which publishing to it does as well. Of two times that are said the newest start wins. Raises PH015, PH020.
create or replace function posthorn.register_topic(p_name text, p_keep_ms float8, p_lanes int, p_service text) returns void
language plpgsql as $$
declare
  v_known posthorn.channel;
begin
  perform posthorn.require_home(), posthorn.check_kept(p_keep_ms);
  if p_lanes not between 1 and 1024 then
    raise exception 'a topic has 1 to 1024 lanes, got %', p_lanes using errcode = 'PH015';
  end if;
  insert into posthorn.channel (kind, name, lanes) values ('event', p_name, coalesce(p_lanes, 1)) on conflict do nothing;
  select * into v_known from posthorn.channel c where c.kind = 'event' and c.name = p_name;
  if v_known.lanes <> p_lanes then
    raise exception 'the topic "%" has % since it was made, and service "%" declares %', p_name,
      case v_known.lanes when 1 then 'one lane' else v_known.lanes || ' lanes' end, p_service, p_lanes using errcode = 'PH020',
      hint = 'The number of lanes is fixed when a topic is made: the messages of a key lie in one of them. Declare the number that it has, or make a topic of another name.';
  end if;
  -- Who says no time leaves what others said.
  if p_keep_ms is not null and v_known.keep_ms is distinct from p_keep_ms then
    update posthorn.channel set keep_ms = p_keep_ms where id = v_known.id;
  end if;
end $$;
` },
  { name: "functions/32_fleet.sql", text: `-- Who may declare what, what is recorded of it, and what the whole fleet lacks.

-- has_unsettled(subscription): whether anything of it has not ended: it waits in the log, waits outside of it, scheduled or parked, or is held by a worker,
-- living or dead. Dead letters and invalid messages have ended. Looks in the order in which a message moves. True for one moment: what is said in the next
-- is not seen, nor what is not committed. For a check, not for a hot path.
create or replace function posthorn.has_unsettled(p_subscription int) returns boolean
language plpgsql volatile as $$
declare
  v_ring posthorn.ring;
  v_lane record;
begin
  select * into v_ring from posthorn.ring;
  for v_lane in select l.lane, l.read_from, s.channel from posthorn.lane l join posthorn.subscription s on s.id = l.subscription where l.subscription = p_subscription loop
    if posthorn.is_ready(posthorn.slots_from(v_ring, v_lane.read_from), v_ring.first_id, p_subscription, v_lane.lane, v_lane.channel) then
      return true;
    end if;
  end loop;
  if exists (select from posthorn.open_claims() c where c.subscription = p_subscription) then
    return true;
  end if;
  return exists (select from posthorn.deferred d where d.subscription = p_subscription);
end $$;

-- library_parts: the numbers of a version of the library, which compare as versions do.
create or replace function posthorn.library_parts(p_version text) returns int[]
language sql immutable as $$ select string_to_array(split_part(p_version, '-', 1), '.')::int[] $$;

-- living(subscription): who works on it now.
create or replace function posthorn.living(p_subscription int) returns table (worker bigint, service text, host text, pid int, contracts int[], policy json)
language sql volatile as $$
  select w.id, w.service, w.host, w.pid, posthorn.every_of(a.subscription, a.contracts), a.policy from posthorn.attendance a join posthorn.worker w on w.id = a.worker
    where a.subscription = p_subscription and a.worker not in (select d.worker from posthorn.dead_workers() d)
$$;

-- fixed_parts: what of a policy may change only while nothing is unsettled, as JSON.
create or replace function posthorn.fixed_parts(p_idempotency text, p_policy json) returns jsonb
language sql immutable as $$
  select jsonb_build_object('idempotency', p_idempotency, 'ordering', case when p_policy #>> '{ordering,whenDead}' is null then 'none' else 'per key' end)
$$;

-- fixed_change(was, new): in what two of fixed_parts differ, in words; null where in nothing.
create or replace function posthorn.fixed_change(p_was jsonb, p_new jsonb) returns text
language sql immutable as $$
  select string_agg(format('%s from "%s" to "%s"', k, p_was ->> k, p_new ->> k), ' and ' order by k) from jsonb_object_keys(p_new) k
    where p_was ->> k <> p_new ->> k
$$;

-- policy_leaves(policy): its parts that are no objects, by their path: "alerts.backlog".
create or replace function posthorn.policy_leaves(p_policy jsonb) returns table (path text, value jsonb)
language sql immutable as $$
  with recursive leaf as (
    select e.key as path, e.value from jsonb_each(p_policy) e
    union all
    select leaf.path || '.' || e.key, e.value from leaf cross join lateral jsonb_each(case jsonb_typeof(leaf.value) when 'object' then leaf.value else '{}' end) e
  ) select leaf.path, leaf.value from leaf where jsonb_typeof(leaf.value) <> 'object'
$$;

-- mixed_policies(subscription): in what the policies differ that living workers carry, and one worker that carries each: the five that are carried for the longest.
create or replace function posthorn.mixed_policies(p_subscription int) returns text
language sql volatile as $$
  with carried as materialized (
    select l.policy::jsonb as policy, count(*) as workers, min(l.worker) as first from posthorn.living(p_subscription) l where l.policy is not null group by 1
  ), leaf as materialized (
    select c.first, l.path, l.value from carried c cross join lateral posthorn.policy_leaves(c.policy) l
  ), differing as materialized (
    select path from leaf group by path having count(distinct value) > 1 or count(*) < (select count(*) from carried)
  )
  select string_agg(format('%s %s %s', m.who, case when m.workers > 1 then 'have' else 'has' end, m.what), '; ' order by m.first) from (
    select c.first, c.workers, format('pid %s on %s', w.pid, w.host) || case when c.workers > 1 then format(' and %s more', c.workers - 1) else '' end as who,
        (select string_agg(format('%s %s', d.path, left(coalesce(l.value #>> '{}', 'none'), 100)), ', ' order by d.path) from differing d
          left join leaf l on l.first = c.first and l.path = d.path) as what
      from carried c join posthorn.worker w on w.id = c.first order by c.first limit 5) m
$$;

-- takes_policy(row, idempotency, policy, service, by): whether a worker that starts may carry this policy, and whether it becomes the one of the subscription,
-- which is locked. \`p_by\` is JSON { host, pid, library, again }: a worker that only registers anew is no newer start, and changes nothing.
-- A change is recorded. Raises PH020 (another service works on it), PH021 (not drained).
create or replace function posthorn.takes_policy(
  p_row posthorn.subscription, p_idempotency posthorn.idempotency, p_policy json, p_service text, p_by json
) returns boolean
language plpgsql as $$
declare
  v_again boolean := coalesce((p_by ->> 'again')::boolean, false);
begin
  perform posthorn.refuse_second_service(p_row, p_service);
  if p_row.policy is not null then
    perform posthorn.refuse_undrained(p_row, posthorn.fixed_parts(p_idempotency::text, p_policy), v_again);
  end if;
  if v_again and p_row.policy is not null then
    return false;
  end if;
  if p_row.policy is null or p_row.policy::jsonb <> p_policy::jsonb or p_row.service is distinct from p_service then
    insert into posthorn.policy_change (subscription, service, host, pid, library, was, became)
      values (p_row.id, p_service, p_by ->> 'host', (p_by ->> 'pid')::int, p_by ->> 'library', p_row.policy, p_policy);
    -- A fleet that carries two policies for long would write one with each restart.
    delete from posthorn.policy_change where subscription = p_row.id and id <= (
      select id from posthorn.policy_change where subscription = p_row.id order by id desc offset 1000 limit 1);
  end if;
  return true;
end $$;

-- refuse_second_service: one service works on a queue or subscription. Raises PH020 while another one lives there.
create or replace function posthorn.refuse_second_service(p_row posthorn.subscription, p_service text) returns void
language plpgsql as $$
declare
  v_other record;
begin
  if p_row.service is null or p_row.service = p_service then
    return;
  end if;
  select * into v_other from posthorn.living(p_row.id) l where l.service <> p_service order by l.worker limit 1;
  if v_other.worker is not null then
    raise exception 'service "%" works on "%" (pid % on %), and service "%" wants to work on it too', v_other.service, p_row.name, v_other.pid,
      v_other.host, p_service using errcode = 'PH020',
      hint = 'One service handles a queue or subscription: its workers share the messages, and each would get a part of them. Rename one of the two; if the service was renamed, stop its old workers first.';
  end if;
end $$;

-- refuse_undrained: idempotency and ordering say what the traces of a message mean: they change only when there are none, and nobody works by the
-- old decision. Raises PH021.
create or replace function posthorn.refuse_undrained(p_row posthorn.subscription, p_new jsonb, p_again boolean) returns void
language plpgsql as $$
declare
  v_was jsonb := posthorn.fixed_parts(p_row.idempotency::text, p_row.policy);
  v_what text;
  v_other record;
begin
  if v_was = p_new then
    return;
  end if;
  v_what := posthorn.fixed_change(v_was, p_new);
  if p_again then
    raise exception '"%" was declared anew while this worker was away, and this worker would change its %', p_row.name, v_what using errcode = 'PH021',
      hint = 'A newer start has decided otherwise. Deploy the newer code here too.';
  end if;
  select * into v_other from posthorn.living(p_row.id) l where l.policy is not null
    and posthorn.fixed_parts(l.policy ->> 'idempotency', l.policy) <> p_new order by l.worker limit 1;
  if v_other.worker is not null then
    raise exception 'the policy of "%" would change its %, and a worker of service "%" (pid % on %) still works by the old one', p_row.name, v_what,
      v_other.service, v_other.pid, v_other.host using errcode = 'PH021',
      hint = format('Run \`posthorn drain %s\`, stop the workers of the old version, and start the new ones.', p_row.name);
  end if;
  if posthorn.has_unsettled(p_row.id) then
    raise exception 'the policy of "%" would change its %, and it holds messages that have not ended', p_row.name, v_what using errcode = 'PH021',
      hint = format('Run \`posthorn drain %s\` with the old version, and start the new one when it is empty.', p_row.name);
  end if;
end $$;

-- hold_policies(service, attends): the second look, when a worker registers: of two that started in the same moment with decisions that exclude each
-- other one is refused. Locks the rows of the registry, which whoever declares a policy or removes a reader does too. Raises PH020, PH021, PH067 (removed).
create or replace function posthorn.hold_policies(p_service text, p_attends json) returns void
language plpgsql as $$
declare
  v_row record;
  v_there int := 0;
begin
  for v_row in select s.name, s.service, s.idempotency::text as idempotency, s.policy, a.policy as carried from posthorn.subscription s
      join json_to_recordset(p_attends) as a(subscription int, policy json) on a.subscription = s.id order by s.id for share of s loop
    if v_row.service <> p_service then
      raise exception 'service "%" declared "%" in this moment, and service "%" wants to work on it too', v_row.service, v_row.name, p_service
        using errcode = 'PH020', hint = 'One service handles a queue or subscription. Rename one of the two.';
    end if;
    v_there := v_there + 1;
    if v_row.carried is not null and posthorn.fixed_parts(v_row.carried ->> 'idempotency', v_row.carried)
        <> posthorn.fixed_parts(v_row.idempotency, v_row.policy) then
      raise exception 'the policy of "%" was changed by another start in this moment: this worker would change its %', v_row.name,
        posthorn.fixed_change(posthorn.fixed_parts(v_row.idempotency, v_row.policy), posthorn.fixed_parts(v_row.carried ->> 'idempotency', v_row.carried))
        using errcode = 'PH021',
        hint = 'Start one version at a time, when the other one has been stopped.';
    end if;
  end loop;
  if v_there < json_array_length(p_attends) then
    raise exception 'a subscription that this worker declared was removed in this moment' using errcode = 'PH067', hint = 'Declare it anew.';
  end if;
end $$;

-- standing(subscription, contract): what becomes of a message that a worker has no handler for, as JSON { name, version, what, reads }:
--   release: some worker may take it, now or later; skip: an event that nobody listens to here; unreadable: older than what any living worker
--   reads, though newer versions of it are handled; \`reads\` is then the oldest that is read.
create or replace function posthorn.standing(p_subscription int, p_contract int) returns json
language plpgsql as $$
declare
  v_contract posthorn.contract;
  v_read int[];
begin
  select * into v_contract from posthorn.contract where id = p_contract;
  select array_agg(c.version order by c.version) into v_read from posthorn.living(p_subscription) l
    join posthorn.contract c on c.id = any (l.contracts) where c.name = v_contract.name;
  return json_build_object('name', v_contract.name, 'version', v_contract.version, 'reads', v_read[1], 'what', case
    when v_read is null and v_contract.kind = 'event' then 'skip'
    when v_contract.version < v_read[1] then 'unreadable'
    else 'release' end);
end $$;

-- count_skipped(subscription, counts): adds to what was skipped; counts are [[contract, messages]].
create or replace function posthorn.count_skipped(p_subscription int, p_counts json) returns void
language sql volatile as $$
  insert into posthorn.skipped (subscription, contract, messages, first_at, last_at)
    select p_subscription, (c ->> 0)::int, (c ->> 1)::bigint, clock_timestamp(), clock_timestamp() from json_array_elements(p_counts) c
      order by (c ->> 0)::int
    on conflict (subscription, contract) do update set messages = posthorn.skipped.messages + excluded.messages, last_at = excluded.last_at
$$;

-- unhandled(limit): messages that are due and that no living worker of their queue or subscription has a handler for, by contract. Looks at up to
-- \`limit\` due messages of each; those of the log are claimed and handed back first, by whoever works there.
create or replace function posthorn.unhandled(p_limit int) returns table (subscription int, contract int, messages bigint, oldest timestamptz)
language sql volatile as $$
  with living as materialized (
    -- Also of a worker that has no handler at all.
    select a.subscription, array_remove(array_agg(c), null) as contracts from posthorn.attendance a left join lateral unnest(posthorn.every_of(a.subscription, a.contracts)) c on true
      where a.worker not in (select d.worker from posthorn.dead_workers() d) group by 1
  )
  select l.subscription, d.contract, count(*), min(d.due_at) from living l
    cross join lateral (select w.contract, w.due_at from posthorn.classes(l.subscription) p(class) join posthorn.deferred w
      on w.subscription = l.subscription and w.priority = p.class and w.token is null and w.due_at <= statement_timestamp() limit p_limit) d
    where d.contract <> all (l.contracts) group by 1, 2
$$;

-- handled_versions: who handles which versions of a contract there, in words.
create or replace function posthorn.handled_versions(p_subscription int, p_name text) returns text
language sql volatile as $$
  select coalesce(string_agg(format('%s %s version %s', v.workers, case v.workers when 1 then 'worker has' else 'workers have' end, v.version), ', '
      order by v.version), 'no worker has another version')
    from (select c.version, count(*) as workers from posthorn.living(p_subscription) l join posthorn.contract c on c.id = any (l.contracts)
      where c.name = p_name group by 1) v
$$;

-- fleet_rules(): what is wrong with the fleet as a whole, as rules of alerts.
create or replace function posthorn.fleet_rules() returns table (subscription int, subscription_name text, name text, value bigint, threshold bigint, detail text)
language sql volatile as $$
  with lacking as materialized (
    select u.subscription, max(extract(epoch from clock_timestamp() - u.oldest) * 1000)::bigint as ms,
        string_agg(format('%s version %s: %s waiting, %s', c.name, c.version, u.messages, posthorn.handled_versions(u.subscription, c.name)), '; '
          order by c.name, c.version) as detail
      from posthorn.unhandled(10000) u join posthorn.contract c on c.id = u.contract group by 1
  ), mixed as materialized (
    select a.subscription, count(*) as policies, max(a.since) as since from (
        select l.subscription, l.policy::jsonb as policy, min(w.started_at) as since from posthorn.attendance l join posthorn.worker w on w.id = l.worker
          where l.policy is not null and l.worker not in (select d.worker from posthorn.dead_workers() d) group by 1, 2) a group by 1 having count(*) > 1
  ), outdated as materialized (
    select a.subscription, count(*) as workers, min(w.library) as oldest from posthorn.worker w join posthorn.attendance a on a.worker = w.id
      cross join posthorn.installation i
      where posthorn.library_parts(w.library) < posthorn.library_parts(i.oldest_library)
        and w.id not in (select d.worker from posthorn.dead_workers() d) group by 1
  )
  select s.id, s.name, r.name, coalesce(r.value, 0), r.threshold, r.detail from posthorn.subscription s
    left join lacking l on l.subscription = s.id left join mixed m on m.subscription = s.id left join outdated o on o.subscription = s.id
    cross join lateral (values
      ('noHandlerMs', l.ms, (s.policy #>> '{alerts,noWorkerMs}')::bigint, l.detail),
      -- A deployment is over by then.
      ('mixedPoliciesMs', (extract(epoch from clock_timestamp() - m.since) * 1000)::bigint, 600000,
        case when m.subscription is not null then
          format('%s policies side by side: %s; see posthorn policy %s --history', m.policies, posthorn.mixed_policies(s.id), s.name) end),
      ('outdatedWorkers', o.workers, 1, format('a worker has library %s, which does not work on this schema', o.oldest))
    ) r(name, value, threshold, detail) where s.policy is not null
$$;

-- orphaned(): what exists and nobody cares for, as rows (what, name, detail). Whoever only says something is not registered anywhere: "nobody" means
-- no living worker.
create or replace function posthorn.orphaned() returns table (what text, name text, detail text)
language sql volatile as $$
  with living as materialized (
    select a.subscription, a.worker, posthorn.every_of(a.subscription, a.contracts) as contracts from posthorn.attendance a where a.worker not in (select d.worker from posthorn.dead_workers() d)
  ), handled as materialized (
    select distinct c.id, c.name from living l cross join lateral unnest(l.contracts) x(contract) join posthorn.contract c on c.id = x.contract
  ), newest as (
    select distinct on (c.name) c.*, h.name as channel_name from posthorn.contract c join posthorn.channel h on h.id = c.channel order by c.name, c.version desc
  )
  select 'queue', s.name, format('no worker works on the queue "%s"', s.name) from posthorn.subscription s join posthorn.channel h on h.id = s.channel
    where h.kind = 'command' and not exists (select from living l where l.subscription = s.id)
  union all
  select 'subscription', s.name, format('no worker works on the subscription "%s" to "%s"', s.name, h.name) from posthorn.subscription s
    join posthorn.channel h on h.id = s.channel where h.kind = 'event' and not exists (select from living l where l.subscription = s.id)
  union all
  select 'intake', i.name, format('no process runs the intake "%1$s"%2$s; if it was renamed: posthorn intakes rename %1$s <new name>; if it is gone for good: posthorn intakes remove %1$s', i.name,
      (select ', which brings in ' || string_agg(c.contract, ', ' order by c.contract collate "C") from posthorn.intake_contract c where c.intake = i.id))
    from posthorn.intake i where not exists (select from posthorn.intake_runners() r where r.intake = i.id)
  union all
  select 'topic', h.name, format('nobody reads the topic "%s"', h.name) from posthorn.channel h
    where h.kind = 'event' and not exists (select from posthorn.subscription s where s.channel = h.id)
  union all
  select 'command', n.name, format('workers of "%s" run, and none has a handler for %s', n.channel_name, n.name) from newest n
    where n.kind = 'command' and n.name not in (select name from handled)
      and exists (select from living l join posthorn.subscription s on s.id = l.subscription where s.channel = n.channel)
  union all
  select 'event', n.name, format('"%s" is read, and no subscription has a handler for %s', n.channel_name, n.name) from newest n
    where n.kind = 'event' and n.name not in (select name from handled)
      and exists (select from living l join posthorn.subscription s on s.id = l.subscription where s.channel = n.channel)
  union all
  select 'version', format('%s version %s', c.name, c.version), format('no running worker knows version %s of %s any more', c.version, c.name)
    from posthorn.contract c where c.name in (select name from handled) and c.id not in (select id from handled)
$$;

-- policy_changes(name, limit): how the policy of a queue or subscription changed, the newest first, as JSON; null where there is none of this name.
create or replace function posthorn.policy_changes(p_name text, p_limit int) returns json
language sql stable as $$
  select (select coalesce(json_agg(json_build_object('changedAt', p.changed_at, 'service', p.service, 'host', p.host, 'pid', p.pid, 'library', p.library,
      'was', p.was, 'became', p.became) order by p.id desc), '[]')
      from (select * from posthorn.policy_change c where c.subscription = s.id order by c.id desc limit p_limit) p)
    from posthorn.subscription s where s.name = p_name
$$;
` },
  { name: "functions/33_waiting.sql", text: `-- Which messages wait: the oldest of a reader with their ids, so that of each can be asked why. For people, and bounded: it reads the next messages of each lane
-- by the log's own index, counts nothing, takes nothing and locks nothing.

-- waiting_messages(name, limit, states): the oldest messages of a queue or subscription that have not ended, in the order in which they were said, as JSON
--   { name, kind, channel, now, more, messages: [{ message, contract, version, key, publishedAt, since, state, at, delivery, attempts, crashes, dueAt, expiresAt,
--   worker, outcome, error, note }] }. Of the states queued, scheduled, retrying, parked and running; null: all, but not what is scheduled for later. \`more\`: there
--   are others, or may be: outside of the log the 10,000 that were said first are looked at, those that are due next, and those that run. Stable, so that all
--   is read in one snapshot: what moves meanwhile is met once. Raises PH060, PH015.
-- The plans are those of the indexes, whatever the statistics say; \`offset 0\` keeps what is probed for each row from becoming a join, which would read all.
create or replace function posthorn.waiting_messages(p_name text, p_limit int, p_states text[] default null) returns json
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_row posthorn.subscription := posthorn.reader(p_name);
  v_states text[] := coalesce(p_states, '{queued,scheduled,retrying,parked,running}');
  v_limit int := least(greatest(coalesce(p_limit, 20), 1), 1000);
begin
  if v_states = '{}' or not v_states <@ '{queued,scheduled,retrying,parked,running}' then
    raise exception 'what waits is of the states queued, scheduled, retrying, parked, running, got %', left(array_to_string(v_states, ', ', 'null'), 200)
      using errcode = 'PH015';
  end if;
  return (
    with found as materialized (
      select * from posthorn.waiting_outside(v_row.id, v_states, p_states is null, v_limit + 1)
      union all
      select * from posthorn.running_in_log(v_row.id, v_row.idempotency = 'transaction', v_limit + 1) where 'running' = any (v_states)
      union all
      select * from posthorn.unclaimed(v_row.id, v_row.channel, v_limit + 1) where 'queued' = any (v_states)
    ), shown as materialized (
      select * from found order by message limit v_limit
    )
    select json_build_object('name', v_row.name, 'kind', h.kind, 'channel', h.name, 'now', clock_timestamp(),
        'more', (select count(*) > v_limit from found) or exists (select from posthorn.deferred d where d.subscription = v_row.id order by d.message offset 10000),
        'messages', (select coalesce(json_agg(json_strip_nulls(json_build_object('message', posthorn.public_id(w.message, w.nonce), 'contract', c.name,
            'version', c.version, 'key', w.key, 'publishedAt', w.published_at, 'since', coalesce(d.since, w.published_at), 'state', w.state, 'at', w.at,
            'delivery', coalesce(d.delivery, 1), 'attempts', coalesce(d.attempts, 0), 'crashes', coalesce(d.crashes, 0),
            'dueAt', nullif(d.due_at, 'infinity'), 'expiresAt', w.expires_at,
            'worker', (select json_build_object('id', k.id::text, 'service', k.service, 'host', k.host, 'pid', k.pid) from posthorn.worker k where k.id = w.worker),
            'outcome', e.entry -> 'outcome', 'note', left(e.entry ->> 'note', 1000), 'error', case when e.entry -> 'error' is not null then json_build_object(
              'name', left(e.entry #>> '{error,name}', 100), 'code', left(e.entry #>> '{error,code}', 100), 'message', left(e.entry #>> '{error,message}', 1000)) end))
          order by w.message), '[]')
          from shown w join posthorn.contract c on c.id = w.contract left join lateral (select * from posthorn.deferred d where d.id = w.deferred offset 0) d on true
            left join lateral (select d.history -> -1) e(entry) on true))
      from posthorn.channel h where h.id = v_row.channel);
end $$;

-- waiting_outside: deliveries that wait or run outside of the log. \`p_now\`: not those that are scheduled for later.
-- Plan: deferred_subscription_message_key from the first on; deferred_due, for each priority; deferred_held, for each worker.
create or replace function posthorn.waiting_outside(p_subscription int, p_states text[], p_now boolean, p_limit int)
returns table (message bigint, nonce bigint, contract int, key text, published_at timestamptz, state text, at timestamptz, worker bigint, expires_at timestamptz,
  deferred bigint)
language plpgsql stable as $$
begin
  return query
    with oldest as materialized (
      select d.id, d.token, d.place, d.due_at, d.reason, d.message from posthorn.deferred d where d.subscription = p_subscription order by d.message limit 10000
    ), looked as (
      select o.id, o.token, o.place, o.due_at, o.reason, o.message from oldest o
      union
      select n.id, n.token, n.place, n.due_at, n.reason, n.message from posthorn.classes(p_subscription) c(class) cross join lateral (
        select * from posthorn.deferred d where d.subscription = p_subscription and d.priority = c.class and d.token is null order by d.due_at limit p_limit) n
      union
      select r.id, r.token, r.place, r.due_at, r.reason, r.message from posthorn.worker w cross join lateral (
        select * from posthorn.deferred d where d.worker = w.id and d.token is not null offset 0) r where r.subscription = p_subscription
    ), chosen as materialized (
      select l.id from looked l cross join lateral (select posthorn.waiting_state(l.token, l.place, l.due_at, l.reason)) s(state)
        where s.state = any (p_states) and not (p_now and s.state = 'scheduled' and l.due_at > statement_timestamp()) order by l.message limit p_limit
    )
    select d.message, d.nonce, d.contract, d.key, d.published_at, posthorn.waiting_state(d.token, d.place, d.due_at, d.reason),
        case when d.token is not null then d.taken_at end, case when d.token is not null then d.worker end, d.expires_at, d.id
      from chosen c cross join lateral (select * from posthorn.deferred d where d.id = c.id offset 0) d;
end $$;

-- running_in_log: messages of claims that workers hold open, and that have no end yet. Bounded by what runs in the fleet.
create or replace function posthorn.running_in_log(p_subscription int, p_ends boolean, p_limit int)
returns table (message bigint, nonce bigint, contract int, key text, published_at timestamptz, state text, at timestamptz, worker bigint, expires_at timestamptz,
  deferred bigint)
language sql stable as $$
  select m.id, m.nonce, m.contract, m.key, m.published_at, 'running', h.at, h.worker, m.expires_at, null::bigint
    from (select h.*, w.id as worker, s.channel from posthorn.subscription s cross join posthorn.ring r cross join lateral unnest(r.slots) u(slot)
        cross join posthorn.worker w cross join lateral posthorn.held_of(u.slot, s.id, w.id, w.oldest_open_claim, p_ends, p_limit) h
      where s.id = p_subscription order by h.message limit p_limit) h
    cross join lateral posthorn.messages_of(h.slot, h.channel, h.lane, h.message - 1, h.message, 1) m
$$;

-- held_of: messages of a worker's open claims that no part has ended and, where handlers end them in their own transaction, no ending.
-- Plan: claim_N_by_id from an id on, and probes of settlement_N_by_part and ending_N_by_delivery. \`offset 0\` keeps the probes from becoming joins, and the
-- search for claims from reading all those of the subscription.
select posthorn.by_slot('held_of(p_slot smallint, p_subscription int, p_worker bigint, p_from bigint, p_ends boolean, p_limit int)',
  'table (message bigint, slot smallint, lane int, at timestamptz) stable', $body$
  return query select m.id, coalesce(m.slot, {slot}::smallint), c.lane, c.at from (
      select * from posthorn.claim_{slot} c where c.id >= p_from and c.worker = p_worker
        and not exists (select from posthorn.settlement_{slot} t where t.claim = c.id and t.closes offset 0) offset 0) c
    cross join lateral (select coalesce(array_agg(e.id), '{}') as ids from (select * from posthorn.settlement_{slot} t where t.claim = c.id offset 0) t
      cross join lateral unnest(coalesce(t.messages, c.messages)) e(id) where t.outcome is distinct from 'begun') ended
    cross join lateral unnest(c.messages, c.message_slots) m(id, slot)
    where c.subscription = p_subscription and m.id <> all (ended.ids)
      and not (p_ends and posthorn.has_ended(coalesce(m.slot, {slot}::smallint), c.subscription, m.id))
    order by m.id limit p_limit;
$body$);

-- has_ended: as has_ended_of, in the caller's snapshot.
select posthorn.by_slot('has_ended(p_slot smallint, p_subscription int, p_message bigint)', 'boolean stable', $body$
  return exists (select from posthorn.ending_{slot} e where e.message = p_message and e.subscription = p_subscription and e.delivery = 1);
$body$);

-- unclaimed: the next messages of each lane that nobody has claimed: those behind its position, and those before it that were committed late; see claim.
create or replace function posthorn.unclaimed(p_subscription int, p_channel int, p_limit int)
returns table (message bigint, nonce bigint, contract int, key text, published_at timestamptz, state text, at timestamptz, worker bigint, expires_at timestamptz,
  deferred bigint)
language plpgsql stable as $$
declare
  v_ring posthorn.ring;
  v_now pg_snapshot := pg_current_snapshot();
  v_lane record;
  v_at posthorn.position;
  v_seen posthorn.tick;
  v_upto bigint;
  v_slots smallint[];
  v_slot smallint;
  v_late xid8[];
begin
  select * into v_ring from posthorn.ring;
  for v_lane in select l.lane, l.read_from from posthorn.lane l where l.subscription = p_subscription loop
    v_slots := posthorn.slots_from(v_ring, v_lane.read_from);
    v_at := posthorn.position_of(p_subscription, v_lane.lane);
    v_seen := posthorn.tick_of(v_at.slot, v_at.ceiling);
    v_upto := case when v_at.late then (posthorn.tick_of(v_at.slot, v_at.floor)).ceiling_id else v_at.last_id end;
    foreach v_slot in array v_slots loop
      v_late := posthorn.late_since_of(v_slot, p_channel, v_lane.lane, v_seen.snapshot, v_upto, v_ring.first_id, v_now);
      return query select m.id, m.nonce, m.contract, m.key, m.published_at, 'queued', null::timestamptz, null::bigint, m.expires_at, null::bigint from (
          select * from posthorn.messages_of(v_slot, p_channel, v_lane.lane, v_upto, 9223372036854775807, p_limit, p_subscription)
          union all
          select * from posthorn.late_messages_of(v_slot, p_channel, v_lane.lane, v_at.late_xids, v_at.last_id, v_upto, p_limit, p_subscription) where v_at.late
          union all
          select * from posthorn.late_messages_of(v_slot, p_channel, v_lane.lane, v_late, v_ring.first_id - 1, v_upto, p_limit, p_subscription) where v_late is not null
        ) m;
    end loop;
  end loop;
end $$;

-- late_since_of: as late_xids_of, and bounded: of the transactions that began to say something after the snapshot was taken only the first can have drawn an id
-- before it, and 10,000 of their lists are looked at.
-- Plan: message_N_by_xid, one probe for each transaction that ran then, and a range that stops at the limit.
select posthorn.by_slot(
  'late_since_of(p_slot smallint, p_channel int, p_lane int, p_seen pg_snapshot, p_upto bigint, p_first_id bigint, p_now pg_snapshot)', 'xid8[] stable', $body$
  return (select array_agg(distinct late.xid) from (
    select probe.xid from pg_snapshot_xip(p_seen) running(xid)
      cross join lateral (select m.xid from posthorn.message_{slot} m
        where ((m.channel::bigint << 32) | m.lane) = ((p_channel::bigint << 32) | p_lane) and m.reach is not null
          and m.xid = running.xid and m.id >= p_first_id and m.id <= p_upto limit 1) probe
      where pg_visible_in_snapshot(running.xid, p_now)
    union all
    select m.xid from (select m.xid, m.id from posthorn.message_{slot} m
        where ((m.channel::bigint << 32) | m.lane) = ((p_channel::bigint << 32) | p_lane) and m.reach is not null
          and m.xid >= pg_snapshot_xmax(p_seen) and m.xid < pg_snapshot_xmax(p_now) order by m.xid, m.id limit 10000) m
      where m.id >= p_first_id and m.id <= p_upto and pg_visible_in_snapshot(m.xid, p_now)) late);
$body$);

-- messages_of: committed messages of a lane after an id and up to another, by id, without those that a subscription's marks cancel.
-- Plan: message_N_by_id, range on id, stops at the limit.
select posthorn.by_slot(
  'messages_of(p_slot smallint, p_channel int, p_lane int, p_after bigint, p_upto bigint, p_limit int, p_marked int default null)',
  'table (id bigint, nonce bigint, contract int, key text, published_at timestamptz, expires_at timestamptz) stable', $body$
  return query select m.id, m.nonce, m.contract, m.key, m.published_at, m.expires_at from posthorn.message_{slot} m
    where m.channel = p_channel and m.lane = p_lane and m.id > p_after and m.id <= p_upto
      and not exists (select from posthorn.cancel_mark k where k.subscription = p_marked and k.message = m.id offset 0)
    order by m.id limit p_limit;
$body$);

-- late_messages_of: the same of the listed transactions. Plan: as late_page_of, which is for the hot path and reads payloads.
select posthorn.by_slot(
  'late_messages_of(p_slot smallint, p_channel int, p_lane int, p_xids xid8[], p_after bigint, p_upto bigint, p_limit int, p_marked int)',
  'table (id bigint, nonce bigint, contract int, key text, published_at timestamptz, expires_at timestamptz) stable', $body$
  return query select late.id, late.nonce, late.contract, late.key, late.published_at, late.expires_at from unnest(p_xids) listed(xid)
    cross join lateral (select m.* from posthorn.message_{slot} f
      cross join lateral (select * from posthorn.message_{slot} m
        where m.channel = p_channel and m.lane = p_lane and m.id > greatest(p_after, f.id - 1) and m.id <= least(p_upto, f.id + f.reach) and m.xid = f.xid
          and not exists (select from posthorn.cancel_mark k where k.subscription = p_marked and k.message = m.id offset 0)
        order by m.id limit p_limit) m
      where ((f.channel::bigint << 32) | f.lane) = ((p_channel::bigint << 32) | p_lane) and f.reach is not null and f.xid = listed.xid and f.id <= p_upto
        and f.id >= coalesce((select b.id from posthorn.message_{slot} b
          where ((b.channel::bigint << 32) | b.lane) = ((p_channel::bigint << 32) | p_lane) and b.reach is not null and b.xid = listed.xid and b.id <= p_after
          order by b.id desc limit 1), 0)
      order by f.id, m.id limit p_limit) late
    order by late.id limit p_limit;
$body$);
` },
  { name: "functions/40_operations.sql", text: `-- What operators order, and how far it is. Each thing is one row of posthorn.operation. Pauses and what concerns one message are done at once; the rest
-- is done in pieces, each a transaction of its own: whoever drives them may die at any time, and anybody goes on.

-- begin_operation(verb, target, arguments, by, reason, found, place): writes the row down, and returns it.
create or replace function posthorn.begin_operation(
  p_verb text, p_target text, p_arguments json, p_by text, p_reason text, p_found bigint, p_place json
) returns json
language plpgsql as $$
declare
  v_row posthorn.operation;
begin
  perform posthorn.require_home();
  if p_by is null or length(p_by) not between 1 and 200 then
    raise exception 'who orders this is not said, or is longer than 200 letters' using errcode = 'PH015', hint = 'Say it as "by".';
  elsif length(p_reason) > 500 then
    raise exception 'the reason is longer than 500 letters' using errcode = 'PH015', hint = 'Make it shorter.';
  end if;
  insert into posthorn.operation (verb, target, arguments, ordered_by, reason, found, place)
    values (p_verb, p_target, p_arguments, p_by, p_reason, p_found, p_place) returning * into v_row;
  return posthorn.operation_of(v_row);
end $$;

-- note_operation(verb, arguments, by, reason, done): what was done at once.
create or replace function posthorn.note_operation(p_verb text, p_arguments json, p_by text, p_reason text, p_done bigint) returns void
language plpgsql as $$
begin
  if p_done > 0 then
    insert into posthorn.operation (verb, target, arguments, ordered_by, reason, ended_at, state, found, done)
      values (p_verb, coalesce(p_arguments ->> 'subscription', p_arguments ->> 'name'), p_arguments, left(p_by, 200), left(p_reason, 500), clock_timestamp(),
        'done', p_done, p_done);
  end if;
end $$;

-- operation_of(row): an operation as JSON. One that runs and that nobody has touched for 30 s is interrupted: whoever drove it is gone.
create or replace function posthorn.operation_of(p_row posthorn.operation) returns json
language sql volatile as $$
  select json_strip_nulls(json_build_object('operation', (p_row).id::text, 'verb', (p_row).verb, 'target', (p_row).target, 'arguments', (p_row).arguments,
    'by', (p_row).ordered_by, 'reason', (p_row).reason, 'begunAt', (p_row).begun_at, 'touchedAt', (p_row).touched_at, 'endedAt', (p_row).ended_at,
    'state', posthorn.operation_state((p_row).state, (p_row).touched_at), 'found', (p_row).found, 'done', (p_row).done, 'passed', (p_row).place -> 'passed'))
$$;

create or replace function posthorn.operation_state(p_state text, p_touched_at timestamptz) returns text
language sql volatile as $$
  select case when p_state = 'running' and p_touched_at < clock_timestamp() - interval '30 s' then 'interrupted' else p_state end
$$;

-- proceed(operation, limit): does the next piece of an operation: at most \`limit\` messages, in one transaction. Returns the operation as JSON, with
-- { busy: true } where somebody else is at it just now and it pays to ask again a little later. One that has ended comes back as it is.
-- Raises PH062 (no such operation).
create or replace function posthorn.proceed(operation bigint, "limit" int default 500) returns json
language plpgsql as $$
declare
  v_row posthorn.operation;
  v_did record;
  v_limit constant int := least(greatest("limit", 1), 5000);
begin
  perform posthorn.own_transaction(true), set_config('lock_timeout', '5s', true);
  select o.* into v_row from posthorn.operation o where o.id = $1 for update;
  if v_row.id is null then
    raise exception 'no operation has the number %', $1 using errcode = 'PH062', hint = 'See select * from posthorn.audit.';
  elsif v_row.state <> 'running' then
    return posthorn.operation_of(v_row);
  end if;
  begin
    v_did := case v_row.verb
      when 'purge' then posthorn.purge_piece(v_row, v_limit)
      when 'redrive' then posthorn.letters_piece(v_row, v_limit)
      when 'discard' then posthorn.letters_piece(v_row, v_limit)
      when 'replay' then posthorn.replay_piece(v_row, v_limit)
      when 'erase' then posthorn.erase_piece(v_row, v_limit)
      when 'remove' then case when v_row.place ->> 'intake' is null then posthorn.remove_piece(v_row, v_limit) else posthorn.remove_intake_piece(v_row, v_limit) end end;
  exception when lock_not_available or deadlock_detected then
    -- Live traffic comes first: nothing of this piece was done.
    select 0::bigint as done, true as more, true as busy, v_row.place as place into v_did;
  end;
  update posthorn.operation o set touched_at = clock_timestamp(), done = o.done + v_did.done, place = v_did.place,
      state = case when v_did.more then 'running' else 'done' end, ended_at = case when not v_did.more then clock_timestamp() end
    where o.id = v_row.id returning o.* into v_row;
  if v_row.state = 'done' then
    v_row := posthorn.hide_key(v_row);
  end if;
  return (posthorn.operation_of(v_row)::jsonb || jsonb_build_object('busy', v_did.busy))::json;
end $$;

-- digest_of(key): what the record of an erased key is kept under.
create or replace function posthorn.digest_of(p_key text) returns text
language sql immutable as $$ select 'sha256:' || encode(sha256(convert_to(p_key, 'UTF8')), 'hex') $$;

-- hide_key(row): of an erasure that goes on no more the record says which key it was only to whoever knows the key.
create or replace function posthorn.hide_key(p_row posthorn.operation) returns posthorn.operation
language plpgsql as $$
begin
  if p_row.verb = 'erase' then
    update posthorn.operation o set arguments = (o.arguments::jsonb || jsonb_build_object('key', posthorn.digest_of(o.arguments ->> 'key')))::json
      where o.id = p_row.id returning o.* into p_row;
  end if;
  return p_row;
end $$;

-- stop_operation(operation): ends it where it is; what is done stays done. False where it does not run.
create or replace function posthorn.stop_operation(operation bigint) returns boolean
language plpgsql as $$
declare
  v_row posthorn.operation;
begin
  perform posthorn.require_home();
  update posthorn.operation o set state = 'stopped', ended_at = clock_timestamp() where o.id = $1 and o.state = 'running' returning o.* into v_row;
  if v_row.id is null then
    return false;
  end if;
  perform posthorn.hide_key(v_row);
  return true;
end $$;

-- call run(operation, per_second): does all that is left of an operation, at most so many messages a second; null for as fast as it goes. For psql: it
-- commits after each piece, so it cannot be called inside a transaction.
create or replace procedure posthorn.run(operation bigint, per_second int default null)
language plpgsql as $$
declare
  v_limit constant int := case when per_second is null then 500 else greatest(1, per_second / 5) end;
  v_before bigint;
  v_row json;
begin
  loop
    v_before := (select o.done from posthorn.operation o where o.id = $1);
    v_row := posthorn.proceed($1, v_limit);
    commit;
    exit when v_row ->> 'state' in ('done', 'stopped');
    if (v_row ->> 'busy')::boolean then
      perform pg_sleep(0.05);
    elsif per_second is not null then
      perform pg_sleep(((v_row ->> 'done')::bigint - v_before)::float8 / per_second);
    end if;
  end loop;
end $$;

-- operations(limit, before): the record, the newest first, as JSON.
create or replace function posthorn.operations(p_limit int, p_running boolean) returns json
language sql volatile as $$
  select coalesce(json_agg(posthorn.operation_of(o) order by (o).id desc), '[]')
    from (select o from posthorn.operation o where not p_running or o.state = 'running' order by o.id desc limit p_limit) x(o)
$$;

-- confirmed(given, wanted, what): raises PH061 unless the caller has repeated what will be changed.
create or replace function posthorn.confirmed(p_given text, p_wanted text, p_what text) returns void
language plpgsql as $$
begin
  if p_given is distinct from p_wanted then
    raise exception '% was not confirmed', p_what using errcode = 'PH061', hint = format('Pass confirm => %L. Nothing was changed.', p_wanted);
  end if;
end $$;

-- reader(name): the subscription of this name, or that of the queue. Raises PH060.
create or replace function posthorn.reader(p_name text) returns posthorn.subscription
language plpgsql as $$
declare
  v_row posthorn.subscription;
begin
  select * into v_row from posthorn.subscription s where s.name = p_name;
  if v_row.id is null and exists (select from posthorn.intake i where i.name = p_name) then
    raise exception '"%" is an intake, and no queue or subscription', p_name using errcode = 'PH060',
      hint = 'It is paused by posthorn.pause and removed by posthorn.remove_intake; how it stands says the view posthorn.intakes.';
  elsif v_row.id is null then
    raise exception 'no queue or subscription is called "%"', left(p_name, 80) using errcode = 'PH060',
      hint = format('Known are: %s.', coalesce((select string_agg(s.name, ', ' order by s.name) from (select name from posthorn.subscription order by name limit 50) s), 'none'));
  end if;
  return v_row;
end $$;

-- lanes_of(channel): all lanes that messages of a channel lie in: those that are claimed, and that of what waits for its time.
create or replace function posthorn.lanes_of(p_channel int) returns setof int
language sql stable as $$
  select generate_series(0, c.lanes - 1) from posthorn.channel c where c.id = p_channel
  union all select -1 from posthorn.channel c where c.id = p_channel and c.kind = 'command'
  union select l.lane from posthorn.subscription s join posthorn.lane l on l.subscription = s.id where s.channel = p_channel and l.lane > 1024
$$;

-- log_heads_of: messages of a lane between two ids without what they carry. Plan: message_N_by_id.
select posthorn.by_slot('log_heads_of(p_slot smallint, p_channel int, p_lane int, p_after bigint, p_upto bigint, p_limit int)',
  'table (id bigint, lane int, nonce bigint, contract int, key text, published_at timestamptz, xid xid8, slot smallint)', $body$
  return query select m.id, m.lane, m.nonce, m.contract, m.key, m.published_at, m.xid, {slot}::smallint from posthorn.message_{slot} m
    where m.channel = p_channel and m.lane = p_lane and m.id > p_after and m.id <= p_upto order by m.id limit p_limit;
$body$);

-- log_heads(channel, after, upto, limit): the same of all lanes and slots, by id.
create or replace function posthorn.log_heads(p_channel int, p_after bigint, p_upto bigint, p_limit int)
returns table (id bigint, lane int, nonce bigint, contract int, key text, published_at timestamptz, xid xid8, slot smallint)
language plpgsql as $$
begin
  return query select h.* from (select unnest(r.slots) as slot from posthorn.ring r) s cross join posthorn.lanes_of(p_channel) l(lane)
    cross join lateral posthorn.log_heads_of(s.slot, p_channel, l.lane, p_after, p_upto, p_limit) h order by h.id limit p_limit;
end $$;

-- oldest_kept(channel): when the oldest message of a channel was said that the log still has; null when it has none.
-- Plan: message_N_by_id, one probe for each lane and slot. Ids follow the clock but for the time between drawing one and writing its row.
create or replace function posthorn.oldest_kept(p_channel int) returns timestamptz
language plpgsql as $$
begin
  return (select min(h.published_at) from (select unnest(r.slots) as slot from posthorn.ring r) s cross join posthorn.lanes_of(p_channel) l(lane)
    cross join lateral posthorn.log_heads_of(s.slot, p_channel, l.lane, 0, 9223372036854775807, 100) h);
end $$;

-- letters(…) of a list that are redriven or discarded together, in the order of the list: begin_letters(verb, filter, by, reason) counts them.
-- The filter is that of take_letters, without a message.
create or replace function posthorn.begin_letters(p_verb text, p_filter json, p_by text, p_reason text) returns json
language plpgsql as $$
declare
  v_count json;
begin
  if p_verb not in ('redrive', 'discard') or coalesce(p_filter ->> 'list', '') not in ('dead-letters', 'invalid') then
    raise exception 'a list is redriven or discarded: dead-letters or invalid' using errcode = 'PH015';
  elsif p_verb = 'discard' and coalesce(trim(p_reason), '') = '' then
    raise exception 'a discard needs a reason' using errcode = 'PH015', hint = 'It is kept with the messages.';
  elsif p_filter ->> 'subscription' is not null then
    perform posthorn.reader(p_filter ->> 'subscription');
  end if;
  v_count := posthorn.letters_count(p_filter);
  return posthorn.begin_operation(p_verb, p_filter ->> 'subscription', p_filter, p_by, p_reason, (v_count ->> 'count')::bigint,
    json_build_object('after', '0', 'upto', coalesce(v_count ->> 'upto', '0')));
end $$;

create or replace function posthorn.letters_piece(p_row posthorn.operation, p_limit int, out done bigint, out more boolean, out busy boolean, out place json)
language plpgsql as $$
declare
  v_letter posthorn.deferred;
  v_last bigint := (p_row.place ->> 'after')::bigint;
begin
  done := 0;
  busy := false;
  for v_letter in select * from posthorn.take_letters((p_row.arguments::jsonb || p_row.place::jsonb)::json, p_limit) loop
    v_last := greatest(v_last, v_letter.id);
    if p_row.verb = 'redrive' then
      perform posthorn.redrive_row(v_letter, p_row.ordered_by);
    else
      perform posthorn.discard_row(v_letter, p_row.arguments ->> 'list', p_row.ordered_by, p_row.reason);
    end if;
    done := done + 1;
  end loop;
  more := done = p_limit;
  place := json_build_object('after', v_last::text, 'upto', p_row.place ->> 'upto');
end $$;
` },
  { name: "functions/41_pause.sql", text: `-- Pausing, and the question whether anything is left.

-- pause(name, by, reason): nobody in the fleet takes anything of this queue or subscription: nothing of the log, nothing that waits, no trial of its circuit.
-- A claim that begins after COMMIT takes nothing. What runs or is in a worker's hands goes on to its end. What is said is still taken in, and schedules go on
-- sending. Returns { name, pausedAt, pausedBy, reason, changed }; one that is paused already stays as it is. Raises PH060.
create or replace function posthorn.pause(name text, by text default null, reason text default null) returns json
language plpgsql as $$
declare
  v_row posthorn.subscription;
  v_by text := coalesce($2, current_user::text);
begin
  perform posthorn.require_home();
  if posthorn.is_intake($1) then
    return posthorn.pause_intake($1, $2, $3);
  end if;
  v_row := posthorn.reader($1);
  update posthorn.subscription s set paused_at = clock_timestamp(), paused_by = left(v_by, 200), paused_reason = left($3, 500)
    where s.id = v_row.id and s.paused_at is null returning s.* into v_row;
  if found then
    perform posthorn.note_operation('pause', json_build_object('name', v_row.name), v_by, $3, 1);
    return (posthorn.pause_of(v_row)::jsonb || jsonb_build_object('name', v_row.name, 'changed', true))::json;
  end if;
  v_row := posthorn.reader($1);
  return (coalesce(posthorn.pause_of(v_row)::jsonb, '{}') || jsonb_build_object('name', v_row.name, 'changed', false))::json;
end $$;

-- resume(name, by): ends a pause, and has a circuit that is open tried at once; workers look again within a second. Returns { name, changed }, with the pause that it ended. Raises PH060.
create or replace function posthorn.resume(name text, by text default null) returns json
language plpgsql as $$
declare
  v_row posthorn.subscription;
  v_was json;
begin
  perform posthorn.require_home();
  if posthorn.is_intake($1) then
    return posthorn.resume_intake($1, $2);
  end if;
  v_row := posthorn.reader($1);
  select posthorn.pause_of(s) into v_was from posthorn.subscription s where s.id = v_row.id for update;
  perform posthorn.circuit_due(v_row.id);
  update posthorn.subscription s set paused_at = null, paused_by = null, paused_reason = null where s.id = v_row.id and s.paused_at is not null;
  if found then
    perform posthorn.note_operation('resume', json_build_object('name', v_row.name), coalesce($2, current_user::text), null, 1);
  end if;
  return (coalesce(v_was::jsonb, '{}') || jsonb_build_object('name', v_row.name, 'changed', v_was is not null))::json;
end $$;

-- pause_of(subscription): { at, by, reason } of a reader that is paused; null for one that is not.
create or replace function posthorn.pause_of(p_row posthorn.subscription) returns json
language sql immutable as $$
  select case when (p_row).paused_at is not null then json_strip_nulls(json_build_object('at', (p_row).paused_at, 'by', (p_row).paused_by, 'reason', (p_row).paused_reason)) end
$$;

-- unsettled(name): what has not ended of a queue or subscription, as JSON { waiting, scheduled, retrying, parked, running, lists, paused, workers }: each is
-- counted up to a million. \`waiting\` is in the log, or was handed back. \`stuck\`: those of \`parked\` whose key waits for an operator. Raises PH060.
-- Looks in the order in which a message moves, each time with what is committed by then: what is not counted has ended.
create or replace function posthorn.unsettled(name text) returns json
language plpgsql as $$
declare
  v_row posthorn.subscription := posthorn.reader($1);
  v_log record;
  v_running bigint;
  v_states jsonb;
begin
  select * into v_log from posthorn.waiting_in_log(v_row.id, 1000000);
  select coalesce(sum(cardinality(c.messages)), 0) into v_running from posthorn.open_claims() c where c.subscription = v_row.id;
  select coalesce(jsonb_object_agg(w.state, w.messages), '{}') into v_states from (
    select d.state, count(*) as messages from (select posthorn.waiting_state(d.token, d.place, d.due_at, d.reason) as state from posthorn.deferred d
      where d.subscription = v_row.id limit 1000000) d group by 1) w;
  return json_build_object('name', v_row.name,
    'waiting', greatest(0, v_log.messages - (select count(*) from posthorn.cancel_mark k where k.subscription = v_row.id)) + coalesce((v_states ->> 'queued')::bigint, 0),
    'scheduled', coalesce((v_states ->> 'scheduled')::bigint, 0), 'retrying', coalesce((v_states ->> 'retrying')::bigint, 0),
    'parked', coalesce((v_states ->> 'parked')::bigint, 0), 'running', v_running + coalesce((v_states ->> 'running')::bigint, 0),
    'stuck', (select count(*) from posthorn.deferred d where d.subscription = v_row.id and d.place is not null and d.due_at = 'infinity' and exists (
      select from posthorn.dead_letter l where l.subscription = d.subscription and l.key = d.key and l.place < d.place
      union all select from posthorn.invalid l where l.subscription = d.subscription and l.key = d.key and l.place < d.place)),
    'paused', posthorn.pause_of(v_row),
    'workers', (select count(*) from posthorn.attendance a where a.subscription = v_row.id and a.worker not in (select d.worker from posthorn.dead_workers() d)));
end $$;

-- is_drained(name): whether everything of a queue or subscription has ended; see has_unsettled. Raises PH060.
create or replace function posthorn.is_drained(name text) returns boolean
language plpgsql as $$
begin
  return not posthorn.has_unsettled((posthorn.reader($1)).id);
end $$;
` },
  { name: "functions/42_purge.sql", text: `-- Purging: ends what waits and has not begun. From the log it is taken as a worker takes it, by a claim that is closed in its own transaction, so no message
-- is both run and purged, and the lane goes on behind it. What waits in \`deferred\` is removed under its row's lock.

-- purge(name, by, reason, confirm, states): begins it; \`confirm\` repeats the name. \`states\` names what is to end, of queued, scheduled, retrying, parked.
-- Takes what is there now: what is said later is left; of a transaction that is just committing either can happen. A message that runs is left alone; one
-- that fails meanwhile and waits to be tried again is taken if the purge comes to it. Returns the operation; see proceed and run. Raises PH060, PH061, PH015.
create or replace function posthorn.purge(
  name text, by text default null, reason text default null, confirm text default null, states text[] default '{queued,scheduled,retrying,parked}'
) returns json
language plpgsql as $$
declare
  v_row posthorn.subscription := posthorn.reader($1);
  v_upto bigint := coalesce(pg_sequence_last_value('posthorn.message_id'), 0);
  v_seen pg_snapshot;
begin
  if states = '{}' or not states <@ '{queued,scheduled,retrying,parked}' then
    raise exception 'what is purged is of the states queued, scheduled, retrying, parked, got %', array_to_string(states, ', ') using errcode = 'PH015';
  end if;
  perform posthorn.confirmed(confirm, v_row.name, format('the purge of "%s"', v_row.name));
  select pg_current_snapshot() into v_seen;
  return posthorn.begin_operation('purge', v_row.name, json_build_object('states', states), coalesce($2, current_user::text), coalesce($3, 'purged'),
    posthorn.purgeable(v_row.name, states), json_build_object('upto', v_upto::text, 'seen', v_seen::text, 'subscription', v_row.id,
      'lanes', case when 'queued' = any (states) then array(select l.lane from posthorn.lane l where l.subscription = v_row.id order by l.lane) else '{}' end));
end $$;

-- purgeable(name, states): how many messages a purge would end now, counted up to some millions.
create or replace function posthorn.purgeable(p_name text, p_states text[]) returns bigint
language plpgsql as $$
declare
  v_waits json := posthorn.unsettled(p_name);
begin
  return (select coalesce(sum((v_waits ->> case s.state when 'queued' then 'waiting' else s.state end)::bigint), 0) from unnest(p_states) s(state));
end $$;

create or replace function posthorn.purge_piece(p_row posthorn.operation, p_limit int, out done bigint, out more boolean, out busy boolean, out place json)
language plpgsql as $$
declare
  v_reader posthorn.subscription;
  v_lanes int[] := array(select l::int from json_array_elements_text(p_row.place -> 'lanes') l);
  v_log record;
begin
  select * into v_reader from posthorn.subscription s where s.id = (p_row.place ->> 'subscription')::int for key share;
  place := p_row.place;
  busy := false;
  done := 0;
  if v_reader.id is null then
    more := false;
    return;
  elsif v_lanes <> '{}' then
    v_log := posthorn.purge_lane(p_row, v_reader, v_lanes[1], p_limit);
    done := v_log.done;
    busy := v_log.busy;
    more := true;
    if not v_log.more then
      place := (p_row.place::jsonb || jsonb_build_object('lanes', v_lanes[2 :]))::json;
    end if;
    return;
  end if;
  done := posthorn.purge_waiting(p_row, v_reader, p_limit);
  more := done = p_limit;
  if not more then
    -- Producers that were refused are let in.
    perform posthorn.count_backlog(b) from posthorn.backlog_limit b where b.subscription = v_reader.id;
  end if;
end $$;

-- purge_lane: claims messages of a lane and ends them. Those that were not there when the purge began are handed back.
create or replace function posthorn.purge_lane(
  p_row posthorn.operation, p_reader posthorn.subscription, p_lane int, p_limit int, out done bigint, out more boolean, out busy boolean
) language plpgsql as $$
declare
  v_left record;
  v_worker bigint;
  v_claimed text;
begin
  done := 0;
  busy := false;
  -- Claims only try this lock, so nobody waits behind us but other operators.
  perform pg_advisory_xact_lock(posthorn.lock_key('lane', p_reader.id, p_lane));
  -- A later statement: it sees where the holder before us left the lane.
  select * into v_left from posthorn.left_in_lane(p_row, p_reader, p_lane, p_limit);
  more := v_left.messages > 0 or v_left.late;
  if not more then
    return;
  end if;
  -- A worker that nobody but this transaction ever sees.
  insert into posthorn.worker (service, host, pid, timeout_ms, oldest_open_claim) values ('purge', '', 0, 3600000, 0) returning id into v_worker;
  v_claimed := left(posthorn.claim(p_reader.id, p_lane, v_worker, case when v_left.late then p_limit else v_left.messages::int end), 300);
  delete from posthorn.worker w where w.id = v_worker;
  if posthorn.is_claim(v_claimed) then
    done := posthorn.discard_claim(p_row, p_reader, posthorn.claim_of(substring(v_claimed from '"slot":(\\d+)')::smallint, substring(v_claimed from '"claim":"(\\d+)"')::bigint),
      substring(v_claimed from '"slot":(\\d+)')::smallint);
  else
    -- Where order is kept the next message may wait for one that runs.
    busy := v_claimed in ('{"blocked":true}', '{"missed":true}');
  end if;
end $$;

-- left_in_lane: how many messages of a lane nobody has claimed of those that the purge has seen when it began, up to a limit; \`late\`: some of them lie below
-- the lane's position, because they were committed late.
create or replace function posthorn.left_in_lane(
  p_row posthorn.operation, p_reader posthorn.subscription, p_lane int, p_limit int, out messages bigint, out late boolean
) language plpgsql as $$
declare
  v_at posthorn.position := posthorn.position_of(p_reader.id, p_lane);
  v_ceiling posthorn.tick := posthorn.tick_of(v_at.slot, v_at.ceiling);
  v_ring posthorn.ring;
  v_seen pg_snapshot := (p_row.place ->> 'seen')::pg_snapshot;
  v_after bigint;
begin
  select * into v_ring from posthorn.ring;
  v_after := case when v_at.late then (posthorn.tick_of(v_at.slot, v_at.floor)).ceiling_id else v_at.last_id end;
  select least(coalesce(sum(posthorn.count_seen_of(s.slot, p_reader.channel, p_lane, v_after, (p_row.place ->> 'upto')::bigint, v_seen, p_limit)), 0), p_limit)
    into messages from unnest(v_ring.slots) s(slot);
  late := v_at.late or posthorn.late_xids(v_ring.slots, p_reader.channel, p_lane, v_ceiling.snapshot, v_ceiling.ceiling_id, v_ring.first_id, v_seen) is not null;
end $$;

-- Plan: message_N_by_id from an id on.
select posthorn.by_slot(
  'count_seen_of(p_slot smallint, p_channel int, p_lane int, p_after bigint, p_upto bigint, p_snapshot pg_snapshot, p_limit int)', 'bigint', $body$
  return (select count(*) from (select from posthorn.message_{slot} m where m.channel = p_channel and m.lane = p_lane and m.id > p_after and m.id <= p_upto
    and pg_visible_in_snapshot(m.xid, p_snapshot) limit p_limit) m);
$body$);

-- discard_claim: ends the messages of a claim that was just made, and closes it. Returns how many it discarded.
create or replace function posthorn.discard_claim(p_row posthorn.operation, p_reader posthorn.subscription, p_claim posthorn.claim_1, p_slot smallint) returns bigint
language plpgsql as $$
declare
  v_ends boolean := p_reader.idempotency = 'transaction';
  v_part int;
  v_aside bigint[];
  v_gone bigint[];
  v_back bigint[];
  v_message record;
begin
  select coalesce(max(t.part), 0) + 1, coalesce(array_agg(m.id) filter (where m.id is not null), '{}') into v_part, v_aside
    from posthorn.parts_of(p_slot, p_claim.id) t left join lateral unnest(t.messages) m(id) on true;
  select coalesce(array_agg(g.id), '{}') into v_gone from (
    select distinct coalesce(m.slot, p_slot) as slot from unnest(p_claim.messages, p_claim.message_slots) m(id, slot)) s
    cross join lateral posthorn.discard_seen_of(s.slot, p_reader.id, p_reader.channel, p_claim.lane,
      array(select m.id from unnest(p_claim.messages, p_claim.message_slots) m(id, slot) where coalesce(m.slot, p_slot) = s.slot and m.id <> all (v_aside)),
      (p_row.place ->> 'seen')::pg_snapshot, p_row.ordered_by, p_row.reason) g(id);
  v_back := array(select m.id from unnest(p_claim.messages) m(id) where m.id <> all (v_gone) and m.id <> all (v_aside));
  if not v_ends and v_gone <> '{}' then
    perform posthorn.settle_part_of(p_slot, p_claim.id, p_claim.token, v_part, 'discarded', v_back = '{}', v_gone);
    v_part := v_part + 1;
  end if;
  if v_ends or v_back <> '{}' then
    perform posthorn.settle_part_of(p_slot, p_claim.id, p_claim.token, v_part, case when not v_ends then 'released'::posthorn.outcome end, true,
      case when v_ends then '{}' else v_back end);
  end if;
  for v_message in select m.id, coalesce(m.slot, p_slot) as slot, m.id = any (v_back) as back from unnest(p_claim.messages, p_claim.message_slots) m(id, slot)
      where m.id <> all (v_aside) loop
    if v_ends then
      perform posthorn.end_of(v_message.slot, p_reader.id, v_message.id, 1, case when v_message.back then 'released' else 'discarded' end::posthorn.outcome,
        p_claim.id, p_claim.worker);
    end if;
    if v_message.back then
      perform posthorn.follow(posthorn.delivery_of(p_reader.id, p_claim.lane, v_message.id, v_message.slot), 'released',
        '{"defer":{"delayMs":0,"attempts":0,"crashes":0}}');
      -- Tells it from what waited when the purge began.
      update posthorn.deferred d set since = clock_timestamp() where d.subscription = p_reader.id and d.message = v_message.id;
    end if;
  end loop;
  return cardinality(v_gone);
end $$;

-- discard_seen_of: writes down that messages were discarded, of those that a snapshot sees. Returns their ids.
select posthorn.by_slot(
  'discard_seen_of(p_slot smallint, p_subscription int, p_channel int, p_lane int, p_ids bigint[], p_seen pg_snapshot, p_by text, p_reason text)', 'setof bigint', $body$
  return query insert into posthorn.discarded (subscription, message, nonce, contract, discarded_at, keep_until, discarded_by, reason, list, delivery, attempts,
      published_at, history, key)
    select p_subscription, m.id, m.nonce, m.contract, clock_timestamp(), clock_timestamp()
        + coalesce((s.policy #>> '{deadLetter,keepMs}')::float8, 2592000000) * interval '1 ms', p_by, p_reason, 'waiting', 1, 0, m.published_at, '[]', m.key
      from posthorn.subscription s cross join unnest(p_ids) i(id)
        cross join lateral (select * from posthorn.message_{slot} m where m.channel = p_channel and m.lane = p_lane and m.id = i.id
          and pg_visible_in_snapshot(m.xid, p_seen) offset 0) m
      where s.id = p_subscription
    on conflict on constraint discarded_pkey do update set reason = excluded.reason returning message;
$body$);

-- purge_waiting: ends deliveries that wait outside of the log. What waits behind others goes first, so that nothing is let go that goes next.
create or replace function posthorn.purge_waiting(p_row posthorn.operation, p_reader posthorn.subscription, p_limit int) returns bigint
language plpgsql as $$
declare
  v_states text[] := array(select s from json_array_elements_text(p_row.arguments -> 'states') s);
  v_waiting posthorn.deferred;
  v_keys text[] := '{}';
  v_done bigint := 0;
begin
  for v_waiting in with picked as (
      select d.id from posthorn.deferred d where d.subscription = p_reader.id and d.token is null and d.message <= (p_row.place ->> 'upto')::bigint
        and (d.since is null or d.since <= p_row.begun_at)
        and posthorn.waiting_state(d.token, d.place, d.due_at, d.reason) = any (v_states)
        order by d.priority desc, d.due_at desc limit p_limit for update skip locked)
    delete from posthorn.deferred d using picked p where d.id = p.id returning d.* loop
    perform posthorn.write_discarded(v_waiting, 'waiting', p_row.ordered_by, p_row.reason);
    delete from posthorn.cancel_request c where c.subscription = v_waiting.subscription and c.message = v_waiting.message and c.nonce = v_waiting.nonce;
    if v_waiting.once_more then
      perform posthorn.let_go(v_waiting.id);
    end if;
    if v_waiting.place is not null then
      v_keys := v_keys || v_waiting.key;
    end if;
    v_done := v_done + 1;
  end loop;
  -- In one order for everybody, as promote does it.
  perform posthorn.promote_key(p_reader.id, k.key) from (select distinct u.key from unnest(v_keys) u(key) order by u.key) k;
  return v_done;
end $$;
` },
  { name: "functions/43_replay.sql", text: `-- Replaying: a message that was handled gets one more delivery, under a number that none of its deliveries had, so its effects are fenced as always.

-- replay(name, from, to, by, reason, confirm, contract): begins it; \`confirm\` repeats the name. Each message that was said from \`from\` on, before \`to\` (without it:
-- before now) and was handled is handled once more, in the order in which it was said; of one key in that order where order is kept. Not touched: what waits,
-- runs, is dead or invalid, was cancelled, discarded, erased or has expired; and contracts that no live worker has a handler for.
-- Returns the operation; see proceed and run. Raises PH060, PH061, PH015, PH063 (older than what is kept), PH064 (nobody works on it). Where nothing was
-- said in that time there is nothing to do, and nobody has to be there for it.
create or replace function posthorn.replay(
  name text, "from" timestamptz, "to" timestamptz default null, by text default null, reason text default null, confirm text default null, contract text default null
) returns json
language plpgsql as $$
declare
  v_row posthorn.subscription := posthorn.reader($1);
  v_now timestamptz := clock_timestamp();
  v_to timestamptz := coalesce($3, v_now);
  v_oldest timestamptz := posthorn.kept_from(v_row.channel);
  v_upto bigint := coalesce(pg_sequence_last_value('posthorn.message_id'), 0);
  v_count bigint;
begin
  if $2 is null or $2 >= v_to or v_to > v_now + interval '1 minute' then
    raise exception 'a replay is of a time in the past: from % to % is none', coalesce($2::text, 'no time'), v_to using errcode = 'PH015',
      hint = '"from" lies before "to", and "to" not after now.';
  elsif contract is not null and not exists (select from posthorn.contract c where c.channel = v_row.channel and c.name = $7) then
    raise exception '"%" carries no contract called "%"', v_row.name, left($7, 80) using errcode = 'PH060';
  -- A clock of JavaScript knows milliseconds.
  elsif $2 < date_trunc('milliseconds', v_oldest) then
    raise exception 'what "%" reads is kept from % on, and the replay would begin at %', v_row.name, v_oldest, $2 using errcode = 'PH063',
      detail = json_build_object('oldestKept', v_oldest)::text, hint = 'Begin it there; what is older may be gone.';
  end if;
  v_count := posthorn.said_within(v_row.channel, $2, v_to, $7, v_upto);
  if v_count > 0 and not exists (select from posthorn.handled_here(v_row.id)) then
    raise exception 'no worker works on "%", so nobody says which contracts are handled', v_row.name using errcode = 'PH064', hint = 'Start one first.';
  end if;
  perform posthorn.confirmed(confirm, v_row.name, format('the replay of "%s"', v_row.name));
  return posthorn.begin_operation('replay', v_row.name, json_strip_nulls(json_build_object('from', $2, 'to', v_to, 'contract', $7)),
    coalesce($4, current_user::text), $5, v_count, json_build_object('subscription', v_row.id, 'after', '0', 'upto', v_upto::text));
end $$;

-- kept_from(channel): from when on everything that was said in a channel is kept; null where nothing was ever removed. A segment that went before
-- that was written down leaves its oldest message as the one thing that is known.
create or replace function posthorn.kept_from(p_channel int) returns timestamptz
language plpgsql as $$
begin
  return coalesce((select t.forgotten_until from posthorn.retention t),
    case when (select r.forgotten_upto from posthorn.ring r) > 0 then posthorn.oldest_kept(p_channel) end);
end $$;

-- handled_here(subscription): ids of the contracts that live workers of it have handlers for.
create or replace function posthorn.handled_here(p_subscription int) returns setof int
language sql volatile as $$
  select distinct unnest(posthorn.every_of(a.subscription, a.contracts)) from posthorn.attendance a
    where a.subscription = p_subscription and a.worker not in (select d.worker from posthorn.dead_workers() d)
$$;

-- said_within(channel, from, to, contract, upto): how many messages were said in a time. Reads the log of the channel.
create or replace function posthorn.said_within(p_channel int, p_from timestamptz, p_to timestamptz, p_contract text, p_upto bigint) returns bigint
language plpgsql as $$
begin
  return (select coalesce(sum(w.messages), 0) from (select unnest(r.slots) as slot from posthorn.ring r) s cross join posthorn.lanes_of(p_channel) l(lane)
    cross join lateral (select posthorn.count_within_of(s.slot, p_channel, l.lane, p_from, p_to, p_contract, p_upto) as messages) w);
end $$;

select posthorn.by_slot(
  'count_within_of(p_slot smallint, p_channel int, p_lane int, p_from timestamptz, p_to timestamptz, p_contract text, p_upto bigint)', 'bigint', $body$
  return (select count(*) from posthorn.message_{slot} m where m.channel = p_channel and m.lane = p_lane and m.id <= p_upto
    and m.published_at >= p_from and m.published_at < p_to
    and (p_contract is null or m.contract in (select c.id from posthorn.contract c where c.name = p_contract)));
$body$);

-- replay_piece: \`passed\` counts what is not replayed, by why: { waiting, ended, unhandled }.
create or replace function posthorn.replay_piece(p_row posthorn.operation, p_limit int, out done bigint, out more boolean, out busy boolean, out place json)
language plpgsql as $$
declare
  v_reader posthorn.subscription;
  v_from timestamptz := (p_row.arguments ->> 'from')::timestamptz;
  v_to timestamptz := (p_row.arguments ->> 'to')::timestamptz;
  v_contracts int[];
  v_handled int[];
  v_head record;
  v_after bigint := (p_row.place ->> 'after')::bigint;
  v_seen int := 0;
  v_most constant int := 1000;
  v_due timestamptz := '-infinity';
  v_why text;
  v_passed jsonb := coalesce(p_row.place::jsonb -> 'passed', '{"waiting":0,"ended":0,"unhandled":0}');
begin
  select * into v_reader from posthorn.subscription s where s.id = (p_row.place ->> 'subscription')::int for key share;
  place := p_row.place;
  done := 0;
  busy := false;
  more := v_reader.id is not null;
  if not more then
    return;
  end if;
  v_handled := array(select posthorn.handled_here(v_reader.id));
  if v_handled = '{}' and p_row.found = 0 then
    more := false;
    return;
  elsif v_handled = '{}' then
    -- Waits for a worker: without one nobody says what is handled.
    busy := true;
    return;
  end if;
  v_contracts := array(select c.id from posthorn.contract c where c.channel = v_reader.channel and (p_row.arguments ->> 'contract' is null or c.name = p_row.arguments ->> 'contract'));
  -- What is read here is copied before its segment may go.
  perform posthorn.keep_segments();
  -- Two replays of a reader must not find the same message handled and both give it the next number.
  perform pg_advisory_xact_lock(posthorn.lock_key('replay', v_reader.id));
  for v_head in select * from posthorn.log_heads(v_reader.channel, v_after, (p_row.place ->> 'upto')::bigint, v_most) loop
    v_seen := v_seen + 1;
    v_after := v_head.id;
    continue when v_head.published_at < v_from or v_head.published_at >= v_to or v_head.contract <> all (v_contracts);
    v_due := greatest(clock_timestamp(), v_due + interval '1 microsecond');
    v_why := case when v_head.contract = any (v_handled) then posthorn.replay_one(p_row, v_reader, v_head.lane, v_head.id, v_head.xid, v_head.slot, v_due) else 'unhandled' end;
    if v_why is null then
      done := done + 1;
    else
      v_passed := jsonb_set(v_passed, array[v_why], to_jsonb((v_passed ->> v_why)::bigint + 1));
    end if;
    exit when done >= p_limit;
  end loop;
  more := done >= p_limit or v_seen = v_most;
  place := (p_row.place::jsonb || jsonb_build_object('after', v_after::text, 'passed', v_passed))::json;
end $$;

-- replay_one: gives a message its next delivery, due at a time; null where it did, else why not. Where order is kept it enters that of its key when it is due.
create or replace function posthorn.replay_one(
  p_row posthorn.operation, p_reader posthorn.subscription, p_lane int, p_id bigint, p_xid xid8, p_slot smallint, p_due timestamptz
) returns text
language plpgsql as $$
declare
  v_delivery int := posthorn.handled_as(p_reader, p_lane, p_id);
  v_row posthorn.deferred;
begin
  if v_delivery is null then
    return case when exists (select from posthorn.deferred d where d.subscription = p_reader.id and d.message = p_id) then 'waiting'
      when exists (select from posthorn.discarded d where d.subscription = p_reader.id and d.message = p_id)
        or exists (select from posthorn.cancelled d where d.subscription = p_reader.id and d.message = p_id)
        or exists (select from posthorn.dead_letter d where d.subscription = p_reader.id and d.message = p_id)
        or exists (select from posthorn.invalid d where d.subscription = p_reader.id and d.message = p_id) then 'ended'
      when (posthorn.fate_in_log(p_reader, p_lane, p_id, p_xid)).state in ('queued', 'running') then 'waiting' else 'ended' end;
  end if;
  v_row := posthorn.delivery_of(p_reader.id, p_lane, p_id, p_slot);
  if v_row.payload::text = posthorn.erased_payload() then
    return 'ended';
  end if;
  insert into posthorn.deferred (subscription, due_at, delivery, attempts, crashes, reason, message, nonce, channel, lane, contract, key, payload, headers,
      published_at, history, priority, since)
    values (v_row.subscription, p_due, v_delivery + 1, 0, 0, 'released', v_row.message, v_row.nonce, v_row.channel, v_row.lane, v_row.contract, v_row.key,
      v_row.payload, v_row.headers, v_row.published_at, json_build_array(json_build_object('attempt', 0, 'outcome', 'replayed', 'by', p_row.ordered_by,
        'endedAt', clock_timestamp())), v_row.priority, clock_timestamp())
    on conflict (subscription, message) do nothing;
  if not found then
    return 'waiting';
  end if;
  -- Of a run that did not use them; the new one begins from the start.
  perform posthorn.forget_steps(v_row.subscription, v_row.message);
  return null;
end $$;

-- handled_as(subscription, lane, message): the number of the newest delivery of a message that was handled: it succeeded, or there was no handler. Null for
-- every other: it has not ended, or in another way.
create or replace function posthorn.handled_as(p_reader posthorn.subscription, p_lane int, p_id bigint) returns int
language plpgsql as $$
declare
  v_slot smallint;
  v_end record;
  v_newest record;
  v_outcome text;
begin
  select null::text as outcome, 0 as delivery into v_newest;
  for v_slot in select unnest(r.slots) from posthorn.ring r loop
    v_end := posthorn.newest_end_of(v_slot, p_reader.id, p_id);
    if v_end.delivery > v_newest.delivery then
      v_newest := v_end;
    end if;
    v_outcome := coalesce(v_outcome, posthorn.claimed_outcome_of(v_slot, p_reader.id, p_lane, p_id));
  end loop;
  if v_newest.outcome is null then
    select v_outcome as outcome, 1 as delivery into v_newest;
  end if;
  -- Looked at last: a message that goes on after its end is in one of these by then.
  return v_newest.delivery where v_newest.outcome in ('succeeded', 'skipped')
    and not exists (select from posthorn.deferred d where d.subscription = p_reader.id and d.message = p_id)
    and not exists (select from posthorn.dead_letter d where d.subscription = p_reader.id and d.message = p_id)
    and not exists (select from posthorn.invalid d where d.subscription = p_reader.id and d.message = p_id)
    and not exists (select from posthorn.discarded d where d.subscription = p_reader.id and d.message = p_id)
    and not exists (select from posthorn.cancelled d where d.subscription = p_reader.id and d.message = p_id);
end $$;

-- newest_end_of: the newest end of a message that has an ending of its own. Plan: ending_N_by_delivery, backward.
select posthorn.by_slot('newest_end_of(p_slot smallint, p_subscription int, p_message bigint, out outcome text, out delivery int)', 'record', $body$
  select e.outcome::text, e.delivery into outcome, delivery from posthorn.ending_{slot} e where e.message = p_message and e.subscription = p_subscription
    order by e.delivery desc limit 1;
  return;
$body$);

-- claimed_outcome_of: how the part of its claim ended a message; null where none has. Plan: claim_N_by_reach, claim_N_late, settlement_N_by_part.
select posthorn.by_slot('claimed_outcome_of(p_slot smallint, p_subscription int, p_lane int, p_message bigint)', 'text', $body$
  declare v_claim bigint;
  begin
    select c.id into v_claim from (select * from posthorn.claim_{slot} k where k.subscription = p_subscription and k.lane = p_lane and not k.took_late
      and k.last_id >= p_message order by k.last_id, k.n limit 1) c where p_message = any (c.messages);
    if v_claim is null then
      select c.id into v_claim from posthorn.claim_{slot} c where c.subscription = p_subscription and c.lane = p_lane and c.took_late and p_message = any (c.messages) limit 1;
    end if;
    return (select t.outcome::text from posthorn.settlement_{slot} t where t.claim = v_claim and t.outcome is not null and t.outcome <> 'begun'
      and (t.messages is null or p_message = any (t.messages)) order by t.part desc limit 1);
  end;
$body$);

-- replayable(name, from, to, contract): for whoever is to confirm it: { count, oldestKept }.
create or replace function posthorn.replayable(name text, "from" timestamptz, "to" timestamptz, contract text) returns json
language plpgsql as $$
declare
  v_row posthorn.subscription := posthorn.reader($1);
begin
  return json_build_object('oldestKept', posthorn.kept_from(v_row.channel), 'count', posthorn.said_within(v_row.channel, $2, coalesce($3, clock_timestamp()), $4,
    coalesce(pg_sequence_last_value('posthorn.message_id'), 0)));
end $$;
` },
  { name: "functions/44_erase.sql", text: `-- Erasing: what was said under a key, and what came of it, cannot be read any more. The one thing that ever changes a row of the log.
--
-- What has not begun ends as discarded before its payload is overwritten, so no handler runs with what stands in its place. What runs has its payload in
-- memory and goes on to its end; a request in cancel_request sees to it that it does not run again, and its message is looked at until it has ended.

-- erased_payload(): what stands in the place of an erased payload.
create or replace function posthorn.erased_payload() returns text
language sql immutable as $$ select '{"~posthorn":"erased"}' $$;

-- erase(key, by, reason, confirm, contract, channel): begins it; \`confirm\` repeats the key. Of every message with this key that is committed now, for every
-- receiver: payload, headers, errors, results, steps, progress and dedupe keys go, from the log, from what waits, from the lists. Ids, keys, times and outcomes stay.
-- What came from a broker with this key and fitted nothing is removed from its list at once.
-- It is done when nothing of the key runs any more. Returns the operation; see proceed and run. Raises PH015, PH060, PH061, PH065 (a schedule sends this key).
create or replace function posthorn.erase(
  key text, by text default null, reason text default null, confirm text default null, contract text default null, channel text default null
) returns json
language plpgsql as $$
declare
  v_upto bigint;
  v_unfit bigint;
  v_channels int[];
  v_schedule text;
begin
  if $1 is null or octet_length($1) not between 1 and 512 then
    raise exception 'a key is a text of 1 to 512 bytes' using errcode = 'PH015';
  end if;
  v_channels := array(select distinct c.channel from posthorn.contract c join posthorn.channel h on h.id = c.channel
    where ($5 is null or c.name = $5) and ($6 is null or h.name = $6) order by 1);
  if v_channels = '{}' and coalesce($5, $6) is not null then
    raise exception 'no contract%', coalesce(' "' || left($5, 80) || '"', '') || coalesce(' of the queue or topic "' || left($6, 80) || '"', '') || ' is registered'
      using errcode = 'PH060', hint = 'See select name from posthorn.contract.';
  end if;
  select s.name into v_schedule from posthorn.schedule s join posthorn.contract c on c.id = s.contract
    where s.key = $1 and ($5 is null or c.name = $5) and c.channel = any (v_channels) order by s.name limit 1;
  if v_schedule is not null then
    raise exception 'the schedule "%" sends messages with this key', v_schedule using errcode = 'PH065',
      hint = format('Remove it first: posthorn schedules remove %s. Otherwise it would say again what is erased.', v_schedule);
  end if;
  perform posthorn.confirmed(confirm, $1, 'erasing what was said under this key');
  -- Before it is looked how far the log reaches: an entry that is redriven in this moment is a message of the log then, or it is gone.
  with gone as (delete from posthorn.intake_invalid v where v.id in (select u.id from posthorn.unfit_of_key($1, $5, $6) u) returning v.id)
    select count(*) into v_unfit from gone;
  v_upto := coalesce(pg_sequence_last_value('posthorn.message_id'), 0);
  return posthorn.begin_operation('erase', $6, json_strip_nulls(json_build_object('key', $1, 'contract', $5, 'channel', $6)),
    coalesce($2, current_user::text), $3, posthorn.erasable($1, $5, $6) + v_unfit,
    json_build_object('upto', v_upto::text, 'channels', v_channels, 'after', '0', 'running', json_build_array(), 'unfit', v_unfit));
end $$;

-- unfit_of_key(key, contract, channel): what came in by intakes with this key and fitted nothing. Where contract or channel are named only what says that it is of
-- one of these contracts, behind whatever prefix.
create or replace function posthorn.unfit_of_key(p_key text, p_contract text, p_channel text) returns setof posthorn.intake_invalid
language sql stable as $$
  select v.* from posthorn.intake_invalid v where v.key = p_key and (p_contract is null and p_channel is null or exists (
    select from posthorn.contract c where c.id = any (posthorn.erased_contracts(p_contract, p_channel)) and right(v.type, length(c.name)) = c.name
      and substr(v.type, length(v.type) - length(c.name), 1) !~ '[[:alnum:]]'))
$$;

-- erasable(key, contract, channel): how many messages are kept under a key, in the log, or in the lists when the log has them no more. Reads the log.
create or replace function posthorn.erasable(p_key text, p_contract text, p_channel text) returns bigint
language plpgsql as $$
declare
  v_contracts int[] := posthorn.erased_contracts(p_contract, p_channel);
  v_count bigint;
begin
  select coalesce(sum(posthorn.count_key_of(s.slot, p_key, v_contracts)), 0) into v_count from (select unnest(r.slots) as slot from posthorn.ring r) s;
  return v_count + (select count(*) from posthorn.unfit_of_key(p_key, p_contract, p_channel)) + (select count(distinct l.message) from posthorn.listed(p_key, v_contracts, (select r.forgotten_upto from posthorn.ring r), 1000000) l);
end $$;

create or replace function posthorn.erased_contracts(p_contract text, p_channel text) returns int[]
language sql stable as $$
  select coalesce(array_agg(c.id), '{}') from posthorn.contract c join posthorn.channel h on h.id = c.channel
    where (p_contract is null or c.name = p_contract) and (p_channel is null or h.name = p_channel)
$$;

select posthorn.by_slot('count_key_of(p_slot smallint, p_key text, p_contracts int[])', 'bigint', $body$
  return (select count(*) from posthorn.message_{slot} m where m.key = p_key and m.contract = any (p_contracts));
$body$);

-- erase_of: overwrites messages of the log. Plan: message_N_by_id.
select posthorn.by_slot('erase_of(p_slot smallint, p_channel int, p_lane int, p_ids bigint[])', 'bigint', $body$
  declare v_rows bigint;
  begin
    update posthorn.message_{slot} m set payload = posthorn.erased_payload()::json, headers = null
      where m.channel = p_channel and m.lane = p_lane and m.id = any (p_ids);
    get diagnostics v_rows = row_count;
    return v_rows;
  end;
$body$);

-- erase_piece: looks through the log of one channel after the other; then through the lists for messages that the log has no more; then waits for what runs.
create or replace function posthorn.erase_piece(p_row posthorn.operation, p_limit int, out done bigint, out more boolean, out busy boolean, out place json)
language plpgsql as $$
declare
  v_channels int[] := array(select c::int from json_array_elements_text(p_row.place -> 'channels') c);
  v_log record;
begin
  place := p_row.place;
  busy := false;
  more := true;
  done := 0;
  if v_channels <> '{}' then
    v_log := posthorn.erase_in_log(p_row, v_channels[1], p_limit);
    done := v_log.done;
    place := (p_row.place::jsonb || jsonb_build_object('running', (p_row.place::jsonb -> 'running') || v_log.running))::json;
    place := (place::jsonb || case when v_log.after is null then jsonb_build_object('channels', v_channels[2 :], 'after', '0')
      else jsonb_build_object('after', v_log.after::text) end)::json;
  elsif p_row.place -> 'listed' is null then
    v_log := posthorn.erase_in_lists(p_row, p_limit);
    done := v_log.done;
    place := (p_row.place::jsonb || jsonb_build_object('running', (p_row.place::jsonb -> 'running') || v_log.running)
      || case when v_log.done < p_limit then '{"listed":true}'::jsonb else '{}' end)::json;
  else
    place := (p_row.place::jsonb || jsonb_build_object('running', posthorn.erase_running(p_row)))::json;
    more := json_array_length(place -> 'running') > 0;
    busy := more;
  end if;
  -- Removed when it began, and counted once.
  done := done + coalesce((p_row.place ->> 'unfit')::bigint, 0);
  place := (place::jsonb - 'unfit')::json;
end $$;

-- erase_in_log: a page of the log of a channel. \`after\`: where the next begins; null when it was the last. \`running\`: [[subscription, message]] that run.
create or replace function posthorn.erase_in_log(p_row posthorn.operation, p_channel int, p_limit int, out done bigint, out after bigint, out running jsonb)
language plpgsql as $$
declare
  v_contracts int[] := posthorn.erased_contracts(p_row.arguments ->> 'contract', p_row.arguments ->> 'channel');
  v_key text := p_row.arguments ->> 'key';
  v_heads posthorn.log_head[];
  v_ids bigint[];
  v_head record;
  v_reader posthorn.subscription;
  v_seen bigint;
begin
  running := '[]';
  done := 0;
  select count(*), max(h.id), array_agg(row(h.id, h.lane, h.nonce, h.xid, h.slot)::posthorn.log_head order by h.id) filter (where h.key = v_key and h.contract = any (v_contracts))
    into v_seen, after, v_heads from posthorn.log_heads(p_channel, (p_row.place ->> 'after')::bigint, (p_row.place ->> 'upto')::bigint, 1000) h;
  if v_seen < 1000 then
    after := null;
  end if;
  if v_heads is null then
    return;
  elsif cardinality(v_heads) > p_limit then
    v_heads := v_heads[1 : p_limit];
    after := (v_heads[p_limit]).id;
  end if;
  -- No claim is made of these lanes until COMMIT; where they stand is looked at in later statements.
  perform pg_advisory_xact_lock(posthorn.lock_key('lane', l.subscription, l.lane)) from (select l.subscription, l.lane from posthorn.lane l
    join posthorn.subscription s on s.id = l.subscription where s.channel = p_channel order by l.subscription, l.lane) l;
  -- None is removed until COMMIT; one that was removed meanwhile is left out.
  for v_reader in select * from posthorn.subscription s where s.channel = p_channel order by s.id for key share loop
    for v_head in select h.* from unnest(v_heads) h loop
      if posthorn.erase_one(p_row, v_reader, v_head.id, v_head.nonce, v_head.lane, v_head.xid, v_head.slot) then
        running := running || jsonb_build_array(jsonb_build_array(v_reader.id, v_head.id::text));
      end if;
    end loop;
  end loop;
  for v_head in select h.slot, h.lane, array_agg(h.id) as ids from unnest(v_heads) h group by 1, 2 loop
    done := done + posthorn.erase_of(v_head.slot, p_channel, v_head.lane, v_head.ids);
  end loop;
end $$;

-- erase_one: ends a message for one receiver where it waits or lies in a list, and removes what came of it; true when it runs, and is to be looked at
-- again. \`p_lane\` is null for one that the log has no more.
create or replace function posthorn.erase_one(
  p_row posthorn.operation, p_reader posthorn.subscription, p_id bigint, p_nonce bigint, p_lane int, p_xid xid8, p_slot smallint
) returns boolean
language plpgsql as $$
declare
  v_found boolean := posthorn.erase_waiting(p_row, p_reader, p_id, p_nonce);
  v_runs boolean := false;
  v_delivery posthorn.deferred;
  v_state text;
begin
  if not v_found then
    update posthorn.deferred d set payload = posthorn.erased_payload()::json, headers = null, history = '[]'
      where d.subscription = p_reader.id and d.message = p_id and d.nonce = p_nonce;
    v_runs := found;
    if not v_runs and p_lane is not null and posthorn.waiting_status(p_reader, p_id, p_nonce) is null then
      v_state := (posthorn.fate_in_log(p_reader, p_lane, p_id, p_xid)).state;
      v_runs := v_state = 'running';
      if v_state = 'queued' then
        v_delivery := posthorn.delivery_of(p_reader.id, p_lane, p_id, p_slot);
        insert into posthorn.cancel_mark (subscription, message) values (p_reader.id, p_id) on conflict do nothing;
        perform posthorn.write_discarded(v_delivery, 'erased', p_row.ordered_by, 'erased');
      end if;
    end if;
  end if;
  if v_runs then
    insert into posthorn.cancel_request (subscription, message, nonce, requested_at, requested_by, erased, quiet)
      values (p_reader.id, p_id, p_nonce, clock_timestamp(), p_row.ordered_by, true, true)
      on conflict (subscription, message) do update set erased = true;
  end if;
  update posthorn.discarded d set history = '[]' where d.subscription = p_reader.id and d.message = p_id and d.nonce = p_nonce and d.history::text <> '[]';
  update posthorn.cancelled d set history = '[]' where d.subscription = p_reader.id and d.message = p_id and d.nonce = p_nonce and d.history::text <> '[]';
  delete from posthorn.result r where r.subscription = p_reader.id and r.message = p_id;
  delete from posthorn.progress r where r.subscription = p_reader.id and r.message = p_id;
  delete from posthorn.step r where r.subscription = p_reader.id and r.message = p_id and not v_runs;
  delete from posthorn.dedupe r where r.subscription = p_reader.id and r.message = p_id and r.nonce = p_nonce;
  return coalesce(v_runs, false);
end $$;

-- erase_waiting: ends a message that waits in \`deferred\` or lies in a list; false where it is in none.
create or replace function posthorn.erase_waiting(p_row posthorn.operation, p_reader posthorn.subscription, p_id bigint, p_nonce bigint) returns boolean
language plpgsql as $$
declare
  v_waiting posthorn.deferred;
  v_filter json := json_build_object('message', posthorn.public_id(p_id, p_nonce), 'subscription', p_reader.name);
begin
  delete from posthorn.deferred d where d.subscription = p_reader.id and d.message = p_id and d.nonce = p_nonce and d.token is null returning d.* into v_waiting;
  if v_waiting.id is not null then
    delete from posthorn.cancel_request c where c.subscription = p_reader.id and c.message = p_id;
    if v_waiting.once_more then
      perform posthorn.let_go(v_waiting.id);
    end if;
  elsif exists (select from posthorn.dead_letter d where d.subscription = p_reader.id and d.message = p_id and d.nonce = p_nonce) then
    select * into v_waiting from posthorn.take_letters((v_filter::jsonb || '{"list":"dead-letters"}')::json, 1);
  elsif exists (select from posthorn.invalid d where d.subscription = p_reader.id and d.message = p_id and d.nonce = p_nonce) then
    select * into v_waiting from posthorn.take_letters((v_filter::jsonb || '{"list":"invalid"}')::json, 1);
  end if;
  if v_waiting.message is null then
    return false;
  end if;
  v_waiting.history := '[]';
  perform posthorn.write_discarded(v_waiting, 'erased', p_row.ordered_by, 'erased');
  if v_waiting.place is not null then
    perform posthorn.promote_key(p_reader.id, v_waiting.key);
  end if;
  return true;
end $$;

-- listed(key, contracts, upto, limit): messages of a key of which something that can be read lies outside of the log, at most \`limit\` of each list.
create or replace function posthorn.listed(p_key text, p_contracts int[], p_upto bigint, p_limit int)
returns table (subscription int, message bigint, nonce bigint)
language sql volatile as $$
  (select d.subscription, d.message, d.nonce from posthorn.subscription s join posthorn.deferred d on d.subscription = s.id and d.key = p_key and d.contract = any (p_contracts)
    and d.message <= p_upto and d.payload::text <> posthorn.erased_payload() limit p_limit)
  union (select d.subscription, d.message, d.nonce from posthorn.dead_letter d where d.key = p_key and d.contract = any (p_contracts) and d.message <= p_upto limit p_limit)
  union (select d.subscription, d.message, d.nonce from posthorn.invalid d where d.key = p_key and d.contract = any (p_contracts) and d.message <= p_upto limit p_limit)
  union (select d.subscription, d.message, d.nonce from posthorn.result d where d.key = p_key and d.contract = any (p_contracts) and d.message <= p_upto limit p_limit)
  union (select d.subscription, d.message, d.nonce from posthorn.discarded d where d.key = p_key and d.contract = any (p_contracts) and d.message <= p_upto
    and d.history::text <> '[]' limit p_limit)
  union (select d.subscription, d.message, d.nonce from posthorn.cancelled d where d.key = p_key and d.contract = any (p_contracts) and d.message <= p_upto
    and d.history::text <> '[]' limit p_limit)
$$;

-- erase_in_lists: messages of the key that the log has no more; their copies are in these tables.
create or replace function posthorn.erase_in_lists(p_row posthorn.operation, p_limit int, out done bigint, out running jsonb)
language plpgsql as $$
declare
  v_contracts int[] := posthorn.erased_contracts(p_row.arguments ->> 'contract', p_row.arguments ->> 'channel');
  v_key text := p_row.arguments ->> 'key';
  v_upto bigint := (p_row.place ->> 'upto')::bigint;
  v_one record;
begin
  running := '[]';
  done := 0;
  for v_one in select s as reader, l.message, l.nonce from posthorn.listed(v_key, v_contracts, v_upto, p_limit) l
      join posthorn.subscription s on s.id = l.subscription order by s.id, l.message limit p_limit for key share of s loop
    done := done + 1;
    if posthorn.erase_one(p_row, v_one.reader, v_one.message, v_one.nonce, null, null, null) then
      running := running || jsonb_build_array(jsonb_build_array((v_one.reader).id, v_one.message::text));
    end if;
  end loop;
end $$;

-- erase_running: looks again at messages that ran when they were erased; those that still do.
create or replace function posthorn.erase_running(p_row posthorn.operation) returns jsonb
language plpgsql as $$
declare
  v_one record;
  v_left jsonb := '[]';
  v_log record;
  v_nonce bigint;
begin
  for v_one in select s as reader, (r.one ->> 1)::bigint as message from json_array_elements(p_row.place -> 'running') r(one)
      join posthorn.subscription s on s.id = (r.one ->> 0)::int order by s.id, 2 for key share of s loop
    select h.lane, h.xid, h.slot, h.nonce into v_log from posthorn.log_heads((v_one.reader).channel, v_one.message - 1, v_one.message, 1) h;
    v_nonce := coalesce(v_log.nonce, (select d.nonce from posthorn.deferred d where d.subscription = (v_one.reader).id and d.message = v_one.message),
      (select c.nonce from posthorn.cancel_request c where c.subscription = (v_one.reader).id and c.message = v_one.message));
    if posthorn.erase_one(p_row, v_one.reader, v_one.message, v_nonce, v_log.lane, v_log.xid, v_log.slot) then
      v_left := v_left || jsonb_build_array(jsonb_build_array((v_one.reader).id, v_one.message::text));
    else
      delete from posthorn.step r where r.subscription = (v_one.reader).id and r.message = v_one.message;
    end if;
  end loop;
  return v_left;
end $$;
` },
  { name: "functions/45_subscriptions.sql", text: `-- Subscriptions as a whole: which there are, and removing one.

-- subscriptions(): all readers as JSON [{ name, kind, channel, service, since, paused, workers, unread }]: \`unread\` is what a reader has not read of the log, up to a million.
create or replace function posthorn.subscriptions() returns json
language sql volatile as $$
  select coalesce(json_agg(json_build_object('name', s.name, 'kind', c.kind, 'channel', c.name, 'service', s.service, 'since', s.created_at,
      'declaredAt', s.declared_at, 'paused', posthorn.pause_of(s), 'unread', w.messages,
      'workers', (select count(*) from posthorn.attendance a where a.subscription = s.id and a.worker not in (select d.worker from posthorn.dead_workers() d)))
      order by s.name), '[]')
    from posthorn.subscription s join posthorn.channel c on c.id = s.channel cross join lateral posthorn.waiting_in_log(s.id, 1000000) w
$$;

-- remaining(name): what would go with a subscription, as JSON { unread, waiting, parked, deadLetters, invalid }. Raises PH060.
create or replace function posthorn.remaining(name text) returns json
language plpgsql as $$
declare
  v_row posthorn.subscription := posthorn.reader($1);
begin
  return json_build_object('name', v_row.name, 'unread', (posthorn.waiting_in_log(v_row.id, 1000000)).messages,
    'waiting', (select count(*) from posthorn.deferred d where d.subscription = v_row.id and d.due_at < 'infinity'),
    'parked', (select count(*) from posthorn.deferred d where d.subscription = v_row.id and d.due_at = 'infinity'),
    'deadLetters', (select count(*) from posthorn.dead_letter d where d.subscription = v_row.id),
    'invalid', (select count(*) from posthorn.invalid d where d.subscription = v_row.id));
end $$;

-- remove_subscription(name, by, reason, confirm): begins to remove a reader of a topic, with all that waits, is dead or invalid for it; \`confirm\` repeats the name. What
-- it has not read is not delivered. Refused while a live worker works on it, or a dead one is not rescued yet; and for a queue, which has its reader for as long as
-- it exists. A process that declares it at a later start makes it anew, and that one starts where it says. Returns the operation. Raises PH060, PH061, PH015, PH066.
create or replace function posthorn.remove_subscription(name text, by text default null, reason text default null, confirm text default null) returns json
language plpgsql as $$
declare
  v_row posthorn.subscription := posthorn.reader($1);
  v_rest json := posthorn.remaining($1);
begin
  if (select c.kind from posthorn.channel c where c.id = v_row.channel) = 'command' then
    raise exception '"%" is a queue and has its reader for as long as it exists', v_row.name using errcode = 'PH015',
      hint = 'Pause it, or purge what waits in it.';
  end if;
  perform posthorn.refuse_worked(v_row);
  perform posthorn.confirmed(confirm, v_row.name, format('the removal of "%s"', v_row.name));
  return posthorn.begin_operation('remove', v_row.name, v_rest, coalesce($2, current_user::text), $3, (select sum(f.value::text::bigint)::bigint from json_each(v_rest) f where f.key <> 'name'),
    json_build_object('subscription', v_row.id));
end $$;

-- refuse_worked: raises PH066 while somebody works on a reader, or holds messages of it.
create or replace function posthorn.refuse_worked(p_row posthorn.subscription) returns void
language plpgsql as $$
declare
  v_workers text := (select string_agg(format('%s (%s, pid %s on %s)', w.id, w.service, w.pid, w.host), ', ' order by w.id)
    from posthorn.attendance a join posthorn.worker w on w.id = a.worker where a.subscription = p_row.id);
begin
  if v_workers is not null then
    raise exception '"%" is worked on by worker %', p_row.name, v_workers using errcode = 'PH066',
      hint = 'Stop these, or deploy them without it. One that was killed is forgotten within seconds while any worker lives.';
  elsif exists (select from posthorn.open_claims() c where c.subscription = p_row.id)
      or exists (select from posthorn.deferred d where d.subscription = p_row.id and d.token is not null) then
    raise exception '"%" has messages that a worker holds', p_row.name using errcode = 'PH066', hint = 'Wait until they were settled or rescued.';
  end if;
end $$;

-- remove_piece: a piece of what it has; then all the rest with the subscription itself, under its row's lock: who registers it waits, and makes a new one.
create or replace function posthorn.remove_piece(p_row posthorn.operation, p_limit int, out done bigint, out more boolean, out busy boolean, out place json)
language plpgsql as $$
declare
  v_reader posthorn.subscription;
  v_table text;
  v_rows bigint;
begin
  place := p_row.place;
  busy := false;
  more := false;
  done := 0;
  select * into v_reader from posthorn.subscription s where s.id = (p_row.place ->> 'subscription')::int for update;
  if v_reader.id is null then
    return;
  end if;
  perform posthorn.refuse_worked(v_reader);
  foreach v_table in array '{deferred,dead_letter,invalid,discarded,cancelled,result,progress,step,cancel_mark,cancel_request,parked_key,key_permit}'::text[] loop
    execute format('delete from posthorn.%1$I t where t.ctid = any (array(select k.ctid from posthorn.%1$I k where k.subscription = $1 limit $2))',
      v_table) using v_reader.id, p_limit;
    get diagnostics v_rows = row_count;
    done := done + case when v_table in ('deferred', 'dead_letter', 'invalid') then v_rows else 0 end;
    if v_rows > 0 then
      more := true;
      return;
    end if;
  end loop;
  done := (posthorn.waiting_in_log(v_reader.id, 1000000)).messages;
  delete from posthorn.circuit c where c.subscription = v_reader.id;
  delete from posthorn.permit c where c.subscription = v_reader.id;
  delete from posthorn.run_limit c where c.subscription = v_reader.id;
  delete from posthorn.alert c where c.subscription = v_reader.id;
  delete from posthorn.lane c where c.subscription = v_reader.id;
  delete from posthorn.subscription s where s.id = v_reader.id;
end $$;
` },
  { name: "functions/46_intakes.sql", text: `-- Intakes as operators see them: what fits nothing, how they stand, and pausing them.

-- unfit_where(filter): the condition that a filter means, as SQL over intake_invalid "v" with the filter as $1:
-- JSON { id, intake, upto, takenIn, unrun }. \`takenIn\`: of which a message of the same identity was taken in; \`unrun\`: of intakes that nobody runs.
create or replace function posthorn.unfit_where(p_filter json) returns text
language sql immutable as $$
  select concat_ws(' and ', 'true',
    case when p_filter ->> 'id' is not null then 'v.id = ($1 ->> ''id'')::bigint' end,
    case when p_filter ->> 'intake' is not null then 'v.intake = (select i.id from posthorn.intake i where i.name = $1 ->> ''intake'')' end,
    case when p_filter ->> 'upto' is not null then 'v.id <= ($1 ->> ''upto'')::bigint' end,
    case when (p_filter ->> 'takenIn')::boolean then 'exists (select from posthorn.inbox b where b.mark = v.identity)' end,
    case when (p_filter ->> 'unrun')::boolean then 'v.intake not in (select r.intake from posthorn.intake_runners() r)' end)
$$;

-- unfit_list(filter, limit): the newest entries, as JSON [{ id, intake, reason, source, event, type, contentType, key, brokerId, position, foundAt, times,
-- lastAt, bytes, whole, redriveAt, redriveBy, takenIn }]; with { full: true } also headers, and the body in base64. \`takenIn\`: a message of the same identity was taken
-- in, as far as the inbox knows it still.
create or replace function posthorn.unfit_list(p_filter json, p_limit int) returns json
language plpgsql stable as $$
declare
  v_json json;
begin
  execute format($sql$
    select coalesce(json_agg(json_build_object('id', v.id::text, 'intake', i.name, 'reason', v.reason, 'source', v.source, 'event', v.event, 'type', v.type,
        'contentType', v.content_type, 'key', v.key, 'brokerId', v.broker_id, 'position', v.position, 'foundAt', v.found_at, 'times', v.times,
        'lastAt', v.last_at, 'bytes', v.bytes, 'whole', v.whole, 'redriveAt', v.redrive_at, 'redriveBy', v.redrive_by,
        'takenIn', exists (select from posthorn.inbox b where b.mark = v.identity),
        'headers', case when ($1 ->> 'full')::boolean then v.headers end,
        'body', case when ($1 ->> 'full')::boolean then translate(encode(v.body, 'base64'), chr(10), '') end) order by v.id desc), '[]')
      from (select * from posthorn.intake_invalid v where %1$s order by v.id desc limit $2) v join posthorn.intake i on i.id = v.intake $sql$,
    posthorn.unfit_where(p_filter)) into v_json using p_filter, p_limit;
  return v_json;
end $$;

-- find_outside(id, source, marks): what intakes know of a message by what its sender calls it, as JSON { takenIn: [{ intake, at, keptUntil }], invalid: [{ intake, id, foundAt }] }.
-- Marks as [{ intake, mark }]: found by the primary key of the inbox. The list of invalid messages is read as a whole, as by whoever lists it: it is what somebody has to look at.
create or replace function posthorn.find_outside(p_id text, p_source text, p_marks json) returns json
language sql stable as $$
  select json_build_object(
    'takenIn', (select coalesce(json_agg(json_build_object('intake', f.name, 'at', f.keep_until - f.keep_ms * interval '1 ms', 'keptUntil', f.keep_until) order by f.name), '[]')
      from (select i.name, i.keep_ms, max(b.keep_until) as keep_until from json_to_recordset(p_marks) m(intake text, mark uuid)
        join posthorn.inbox b on b.mark = m.mark join posthorn.intake i on i.name = m.intake group by i.id) f),
    'invalid', (select coalesce(json_agg(json_build_object('intake', i.name, 'id', v.id::text, 'foundAt', v.found_at) order by v.id desc), '[]')
      from (select * from posthorn.intake_invalid v where v.event = p_id and (p_source is null or v.source = p_source) or v.broker_id = p_id order by v.id desc limit 20) v
        join posthorn.intake i on i.id = v.intake))
$$;

-- unfit_count(filter): how many entries a filter finds, and the highest id among them, as JSON { count, upto }.
create or replace function posthorn.unfit_count(p_filter json) returns json
language plpgsql stable as $$
declare
  v_json json;
begin
  execute format('select json_build_object(''count'', count(*), ''upto'', max(v.id)::text) from posthorn.intake_invalid v where %1$s', posthorn.unfit_where(p_filter))
    into v_json using p_filter;
  return v_json;
end $$;

-- unfit_redrive(filter, by): has entries be read again by whoever runs their intake, within about a second. Returns how many.
create or replace function posthorn.unfit_redrive(p_filter json, p_by text) returns int
language plpgsql as $$
declare
  v_rows int;
begin
  perform posthorn.own_transaction(true);
  execute format('update posthorn.intake_invalid v set redrive_at = clock_timestamp(), redrive_by = left($2, 200) where %1$s', posthorn.unfit_where(p_filter))
    using p_filter, p_by;
  get diagnostics v_rows = row_count;
  perform posthorn.note_operation('redrive', (p_filter::jsonb || '{"list":"intake"}')::json, p_by, null, v_rows);
  return v_rows;
end $$;

-- unfit_discard(filter, by, reason): removes entries for good. Returns how many.
create or replace function posthorn.unfit_discard(p_filter json, p_by text, p_reason text) returns int
language plpgsql as $$
declare
  v_rows int;
begin
  perform posthorn.own_transaction(true);
  execute format('delete from posthorn.intake_invalid v where %1$s', posthorn.unfit_where(p_filter)) using p_filter;
  get diagnostics v_rows = row_count;
  perform posthorn.note_operation('discard', (p_filter::jsonb || '{"list":"intake"}')::json, p_by, p_reason, v_rows);
  return v_rows;
end $$;

-- unfit_again(intake, limit): what is to be read again, the oldest first, as JSON [{ id, contentType, headers, key, brokerId, position, body, whole }].
create or replace function posthorn.unfit_again(p_intake int, p_limit int) returns json
language plpgsql as $$
begin
  return (select coalesce(json_agg(json_build_object('id', v.id::text, 'contentType', v.content_type, 'headers', v.headers, 'key', v.key, 'brokerId', v.broker_id,
      'position', v.position, 'body', translate(encode(v.body, 'base64'), chr(10), ''), 'whole', v.whole) order by v.id), '[]')
    from (select * from posthorn.intake_invalid v where v.intake = p_intake and v.redrive_at is not null order by v.id limit p_limit) v);
end $$;

-- take_again(…): \`read_again\` for a library that asks for the number only.
create or replace function posthorn.take_again(
  p_intake int, p_worker bigint, p_ids bigint[], p_marks uuid[], p_nonces bigint[], p_channels int[], p_contracts int[], p_keys json, p_payloads json,
  p_headers json, p_unfit json
) returns int
language sql as $$
  select (posthorn.read_again($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ->> 'written')::int
$$;

-- read_again(intake, worker, ids, marks, lists, unfit): ends entries that fit now: writes those whose identity is new, each once, since whoever removes the entry writes it;
-- of the others a message was taken in meanwhile, and they are absorbed as any duplicate. Both is decided by the inbox, so that a message that arrives in this
-- moment waits for it. An entry of before that still is what its mark says stands in the inbox itself: it is written. \`unfit\`: [{ id, reason, marks }] of those that
-- still fit nothing: they stay with the reason, but for those of which a message was taken in, which are absorbed as well; without a reason one is passed over.
-- \`former\`: as in former_places; \`marks\` in \`unfit\`: all that it would be taken in under. Returns JSON { written, absorbed }, the second the ids. Raises as take_in.
create or replace function posthorn.read_again(
  p_intake int, p_worker bigint, p_ids bigint[], p_marks uuid[], p_nonces bigint[], p_channels int[], p_contracts int[], p_keys json, p_payloads json,
  p_headers json, p_unfit json, p_former uuid[] default null
) returns json
language plpgsql as $$
declare
  v_keep_until timestamptz;
  v_places int[];
  v_absorbed text[];
begin
  perform posthorn.own_transaction(true);
  v_keep_until := posthorn.own_intake(p_intake, p_worker);
  with former as materialized (
    select (f.n - 1) / (cardinality(p_former) / cardinality(p_marks)) + 1 as n, f.mark from unnest(p_former) with ordinality f(mark, n)
  ), gone as (
    delete from posthorn.intake_invalid v using unnest(p_ids, p_marks) with ordinality r(id, mark, n) where v.id = r.id and v.intake = p_intake
      returning r.n, r.id, r.mark, v.identity is null and (v.mark = r.mark or v.mark in (select f.mark from former f where f.n = r.n)) as known
  ), marked as (
    insert into posthorn.inbox (mark, intake, keep_until) select g.mark, p_intake, v_keep_until from gone g where not g.known order by g.mark
      on conflict do nothing returning mark
  ), fresh as (
    select min(g.n) as n from gone g join marked m on m.mark = g.mark where not g.known group by g.mark
  ), formerly as (
    insert into posthorn.inbox (mark, intake, keep_until) select f.mark, p_intake, v_keep_until from former f join fresh r on r.n = f.n order by f.mark
      on conflict do nothing returning mark
  ), placed as (
    select g.n from gone g where g.known
    union all select r.n from fresh r where r.n not in (select f.n from former f where f.mark not in (select o.mark from formerly o)))
    select coalesce(array_agg(g.n::int order by g.n) filter (where g.n in (select p.n from placed p)), '{}'),
        coalesce(array_agg(g.id::text order by g.n) filter (where g.n not in (select p.n from placed p)), '{}') into v_places, v_absorbed from gone g;
  perform posthorn.write_places(v_places, p_nonces, p_channels, p_contracts, p_keys, p_payloads, p_headers);
  with ended as (
    delete from posthorn.intake_invalid v using json_to_recordset(p_unfit) as u(id bigint, reason text, marks json) where v.id = u.id and v.intake = p_intake
        and (u.reason is null or exists (select from posthorn.inbox b where b.mark = v.identity)
          or v.identity is not null and exists (select from json_array_elements_text(u.marks) m join posthorn.inbox b on b.mark = m::uuid))
      returning v.id, u.reason)
    select v_absorbed || coalesce(array_agg(e.id::text order by e.id) filter (where e.reason is not null), '{}') into v_absorbed from ended e;
  update posthorn.intake_invalid v set redrive_at = null, reason = u.reason from json_to_recordset(p_unfit) as u(id bigint, reason text)
    where v.id = u.id and v.intake = p_intake;
  update posthorn.intake i set written = i.written + cardinality(v_places), received = i.received + cardinality(v_places)
    where i.id = p_intake and i.worker = p_worker;
  if not found then
    update posthorn.intake_holder h set written = h.written + cardinality(v_places), received = h.received + cardinality(v_places)
      where h.intake = p_intake and h.worker = p_worker;
  end if;
  return json_build_object('written', cardinality(v_places), 'absorbed', v_absorbed);
end $$;

-- intake_rules(): the rules of each intake with their values now: for how long it has not been connected, what it refuses, and how many messages fit nothing.
-- What its holder reported counts for a few seconds. While nobody runs it that is time away as well, for as long as nobody does; see away_anew().
create or replace function posthorn.intake_rules() returns table (intake int, intake_name text, name text, value bigint, threshold bigint, detail text)
language sql volatile as $$
  with runs as materialized (select distinct r.intake from posthorn.intake_runners() r)
  select i.id, i.name, r.name, r.value, r.threshold, r.detail from posthorn.intake i left join runs on runs.intake = i.id
    cross join lateral (select coalesce(sum(h.refused_now), 0)::bigint as messages, (array_agg(h.refusal order by h.refused_at desc nulls last))[1] as why
      from posthorn.intake_holder h where h.intake = i.id and h.seen_at > clock_timestamp() - interval '10 s') refused
    cross join lateral (values
      ('intakeAwayMs', case when i.paused_at is not null then 0 else greatest(0, extract(epoch from clock_timestamp()
          - coalesce(i.away_since, i.seen_at + case when runs.intake is null then interval '0' else interval '5 s' end)) * 1000) end::bigint,
        i.away_ms::bigint, case when runs.intake is null or i.seen_at < clock_timestamp() - interval '5 s'
          then format('no process runs it; if it was renamed: posthorn intakes rename %1$s <new name>; if it is gone for good: posthorn intakes remove %1$s', i.name) else i.trouble end),
      ('intakeRefused', refused.messages, i.refused_bound, refused.why),
      ('intakeInvalid', (select count(*) from (select from posthorn.intake_invalid v where v.intake = i.id limit 100000) v), i.invalid_bound, null)
    ) r(name, value, threshold, detail) where r.threshold is not null
$$;

-- pause_intake, resume_intake: as pause and resume. Who runs it stops within about a second; what is being written is written.
create or replace function posthorn.pause_intake(p_name text, p_by text, p_reason text) returns json
language plpgsql as $$
declare
  v_by text := coalesce(p_by, current_user::text);
  v_row posthorn.intake;
  v_changed boolean;
begin
  update posthorn.intake i set paused_at = clock_timestamp(), paused_by = left(v_by, 200), paused_reason = left(p_reason, 500)
    where i.name = p_name and i.paused_at is null;
  v_changed := found;
  if v_changed then
    perform posthorn.note_operation('pause', json_build_object('name', p_name), v_by, p_reason, 1);
  end if;
  select * into v_row from posthorn.intake i where i.name = p_name;
  return json_strip_nulls(json_build_object('at', v_row.paused_at, 'by', v_row.paused_by, 'reason', v_row.paused_reason, 'name', v_row.name, 'changed', v_changed));
end $$;

create or replace function posthorn.resume_intake(p_name text, p_by text) returns json
language plpgsql as $$
declare
  v_row posthorn.intake;
begin
  select * into v_row from posthorn.intake i where i.name = p_name for update;
  -- Whoever runs it has its chance first: the pause is no time away.
  update posthorn.intake i set paused_at = null, paused_by = null, paused_reason = null, away_since = clock_timestamp()
    where i.id = v_row.id and i.paused_at is not null;
  if found then
    perform posthorn.note_operation('resume', json_build_object('name', p_name), coalesce(p_by, current_user::text), null, 1);
  end if;
  return json_strip_nulls(json_build_object('at', v_row.paused_at, 'by', v_row.paused_by, 'reason', v_row.paused_reason, 'name', v_row.name,
    'changed', v_row.paused_at is not null));
end $$;

-- is_intake(name): whether an intake has this name, and no queue or subscription.
create or replace function posthorn.is_intake(p_name text) returns boolean
language sql stable as $$
  select exists (select from posthorn.intake i where i.name = p_name) and not exists (select from posthorn.subscription s where s.name = p_name)
$$;
` },
  { name: "functions/47_remove_intake.sql", text: `-- Removing an intake that is gone from the code. What it took in stays, and so do the marks of it in the inbox, for their time: they are made of its name,
-- or of one that it had before, so one that is declared again under this name takes nothing in a second time.

-- intake_named(name): the intake of this name. Raises PH060.
create or replace function posthorn.intake_named(p_name text) returns posthorn.intake
language plpgsql as $$
declare
  v_row posthorn.intake;
begin
  select * into v_row from posthorn.intake i where i.name = p_name;
  if v_row.id is null and exists (select from posthorn.subscription s where s.name = p_name) then
    raise exception '"%" is a queue or subscription, and no intake', p_name using errcode = 'PH060', hint = 'A subscription is removed by posthorn.remove_subscription.';
  elsif v_row.id is null then
    raise exception 'no intake is called "%"', left(p_name, 80) using errcode = 'PH060',
      hint = format('Known are: %s.', coalesce((select string_agg(i.name, ', ' order by i.name) from (select name from posthorn.intake order by name limit 50) i), 'none'));
  end if;
  return v_row;
end $$;

-- remaining_of_intake(name): what would go with an intake, as JSON { name, invalid }. Raises PH060.
create or replace function posthorn.remaining_of_intake(p_name text) returns json
language sql volatile as $$
  select json_build_object('name', n.name, 'invalid', (select count(*) from posthorn.intake_invalid v where v.intake = n.id)) from posthorn.intake_named(p_name) n
$$;

-- remove_intake(name, by, reason, confirm): begins to remove an intake with what fitted nothing; \`confirm\` repeats the name. Refused while a process that lives runs it.
-- A process that declares it makes it anew. Its events may be published here from then on. Returns the operation. Raises PH060, PH061, PH015, PH068.
create or replace function posthorn.remove_intake(name text, by text default null, reason text default null, confirm text default null) returns json
language plpgsql as $$
declare
  v_row posthorn.intake := posthorn.intake_named($1);
  v_rest json := posthorn.remaining_of_intake($1);
begin
  perform posthorn.refuse_run(v_row);
  perform posthorn.confirmed(confirm, v_row.name, format('the removal of "%s"', v_row.name));
  return posthorn.begin_operation('remove', v_row.name, (v_rest::jsonb || '{"list":"intake"}')::json, coalesce($2, current_user::text), $3,
    (v_rest ->> 'invalid')::bigint, json_build_object('intake', v_row.id));
end $$;

-- refuse_run(row, hint): raises PH068 while somebody runs an intake.
create or replace function posthorn.refuse_run(p_row posthorn.intake, p_hint text default 'Stop these, or deploy them without it.') returns void
language plpgsql as $$
declare
  v_workers text := (select string_agg(format('%s (%s, pid %s on %s)', r.worker, r.service, r.pid, r.host), ', ' order by r.worker)
    from posthorn.intake_runners() r where r.intake = p_row.id);
begin
  if v_workers is not null then
    raise exception '"%" is run by worker %', p_row.name, v_workers using errcode = 'PH068', hint = p_hint;
  end if;
end $$;

-- remove_intake_piece: as remove_piece. The row is locked: who declares it waits, and makes a new one; who begins to run it has it or finds it gone.
create or replace function posthorn.remove_intake_piece(p_row posthorn.operation, p_limit int, out done bigint, out more boolean, out busy boolean, out place json)
language plpgsql as $$
declare
  v_row posthorn.intake;
begin
  place := p_row.place;
  busy := false;
  more := false;
  done := 0;
  select * into v_row from posthorn.intake i where i.id = (p_row.place ->> 'intake')::int for update;
  if v_row.id is null then
    return;
  end if;
  perform posthorn.refuse_run(v_row);
  delete from posthorn.intake_invalid v where v.ctid = any (array(select k.ctid from posthorn.intake_invalid k where k.intake = v_row.id limit p_limit));
  get diagnostics done = row_count;
  more := done > 0;
  if not more then
    delete from posthorn.intake i where i.id = v_row.id;
  end if;
end $$;
` },
  { name: "functions/48_rename_intake.sql", text: `-- Carrying the inbox of an intake over to another name. Marks are hashes that hold a name, so none is touched: inbox_name says under which names an intake
-- looks, and however large the inbox is, a renaming is a few rows.

-- inbox_names(intake): the names that marks of this intake are made of, the one of what is taken in now first.
create or replace function posthorn.inbox_names(p_intake text) returns text[]
language plpgsql volatile as $$
begin
  return (select coalesce((select n.name from posthorn.inbox_name n where n.intake = p_intake and n.until is null), p_intake))
    || array(select n.name from posthorn.inbox_name n where n.intake = p_intake and n.until > clock_timestamp() order by n.name);
end $$;

-- own_inbox(intake, id): gives an intake a name of its own for its marks where what was called so before has been renamed, and has taken its marks with it.
create or replace function posthorn.own_inbox(p_intake text, p_id int) returns void
language sql as $$
  insert into posthorn.inbox_name (name, intake) select format('%s~%s', p_intake, p_id), p_intake
    where exists (select from posthorn.inbox_name n where n.name = p_intake and n.intake <> p_intake)
      and not exists (select from posthorn.inbox_name n where n.intake = p_intake and n.until is null)
$$;

-- inboxes(): the names under which each intake recognises what comes in, as JSON [{ intake, place, names }].
create or replace function posthorn.inboxes() returns json
language sql volatile as $$
  select coalesce(json_agg(json_build_object('intake', i.name, 'place', i.place, 'names', posthorn.inbox_names(i.name)) order by i.name), '[]') from posthorn.intake i
$$;

-- begin_intake(…): register_intake for a library that marks what comes in by the names that it is told. Returns JSON { id, made, names }. Whoever renames it from
-- then on gives it another id. Raises as register_intake.
create or replace function posthorn.begin_intake(
  p_name text, p_service text, p_broker text, p_place text, p_keep_ms float8, p_away_ms float8, p_contracts json, p_bounds json
) returns json
language plpgsql as $$
declare
  v_as json := posthorn.register_intake(p_name, p_service, p_broker, p_place, p_keep_ms, p_away_ms, p_contracts, p_bounds, true);
begin
  return json_build_object('id', v_as -> 'id', 'made', v_as -> 'made', 'names', posthorn.inbox_names(p_name));
end $$;

-- rename_intake(name, to, by, reason): carries an intake with all that it knows over to another name, at once. Where one of that name is known already the two
-- become one: what either took in is recognised, and the newer declaration stays. Refused while a process that lives runs one of them. Returns JSON { from, to,
-- joined, invalid, service, broker, place }, the last three those of \`name\`. Raises PH060, PH015, PH020, PH068.
create or replace function posthorn.rename_intake(name text, "to" text, by text default null, reason text default null) returns json
language plpgsql as $$
declare
  v_from posthorn.intake;
  v_to posthorn.intake;
  v_id int;
begin
  perform posthorn.require_home(), posthorn.intake_named($1);
  if $2 is null or $2 !~ '^[a-z][a-z0-9._-]*$' or length($2) > 80 then
    raise exception 'the name of an intake must be 1 to 80 lower-case letters, digits, dots, hyphens and underscores, a letter first; got %', coalesce(left($2, 120), 'none')
      using errcode = 'PH015';
  elsif $2 = $1 then
    raise exception 'the intake "%" is called so already', $1 using errcode = 'PH015';
  elsif exists (select from posthorn.subscription s where s.name = $2) then
    raise exception 'the intake "%" cannot be called "%": a queue or subscription has this name', $1, $2 using errcode = 'PH020',
      hint = 'Queues, subscriptions and intakes share one set of names. Give it another one.';
  end if;
  -- Alerts are neither raised nor resolved meanwhile: either would wait for the rows that are locked here, with alerts locked that change here.
  perform pg_advisory_xact_lock(posthorn.lock_key('watch'));
  loop
    -- Whoever declares one of the two waits; whoever is about to run one has it, or finds it gone.
    perform from posthorn.intake i where i.name in ($1, $2) order by i.id for update;
    v_from := posthorn.intake_named($1);
    select * into v_to from posthorn.intake i where i.name = $2;
    perform posthorn.refuse_run(v_from, 'Stop these, and start them again with the new name.');
    if v_to.id is not null then
      perform posthorn.refuse_run(v_to, format('Stop these, rename "%s", and start them again: from then on it recognises what "%1$s" took in as well.', $1));
    end if;
    v_id := posthorn.joined_intake(v_from, v_to, $2);
    -- Else one of this name was declared in between.
    exit when v_id is not null;
  end loop;
  perform posthorn.join_lists(v_from.id, v_to.id, v_id), posthorn.join_inboxes(v_from, v_to, $2);
  delete from posthorn.intake i where i.id in (v_from.id, v_to.id);
  perform posthorn.note_operation('rename', json_build_object('name', $1, 'to', $2, 'joined', v_to.id is not null), coalesce($3, current_user::text), $4, 1);
  return json_build_object('from', $1, 'to', $2, 'joined', v_to.id is not null,
    'invalid', (select count(*) from posthorn.intake_invalid v where v.intake = v_id), 'service', v_from.service, 'broker', v_from.broker, 'place', v_from.place);
end $$;

-- joined_intake(from, to, name): makes the intake that takes the place of one or of both, with an id of its own: who has declared either is told that it is
-- gone, declares it anew, and learns the names of its marks. Null where another has made one of this name meanwhile.
create or replace function posthorn.joined_intake(p_from posthorn.intake, p_to posthorn.intake, p_name text) returns int
language plpgsql as $$
declare
  v_newer constant posthorn.intake := case when p_to.declared_at >= p_from.declared_at then p_to else p_from end;
  v_paused constant posthorn.intake := case when p_to.paused_at is not null then p_to else p_from end;
  v_id int;
begin
  -- No valid name: it is free for the new row, and gone at the end of this transaction.
  update posthorn.intake i set name = i.name || ' ' where i.id = p_to.id;
  insert into posthorn.intake (name, service, broker, place, keep_ms, away_ms, declared_at, seen_at, away_since, trouble, pushed, refused_bound, invalid_bound,
      paused_at, paused_by, paused_reason, received, written, invalid, skipped, refused, last_message_at, skipped_type, skipped_at)
    select p_name, v_newer.service, v_newer.broker, v_newer.place, v_newer.keep_ms, v_newer.away_ms, v_newer.declared_at, v_newer.seen_at, v_newer.away_since,
      v_newer.trouble, v_newer.pushed, v_newer.refused_bound, v_newer.invalid_bound, v_paused.paused_at, v_paused.paused_by, v_paused.paused_reason,
      sum(x.received), sum(x.written), sum(x.invalid), sum(x.skipped), sum(x.refused), max(x.last_message_at),
      (array_agg(x.skipped_type order by x.skipped_at desc nulls last))[1], max(x.skipped_at)
    from (select i.received, i.written, i.invalid, i.skipped, i.refused, i.last_message_at, i.skipped_type, i.skipped_at from posthorn.intake i where i.id in (p_from.id, p_to.id)
      -- Of workers that have died.
      union all select h.received, h.written, h.invalid, h.skipped, h.refused, h.last_message_at, h.skipped_type, h.skipped_at
        from posthorn.intake_holder h where h.intake in (p_from.id, p_to.id)) x
    on conflict (name) do nothing returning id into v_id;
  insert into posthorn.intake_contract (intake, contract) select v_id, c.contract from posthorn.intake_contract c where c.intake = v_newer.id and v_id is not null;
  return v_id;
end $$;

-- join_lists(from, to, id): what fitted nothing, each once, and the alerts: those that are open end, and are raised anew where there still is a reason.
create or replace function posthorn.join_lists(p_from int, p_to int, p_id int) returns void
language plpgsql as $$
begin
  with entry as materialized (
    select v.id, v.intake, v.found_at, v.last_at, v.times, v.redrive_at, v.redrive_by, posthorn.unfit_mark(null,
        jsonb_build_array(v.source, v.event, v.type, v.content_type, v.key, v.broker_id, v.position)::text, v.headers, v.body, v.bytes) as content
      from posthorn.intake_invalid v where p_to is not null and v.intake in (p_from, p_to)
  ), twice as (
    select distinct on (n.id) n.id as kept, o.* from entry o join entry n on n.content = o.content and o.intake = p_from and n.intake = p_to order by n.id, o.id
  ), ended as (
    delete from posthorn.intake_invalid v using twice t where v.id = t.id
  )
  update posthorn.intake_invalid v set found_at = least(v.found_at, t.found_at), last_at = greatest(v.last_at, t.last_at), times = v.times + t.times,
      redrive_at = coalesce(v.redrive_at, t.redrive_at), redrive_by = coalesce(v.redrive_by, t.redrive_by) from twice t where v.id = t.kept;
  update posthorn.intake_invalid v set intake = p_id where v.intake in (p_from, p_to);
  update posthorn.alert a set intake = p_id, resolved_at = coalesce(a.resolved_at, clock_timestamp()) where a.intake in (p_from, p_to);
end $$;

-- join_inboxes(from, to, name): what is taken in from now on is marked as before, by the name of \`to\` where there was one; what was taken in under the other is
-- recognised for as long as the longer of the two keeps it.
create or replace function posthorn.join_inboxes(p_from posthorn.intake, p_to posthorn.intake, p_name text) returns void
language plpgsql as $$
declare
  v_now constant text := (posthorn.inbox_names(case when p_to.id is null then p_from.name else p_name end))[1];
begin
  insert into posthorn.inbox_name (name, intake) select (posthorn.inbox_names(i.name))[1], i.name
    from unnest(array[p_from.name, case when p_to.id is not null then p_name end]) i(name) where i.name is not null on conflict do nothing;
  update posthorn.inbox_name n set until = clock_timestamp() + greatest(p_from.keep_ms, p_to.keep_ms) * interval '1 ms'
    where n.intake in (p_from.name, p_name) and n.until is null and n.name <> v_now;
  update posthorn.inbox_name n set intake = p_name where n.intake = p_from.name;
end $$;
` },
  { name: "functions/90_roles.sql", text: `-- Three roles for those who do not own the schema: producer, worker, observer, each named after the schema with \`_\` before its own name. They have no
-- rights on tables of the log: they call functions, which run with the rights of their owner. Whoever migrates the schema owns it, and alone may do
-- what stands in no list here: pause, purge, redrive, discard, replay, erase, remove, rebase.

-- role_functions(): what each role may call; a worker may call what a producer may.
create or replace function posthorn.role_functions() returns table (role text, functions text[])
language sql immutable as $$
  values
    ('producer', array['send', 'publish', 'cancel', 'register_contract', 'make_lane', 'write_one', 'write_once', 'write_many', 'write_said', 'wake', 'wake_with',
      'backlog_limits', 'grant_backlog', 'check_backlog', 'message_status', 'message_statuses', 'is_forgotten', 'register_topic']),
    ('worker', array['work', 'settle', 'take_due', 'spill', 'promote', 'peek', 'end_in_transaction', 'end_many', 'end_with_result', 'register_subscription',
      'register_worker', 'heartbeat', 'forget_worker', 'rescue', 'watch', 'prune', 'sweep_keys', 'sweep_steps', 'tidy_dedupe', 'record_step', 'steps_of',
      'write_progress', 'circuit_hear', 'cancel_requests', 'declare_schedule', 'schedule_now', 'due_schedules', 'fire_schedules', 'note_schedule_failure',
      'standing', 'count_skipped', 'declare_retention', 'rotate', 'registered_intakes', 'declare_intake', 'begin_intake', 'withdraw_intake', 'hold_intakes', 'take_in', 'take_again', 'read_again', 'unfit_again', 'sweep_inbox']),
    ('observer', array['message_status', 'message_statuses', 'why', 'waiting_messages', 'letters', 'letters_count', 'crossed_alerts', 'recent_alerts', 'fleet', 'error_groups',
      'registered', 'list_schedules', 'circuit_of', 'detail_now', 'gauges', 'limits_now', 'scaling',
      'is_forgotten', 'policy_changes', 'orphaned', 'unsettled', 'is_drained', 'subscriptions', 'operations', 'operation_state', 'segment_now', 'rebase_plan', 'unfit_list', 'unfit_count', 'find_outside', 'inboxes', 'intake_runners'])
$$;

-- role_tables(): what each role may read beside the views, which are the observer's.
create or replace function posthorn.role_tables() returns table (role text, tables text[])
language sql immutable as $$
  values
    ('producer', array['migration', 'installation', 'ring']),
    ('worker', array['migration', 'installation', 'ring', 'attendance']),
    ('observer', array['migration', 'installation', 'ring', 'subscription'])
$$;

-- grant_roles(): gives the roles that may enter this schema what they need, and takes what they had before. Every migration ends with it, so that
-- a role has the rights of the functions of today. Does nothing where the roles were not made: functions then run with the rights of who calls them.
create or replace function posthorn.grant_roles() returns void
language plpgsql as $$
declare
  v_prefix text := 'posthorn'::regnamespace::text || '_';
  v_role record;
  v_function regprocedure;
  v_relation regclass;
begin
  for v_role in select r.role, r.functions, v_prefix || r.role as name from posthorn.role_functions() r join pg_roles p on p.rolname = v_prefix || r.role
      where has_schema_privilege(p.oid, 'posthorn'::regnamespace, 'usage') loop
    execute format('revoke all on all functions in schema posthorn from %1$I; revoke all on all tables in schema posthorn from %1$I;', v_role.name);
    -- The path is their owner's to choose: a function of a caller's own schema would run with the owner's rights.
    for v_function in select oid from pg_proc where pronamespace = 'posthorn'::regnamespace and (proname = any (v_role.functions)
        or (v_role.role = 'worker' and proname in (select unnest(f.functions) from posthorn.role_functions() f where f.role = 'producer'))) loop
      execute format('alter function %s security definer set search_path = pg_catalog, pg_temp; grant execute on function %1$s to %2$I', v_function, v_role.name);
    end loop;
    for v_relation in select c.oid from pg_class c where c.relnamespace = 'posthorn'::regnamespace and ((v_role.role = 'observer' and c.relkind = 'v')
        or c.relname in (select unnest(t.tables) from posthorn.role_tables() t where t.role = v_role.role)) loop
      execute format('grant select on %s to %I', v_relation, v_role.name);
    end loop;
    if v_role.role = 'observer' then
      -- For the views. It reads nothing, and what is called for each row stays a plain function.
      execute format('grant execute on function posthorn.public_id(bigint, bigint) to %I', v_role.name);
    end if;
  end loop;
end $$;
` },
  { name: "functions/91_scaling.sql", text: `-- How many workers each queue and subscription wants. For autoscalers: one statement, bounded, and it changes nothing.

-- claimed_since(subscription, since): messages that workers claimed from then on. Walks the newest claims of each lane back in time, 5000 at most: no
-- queue is so small that its rate would need more.
create or replace function posthorn.claimed_since(p_subscription int, p_since timestamptz) returns bigint
language plpgsql as $$
declare
  v_slot smallint;
  v_lane int;
  v_messages bigint := 0;
begin
  foreach v_slot in array (select r.slots from posthorn.ring r) loop
    for v_lane in select l.lane from posthorn.lane l where l.subscription = p_subscription loop
      v_messages := v_messages + posthorn.claimed_since_of(v_slot, p_subscription, v_lane, p_since);
    end loop;
  end loop;
  return v_messages;
end $$;

select posthorn.by_found_slot('claimed_since_of(p_slot smallint, p_subscription int, p_lane int, p_since timestamptz)', 'bigint',
  $declarations$ v_claim record; v_messages bigint := 0; v_claims int := 0; $declarations$, 'v_slot := p_slot;', $body$
  for v_claim in select cardinality(c.messages) as messages, c.at from posthorn.claim_{slot} c where c.subscription = p_subscription and c.lane = p_lane order by c.n desc loop
    exit when v_claim.at < p_since or v_claims >= 5000;
    v_messages := v_messages + v_claim.messages;
    v_claims := v_claims + 1;
  end loop;
$body$, 'return v_messages;');

-- scaling(): [{ name, kind, channel, backlog, running, ageMs, perSecond, workers, concurrency, workersWanted }] by name.
--   runs      = (running, or else perSecond) the runs that go on at once: by Little's law a run takes runMs = running / perSecond, from 1 ms to an hour
--   drainMs   = half of alerts.oldestAgeMs: what waits is to be done before its age is an alert
--   wanted    = ceil((running + backlog * least(1, runMs / drainMs)) / concurrency); where no rate is known, each waiting message counts as a run
-- At least 1 where anything waits or runs, 0 where nothing does; no more than fleetConcurrency can use, and at most 1000. Of a rate only the last
-- minute counts.
create or replace function posthorn.scaling() returns json
language plpgsql as $$
begin
  perform posthorn.own_transaction(false);
  return (select coalesce(json_agg(json_build_object('name', w.name, 'kind', w.kind, 'channel', w.channel, 'backlog', w.backlog, 'running', w.running,
      'ageMs', w.age_ms, 'perSecond', round(w.per_second::numeric, 3), 'workers', w.workers, 'concurrency', w.concurrency,
      'workersWanted', case when w.backlog + w.running = 0 then 0
        else greatest(1, least(1000, coalesce(ceil(w.fleet_concurrency / w.concurrency), 1000), ceil((w.running + w.backlog * w.share) / w.concurrency))) end)
      order by w.name), '[]')
    from (
      select m.*, case when m.per_second > 0 and m.running > 0
          then least(1, greatest(1, least(3600000, 1000 * m.running / m.per_second)) / m.drain_ms)
          when m.per_second > 0 then least(1, 1000 / m.per_second / m.drain_ms) else 1 end as share
        from (
          select s.name, c.kind, c.name as channel, g.backlog, g.running, g.age_ms, g.workers,
            posthorn.claimed_since(s.id, clock_timestamp() - interval '1 min') / 60.0::float8 as per_second,
            coalesce((s.policy ->> 'concurrency')::float8, 1) as concurrency, (s.policy ->> 'fleetConcurrency')::float8 as fleet_concurrency,
            greatest(1, coalesce((s.policy #>> '{alerts,oldestAgeMs}')::float8, 60000) / 2) as drain_ms
          from posthorn.gauges(1000000) g join posthorn.subscription s on s.id = g.subscription join posthorn.channel c on c.id = s.channel
        ) m
    ) w);
end $$;
` },
  { name: "views.sql", text: `-- For people and tools: stable names over tables that may change.

create or replace view posthorn.backlog as
  select s.name, c.kind, c.name as channel, g.backlog, g.retrying, g.running, g.age_ms, g.dead_letters, g.invalid, g.workers,
    g.workers = 0 as unattended, posthorn.limits_now(s.name) as limits, s.paused_at, s.paused_by, s.paused_reason,
    s.policy -> 'relay' as relay
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

create or replace view posthorn.schedules as
  select s.name, s.cron, s.time_zone, c.name as command, s.missed, s.jitter_ms, s.next_at, s.due_at, s.last_at,
    posthorn.public_id(s.last_message, s.last_nonce) as last_message, s.service, s.declared_at, s.error, s.failed_at
  from posthorn.schedule s join posthorn.contract c on c.id = s.contract;

create or replace view posthorn.workers as
  select w.id, w.service, w.host, w.pid, w.started_at, w.heartbeat_at,
    array(select s.name from posthorn.attendance a join posthorn.subscription s on s.id = a.subscription where a.worker = w.id order by s.name) as works_on
  from posthorn.worker w;

create or replace view posthorn.alerts as
  select coalesce(s.name, i.name) as subscription, a.name as alert, a.value, a.threshold, a.raised_at, a.resolved_at, posthorn.detail_now(a) as detail
  from posthorn.alert a left join posthorn.subscription s on s.id = a.subscription left join posthorn.intake i on i.id = a.intake;

create or replace view posthorn.segments as
  select g.slot, now.segment, now.state, now.opened_at, now.closed_at, now.kept_until, now.bytes, now.pinned_by
  from generate_series(1, 8) g(slot) cross join lateral posthorn.segment_now(g.slot::smallint) now;

create or replace view posthorn.policy_history as
  select s.name as subscription, p.changed_at, p.service, p.host, p.pid, p.library, p.was, p.became
  from posthorn.policy_change p join posthorn.subscription s on s.id = p.subscription;

create or replace view posthorn.orphans as
  select what, name, detail from posthorn.orphaned();

create or replace view posthorn.skipped_events as
  select s.name as subscription, c.name as contract, c.version, k.messages, k.first_at, k.last_at
  from posthorn.skipped k join posthorn.subscription s on s.id = k.subscription join posthorn.contract c on c.id = k.contract;

create or replace view posthorn.circuits as
  select s.name as subscription, coalesce(c.state, 'closed') as state, c.opened_at, c.failures, c.reason, c.probe_at, c.probes,
    case when c.state <> 'closed' and c.reason is not null then c.failed_at[1] end as reason_at
  from posthorn.subscription s left join posthorn.circuit c on c.subscription = s.id where s.has_breaker;

create or replace view posthorn.audit as
  select o.id as operation, o.verb, o.target, o.arguments, o.ordered_by, o.reason, o.begun_at, o.touched_at, o.ended_at,
    posthorn.operation_state(o.state, o.touched_at) as state, o.found, o.done
  from posthorn.operation o;

-- Who runs an intake reports each second; what was said longer ago is not true any more, nor what somebody said who is dead. One that is pushed to is run by
-- many: \`holders\` lists them.
create or replace view posthorn.intakes as
  with runs as materialized (
    select * from posthorn.intake_runners() r where r.seen_at > clock_timestamp() - interval '10 s'
  )
  select i.name, i.service, i.broker, i.place, one.worker, one.host, one.pid, coalesce(now.connected, false) as connected,
    case when now.connected then null else coalesce(i.away_since, i.seen_at) end as away_since,
    case when now.holders is not null then i.trouble end as trouble, i.received + h.received as received, i.written + h.written as written,
    greatest(0, i.received - i.written - i.invalid - i.skipped + h.received - h.written - h.invalid - h.skipped) as duplicates, i.invalid + h.invalid as invalid,
    i.skipped + h.skipped as skipped, greatest(i.last_message_at, h.last_message_at) as last_message_at,
    (select count(*) from posthorn.intake_invalid v where v.intake = i.id) as listed, i.paused_at, i.paused_by, i.paused_reason,
    array(select c.contract from posthorn.intake_contract c where c.intake = i.id order by c.contract) as contracts, i.pushed,
    coalesce(now.holders, '[]') as holders, i.refused + h.refused as refused, h.refused_at, h.refusal,
    case when now.holders is null then i.seen_at end as stopped_at,
    case when h.skipped_at >= coalesce(i.skipped_at, '-infinity') then h.skipped_type else i.skipped_type end as skipped_type,
    greatest(i.skipped_at, h.skipped_at) as skipped_at
  from posthorn.intake i
  left join runs one on one.intake = i.id and one.alone
  cross join lateral (
    select bool_or(r.connected) as connected, json_agg(json_build_object('worker', r.worker::text, 'host', r.host, 'pid', r.pid, 'connected', r.connected,
      'trouble', r.trouble) order by r.worker) as holders from runs r where r.intake = i.id) now
  cross join lateral (
    select coalesce(sum(o.received), 0)::bigint as received, coalesce(sum(o.written), 0)::bigint as written, coalesce(sum(o.invalid), 0)::bigint as invalid,
      coalesce(sum(o.skipped), 0)::bigint as skipped, max(o.last_message_at) as last_message_at, coalesce(sum(o.refused), 0)::bigint as refused,
      -- Of those that are told of now, the last.
      max(o.refused_at) filter (where r.worker is not null) as refused_at,
      (array_agg(o.refusal order by o.refused_at desc) filter (where r.worker is not null and o.refused_at is not null))[1] as refusal,
      max(o.skipped_at) as skipped_at, (array_agg(o.skipped_type order by o.skipped_at desc nulls last))[1] as skipped_type
    from posthorn.intake_holder o left join runs r on r.intake = o.intake and r.worker = o.worker and not r.alone
    where o.intake = i.id) h;
` },
  { name: "grants.sql", text: `-- Nothing is granted to public: not the schema, and no function in it.
revoke all on schema posthorn from public;
revoke all on all tables in schema posthorn from public;
revoke all on all routines in schema posthorn from public;
` },
];
