-- Who may declare what, what is recorded of it, and what the whole fleet lacks.

-- has_unsettled(subscription): whether anything of it has not ended: it waits in the log, waits outside of it, scheduled or parked, or is held by a worker,
-- living or dead. Dead letters and invalid messages have ended. Looks in the order in which a message moves. True for one moment: what is said in the next
-- is not seen, nor what is not committed. For a check, not for a hot path.
create or replace function posthorn.has_unsettled(p_subscription int) returns boolean
language plpgsql volatile as $$
declare
  v_ring posthorn.ring;
  v_lane record;
begin
  select * into v_ring from posthorn.ring;
  for v_lane in select l.lane, l.read_from, s.channel from posthorn.lane l join posthorn.subscription s on s.id = l.subscription where l.subscription = p_subscription loop
    if posthorn.is_ready(posthorn.slots_from(v_ring, v_lane.read_from), v_ring.first_id, p_subscription, v_lane.lane, v_lane.channel) then
      return true;
    end if;
  end loop;
  if exists (select from posthorn.open_claims() c where c.subscription = p_subscription) then
    return true;
  end if;
  return exists (select from posthorn.deferred d where d.subscription = p_subscription);
end $$;

-- library_parts: the numbers of a version of the library, which compare as versions do.
create or replace function posthorn.library_parts(p_version text) returns int[]
language sql immutable as $$ select string_to_array(split_part(p_version, '-', 1), '.')::int[] $$;

-- living(subscription): who works on it now.
create or replace function posthorn.living(p_subscription int) returns table (worker bigint, service text, host text, pid int, contracts int[], policy json)
language sql volatile as $$
  select w.id, w.service, w.host, w.pid, posthorn.every_of(a.subscription, a.contracts), a.policy from posthorn.attendance a join posthorn.worker w on w.id = a.worker
    where a.subscription = p_subscription and a.worker not in (select d.worker from posthorn.dead_workers() d)
$$;

