-- Locks: none that a running worker would wait for.
-- Of a page of which some messages are put aside, an answer holds all, and says which to skip: to read and write it anew costs more than the claim.
alter type posthorn.turn add attribute skipped bigint[];
