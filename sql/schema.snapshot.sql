-- Written by `npm run snapshot` from the catalog of a migrated database; do not edit.

-- tables, columns
table alert.id bigint not null identity
table alert.name text not null
table alert.subscription integer
table alert.raised_at timestamp with time zone not null default clock_timestamp()
table alert.resolved_at timestamp with time zone
table alert.value bigint not null
table alert.threshold bigint not null
table alert.detail text
table alert.intake integer
type allowance.subscription integer
type allowance.permits integer
type allowance.crowded boolean
type allowance.at timestamp with time zone
type allowance.tat timestamp with time zone
type allowance.gap_ms double precision
type allowance.burst integer
type allowance.key_concurrency integer
type allowance.key_gap_ms double precision
type allowance.key_burst integer
type allowance.n bigint
type allowance.open_claims bigint[]
type allowance.looked_upto bigint[]
type allowance.open_keys jsonb
table attendance.worker bigint not null
table attendance.subscription integer not null
table attendance.contracts integer[] not null
table attendance.policy json
type backlog_known.backlog bigint
type backlog_known.age_ms double precision
table backlog_limit.channel integer not null
table backlog_limit.subscription integer not null
table backlog_limit.messages bigint not null
table backlog_limit.when_full text not null
table backlog_limit.wait_ms double precision not null
type batch.ids bigint[]
type batch.slots smallint[]
type batch.items text
table cancel_mark.subscription integer not null
table cancel_mark.message bigint not null
table cancel_request.subscription integer not null
table cancel_request.message bigint not null
table cancel_request.nonce bigint not null
table cancel_request.requested_at timestamp with time zone not null
table cancel_request.requested_by text not null
table cancel_request.erased boolean not null default false
table cancel_request.quiet boolean not null default false
table cancelled.subscription integer not null
table cancelled.message bigint not null
table cancelled.nonce bigint not null
table cancelled.contract integer not null
table cancelled.cancelled_at timestamp with time zone not null
table cancelled.keep_until timestamp with time zone not null
table cancelled.cancelled_by text not null
table cancelled.reason text not null
table cancelled.delivery integer not null
table cancelled.attempts integer not null
table cancelled.published_at timestamp with time zone not null
table cancelled.history json not null
table cancelled.key text
table channel.id integer not null identity
table channel.kind posthorn.kind not null
table channel.name text not null
table channel.lanes integer not null default 1
table channel.created_at timestamp with time zone not null default clock_timestamp()
table channel.keep_ms double precision
table circuit.subscription integer not null
table circuit.state text not null default 'closed'::text
table circuit.failed_at timestamp with time zone[] not null default '{}'::timestamp with time zone[]
table circuit.opened_at timestamp with time zone
table circuit.failures integer
table circuit.reason text
table circuit.open_ms bigint
table circuit.probe_at timestamp with time zone
table circuit.probe bigint
table circuit.probe_worker bigint
table circuit.probe_since timestamp with time zone
table circuit.probes integer not null default 0
table claim_1.id bigint not null
table claim_1.n bigint not null
table claim_1.token bigint not null
table claim_1.worker bigint not null
table claim_1.floor bigint not null
table claim_1.ceiling bigint not null
table claim_1.last_id bigint not null
table claim_1.at timestamp with time zone not null
table claim_1.subscription integer not null
table claim_1.lane integer not null
table claim_1.late boolean not null
table claim_1.took_late boolean not null
table claim_1.late_xids xid8[]
table claim_1.messages bigint[] not null
table claim_1.message_slots smallint[]
table claim_1.keys bigint[]
table claim_1.open_from bigint
table claim_2.id bigint not null
table claim_2.n bigint not null
table claim_2.token bigint not null
table claim_2.worker bigint not null
table claim_2.floor bigint not null
table claim_2.ceiling bigint not null
table claim_2.last_id bigint not null
table claim_2.at timestamp with time zone not null
table claim_2.subscription integer not null
table claim_2.lane integer not null
table claim_2.late boolean not null
table claim_2.took_late boolean not null
table claim_2.late_xids xid8[]
table claim_2.messages bigint[] not null
table claim_2.message_slots smallint[]
table claim_2.keys bigint[]
table claim_2.open_from bigint
table claim_3.id bigint not null
table claim_3.n bigint not null
table claim_3.token bigint not null
table claim_3.worker bigint not null
table claim_3.floor bigint not null
table claim_3.ceiling bigint not null
table claim_3.last_id bigint not null
table claim_3.at timestamp with time zone not null
table claim_3.subscription integer not null
table claim_3.lane integer not null
table claim_3.late boolean not null
table claim_3.took_late boolean not null
table claim_3.late_xids xid8[]
table claim_3.messages bigint[] not null
table claim_3.message_slots smallint[]
table claim_3.keys bigint[]
table claim_3.open_from bigint
table claim_4.id bigint not null
table claim_4.n bigint not null
table claim_4.token bigint not null
table claim_4.worker bigint not null
table claim_4.floor bigint not null
table claim_4.ceiling bigint not null
table claim_4.last_id bigint not null
table claim_4.at timestamp with time zone not null
table claim_4.subscription integer not null
table claim_4.lane integer not null
table claim_4.late boolean not null
table claim_4.took_late boolean not null
table claim_4.late_xids xid8[]
table claim_4.messages bigint[] not null
table claim_4.message_slots smallint[]
table claim_4.keys bigint[]
table claim_4.open_from bigint
table claim_5.id bigint not null
table claim_5.n bigint not null
table claim_5.token bigint not null
table claim_5.worker bigint not null
table claim_5.floor bigint not null
table claim_5.ceiling bigint not null
table claim_5.last_id bigint not null
table claim_5.at timestamp with time zone not null
table claim_5.subscription integer not null
table claim_5.lane integer not null
table claim_5.late boolean not null
table claim_5.took_late boolean not null
table claim_5.late_xids xid8[]
table claim_5.messages bigint[] not null
table claim_5.message_slots smallint[]
table claim_5.keys bigint[]
table claim_5.open_from bigint
table claim_6.id bigint not null
table claim_6.n bigint not null
table claim_6.token bigint not null
table claim_6.worker bigint not null
table claim_6.floor bigint not null
table claim_6.ceiling bigint not null
table claim_6.last_id bigint not null
table claim_6.at timestamp with time zone not null
table claim_6.subscription integer not null
table claim_6.lane integer not null
table claim_6.late boolean not null
table claim_6.took_late boolean not null
table claim_6.late_xids xid8[]
table claim_6.messages bigint[] not null
table claim_6.message_slots smallint[]
table claim_6.keys bigint[]
table claim_6.open_from bigint
table claim_7.id bigint not null
table claim_7.n bigint not null
table claim_7.token bigint not null
table claim_7.worker bigint not null
table claim_7.floor bigint not null
table claim_7.ceiling bigint not null
table claim_7.last_id bigint not null
table claim_7.at timestamp with time zone not null
table claim_7.subscription integer not null
table claim_7.lane integer not null
table claim_7.late boolean not null
table claim_7.took_late boolean not null
table claim_7.late_xids xid8[]
table claim_7.messages bigint[] not null
table claim_7.message_slots smallint[]
table claim_7.keys bigint[]
table claim_7.open_from bigint
table claim_8.id bigint not null
table claim_8.n bigint not null
table claim_8.token bigint not null
table claim_8.worker bigint not null
table claim_8.floor bigint not null
table claim_8.ceiling bigint not null
table claim_8.last_id bigint not null
table claim_8.at timestamp with time zone not null
table claim_8.subscription integer not null
table claim_8.lane integer not null
table claim_8.late boolean not null
table claim_8.took_late boolean not null
table claim_8.late_xids xid8[]
table claim_8.messages bigint[] not null
table claim_8.message_slots smallint[]
table claim_8.keys bigint[]
table claim_8.open_from bigint
table contract.id integer not null identity
table contract.name text not null
table contract.version integer not null
table contract.kind posthorn.kind not null
table contract.channel integer not null
table contract.keyed boolean not null
table contract.owner text
table contract.registered_by text not null
table contract.registered_at timestamp with time zone not null default clock_timestamp()
table dead_letter.id bigint not null identity
table dead_letter.subscription integer not null
table dead_letter.died_at timestamp with time zone not null
table dead_letter.keep_until timestamp with time zone not null
table dead_letter.reason text not null
table dead_letter.delivery integer not null
table dead_letter.attempts integer not null
table dead_letter.crashes integer not null
table dead_letter.message bigint not null
table dead_letter.nonce bigint not null
table dead_letter.channel integer not null
table dead_letter.lane integer not null
table dead_letter.contract integer not null
table dead_letter.key text
table dead_letter.payload json not null
table dead_letter.headers json
table dead_letter.published_at timestamp with time zone not null
table dead_letter.history json not null
table dead_letter.place bigint
table dead_letter.priority smallint
table dedupe.name text not null
table dedupe.key text not null
table dedupe.subscription integer not null
table dedupe.message bigint not null
table dedupe.nonce bigint not null
table dedupe.until timestamp with time zone not null
table dedupe.since timestamp with time zone not null
table dedupe.look_at timestamp with time zone not null
table dedupe.behind bigint
table deferred.id bigint not null default nextval('posthorn.deferred_id'::regclass)
table deferred.subscription integer not null
table deferred.due_at timestamp with time zone not null
table deferred.delivery integer not null
table deferred.attempts integer not null
table deferred.crashes integer not null
table deferred.reason posthorn.outcome not null
table deferred.token bigint
table deferred.worker bigint
table deferred.taken_at timestamp with time zone
table deferred.message bigint not null
table deferred.nonce bigint not null
table deferred.channel integer not null
table deferred.lane integer not null
table deferred.contract integer not null
table deferred.key text
table deferred.payload json not null
table deferred.headers json
table deferred.published_at timestamp with time zone not null
table deferred.history json not null
table deferred.expires_at timestamp with time zone
table deferred.priority smallint not null default 0
table deferred.once_more boolean not null default false
table deferred.behind bigint
table deferred.place bigint
table deferred.since timestamp with time zone
table discarded.subscription integer not null
table discarded.message bigint not null
table discarded.nonce bigint not null
table discarded.contract integer not null
table discarded.discarded_at timestamp with time zone not null
table discarded.keep_until timestamp with time zone not null
table discarded.discarded_by text not null
table discarded.reason text not null
table discarded.list text not null
table discarded.delivery integer not null
table discarded.attempts integer not null
table discarded.published_at timestamp with time zone not null
table discarded.history json not null
table discarded.key text
table ending_1.message bigint not null
table ending_1.claim bigint
table ending_1.worker bigint
table ending_1.at timestamp with time zone not null
table ending_1.subscription integer not null
table ending_1.delivery integer not null
table ending_1.outcome posthorn.outcome not null
table ending_2.message bigint not null
table ending_2.claim bigint
table ending_2.worker bigint
table ending_2.at timestamp with time zone not null
table ending_2.subscription integer not null
table ending_2.delivery integer not null
table ending_2.outcome posthorn.outcome not null
table ending_3.message bigint not null
table ending_3.claim bigint
table ending_3.worker bigint
table ending_3.at timestamp with time zone not null
table ending_3.subscription integer not null
table ending_3.delivery integer not null
table ending_3.outcome posthorn.outcome not null
table ending_4.message bigint not null
table ending_4.claim bigint
table ending_4.worker bigint
table ending_4.at timestamp with time zone not null
table ending_4.subscription integer not null
table ending_4.delivery integer not null
table ending_4.outcome posthorn.outcome not null
table ending_5.message bigint not null
table ending_5.claim bigint
table ending_5.worker bigint
table ending_5.at timestamp with time zone not null
table ending_5.subscription integer not null
table ending_5.delivery integer not null
table ending_5.outcome posthorn.outcome not null
table ending_6.message bigint not null
table ending_6.claim bigint
table ending_6.worker bigint
table ending_6.at timestamp with time zone not null
table ending_6.subscription integer not null
table ending_6.delivery integer not null
table ending_6.outcome posthorn.outcome not null
table ending_7.message bigint not null
table ending_7.claim bigint
table ending_7.worker bigint
table ending_7.at timestamp with time zone not null
table ending_7.subscription integer not null
table ending_7.delivery integer not null
table ending_7.outcome posthorn.outcome not null
table ending_8.message bigint not null
table ending_8.claim bigint
table ending_8.worker bigint
table ending_8.at timestamp with time zone not null
table ending_8.subscription integer not null
table ending_8.delivery integer not null
table ending_8.outcome posthorn.outcome not null
table epoch.n integer not null
table epoch.system_identifier bigint not null
table epoch.database oid not null
table epoch.first_id bigint not null
table epoch.begun_at timestamp with time zone not null default clock_timestamp()
table inbox.mark uuid not null
table inbox.intake integer not null
table inbox.keep_until timestamp with time zone not null
table inbox_name.name text not null
table inbox_name.intake text not null
table inbox_name.until timestamp with time zone
table installation.singleton boolean not null default true
table installation.functions_digest text not null
table installation.library text
table installation.oldest_library text
table intake.id integer not null identity
table intake.name text not null
table intake.service text not null
table intake.broker text not null
table intake.place text not null
table intake.keep_ms double precision not null
table intake.away_ms double precision not null
table intake.declared_at timestamp with time zone not null default clock_timestamp()
table intake.worker bigint
table intake.held_at timestamp with time zone
table intake.seen_at timestamp with time zone not null default clock_timestamp()
table intake.away_since timestamp with time zone default clock_timestamp()
table intake.trouble text
table intake.received bigint not null default 0
table intake.written bigint not null default 0
table intake.invalid bigint not null default 0
table intake.skipped bigint not null default 0
table intake.last_message_at timestamp with time zone
table intake.paused_at timestamp with time zone
table intake.paused_by text
table intake.paused_reason text
table intake.pushed boolean not null default false
table intake.refused_bound bigint
table intake.invalid_bound bigint
table intake.refused bigint not null default 0
table intake.skipped_type text
table intake.skipped_at timestamp with time zone
table intake_contract.intake integer not null
table intake_contract.contract text not null
table intake_holder.intake integer not null
table intake_holder.worker bigint not null
table intake_holder.held_at timestamp with time zone not null default clock_timestamp()
table intake_holder.seen_at timestamp with time zone not null default clock_timestamp()
table intake_holder.connected boolean not null
table intake_holder.trouble text
table intake_holder.received bigint not null default 0
table intake_holder.written bigint not null default 0
table intake_holder.invalid bigint not null default 0
table intake_holder.skipped bigint not null default 0
table intake_holder.last_message_at timestamp with time zone
table intake_holder.refused bigint not null default 0
table intake_holder.refused_now bigint
table intake_holder.refused_at timestamp with time zone
table intake_holder.refusal text
table intake_holder.skipped_type text
table intake_holder.skipped_at timestamp with time zone
table intake_invalid.id bigint not null identity
table intake_invalid.intake integer not null
table intake_invalid.mark uuid not null
table intake_invalid.found_at timestamp with time zone not null
table intake_invalid.times integer not null default 1
table intake_invalid.last_at timestamp with time zone not null
table intake_invalid.reason text not null
table intake_invalid.source text
table intake_invalid.event text
table intake_invalid.type text
table intake_invalid.content_type text
table intake_invalid.headers json not null
table intake_invalid.key text
table intake_invalid.broker_id text
table intake_invalid.position text
table intake_invalid.body bytea not null
table intake_invalid.bytes bigint not null
table intake_invalid.whole boolean not null
table intake_invalid.redrive_at timestamp with time zone
table intake_invalid.redrive_by text
table intake_invalid.identity uuid
table invalid.id bigint not null identity
table invalid.subscription integer not null
table invalid.found_at timestamp with time zone not null
table invalid.issues json not null
table invalid.delivery integer not null
table invalid.message bigint not null
table invalid.nonce bigint not null
table invalid.channel integer not null
table invalid.lane integer not null
table invalid.contract integer not null
table invalid.key text
table invalid.payload json not null
table invalid.headers json
table invalid.published_at timestamp with time zone not null
table invalid.history json not null
table invalid.place bigint
table invalid.priority smallint
table key_permit.subscription integer not null
table key_permit.key text not null
table key_permit.tat timestamp with time zone not null
table key_permit.line_end timestamp with time zone not null
type key_room.room integer
type key_room.tat timestamp with time zone
type key_room.line_end timestamp with time zone
table lane.subscription integer not null
table lane.lane integer not null
table lane.slot smallint not null
table lane.n bigint not null
table lane.floor bigint not null
table lane.ceiling bigint not null
table lane.last_id bigint not null
table lane.late boolean not null
table lane.late_xids xid8[]
table lane.read_from bigint not null default 1
table lane.held_from bigint not null default 1
type log_head.id bigint
type log_head.lane integer
type log_head.nonce bigint
type log_head.xid xid8
type log_head.slot smallint
table maintenance.name text not null
table maintenance.ran_at timestamp with time zone not null
table maintenance.notes json
table message_1.xid xid8 not null
table message_1.id bigint not null
table message_1.nonce bigint not null
table message_1.published_at timestamp with time zone not null
table message_1.channel integer not null
table message_1.lane integer not null
table message_1.contract integer not null
table message_1.key text
table message_1.payload json not null
table message_1.headers json
table message_1.expires_at timestamp with time zone
table message_1.reach integer default 0
table message_2.xid xid8 not null
table message_2.id bigint not null
table message_2.nonce bigint not null
table message_2.published_at timestamp with time zone not null
table message_2.channel integer not null
table message_2.lane integer not null
table message_2.contract integer not null
table message_2.key text
table message_2.payload json not null
table message_2.headers json
table message_2.expires_at timestamp with time zone
table message_2.reach integer default 0
table message_3.xid xid8 not null
table message_3.id bigint not null
table message_3.nonce bigint not null
table message_3.published_at timestamp with time zone not null
table message_3.channel integer not null
table message_3.lane integer not null
table message_3.contract integer not null
table message_3.key text
table message_3.payload json not null
table message_3.headers json
table message_3.expires_at timestamp with time zone
table message_3.reach integer default 0
table message_4.xid xid8 not null
table message_4.id bigint not null
table message_4.nonce bigint not null
table message_4.published_at timestamp with time zone not null
table message_4.channel integer not null
table message_4.lane integer not null
table message_4.contract integer not null
table message_4.key text
table message_4.payload json not null
table message_4.headers json
table message_4.expires_at timestamp with time zone
table message_4.reach integer default 0
table message_5.xid xid8 not null
table message_5.id bigint not null
table message_5.nonce bigint not null
table message_5.published_at timestamp with time zone not null
table message_5.channel integer not null
table message_5.lane integer not null
table message_5.contract integer not null
table message_5.key text
table message_5.payload json not null
table message_5.headers json
table message_5.expires_at timestamp with time zone
table message_5.reach integer default 0
table message_6.xid xid8 not null
table message_6.id bigint not null
table message_6.nonce bigint not null
table message_6.published_at timestamp with time zone not null
table message_6.channel integer not null
table message_6.lane integer not null
table message_6.contract integer not null
table message_6.key text
table message_6.payload json not null
table message_6.headers json
table message_6.expires_at timestamp with time zone
table message_6.reach integer default 0
table message_7.xid xid8 not null
table message_7.id bigint not null
table message_7.nonce bigint not null
table message_7.published_at timestamp with time zone not null
table message_7.channel integer not null
table message_7.lane integer not null
table message_7.contract integer not null
table message_7.key text
table message_7.payload json not null
table message_7.headers json
table message_7.expires_at timestamp with time zone
table message_7.reach integer default 0
table message_8.xid xid8 not null
table message_8.id bigint not null
table message_8.nonce bigint not null
table message_8.published_at timestamp with time zone not null
table message_8.channel integer not null
table message_8.lane integer not null
table message_8.contract integer not null
table message_8.key text
table message_8.payload json not null
table message_8.headers json
table message_8.expires_at timestamp with time zone
table message_8.reach integer default 0
table migration.n integer not null
table migration.name text not null
table migration.applied_at timestamp with time zone not null default clock_timestamp()
table move.n bigint not null identity
table move.id uuid not null
table move.side text not null
table move.other text not null
table move.other_system bigint not null
table move.other_database oid not null
table move.begun_at timestamp with time zone not null default clock_timestamp()
table move.finished_at timestamp with time zone
table operation.id bigint not null identity
table operation.verb text not null
table operation.target text
table operation.arguments json not null default '{}'::json
table operation.ordered_by text not null
table operation.reason text
table operation.begun_at timestamp with time zone not null default clock_timestamp()
table operation.touched_at timestamp with time zone not null default clock_timestamp()
table operation.ended_at timestamp with time zone
table operation.state text not null default 'running'::text
table operation.found bigint not null default 0
table operation.done bigint not null default 0
table operation.place json not null default '{}'::json
table parked_key.subscription integer not null
table parked_key.key text not null
table parked_key.parked_at timestamp with time zone not null default clock_timestamp()
table permit.subscription integer not null
table permit.n bigint not null
table permit.tat timestamp with time zone not null
table permit.open_claims bigint[] not null
table permit.looked_upto bigint[] not null
table policy_change.id bigint not null identity
table policy_change.subscription integer not null
table policy_change.changed_at timestamp with time zone not null default clock_timestamp()
table policy_change.service text not null
table policy_change.host text
table policy_change.pid integer
table policy_change.library text
table policy_change.was json
table policy_change.became json not null
type position.slot smallint
type position.n bigint
type position.floor bigint
type position.ceiling bigint
type position.last_id bigint
type position.late boolean
type position.late_xids xid8[]
table progress.subscription integer not null
table progress.message bigint not null
table progress.delivery integer not null
table progress.worker bigint not null
table progress.at timestamp with time zone not null
table progress.value json not null
table result.subscription integer not null
table result.message bigint not null
table result.nonce bigint not null
table result.ended_at timestamp with time zone not null
table result.keep_until timestamp with time zone not null
table result.result json not null
table result.key text
table result.contract integer
table retention.singleton boolean not null default true
table retention.keep_ms double precision not null
table retention.max_bytes bigint not null
table retention.declared_by text not null
table retention.declared_at timestamp with time zone not null default clock_timestamp()
table retention.forgotten_until timestamp with time zone
table ring.singleton boolean not null default true
table ring.slots smallint[] not null
table ring.slot smallint not null
table ring.system_identifier bigint not null
table ring.database oid not null
table ring.first_id bigint not null
table ring.first_segment bigint not null default 1
table ring.forgotten_upto bigint not null default 0
table run_limit.subscription integer not null
table run_limit.rate_messages double precision
table run_limit.rate_ms double precision
table run_limit.rate_burst integer
table run_limit.fleet_concurrency integer
table run_limit.key_rate_messages double precision
table run_limit.key_rate_ms double precision
table run_limit.key_rate_burst integer
table run_limit.key_concurrency integer
table schedule.name text not null
table schedule.revision bigint not null default nextval('posthorn.schedule_revision'::regclass)
table schedule.cron text not null
table schedule.time_zone text not null
table schedule.contract integer not null
table schedule.missed text not null
table schedule.jitter_ms integer not null
table schedule.payload json
table schedule.key text
table schedule.headers json
table schedule.function text
table schedule.next_at timestamp(3) with time zone not null
table schedule.due_at timestamp(3) with time zone not null
table schedule.last_at timestamp(3) with time zone
table schedule.last_message bigint
table schedule.last_nonce bigint
table schedule.error text
table schedule.failed_at timestamp with time zone
table schedule.service text not null
table schedule.declared_at timestamp with time zone not null default clock_timestamp()
table segment.n bigint not null
table segment.slot smallint not null
table segment.opened_at timestamp with time zone not null default clock_timestamp()
table segment.closed_at timestamp with time zone
table segment.closed_xid xid8
table segment.sealed_at timestamp with time zone
table segment.sealed_xid xid8
table segment.sealed_id bigint
table segment.finished_xid xid8
table settlement_1.claim bigint not null
table settlement_1.part integer not null
table settlement_1.outcome posthorn.outcome
table settlement_1.closes boolean not null
table settlement_1.at timestamp with time zone not null
table settlement_1.messages bigint[]
table settlement_2.claim bigint not null
table settlement_2.part integer not null
table settlement_2.outcome posthorn.outcome
table settlement_2.closes boolean not null
table settlement_2.at timestamp with time zone not null
table settlement_2.messages bigint[]
table settlement_3.claim bigint not null
table settlement_3.part integer not null
table settlement_3.outcome posthorn.outcome
table settlement_3.closes boolean not null
table settlement_3.at timestamp with time zone not null
table settlement_3.messages bigint[]
table settlement_4.claim bigint not null
table settlement_4.part integer not null
table settlement_4.outcome posthorn.outcome
table settlement_4.closes boolean not null
table settlement_4.at timestamp with time zone not null
table settlement_4.messages bigint[]
table settlement_5.claim bigint not null
table settlement_5.part integer not null
table settlement_5.outcome posthorn.outcome
table settlement_5.closes boolean not null
table settlement_5.at timestamp with time zone not null
table settlement_5.messages bigint[]
table settlement_6.claim bigint not null
table settlement_6.part integer not null
table settlement_6.outcome posthorn.outcome
table settlement_6.closes boolean not null
table settlement_6.at timestamp with time zone not null
table settlement_6.messages bigint[]
table settlement_7.claim bigint not null
table settlement_7.part integer not null
table settlement_7.outcome posthorn.outcome
table settlement_7.closes boolean not null
table settlement_7.at timestamp with time zone not null
table settlement_7.messages bigint[]
table settlement_8.claim bigint not null
table settlement_8.part integer not null
table settlement_8.outcome posthorn.outcome
table settlement_8.closes boolean not null
table settlement_8.at timestamp with time zone not null
table settlement_8.messages bigint[]
table skipped.subscription integer not null
table skipped.contract integer not null
table skipped.messages bigint not null
table skipped.first_at timestamp with time zone not null
table skipped.last_at timestamp with time zone not null
table step.subscription integer not null
table step.message bigint not null
table step.name text not null
table step.result json
table step.at timestamp with time zone not null default clock_timestamp()
table step.claim bigint
table step.claim_slot smallint
type stored.id bigint
type stored.nonce bigint
type stored.contract integer
type stored.key text
type stored.payload json
type stored.headers json
type stored.published_at timestamp with time zone
type stored.slot smallint
type stored.expires_at timestamp with time zone
table subscription.id integer not null identity
table subscription.name text not null
table subscription.channel integer not null
table subscription.idempotency posthorn.idempotency
table subscription.policy json
table subscription.service text
table subscription.created_at timestamp with time zone not null default clock_timestamp()
table subscription.declared_at timestamp with time zone
table subscription.redelivery_ms double precision
table subscription.has_breaker boolean not null generated default ((policy ->> 'circuitBreaker'::text) IS NOT NULL)
table subscription.ordering text
table subscription.limited boolean not null default false
table subscription.paused_at timestamp with time zone
table subscription.paused_by text
table subscription.paused_reason text
type tick.id bigint
type tick.ceiling_id bigint
type tick.snapshot pg_snapshot
table tick_1.id bigint not null
table tick_1.ceiling_id bigint not null
table tick_1.snapshot pg_snapshot not null
table tick_1.at timestamp with time zone not null
table tick_2.id bigint not null
table tick_2.ceiling_id bigint not null
table tick_2.snapshot pg_snapshot not null
table tick_2.at timestamp with time zone not null
table tick_3.id bigint not null
table tick_3.ceiling_id bigint not null
table tick_3.snapshot pg_snapshot not null
table tick_3.at timestamp with time zone not null
table tick_4.id bigint not null
table tick_4.ceiling_id bigint not null
table tick_4.snapshot pg_snapshot not null
table tick_4.at timestamp with time zone not null
table tick_5.id bigint not null
table tick_5.ceiling_id bigint not null
table tick_5.snapshot pg_snapshot not null
table tick_5.at timestamp with time zone not null
table tick_6.id bigint not null
table tick_6.ceiling_id bigint not null
table tick_6.snapshot pg_snapshot not null
table tick_6.at timestamp with time zone not null
table tick_7.id bigint not null
table tick_7.ceiling_id bigint not null
table tick_7.snapshot pg_snapshot not null
table tick_7.at timestamp with time zone not null
table tick_8.id bigint not null
table tick_8.ceiling_id bigint not null
table tick_8.snapshot pg_snapshot not null
table tick_8.at timestamp with time zone not null
type turn.taken integer
type turn.messages bigint[]
type turn.message_slots smallint[]
type turn.keys bigint[]
type turn.open_from bigint
type turn.ids bigint[]
type turn.slots smallint[]
type turn.items text
type turn.parked bigint[]
type turn.parked_slots smallint[]
type turn.skipped bigint[]
table worker.id bigint not null identity
table worker.service text not null
table worker.host text not null
table worker.pid integer not null
table worker.started_at timestamp with time zone not null default clock_timestamp()
table worker.heartbeat_at timestamp with time zone not null default clock_timestamp()
table worker.timeout_ms integer not null
table worker.session_key bigint
table worker.backends json not null default '[]'::json
table worker.server_started_at timestamp with time zone not null default pg_postmaster_start_time()
table worker.oldest_open_claim bigint not null
table worker.library text

