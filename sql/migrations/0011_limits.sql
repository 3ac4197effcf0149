-- What a fleet keeps to: how much may run, how fast it may begin, and how much may wait.

-- Whether a claim has to ask for permits. Here, because a claim reads this row anyway.
alter table posthorn.subscription add column limited boolean not null default false;

-- Why a message waits in `deferred` that its key's limit did not let through.
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
-- `tat`: when the next message would begin if they came evenly (the theoretical arrival time of ITU-T I.371). `open_claims`: claims that may be
-- open, each of which is looked at again; `looked_upto`: the number of the newest claim that was looked at, by lane. Nothing is counted here.
create table posthorn.permit (
  subscription int not null references posthorn.subscription (id),
  n bigint not null,
  tat timestamptz not null,
  open_claims bigint[] not null,
  looked_upto bigint[] not null,
  primary key (subscription, n)
);

-- The same for a key, while anything of it is limited. `line_end`: the due time of the last message of the key that was put aside.
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

-- How much may wait in a queue. What is known about it lies in a sequence, `backlog_` and the id of the channel: what is said into it takes part in
-- no transaction, so no producer waits for another, and a refusal that rolls back is not forgotten.
create table posthorn.backlog_limit (
  channel int primary key references posthorn.channel (id),
  subscription int not null references posthorn.subscription (id),
  messages bigint not null check (messages between 1 and 1000000000),
  when_full text not null check (when_full in ('reject', 'wait')),
  wait_ms float8 not null
);

-- Shapes that functions hand to each other. What a claim may take; `permits` is null while another session asks.
create type posthorn.allowance as (
  subscription int, permits int, crowded boolean, at timestamptz, tat timestamptz, gap_ms float8, burst int,
  key_concurrency int, key_gap_ms float8, key_burst int, n bigint, open_claims bigint[], looked_upto bigint[], open_keys jsonb
);
-- How many messages of a key may begin; where its rate stands, and where its line ends.
create type posthorn.key_room as (room int, tat timestamptz, line_end timestamptz);
-- What is known about the backlog of a queue: how much waits, with what was said since it was counted, and when that was.
create type posthorn.backlog_known as (backlog bigint, age_ms float8);
