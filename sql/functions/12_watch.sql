-- What is waiting, and what is wrong.

-- waiting_in_log(subscription, limit): committed messages that no claim has taken, counted up to a limit; and when the oldest was said.
create or replace function posthorn.waiting_in_log(p_subscription int, p_limit int, out messages bigint, out oldest timestamptz)
language plpgsql stable as $$
declare
  v_ring posthorn.ring;
  v_lane record;
  v_at posthorn.position;
  v_slot smallint;
  v_part record;
begin
  select * into v_ring from posthorn.ring;
  messages := 0;
  for v_lane in select l.lane, l.read_from, s.channel from posthorn.lane l join posthorn.subscription s on s.id = l.subscription where l.subscription = p_subscription loop
    v_at := posthorn.position_of(p_subscription, v_lane.lane);
    foreach v_slot in array posthorn.slots_from(v_ring, v_lane.read_from) loop
      v_part := posthorn.count_after_of(v_slot, v_lane.channel, v_lane.lane, v_at.last_id, greatest(p_limit - messages, 0)::int);
      messages := messages + v_part.messages;
      oldest := least(oldest, v_part.oldest);
    end loop;
  end loop;
end $$;

select posthorn.by_slot('count_after_of(p_slot smallint, p_channel int, p_lane int, p_after bigint, p_limit int, out messages bigint, out oldest timestamptz)',
  'record stable', $body$
  select count(*), min(m.published_at) into messages, oldest from (
    select m.published_at from posthorn.message_{slot} m where m.channel = p_channel and m.lane = p_lane and m.id > p_after order by m.id limit p_limit) m;
  return;
$body$);

-- open_claims(): claims that workers hold open. Bounded by the oldest open claim of each.
create or replace function posthorn.open_claims() returns setof posthorn.claim_1
language sql stable as $$
  select c.* from posthorn.worker w cross join (select unnest(slots) as slot from posthorn.ring) s
    cross join lateral posthorn.open_claims_of(s.slot, w.id, w.oldest_open_claim, 10000) c
$$;

-- gauges(limit): one row for each subscription: backlog counted up to the limit, age of the oldest message that has not ended, and
-- who attends: a worker that counts as dead does not. Messages that a worker holds count as running, not as backlog, but for the age. All that counts
-- messages is stable, so that it reads in the one snapshot of this statement: what moves meanwhile is counted once.
create or replace function posthorn.gauges(p_limit int)
returns table (subscription int, backlog bigint, age_ms bigint, running bigint, dead_letters bigint, invalid bigint, workers bigint, retrying bigint)
language sql volatile as $$
  with held as materialized (
    select c.subscription, sum(cardinality(c.messages)) as messages, min(c.at) as since from posthorn.open_claims() c group by 1
  ), dead as materialized (
    select d.worker from posthorn.dead_workers() d
  )
  select s.id, greatest(log.messages - k.messages, 0) + d.waiting,
      coalesce(extract(epoch from clock_timestamp() - least(log.oldest, d.oldest, h.since)) * 1000, 0)::bigint,
      coalesce(h.messages, 0)::bigint + d.taken, l.letters, i.messages, a.workers, d.retrying
    from posthorn.subscription s
    cross join lateral posthorn.waiting_in_log(s.id, p_limit) log
    cross join lateral (select count(*) as messages from posthorn.cancel_mark k where k.subscription = s.id) k
    cross join lateral (
      -- What is only scheduled is no backlog before its time, and ages from then on.
      -- Retrying as waiting_state() means it: what is parked, put aside or handed back has not failed, and what was scheduled has not run.
      select count(*) filter (where d.token is null) as waiting, count(*) filter (where d.token is null and not d.unfailed) as retrying,
        count(*) filter (where d.token is not null) as taken, min(d.since) as oldest
      from ((select d.token, coalesce(d.since, d.published_at) as since, (d.place is not null and d.due_at = 'infinity') or d.reason in ('released', 'parked', 'throttled') as unfailed from posthorn.deferred d where d.subscription = s.id and d.delivery > 1 limit p_limit)
        union all (select d.token, d.due_at, true from posthorn.classes(s.id) c(class) join posthorn.deferred d on d.subscription = s.id and d.priority = c.class
          and d.token is null and d.due_at <= statement_timestamp() and d.delivery = 1 limit p_limit)
        -- Its time has come, and it waits behind others of its key, which are older.
        union all (select i.token, null, true from (select d.token, d.place, d.delivery from posthorn.classes(s.id) c(class)
            join posthorn.deferred d on d.subscription = s.id and d.priority = c.class and d.token is null and d.due_at = 'infinity' limit p_limit) i
          where i.place is not null and i.delivery = 1)
        union all (select d.token, d.taken_at, false from posthorn.deferred d where d.token is not null and d.worker in (select w.id from posthorn.worker w)
          and d.subscription = s.id and d.delivery = 1 limit p_limit)) d) d
    cross join lateral (select count(*) as letters from (select from posthorn.dead_letter l where l.subscription = s.id limit p_limit) l) l
    cross join lateral (select count(*) as messages from (select from posthorn.invalid i where i.subscription = s.id limit p_limit) i) i
    cross join lateral (select count(*) as workers from posthorn.attendance a where a.subscription = s.id and a.worker not in (select d.worker from dead d)) a
    left join held h on h.subscription = s.id