-- storage options

-- constraints
constraint alert_intake_fkey on posthorn.alert FOREIGN KEY (intake) REFERENCES posthorn.intake(id) ON DELETE CASCADE
constraint alert_pkey on posthorn.alert PRIMARY KEY (id)
constraint alert_subscription_fkey on posthorn.alert FOREIGN KEY (subscription) REFERENCES posthorn.subscription(id)
constraint attendance_pkey on posthorn.attendance PRIMARY KEY (worker, subscription)
constraint attendance_subscription_fkey on posthorn.attendance FOREIGN KEY (subscription) REFERENCES posthorn.subscription(id)
constraint attendance_worker_fkey on posthorn.attendance FOREIGN KEY (worker) REFERENCES posthorn.worker(id) ON DELETE CASCADE
constraint backlog_limit_channel_fkey on posthorn.backlog_limit FOREIGN KEY (channel) REFERENCES posthorn.channel(id)
constraint backlog_limit_messages_check on posthorn.backlog_limit CHECK (((messages >= 1) AND (messages <= 1000000000)))
constraint backlog_limit_pkey on posthorn.backlog_limit PRIMARY KEY (channel)
constraint backlog_limit_subscription_fkey on posthorn.backlog_limit FOREIGN KEY (subscription) REFERENCES posthorn.subscription(id)
constraint backlog_limit_when_full_check on posthorn.backlog_limit CHECK ((when_full = ANY (ARRAY['reject'::text, 'wait'::text])))
constraint cancel_mark_pkey on posthorn.cancel_mark PRIMARY KEY (subscription, message)
constraint cancel_mark_subscription_fkey on posthorn.cancel_mark FOREIGN KEY (subscription) REFERENCES posthorn.subscription(id)
constraint cancel_request_pkey on posthorn.cancel_request PRIMARY KEY (subscription, message)
constraint cancel_request_subscription_fkey on posthorn.cancel_request FOREIGN KEY (subscription) REFERENCES posthorn.subscription(id)
constraint cancelled_pkey on posthorn.cancelled PRIMARY KEY (subscription, message)
constraint cancelled_subscription_fkey on posthorn.cancelled FOREIGN KEY (subscription) REFERENCES posthorn.subscription(id)
constraint channel_kind_name_key on posthorn.channel UNIQUE (kind, name)
constraint channel_lanes_check on posthorn.channel CHECK (((lanes >= 1) AND (lanes <= 1024)))
constraint channel_name_check on posthorn.channel CHECK (((length(name) >= 1) AND (length(name) <= 80)))
constraint channel_pkey on posthorn.channel PRIMARY KEY (id)
constraint circuit_pkey on posthorn.circuit PRIMARY KEY (subscription)
constraint circuit_state_check on posthorn.circuit CHECK ((state = ANY (ARRAY['closed'::text, 'open'::text, 'half-open'::text])))
constraint circuit_subscription_fkey on posthorn.circuit FOREIGN KEY (subscription) REFERENCES posthorn.subscription(id)
constraint contract_channel_fkey on posthorn.contract FOREIGN KEY (channel) REFERENCES posthorn.channel(id)
constraint contract_name_check on posthorn.contract CHECK (((length(name) >= 1) AND (length(name) <= 80)))
constraint contract_name_version_key on posthorn.contract UNIQUE (name, version)
constraint contract_pkey on posthorn.contract PRIMARY KEY (id)
constraint contract_version_check on posthorn.contract CHECK ((version >= 1))
constraint dead_letter_pkey on posthorn.dead_letter PRIMARY KEY (id)
constraint dead_letter_subscription_fkey on posthorn.dead_letter FOREIGN KEY (subscription) REFERENCES posthorn.subscription(id)
constraint dead_letter_subscription_message_key on posthorn.dead_letter UNIQUE (subscription, message)
constraint dedupe_pkey on posthorn.dedupe PRIMARY KEY (name, key)
constraint deferred_pkey on posthorn.deferred PRIMARY KEY (id)
constraint deferred_subscription_message_key on posthorn.deferred UNIQUE (subscription, message)
constraint discarded_list_check on posthorn.discarded CHECK ((list = ANY (ARRAY['dead-letters'::text, 'invalid'::text, 'waiting'::text, 'erased'::text])))
constraint discarded_pkey on posthorn.discarded PRIMARY KEY (subscription, message)
constraint discarded_subscription_fkey on posthorn.discarded FOREIGN KEY (subscription) REFERENCES posthorn.subscription(id)
constraint epoch_pkey on posthorn.epoch PRIMARY KEY (n)
constraint inbox_pkey on posthorn.inbox PRIMARY KEY (mark)
constraint inbox_name_pkey on posthorn.inbox_name PRIMARY KEY (name)
constraint installation_pkey on posthorn.installation PRIMARY KEY (singleton)
constraint installation_singleton_check on posthorn.installation CHECK (singleton)
constraint intake_name_key on posthorn.intake UNIQUE (name)
constraint intake_pkey on posthorn.intake PRIMARY KEY (id)
constraint intake_contract_intake_fkey on posthorn.intake_contract FOREIGN KEY (intake) REFERENCES posthorn.intake(id) ON DELETE CASCADE
constraint intake_contract_pkey on posthorn.intake_contract PRIMARY KEY (intake, contract)
constraint intake_holder_intake_fkey on posthorn.intake_holder FOREIGN KEY (intake) REFERENCES posthorn.intake(id) ON DELETE CASCADE
constraint intake_holder_pkey on posthorn.intake_holder PRIMARY KEY (intake, worker)
constraint intake_invalid_intake_fkey on posthorn.intake_invalid FOREIGN KEY (intake) REFERENCES posthorn.intake(id) ON DELETE CASCADE
constraint intake_invalid_intake_mark_key on posthorn.intake_invalid UNIQUE (intake, mark)
constraint intake_invalid_pkey on posthorn.intake_invalid PRIMARY KEY (id)
constraint invalid_pkey on posthorn.invalid PRIMARY KEY (id)
constraint invalid_subscription_fkey on posthorn.invalid FOREIGN KEY (subscription) REFERENCES posthorn.subscription(id)
constraint invalid_subscription_message_key on posthorn.invalid UNIQUE (subscription, message)
constraint key_permit_pkey on posthorn.key_permit PRIMARY KEY (subscription, key)
constraint key_permit_subscription_fkey on posthorn.key_permit FOREIGN KEY (subscription) REFERENCES posthorn.subscription(id)
constraint lane_pkey on posthorn.lane PRIMARY KEY (subscription, lane)
constraint lane_subscription_fkey on posthorn.lane FOREIGN KEY (subscription) REFERENCES posthorn.subscription(id)
constraint maintenance_pkey on posthorn.maintenance PRIMARY KEY (name)
constraint message_1_key_length on posthorn.message_1 CHECK ((octet_length(key) <= 512)) NOT VALID
constraint message_2_key_length on posthorn.message_2 CHECK ((octet_length(key) <= 512)) NOT VALID
constraint message_3_key_length on posthorn.message_3 CHECK ((octet_length(key) <= 512)) NOT VALID
constraint message_4_key_length on posthorn.message_4 CHECK ((octet_length(key) <= 512)) NOT VALID
constraint message_5_key_length on posthorn.message_5 CHECK ((octet_length(key) <= 512)) NOT VALID
constraint message_6_key_length on posthorn.message_6 CHECK ((octet_length(key) <= 512)) NOT VALID
constraint message_7_key_length on posthorn.message_7 CHECK ((octet_length(key) <= 512)) NOT VALID
constraint message_8_key_length on posthorn.message_8 CHECK ((octet_length(key) <= 512)) NOT VALID
constraint migration_pkey on posthorn.migration PRIMARY KEY (n)
constraint move_pkey on posthorn.move PRIMARY KEY (n)
constraint move_side_check on posthorn.move CHECK ((side = ANY (ARRAY['source'::text, 'target'::text])))
constraint operation_pkey on posthorn.operation PRIMARY KEY (id)
constraint operation_state_check on posthorn.operation CHECK ((state = ANY (ARRAY['running'::text, 'done'::text, 'stopped'::text])))
constraint operation_verb_check on posthorn.operation CHECK ((verb = ANY (ARRAY['pause'::text, 'resume'::text, 'purge'::text, 'redrive'::text, 'discard'::text, 'replay'::text, 'erase'::text, 'remove'::text, 'rename'::text])))
constraint parked_key_pkey on posthorn.parked_key PRIMARY KEY (subscription, key)
constraint parked_key_subscription_fkey on posthorn.parked_key FOREIGN KEY (subscription) REFERENCES posthorn.subscription(id)
constraint permit_pkey on posthorn.permit PRIMARY KEY (subscription, n)
constraint permit_subscription_fkey on posthorn.permit FOREIGN KEY (subscription) REFERENCES posthorn.subscription(id)
constraint policy_change_pkey on posthorn.policy_change PRIMARY KEY (id)
constraint policy_change_subscription_fkey on posthorn.policy_change FOREIGN KEY (subscription) REFERENCES posthorn.subscription(id) ON DELETE CASCADE
constraint progress_pkey on posthorn.progress PRIMARY KEY (subscription, message)
constraint progress_subscription_fkey on posthorn.progress FOREIGN KEY (subscription) REFERENCES posthorn.subscription(id)
constraint result_pkey on posthorn.result PRIMARY KEY (subscription, message)
constraint result_subscription_fkey on posthorn.result FOREIGN KEY (subscription) REFERENCES posthorn.subscription(id)
constraint retention_pkey on posthorn.retention PRIMARY KEY (singleton)
constraint retention_singleton_check on posthorn.retention CHECK (singleton)
constraint ring_pkey on posthorn.ring PRIMARY KEY (singleton)
constraint ring_singleton_check on posthorn.ring CHECK (singleton)
constraint ring_slot_check on posthorn.ring CHECK (((slot >= 1) AND (slot <= 8)))
constraint run_limit_pkey on posthorn.run_limit PRIMARY KEY (subscription)
constraint run_limit_subscription_fkey on posthorn.run_limit FOREIGN KEY (subscription) REFERENCES posthorn.subscription(id)
constraint schedule_check on posthorn.schedule CHECK (((payload IS NULL) = (function IS NOT NULL)))
constraint schedule_contract_fkey on posthorn.schedule FOREIGN KEY (contract) REFERENCES posthorn.contract(id)
constraint schedule_jitter_ms_check on posthorn.schedule CHECK ((jitter_ms >= 0))
constraint schedule_missed_check on posthorn.schedule CHECK ((missed = ANY (ARRAY['skip'::text, 'once'::text, 'all'::text])))
constraint schedule_name_check on posthorn.schedule CHECK (((length(name) >= 1) AND (length(name) <= 80)))
constraint schedule_pkey on posthorn.schedule PRIMARY KEY (name)
constraint segment_pkey on posthorn.segment PRIMARY KEY (n)
constraint segment_slot_check on posthorn.segment CHECK (((slot >= 1) AND (slot <= 8)))
constraint segment_slot_key on posthorn.segment UNIQUE (slot)
constraint skipped_pkey on posthorn.skipped PRIMARY KEY (subscription, contract)
constraint step_pkey on posthorn.step PRIMARY KEY (subscription, message, name)
constraint subscription_channel_fkey on posthorn.subscription FOREIGN KEY (channel) REFERENCES posthorn.channel(id)
constraint subscription_name_check on posthorn.subscription CHECK (((length(name) >= 1) AND (length(name) <= 80)))
constraint subscription_name_key on posthorn.subscription UNIQUE (name)
constraint subscription_ordering_check on posthorn.subscription CHECK ((ordering = ANY (ARRAY['park'::text, 'skip'::text])))
constraint subscription_pkey on posthorn.subscription PRIMARY KEY (id)
constraint tick_1_pkey on posthorn.tick_1 PRIMARY KEY (id)
constraint tick_2_pkey on posthorn.tick_2 PRIMARY KEY (id)
constraint tick_3_pkey on posthorn.tick_3 PRIMARY KEY (id)
constraint tick_4_pkey on posthorn.tick_4 PRIMARY KEY (id)
constraint tick_5_pkey on posthorn.tick_5 PRIMARY KEY (id)
constraint tick_6_pkey on posthorn.tick_6 PRIMARY KEY (id)
constraint tick_7_pkey on posthorn.tick_7 PRIMARY KEY (id)
constraint tick_8_pkey on posthorn.tick_8 PRIMARY KEY (id)
constraint worker_pkey on posthorn.worker PRIMARY KEY (id)

