-- What is kept: whose a result is, so that it is found by its key when the log has its message no more; and from when on the log has all that was said.
-- Locks: result, access exclusive, for the building of an index of what new workers write, which is empty; retention, access exclusive, for a moment.

-- Null in results that older workers have written: these are found only while the log has their message.
alter table posthorn.result add column key text, add column contract int;
create index result_by_key on posthorn.result (key) where key is not null;

-- What was said before may have gone with a segment; null where none has gone since this is written down.
alter table posthorn.retention add column forgotten_until timestamptz;