$$;

-- watch(every): raises and resolves alerts, once in the fleet: whoever comes first within `every` ms does it for all. Returns what changed:
-- [{ change: raised | resolved, alert, subscription, value, threshold, detail }]; null when it was not our turn. Also forgets dead letters past their keeping, and keys without limits.
create or replace function posthorn.watch(p_every_ms int) returns json
language plpgsql as $$
declare
  v_changes json[] := '{}';
  v_rule record;
begin
  perform posthorn.own_transaction(true);
  if not pg_try_advisory_xact_lock(posthorn.lock_key('watch')) then
    return null;
  end if;
  insert into posthorn.maintenance (name, ran_at) values ('watch', clock_timestamp())
    on conflict (name) do update set ran_at = excluded.ran_at where posthorn.maintenance.ran_at < clock_timestamp() - p_every_ms * interval '1 ms';
  if not found then
    return null;
  end if;
  -- An alert whose rule the policy no longer has is resolved as well: nothing else would ever end it.
  for v_rule in
    select a.id as open, coalesce(r.name, a.name) as name, coalesce(r.subscription, a.subscription) as subscription,
        coalesce(r.intake, a.intake) as intake, coalesce(r.subscription_name, s.name, i.name) as reader, coalesce(r.value, a.value) as value,
        coalesce(r.threshold, a.threshold) as threshold, case when r.name is null then 'it is watched no longer' else r.detail end as detail
      from posthorn.rules_now() r full join (select * from posthorn.alert where resolved_at is null) a
        on a.name = r.name and coalesce(a.subscription, 0) = coalesce(r.subscription, 0) and coalesce(a.intake, 0) = coalesce(r.intake, 0)
      left join posthorn.subscription s on s.id = a.subscription left join posthorn.intake i on i.id = a.intake
      where case when a.id is null then r.value >= r.threshold else r.name is null or r.value < r.threshold end
  loop
    if v_rule.open is null then
      insert into posthorn.alert (name, subscription, intake, value, threshold, detail)
        values (v_rule.name, v_rule.subscription, v_rule.intake, v_rule.value, v_rule.threshold, v_rule.detail);
    else
      update posthorn.alert set resolved_at = clock_timestamp() where id = v_rule.open;
    end if;
    v_changes := v_changes || json_build_object('change', case when v_rule.open is null then 'raised' else 'resolved' end, 'alert', v_rule.name,
      'subscription', v_rule.reader, 'value', v_rule.value, 'threshold', v_rule.threshold, 'detail', v_rule.detail);
  end loop;
  delete from posthorn.dead_letter where id in (select id from posthorn.dead_letter where keep_until < clock_timestamp() order by keep_until limit 1000);
  perform posthorn.forget_keys(10000);
  return to_json(v_changes);