-- indexes
CREATE UNIQUE INDEX alert_open ON posthorn.alert USING btree (COALESCE(subscription, 0), COALESCE(intake, 0), name) WHERE (resolved_at IS NULL)
CREATE UNIQUE INDEX alert_pkey ON posthorn.alert USING btree (id)
CREATE UNIQUE INDEX attendance_pkey ON posthorn.attendance USING btree (worker, subscription)
CREATE INDEX attendance_subscription ON posthorn.attendance USING btree (subscription)
CREATE UNIQUE INDEX backlog_limit_pkey ON posthorn.backlog_limit USING btree (channel)
CREATE UNIQUE INDEX cancel_mark_pkey ON posthorn.cancel_mark USING btree (subscription, message)
CREATE UNIQUE INDEX cancel_request_pkey ON posthorn.cancel_request USING btree (subscription, message)
CREATE INDEX cancelled_kept ON posthorn.cancelled USING btree (keep_until)
CREATE UNIQUE INDEX cancelled_pkey ON posthorn.cancelled USING btree (subscription, message)
CREATE UNIQUE INDEX channel_kind_name_key ON posthorn.channel USING btree (kind, name)
CREATE UNIQUE INDEX channel_pkey ON posthorn.channel USING btree (id)
CREATE UNIQUE INDEX circuit_pkey ON posthorn.circuit USING btree (subscription)
CREATE UNIQUE INDEX claim_1_by_id ON posthorn.claim_1 USING btree (id)
CREATE UNIQUE INDEX claim_1_by_n ON posthorn.claim_1 USING btree (subscription, lane, n)
CREATE INDEX claim_1_by_reach ON posthorn.claim_1 USING btree (subscription, lane, last_id) WHERE (NOT took_late)
CREATE INDEX claim_1_late ON posthorn.claim_1 USING btree (subscription, lane, n) WHERE took_late
CREATE UNIQUE INDEX claim_2_by_id ON posthorn.claim_2 USING btree (id)
CREATE UNIQUE INDEX claim_2_by_n ON posthorn.claim_2 USING btree (subscription, lane, n)
CREATE INDEX claim_2_by_reach ON posthorn.claim_2 USING btree (subscription, lane, last_id) WHERE (NOT took_late)
CREATE INDEX claim_2_late ON posthorn.claim_2 USING btree (subscription, lane, n) WHERE took_late
CREATE UNIQUE INDEX claim_3_by_id ON posthorn.claim_3 USING btree (id)
CREATE UNIQUE INDEX claim_3_by_n ON posthorn.claim_3 USING btree (subscription, lane, n)
CREATE INDEX claim_3_by_reach ON posthorn.claim_3 USING btree (subscription, lane, last_id) WHERE (NOT took_late)
CREATE INDEX claim_3_late ON posthorn.claim_3 USING btree (subscription, lane, n) WHERE took_late
CREATE UNIQUE INDEX claim_4_by_id ON posthorn.claim_4 USING btree (id)
CREATE UNIQUE INDEX claim_4_by_n ON posthorn.claim_4 USING btree (subscription, lane, n)
CREATE INDEX claim_4_by_reach ON posthorn.claim_4 USING btree (subscription, lane, last_id) WHERE (NOT took_late)
CREATE INDEX claim_4_late ON posthorn.claim_4 USING btree (subscription, lane, n) WHERE took_late
CREATE UNIQUE INDEX claim_5_by_id ON posthorn.claim_5 USING btree (id)
CREATE UNIQUE INDEX claim_5_by_n ON posthorn.claim_5 USING btree (subscription, lane, n)
CREATE INDEX claim_5_by_reach ON posthorn.claim_5 USING btree (subscription, lane, last_id) WHERE (NOT took_late)
CREATE INDEX claim_5_late ON posthorn.claim_5 USING btree (subscription, lane, n) WHERE took_late
CREATE UNIQUE INDEX claim_6_by_id ON posthorn.claim_6 USING btree (id)
CREATE UNIQUE INDEX claim_6_by_n ON posthorn.claim_6 USING btree (subscription, lane, n)
CREATE INDEX claim_6_by_reach ON posthorn.claim_6 USING btree (subscription, lane, last_id) WHERE (NOT took_late)
CREATE INDEX claim_6_late ON posthorn.claim_6 USING btree (subscription, lane, n) WHERE took_late
CREATE UNIQUE INDEX claim_7_by_id ON posthorn.claim_7 USING btree (id)
CREATE UNIQUE INDEX claim_7_by_n ON posthorn.claim_7 USING btree (subscription, lane, n)
CREATE INDEX claim_7_by_reach ON posthorn.claim_7 USING btree (subscription, lane, last_id) WHERE (NOT took_late)
CREATE INDEX claim_7_late ON posthorn.claim_7 USING btree (subscription, lane, n) WHERE took_late
CREATE UNIQUE INDEX claim_8_by_id ON posthorn.claim_8 USING btree (id)
CREATE UNIQUE INDEX claim_8_by_n ON posthorn.claim_8 USING btree (subscription, lane, n)
CREATE INDEX claim_8_by_reach ON posthorn.claim_8 USING btree (subscription, lane, last_id) WHERE (NOT took_late)
CREATE INDEX claim_8_late ON posthorn.claim_8 USING btree (subscription, lane, n) WHERE took_late
CREATE UNIQUE INDEX contract_name_version_key ON posthorn.contract USING btree (name, version)
CREATE UNIQUE INDEX contract_pkey ON posthorn.contract USING btree (id)
CREATE INDEX dead_letter_by_key ON posthorn.dead_letter USING btree (key) WHERE (key IS NOT NULL)
CREATE INDEX dead_letter_by_place ON posthorn.dead_letter USING btree (subscription, key, place) WHERE (place IS NOT NULL)
CREATE INDEX dead_letter_kept ON posthorn.dead_letter USING btree (keep_until)
CREATE UNIQUE INDEX dead_letter_pkey ON posthorn.dead_letter USING btree (id)
CREATE UNIQUE INDEX dead_letter_subscription_message_key ON posthorn.dead_letter USING btree (subscription, message)
CREATE INDEX dedupe_looks ON posthorn.dedupe USING btree (look_at)
CREATE UNIQUE INDEX dedupe_pkey ON posthorn.dedupe USING btree (name, key)
CREATE INDEX deferred_again ON posthorn.deferred USING btree (subscription) WHERE (delivery > 1)
CREATE INDEX deferred_behind ON posthorn.deferred USING btree (behind) WHERE (behind IS NOT NULL)
CREATE INDEX deferred_by_key ON posthorn.deferred USING btree (subscription, key, message) WHERE ((token IS NULL) AND (key IS NOT NULL))
CREATE INDEX deferred_by_place ON posthorn.deferred USING btree (subscription, key, place) WHERE (place IS NOT NULL)
CREATE INDEX deferred_due ON posthorn.deferred USING btree (subscription, priority, due_at) WHERE (token IS NULL)
CREATE INDEX deferred_held ON posthorn.deferred USING btree (worker) WHERE (token IS NOT NULL)
CREATE UNIQUE INDEX deferred_pkey ON posthorn.deferred USING btree (id)
CREATE UNIQUE INDEX deferred_subscription_message_key ON posthorn.deferred USING btree (subscription, message)
CREATE INDEX discarded_kept ON posthorn.discarded USING btree (keep_until)
CREATE UNIQUE INDEX discarded_pkey ON posthorn.discarded USING btree (subscription, message)
CREATE UNIQUE INDEX ending_1_by_delivery ON posthorn.ending_1 USING btree (message, subscription, delivery)
CREATE UNIQUE INDEX ending_2_by_delivery ON posthorn.ending_2 USING btree (message, subscription, delivery)
CREATE UNIQUE INDEX ending_3_by_delivery ON posthorn.ending_3 USING btree (message, subscription, delivery)
CREATE UNIQUE INDEX ending_4_by_delivery ON posthorn.ending_4 USING btree (message, subscription, delivery)
CREATE UNIQUE INDEX ending_5_by_delivery ON posthorn.ending_5 USING btree (message, subscription, delivery)
CREATE UNIQUE INDEX ending_6_by_delivery ON posthorn.ending_6 USING btree (message, subscription, delivery)
CREATE UNIQUE INDEX ending_7_by_delivery ON posthorn.ending_7 USING btree (message, subscription, delivery)
CREATE UNIQUE INDEX ending_8_by_delivery ON posthorn.ending_8 USING btree (message, subscription, delivery)
CREATE UNIQUE INDEX epoch_pkey ON posthorn.epoch USING btree (n)
CREATE UNIQUE INDEX inbox_pkey ON posthorn.inbox USING btree (mark)
CREATE UNIQUE INDEX inbox_name_now ON posthorn.inbox_name USING btree (intake) WHERE (until IS NULL)
CREATE UNIQUE INDEX inbox_name_pkey ON posthorn.inbox_name USING btree (name)
CREATE UNIQUE INDEX installation_pkey ON posthorn.installation USING btree (singleton)
CREATE UNIQUE INDEX intake_name_key ON posthorn.intake USING btree (name)
CREATE UNIQUE INDEX intake_pkey ON posthorn.intake USING btree (id)
CREATE UNIQUE INDEX intake_contract_pkey ON posthorn.intake_contract USING btree (intake, contract)
CREATE UNIQUE INDEX intake_holder_pkey ON posthorn.intake_holder USING btree (intake, worker)
CREATE UNIQUE INDEX intake_invalid_intake_mark_key ON posthorn.intake_invalid USING btree (intake, mark)
CREATE UNIQUE INDEX intake_invalid_pkey ON posthorn.intake_invalid USING btree (id)
CREATE INDEX intake_invalid_redriven ON posthorn.intake_invalid USING btree (intake, id) WHERE (redrive_at IS NOT NULL)
CREATE INDEX invalid_by_key ON posthorn.invalid USING btree (key) WHERE (key IS NOT NULL)
CREATE INDEX invalid_by_place ON posthorn.invalid USING btree (subscription, key, place) WHERE (place IS NOT NULL)
CREATE UNIQUE INDEX invalid_pkey ON posthorn.invalid USING btree (id)
CREATE UNIQUE INDEX invalid_subscription_message_key ON posthorn.invalid USING btree (subscription, message)
CREATE INDEX key_permit_idle ON posthorn.key_permit USING btree (GREATEST(tat, line_end))
CREATE UNIQUE INDEX key_permit_pkey ON posthorn.key_permit USING btree (subscription, key)
CREATE UNIQUE INDEX lane_pkey ON posthorn.lane USING btree (subscription, lane)
CREATE UNIQUE INDEX maintenance_pkey ON posthorn.maintenance USING btree (name)
CREATE INDEX message_1_by_id ON posthorn.message_1 USING btree (channel, lane, id)
CREATE INDEX message_1_by_xid ON posthorn.message_1 USING btree (((((channel)::bigint << 32) | (lane)::bigint)), xid, id) WHERE (reach IS NOT NULL)
CREATE INDEX message_2_by_id ON posthorn.message_2 USING btree (channel, lane, id)
CREATE INDEX message_2_by_xid ON posthorn.message_2 USING btree (((((channel)::bigint << 32) | (lane)::bigint)), xid, id) WHERE (reach IS NOT NULL)
CREATE INDEX message_3_by_id ON posthorn.message_3 USING btree (channel, lane, id)
CREATE INDEX message_3_by_xid ON posthorn.message_3 USING btree (((((channel)::bigint << 32) | (lane)::bigint)), xid, id) WHERE (reach IS NOT NULL)
CREATE INDEX message_4_by_id ON posthorn.message_4 USING btree (channel, lane, id)
CREATE INDEX message_4_by_xid ON posthorn.message_4 USING btree (((((channel)::bigint << 32) | (lane)::bigint)), xid, id) WHERE (reach IS NOT NULL)
CREATE INDEX message_5_by_id ON posthorn.message_5 USING btree (channel, lane, id)
CREATE INDEX message_5_by_xid ON posthorn.message_5 USING btree (((((channel)::bigint << 32) | (lane)::bigint)), xid, id) WHERE (reach IS NOT NULL)
CREATE INDEX message_6_by_id ON posthorn.message_6 USING btree (channel, lane, id)
CREATE INDEX message_6_by_xid ON posthorn.message_6 USING btree (((((channel)::bigint << 32) | (lane)::bigint)), xid, id) WHERE (reach IS NOT NULL)
CREATE INDEX message_7_by_id ON posthorn.message_7 USING btree (channel, lane, id)
CREATE INDEX message_7_by_xid ON posthorn.message_7 USING btree (((((channel)::bigint << 32) | (lane)::bigint)), xid, id) WHERE (reach IS NOT NULL)
CREATE INDEX message_8_by_id ON posthorn.message_8 USING btree (channel, lane, id)
CREATE INDEX message_8_by_xid ON posthorn.message_8 USING btree (((((channel)::bigint << 32) | (lane)::bigint)), xid, id) WHERE (reach IS NOT NULL)
CREATE UNIQUE INDEX migration_pkey ON posthorn.migration USING btree (n)
CREATE UNIQUE INDEX move_pkey ON posthorn.move USING btree (n)
CREATE UNIQUE INDEX operation_pkey ON posthorn.operation USING btree (id)
CREATE INDEX operation_running ON posthorn.operation USING btree (id) WHERE (state = 'running'::text)
CREATE UNIQUE INDEX parked_key_pkey ON posthorn.parked_key USING btree (subscription, key)
CREATE UNIQUE INDEX permit_pkey ON posthorn.permit USING btree (subscription, n)
CREATE UNIQUE INDEX policy_change_pkey ON posthorn.policy_change USING btree (id)
CREATE INDEX policy_change_subscription ON posthorn.policy_change USING btree (subscription, id)
CREATE UNIQUE INDEX progress_pkey ON posthorn.progress USING btree (subscription, message)
CREATE INDEX result_by_key ON posthorn.result USING btree (key) WHERE (key IS NOT NULL)
CREATE INDEX result_kept ON posthorn.result USING btree (keep_until)
CREATE UNIQUE INDEX result_pkey ON posthorn.result USING btree (subscription, message)
CREATE UNIQUE INDEX retention_pkey ON posthorn.retention USING btree (singleton)
CREATE UNIQUE INDEX ring_pkey ON posthorn.ring USING btree (singleton)
CREATE UNIQUE INDEX run_limit_pkey ON posthorn.run_limit USING btree (subscription)
CREATE INDEX schedule_due ON posthorn.schedule USING btree (due_at)
CREATE UNIQUE INDEX schedule_pkey ON posthorn.schedule USING btree (name)
CREATE UNIQUE INDEX segment_pkey ON posthorn.segment USING btree (n)
CREATE UNIQUE INDEX segment_slot_key ON posthorn.segment USING btree (slot)
CREATE UNIQUE INDEX settlement_1_by_part ON posthorn.settlement_1 USING btree (claim, part)
CREATE UNIQUE INDEX settlement_2_by_part ON posthorn.settlement_2 USING btree (claim, part)
CREATE UNIQUE INDEX settlement_3_by_part ON posthorn.settlement_3 USING btree (claim, part)
CREATE UNIQUE INDEX settlement_4_by_part ON posthorn.settlement_4 USING btree (claim, part)
CREATE UNIQUE INDEX settlement_5_by_part ON posthorn.settlement_5 USING btree (claim, part)
CREATE UNIQUE INDEX settlement_6_by_part ON posthorn.settlement_6 USING btree (claim, part)
CREATE UNIQUE INDEX settlement_7_by_part ON posthorn.settlement_7 USING btree (claim, part)
CREATE UNIQUE INDEX settlement_8_by_part ON posthorn.settlement_8 USING btree (claim, part)
CREATE UNIQUE INDEX skipped_pkey ON posthorn.skipped USING btree (subscription, contract)
CREATE UNIQUE INDEX step_pkey ON posthorn.step USING btree (subscription, message, name)
CREATE INDEX subscription_channel ON posthorn.subscription USING btree (channel)
CREATE UNIQUE INDEX subscription_name_key ON posthorn.subscription USING btree (name)
CREATE UNIQUE INDEX subscription_pkey ON posthorn.subscription USING btree (id)
CREATE UNIQUE INDEX tick_1_pkey ON posthorn.tick_1 USING btree (id)
CREATE UNIQUE INDEX tick_2_pkey ON posthorn.tick_2 USING btree (id)
CREATE UNIQUE INDEX tick_3_pkey ON posthorn.tick_3 USING btree (id)
CREATE UNIQUE INDEX tick_4_pkey ON posthorn.tick_4 USING btree (id)
CREATE UNIQUE INDEX tick_5_pkey ON posthorn.tick_5 USING btree (id)
CREATE UNIQUE INDEX tick_6_pkey ON posthorn.tick_6 USING btree (id)
CREATE UNIQUE INDEX tick_7_pkey ON posthorn.tick_7 USING btree (id)
CREATE UNIQUE INDEX tick_8_pkey ON posthorn.tick_8 USING btree (id)
CREATE UNIQUE INDEX worker_pkey ON posthorn.worker USING btree (id)

-- sequences
sequence alert_id_seq bigint start 1 increment 1 cache 1
sequence channel_id_seq integer start 1 increment 1 cache 1
sequence claim_id bigint start 1 increment 1 cache 1
sequence contract_id_seq integer start 1 increment 1 cache 1
sequence dead_letter_id_seq bigint start 1 increment 1 cache 1
sequence deferred_id bigint start 1 increment 1 cache 1
sequence intake_id_seq integer start 1 increment 1 cache 1
sequence intake_invalid_id_seq bigint start 1 increment 1 cache 1
sequence invalid_id_seq bigint start 1 increment 1 cache 1
sequence message_id bigint start 1 increment 1 cache 1
sequence move_n_seq bigint start 1 increment 1 cache 1
sequence operation_id_seq bigint start 1 increment 1 cache 1
sequence place bigint start 1 increment 1 cache 1
sequence policy_change_id_seq bigint start 1 increment 1 cache 1
sequence schedule_revision bigint start 1 increment 1 cache 1
sequence subscription_id_seq integer start 1 increment 1 cache 1
sequence tick_id bigint start 1 increment 1 cache 1
sequence worker_id_seq bigint start 1 increment 1 cache 1

-- enumerations and domains
enum idempotency (transaction, handler, at-most-once)
enum kind (command, event)
enum outcome (succeeded, failed, crashed, released, rejected, invalid, skipped, begun, unknown, scheduled, expired, postponed, parked, throttled, discarded)

