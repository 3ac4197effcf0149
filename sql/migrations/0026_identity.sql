-- What fits nothing is known by its identity and by its content: the same id with another content is another message.
-- Locks: intake_invalid, access exclusive: a column without a default, for a moment. Nothing of the log.

-- What it would be taken in under; its own `mark` is another one. Null where it has no identity, and in entries of before, whose mark is their identity.
alter table posthorn.intake_invalid add column identity uuid;
