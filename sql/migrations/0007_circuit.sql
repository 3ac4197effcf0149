-- A run that its handler put off, and the circuit breaker of a queue or subscription.

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
