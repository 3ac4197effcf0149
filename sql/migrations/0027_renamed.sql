-- Under which names the inbox knows what an intake took in, where that is not the name of the intake alone: it was renamed.
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
