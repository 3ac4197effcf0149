-- What an operator discarded: kept without its payload for as long as a dead letter would be, so that the question what became of a
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
