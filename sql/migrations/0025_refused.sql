-- What those that are pushed to have refused, and from when on an alert says it; and from how many invalid messages on one says that.
-- Locks: intake and intake_holder, access exclusive: columns of a few rows, for a moment. Nothing of the log.

-- Bounds are null where only a library has declared the intake that does not know them: then there is no alert.
alter table posthorn.intake add column refused_bound bigint, add column invalid_bound bigint,
  -- By holders that are gone.
  add column refused bigint not null default 0;

alter table posthorn.intake_holder
  -- Since it began to hold the intake.
  add column refused bigint not null default 0,
  -- Of what looked like a sender that means this intake, without a long pause in between; when the last was refused, and why. Null while none is.
  add column refused_now bigint, add column refused_at timestamptz, add column refusal text;