-- functions
function add_backlog(p_channel integer, p_messages bigint) returns void plpgsql volatile body 5527102d7ee41b35d266fb1c0c29cefd
function address(p_channel integer, p_lanes integer) returns integer sql immutable body 0c255056bf6136fee3ef8272ec638bce
function admit(p_allow posthorn.allowance, p_ids bigint[], p_contracts integer[]) returns bigint[] plpgsql volatile body 006d85683cef4782fa336bea1d7e2e5e
function advance_lanes(p_ring posthorn.ring) returns text plpgsql volatile body 6a6ddcc570c3b23d4338167dfa9783e7
function after_crash(p_worker posthorn.worker, p_subscription posthorn.subscription, p_begun_at timestamp with time zone, p_row posthorn.deferred, p_unknown boolean, p_blamed boolean) returns void plpgsql volatile body 7ce05a552710bb0d74f68cae24da771b
function ahead() returns xid8 plpgsql volatile body a78ad90b4d09d01fbf549041cded7c9a
function alert_rules() returns TABLE(subscription integer, subscription_name text, name text, value bigint, threshold bigint, detail text) sql volatile body 11b3e3c6fa13559d06e2111b2378fbfb
function allow(p_subscription integer, p_limit integer) returns posthorn.allowance plpgsql volatile body 6506ffabfeb12a8ef94fca72dd19dee2
function append(p_messages json) returns json plpgsql volatile body c742f4c73921c22b787892135af4a56c
function append_list_of(p_slot smallint, p_messages json) returns json plpgsql volatile body b92e986a5b25e35abc8da9b8a0165180
function append_many_of(p_slot smallint, p_said json, p_options json) returns json plpgsql volatile body 4edddd6b3604ce0d633367a562e2def1
function append_of(p_slot smallint, p_nonces bigint[], p_channels integer[], p_contracts integer[], p_keys json, p_payloads json, p_headers json) returns bigint[] plpgsql volatile body 69e279c0cbe136ecf4ab9c2bca76f615
function append_one_of(p_slot smallint, p_nonce bigint, p_channel integer, p_contract integer, p_key text, p_payload json, p_headers json) returns bigint plpgsql volatile body ff3b6cd797e05a03d8f2292b24a3c412
function append_said(p_slot smallint, p_said json) returns json plpgsql volatile set enable_seqscan=off, enable_bitmapscan=off, enable_hashjoin=off, enable_mergejoin=off, jit=off, plan_cache_mode=force_generic_plan body bf519e778418e8e7a4b2a85f82f28dd9
function append_said_of(p_slot smallint, p_entry json, p_id bigint, p_lane integer, p_expires_at timestamp with time zone) returns bigint plpgsql volatile body f31d5518fa342bd97b979babb25d4825
function away_anew(p_intake posthorn.intake) returns timestamp with time zone sql volatile body 16f570d9ee702ba9c1a5e883353dcc1f
function backlog_known(p_channel integer) returns posthorn.backlog_known plpgsql volatile body 328f71be6b694ef7e3ffd7b93adea14b
function backlog_limits() returns json sql stable body c9a067feb9f64929fe4a2e57d89961a8
function backlog_now(p_limit posthorn.backlog_limit, p_more bigint) returns bigint plpgsql volatile body 7c42666eada6d4bd47246d1c9b3e555e
function backlog_recount_ms(p_backlog bigint) returns double precision plpgsql immutable body 1b9d10c2b389c71eb7f3f9ea1a730ab4
function backlog_retry_ms(p_limit posthorn.backlog_limit, p_backlog bigint) returns integer plpgsql volatile body 86356770a56817cb886193df126aac90
function backlog_share(p_messages bigint) returns bigint plpgsql immutable body 53404e2294890b779f0597c67d1495c1
function backlog_tenths() returns bigint plpgsql volatile body f90a4bfd1d68e5f23b08c33c2f1440ff
function begin_and_line_up(p_allow posthorn.allowance, p_key text, p_room posthorn.key_room, p_begins integer, p_waits integer) returns timestamp with time zone plpgsql volatile body 5a7a822c2d32c7e642463b1cdc008720
function begin_intake(p_name text, p_service text, p_broker text, p_place text, p_keep_ms double precision, p_away_ms double precision, p_contracts json, p_bounds json) returns json plpgsql volatile body e51f6905ab6f9f626e7ff9cbc7c74533
function begin_lane(p_slot smallint, p_subscription integer, p_lane integer, p_n bigint, p_tick bigint, p_last_id bigint) returns void plpgsql volatile body 8027975659360893bfe50be53d90052e
function begin_letters(p_verb text, p_filter json, p_by text, p_reason text) returns json plpgsql volatile body 7b4d9147e0352e5838801969aa6c7292
function begin_operation(p_verb text, p_target text, p_arguments json, p_by text, p_reason text, p_found bigint, p_place json) returns json plpgsql volatile body 23f62b2af6a1bede2e3f3da7668d0354
function by_found_slot(p_signature text, p_returns text, p_declarations text, p_before text, p_body text, p_after text) returns void plpgsql volatile body 4eebf6cf1d32914aab79ce19d2c2f54e
function by_slot(p_signature text, p_returns text, p_body text) returns void plpgsql volatile body 40ecd1a2e9779d6ec54d4c8871091c9e
function bytes_of(p_slot smallint) returns bigint plpgsql volatile body bc36a43fd7088bddf8c59d3218e79e8e
function cancel(message text, by text DEFAULT NULL::text) returns text sql volatile body 38996290276762695bb73d4f6d10df8c
function cancel_instead(p_row posthorn.deferred, p_next json) returns boolean plpgsql volatile body 647ad699185242eae5dc7e67ac7ada7c
function cancel_message(p_public text, p_by text) returns text plpgsql volatile body 23d7283e50c20ecf6cac8f5b5fb6799b
function cancel_requests(p_worker bigint) returns json plpgsql volatile body aa8893dc80b29e25cec4ab74ef328dcf
function cancel_waiting(p_subscription posthorn.subscription, p_id bigint, p_nonce bigint, p_by text) returns boolean plpgsql volatile body ea35beaf55e993d374858553f71958b1
function candidates(p_allow posthorn.allowance) returns integer plpgsql immutable body 07f6035824146fe7461a9c58f464c210
function check_backlog(p_channel integer, p_messages bigint DEFAULT 1) returns void plpgsql volatile body 183e454c6d8f237fe8dae0dd1b99976a
function check_contract(p_name text, p_kind posthorn.kind, p_channel text, p_keyed boolean, p_owner text, p_by text, p_new_kind posthorn.kind, p_new_channel text, p_new_keyed boolean, p_new_owner text, p_new_by text) returns void plpgsql volatile body 22a9df24e5b52515322d10d5a0ef8f8d
function check_kept(p_ms double precision) returns void plpgsql volatile body 13db66edb1a5fab084cf8d15314723a1
function check_parted(p_end json, p_outcome posthorn.outcome) returns void plpgsql volatile body cbb3a32a1a53b567a3a6a392fcd4ffdc
function check_source(p_name text, p_owner text, p_service text) returns void plpgsql volatile body 152e040f2d4f9a8012569e9d2960e3d0
function check_window(p_subscription integer, p_window_ms bigint) returns void plpgsql volatile body ed8dfd806670fc04116366d15c57bb01
function circuit_after(p_row posthorn.circuit, p_event json, p_breaker json, p_now timestamp with time zone) returns posthorn.circuit plpgsql volatile body 7eb301d37420565425ad6fc980bc04fa
function circuit_begin(p_subscription integer, p_worker bigint, p_probe bigint) returns void plpgsql volatile body b59d7666ae0cfde7c7d2eef7b1fb636b
function circuit_due(p_subscription integer) returns void sql volatile body 9fead24aebe62641b49a74937cc08993
function circuit_gate(p_subscription integer, OUT wait_ms bigint, OUT probe bigint) returns record plpgsql volatile body 6f66b60e7ed240d27c8ecccb0957a73a
function circuit_hear(p_subscription integer, p_events json) returns json plpgsql volatile body 4d6d2e334542191bd38fb530e60a8e26
function circuit_of(p_subscription integer) returns json sql stable body e1214b811eb80df4934bfbf5ff38c386
function circuit_opened(p_row posthorn.circuit, p_open_ms bigint, p_now timestamp with time zone) returns posthorn.circuit plpgsql volatile body 3191439004df3f62ba80901751bf8423
function claim(p_subscription integer, p_lane integer, p_worker bigint, p_limit integer) returns text plpgsql volatile body df1b1f26181326b20070e3d931533d50
function claim_by_priority(p_subscription integer, p_worker bigint, p_limit integer) returns text plpgsql volatile body d26568a11609d045f5a6d569313a28b0
function claim_guarded(p_subscription integer, p_lane integer, p_worker bigint, p_limit integer, p_limited boolean) returns text plpgsql volatile body bc137c24a1333282f24522508931f0f9
function claim_limited(p_subscription integer, p_lane integer, p_worker bigint, p_limit integer) returns text plpgsql volatile body 09c4ad02d77d6dc3684cd3d6f0e6b86e
function claim_of(p_slot smallint, p_claim bigint) returns posthorn.claim_1 plpgsql volatile body 22dfaece68090d24c642eb5bf8690ea6
function claimed_outcome_of(p_slot smallint, p_subscription integer, p_lane integer, p_message bigint) returns text plpgsql volatile body 37c1883a8a1811c5ec534b169ccbd15b
function claimed_since(p_subscription integer, p_since timestamp with time zone) returns bigint plpgsql volatile body 4dc3c4f6bee4b26f394f6d00750d945e
function claimed_since_of(p_slot smallint, p_subscription integer, p_lane integer, p_since timestamp with time zone) returns bigint plpgsql volatile body 09e9ca3e10828024906085f770a8ab94
function claims_after_of(p_slot smallint, p_subscription integer, p_lane integer, p_n bigint, OUT ids bigint[], OUT newest bigint) returns record plpgsql volatile body d4f1a5a025418d56a5a1f4a3447d5a75
function classes(p_subscription integer) returns SETOF smallint sql stable body a7998ab09f236bb1c78548377c900b0c
function collapse(p_row posthorn.deferred, p_held posthorn.dedupe, p_entry json, p_due_at timestamp with time zone, p_expires_at timestamp with time zone, p_mode text, p_window interval, p_wait_ms bigint) returns void plpgsql volatile body 7c5a08c38330c003c3d49ba44613ca1c
function conclude(p_parts json, p_ends json DEFAULT NULL::json, p_say json DEFAULT NULL::json) returns json plpgsql volatile body e9ba0fbb4faac79e1c2c18a7dfab8dae
function conclude_one(p_end json) returns void plpgsql volatile body d4320f64181a22acc183634f04204c5c
function confirmed(p_given text, p_wanted text, p_what text) returns void plpgsql volatile body 17621085f6c5b608034dcb73347d0639
function contract_outside(p_subscription integer, p_id bigint, p_nonce bigint) returns integer sql stable body ea4721cea290d9a5665f4e1f2c22b22a
function copy_tick_of(p_slot smallint, p_tick posthorn.tick) returns void plpgsql volatile body 72fe1aae059e8857f3fc54d507ed09e9
function count_after_of(p_slot smallint, p_channel integer, p_lane integer, p_after bigint, p_limit integer, OUT messages bigint, OUT oldest timestamp with time zone) returns record plpgsql stable body e9b23776fe9e2cb428c82ec39f10bb06
function count_backlog(p_limit posthorn.backlog_limit) returns bigint plpgsql volatile body 1ce80368e64e2fc5d20bf6f997ac99f8
function count_between(p_channel integer, p_lane integer, p_after bigint, p_before bigint, p_limit integer) returns bigint plpgsql stable body a15af6a5ae30539490e60ad9aa183917
function count_key_of(p_slot smallint, p_key text, p_contracts integer[]) returns bigint plpgsql volatile body b6b5c40038ddf87d241fae0e13ecbfd1
function count_seen_of(p_slot smallint, p_channel integer, p_lane integer, p_after bigint, p_upto bigint, p_snapshot pg_snapshot, p_limit integer) returns bigint plpgsql volatile body 806e8aa0177403af3e34e1a4279c75a4
function count_skipped(p_subscription integer, p_counts json) returns void sql volatile body b9d2e813404602b598cc7bbc41975ed2
function count_within_of(p_slot smallint, p_channel integer, p_lane integer, p_from timestamp with time zone, p_to timestamp with time zone, p_contract text, p_upto bigint) returns bigint plpgsql volatile body b4e3d64f85c27d30c530de7c566a3ab2
function crossed_alerts() returns json sql volatile body 87bf9846b7d8f2e7997c9f7e8e62fa74
function dead_workers() returns TABLE(worker bigint, why text) sql volatile body 0167eca641aa5f830d5a654f946ace27
function declare_intake(p_name text, p_service text, p_broker text, p_place text, p_keep_ms double precision, p_away_ms double precision, p_contracts json, p_bounds json DEFAULT NULL::json) returns integer sql volatile body 245ba20085731834f6d526aa860a738d
function declare_retention(p_keep_ms double precision, p_max_bytes bigint, p_by text, p_explicit boolean) returns void plpgsql volatile body bc47954b88162db673bdb59216606109
function declare_schedule(p_name text, p_cron text, p_zone text, p_contract integer, p_missed text, p_jitter_ms integer, p_payload json, p_key text, p_headers json, p_function text, p_service text, p_next timestamp with time zone, p_due timestamp with time zone) returns json plpgsql volatile body 26aee90f3799ee41d0c1c3c7df417bea
function dedupe_of(p_dedupe json, p_key text, p_timed boolean, OUT key text, OUT mode text, OUT window_ms bigint, OUT wait_ms bigint) returns record plpgsql volatile body afc0afdf2cd6439075a078f73008aa4d
function delivery_of(p_subscription integer, p_lane integer, p_message bigint, p_slot smallint) returns posthorn.deferred plpgsql volatile body cfde0063d1e5abb8f8c2a847dea681b5
function detail_now(p_alert posthorn.alert) returns text sql stable body 97290d13a58572e005a7c6aed23fa888
function digest_of(p_key text) returns text sql immutable body 1d2eb0f9f26b622a11a7f02b6e98fc73
function discard(p_filter json, p_by text, p_reason text, p_limit integer) returns json plpgsql volatile body cf81135ab484b29e2c7980b261ef5503
function discard_claim(p_row posthorn.operation, p_reader posthorn.subscription, p_claim posthorn.claim_1, p_slot smallint) returns bigint plpgsql volatile body 326418ad92f8b13ba5aedc6d3b043928
function discard_row(p_row posthorn.deferred, p_list text, p_by text, p_reason text) returns void plpgsql volatile body e07b8e3d9522f60aaa260382d20fe5ba
function discard_seen_of(p_slot smallint, p_subscription integer, p_channel integer, p_lane integer, p_ids bigint[], p_seen pg_snapshot, p_by text, p_reason text) returns SETOF bigint plpgsql volatile body 8d82400f452e1b2ac5ea3200349232ac
function due_schedules(p_own json, p_limit integer) returns json plpgsql volatile body 87cf53ed6bfedb074b08fb6e3ad5d88b
function empty_target() returns void plpgsql volatile body 4c8945e3ef8d06533c8511fec4c30fd9
function end_backends(p_backends json) returns void plpgsql volatile body ad85aa7d9cd3b27187838f4df72a31d6
function end_by_now(p_subscription posthorn.subscription, p_id bigint, p_nonce bigint) returns text plpgsql stable body 7c5e08c174e196a404ca94daae0bb88f
function end_deferred(p_deferred bigint, p_token bigint, p_outcome posthorn.outcome) returns posthorn.deferred plpgsql volatile body c4c554ae734b8563d181ed9dd71814ba
function end_in_transaction(p_subscription integer, p_message bigint, p_message_slot smallint, p_delivery integer, p_claim bigint, p_claim_slot smallint, p_deferred bigint, p_token bigint, p_started text, p_say json) returns json plpgsql volatile body bf5caf37d0374422635ddd50cd8eac9d
function end_many(p_ends json, p_started text, p_say json) returns json plpgsql volatile body bb79195cf8e312c5f1c507711580db7e
function end_of(p_slot smallint, p_subscription integer, p_message bigint, p_delivery integer, p_outcome posthorn.outcome, p_claim bigint, p_worker bigint) returns boolean plpgsql volatile body 809e3d85874fd8bbc3b056ee864b3900
function end_with(p_subscription integer, p_message bigint, p_message_slot smallint, p_delivery integer, p_claim bigint, p_claim_slot smallint, p_deferred bigint, p_token bigint, p_say json) returns json plpgsql volatile body eaae989946ae0cf95cfba144067822c5
function end_with_result(p_subscription integer, p_message bigint, p_message_slot smallint, p_delivery integer, p_claim bigint, p_claim_slot smallint, p_deferred bigint, p_token bigint, p_started text, p_nonce bigint, p_say json, p_result json) returns json plpgsql volatile body 8114c0a62f0ff2ce779d9140c6259081
function enter(p_subscription integer) returns void plpgsql volatile body e8f77617f79e1427d043055cfa4e1ac0
function erasable(p_key text, p_contract text, p_channel text) returns bigint plpgsql volatile body 42d9c093f6860597cb092d77c10305ea
function erase(key text, by text DEFAULT NULL::text, reason text DEFAULT NULL::text, confirm text DEFAULT NULL::text, contract text DEFAULT NULL::text, channel text DEFAULT NULL::text) returns json plpgsql volatile body ae8dfaa09f9f07b2fdf31e92d1a098f9
function erase_in_lists(p_row posthorn.operation, p_limit integer, OUT done bigint, OUT running jsonb) returns record plpgsql volatile body e4188597f5bdf6649395be0eacfb31eb
function erase_in_log(p_row posthorn.operation, p_channel integer, p_limit integer, OUT done bigint, OUT after bigint, OUT running jsonb) returns record plpgsql volatile body 7ec25d17dacf0179b683cefc8989d891
function erase_of(p_slot smallint, p_channel integer, p_lane integer, p_ids bigint[]) returns bigint plpgsql volatile body 492dfd15dd1af9fa86cc4697a8017905
function erase_one(p_row posthorn.operation, p_reader posthorn.subscription, p_id bigint, p_nonce bigint, p_lane integer, p_xid xid8, p_slot smallint) returns boolean plpgsql volatile body 93f94b59fcaaea79cd284b22146bfe2d
function erase_piece(p_row posthorn.operation, p_limit integer, OUT done bigint, OUT more boolean, OUT busy boolean, OUT place json) returns record plpgsql volatile body e0a589987d1eb44389a9d0badbac94cb
function erase_running(p_row posthorn.operation) returns jsonb plpgsql volatile body be4bce8c4d885d957902fb4da480d906
function erase_waiting(p_row posthorn.operation, p_reader posthorn.subscription, p_id bigint, p_nonce bigint) returns boolean plpgsql volatile body 41ff80ec3e9d24343e7d0990734469aa
function erased_contracts(p_contract text, p_channel text) returns integer[] sql stable body 707ca18e1b136797bcb7469ec3b597f3
function erased_payload() returns text sql immutable body 1bdd94b382ee9cbb6b88cf0aa84e6aaf
function error_groups(p_filter json, p_limit integer, p_read integer) returns json sql stable body 52ace1aa32104a1b9a72615538d2996f
function every_of(p_subscription integer, p_contracts integer[]) returns integer[] plpgsql stable body 095ef214a45d1bf064e66aebc3ca1400
function expect_move(p_move uuid, p_other text, p_system bigint, p_database oid) returns boolean plpgsql volatile body e733f2246403ce23c3c3ae7713e8efa1
function fate_in_log(p_subscription posthorn.subscription, p_lane integer, p_id bigint, p_xid xid8, OUT state text, OUT at timestamp with time zone, OUT delivery integer, OUT outcome text, OUT worker bigint, OUT lane_at posthorn."position") returns record plpgsql stable body a96cb29ad5ae27e05738466e221dfb93
function find_outside(p_id text, p_source text, p_marks json) returns json sql stable body f8c6e993b9b58759a16658f730f01150
function fingerprint(p_subscription text, p_contract text, p_name text, p_code text, p_message text, p_at text) returns text sql immutable body 88a0d708876392e39a4bb6072332952a
function fire_schedule(p_name text, p_revision bigint, p_next timestamp with time zone, p_upcoming timestamp with time zone, p_due timestamp with time zone, p_messages json) returns json plpgsql volatile body 07696299b0ab160dd63ba2e8b48f9a95
function fire_schedules(p_list json) returns json plpgsql volatile body 17215d2963d7717e5298e2069b075edd
function first_due(p_subscription integer, p_contracts integer[]) returns timestamp with time zone plpgsql volatile body ea6b3b266c651b3aebbf97a7ccc4bd5a
function first_permit(p_subscription integer) returns posthorn.permit plpgsql volatile body 180b155f407130678ade46a42bf12f5e
function fits_order(p_channel integer, p_options json) returns void plpgsql volatile body 207cceb007b68c3b3e1e268ffc09b6fe
function fixed_change(p_was jsonb, p_new jsonb) returns text sql immutable body 437954a2ef28998d7636b1b872cb8a73
function fixed_parts(p_idempotency text, p_policy json) returns jsonb sql immutable body 51746973bf2a39aff36f94abeb0a1d09
function fleet() returns json sql volatile body 59e8767873782d9bf37c43105d8f8d83
function fleet_rules() returns TABLE(subscription integer, subscription_name text, name text, value bigint, threshold bigint, detail text) sql volatile body 5095ba31a08eb88ef4e7593432a90b1e
function follow(p_row posthorn.deferred, p_outcome posthorn.outcome, p_next json) returns void plpgsql volatile body db0da60f55cb56fe3e43dfe7e6799b8e
function forget_keys(p_limit integer) returns void plpgsql volatile body e101173205ccefa3472c1a34c878f58a
function forget_steps(p_subscription integer, p_message bigint) returns void plpgsql volatile body 8db20fdb26a563963bed86c433ca16df
function forget_worker(p_worker bigint) returns void plpgsql volatile body 747f59704892b8f60d61f8f335ab1dbd
function former_places(p_intake integer, p_places integer[], p_count integer, p_former uuid[], p_keep_until timestamp with time zone) returns integer[] sql volatile body addf1cccc89d1992f8e8697b2b7aa287
function gauges(p_limit integer) returns TABLE(subscription integer, backlog bigint, age_ms bigint, running bigint, dead_letters bigint, invalid bigint, workers bigint, retrying bigint) sql volatile body 36f5e94b59e8629157837cccf6163e18
function go_away() returns void plpgsql volatile body 681c1f0ed2733fe983382365b5946103
function go_on_to(p_ring posthorn.ring) returns json plpgsql volatile body 6e55b7e77d3c7e48b4118e1f8b6694bb
function grant_backlog(p_channel integer, p_messages bigint, p_spent bigint) returns json plpgsql volatile body b840daad13c04809b5a289f58ca03b00
function grant_roles() returns void plpgsql volatile body 1d48d73637bdc84fb20ecd2a0a21e4ac
function group_of(p_subscription integer, p_contract integer, p_history json) returns text plpgsql stable body d0b6a16744a9c26f83a3c7f79a34c42c
function handled_as(p_reader posthorn.subscription, p_lane integer, p_id bigint) returns integer plpgsql volatile body f006428a07e7f2ad27e81442cafbc258
function handled_here(p_subscription integer) returns SETOF integer sql volatile body 0dac7a7ea48a5594e20aadb2dc72cf42
function handled_versions(p_subscription integer, p_name text) returns text sql volatile body a533fd6af79fee28fc75903f29505649
function has_after_of(p_slot smallint, p_channel integer, p_lane integer, p_after bigint) returns boolean plpgsql volatile body f5b4a41f2c2c433cab905a68f2dd999c
function has_channel_of(p_slot smallint, p_channel integer) returns boolean plpgsql volatile body 36390b04bebf7315e588cbcfc90f163e
function has_ended(p_slot smallint, p_subscription integer, p_message bigint) returns boolean plpgsql stable body e82c1875aecca6c8b85b1b4d99ba226c
function has_ended_of(p_slot smallint, p_subscription integer, p_message bigint) returns boolean plpgsql volatile body e82c1875aecca6c8b85b1b4d99ba226c
function has_spilled(p_slot smallint) returns boolean plpgsql volatile body 4624400dfad70ee909a646be2bbd111b
function has_unsettled(p_subscription integer) returns boolean plpgsql volatile body e974548f32fa78e8f04613927a79183c
function heartbeat(p_worker bigint, p_oldest bigint) returns boolean plpgsql volatile body 291fc2c33a9475e165d959bd1f06bedd
function held_of(p_slot smallint, p_subscription integer, p_worker bigint, p_from bigint, p_ends boolean, p_limit integer) returns TABLE(message bigint, slot smallint, lane integer, at timestamp with time zone) plpgsql stable body 5e3c9ee1864ed5e9944c39582bcc55ed
function hide_key(p_row posthorn.operation) returns posthorn.operation plpgsql volatile body ae609886bf07b495aa25b2f4c9bbf8d3
function hold_dedupe(p_name text, p_key text, p_subscription integer, p_message bigint, p_nonce bigint, p_window_ms bigint) returns posthorn.dedupe plpgsql volatile body 7752af3dd21ae9a42c3c4f7d5a77e331
function hold_intakes(p_worker bigint, p_reports json) returns json plpgsql volatile body 1955d97427d8fa0e2ce6d1d3f9768d60
function hold_keys(p_said json, p_options json) returns void plpgsql volatile body fd51c6bbbff4153fa293378271102d41
function hold_policies(p_service text, p_attends json) returns void plpgsql volatile body a965e0333f6603eaa775b8302d3ea0ca
function hold_pushed(p_intake integer, p_worker bigint, p_holds boolean, p_connected boolean, p_trouble text, p_refused json) returns void plpgsql volatile body 2a51ee18dccc7f93976db0860fadcdc0
function hold_still() returns void plpgsql volatile body 36cb30879ccdcbac1c9af999886f5a07
function hold_worker(p_worker bigint) returns void plpgsql volatile body 94b17904c392ef261e73a15c93e3859c
function holds_of(p_slot smallint, p_claim bigint, p_token bigint, p_message bigint) returns boolean plpgsql volatile body 86ee36e8177cdb5397a5a246f287fe2a
function horizon(OUT xid xid8, OUT pid integer, OUT since timestamp with time zone, OUT prepared text) returns record plpgsql volatile body 2fe677ac4193373111bd1870ebae44b8
function id_of(p_public text) returns bigint sql immutable body 770fd5118467b6fc1be6d872c45b5eac
function ids(p_list json) returns bigint[] plpgsql immutable strict body 33542db36d1a0307de1efbc1293e5461
function in_order(p_slots smallint[], p_subscription integer, p_channel integer, p_lane integer, p_batch posthorn.batch, p_keys text[], p_marked boolean) returns posthorn.turn plpgsql volatile body 9b5fed6499a75ceb5b9d11a3ad21bbd9
function inbox_names(p_intake text) returns text[] plpgsql volatile body 4f2596b8fc27a18ad1a11156885e87fc
function inboxes() returns json sql volatile body f5e98a4f91171168abc60d625284ac2a
function intake_named(p_name text) returns posthorn.intake plpgsql volatile body 414e6090c658802c50c7d668f3a2793c
function intake_rules() returns TABLE(intake integer, intake_name text, name text, value bigint, threshold bigint, detail text) sql volatile body c9905a6d46007d73d970d9b0be005c95
function intake_runners() returns TABLE(intake integer, worker bigint, service text, host text, pid integer, alone boolean, seen_at timestamp with time zone, connected boolean, trouble text) sql volatile body 3b4fd7299f4326be0dce790b3076280f
function is_behind(p_subscription integer, p_key text, p_place bigint) returns boolean plpgsql volatile body 6753317ab5fc0eadd91c33788006d039
function is_claim(p_claimed text) returns boolean plpgsql immutable body 26118ffd31b40cf5f4b79fdeeb9f504c
function is_drained(name text) returns boolean plpgsql volatile body 2a948b6422dfec71e24344a25bc6ad7d
function is_forgotten(p_public text) returns boolean sql stable body 7d4d82940228ba7fdff39780d382637d
function is_free(p_intake posthorn.intake) returns boolean plpgsql volatile body e97cdf10b20d4fb130287549da4552cb
function is_full(p_ring posthorn.ring, p_retention posthorn.retention) returns boolean plpgsql volatile body db1406f8fd2abfe154a4eadc14cc8348
function is_here(p_system bigint, p_database oid) returns boolean plpgsql volatile body 70b138fcbb4ebf6bfec8d8ef5e908350
function is_intake(p_name text) returns boolean sql stable body 3beb2f70b15bcf264d20fa52fecb24eb
function is_locked(p_key bigint) returns boolean sql volatile body 575a69e2ddf3ae9bcdad10052c30896e
function is_open_of(p_slot smallint, p_claim bigint) returns boolean plpgsql volatile body af9c70c891a1551b88860554c22d41b8
function is_over(p_ring posthorn.ring, p_segment posthorn.segment, p_retention posthorn.retention) returns boolean plpgsql volatile body f0b0e628616ae7698af93710244084cc
function is_passed(p_at posthorn."position", p_id bigint, p_xid xid8) returns boolean plpgsql stable body b81775ecd063d310614bd71b01d148f7
function is_probed(p_row posthorn.circuit, p_now timestamp with time zone) returns boolean plpgsql volatile body 816a4eebf351690b3091c6732604271e
function is_ready(p_slots smallint[], p_first_id bigint, p_subscription integer, p_lane integer, p_channel integer) returns boolean plpgsql volatile body fb70aff2d59eaeb45f018a949d9d0c17
function is_rotation_due(p_ring posthorn.ring, p_retention posthorn.retention) returns boolean plpgsql volatile body 6097506c605784f237a52a87805e2793
function is_server(p_system bigint, p_database oid) returns boolean plpgsql stable body 16a0db71ec3efe97dcc917747ca8029e
function is_used_of(p_slot smallint) returns boolean plpgsql volatile body 8dd234421f7dd1ea874afda452def390
function is_written_of(p_slot smallint, p_channel integer, p_lane integer, p_message bigint) returns boolean plpgsql volatile body fc427a3df6b670a122db29339a3af6b1
function item(p_id bigint, p_nonce bigint, p_slot smallint, p_contract integer, p_key text, p_payload json, p_headers json, p_published_at timestamp with time zone, p_expires_at timestamp with time zone) returns text sql stable body e9689c4469b927c803ce75f2e8c93c8d
function join_inboxes(p_from posthorn.intake, p_to posthorn.intake, p_name text) returns void plpgsql volatile body 2bccdb2a7f3f9a0fcd45544d026fb3af
function join_lists(p_from integer, p_to integer, p_id integer) returns void plpgsql volatile body b4c758088a86bc1ddfb46f0bd57c495f
function joined_intake(p_from posthorn.intake, p_to posthorn.intake, p_name text) returns integer plpgsql volatile body 56553e60b79a68c335df46df9f6d7c9c
function keep_result(p_subscription integer, p_message bigint, p_nonce bigint, p_result json) returns void plpgsql volatile body 23d84c05fa3383e477421f40b673ab0c
function keep_segments() returns void plpgsql volatile body 4e3f7c5eb0463e0def3ae348966e02aa
function kept_from(p_channel integer) returns timestamp with time zone plpgsql volatile body f62a4229deaff87b7b2b5ed7f4d83b66
function kept_until(p_segment posthorn.segment, p_retention posthorn.retention, p_full boolean) returns timestamp with time zone plpgsql volatile body 23da2741c3475a1ac30e1865501d1910
function key_room(p_allow posthorn.allowance, p_key text, p_in_line boolean) returns posthorn.key_room plpgsql volatile body 8563c03572c2fd57938164fcca96a51d
function keys_of(p_slot smallint, p_channel integer, p_lane integer, p_ids bigint[]) returns text[] plpgsql volatile body ad9b016a4327e3efa3bffba35c641bdc
function lane_head(p_slots smallint[], p_subscription integer, p_lane integer, p_channel integer) returns timestamp with time zone plpgsql volatile body f528e9116f9c5a2ca631c567f4a8b37b
function lane_in(p_address integer, p_key text) returns integer sql immutable body fed731afc8a6746a34f002d07aaac1fe
function lane_missed(p_subscription integer, p_lane integer, OUT last_id bigint, OUT n bigint, OUT ids bigint[], OUT slots smallint[]) returns record plpgsql volatile body 76e68083b88f882f028b84424f6d7032
function lane_of_priority(p_priority integer) returns integer sql immutable body b16ef50a4d83878f7b41f054fcc7f31d
function lanes_of(p_channel integer) returns SETOF integer sql stable body 9f7b985c3ce24a48e4581049a4a1a8ce
function late_messages_of(p_slot smallint, p_channel integer, p_lane integer, p_xids xid8[], p_after bigint, p_upto bigint, p_limit integer, p_marked integer) returns TABLE(id bigint, nonce bigint, contract integer, key text, published_at timestamp with time zone, expires_at timestamp with time zone) plpgsql stable body dc10ca2a47a482d0b208039a68f48437
function late_page(p_slots smallint[], p_channel integer, p_lane integer, p_xids xid8[], p_after bigint, p_upto bigint, p_limit integer) returns posthorn.batch plpgsql volatile body 6d0980cda440b369328d3a86af22b86b
function late_page_of(p_slot smallint, p_channel integer, p_lane integer, p_xids xid8[], p_after bigint, p_upto bigint, p_limit integer) returns posthorn.batch plpgsql volatile body eab23f805d623a0d5cb359e80ca892ef
function late_since_of(p_slot smallint, p_channel integer, p_lane integer, p_seen pg_snapshot, p_upto bigint, p_first_id bigint, p_now pg_snapshot) returns xid8[] plpgsql stable body 49ddd349b43cc8036ab4b7f68a4020ec
function late_xids(p_slots smallint[], p_channel integer, p_lane integer, p_floor pg_snapshot, p_floor_id bigint, p_first_id bigint, p_ceiling pg_snapshot) returns xid8[] plpgsql volatile body 29bf1c35e257c2d87f5c93e5ef55f843
function late_xids_of(p_slot smallint, p_channel integer, p_lane integer, p_floor pg_snapshot, p_floor_id bigint, p_first_id bigint, p_ceiling pg_snapshot) returns xid8[] plpgsql volatile body 5468435343739a0fac554e84f66ee010
function leave(p_move uuid, p_other text, p_system bigint, p_database oid) returns void plpgsql volatile body c19434b41f235e7b1e16c0d94aa8da9c
function left_in_lane(p_row posthorn.operation, p_reader posthorn.subscription, p_lane integer, p_limit integer, OUT messages bigint, OUT late boolean) returns record plpgsql volatile body f29207f0cc11533d625230ede89de5ef
function let_go(p_deferred bigint) returns void plpgsql volatile body ef705fe3c3d9896ea26d434550520ead
function letters(p_filter json, p_limit integer) returns json plpgsql stable body 4e32a2a9ca1677328712eef548b0a9f1
function letters_count(p_filter json) returns json plpgsql stable body 7e275f7e4228432883825a825ec7308c
function letters_piece(p_row posthorn.operation, p_limit integer, OUT done bigint, OUT more boolean, OUT busy boolean, OUT place json) returns record plpgsql volatile body 4b4af481955aa771dd2026ad966c4628
function letters_where(p_filter json) returns text sql immutable body df20a9e1d39341c8ccebee6b9838b3e1
function library_parts(p_version text) returns integer[] sql immutable body 5806d515fb5d2226a910c9dbb6df0d4f
function limits_now(p_subscription text) returns json plpgsql stable body 8c4337553d54c022258ed022a5097c8e
function line_step_ms(p_allow posthorn.allowance) returns double precision plpgsql immutable body e9a49f8645e49d86dbf2a69117553c46
function list_schedules(p_late_ms integer) returns json plpgsql volatile body ec690025089145805668077af32ef120
function listed(p_key text, p_contracts integer[], p_upto bigint, p_limit integer) returns TABLE(subscription integer, message bigint, nonce bigint) sql volatile body 2d288bf8ea6a2c8921784d37ee09c8d9
function living(p_subscription integer) returns TABLE(worker bigint, service text, host text, pid integer, contracts integer[], policy json) sql volatile body 2523a7d52293d1eed56a692a9b9aa662
function lock_due(p_subscription integer, p_contracts integer[], p_from integer, p_below integer, p_limit integer, p_ordered boolean) returns bigint[] plpgsql volatile body 4fab3d6361bd92c12c4e8d1fdd79c40b
function lock_key(p_purpose text, p_a bigint DEFAULT 0, p_b bigint DEFAULT 0) returns bigint plpgsql immutable body cf8a56d16f5730e54e09c24ed2dabe98
function lock_slot(p_slot smallint) returns void plpgsql volatile body bb5aff7f9ab4b6956c759b8e32321ebe
function log_heads(p_channel integer, p_after bigint, p_upto bigint, p_limit integer) returns TABLE(id bigint, lane integer, nonce bigint, contract integer, key text, published_at timestamp with time zone, xid xid8, slot smallint) plpgsql volatile body aedfa0c3095fcfc54b90bae57de7c332
function log_heads_of(p_slot smallint, p_channel integer, p_lane integer, p_after bigint, p_upto bigint, p_limit integer) returns TABLE(id bigint, lane integer, nonce bigint, contract integer, key text, published_at timestamp with time zone, xid xid8, slot smallint) plpgsql volatile body 4239ecba9b95eca983d84a6ca62595b7
function log_ids() returns TABLE(sequence regclass, relation regclass, col name) sql stable body af3cda1b4a73b3f0fbc49357aa9fcda8
function log_status(p_subscription posthorn.subscription, p_lane integer, p_id bigint, p_xid xid8) returns json sql stable body f796f0f31001bcbcee77990df04d0ef3
function longest_redelivery(p_policy json) returns double precision plpgsql immutable body 0b88baf028de65bb2105058a54d32b6a
function look_at_claims(p_allow posthorn.allowance) returns posthorn.allowance plpgsql volatile body b736a349bf362381ea37c4b633d976e7
function make_backlogs() returns void plpgsql volatile body 7b11c3959b6a2c609fb133f1e8cc95d2
function make_lane(p_channel integer, p_priority integer) returns void plpgsql volatile body 27766ccc20595b7dbd2a7535f209282e
function mark_places(p_intake integer, p_marks uuid[], p_keep_until timestamp with time zone) returns integer[] plpgsql volatile body 17a2b96951b02dacf0f9a3077e602fb5
function merged(p_slots smallint[], p_batches posthorn.batch[], p_limit integer) returns posthorn.batch plpgsql volatile body b8af85c01aab2eb1107aab26a92333f0
function message_of(p_slot smallint, p_channel integer, p_lane integer, p_id bigint) returns posthorn.stored plpgsql volatile body 09b4b1b233da5c9b89d98f6e9cdcc992
function message_status(p_public text) returns json plpgsql stable body a2b65c9930c95902d12d77d31ae1b5d0
function message_statuses(p_publics json) returns json plpgsql stable body 2fe88f18c35623651881fdded4d7ed82
function messages_of(p_slot smallint, p_channel integer, p_lane integer, p_after bigint, p_upto bigint, p_limit integer, p_marked integer DEFAULT NULL::integer) returns TABLE(id bigint, nonce bigint, contract integer, key text, published_at timestamp with time zone, expires_at timestamp with time zone) plpgsql stable body 3cf11d381585c1cfe4cb383fa256c193
function missed_of(p_slot smallint, p_channel integer, p_lane integer, p_from bigint, p_upto bigint, p_floor pg_snapshot, p_ceiling pg_snapshot, p_after bigint) returns bigint[] plpgsql volatile body 21d33fe72e1855c5a220c428b71a0b3c
function mixed_policies(p_subscription integer) returns text sql volatile body a3f014a08e68154fdfce35479da094a2
function move_facts() returns json plpgsql volatile body a82724749f4d95fbe41ff55b6110c993
function move_lane(p_subscription integer, p_lane integer, p_slot smallint) returns void plpgsql volatile body 374fee0328eb36848d92e91ad7da78cc
function move_lanes(p_slot smallint, p_limit integer) returns integer plpgsql volatile body b6e4e5026df897a05e02db31e1281f30
function move_tables() returns json sql volatile body 6ced16d8647fff323235417dcd5a8a9b
function moved_away() returns text plpgsql volatile body d52d6531ecf045908b98fd30bf686238
function ms_of(p_at timestamp with time zone) returns bigint plpgsql immutable body 0ec41b9b70da3ad87eb8514a4adc4081
function new_lanes(p_subscription integer, p_lanes integer, p_from_start boolean) returns void plpgsql volatile body 973f25f3a1d0f064a7a859ced4a1f844
function newest_claim_at(p_subscription integer) returns timestamp with time zone plpgsql stable body a3515445329879b83e17decf5456b40c
function newest_claim_of(p_slot smallint, p_subscription integer, p_lane integer) returns posthorn."position" plpgsql stable body 5c991159aa8a7d4d05913f3d78ff7c62
function newest_end_of(p_slot smallint, p_subscription integer, p_message bigint, OUT outcome text, OUT delivery integer) returns record plpgsql volatile body d14dca68789ace1e679e1ae64e3e106b
function newest_ending(p_subscription integer, p_id bigint, OUT outcome text, OUT at timestamp with time zone, OUT delivery integer) returns record plpgsql stable body d22a3bd43d46e1a6c2d4d13033a78db6
function newest_tick_of(p_slot smallint) returns posthorn.tick plpgsql volatile body 7a6d5a0157baffcf8c74a3759baced29
function next_slot(p_ring posthorn.ring) returns smallint plpgsql immutable body f4940c587cdf984db71618ed035c5edc
function nonce_of(p_public text) returns bigint sql immutable body 461a80fda8f946d15bc85b9d0a75e76b
function normalised(p_text text) returns text sql immutable body a4d5a5c506b176bc8ef42f6393fdb75e
function note_operation(p_verb text, p_arguments json, p_by text, p_reason text, p_done bigint) returns void plpgsql volatile body fff8c635fd665cf80d522e61afbc2dba
function note_schedule_failure(p_name text, p_revision bigint, p_error text) returns void plpgsql volatile body ced7724ff0c655e016f794984722fdac
function note_unfit(p_intake integer, p_messages json, p_now timestamp with time zone, p_keep_until timestamp with time zone) returns integer[] plpgsql volatile body 02682d4e41d86314f58681013e6867cd
function oldest_kept(p_channel integer) returns timestamp with time zone plpgsql volatile body 77d57110d4369e461ff330dbfe17dbb6
function open_claims() returns SETOF posthorn.claim_1 sql stable body 50919d76d43047e129eac41204df9006
function open_claims_of(p_slot smallint, p_worker bigint, p_from bigint, p_limit integer) returns SETOF posthorn.claim_1 plpgsql stable body 1456df34dff3056a06e3c2ace1c50831
function open_keys(p_subscription integer, p_lane integer, OUT keys bigint[], OUT open_from bigint, OUT unknown boolean) returns record plpgsql volatile body 19ba5b958c4d421d77b768a0ae5cbf6f
function open_keys_of(p_slot smallint, p_subscription integer, p_lane integer, OUT keys bigint[], OUT open_from bigint, OUT unknown boolean) returns record plpgsql volatile body 197979e639a5d2b648fdbef3c5d4f51c
function open_places() returns TABLE(subscription integer, lane integer, id bigint, worker bigint, slots smallint[]) sql volatile body 840c7b1309dfc5b1b5b8ee51ac9d2b47
function open_runs(p_allow posthorn.allowance, p_keys boolean) returns TABLE(key text) plpgsql volatile body 7af373cdad928d722ad6b5fea24bc29c
function open_segment(p_ring posthorn.ring) returns json plpgsql volatile body f71b681422e22677eb235ca3c14bee0c
function open_slot(p_home text) returns smallint plpgsql volatile body 6b375a342fb16a90df2ad56c1a78fa94
function opened_by(p_circuit posthorn.circuit) returns text sql stable body 3cb438958fcbf61fcd0c1d826c096c6f
function operation_of(p_row posthorn.operation) returns json sql volatile body 9913d407d4a2c4788ef1836c905c07fd
function operation_state(p_state text, p_touched_at timestamp with time zone) returns text sql volatile body 9a56222f6ff211c3f19c073c142fe365
function operations(p_limit integer, p_running boolean) returns json sql volatile body 11203e3472c4b18b4323286b71029f8c
function option_keys(p_options json, p_known text[], p_what text) returns void plpgsql immutable body 00aeed47de092e14660a852a670dad32
function option_number(p_options json, p_field text, p_least bigint, p_most bigint) returns bigint plpgsql immutable body 3c690736c0f16823b98fa4a07bbe86c6
function options_of(p_options json, p_key text, OUT due_at timestamp with time zone, OUT expires_at timestamp with time zone, OUT priority smallint, OUT key text, OUT mode text, OUT window_ms bigint, OUT wait_ms bigint) returns record plpgsql volatile body 7013c05bc216aa0c7a47ccb045432b58
function order_ends(p_subscription integer) returns void plpgsql volatile body 575c8f1e753c0ed1c948e18eb9256c7a
function orphaned() returns TABLE(what text, name text, detail text) sql volatile body 8393bddb4073843e15c128a4a8441d25
function own_inbox(p_intake text, p_id integer) returns void sql volatile body defb32d52478ade8888c89eebd706ee6
function own_intake(p_intake integer, p_worker bigint) returns timestamp with time zone plpgsql volatile body 1e06579c9b7896149b7ce71c2206dd5c
function own_transaction(p_durable boolean) returns posthorn.ring plpgsql volatile body a4731655c3f912c1238ae62637d8d1c5
function page(p_slots smallint[], p_channel integer, p_lane integer, p_after bigint, p_upto bigint, p_snapshot pg_snapshot, p_limit integer) returns posthorn.batch plpgsql volatile body cd078dd8b1a079a87e640dfd4148d3f4
function page_of(p_slot smallint, p_channel integer, p_lane integer, p_after bigint, p_upto bigint, p_snapshot pg_snapshot, p_limit integer) returns posthorn.batch plpgsql volatile body cb5534bc4b4e26a7308fa680d9104872
function park(p_subscription integer, p_key text) returns void plpgsql volatile body ad5be391eb8805b81f00153665bb1b82
function parts_of(p_slot smallint, p_claim bigint) returns SETOF posthorn.settlement_1 plpgsql volatile body 874862cacd05d8e4ec18694dbe1c6ebc
function pause(name text, by text DEFAULT NULL::text, reason text DEFAULT NULL::text) returns json plpgsql volatile body 9397130f87307aeb7031edd6484eef7b
function pause_intake(p_name text, p_by text, p_reason text) returns json plpgsql volatile body 34209f423da5d0f9cf7b761a522a3c60
function pause_of(p_row posthorn.subscription) returns json sql immutable body b858238664ff9d84498a3597d054d1f7
function peek(p_worker bigint, p_subscriptions json, p_seen text, p_watch boolean DEFAULT false) returns json plpgsql volatile body aedcc7632b79516db144ef60e44d4947
function pins(p_n bigint) returns text[] plpgsql volatile body 73483686ba6d673c5c193f9e5490aa1c
function plain_plans() returns void plpgsql volatile body 7724d5677658961553186027baf5bcb3
function policy_changes(p_name text, p_limit integer) returns json sql stable body 454e416a6659dfdab9fd98aed2cb3b5d
function policy_leaves(p_policy jsonb) returns TABLE(path text, value jsonb) sql immutable body 8f505c0ad9f040ae43590d6338ce5f6a
function position_of(p_subscription integer, p_lane integer) returns posthorn."position" plpgsql stable body a051c73d3ac550fde4f011b7e2058d52
function priority_of(p_lane integer) returns smallint sql immutable body aebe0a156dcfbcf52a675a2121bc42c6
function proceed(operation bigint, "limit" integer DEFAULT 500) returns json plpgsql volatile body 5734a5d642a98e2fc87f84821b37733d
function promote(p_subscription integer, p_keys json) returns integer plpgsql volatile body 3fecd0329359ef5c412ae7ed8f140a1a
function promote_key(p_subscription integer, p_key text) returns integer plpgsql volatile body 3cc9005b7f477bb995c038988edda39d
function prune(p_every_ms integer, p_limit integer) returns integer plpgsql volatile body cde87d4c543d2a4927b4486ad560919a
function public_id(p_id bigint, p_nonce bigint) returns text sql immutable body 5069506832cd976835edb476b9c2a329
function publish(name text, payload json, key text DEFAULT NULL::text, headers json DEFAULT NULL::json, version integer DEFAULT NULL::integer) returns text sql volatile body cd122eab60e425ce04327f9dd332ee63
function purge(name text, by text DEFAULT NULL::text, reason text DEFAULT NULL::text, confirm text DEFAULT NULL::text, states text[] DEFAULT '{queued,scheduled,retrying,parked}'::text[]) returns json plpgsql volatile body 2aa0d339886ef334c25fec0d80a36640
function purge_lane(p_row posthorn.operation, p_reader posthorn.subscription, p_lane integer, p_limit integer, OUT done bigint, OUT more boolean, OUT busy boolean) returns record plpgsql volatile body 462bd4a6d17499720036da2ba8e2312f
function purge_piece(p_row posthorn.operation, p_limit integer, OUT done bigint, OUT more boolean, OUT busy boolean, OUT place json) returns record plpgsql volatile body 08c821e685d78feae87151723b28b272
function purge_waiting(p_row posthorn.operation, p_reader posthorn.subscription, p_limit integer) returns bigint plpgsql volatile body 0d46173d015a251690c2548a9e33581b
function purgeable(p_name text, p_states text[]) returns bigint plpgsql volatile body 629844fa4f88de4a32c36372b6ac1c4e
function put_aside(p_allow posthorn.allowance, p_claim json, p_lane integer, p_worker bigint, OUT items text, OUT kept integer, OUT parts integer) returns record plpgsql volatile body fdd2038d56cb461f03586cc87f84e74a
function put_aside_of(p_slot smallint, p_subscription integer, p_channel integer, p_lane integer, p_ids bigint[]) returns void plpgsql volatile body 6a74060f61dddeb12464dc2386598a60
function put_off(p_subscription integer, p_lane integer, p_message bigint, p_slot smallint) returns void plpgsql volatile body ca15c8726ac5b37e42d7d26b3cd0de39
function raise_away() returns void plpgsql volatile body 5ddbc536c8f81eef4d2726798079a666
function raise_lost(p_what json) returns void plpgsql volatile body 6a8b885b7b2c1c4438671dc611452c13
function raise_sequences() returns void plpgsql volatile body cbd436f0abc139d639d554f4abcec55e
function random_bigint() returns bigint sql volatile body dd887409346f69fbc8358359170ee317
function read_again(p_intake integer, p_worker bigint, p_ids bigint[], p_marks uuid[], p_nonces bigint[], p_channels integer[], p_contracts integer[], p_keys json, p_payloads json, p_headers json, p_unfit json, p_former uuid[] DEFAULT NULL::uuid[]) returns json plpgsql volatile body c8a8210b24aa1c438c911830269f9c7a
function read_upto(p_ring posthorn.ring, p_subscription integer, p_lane integer, p_channel integer, p_from bigint, p_still bigint) returns bigint plpgsql volatile body d8717e470faa698aff5facdb18adc7b4
function reader(p_name text) returns posthorn.subscription plpgsql volatile body 1d0ab17feeb11072f9912befab067714
function rebase() returns json plpgsql volatile body 1af3179388db50832e748eb6c2169cdd
function rebase_lanes(p_base bigint) returns bigint plpgsql volatile body 3eba0a9d942a07da4c735bae24e0107a
function rebase_plan() returns json plpgsql volatile body 6af1584286358e1ca34e145b17aee2fd
function rebase_segments() returns void plpgsql volatile body 1eef52b90aa03b73ae77ea0b4b59f19a
function recent_alerts(p_limit integer) returns json sql stable body 6ae1fe61ce41410fd7ddc6f795b0ce8d
function recent_rate(p_subscription integer, p_lane integer, p_slot smallint) returns double precision plpgsql stable body 7f39db05a3858bcc42f078d344ab47a8
function record_step(p_worker bigint, p_subscription integer, p_message bigint, p_claim bigint, p_claim_slot smallint, p_deferred bigint, p_token bigint, p_name text, p_result json) returns json plpgsql volatile body e5a8fb0c20fdd845f6366e1bd720f54f
function redrive(p_filter json, p_by text, p_limit integer) returns json plpgsql volatile body 6ff3f25f52c8a4d325244d4f3b273716
function redrive_row(p_row posthorn.deferred, p_by text) returns void plpgsql volatile body 3214df7941aadecc860379ecc37d6dff
function refuse_run(p_row posthorn.intake, p_hint text DEFAULT 'Stop these, or deploy them without it.'::text) returns void plpgsql volatile body e6eb39cb059da6bacda9428a7d0333a2
function refuse_second_service(p_row posthorn.subscription, p_service text) returns void plpgsql volatile body 8c15c13f8d43955c4129f6dfd603ae96
function refuse_undrained(p_row posthorn.subscription, p_new jsonb, p_again boolean) returns void plpgsql volatile body 5c201e490b758f3734e0144be850d29e
function refuse_worked(p_row posthorn.subscription) returns void plpgsql volatile body f63b5338dc3acee68093e2d296ca63cf
function register_channel(p_kind posthorn.kind, p_name text) returns integer plpgsql volatile body 0319587c3f81922c5657b5b5f21e149c
function register_contract(p_name text, p_version integer, p_kind posthorn.kind, p_channel text, p_keyed boolean, p_owner text, p_service text, p_publishes boolean) returns json plpgsql volatile body 39d74d539effd0f0baf653552eae0681
function register_intake(p_name text, p_service text, p_broker text, p_place text, p_keep_ms double precision, p_away_ms double precision, p_contracts json, p_bounds json, p_knows boolean) returns json plpgsql volatile body 16ee00b8891036e24b273c88aa055ff4
function register_subscription(p_name text, p_kind posthorn.kind, p_channel text, p_idempotency posthorn.idempotency, p_policy json, p_service text, p_by json DEFAULT NULL::json, p_start_from text DEFAULT 'now'::text) returns json plpgsql volatile body 94b2bcd04fc6ea6ab492b5949f4a0aac
function register_topic(p_name text, p_keep_ms double precision, p_lanes integer, p_service text) returns void plpgsql volatile body 22e61d92745fa3d0f7e02518057fb7bd
function register_worker(p_service text, p_host text, p_pid integer, p_timeout_ms integer, p_session_key bigint, p_backends json, p_attends json, p_library text DEFAULT NULL::text) returns bigint plpgsql volatile body 746f2e4510f0ecaf9f07e68e0d986622
function registered() returns json sql stable body 875ead1279dd24c7ef353ad321c989a9
function registered_intakes() returns json sql stable body 119f2e8b9fabe9a65e692ef73ff03c84
function remaining(name text) returns json plpgsql volatile body 6a0f28a819a614887835ecf30efd57f7
function remaining_of_intake(p_name text) returns json sql volatile body 7cd115bad5bed96667bac97ea13ed5e4
function remove_intake(name text, by text DEFAULT NULL::text, reason text DEFAULT NULL::text, confirm text DEFAULT NULL::text) returns json plpgsql volatile body 63c1f0f2723aa50a6785ccf6e66b2d5f
function remove_intake_piece(p_row posthorn.operation, p_limit integer, OUT done bigint, OUT more boolean, OUT busy boolean, OUT place json) returns record plpgsql volatile body 56adc1a38d4229ae0b264ebe43634471
function remove_piece(p_row posthorn.operation, p_limit integer, OUT done bigint, OUT more boolean, OUT busy boolean, OUT place json) returns record plpgsql volatile body 2039419b96f3dcdb23d901c50e788977
function remove_schedule(p_name text) returns boolean plpgsql volatile body 688637a3039ef91b2c39a1ee2ce4775e
function remove_subscription(name text, by text DEFAULT NULL::text, reason text DEFAULT NULL::text, confirm text DEFAULT NULL::text) returns json plpgsql volatile body d263630c443f6971ce8dd3fa74b5f9f2
function rename_intake(name text, "to" text, by text DEFAULT NULL::text, reason text DEFAULT NULL::text) returns json plpgsql volatile body d11b31cb2384c0ac138dd5e1343222d6
function replay(name text, "from" timestamp with time zone, "to" timestamp with time zone DEFAULT NULL::timestamp with time zone, by text DEFAULT NULL::text, reason text DEFAULT NULL::text, confirm text DEFAULT NULL::text, contract text DEFAULT NULL::text) returns json plpgsql volatile body fc09f0a7e0c6b6849d01bde178cd905f
function replay_one(p_row posthorn.operation, p_reader posthorn.subscription, p_lane integer, p_id bigint, p_xid xid8, p_slot smallint, p_due timestamp with time zone) returns text plpgsql volatile body 9f713c806ec1945ed59e6e3296d99c09
function replay_piece(p_row posthorn.operation, p_limit integer, OUT done bigint, OUT more boolean, OUT busy boolean, OUT place json) returns record plpgsql volatile body 9bfa9cdb8195265c5a93ee2612e6d2b0
function replayable(name text, "from" timestamp with time zone, "to" timestamp with time zone, contract text) returns json plpgsql volatile body 26167c0a781e349cc820ec469a2f2a1b
function request_cancel(p_subscription posthorn.subscription, p_id bigint, p_nonce bigint, p_by text) returns text plpgsql volatile body 2be916f5a4834a40c94ed1c545fe64b6
function require_home() returns void plpgsql volatile body 4f53efe38d42e9dd02cd427d09a074f3
function rescue(p_limit integer) returns json plpgsql volatile body eabf38ae24b0577875a3bfc3efbf9dd8
function rescue_claim(p_worker posthorn.worker, p_claim posthorn.claim_1) returns integer plpgsql volatile body f9d59dcb247e38fa198b540e1c4d50c8
function rescue_deferred(p_worker posthorn.worker) returns integer plpgsql volatile body 262890839660fbdb57cf36548a205527
function rescue_worker(p_worker posthorn.worker, p_limit integer, OUT claims integer, OUT messages integer, OUT done boolean) returns record plpgsql volatile body 34b0942bda0770e461824a4ab0ad1563
function resume(name text, by text DEFAULT NULL::text) returns json plpgsql volatile body 696c0b29c07c8b65801c5336a23d94cb
function resume_intake(p_name text, p_by text) returns json plpgsql volatile body 312d412e2bed98c8283c16627f5eaf21
function ring_text() returns text sql volatile body 8aa107793e2ee7a24f4df9497bd568f5
function role_functions() returns TABLE(role text, functions text[]) sql immutable body cf2809e14d0453e70bb5ad1f89431a4d
function role_tables() returns TABLE(role text, tables text[]) sql immutable body eec07d803fa51390d1b0a0657856a23e
function room_at(p_tat timestamp with time zone, p_at timestamp with time zone, p_gap_ms double precision, p_burst integer) returns integer plpgsql immutable body a385f8d45e26295243066dfa45e083c8
function rotate() returns json plpgsql volatile body 9414c67421a74c52a12abaf225063d95
function rules_now() returns TABLE(name text, subscription integer, intake integer, subscription_name text, value bigint, threshold bigint, detail text) sql volatile body 214f66de53733a76cd4e64699a74caab
procedure run(IN operation bigint, IN per_second integer DEFAULT NULL::integer) plpgsql volatile body 76e2195dd0fa6f1d8760919f4cdb22b2
function run_at(p_text text, p_latest timestamp with time zone) returns timestamp with time zone plpgsql stable body 4b68c6abc664034b077609073db17822
function running_in_log(p_subscription integer, p_ends boolean, p_limit integer) returns TABLE(message bigint, nonce bigint, contract integer, key text, published_at timestamp with time zone, state text, at timestamp with time zone, worker bigint, expires_at timestamp with time zone, deferred bigint) sql stable body 6857e142301b8b6e5044e885fdfa475c
function said(p_name text, p_kind posthorn.kind, p_payload json, p_key text, p_headers json, p_options json DEFAULT NULL::json, p_version integer DEFAULT NULL::integer) returns text plpgsql volatile body b50da57effadc0a3170106f99d216a7b
function said_within(p_channel integer, p_from timestamp with time zone, p_to timestamp with time zone, p_contract text, p_upto bigint) returns bigint plpgsql volatile body 72e450dcb716755bab73fda70bcda3f1
function say_new(p_slot smallint, p_subscription integer, p_entry json, p_id bigint, p_due_at timestamp with time zone, p_expires_at timestamp with time zone, p_priority smallint, p_once_more boolean DEFAULT false, p_behind bigint DEFAULT NULL::bigint) returns json plpgsql volatile body 45f1d894bb161c1d5005df8b4e63bea8
function say_once(p_slot smallint, p_subscription integer, p_entry json, p_due_at timestamp with time zone, p_expires_at timestamp with time zone, p_priority smallint, p_key text, p_mode text, p_window_ms bigint, p_wait_ms bigint) returns json plpgsql volatile body 9f8cc36aef75a9437bf84335ecf3a7cd
function say_one(p_slot smallint, p_entry json, p_options json, p_key text) returns json plpgsql volatile set enable_seqscan=off, enable_bitmapscan=off, enable_hashjoin=off, enable_mergejoin=off, jit=off, plan_cache_mode=force_generic_plan body 0d10a80d9a4b7cfed1819c5eec78132a
function scaling() returns json plpgsql volatile body 3604953ebaa1f410051050373fb6f5df
function schedule_now(p_name text) returns json plpgsql volatile body 52d0474314c408a708ecc05ae41fe636
function seal_segments(p_ring posthorn.ring) returns text plpgsql volatile body 40a5ee794e0f42f35d13bf76d73ffeb5
function segment_ms(p_retention posthorn.retention) returns double precision plpgsql stable body b10593d3364ed628761fceb7ca31a136
function segment_now(p_slot smallint, OUT segment bigint, OUT state text, OUT opened_at timestamp with time zone, OUT closed_at timestamp with time zone, OUT bytes bigint, OUT kept_until timestamp with time zone, OUT pinned_by text[]) returns record plpgsql volatile body 4755688c8d650b9f51b2f2daea47c0cd
function send(name text, payload json, key text DEFAULT NULL::text, headers json DEFAULT NULL::json, options json DEFAULT NULL::json, version integer DEFAULT NULL::integer) returns text sql volatile body 3e2f2e201b251c088df80a93ab3adc0f
function sequence_floors() returns TABLE(sequence regclass, at_least bigint) plpgsql volatile body d693fbb49b38cc30529fdbdd917520bf
function sequence_values() returns json sql volatile body 7f65b05415f2ac095cd80590e49a0d6f
function set_backlog(p_channel integer, p_backlog bigint) returns void plpgsql volatile body 9be638d6cc0293fb534b235b5abfc13a
function set_backlog_limit(p_subscription integer, p_policy json) returns void plpgsql volatile body 4cf2b33324643b49fecc619156b7ff9f
function set_limits(p_subscription integer, p_policy json) returns void plpgsql volatile body 36795627b850f8464ab8c422481368fd
function settle(p_parts json, p_ends json, p_say json) returns json plpgsql volatile body 7ec3dd2db1fa9e8c6805ce2b8cad9296
function settle_part(p_part json) returns bigint[] plpgsql volatile body 6fa48def143627f181c8b31c645e7644
function settle_part_of(p_slot smallint, p_claim bigint, p_token bigint, p_part integer, p_outcome posthorn.outcome, p_closes boolean, p_messages bigint[]) returns boolean plpgsql volatile body 7867f14ce0bdbd1acc07cccbddcb54de
function slot_branches(p_body text) returns text sql immutable body 60a9c3a33507ec88fd098980ff2e1529
function slot_for_end(p_row posthorn.deferred) returns smallint plpgsql volatile body c19a9c85bbcdf186cc88919be8780871
function slot_of_claim(p_claim bigint) returns smallint sql volatile body a7963bf32941e58ea1c9ba97da58ebbf
function slots_from(p_ring posthorn.ring, p_segment bigint) returns smallint[] plpgsql immutable body 471f6e6a078e341d62e82a26de790224
function space_in_words() returns text plpgsql volatile body 480877dd636a80341be6c92686dc9293
function spill(p_parts json, p_spill json) returns json plpgsql volatile body 94a0e1d99beda0caf032e02671956630
function standing(p_subscription integer, p_contract integer) returns json plpgsql volatile body 2f6274345925f2f3f2b0e175dafb472e
function stands_for(p_entry json, p_held posthorn.dedupe) returns json plpgsql volatile body be98b77c2e95eb8446362b91ffdd7284
function steps_of(p_subscription integer, p_message bigint) returns json plpgsql volatile body 94d87ed8a13b77ba49a71698c092be19
function still_upto(p_ring posthorn.ring) returns bigint plpgsql volatile body 0f157cfd8c357c3d86d74034b1e22f00
function stop_operation(operation bigint) returns boolean plpgsql volatile body 3f2d4613937a0aa10f4bb30b39046758
function subscriptions() returns json sql volatile body 4dfb4e9baf249ec313dcf2521aecce20
function sweep_cancel_requests(p_limit integer) returns void plpgsql volatile body cc4606c1a394ea861a07a3d4519bd47b
function sweep_inbox(p_pages integer) returns boolean plpgsql volatile body e717af08c0176f2a956137d05a7f0a47
function sweep_keys(p_limit integer) returns json plpgsql volatile body a97b6596d42ac882c2cf0423144be82f
function sweep_steps(p_limit integer, p_every_ms integer) returns json plpgsql volatile body 1e77009cc4664370f8d6f7dbec69f072
function take(p_subscription integer, p_worker bigint, p_contracts json, p_limit integer) returns json plpgsql volatile body a2aa86412f88bda7f0a82b49ebfe1024
function take_again(p_intake integer, p_worker bigint, p_ids bigint[], p_marks uuid[], p_nonces bigint[], p_channels integer[], p_contracts integer[], p_keys json, p_payloads json, p_headers json, p_unfit json) returns integer sql volatile body f19ad786a35a5a1dbd207523ef06b8e6
function take_due(p_subscription integer, p_worker bigint, p_contracts json, p_limit integer) returns json plpgsql volatile body c9396cf42aadc3420965440ec1057f0c
function take_in(p_intake integer, p_worker bigint, p_marks uuid[], p_nonces bigint[], p_channels integer[], p_contracts integer[], p_keys json, p_payloads json, p_headers json, p_invalid json, p_skipped integer, p_former uuid[] DEFAULT NULL::uuid[], p_skipped_type text DEFAULT NULL::text) returns json plpgsql volatile body 8203643dbb4b6e287a10ef8b471db7d2
function take_letters(p_filter json, p_limit integer) returns SETOF posthorn.deferred plpgsql volatile body ae455ca48698a63aeb5643acfe3aeec8
function take_ring(p_ring text) returns void plpgsql volatile body ce1223cb103fe8b286463ba95faf7b49
function take_sequences(p_values json) returns void plpgsql volatile body d7f8a8b174130668f106ef65d5a5c19e
function takes_policy(p_row posthorn.subscription, p_idempotency posthorn.idempotency, p_policy json, p_service text, p_by json) returns boolean plpgsql volatile body b8126000e033e78f1898914b8f196d1f
function tat_from(p_tat timestamp with time zone, p_at timestamp with time zone, p_gap_ms double precision, p_burst integer) returns timestamp with time zone plpgsql immutable body df7df8c3ae305e48de624b2555658983
function thrown_at(p_entry json) returns text sql immutable body c6902a167516d29bb8633935e6a6dfba
function tick_of(p_slot smallint, p_id bigint) returns posthorn.tick plpgsql volatile body b42d63568f4791a19b26e8ab22275e79
function tidy_dedupe(p_limit integer) returns integer plpgsql volatile set enable_hashjoin=off, enable_mergejoin=off body 457088d6fc4986b93f6c330495ed64ba
function truncate_segment(p_ring posthorn.ring, p_segment posthorn.segment, p_retention posthorn.retention) returns text plpgsql volatile body 9d4e218789a0aab7a895e50fa53c39c2
function truncate_slot(p_slot smallint) returns void plpgsql volatile body 5d4583d2484f5753f6533ff8e0f959a3
function turn_of(p_row posthorn.deferred) returns posthorn.deferred plpgsql volatile body 862054950605c5682e75a84e6c26f272
function unclaimed(p_subscription integer, p_channel integer, p_limit integer) returns TABLE(message bigint, nonce bigint, contract integer, key text, published_at timestamp with time zone, state text, at timestamp with time zone, worker bigint, expires_at timestamp with time zone, deferred bigint) plpgsql stable body 23a4b81e6d07b54ae5d9dad80f13a9fd
function unfit_again(p_intake integer, p_limit integer) returns json plpgsql volatile body c7d372112453ba799678772832937da9
function unfit_count(p_filter json) returns json plpgsql stable body 7ae7d74f56603719b930a78aef6398ce
function unfit_discard(p_filter json, p_by text, p_reason text) returns integer plpgsql volatile body aac52c8ec92669d6556003bb57108aa3
function unfit_list(p_filter json, p_limit integer) returns json plpgsql stable body b5cc0cfb1de11f45104c914442ba75fc
function unfit_mark(p_identity uuid, p_content_type text, p_headers json, p_body bytea, p_bytes bigint) returns uuid sql immutable body 0be2f988876df7b40813d27217429762
function unfit_of_key(p_key text, p_contract text, p_channel text) returns SETOF posthorn.intake_invalid sql stable body 32127c1519909812bc33f58223112373
function unfit_redrive(p_filter json, p_by text) returns integer plpgsql volatile body dce82dd5761d3d15fbbdd874e25b7c41
function unfit_where(p_filter json) returns text sql immutable body fdba784840181cdb94fd06d9f2b7d6b4
function unhandled(p_limit integer) returns TABLE(subscription integer, contract integer, messages bigint, oldest timestamp with time zone) sql volatile body 05e91f942a8de25f20971ac8e8125699
function unsettled(name text) returns json plpgsql volatile body e02518449bb04959f143e83f01b5a373
function unsettled_of(p_slot smallint, p_claim bigint) returns TABLE(message bigint, lane integer, slot smallint, subscription integer) plpgsql volatile body d41be358398d531256f348a2772b2e87
function urgency(p_priority integer, p_since timestamp with time zone) returns double precision sql volatile body 0f95d6f3629ab7f645dad84bc9984e85
function use_permits(p_allow posthorn.allowance, p_used integer, p_wanted integer) returns integer plpgsql volatile body d9abfc21c29c04d54cfd363f1e60ef54
function wait_after(p_allow posthorn.allowance, p_taken integer, p_wanted integer) returns integer plpgsql volatile body 8271d2dbf31ac38d599e0543d9ac5b7e
function waiting_again(p_subscription integer, p_limit integer) returns bigint sql stable body f83611a618bbab46885b856e7be777a3
function waiting_for(p_limit posthorn.backlog_limit, p_most integer) returns bigint plpgsql volatile set enable_seqscan=off, enable_bitmapscan=off, enable_sort=off body dfe569259485d841c70a5ab004e77048
function waiting_in_log(p_subscription integer, p_limit integer, OUT messages bigint, OUT oldest timestamp with time zone) returns record plpgsql stable body 35c7c24d4cf7c71d7a0715bb1071ed89
function waiting_messages(p_name text, p_limit integer, p_states text[] DEFAULT NULL::text[]) returns json plpgsql stable set enable_seqscan=off, enable_bitmapscan=off, enable_sort=off, jit=off, plan_cache_mode=force_generic_plan body 2ac66babeead2122680320f3247beb9e
function waiting_of(p_held posthorn.dedupe) returns posthorn.deferred plpgsql volatile body 14f88992f7cd059359fec4ec39928031
function waiting_outside(p_subscription integer, p_states text[], p_now boolean, p_limit integer) returns TABLE(message bigint, nonce bigint, contract integer, key text, published_at timestamp with time zone, state text, at timestamp with time zone, worker bigint, expires_at timestamp with time zone, deferred bigint) plpgsql stable body 33169250e25961efbed6b0308dffd336
function waiting_state(p_token bigint, p_place bigint, p_due_at timestamp with time zone, p_reason posthorn.outcome) returns text sql immutable body 18a81ed1f9aa0e7c903969488bdb3284
function waiting_status(p_subscription posthorn.subscription, p_id bigint, p_nonce bigint) returns json sql stable body 9b333999d517569ad3762529b8e01ae4
function waits_for(p_segment posthorn.segment) returns text plpgsql volatile body f03b992c771a7b43d7c2c567768ae0c7
function wake(p_payload text) returns boolean plpgsql volatile body 7d9d0981f73194a029667eb327d82493
function wake_with(p_payload text) returns boolean plpgsql volatile body 614f1786dd8d30f65759649634e70a2d
function watch(p_every_ms integer) returns json plpgsql volatile body 2a78e0b75b5749a45037e64af6e5d882
function when_again(p_subscription integer, p_wait_ms integer) returns text plpgsql volatile body ec812a7fd2b18b07c98b88f7dbb39e6f
function where_in_log(p_id bigint, p_nonce bigint, OUT slot smallint, OUT lane integer, OUT contract integer, OUT published_at timestamp with time zone, OUT xid xid8) returns record plpgsql stable body d2e24a5b435dd7bdb8b621316475f7e2
function why(p_public text) returns json plpgsql stable body 00968fa1acf5dfc4147cea752a79a010
function why_attended(p_subscription text, p_contract text) returns jsonb sql stable body 4048314ee068fabf0e716b0a14c70ecd
function why_away(OUT reason text, OUT says text, OUT hint text) returns record plpgsql volatile body 9a7bcdd93859f4e8acb82e3c2deb8e74
function why_in_log(p_subscription posthorn.subscription, p_lane integer, p_id bigint, p_xid xid8) returns json plpgsql stable body 9222ee6f1511dc3370eff84137a31aa8
function why_order(p_subscription integer, p_key text, p_place bigint) returns json sql stable body fa9fa205af407539f7ea5e6acdce794d
function why_position(p_subscription integer, p_lane integer) returns posthorn."position" plpgsql stable body 6bbd03a374c34d93f598398d1dbc5053
function why_steps(p_subscription integer, p_message bigint) returns json sql stable body 5fdbd85458184410c08d5f15d33182e6
function why_told(p_receiver json, p_id bigint, p_nonce bigint) returns jsonb plpgsql stable body a1a437f7680bd69533d40a9562175264
function why_waiting(p_subscription posthorn.subscription, p_id bigint, p_nonce bigint) returns json sql stable body 9b0ee58ecfef63de4c29108b1aa115bb
function why_worker(p_worker bigint) returns json sql stable body 9ddabcf5afb83430c7aeea7a6ef57a7b
function with_entry(p_history json, p_entry json) returns json sql immutable body 43c9fd4d0778cde38d025d744f8569df
function with_outcome(p_subscription integer, p_message bigint, p_nonce bigint, p_contract integer, p_status json) returns json plpgsql stable body 3dec29a586d540bec1302fad4aa7e3da
function withdraw_intake(p_id integer, p_made numeric) returns boolean plpgsql volatile body 786f2db9a6c2597c63b89a8ad7019ed4
function without_marked(p_subscription integer, p_batch posthorn.batch) returns posthorn.batch plpgsql volatile body 040541ff6cc012a875e1ee1613c82971
function without_requested(p_subscription integer, p_ids bigint[]) returns bigint[] plpgsql volatile body cbcba3b325cf73c6ac44e4d5b6a85ee0
function work(p_subscription integer, p_lane integer, p_worker bigint, p_limit integer, p_parts json) returns text plpgsql volatile body 4d550c03412c65a177d74fe5089c8767
function write_cancelled(p_row posthorn.deferred, p_reason text, p_by text) returns void plpgsql volatile body 623c7a61289bcb2e735e6d4d963a3e78
function write_discarded(p_row posthorn.deferred, p_list text, p_by text, p_reason text) returns void plpgsql volatile body e35df667da250377417fb5e2464ca153
function write_many(p_home text, p_nonces bigint[], p_channels integer[], p_contracts integer[], p_keys json, p_payloads json, p_headers json) returns text plpgsql volatile body 58b83ae4a024dff2404b4b05afeabf4b
function write_once(p_home text, p_nonce bigint, p_channel integer, p_contract integer, p_key text, p_payload json, p_headers json, p_once text, p_window_ms bigint) returns text plpgsql volatile body a8eae912a3b4ceb0912faff21808de4c
function write_one(p_home text, p_nonce bigint, p_channel integer, p_contract integer, p_key text, p_payload json, p_headers json) returns text plpgsql volatile body 9fdcdcc8afeda72f402ecaea566eb568
function write_ordered_claim(p_slot smallint, p_claim bigint, p_token bigint, p_worker bigint, p_subscription integer, p_lane integer, p_at posthorn."position", p_took_late boolean, p_messages bigint[], p_message_slots smallint[], p_keys bigint[], p_open_from bigint) returns void plpgsql volatile body 1abf462fe8ae34a27c61406cfcec9baa
function write_places(p_places integer[], p_nonces bigint[], p_channels integer[], p_contracts integer[], p_keys json, p_payloads json, p_headers json) returns void plpgsql volatile body a7eb49b3077b2039d9bc0aae18a8d17b
function write_progress(p_worker bigint, p_values json, p_ended json) returns void plpgsql volatile body bf9822207ac3685cf6c6f309017dbd03
function write_said(p_home text, p_said json) returns text plpgsql volatile body 346ffac8d2231cca5f69f658f0ae82b6
function write_stopped(p_row posthorn.deferred, p_erased boolean, p_reason text, p_by text) returns void plpgsql volatile body b606b38d73afdb5e2d67dfaa2122c68c
function write_tick(p_slot smallint, p_id bigint, p_ceiling_id bigint, p_snapshot pg_snapshot) returns void plpgsql volatile body 4fa474e87c84bd27cc61a474937c9b24
function write_turn(p_claim bigint, p_token bigint, p_worker bigint, p_subscription integer, p_channel integer, p_lane integer, p_at posthorn."position", p_took_late boolean, p_ring posthorn.ring, p_turn posthorn.turn) returns void plpgsql volatile body 3a55489eb3899dfd48f428988ee0158d

