-- Results, progress, and what was cancelled.

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
