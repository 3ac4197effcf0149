-- The circuit breaker of a queue or subscription: one row in the fleet. Closed: runs go on and failures are counted. Open: nobody takes
-- anything. Half-open: one worker tries one message. Only a success of that one closes it, only its failure opens it again; a probe that ends
-- otherwise, or dies with its worker, is given to the next message.

-- circuit_gate(subscription): whether this transaction may take messages now: `wait_ms` to look again, or null; `probe` is a token when it may take
-- exactly one, and must then say so with circuit_begin, in this transaction. A pause comes before it. A circuit that may be tried is locked until then, and whoever
-- finds it locked looks again soon. The clock may have jumped back: no circuit stays open longer than it was opened for.
create or replace function posthorn.circuit_gate(p_subscription int, out wait_ms bigint, out probe bigint)
language plpgsql as $$
declare
  v_row posthorn.circuit;
  v_now timestamptz;
begin
  -- Paused by an operator: nobody takes anything, and no message is tried.
  if exists (select from posthorn.subscription s where s.id = p_subscription and s.paused_at is not null) then
    wait_ms := 1000;
    return;
  end if;
  select * into v_row from posthorn.circuit c where c.subscription = p_subscription;
  v_now := clock_timestamp();
  if v_row.state is null or v_row.state = 'closed' then
    return;
  elsif v_row.state = 'open' and v_row.probe_at > v_now and v_row.probe_at <= v_now + v_row.open_ms * interval '1 ms' then
    wait_ms := ceil(extract(epoch from v_row.probe_at - v_now) * 1000);
    return;
  end if;
  select * into v_row from posthorn.circuit c where c.subscription = p_subscription for update skip locked;
  v_now := clock_timestamp();
  if v_row.subscription is null then
    wait_ms := 50;
  elsif v_row.state = 'closed' then
    return;
  elsif v_row.state = 'open' then
    if v_row.probe_at > v_now + v_row.open_ms * interval '1 ms' then
      v_row.probe_at := v_now + v_row.open_ms * interval '1 ms';
      update posthorn.circuit c set probe_at = v_row.probe_at where c.subscription = p_subscription;
    end if;
    wait_ms := nullif(greatest(0, ceil(extract(epoch from v_row.probe_at - v_now) * 1000)), 0)::bigint;
  elsif posthorn.is_probed(v_row, v_now) then
    wait_ms := 1000;
  end if;
  if wait_ms is null then
    probe := (random() * 9e18)::bigint;
  end if;
end $$;

-- is_probed: whether the one message of a half-open circuit is still tried. Its worker is forgotten when it dies; a run that nobody ended for far
-- longer than a run may take is not waited for.
create or replace function posthorn.is_probed(p_row posthorn.circuit, p_now timestamptz) returns boolean
language plpgsql as $$
begin
  return exists (select from posthorn.worker w where w.id = p_row.probe_worker)
    and p_row.probe_since > p_now - (select coalesce((s.policy ->> 'visibilityTimeoutMs')::float8, 0) + 60000 from posthorn.subscription s
      where s.id = p_row.subscription) * interval '1 ms';
end $$;

-- circuit_begin: the message that was taken under this token is the one that is tried.
create or replace function posthorn.circuit_begin(p_subscription int, p_worker bigint, p_probe bigint) returns void
language plpgsql as $$
begin
  update posthorn.circuit c set state = 'half-open', probe = p_probe, probe_worker = p_worker, probe_since = clock_timestamp()
    where c.subscription = p_subscription;
end $$;

-- claim_guarded: as claim, or claim_limited, where a breaker is declared: { openMs } while the circuit is open; with `probe` beside a claim of one message
-- that is tried. The circuit comes before the limits: what is open uses no permit, and what is tried needs one. No lane: the most urgent of a queue
-- that has lanes for priorities.
create or replace function posthorn.claim_guarded(p_subscription int, p_lane int, p_worker bigint, p_limit int, p_limited boolean) returns text
language plpgsql as $$
declare
  v_gate record;
  v_limit int;
  v_claimed text;
begin
  v_gate := posthorn.circuit_gate(p_subscription);
  if v_gate.wait_ms is not null then
    return concat('{"openMs":', v_gate.wait_ms, '}');
  end if;
  v_limit := case when v_gate.probe is null then p_limit else 1 end;
  v_claimed := case when p_limited then posthorn.claim_limited(p_subscription, p_lane, p_worker, v_limit)
    when p_lane is null then posthorn.claim_by_priority(p_subscription, p_worker, v_limit)
    else posthorn.claim(p_subscription, p_lane, p_worker, v_limit) end;
  if v_gate.probe is null or not posthorn.is_claim(v_claimed) then
    return v_claimed;
  end if;
  perform posthorn.circuit_begin(p_subscription, p_worker, v_gate.probe);
  return concat('{"probe":"', v_gate.probe, '",', substr(v_claimed, 2));
