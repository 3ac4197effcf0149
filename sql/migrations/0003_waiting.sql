-- What waits or went wrong: ordinary tables, because it is updated, changed and deleted. Rows carry a copy of the message,
-- so that segments can be truncated beneath them.

create sequence posthorn.deferred_id;

create table posthorn.deferred (
  id bigint primary key default nextval('posthorn.deferred_id'),
  subscription int not null references posthorn.subscription (id),
  due_at timestamptz not null,
  -- The delivery that waits here, or runs while `token` is set.
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
