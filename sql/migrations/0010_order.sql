-- Order per key: which readers keep it, whose turn it is, and what waits behind what.

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

-- What an ordered claim may take of a page: the first `taken` messages. `messages`, with hashes of their keys, are those that are not cancelled: of
-- them `ids` are to run, and the key of those in `parked` is parked.
create type posthorn.turn as (
  taken int, messages bigint[], message_slots smallint[], keys bigint[], open_from bigint,
  ids bigint[], slots smallint[], items text, parked bigint[], parked_slots smallint[]
);
