-- Steps: what a handler has done so far of one message, so that a run after this one does not do it again.

create table posthorn.step (
  subscription int not null,
  message bigint not null,
  name text not null,
  -- Null: the step returned undefined. JSON's null is a value.
  result json,
  at timestamptz not null default clock_timestamp(),
  -- The claim that it was recorded under; null for a delivery from `deferred`. A message whose claim is open has not ended.
  claim bigint,
  claim_slot smallint,
  primary key (subscription, message, name)
);