-- fixed_parts: what of a policy may change only while nothing is unsettled, as JSON.
create or replace function posthorn.fixed_parts(p_idempotency text, p_policy json) returns jsonb
language sql immutable as $$
  select jsonb_build_object('idempotency', p_idempotency, 'ordering', case when p_policy #>> '{ordering,whenDead}' is null then 'none' else 'per key' end)
$$;

-- fixed_change(was, new): in what two of fixed_parts differ, in words; null where in nothing.
create or replace function posthorn.fixed_change(p_was jsonb, p_new jsonb) returns text
language sql immutable as $$
  select string_agg(format('%s from "%s" to "%s"', k, p_was ->> k, p_new ->> k), ' and ' order by k) from jsonb_object_keys(p_new) k
    where p_was ->> k <> p_new ->> k
$$;

-- policy_leaves(policy): its parts that are no objects, by their path: "alerts.backlog".
create or replace function posthorn.policy_leaves(p_policy jsonb) returns table (path text, value jsonb)
language sql immutable as $$
  with recursive leaf as (
    select e.key as path, e.value from jsonb_each(p_policy) e
    union all
    select leaf.path || '.' || e.key, e.value from leaf cross join lateral jsonb_each(case jsonb_typeof(leaf.value) when 'object' then leaf.value else '{}' end) e
  ) select leaf.path, leaf.value from leaf where jsonb_typeof(leaf.value) <> 'object'
$$;

-- mixed_policies(subscription): in what the policies differ that living workers carry, and one worker that carries each: the five that are carried for the longest.
create or replace function posthorn.mixed_policies(p_subscription int) returns text
language sql volatile as $$
  with carried as materialized (
    select l.policy::jsonb as policy, count(*) as workers, min(l.worker) as first from posthorn.living(p_subscription) l where l.policy is not null group by 1
  ), leaf as materialized (
    select c.first, l.path, l.value from carried c cross join lateral posthorn.policy_leaves(c.policy) l
  ), differing as materialized (
    select path from leaf group by path having count(distinct value) > 1 or count(*) < (select count(*) from carried)
  )
  select string_agg(format('%s %s %s', m.who, case when m.workers > 1 then 'have' else 'has' end, m.what), '; ' order by m.first) from (
    select c.first, c.workers, format('pid %s on %s', w.pid, w.host) || case when c.workers > 1 then format(' and %s more', c.workers - 1) else '' end as who,
        (select string_agg(format('%s %s', d.path, left(coalesce(l.value #>> '{}', 'none'), 100)), ', ' order by d.path) from differing d
          left join leaf l on l.first = c.first and l.path = d.path) as what
      from carried c join posthorn.worker w on w.id = c.first order by c.first limit 5) m
$$;

-- takes_policy(row, idempotency, policy, service, by): whether a worker that starts may carry this policy, and whether it becomes the one of the subscription,
-- which is locked. `p_by` is JSON { host, pid, library, again }: a worker that only registers anew is no newer start, and changes nothing.
-- A change is recorded. Raises PH020 (another service works on it), PH021 (not drained).
create or replace function posthorn.takes_policy(
  p_row posthorn.subscription, p_idempotency posthorn.idempotency, p_policy json, p_service text, p_by json
) returns boolean
language plpgsql as $$
declare
  v_again boolean := coalesce((p_by ->> 'again')::boolean, false);
begin
  perform posthorn.refuse_second_service(p_row, p_service);
  if p_row.policy is not null then
    perform posthorn.refuse_undrained(p_row, posthorn.fixed_parts(p_idempotency::text, p_policy), v_again);
  end if;
  if v_again and p_row.policy is not null then
    return false;
  end if;
  if p_row.policy is null or p_row.policy::jsonb <> p_policy::jsonb or p_row.service is distinct from p_service then
    insert into posthorn.policy_change (subscription, service, host, pid, library, was, became)
      values (p_row.id, p_service, p_by ->> 'host', (p_by ->> 'pid')::int, p_by ->> 'library', p_row.policy, p_policy);
    -- A fleet that carries two policies for long would write one with each restart.
    delete from posthorn.policy_change where subscription = p_row.id and id <= (
      select id from posthorn.policy_change where subscription = p_row.id order by id desc offset 1000 limit 1);
  end if;
  return true;
end $$;

-- refuse_second_service: one service works on a queue or subscription. Raises PH020 while another one lives there.
create or replace function posthorn.refuse_second_service(p_row posthorn.subscription, p_service text) returns void
language plpgsql as $$
declare
  v_other record;
begin
  if p_row.service is null or p_row.service = p_service then
    return;
  end if;
  select * into v_other from posthorn.living(p_row.id) l where l.service <> p_service order by l.worker limit 1;
  if v_other.worker is not null then
    raise exception 'service "%" works on "%" (pid % on %), and service "%" wants to work on it too', v_other.service, p_row.name, v_other.pid,
      v_other.host, p_service using errcode = 'PH020',
      hint = 'One service handles a queue or subscription: its workers share the messages, and each would get a part of them. Rename one of the two; if the service was renamed, stop its old workers first.';
  end if;
end $$;

-- refuse_undrained: idempotency and ordering say what the traces of a message mean: they change only when there are none, and nobody works by the
-- old decision. Raises PH021.
create or replace function posthorn.refuse_undrained(p_row posthorn.subscription, p_new jsonb, p_again boolean) returns void
language plpgsql as $$
declare
  v_was jsonb := posthorn.fixed_parts(p_row.idempotency::text, p_row.policy);
  v_what text;
  v_other record;
begin
  if v_was = p_new then
    return;
  end if;
  v_what := posthorn.fixed_change(v_was, p_new);
  if p_again then
    raise exception '"%" was declared anew while this worker was away, and this worker would change its %', p_row.name, v_what using errcode = 'PH021',
      hint = 'A newer start has decided otherwise. Deploy the newer code here too.';
  end if;
  select * into v_other from posthorn.living(p_row.id) l where l.policy is not null
    and posthorn.fixed_parts(l.policy ->> 'idempotency', l.policy) <> p_new order by l.worker limit 1;
  if v_other.worker is not null then
    raise exception 'the policy of "%" would change its %, and a worker of service "%" (pid % on %) still works by the old one', p_row.name, v_what,
      v_other.service, v_other.pid, v_other.host using errcode = 'PH021',
      hint = format('Run `posthorn drain %s`, stop the workers of the old version, and start the new ones.', p_row.name);
  end if;
  if posthorn.has_unsettled(p_row.id) then
    raise exception 'the policy of "%" would change its %, and it holds messages that have not ended', p_row.name, v_what using errcode = 'PH021',
      hint = format('Run `posthorn drain %s` with the old version, and start the new one when it is empty.', p_row.name);
  end if;
end $$;

-- hold_policies(service, attends): the second look, when a worker registers: of two that started in the same moment with decisions that exclude each
-- other one is refused. Locks the rows of the registry, which whoever declares a policy or removes a reader does too. Raises PH020, PH021, PH067 (removed).
create or replace function posthorn.hold_policies(p_service text, p_attends json) returns void
language plpgsql as $$
declare
  v_row record;
  v_there int := 0;
begin
  for v_row in select s.name, s.service, s.idempotency::text as idempotency, s.policy, a.policy as carried from posthorn.subscription s
      join json_to_recordset(p_attends) as a(subscription int, policy json) on a.subscription = s.id order by s.id for share of s loop
    if v_row.service <> p_service then
      raise exception 'service "%" declared "%" in this moment, and service "%" wants to work on it too', v_row.service, v_row.name, p_service
        using errcode = 'PH020', hint = 'One service handles a queue or subscription. Rename one of the two.';
    end if;
    v_there := v_there + 1;
    if v_row.carried is not null and posthorn.fixed_parts(v_row.carried ->> 'idempotency', v_row.carried)
        <> posthorn.fixed_parts(v_row.idempotency, v_row.policy) then
      raise exception 'the policy of "%" was changed by another start in this moment: this worker would change its %', v_row.name,
        posthorn.fixed_change(posthorn.fixed_parts(v_row.idempotency, v_row.policy), posthorn.fixed_parts(v_row.carried ->> 'idempotency', v_row.carried))
        using errcode = 'PH021',
        hint = 'Start one version at a time, when the other one has been stopped.';
    end if;
  end loop;
  if v_there < json_array_length(p_attends) then
    raise exception 'a subscription that this worker declared was removed in this moment' using errcode = 'PH067', hint = 'Declare it anew.';
  end if;
end $$;

-- standing(subscription, contract): what becomes of a message that a worker has no handler for, as JSON { name, version, what, reads }:
--   release: some worker may take it, now or later; skip: an event that nobody listens to here; unreadable: older than what any living worker
--   reads, though newer versions of it are handled; `reads` is then the oldest that is read.
create or replace function posthorn.standing(p_subscription int, p_contract int) returns json
language plpgsql as $$
declare
  v_contract posthorn.contract;
  v_read int[];
begin
  select * into v_contract from posthorn.contract where id = p_contract;
  select array_agg(c.version order by c.version) into v_read from posthorn.living(p_subscription) l
    join posthorn.contract c on c.id = any (l.contracts) where c.name = v_contract.name;
  return json_build_object('name', v_contract.name, 'version', v_contract.version, 'reads', v_read[1], 'what', case
    when v_read is null and v_contract.kind = 'event' then 'skip'
    when v_contract.version < v_read[1] then 'unreadable'
    else 'release' end);
end $$;

-- count_skipped(subscription, counts): adds to what was skipped; counts are [[contract, messages]].
create or replace function posthorn.count_skipped(p_subscription int, p_counts json) returns void
language sql volatile as $$
  insert into posthorn.skipped (subscription, contract, messages, first_at, last_at)
    select p_subscription, (c ->> 0)::int, (c ->> 1)::bigint, clock_timestamp(), clock_timestamp() from json_array_elements(p_counts) c
      order by (c ->> 0)::int
    on conflict (subscription, contract) do update set messages = posthorn.skipped.messages + excluded.messages, last_at = excluded.last_at
$$;

-- unhandled(limit): messages that are due and that no living worker of their queue or subscription has a handler for, by contract. Looks at up to
-- `limit` due messages of each; those of the log are claimed and handed back first, by whoever works there.
create or replace function posthorn.unhandled(p_limit int) returns table (subscription int, contract int, messages bigint, oldest timestamptz)
language sql volatile as $$
  with living as materialized (
    -- Also of a worker that has no handler at all.
    select a.subscription, array_remove(array_agg(c), null) as contracts from posthorn.attendance a left join lateral unnest(posthorn.every_of(a.subscription, a.contracts)) c on true
      where a.worker not in (select d.worker from posthorn.dead_workers() d) group by 1
  )
  select l.subscription, d.contract, count(*), min(d.due_at) from living l
    cross join lateral (select w.contract, w.due_at from posthorn.classes(l.subscription) p(class) join posthorn.deferred w
      on w.subscription = l.subscription and w.priority = p.class and w.token is null and w.due_at <= statement_timestamp() limit p_limit) d
    where d.contract <> all (l.contracts) group by 1, 2
$$;

-- handled_versions: who handles which versions of a contract there, in words.
create or replace function posthorn.handled_versions(p_subscription int, p_name text) returns text
language sql volatile as $$
  select coalesce(string_agg(format('%s %s version %s', v.workers, case v.workers when 1 then 'worker has' else 'workers have' end, v.version), ', '
      order by v.version), 'no worker has another version')
    from (select c.version, count(*) as workers from posthorn.living(p_subscription) l join posthorn.contract c on c.id = any (l.contracts)
      where c.name = p_name group by 1) v
$$;

-- fleet_rules(): what is wrong with the fleet as a whole, as rules of alerts.
create or replace function posthorn.fleet_rules() returns table (subscription int, subscription_name text, name text, value bigint, threshold bigint, detail text)
language sql volatile as $$
  with lacking as materialized (
    select u.subscription, max(extract(epoch from clock_timestamp() - u.oldest) * 1000)::bigint as ms,
        string_agg(format('%s version %s: %s waiting, %s', c.name, c.version, u.messages, posthorn.handled_versions(u.subscription, c.name)), '; '
          order by c.name, c.version) as detail
      from posthorn.unhandled(10000) u join posthorn.contract c on c.id = u.contract group by 1
  ), mixed as materialized (
    select a.subscription, count(*) as policies, max(a.since) as since from (
        select l.subscription, l.policy::jsonb as policy, min(w.started_at) as since from posthorn.attendance l join posthorn.worker w on w.id = l.worker
          where l.policy is not null and l.worker not in (select d.worker from posthorn.dead_workers() d) group by 1, 2) a group by 1 having count(*) > 1
  ), outdated as materialized (
    select a.subscription, count(*) as workers, min(w.library) as oldest from posthorn.worker w join posthorn.attendance a on a.worker = w.id
      cross join posthorn.installation i
      where posthorn.library_parts(w.library) < posthorn.library_parts(i.oldest_library)
        and w.id not in (select d.worker from posthorn.dead_workers() d) group by 1
  )
  select s.id, s.name, r.name, coalesce(r.value, 0), r.threshold, r.detail from posthorn.subscription s
    left join lacking l on l.subscription = s.id left join mixed m on m.subscription = s.id left join outdated o on o.subscription = s.id
    cross join lateral (values
      ('noHandlerMs', l.ms, (s.policy #>> '{alerts,noWorkerMs}')::bigint, l.detail),
      -- A deployment is over by then.
      ('mixedPoliciesMs', (extract(epoch from clock_timestamp() - m.since) * 1000)::bigint, 600000,
        case when m.subscription is not null then
          format('%s policies side by side: %s; see posthorn policy %s --history', m.policies, posthorn.mixed_policies(s.id), s.name) end),
      ('outdatedWorkers', o.workers, 1, format('a worker has library %s, which does not work on this schema', o.oldest))
    ) r(name, value, threshold, detail) where s.policy is not null
$$;

-- orphaned(): what exists and nobody cares for, as rows (what, name, detail). Whoever only says something is not registered anywhere: "nobody" means
-- no living worker.
create or replace function posthorn.orphaned() returns table (what text, name text, detail text)
language sql volatile as $$
  with living as materialized (
    select a.subscription, a.worker, posthorn.every_of(a.subscription, a.contracts) as contracts from posthorn.attendance a where a.worker not in (select d.worker from posthorn.dead_workers() d)
  ), handled as materialized (
    select distinct c.id, c.name from living l cross join lateral unnest(l.contracts) x(contract) join posthorn.contract c on c.id = x.contract
  ), newest as (
    select distinct on (c.name) c.*, h.name as channel_name from posthorn.contract c join posthorn.channel h on h.id = c.channel order by c.name, c.version desc
  )
  select 'queue', s.name, format('no worker works on the queue "%s"', s.name) from posthorn.subscription s join posthorn.channel h on h.id = s.channel
    where h.kind = 'command' and not exists (select from living l where l.subscription = s.id)
  union all
  select 'subscription', s.name, format('no worker works on the subscription "%s" to "%s"', s.name, h.name) from posthorn.subscription s
    join posthorn.channel h on h.id = s.channel where h.kind = 'event' and not exists (select from living l where l.subscription = s.id)
  union all
  select 'intake', i.name, format('no process runs the intake "%1$s"%2$s; if it was renamed: posthorn intakes rename %1$s <new name>; if it is gone for good: posthorn intakes remove %1$s', i.name,
      (select ', which brings in ' || string_agg(c.contract, ', ' order by c.contract collate "C") from posthorn.intake_contract c where c.intake = i.id))
    from posthorn.intake i where not exists (select from posthorn.intake_runners() r where r.intake = i.id)
  union all
  select 'topic', h.name, format('nobody reads the topic "%s"', h.name) from posthorn.channel h
    where h.kind = 'event' and not exists (select from posthorn.subscription s where s.channel = h.id)
  union all
  select 'command', n.name, format('workers of "%s" run, and none has a handler for %s', n.channel_name, n.name) from newest n
    where n.kind = 'command' and n.name not in (select name from handled)
      and exists (select from living l join posthorn.subscription s on s.id = l.subscription where s.channel = n.channel)
  union all
  select 'event', n.name, format('"%s" is read, and no subscription has a handler for %s', n.channel_name, n.name) from newest n
    where n.kind = 'event' and n.name not in (select name from handled)
      and exists (select from living l join posthorn.subscription s on s.id = l.subscription where s.channel = n.channel)
  union all
  select 'version', format('%s version %s', c.name, c.version), format('no running worker knows version %s of %s any more', c.version, c.name)
    from posthorn.contract c where c.name in (select name from handled) and c.id not in (select id from handled)
$$;

-- policy_changes(name, limit): how the policy of a queue or subscription changed, the newest first, as JSON; null where there is none of this name.
create or replace function posthorn.policy_changes(p_name text, p_limit int) returns json
language sql stable as $$
  select (select coalesce(json_agg(json_build_object('changedAt', p.changed_at, 'service', p.service, 'host', p.host, 'pid', p.pid, 'library', p.library,
      'was', p.was, 'became', p.became) order by p.id desc), '[]')
      from (select * from posthorn.policy_change c where c.subscription = s.id order by c.id desc limit p_limit) p)
    from posthorn.subscription s where s.name = p_name
$$;
