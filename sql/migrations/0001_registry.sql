-- The registry: which channels, contracts and subscriptions exist, and which server this data belongs to.

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

-- A queue (of commands) or a topic (of events). `lanes` is fixed when the channel is made.
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
