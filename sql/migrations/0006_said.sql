-- What a producer may say beside the payload: a time, an expiry, a priority, and what counts as the same request.

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
  -- When to ask whether the row may be forgotten; never before `until`.
  look_at timestamptz not null,
  -- The delivery that the message waited behind.
  behind bigint,
  primary key (name, key)
);
create index dedupe_looks on posthorn.dedupe (look_at);
