-- How many workers each queue and subscription wants. For autoscalers: one statement, bounded, and it changes nothing.

-- claimed_since(subscription, since): messages that workers claimed from then on. Walks the newest claims of each lane back in time, 5000 at most: no
-- queue is so small that its rate would need more.
create or replace function posthorn.claimed_since(p_subscription int, p_since timestamptz) returns bigint
language plpgsql as $$
declare
  v_slot smallint;
  v_lane int;
  v_messages bigint := 0;
begin
  foreach v_slot in array (select r.slots from posthorn.ring r) loop
    for v_lane in select l.lane from posthorn.lane l where l.subscription = p_subscription loop
      v_messages := v_messages + posthorn.claimed_since_of(v_slot, p_subscription, v_lane, p_since);
    end loop;
  end loop;
  return v_messages;
end $$;

select posthorn.by_found_slot('claimed_since_of(p_slot smallint, p_subscription int, p_lane int, p_since timestamptz)', 'bigint',
  $declarations$ v_claim record; v_messages bigint := 0; v_claims int := 0; $declarations$, 'v_slot := p_slot;', $body$
  for v_claim in select cardinality(c.messages) as messages, c.at from posthorn.claim_{slot} c where c.subscription = p_subscription and c.lane = p_lane order by c.n desc loop
    exit when v_claim.at < p_since or v_claims >= 5000;
    v_messages := v_messages + v_claim.messages;
    v_claims := v_claims + 1;
  end loop;
$body$, 'return v_messages;');

-- scaling(): [{ name, kind, channel, backlog, running, ageMs, perSecond, workers, concurrency, workersWanted }] by name.
--   runs      = (running, or else perSecond) the runs that go on at once: by Little's law a run takes runMs = running / perSecond, from 1 ms to an hour
--   drainMs   = half of alerts.oldestAgeMs: what waits is to be done before its age is an alert
--   wanted    = ceil((running + backlog * least(1, runMs / drainMs)) / concurrency); where no rate is known, each waiting message counts as a run
-- At least 1 where anything waits or runs, 0 where nothing does; no more than fleetConcurrency can use, and at most 1000. Of a rate only the last
-- minute counts.
create or replace function posthorn.scaling() returns json
language plpgsql as $$
begin
  perform posthorn.own_transaction(false);
  return (select coalesce(json_agg(json_build_object('name', w.name, 'kind', w.kind, 'channel', w.channel, 'backlog', w.backlog, 'running', w.running,
      'ageMs', w.age_ms, 'perSecond', round(w.per_second::numeric, 3), 'workers', w.workers, 'concurrency', w.concurrency,
      'workersWanted', case when w.backlog + w.running = 0 then 0
        else greatest(1, least(1000, coalesce(ceil(w.fleet_concurrency / w.concurrency), 1000), ceil((w.running + w.backlog * w.share) / w.concurrency))) end)
      order by w.name), '[]')
    from (
      select m.*, case when m.per_second > 0 and m.running > 0
          then least(1, greatest(1, least(3600000, 1000 * m.running / m.per_second)) / m.drain_ms)
          when m.per_second > 0 then least(1, 1000 / m.per_second / m.drain_ms) else 1 end as share
        from (
          select s.name, c.kind, c.name as channel, g.backlog, g.running, g.age_ms, g.workers,
            posthorn.claimed_since(s.id, clock_timestamp() - interval '1 min') / 60.0::float8 as per_second,
            coalesce((s.policy ->> 'concurrency')::float8, 1) as concurrency, (s.policy ->> 'fleetConcurrency')::float8 as fleet_concurrency,
            greatest(1, coalesce((s.policy #>> '{alerts,oldestAgeMs}')::float8, 60000) / 2) as drain_ms
          from posthorn.gauges(1000000) g join posthorn.subscription s on s.id = g.subscription join posthorn.channel c on c.id = s.channel
        ) m
    ) w);
end $$;