end $$;

-- rules_now(): every rule of subscriptions, of the fleet and of intakes, with its value now.
create or replace function posthorn.rules_now()
returns table (name text, subscription int, intake int, subscription_name text, value bigint, threshold bigint, detail text)
language sql volatile as $$
  select r.name, r.subscription, null::int, r.subscription_name, r.value, r.threshold, r.detail from posthorn.alert_rules() r
  union all
  select n.name, null, n.intake, n.intake_name, n.value, n.threshold, n.detail from posthorn.intake_rules() n
$$;

-- alert_rules(): every rule of every declared policy with its value now. A queue that nobody declared has no policy, and shows as unattended. And
-- one rule of the whole log, without a subscription: no segment is free for the next rotation.
create or replace function posthorn.alert_rules() returns table (subscription int, subscription_name text, name text, value bigint, threshold bigint, detail text)
language sql volatile as $$
  select g.subscription, s.name, r.name, r.value, r.threshold, case r.name when 'circuitOpen' then posthorn.opened_by(c) end from posthorn.gauges(100000) g
    join posthorn.subscription s on s.id = g.subscription
    left join posthorn.circuit c on c.subscription = g.subscription and c.state <> 'closed'
    cross join lateral (values
      ('oldestAgeMs', g.age_ms, (s.policy #>> '{alerts,oldestAgeMs}')::bigint),
      ('backlog', g.backlog, (s.policy #>> '{alerts,backlog}')::bigint),
      ('deadLetters', g.dead_letters, (s.policy #>> '{alerts,deadLetters}')::bigint),
      -- Each is a message that was not handled and waits for somebody, in a list of its own.
      ('invalid', g.invalid, (s.policy #>> '{alerts,deadLetters}')::bigint),
      ('noWorkerMs', case when g.workers = 0 then g.age_ms else 0 end, (s.policy #>> '{alerts,noWorkerMs}')::bigint),
      -- From the moment it opens until it is closed. What opened it was enough: so many failures, or the word of one run; the policy may have changed since.
      ('circuitOpen', case when c.state is null then 0 else coalesce(c.failures, 1) end,
        case when c.state is null then (s.policy #>> '{circuitBreaker,failures}')::int
          when s.policy #> '{circuitBreaker,failures}' is not null then coalesce(c.failures, 1) end)
    ) r(name, value, threshold) where r.threshold is not null
  union all
  select * from posthorn.fleet_rules() f where f.threshold is not null
  union all
  select null, null, 'segmentsInUse', cardinality(r.slots), 8, case when cardinality(r.slots) >= 8 then posthorn.space_in_words() end from posthorn.ring r
$$;

-- detail_now(alert): its detail; of an open alert about a circuit that is open, or about what an intake refuses, what was said last, which nobody writes down for it.
create or replace function posthorn.detail_now(p_alert posthorn.alert) returns text
language sql stable as $$
  select coalesce(case when p_alert.resolved_at is not null then null
    when p_alert.name = 'circuitOpen' then (select posthorn.opened_by(c) from posthorn.circuit c where c.subscription = p_alert.subscription)
    when p_alert.name = 'intakeRefused' then (select h.refusal from posthorn.intake_holder h
      where h.intake = p_alert.intake and h.refused_now > 0 and h.seen_at > clock_timestamp() - interval '10 s' order by h.refused_at desc nulls last limit 1) end, p_alert.detail)
$$;

-- opened_by(circuit): what opened it, for people: failed runs, what was said last, or both. Null while it is closed.
create or replace function posthorn.opened_by(p_circuit posthorn.circuit) returns text
language sql stable as $$
  select nullif(concat_ws('; ', case when p_circuit.failures = 1 then '1 run failed' else p_circuit.failures || ' runs failed' end, p_circuit.reason), '')
    where p_circuit.state <> 'closed'
$$;