-- triggers

-- views
view alerts as
 SELECT COALESCE(s.name, i.name) AS subscription,
    a.name AS alert,
    a.value,
    a.threshold,
    a.raised_at,
    a.resolved_at,
    posthorn.detail_now(a.*) AS detail
   FROM posthorn.alert a
     LEFT JOIN posthorn.subscription s ON s.id = a.subscription
     LEFT JOIN posthorn.intake i ON i.id = a.intake;
view audit as
 SELECT id AS operation,
    verb,
    target,
    arguments,
    ordered_by,
    reason,
    begun_at,
    touched_at,
    ended_at,
    posthorn.operation_state(state, touched_at) AS state,
    found,
    done
   FROM posthorn.operation o;
view backlog as
 SELECT s.name,
    c.kind,
    c.name AS channel,
    g.backlog,
    g.retrying,
    g.running,
    g.age_ms,
    g.dead_letters,
    g.invalid,
    g.workers,
    g.workers = 0 AS unattended,
    posthorn.limits_now(s.name) AS limits,
    s.paused_at,
    s.paused_by,
    s.paused_reason,
    s.policy -> 'relay'::text AS relay
   FROM posthorn.gauges(1000000) g(subscription, backlog, age_ms, running, dead_letters, invalid, workers, retrying)
     JOIN posthorn.subscription s ON s.id = g.subscription
     JOIN posthorn.channel c ON c.id = s.channel;
