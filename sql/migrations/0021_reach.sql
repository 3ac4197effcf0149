-- A list of messages of one lane is found through its first one: the second index has one entry for a list, not for each message.
-- Locks: the tables of messages, access exclusive, for as long as an index over what they hold is built. Nothing is rewritten.
do $do$
begin
  for slot in 1..8 loop
    -- The first of a list reaches over the ids up to the last one; null: it lies in the reach of another. A message by itself, as every one of before,
    -- reaches over nothing else.
    execute format('alter table posthorn.message_%1$s add column reach int default 0', slot);
    execute format('drop index posthorn.message_%1$s_by_xid', slot);
    execute format(
      'create index message_%1$s_by_xid on posthorn.message_%1$s (((channel::bigint << 32) | lane), xid, id) where reach is not null', slot);
  end loop;
end $do$;