end $$;

-- is_claim: whether an answer of claim or claim_by_priority has messages.
create or replace function posthorn.is_claim(p_claimed text) returns boolean
language plpgsql immutable as $$
begin
  return p_claimed like '{"claim":%' or p_claimed like '{"more":true,"claim":%';
end $$;

-- circuit_hear(subscription, events): what a worker tells of runs that ended, in a transaction of its own. Events, in their order:
--   { failed: n }            runs failed
--   { open: ms | null, reason, relay } a handler says so; null: for as long as the policy says, and so where a relay says it of another broker than the declared
--   { succeeded: true } | { passed: true }   only together with `probe`, the token of the message that was tried, which `failed` may have as well; then `said`
--                            is why it did not succeed, and stands as the reason of the circuit from then on
-- Returns { changed: 'opened' | 'closed' | null, openMs, windowMs, failures, probes, reason, wasOpenMs, waiting }: whether the last of them that changed it opened or closed it;
-- the last two of one that was closed: how long it was open, and how many messages wait, counted up to 10,000.
create or replace function posthorn.circuit_hear(p_subscription int, p_events json) returns json
language plpgsql as $$
declare
  v_breaker json;
  v_relay jsonb;
  v_row posthorn.circuit;
  v_was text;
  v_opened_at timestamptz;
  v_event json;
  v_now timestamptz;
  v_closed boolean;
begin
  perform posthorn.own_transaction(false);
  select s.policy -> 'circuitBreaker', s.policy -> 'relay' into v_breaker, v_relay from posthorn.subscription s where s.id = p_subscription and s.has_breaker;
  if v_breaker is null then
    return '{"changed":null}';
  end if;
  insert into posthorn.circuit (subscription) values (p_subscription) on conflict do nothing;
  select * into v_row from posthorn.circuit c where c.subscription = p_subscription for update;
  v_was := v_row.state;
  v_opened_at := v_row.opened_at;
  v_now := clock_timestamp();
  for v_event in select * from json_array_elements(p_events) loop
    -- A process of before a deployment: for how long its broker wants nothing is not for that of now.
    if v_event -> 'relay' is not null and (v_event -> 'relay')::jsonb is distinct from v_relay then
      v_event := (v_event::jsonb - 'open')::json;
    end if;
    v_row := posthorn.circuit_after(v_row, v_event, v_breaker, v_now);
  end loop;
  update posthorn.circuit c set state = v_row.state, failed_at = v_row.failed_at, opened_at = v_row.opened_at, failures = v_row.failures,
      reason = v_row.reason, open_ms = v_row.open_ms, probe_at = v_row.probe_at, probe = v_row.probe, probe_worker = v_row.probe_worker,
      probe_since = v_row.probe_since, probes = v_row.probes
    where c.subscription = p_subscription and c is distinct from v_row;
  v_closed := v_row.state = 'closed' and v_was <> 'closed';
  return json_build_object('changed', case
      when v_closed then 'closed'
      when v_row.state = 'open' and (v_was = 'closed' or v_row.probe_at > v_now and v_was = 'half-open') then 'opened' end,
    'openMs', v_row.open_ms, 'windowMs', v_breaker -> 'windowMs', 'failures', v_row.failures, 'probes', v_row.probes, 'reason', v_row.reason,
    'wasOpenMs', case when v_closed then greatest(0, floor(extract(epoch from v_now - v_opened_at) * 1000))::bigint end,
    'waiting', case when v_closed then posthorn.waiting_again(p_subscription, 10000) end);
end $$;

-- waiting_again(subscription, limit): messages that wait for it: in the log, or put off. Counted up to the limit.
create or replace function posthorn.waiting_again(p_subscription int, p_limit int) returns bigint
language sql stable as $$
  select least(p_limit, (select w.messages from posthorn.waiting_in_log(p_subscription, p_limit) w)
    + (select count(*) from (select from posthorn.deferred d where d.subscription = p_subscription and d.delivery > 1 and d.token is null limit p_limit) d))
$$;