view circuits as
 SELECT s.name AS subscription,
    COALESCE(c.state, 'closed'::text) AS state,
    c.opened_at,
    c.failures,
    c.reason,
    c.probe_at,
    c.probes,
        CASE
            WHEN c.state <> 'closed'::text AND c.reason IS NOT NULL THEN c.failed_at[1]
            ELSE NULL::timestamp with time zone
        END AS reason_at
   FROM posthorn.subscription s
     LEFT JOIN posthorn.circuit c ON c.subscription = s.id
  WHERE s.has_breaker;
view dead_letters as
 SELECT posthorn.public_id(d.message, d.nonce) AS message,
    s.name AS subscription,
    c.name AS contract,
    d.key,
    d.payload,
    d.reason,
    d.attempts,
    d.crashes,
    d.published_at,
    d.died_at,
    d.keep_until,
    d.history
   FROM posthorn.dead_letter d
     JOIN posthorn.subscription s ON s.id = d.subscription
     JOIN posthorn.contract c ON c.id = d.contract;
view intakes as
 WITH runs AS MATERIALIZED (
         SELECT r.intake,
            r.worker,
            r.service,
            r.host,
            r.pid,
            r.alone,
            r.seen_at,
            r.connected,
            r.trouble
           FROM posthorn.intake_runners() r(intake, worker, service, host, pid, alone, seen_at, connected, trouble)
          WHERE r.seen_at > (clock_timestamp() - '00:00:10'::interval)
        )
 SELECT i.name,
    i.service,
    i.broker,
    i.place,
    one.worker,
    one.host,
    one.pid,
    COALESCE(now.connected, false) AS connected,
        CASE
            WHEN now.connected THEN NULL::timestamp with time zone
            ELSE COALESCE(i.away_since, i.seen_at)
        END AS away_since,
        CASE
            WHEN now.holders IS NOT NULL THEN i.trouble
            ELSE NULL::text
        END AS trouble,
    i.received + h.received AS received,
    i.written + h.written AS written,
    GREATEST(0::bigint, i.received - i.written - i.invalid - i.skipped + h.received - h.written - h.invalid - h.skipped) AS duplicates,
    i.invalid + h.invalid AS invalid,
    i.skipped + h.skipped AS skipped,
    GREATEST(i.last_message_at, h.last_message_at) AS last_message_at,
    ( SELECT count(*) AS count
           FROM posthorn.intake_invalid v
          WHERE v.intake = i.id) AS listed,
    i.paused_at,
    i.paused_by,
    i.paused_reason,
    ARRAY( SELECT c.contract
           FROM posthorn.intake_contract c
          WHERE c.intake = i.id
          ORDER BY c.contract) AS contracts,
    i.pushed,
    COALESCE(now.holders, '[]'::json) AS holders,
    i.refused + h.refused AS refused,
    h.refused_at,
    h.refusal,
        CASE
            WHEN now.holders IS NULL THEN i.seen_at
            ELSE NULL::timestamp with time zone
        END AS stopped_at,
        CASE
            WHEN h.skipped_at >= COALESCE(i.skipped_at, '-infinity'::timestamp with time zone) THEN h.skipped_type
            ELSE i.skipped_type
        END AS skipped_type,
    GREATEST(i.skipped_at, h.skipped_at) AS skipped_at
   FROM posthorn.intake i
     LEFT JOIN runs one ON one.intake = i.id AND one.alone
     CROSS JOIN LATERAL ( SELECT bool_or(r.connected) AS connected,
            json_agg(json_build_object('worker', r.worker::text, 'host', r.host, 'pid', r.pid, 'connected', r.connected, 'trouble', r.trouble) ORDER BY r.worker) AS holders
           FROM runs r
          WHERE r.intake = i.id) now
     CROSS JOIN LATERAL ( SELECT COALESCE(sum(o.received), 0::numeric)::bigint AS received,
            COALESCE(sum(o.written), 0::numeric)::bigint AS written,
            COALESCE(sum(o.invalid), 0::numeric)::bigint AS invalid,
            COALESCE(sum(o.skipped), 0::numeric)::bigint AS skipped,
            max(o.last_message_at) AS last_message_at,
            COALESCE(sum(o.refused), 0::numeric)::bigint AS refused,
            max(o.refused_at) FILTER (WHERE r.worker IS NOT NULL) AS refused_at,
            (array_agg(o.refusal ORDER BY o.refused_at DESC) FILTER (WHERE r.worker IS NOT NULL AND o.refused_at IS NOT NULL))[1] AS refusal,
            max(o.skipped_at) AS skipped_at,
            (array_agg(o.skipped_type ORDER BY o.skipped_at DESC NULLS LAST))[1] AS skipped_type
           FROM posthorn.intake_holder o
             LEFT JOIN runs r ON r.intake = o.intake AND r.worker = o.worker AND NOT r.alone
          WHERE o.intake = i.id) h;
