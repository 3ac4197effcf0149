-- What a topic was declared with.
-- Locks: channel, access exclusive: a column without a default, for a moment.

-- How long its messages stay readable at least; null for what the whole log is kept.
alter table posthorn.channel add column keep_ms float8;
