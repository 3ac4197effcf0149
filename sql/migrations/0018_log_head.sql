-- What names a message in the log, without what it carries. A shape that functions hand to each other.
-- Locks: nothing that is there already.
create type posthorn.log_head as (id bigint, lane int, nonce bigint, xid xid8, slot smallint);