view invalid_messages as
 SELECT posthorn.public_id(i.message, i.nonce) AS message,
    s.name AS subscription,
    c.name AS contract,
    i.key,
    i.payload,
    i.issues,
    i.published_at,
    i.found_at
   FROM posthorn.invalid i
     JOIN posthorn.subscription s ON s.id = i.subscription
     JOIN posthorn.contract c ON c.id = i.contract;
view orphans as
 SELECT what,
    name,
    detail
   FROM posthorn.orphaned() orphaned(what, name, detail);
view policy_history as
 SELECT s.name AS subscription,
    p.changed_at,
    p.service,
    p.host,
    p.pid,
    p.library,
    p.was,
    p.became
   FROM posthorn.policy_change p
     JOIN posthorn.subscription s ON s.id = p.subscription;
view schedules as
 SELECT s.name,
    s.cron,
    s.time_zone,
    c.name AS command,
    s.missed,
    s.jitter_ms,
    s.next_at,
    s.due_at,
    s.last_at,
    posthorn.public_id(s.last_message, s.last_nonce) AS last_message,
    s.service,
    s.declared_at,
    s.error,
    s.failed_at
   FROM posthorn.schedule s
     JOIN posthorn.contract c ON c.id = s.contract;
view segments as
 SELECT g.slot,
    now.segment,
    now.state,
    now.opened_at,
    now.closed_at,
    now.kept_until,
    now.bytes,
    now.pinned_by
   FROM generate_series(1, 8) g(slot)
     CROSS JOIN LATERAL posthorn.segment_now(g.slot::smallint) now(segment, state, opened_at, closed_at, bytes, kept_until, pinned_by);
view skipped_events as
 SELECT s.name AS subscription,
    c.name AS contract,
    c.version,
    k.messages,
    k.first_at,
    k.last_at
   FROM posthorn.skipped k
     JOIN posthorn.subscription s ON s.id = k.subscription
     JOIN posthorn.contract c ON c.id = k.contract;
view workers as
 SELECT id,
    service,
    host,
    pid,
    started_at,
    heartbeat_at,
    ARRAY( SELECT s.name
           FROM posthorn.attendance a
             JOIN posthorn.subscription s ON s.id = a.subscription
          WHERE a.worker = w.id
          ORDER BY s.name) AS works_on
   FROM posthorn.worker w;

