-- For people and tools: stable names over tables that may change.

create or replace view posthorn.backlog as
  select s.name, c.kind, c.name as channel, g.backlog, g.retrying, g.running, g.age_ms, g.dead_letters, g.invalid, g.workers,
    g.workers = 0 as unattended, posthorn.limits_now(s.name) as limits, s.paused_at, s.paused_by, s.paused_reason,
    s.policy -> 'relay' as relay
  from posthorn.gauges(1000000) g
  join posthorn.subscription s on s.id = g.subscription
  join posthorn.channel c on c.id = s.channel;

create or replace view posthorn.dead_letters as
  select posthorn.public_id(d.message, d.nonce) as message, s.name as subscription, c.name as contract, d.key, d.payload, d.reason, d.attempts,
    d.crashes, d.published_at, d.died_at, d.keep_until, d.history
  from posthorn.dead_letter d
  join posthorn.subscription s on s.id = d.subscription
  join posthorn.contract c on c.id = d.contract;

create or replace view posthorn.invalid_messages as
  select posthorn.public_id(i.message, i.nonce) as message, s.name as subscription, c.name as contract, i.key, i.payload, i.issues,
    i.published_at, i.found_at
  from posthorn.invalid i
  join posthorn.subscription s on s.id = i.subscription
  join posthorn.contract c on c.id = i.contract;

create or replace view posthorn.schedules as
  select s.name, s.cron, s.time_zone, c.name as command, s.missed, s.jitter_ms, s.next_at, s.due_at, s.last_at,
    posthorn.public_id(s.last_message, s.last_nonce) as last_message, s.service, s.declared_at, s.error, s.failed_at
  from posthorn.schedule s join posthorn.contract c on c.id = s.contract;

create or replace view posthorn.workers as
  select w.id, w.service, w.host, w.pid, w.started_at, w.heartbeat_at,
    array(select s.name from posthorn.attendance a join posthorn.subscription s on s.id = a.subscription where a.worker = w.id order by s.name) as works_on
  from posthorn.worker w;

create or replace view posthorn.alerts as
  select coalesce(s.name, i.name) as subscription, a.name as alert, a.value, a.threshold, a.raised_at, a.resolved_at, posthorn.detail_now(a) as detail
  from posthorn.alert a left join posthorn.subscription s on s.id = a.subscription left join posthorn.intake i on i.id = a.intake;

create or replace view posthorn.segments as
  select g.slot, now.segment, now.state, now.opened_at, now.closed_at, now.kept_until, now.bytes, now.pinned_by
  from generate_series(1, 8) g(slot) cross join lateral posthorn.segment_now(g.slot::smallint) now;

create or replace view posthorn.policy_history as
  select s.name as subscription, p.changed_at, p.service, p.host, p.pid, p.library, p.was, p.became
  from posthorn.policy_change p join posthorn.subscription s on s.id = p.subscription;

create or replace view posthorn.orphans as
  select what, name, detail from posthorn.orphaned();

create or replace view posthorn.skipped_events as
  select s.name as subscription, c.name as contract, c.version, k.messages, k.first_at, k.last_at
  from posthorn.skipped k join posthorn.subscription s on s.id = k.subscription join posthorn.contract c on c.id = k.contract;

create or replace view posthorn.circuits as
  select s.name as subscription, coalesce(c.state, 'closed') as state, c.opened_at, c.failures, c.reason, c.probe_at, c.probes,
    case when c.state <> 'closed' and c.reason is not null then c.failed_at[1] end as reason_at
  from posthorn.subscription s left join posthorn.circuit c on c.subscription = s.id where s.has_breaker;

create or replace view posthorn.audit as
  select o.id as operation, o.verb, o.target, o.arguments, o.ordered_by, o.reason, o.begun_at, o.touched_at, o.ended_at,
    posthorn.operation_state(o.state, o.touched_at) as state, o.found, o.done
  from posthorn.operation o;

-- Who runs an intake reports each second; what was said longer ago is not true any more, nor what somebody said who is dead. One that is pushed to is run by
-- many: `holders` lists them.
create or replace view posthorn.intakes as
  with runs as materialized (
    select * from posthorn.intake_runners() r where r.seen_at > clock_timestamp() - interval '10 s'
  )
  select i.name, i.service, i.broker, i.place, one.worker, one.host, one.pid, coalesce(now.connected, false) as connected,
    case when now.connected then null else coalesce(i.away_since, i.seen_at) end as away_since,
    case when now.holders is not null then i.trouble end as trouble, i.received + h.received as received, i.written + h.written as written,
    greatest(0, i.received - i.written - i.invalid - i.skipped + h.received - h.written - h.invalid - h.skipped) as duplicates, i.invalid + h.invalid as invalid,
    i.skipped + h.skipped as skipped, greatest(i.last_message_at, h.last_message_at) as last_message_at,
    (select count(*) from posthorn.intake_invalid v where v.intake = i.id) as listed, i.paused_at, i.paused_by, i.paused_reason,
    array(select c.contract from posthorn.intake_contract c where c.intake = i.id order by c.contract) as contracts, i.pushed,
    coalesce(now.holders, '[]') as holders, i.refused + h.refused as refused, h.refused_at, h.refusal,
    case when now.holders is null then i.seen_at end as stopped_at,
    case when h.skipped_at >= coalesce(i.skipped_at, '-infinity') then h.skipped_type else i.skipped_type end as skipped_type,
    greatest(i.skipped_at, h.skipped_at) as skipped_at
  from posthorn.intake i
  left join runs one on one.intake = i.id and one.alone
  cross join lateral (
    select bool_or(r.connected) as connected, json_agg(json_build_object('worker', r.worker::text, 'host', r.host, 'pid', r.pid, 'connected', r.connected,
      'trouble', r.trouble) order by r.worker) as holders from runs r where r.intake = i.id) now
  cross join lateral (
    select coalesce(sum(o.received), 0)::bigint as received, coalesce(sum(o.written), 0)::bigint as written, coalesce(sum(o.invalid), 0)::bigint as invalid,
      coalesce(sum(o.skipped), 0)::bigint as skipped, max(o.last_message_at) as last_message_at, coalesce(sum(o.refused), 0)::bigint as refused,
      -- Of those that are told of now, the last.
      max(o.refused_at) filter (where r.worker is not null) as refused_at,
      (array_agg(o.refusal order by o.refused_at desc) filter (where r.worker is not null and o.refused_at is not null))[1] as refusal,
      max(o.skipped_at) as skipped_at, (array_agg(o.skipped_type order by o.skipped_at desc nulls last))[1] as skipped_type
    from posthorn.intake_holder o left join runs r on r.intake = o.intake and r.worker = o.worker and not r.alone
    where o.intake = i.id) h;
