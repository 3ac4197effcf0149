-- What is kept: whose a result is, so that it is found by its key when the log has its message no more; and from when on the log has all that was said.
-- Locks: result, access exclusive, for the building of an index of what new workers write, which is empty; retention and the log's messages, access exclusive, for a moment.

-- Null in results that older workers have written: these are found only while the log has their message.
alter table posthorn.result add column key text, add column contract int;
create index result_by_key on posthorn.result (key) where key is not null;

-- What was said before may have gone with a segment; null where none has gone since this is written down.
alter table posthorn.retention add column forgotten_until timestamptz;

-- Of keys that are longer no entry of an index can be made: a reader could neither park nor end such a message. Producers are held to it before;
-- whoever has a producer's rights may call what writes without that.
do $check$ begin
  for slot in 1..8 loop
    execute format('alter table posthorn.message_%1$s add constraint message_%1$s_key_length check (octet_length(key) <= 512) not valid', slot);
  end loop;
end $check$;
