-- Where the log came from and where it went. One row for each move, on either side of it; the newest counts.
-- Locks: nothing that is there already.
create table posthorn.move (
  n bigint generated always as identity primary key,
  -- The same on both sides.
  id uuid not null,
  side text not null check (side in ('source', 'target')),
  -- The other side: for people, without a password, and as it tells itself apart.
  other text not null,
  other_system bigint not null,
  other_database oid not null,
  begun_at timestamptz not null default clock_timestamp(),
  -- Of a target: since when it is the owner.
  finished_at timestamptz
);
