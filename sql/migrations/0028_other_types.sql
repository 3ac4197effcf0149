-- Which type an intake passed over last because no contract has it, and when: a prefix that is mistyped is seen.
-- Locks: intake and intake_holder, access exclusive: columns without a default of a few rows, for a moment. Nothing of the log.

-- Null while none was, and where only a library has written that does not say it.
alter table posthorn.intake add column skipped_type text, add column skipped_at timestamptz;
alter table posthorn.intake_holder add column skipped_type text, add column skipped_at timestamptz;