-- circuit_after: the circuit after one event. Failures from the future are none: the clock has jumped back since. While it is not closed `failed_at` holds when the
-- reason was said: that of the newest answer, for what opened it may be over long ago.
create or replace function posthorn.circuit_after(p_row posthorn.circuit, p_event json, p_breaker json, p_now timestamptz) returns posthorn.circuit
language plpgsql as $$
declare
  v_row posthorn.circuit := p_row;
  v_most int := (p_breaker ->> 'failures')::int;
  v_tried boolean := p_row.state = 'half-open' and p_row.probe = (p_event ->> 'probe')::bigint;
begin
  if p_event ->> 'open' is not null or p_event ->> 'reason' is not null then
    v_row := posthorn.circuit_opened(v_row, coalesce((p_event ->> 'open')::bigint, (p_breaker ->> 'openMs')::bigint), p_now);
    v_row.reason := p_event ->> 'reason';
    v_row.failed_at := array[p_now];
    v_row.probes := v_row.probes + case when v_tried then 1 else 0 end;
  elsif v_tried and p_event ->> 'succeeded' is not null then
    v_row := row(p_row.subscription, 'closed', '{}', null, null, null, null, null, null, null, null, 0)::posthorn.circuit;
  elsif v_tried and p_event ->> 'failed' is not null then
    v_row := posthorn.circuit_opened(v_row, (p_breaker ->> 'openMs')::bigint, p_now);
    v_row.probes := v_row.probes + 1;
  elsif v_tried then
    v_row := posthorn.circuit_opened(v_row, v_row.open_ms, p_now);
    v_row.probe_at := p_now;
  elsif p_event ->> 'failed' is not null and p_row.state = 'closed' then
    v_row.failed_at := array(select f.at from (
        select u.at from unnest(p_row.failed_at) u(at)
          where u.at > p_now - (p_breaker ->> 'windowMs')::float8 * interval '1 ms' and u.at <= p_now
        union all select p_now from generate_series(1, least((p_event ->> 'failed')::int, v_most))
        order by 1 desc limit v_most) f order by 1);
    if cardinality(v_row.failed_at) >= v_most then
      v_row := posthorn.circuit_opened(v_row, (p_breaker ->> 'openMs')::bigint, p_now);
      v_row.failures := cardinality(v_row.failed_at);
      v_row.failed_at := '{}';
    end if;
  end if;
  if v_tried and v_row.state <> 'closed' and p_event ->> 'said' is not null then
    v_row.reason := p_event ->> 'said';
    v_row.failed_at := array[p_now];
  end if;
  return v_row;
end $$;

-- circuit_opened: the circuit open for so long from now on. One that is open already is not opened for less.
create or replace function posthorn.circuit_opened(p_row posthorn.circuit, p_open_ms bigint, p_now timestamptz) returns posthorn.circuit
language plpgsql as $$
declare
  v_row posthorn.circuit := p_row;
begin
  if p_row.state = 'open' and p_row.probe_at > p_now + p_open_ms * interval '1 ms' and p_row.open_ms >= p_open_ms then
    return v_row;
  end if;
  v_row.state := 'open';
  v_row.opened_at := coalesce(p_row.opened_at, p_now);
  v_row.open_ms := p_open_ms;
  v_row.probe_at := p_now + p_open_ms * interval '1 ms';
  v_row.probe := null;
  v_row.probe_worker := null;
  v_row.probe_since := null;
  return v_row;
end $$;

-- circuit_due(subscription): a circuit that is open may be tried at once, however long it was opened for.
create or replace function posthorn.circuit_due(p_subscription int) returns void
language sql as $$
  update posthorn.circuit c set probe_at = clock_timestamp() where c.subscription = p_subscription and c.state = 'open' and c.probe_at > clock_timestamp()
$$;

-- circuit_of(subscription): what people see of a circuit, as JSON { state, openedAt, failures, reason, reasonAt, probeAt, probes }; null where no breaker is declared.
create or replace function posthorn.circuit_of(p_subscription int) returns json
language sql stable as $$
  select json_strip_nulls(json_build_object('state', coalesce(c.state, 'closed'), 'openedAt', c.opened_at, 'failures', c.failures, 'reason', c.reason,
      'reasonAt', case when c.state <> 'closed' and c.reason is not null then c.failed_at[1] end,
      'probeAt', case c.state when 'open' then c.probe_at when 'half-open' then c.probe_since end,
      'probes', case when c.state <> 'closed' then c.probes end))
    from posthorn.subscription s left join posthorn.circuit c on c.subscription = s.id where s.id = p_subscription and s.has_breaker
$$;