-- rights, the owner's left out
schema posthorn: nobody
table alert: nobody
sequence alert_id_seq: nobody
view alerts: nobody
table attendance: nobody
view audit: nobody
view backlog: nobody
table backlog_limit: nobody
table cancel_mark: nobody
table cancel_request: nobody
table cancelled: nobody
table channel: nobody
sequence channel_id_seq: nobody
table circuit: nobody
view circuits: nobody
table claim_1: nobody
table claim_2: nobody
table claim_3: nobody
table claim_4: nobody
table claim_5: nobody
table claim_6: nobody
table claim_7: nobody
table claim_8: nobody
sequence claim_id: nobody
table contract: nobody
sequence contract_id_seq: nobody
table dead_letter: nobody
sequence dead_letter_id_seq: nobody
view dead_letters: nobody
table dedupe: nobody
table deferred: nobody
sequence deferred_id: nobody
table discarded: nobody
table ending_1: nobody
table ending_2: nobody
table ending_3: nobody
table ending_4: nobody
table ending_5: nobody
table ending_6: nobody
table ending_7: nobody
table ending_8: nobody
table epoch: nobody
table inbox: nobody
table inbox_name: nobody
table installation: nobody
table intake: nobody
table intake_contract: nobody
table intake_holder: nobody
sequence intake_id_seq: nobody
table intake_invalid: nobody
sequence intake_invalid_id_seq: nobody
view intakes: nobody
table invalid: nobody
sequence invalid_id_seq: nobody
view invalid_messages: nobody
table key_permit: nobody
table lane: nobody
table maintenance: nobody
table message_1: nobody
table message_2: nobody
table message_3: nobody
table message_4: nobody
table message_5: nobody
table message_6: nobody
table message_7: nobody
table message_8: nobody
sequence message_id: nobody
table migration: nobody
table move: nobody
sequence move_n_seq: nobody
table operation: nobody
sequence operation_id_seq: nobody
view orphans: nobody
table parked_key: nobody
table permit: nobody
sequence place: nobody
table policy_change: nobody
sequence policy_change_id_seq: nobody
view policy_history: nobody
table progress: nobody
table result: nobody
table retention: nobody
table ring: nobody
table run_limit: nobody
table schedule: nobody
sequence schedule_revision: nobody
view schedules: nobody
table segment: nobody
view segments: nobody
table settlement_1: nobody
table settlement_2: nobody
table settlement_3: nobody
table settlement_4: nobody
table settlement_5: nobody
table settlement_6: nobody
table settlement_7: nobody
table settlement_8: nobody
table skipped: nobody
view skipped_events: nobody
table step: nobody
table subscription: nobody
sequence subscription_id_seq: nobody
table tick_1: nobody
table tick_2: nobody
table tick_3: nobody
table tick_4: nobody
table tick_5: nobody
table tick_6: nobody
table tick_7: nobody
table tick_8: nobody
sequence tick_id: nobody
table worker: nobody
sequence worker_id_seq: nobody
view workers: nobody
function add_backlog(p_channel integer, p_messages bigint): nobody
function address(p_channel integer, p_lanes integer): nobody
function admit(p_allow posthorn.allowance, p_ids bigint[], p_contracts integer[]): nobody
function advance_lanes(p_ring posthorn.ring): nobody
function after_crash(p_worker posthorn.worker, p_subscription posthorn.subscription, p_begun_at timestamp with time zone, p_row posthorn.deferred, p_unknown boolean, p_blamed boolean): nobody
function ahead(): nobody
function alert_rules(): nobody
function allow(p_subscription integer, p_limit integer): nobody
function append(p_messages json): nobody
function append_list_of(p_slot smallint, p_messages json): nobody
function append_many_of(p_slot smallint, p_said json, p_options json): nobody
function append_of(p_slot smallint, p_nonces bigint[], p_channels integer[], p_contracts integer[], p_keys json, p_payloads json, p_headers json): nobody
function append_one_of(p_slot smallint, p_nonce bigint, p_channel integer, p_contract integer, p_key text, p_payload json, p_headers json): nobody
function append_said(p_slot smallint, p_said json): nobody
function append_said_of(p_slot smallint, p_entry json, p_id bigint, p_lane integer, p_expires_at timestamp with time zone): nobody
function away_anew(p_intake posthorn.intake): nobody
function backlog_known(p_channel integer): nobody
function backlog_limits(): nobody
function backlog_now(p_limit posthorn.backlog_limit, p_more bigint): nobody
function backlog_recount_ms(p_backlog bigint): nobody
function backlog_retry_ms(p_limit posthorn.backlog_limit, p_backlog bigint): nobody
function backlog_share(p_messages bigint): nobody
function backlog_tenths(): nobody
function begin_and_line_up(p_allow posthorn.allowance, p_key text, p_room posthorn.key_room, p_begins integer, p_waits integer): nobody
function begin_intake(p_name text, p_service text, p_broker text, p_place text, p_keep_ms double precision, p_away_ms double precision, p_contracts json, p_bounds json): nobody
function begin_lane(p_slot smallint, p_subscription integer, p_lane integer, p_n bigint, p_tick bigint, p_last_id bigint): nobody
function begin_letters(p_verb text, p_filter json, p_by text, p_reason text): nobody
function begin_operation(p_verb text, p_target text, p_arguments json, p_by text, p_reason text, p_found bigint, p_place json): nobody
function by_found_slot(p_signature text, p_returns text, p_declarations text, p_before text, p_body text, p_after text): nobody
function by_slot(p_signature text, p_returns text, p_body text): nobody
function bytes_of(p_slot smallint): nobody
function cancel(message text, by text): nobody
function cancel_instead(p_row posthorn.deferred, p_next json): nobody
function cancel_message(p_public text, p_by text): nobody
function cancel_requests(p_worker bigint): nobody
function cancel_waiting(p_subscription posthorn.subscription, p_id bigint, p_nonce bigint, p_by text): nobody
function candidates(p_allow posthorn.allowance): nobody
function check_backlog(p_channel integer, p_messages bigint): nobody
function check_contract(p_name text, p_kind posthorn.kind, p_channel text, p_keyed boolean, p_owner text, p_by text, p_new_kind posthorn.kind, p_new_channel text, p_new_keyed boolean, p_new_owner text, p_new_by text): nobody
function check_kept(p_ms double precision): nobody
function check_parted(p_end json, p_outcome posthorn.outcome): nobody
function check_source(p_name text, p_owner text, p_service text): nobody
function check_window(p_subscription integer, p_window_ms bigint): nobody
function circuit_after(p_row posthorn.circuit, p_event json, p_breaker json, p_now timestamp with time zone): nobody
function circuit_begin(p_subscription integer, p_worker bigint, p_probe bigint): nobody
function circuit_due(p_subscription integer): nobody
function circuit_gate(p_subscription integer, OUT wait_ms bigint, OUT probe bigint): nobody
function circuit_hear(p_subscription integer, p_events json): nobody
function circuit_of(p_subscription integer): nobody
function circuit_opened(p_row posthorn.circuit, p_open_ms bigint, p_now timestamp with time zone): nobody
function claim(p_subscription integer, p_lane integer, p_worker bigint, p_limit integer): nobody
function claim_by_priority(p_subscription integer, p_worker bigint, p_limit integer): nobody
function claim_guarded(p_subscription integer, p_lane integer, p_worker bigint, p_limit integer, p_limited boolean): nobody
function claim_limited(p_subscription integer, p_lane integer, p_worker bigint, p_limit integer): nobody
function claim_of(p_slot smallint, p_claim bigint): nobody
function claimed_outcome_of(p_slot smallint, p_subscription integer, p_lane integer, p_message bigint): nobody
function claimed_since(p_subscription integer, p_since timestamp with time zone): nobody
function claimed_since_of(p_slot smallint, p_subscription integer, p_lane integer, p_since timestamp with time zone): nobody
function claims_after_of(p_slot smallint, p_subscription integer, p_lane integer, p_n bigint, OUT ids bigint[], OUT newest bigint): nobody
function classes(p_subscription integer): nobody
function collapse(p_row posthorn.deferred, p_held posthorn.dedupe, p_entry json, p_due_at timestamp with time zone, p_expires_at timestamp with time zone, p_mode text, p_window interval, p_wait_ms bigint): nobody
function conclude(p_parts json, p_ends json, p_say json): nobody
function conclude_one(p_end json): nobody
function confirmed(p_given text, p_wanted text, p_what text): nobody
function contract_outside(p_subscription integer, p_id bigint, p_nonce bigint): nobody
function copy_tick_of(p_slot smallint, p_tick posthorn.tick): nobody
function count_after_of(p_slot smallint, p_channel integer, p_lane integer, p_after bigint, p_limit integer, OUT messages bigint, OUT oldest timestamp with time zone): nobody
function count_backlog(p_limit posthorn.backlog_limit): nobody
function count_between(p_channel integer, p_lane integer, p_after bigint, p_before bigint, p_limit integer): nobody
function count_key_of(p_slot smallint, p_key text, p_contracts integer[]): nobody
function count_seen_of(p_slot smallint, p_channel integer, p_lane integer, p_after bigint, p_upto bigint, p_snapshot pg_snapshot, p_limit integer): nobody
function count_skipped(p_subscription integer, p_counts json): nobody
function count_within_of(p_slot smallint, p_channel integer, p_lane integer, p_from timestamp with time zone, p_to timestamp with time zone, p_contract text, p_upto bigint): nobody
function crossed_alerts(): nobody
function dead_workers(): nobody
function declare_intake(p_name text, p_service text, p_broker text, p_place text, p_keep_ms double precision, p_away_ms double precision, p_contracts json, p_bounds json): nobody
function declare_retention(p_keep_ms double precision, p_max_bytes bigint, p_by text, p_explicit boolean): nobody
function declare_schedule(p_name text, p_cron text, p_zone text, p_contract integer, p_missed text, p_jitter_ms integer, p_payload json, p_key text, p_headers json, p_function text, p_service text, p_next timestamp with time zone, p_due timestamp with time zone): nobody
function dedupe_of(p_dedupe json, p_key text, p_timed boolean, OUT key text, OUT mode text, OUT window_ms bigint, OUT wait_ms bigint): nobody
function delivery_of(p_subscription integer, p_lane integer, p_message bigint, p_slot smallint): nobody
function detail_now(p_alert posthorn.alert): nobody
function digest_of(p_key text): nobody
function discard(p_filter json, p_by text, p_reason text, p_limit integer): nobody
function discard_claim(p_row posthorn.operation, p_reader posthorn.subscription, p_claim posthorn.claim_1, p_slot smallint): nobody
function discard_row(p_row posthorn.deferred, p_list text, p_by text, p_reason text): nobody
function discard_seen_of(p_slot smallint, p_subscription integer, p_channel integer, p_lane integer, p_ids bigint[], p_seen pg_snapshot, p_by text, p_reason text): nobody
function due_schedules(p_own json, p_limit integer): nobody
function empty_target(): nobody
function end_backends(p_backends json): nobody
function end_by_now(p_subscription posthorn.subscription, p_id bigint, p_nonce bigint): nobody
function end_deferred(p_deferred bigint, p_token bigint, p_outcome posthorn.outcome): nobody
function end_in_transaction(p_subscription integer, p_message bigint, p_message_slot smallint, p_delivery integer, p_claim bigint, p_claim_slot smallint, p_deferred bigint, p_token bigint, p_started text, p_say json): nobody
function end_many(p_ends json, p_started text, p_say json): nobody
function end_of(p_slot smallint, p_subscription integer, p_message bigint, p_delivery integer, p_outcome posthorn.outcome, p_claim bigint, p_worker bigint): nobody
function end_with(p_subscription integer, p_message bigint, p_message_slot smallint, p_delivery integer, p_claim bigint, p_claim_slot smallint, p_deferred bigint, p_token bigint, p_say json): nobody
function end_with_result(p_subscription integer, p_message bigint, p_message_slot smallint, p_delivery integer, p_claim bigint, p_claim_slot smallint, p_deferred bigint, p_token bigint, p_started text, p_nonce bigint, p_say json, p_result json): nobody
function enter(p_subscription integer): nobody
function erasable(p_key text, p_contract text, p_channel text): nobody
function erase(key text, by text, reason text, confirm text, contract text, channel text): nobody
function erase_in_lists(p_row posthorn.operation, p_limit integer, OUT done bigint, OUT running jsonb): nobody
function erase_in_log(p_row posthorn.operation, p_channel integer, p_limit integer, OUT done bigint, OUT after bigint, OUT running jsonb): nobody
function erase_of(p_slot smallint, p_channel integer, p_lane integer, p_ids bigint[]): nobody
function erase_one(p_row posthorn.operation, p_reader posthorn.subscription, p_id bigint, p_nonce bigint, p_lane integer, p_xid xid8, p_slot smallint): nobody
function erase_piece(p_row posthorn.operation, p_limit integer, OUT done bigint, OUT more boolean, OUT busy boolean, OUT place json): nobody
function erase_running(p_row posthorn.operation): nobody
function erase_waiting(p_row posthorn.operation, p_reader posthorn.subscription, p_id bigint, p_nonce bigint): nobody
function erased_contracts(p_contract text, p_channel text): nobody
function erased_payload(): nobody
function error_groups(p_filter json, p_limit integer, p_read integer): nobody
function every_of(p_subscription integer, p_contracts integer[]): nobody
function expect_move(p_move uuid, p_other text, p_system bigint, p_database oid): nobody
function fate_in_log(p_subscription posthorn.subscription, p_lane integer, p_id bigint, p_xid xid8, OUT state text, OUT at timestamp with time zone, OUT delivery integer, OUT outcome text, OUT worker bigint, OUT lane_at posthorn."position"): nobody
function find_outside(p_id text, p_source text, p_marks json): nobody
function fingerprint(p_subscription text, p_contract text, p_name text, p_code text, p_message text, p_at text): nobody
function fire_schedule(p_name text, p_revision bigint, p_next timestamp with time zone, p_upcoming timestamp with time zone, p_due timestamp with time zone, p_messages json): nobody
function fire_schedules(p_list json): nobody
function first_due(p_subscription integer, p_contracts integer[]): nobody
function first_permit(p_subscription integer): nobody
function fits_order(p_channel integer, p_options json): nobody
function fixed_change(p_was jsonb, p_new jsonb): nobody
function fixed_parts(p_idempotency text, p_policy json): nobody
function fleet(): nobody
function fleet_rules(): nobody
function follow(p_row posthorn.deferred, p_outcome posthorn.outcome, p_next json): nobody
function forget_keys(p_limit integer): nobody
function forget_steps(p_subscription integer, p_message bigint): nobody
function forget_worker(p_worker bigint): nobody
function former_places(p_intake integer, p_places integer[], p_count integer, p_former uuid[], p_keep_until timestamp with time zone): nobody
function gauges(p_limit integer): nobody
function go_away(): nobody
function go_on_to(p_ring posthorn.ring): nobody
function grant_backlog(p_channel integer, p_messages bigint, p_spent bigint): nobody
function grant_roles(): nobody
function group_of(p_subscription integer, p_contract integer, p_history json): nobody
function handled_as(p_reader posthorn.subscription, p_lane integer, p_id bigint): nobody
function handled_here(p_subscription integer): nobody
function handled_versions(p_subscription integer, p_name text): nobody
function has_after_of(p_slot smallint, p_channel integer, p_lane integer, p_after bigint): nobody
function has_channel_of(p_slot smallint, p_channel integer): nobody
function has_ended(p_slot smallint, p_subscription integer, p_message bigint): nobody
function has_ended_of(p_slot smallint, p_subscription integer, p_message bigint): nobody
function has_spilled(p_slot smallint): nobody
function has_unsettled(p_subscription integer): nobody
function heartbeat(p_worker bigint, p_oldest bigint): nobody
function held_of(p_slot smallint, p_subscription integer, p_worker bigint, p_from bigint, p_ends boolean, p_limit integer): nobody
function hide_key(p_row posthorn.operation): nobody
function hold_dedupe(p_name text, p_key text, p_subscription integer, p_message bigint, p_nonce bigint, p_window_ms bigint): nobody
function hold_intakes(p_worker bigint, p_reports json): nobody
function hold_keys(p_said json, p_options json): nobody
function hold_policies(p_service text, p_attends json): nobody
function hold_pushed(p_intake integer, p_worker bigint, p_holds boolean, p_connected boolean, p_trouble text, p_refused json): nobody
function hold_still(): nobody
function hold_worker(p_worker bigint): nobody
function holds_of(p_slot smallint, p_claim bigint, p_token bigint, p_message bigint): nobody
function horizon(OUT xid xid8, OUT pid integer, OUT since timestamp with time zone, OUT prepared text): nobody
function id_of(p_public text): nobody
function ids(p_list json): nobody
function in_order(p_slots smallint[], p_subscription integer, p_channel integer, p_lane integer, p_batch posthorn.batch, p_keys text[], p_marked boolean): nobody
function inbox_names(p_intake text): nobody
function inboxes(): nobody
function intake_named(p_name text): nobody
function intake_rules(): nobody
function intake_runners(): nobody
function is_behind(p_subscription integer, p_key text, p_place bigint): nobody
function is_claim(p_claimed text): nobody
function is_drained(name text): nobody
function is_forgotten(p_public text): nobody
function is_free(p_intake posthorn.intake): nobody
function is_full(p_ring posthorn.ring, p_retention posthorn.retention): nobody
function is_here(p_system bigint, p_database oid): nobody
function is_intake(p_name text): nobody
function is_locked(p_key bigint): nobody
function is_open_of(p_slot smallint, p_claim bigint): nobody
function is_over(p_ring posthorn.ring, p_segment posthorn.segment, p_retention posthorn.retention): nobody
function is_passed(p_at posthorn."position", p_id bigint, p_xid xid8): nobody
function is_probed(p_row posthorn.circuit, p_now timestamp with time zone): nobody
function is_ready(p_slots smallint[], p_first_id bigint, p_subscription integer, p_lane integer, p_channel integer): nobody
function is_rotation_due(p_ring posthorn.ring, p_retention posthorn.retention): nobody
function is_server(p_system bigint, p_database oid): nobody
function is_used_of(p_slot smallint): nobody
function is_written_of(p_slot smallint, p_channel integer, p_lane integer, p_message bigint): nobody
function item(p_id bigint, p_nonce bigint, p_slot smallint, p_contract integer, p_key text, p_payload json, p_headers json, p_published_at timestamp with time zone, p_expires_at timestamp with time zone): nobody
function join_inboxes(p_from posthorn.intake, p_to posthorn.intake, p_name text): nobody
function join_lists(p_from integer, p_to integer, p_id integer): nobody
function joined_intake(p_from posthorn.intake, p_to posthorn.intake, p_name text): nobody
function keep_result(p_subscription integer, p_message bigint, p_nonce bigint, p_result json): nobody
function keep_segments(): nobody
function kept_from(p_channel integer): nobody
function kept_until(p_segment posthorn.segment, p_retention posthorn.retention, p_full boolean): nobody
function key_room(p_allow posthorn.allowance, p_key text, p_in_line boolean): nobody
function keys_of(p_slot smallint, p_channel integer, p_lane integer, p_ids bigint[]): nobody
function lane_head(p_slots smallint[], p_subscription integer, p_lane integer, p_channel integer): nobody
function lane_in(p_address integer, p_key text): nobody
function lane_missed(p_subscription integer, p_lane integer, OUT last_id bigint, OUT n bigint, OUT ids bigint[], OUT slots smallint[]): nobody
function lane_of_priority(p_priority integer): nobody
function lanes_of(p_channel integer): nobody
function late_messages_of(p_slot smallint, p_channel integer, p_lane integer, p_xids xid8[], p_after bigint, p_upto bigint, p_limit integer, p_marked integer): nobody
function late_page(p_slots smallint[], p_channel integer, p_lane integer, p_xids xid8[], p_after bigint, p_upto bigint, p_limit integer): nobody
function late_page_of(p_slot smallint, p_channel integer, p_lane integer, p_xids xid8[], p_after bigint, p_upto bigint, p_limit integer): nobody
function late_since_of(p_slot smallint, p_channel integer, p_lane integer, p_seen pg_snapshot, p_upto bigint, p_first_id bigint, p_now pg_snapshot): nobody
function late_xids(p_slots smallint[], p_channel integer, p_lane integer, p_floor pg_snapshot, p_floor_id bigint, p_first_id bigint, p_ceiling pg_snapshot): nobody
function late_xids_of(p_slot smallint, p_channel integer, p_lane integer, p_floor pg_snapshot, p_floor_id bigint, p_first_id bigint, p_ceiling pg_snapshot): nobody
function leave(p_move uuid, p_other text, p_system bigint, p_database oid): nobody
function left_in_lane(p_row posthorn.operation, p_reader posthorn.subscription, p_lane integer, p_limit integer, OUT messages bigint, OUT late boolean): nobody
function let_go(p_deferred bigint): nobody
function letters(p_filter json, p_limit integer): nobody
function letters_count(p_filter json): nobody
function letters_piece(p_row posthorn.operation, p_limit integer, OUT done bigint, OUT more boolean, OUT busy boolean, OUT place json): nobody
function letters_where(p_filter json): nobody
function library_parts(p_version text): nobody
function limits_now(p_subscription text): nobody
function line_step_ms(p_allow posthorn.allowance): nobody
function list_schedules(p_late_ms integer): nobody
function listed(p_key text, p_contracts integer[], p_upto bigint, p_limit integer): nobody
function living(p_subscription integer): nobody
function lock_due(p_subscription integer, p_contracts integer[], p_from integer, p_below integer, p_limit integer, p_ordered boolean): nobody
function lock_key(p_purpose text, p_a bigint, p_b bigint): nobody
function lock_slot(p_slot smallint): nobody
function log_heads(p_channel integer, p_after bigint, p_upto bigint, p_limit integer): nobody
function log_heads_of(p_slot smallint, p_channel integer, p_lane integer, p_after bigint, p_upto bigint, p_limit integer): nobody
function log_ids(): nobody
function log_status(p_subscription posthorn.subscription, p_lane integer, p_id bigint, p_xid xid8): nobody
function longest_redelivery(p_policy json): nobody
function look_at_claims(p_allow posthorn.allowance): nobody
function make_backlogs(): nobody
function make_lane(p_channel integer, p_priority integer): nobody
function mark_places(p_intake integer, p_marks uuid[], p_keep_until timestamp with time zone): nobody
function merged(p_slots smallint[], p_batches posthorn.batch[], p_limit integer): nobody
function message_of(p_slot smallint, p_channel integer, p_lane integer, p_id bigint): nobody
function message_status(p_public text): nobody
function message_statuses(p_publics json): nobody
function messages_of(p_slot smallint, p_channel integer, p_lane integer, p_after bigint, p_upto bigint, p_limit integer, p_marked integer): nobody
function missed_of(p_slot smallint, p_channel integer, p_lane integer, p_from bigint, p_upto bigint, p_floor pg_snapshot, p_ceiling pg_snapshot, p_after bigint): nobody
function mixed_policies(p_subscription integer): nobody
function move_facts(): nobody
function move_lane(p_subscription integer, p_lane integer, p_slot smallint): nobody
function move_lanes(p_slot smallint, p_limit integer): nobody
function move_tables(): nobody
function moved_away(): nobody
function ms_of(p_at timestamp with time zone): nobody
function new_lanes(p_subscription integer, p_lanes integer, p_from_start boolean): nobody
function newest_claim_at(p_subscription integer): nobody
function newest_claim_of(p_slot smallint, p_subscription integer, p_lane integer): nobody
function newest_end_of(p_slot smallint, p_subscription integer, p_message bigint, OUT outcome text, OUT delivery integer): nobody
function newest_ending(p_subscription integer, p_id bigint, OUT outcome text, OUT at timestamp with time zone, OUT delivery integer): nobody
function newest_tick_of(p_slot smallint): nobody
function next_slot(p_ring posthorn.ring): nobody
function nonce_of(p_public text): nobody
function normalised(p_text text): nobody
function note_operation(p_verb text, p_arguments json, p_by text, p_reason text, p_done bigint): nobody
function note_schedule_failure(p_name text, p_revision bigint, p_error text): nobody
function note_unfit(p_intake integer, p_messages json, p_now timestamp with time zone, p_keep_until timestamp with time zone): nobody
function oldest_kept(p_channel integer): nobody
function open_claims(): nobody
function open_claims_of(p_slot smallint, p_worker bigint, p_from bigint, p_limit integer): nobody
function open_keys(p_subscription integer, p_lane integer, OUT keys bigint[], OUT open_from bigint, OUT unknown boolean): nobody
function open_keys_of(p_slot smallint, p_subscription integer, p_lane integer, OUT keys bigint[], OUT open_from bigint, OUT unknown boolean): nobody
function open_places(): nobody
function open_runs(p_allow posthorn.allowance, p_keys boolean): nobody
function open_segment(p_ring posthorn.ring): nobody
function open_slot(p_home text): nobody
function opened_by(p_circuit posthorn.circuit): nobody
function operation_of(p_row posthorn.operation): nobody
function operation_state(p_state text, p_touched_at timestamp with time zone): nobody
function operations(p_limit integer, p_running boolean): nobody
function option_keys(p_options json, p_known text[], p_what text): nobody
function option_number(p_options json, p_field text, p_least bigint, p_most bigint): nobody
function options_of(p_options json, p_key text, OUT due_at timestamp with time zone, OUT expires_at timestamp with time zone, OUT priority smallint, OUT key text, OUT mode text, OUT window_ms bigint, OUT wait_ms bigint): nobody
function order_ends(p_subscription integer): nobody
function orphaned(): nobody
function own_inbox(p_intake text, p_id integer): nobody
function own_intake(p_intake integer, p_worker bigint): nobody
function own_transaction(p_durable boolean): nobody
function page(p_slots smallint[], p_channel integer, p_lane integer, p_after bigint, p_upto bigint, p_snapshot pg_snapshot, p_limit integer): nobody
function page_of(p_slot smallint, p_channel integer, p_lane integer, p_after bigint, p_upto bigint, p_snapshot pg_snapshot, p_limit integer): nobody
function park(p_subscription integer, p_key text): nobody
function parts_of(p_slot smallint, p_claim bigint): nobody
function pause(name text, by text, reason text): nobody
function pause_intake(p_name text, p_by text, p_reason text): nobody
function pause_of(p_row posthorn.subscription): nobody
function peek(p_worker bigint, p_subscriptions json, p_seen text, p_watch boolean): nobody
function pins(p_n bigint): nobody
function plain_plans(): nobody
function policy_changes(p_name text, p_limit integer): nobody
function policy_leaves(p_policy jsonb): nobody
function position_of(p_subscription integer, p_lane integer): nobody
function priority_of(p_lane integer): nobody
function proceed(operation bigint, "limit" integer): nobody
function promote(p_subscription integer, p_keys json): nobody
function promote_key(p_subscription integer, p_key text): nobody
function prune(p_every_ms integer, p_limit integer): nobody
function public_id(p_id bigint, p_nonce bigint): nobody
function publish(name text, payload json, key text, headers json, version integer): nobody
function purge(name text, by text, reason text, confirm text, states text[]): nobody
function purge_lane(p_row posthorn.operation, p_reader posthorn.subscription, p_lane integer, p_limit integer, OUT done bigint, OUT more boolean, OUT busy boolean): nobody
function purge_piece(p_row posthorn.operation, p_limit integer, OUT done bigint, OUT more boolean, OUT busy boolean, OUT place json): nobody
function purge_waiting(p_row posthorn.operation, p_reader posthorn.subscription, p_limit integer): nobody
function purgeable(p_name text, p_states text[]): nobody
function put_aside(p_allow posthorn.allowance, p_claim json, p_lane integer, p_worker bigint, OUT items text, OUT kept integer, OUT parts integer): nobody
function put_aside_of(p_slot smallint, p_subscription integer, p_channel integer, p_lane integer, p_ids bigint[]): nobody
function put_off(p_subscription integer, p_lane integer, p_message bigint, p_slot smallint): nobody
function raise_away(): nobody
function raise_lost(p_what json): nobody
function raise_sequences(): nobody
function random_bigint(): nobody
function read_again(p_intake integer, p_worker bigint, p_ids bigint[], p_marks uuid[], p_nonces bigint[], p_channels integer[], p_contracts integer[], p_keys json, p_payloads json, p_headers json, p_unfit json, p_former uuid[]): nobody
function read_upto(p_ring posthorn.ring, p_subscription integer, p_lane integer, p_channel integer, p_from bigint, p_still bigint): nobody
function reader(p_name text): nobody
function rebase(): nobody
function rebase_lanes(p_base bigint): nobody
function rebase_plan(): nobody
function rebase_segments(): nobody
function recent_alerts(p_limit integer): nobody
function recent_rate(p_subscription integer, p_lane integer, p_slot smallint): nobody
function record_step(p_worker bigint, p_subscription integer, p_message bigint, p_claim bigint, p_claim_slot smallint, p_deferred bigint, p_token bigint, p_name text, p_result json): nobody
function redrive(p_filter json, p_by text, p_limit integer): nobody
function redrive_row(p_row posthorn.deferred, p_by text): nobody
function refuse_run(p_row posthorn.intake, p_hint text): nobody
function refuse_second_service(p_row posthorn.subscription, p_service text): nobody
function refuse_undrained(p_row posthorn.subscription, p_new jsonb, p_again boolean): nobody
function refuse_worked(p_row posthorn.subscription): nobody
function register_channel(p_kind posthorn.kind, p_name text): nobody
function register_contract(p_name text, p_version integer, p_kind posthorn.kind, p_channel text, p_keyed boolean, p_owner text, p_service text, p_publishes boolean): nobody
function register_intake(p_name text, p_service text, p_broker text, p_place text, p_keep_ms double precision, p_away_ms double precision, p_contracts json, p_bounds json, p_knows boolean): nobody
function register_subscription(p_name text, p_kind posthorn.kind, p_channel text, p_idempotency posthorn.idempotency, p_policy json, p_service text, p_by json, p_start_from text): nobody
function register_topic(p_name text, p_keep_ms double precision, p_lanes integer, p_service text): nobody
function register_worker(p_service text, p_host text, p_pid integer, p_timeout_ms integer, p_session_key bigint, p_backends json, p_attends json, p_library text): nobody
function registered(): nobody
function registered_intakes(): nobody
function remaining(name text): nobody
function remaining_of_intake(p_name text): nobody
function remove_intake(name text, by text, reason text, confirm text): nobody
function remove_intake_piece(p_row posthorn.operation, p_limit integer, OUT done bigint, OUT more boolean, OUT busy boolean, OUT place json): nobody
function remove_piece(p_row posthorn.operation, p_limit integer, OUT done bigint, OUT more boolean, OUT busy boolean, OUT place json): nobody
function remove_schedule(p_name text): nobody
function remove_subscription(name text, by text, reason text, confirm text): nobody
function rename_intake(name text, "to" text, by text, reason text): nobody
function replay(name text, "from" timestamp with time zone, "to" timestamp with time zone, by text, reason text, confirm text, contract text): nobody
function replay_one(p_row posthorn.operation, p_reader posthorn.subscription, p_lane integer, p_id bigint, p_xid xid8, p_slot smallint, p_due timestamp with time zone): nobody
function replay_piece(p_row posthorn.operation, p_limit integer, OUT done bigint, OUT more boolean, OUT busy boolean, OUT place json): nobody
function replayable(name text, "from" timestamp with time zone, "to" timestamp with time zone, contract text): nobody
function request_cancel(p_subscription posthorn.subscription, p_id bigint, p_nonce bigint, p_by text): nobody
function require_home(): nobody
function rescue(p_limit integer): nobody
function rescue_claim(p_worker posthorn.worker, p_claim posthorn.claim_1): nobody
function rescue_deferred(p_worker posthorn.worker): nobody
function rescue_worker(p_worker posthorn.worker, p_limit integer, OUT claims integer, OUT messages integer, OUT done boolean): nobody
function resume(name text, by text): nobody
function resume_intake(p_name text, p_by text): nobody
function ring_text(): nobody
function role_functions(): nobody
function role_tables(): nobody
function room_at(p_tat timestamp with time zone, p_at timestamp with time zone, p_gap_ms double precision, p_burst integer): nobody
function rotate(): nobody
function rules_now(): nobody
function run(IN operation bigint, IN per_second integer): nobody
function run_at(p_text text, p_latest timestamp with time zone): nobody
function running_in_log(p_subscription integer, p_ends boolean, p_limit integer): nobody
function said(p_name text, p_kind posthorn.kind, p_payload json, p_key text, p_headers json, p_options json, p_version integer): nobody
function said_within(p_channel integer, p_from timestamp with time zone, p_to timestamp with time zone, p_contract text, p_upto bigint): nobody
function say_new(p_slot smallint, p_subscription integer, p_entry json, p_id bigint, p_due_at timestamp with time zone, p_expires_at timestamp with time zone, p_priority smallint, p_once_more boolean, p_behind bigint): nobody
function say_once(p_slot smallint, p_subscription integer, p_entry json, p_due_at timestamp with time zone, p_expires_at timestamp with time zone, p_priority smallint, p_key text, p_mode text, p_window_ms bigint, p_wait_ms bigint): nobody
function say_one(p_slot smallint, p_entry json, p_options json, p_key text): nobody
function scaling(): nobody
function schedule_now(p_name text): nobody
function seal_segments(p_ring posthorn.ring): nobody
function segment_ms(p_retention posthorn.retention): nobody
function segment_now(p_slot smallint, OUT segment bigint, OUT state text, OUT opened_at timestamp with time zone, OUT closed_at timestamp with time zone, OUT bytes bigint, OUT kept_until timestamp with time zone, OUT pinned_by text[]): nobody
function send(name text, payload json, key text, headers json, options json, version integer): nobody
function sequence_floors(): nobody
function sequence_values(): nobody
function set_backlog(p_channel integer, p_backlog bigint): nobody
function set_backlog_limit(p_subscription integer, p_policy json): nobody
function set_limits(p_subscription integer, p_policy json): nobody
function settle(p_parts json, p_ends json, p_say json): nobody
function settle_part(p_part json): nobody
function settle_part_of(p_slot smallint, p_claim bigint, p_token bigint, p_part integer, p_outcome posthorn.outcome, p_closes boolean, p_messages bigint[]): nobody
function slot_branches(p_body text): nobody
function slot_for_end(p_row posthorn.deferred): nobody
function slot_of_claim(p_claim bigint): nobody
function slots_from(p_ring posthorn.ring, p_segment bigint): nobody
function space_in_words(): nobody
function spill(p_parts json, p_spill json): nobody
function standing(p_subscription integer, p_contract integer): nobody
function stands_for(p_entry json, p_held posthorn.dedupe): nobody
function steps_of(p_subscription integer, p_message bigint): nobody
function still_upto(p_ring posthorn.ring): nobody
function stop_operation(operation bigint): nobody
function subscriptions(): nobody
function sweep_cancel_requests(p_limit integer): nobody
function sweep_inbox(p_pages integer): nobody
function sweep_keys(p_limit integer): nobody
function sweep_steps(p_limit integer, p_every_ms integer): nobody
function take(p_subscription integer, p_worker bigint, p_contracts json, p_limit integer): nobody
function take_again(p_intake integer, p_worker bigint, p_ids bigint[], p_marks uuid[], p_nonces bigint[], p_channels integer[], p_contracts integer[], p_keys json, p_payloads json, p_headers json, p_unfit json): nobody
function take_due(p_subscription integer, p_worker bigint, p_contracts json, p_limit integer): nobody
function take_in(p_intake integer, p_worker bigint, p_marks uuid[], p_nonces bigint[], p_channels integer[], p_contracts integer[], p_keys json, p_payloads json, p_headers json, p_invalid json, p_skipped integer, p_former uuid[], p_skipped_type text): nobody
function take_letters(p_filter json, p_limit integer): nobody
function take_ring(p_ring text): nobody
function take_sequences(p_values json): nobody
function takes_policy(p_row posthorn.subscription, p_idempotency posthorn.idempotency, p_policy json, p_service text, p_by json): nobody
function tat_from(p_tat timestamp with time zone, p_at timestamp with time zone, p_gap_ms double precision, p_burst integer): nobody
function thrown_at(p_entry json): nobody
function tick_of(p_slot smallint, p_id bigint): nobody
function tidy_dedupe(p_limit integer): nobody
function truncate_segment(p_ring posthorn.ring, p_segment posthorn.segment, p_retention posthorn.retention): nobody
function truncate_slot(p_slot smallint): nobody
function turn_of(p_row posthorn.deferred): nobody
function unclaimed(p_subscription integer, p_channel integer, p_limit integer): nobody
function unfit_again(p_intake integer, p_limit integer): nobody
function unfit_count(p_filter json): nobody
function unfit_discard(p_filter json, p_by text, p_reason text): nobody
function unfit_list(p_filter json, p_limit integer): nobody
function unfit_mark(p_identity uuid, p_content_type text, p_headers json, p_body bytea, p_bytes bigint): nobody
function unfit_of_key(p_key text, p_contract text, p_channel text): nobody
function unfit_redrive(p_filter json, p_by text): nobody
function unfit_where(p_filter json): nobody
function unhandled(p_limit integer): nobody
function unsettled(name text): nobody
function unsettled_of(p_slot smallint, p_claim bigint): nobody
function urgency(p_priority integer, p_since timestamp with time zone): nobody
function use_permits(p_allow posthorn.allowance, p_used integer, p_wanted integer): nobody
function wait_after(p_allow posthorn.allowance, p_taken integer, p_wanted integer): nobody
function waiting_again(p_subscription integer, p_limit integer): nobody
function waiting_for(p_limit posthorn.backlog_limit, p_most integer): nobody
function waiting_in_log(p_subscription integer, p_limit integer, OUT messages bigint, OUT oldest timestamp with time zone): nobody
function waiting_messages(p_name text, p_limit integer, p_states text[]): nobody
function waiting_of(p_held posthorn.dedupe): nobody
function waiting_outside(p_subscription integer, p_states text[], p_now boolean, p_limit integer): nobody
function waiting_state(p_token bigint, p_place bigint, p_due_at timestamp with time zone, p_reason posthorn.outcome): nobody
function waiting_status(p_subscription posthorn.subscription, p_id bigint, p_nonce bigint): nobody
function waits_for(p_segment posthorn.segment): nobody
function wake(p_payload text): nobody
function wake_with(p_payload text): nobody
function watch(p_every_ms integer): nobody
function when_again(p_subscription integer, p_wait_ms integer): nobody
function where_in_log(p_id bigint, p_nonce bigint, OUT slot smallint, OUT lane integer, OUT contract integer, OUT published_at timestamp with time zone, OUT xid xid8): nobody
function why(p_public text): nobody
function why_attended(p_subscription text, p_contract text): nobody
function why_away(OUT reason text, OUT says text, OUT hint text): nobody
function why_in_log(p_subscription posthorn.subscription, p_lane integer, p_id bigint, p_xid xid8): nobody
function why_order(p_subscription integer, p_key text, p_place bigint): nobody
function why_position(p_subscription integer, p_lane integer): nobody
function why_steps(p_subscription integer, p_message bigint): nobody
function why_told(p_receiver json, p_id bigint, p_nonce bigint): nobody
function why_waiting(p_subscription posthorn.subscription, p_id bigint, p_nonce bigint): nobody
function why_worker(p_worker bigint): nobody
function with_entry(p_history json, p_entry json): nobody
function with_outcome(p_subscription integer, p_message bigint, p_nonce bigint, p_contract integer, p_status json): nobody
function withdraw_intake(p_id integer, p_made numeric): nobody
function without_marked(p_subscription integer, p_batch posthorn.batch): nobody
function without_requested(p_subscription integer, p_ids bigint[]): nobody
function work(p_subscription integer, p_lane integer, p_worker bigint, p_limit integer, p_parts json): nobody
function write_cancelled(p_row posthorn.deferred, p_reason text, p_by text): nobody
function write_discarded(p_row posthorn.deferred, p_list text, p_by text, p_reason text): nobody
function write_many(p_home text, p_nonces bigint[], p_channels integer[], p_contracts integer[], p_keys json, p_payloads json, p_headers json): nobody
function write_once(p_home text, p_nonce bigint, p_channel integer, p_contract integer, p_key text, p_payload json, p_headers json, p_once text, p_window_ms bigint): nobody
function write_one(p_home text, p_nonce bigint, p_channel integer, p_contract integer, p_key text, p_payload json, p_headers json): nobody
function write_ordered_claim(p_slot smallint, p_claim bigint, p_token bigint, p_worker bigint, p_subscription integer, p_lane integer, p_at posthorn."position", p_took_late boolean, p_messages bigint[], p_message_slots smallint[], p_keys bigint[], p_open_from bigint): nobody
function write_places(p_places integer[], p_nonces bigint[], p_channels integer[], p_contracts integer[], p_keys json, p_payloads json, p_headers json): nobody
function write_progress(p_worker bigint, p_values json, p_ended json): nobody
function write_said(p_home text, p_said json): nobody
function write_stopped(p_row posthorn.deferred, p_erased boolean, p_reason text, p_by text): nobody
function write_tick(p_slot smallint, p_id bigint, p_ceiling_id bigint, p_snapshot pg_snapshot): nobody
function write_turn(p_claim bigint, p_token bigint, p_worker bigint, p_subscription integer, p_channel integer, p_lane integer, p_at posthorn."position", p_took_late boolean, p_ring posthorn.ring, p_turn posthorn.turn): nobody
