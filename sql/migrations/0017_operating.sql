-- What operators do: who paused what, and each thing that was ordered, with how far it is.
-- Locks: for a moment, whoever works or sends; for as long as two indexes take, whoever writes to the dead letters and the invalid messages.

alter table posthorn.subscription
  -- Nobody takes anything while it is set. Read together with the rest of the row in every claim.
  add column paused_at timestamptz,
  add column paused_by text,
  add column paused_reason text;

-- One row for each thing that somebody ordered. What takes more than a moment is done in pieces: `place` says where the next one begins, so
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
