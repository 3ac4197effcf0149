-- Locks: for a moment, whoever writes to the two tables or reads them.
-- What is redriven has the priority that it was said with. Null: a message that ended before; the lane tells, where it came from one.
alter table posthorn.dead_letter add column priority smallint;
alter table posthorn.invalid add column priority smallint;
