-- What operators look at, and what they do to messages that ended badly. Lists are 'dead-letters' and 'invalid'.

-- letters_where(filter): the condition that a filter means, as SQL over a list "l" with the filter as $1. With a message the indexes of
-- the lists are probed once for each subscription.
create or replace function posthorn.letters_where(p_filter json) returns text
language sql immutable as $$
  select concat_ws(' and ', 'true',
    case when p_filter ->> 'message' is not null then 'l.subscription in (select s.id from posthorn.subscription s)
      and l.message = posthorn.id_of($1 ->> ''message'') and l.nonce = posthorn.nonce_of($1 ->> ''message'')' end,
    case when p_filter ->> 'subscription' is not null then
      'l.subscription = (select s.id from posthorn.subscription s where s.name = $1 ->> ''subscription'')' end,
    case when p_filter ->> 'contract' is not null then
      'l.contract in (select c.id from posthorn.contract c where c.name = $1 ->> ''contract'')' end,
    case when p_filter ->> 'upto' is not null then 'l.id <= ($1 ->> ''upto'')::bigint' end,
    case when p_filter ->> 'after' is not null then 'l.id > ($1 ->> ''after'')::bigint' end,
    case when p_filter ->> 'group' is not null then 'posthorn.group_of(l.subscription, l.contract, l.history) = $1 ->> ''group''' end)
$$;

-- take_letters(filter, limit): removes entries from a list and returns them as deliveries that can wait. Of several sessions that want an entry
-- one gets it; those that others are taking are passed over. The filter is JSON { list, message?, subscription?, contract?, group?, after?, upto? }: a public
-- id, names, the fingerprint of the newest error, and ids in the list, so that what dies again meanwhile is not taken again. Order: by id in the list, which is in `id`. Who orders
-- that it runs again means it to run: it has no expiry any more.
create or replace function posthorn.take_letters(p_filter json, p_limit int) returns setof posthorn.deferred
language plpgsql as $$
declare
  v_letter record;
  v_row posthorn.deferred;
begin
  for v_letter in execute format($sql$
    with picked as (
      select l.id from posthorn.%1$I l where %4$s order by l.id limit $2 for update skip locked
    )
    delete from posthorn.%1$I l using picked where l.id = picked.id
      returning l.id, l.subscription, l.delivery, %2$s as attempts, %3$s as crashes, l.message, l.nonce, l.channel, l.lane, l.contract, l.key, l.payload,
        l.headers, l.published_at, l.history, l.place, l.priority $sql$,
    case p_filter ->> 'list' when 'invalid' then 'invalid' else 'dead_letter' end,
    case p_filter ->> 'list' when 'invalid' then '0' else 'l.attempts' end,
    case p_filter ->> 'list' when 'invalid' then '0' else 'l.crashes' end,
    posthorn.letters_where(p_filter)) using p_filter, p_limit
  loop
    v_row := null;
    v_row.id := v_letter.id;
    v_row.subscription := v_letter.subscription;
    v_row.delivery := v_letter.delivery;
    v_row.attempts := v_letter.attempts;
    v_row.crashes := v_letter.crashes;
    v_row.reason := 'released';
    v_row.message := v_letter.message;
    v_row.nonce := v_letter.nonce;
    v_row.channel := v_letter.channel;
    v_row.lane := v_letter.lane;
    v_row.contract := v_letter.contract;
    v_row.key := v_letter.key;
    v_row.payload := v_letter.payload;
    v_row.headers := v_letter.headers;
    v_row.published_at := v_letter.published_at;
    v_row.history := v_letter.history;
    v_row.place := v_letter.place;
    v_row.priority := coalesce(v_letter.priority, posthorn.priority_of(v_letter.lane));
    v_row.once_more := false;
    return next v_row;
  end loop;
end $$;

-- redrive(filter, by, limit): gives entries of a list a new delivery, due at once. Attempts and crashes start anew, the history stays and says who.
-- Returns [{ message, subscription }]; an entry is redriven once, however many ask at the same time.
create or replace function posthorn.redrive(p_filter json, p_by text, p_limit int) returns json
language plpgsql as $$
declare
  v_row posthorn.deferred;
  v_done json[] := '{}';
begin
  perform posthorn.own_transaction(true);
  for v_row in select * from posthorn.take_letters(p_filter, p_limit) loop
    perform posthorn.redrive_row(v_row, p_by);
    v_done := v_done || json_build_object('message', posthorn.public_id(v_row.message, v_row.nonce),
      'subscription', (select name from posthorn.subscription where id = v_row.subscription));
  end loop;
  perform posthorn.note_operation('redrive', p_filter, p_by, null, cardinality(v_done));
  return to_json(v_done);
end $$;

-- redrive_row(row, by): a taken entry waits for a new delivery.
create or replace function posthorn.redrive_row(p_row posthorn.deferred, p_by text) returns void
language plpgsql as $$
begin
  p_row.history := posthorn.with_entry(p_row.history, json_build_object('attempt', p_row.attempts, 'outcome', 'redriven', 'by', p_by,
    'endedAt', clock_timestamp()));
  perform posthorn.follow(p_row, 'released', '{"defer":{"delayMs":0,"attempts":0,"crashes":0,"outside":true}}');
end $$;

-- discard(filter, by, reason, limit): ends entries of a list for good, without their payload; who and why is kept as long as a dead letter would be.
-- Returns [{ message, subscription }].
create or replace function posthorn.discard(p_filter json, p_by text, p_reason text, p_limit int) returns json
language plpgsql as $$
declare
  v_row posthorn.deferred;
  v_done json[] := '{}';
begin
  perform posthorn.own_transaction(true);
  for v_row in select * from posthorn.take_letters(p_filter, p_limit) loop
    perform posthorn.discard_row(v_row, p_filter ->> 'list', p_by, p_reason);
    v_done := v_done || json_build_object('message', posthorn.public_id(v_row.message, v_row.nonce),
      'subscription', (select name from posthorn.subscription where id = v_row.subscription));
  end loop;
  perform posthorn.note_operation('discard', p_filter, p_by, p_reason, cardinality(v_done));
  delete from posthorn.discarded where (subscription, message) in (
    select d.subscription, d.message from posthorn.discarded d where d.keep_until < clock_timestamp() order by d.keep_until limit 1000);
  return to_json(v_done);
end $$;

-- discard_row(row, list, by, reason): the end of a taken entry; those of its key that waited behind it go on.
create or replace function posthorn.discard_row(p_row posthorn.deferred, p_list text, p_by text, p_reason text) returns void
language plpgsql as $$
begin
  perform posthorn.write_discarded(p_row, p_list, p_by, p_reason);
  if p_row.place is not null then
    perform posthorn.promote_key(p_row.subscription, p_row.key);
  end if;
end $$;

-- write_discarded(row, list, by, reason): that a message was ended by an operator, without its payload.
create or replace function posthorn.write_discarded(p_row posthorn.deferred, p_list text, p_by text, p_reason text) returns void
language plpgsql as $$
begin
  insert into posthorn.discarded (subscription, message, nonce, contract, discarded_at, keep_until, discarded_by, reason, list, delivery, attempts,
      published_at, history, key)
    select p_row.subscription, p_row.message, p_row.nonce, p_row.contract, clock_timestamp(), clock_timestamp()
      + coalesce((s.policy #>> '{deadLetter,keepMs}')::float8, 2592000000) * interval '1 ms', left(p_by, 200), left(p_reason, 500), p_list,
      p_row.delivery, coalesce(p_row.attempts, 0), p_row.published_at, p_row.history, p_row.key
    from posthorn.subscription s where s.id = p_row.subscription
    on conflict (subscription, message) do update set history = excluded.history, reason = excluded.reason;
end $$;

-- letters(filter, limit): entries of a list, the newest first, as JSON [{ message, subscription, contract, version, key, at, attempts, crashes, reason,
-- error, issues, keptUntil, publishedAt }]; with { full: true } also payload, headers and history.
create or replace function posthorn.letters(p_filter json, p_limit int) returns json
language plpgsql stable as $$
declare
  v_json json;
begin
  execute format($sql$
    select coalesce(json_agg(json_build_object('message', posthorn.public_id(l.message, l.nonce), 'subscription', s.name, 'contract', c.name,
        'version', c.version, 'key', l.key, 'publishedAt', l.published_at, %2$s,
        'error', (select e.entry -> 'error' from json_array_elements(l.history) with ordinality e(entry, n)
          where e.entry ->> 'error' is not null order by e.n desc limit 1),
        'payload', case when ($1 ->> 'full')::boolean then l.payload end, 'headers', case when ($1 ->> 'full')::boolean then l.headers end,
        'history', case when ($1 ->> 'full')::boolean then l.history end) order by l.id desc), '[]')
      from (select * from posthorn.%1$I l where %3$s order by l.id desc limit $2) l
      join posthorn.subscription s on s.id = l.subscription join posthorn.contract c on c.id = l.contract $sql$,
    case p_filter ->> 'list' when 'invalid' then 'invalid' else 'dead_letter' end,
    case p_filter ->> 'list' when 'invalid' then $list$'at', l.found_at, 'issues', l.issues$list$
      else $list$'at', l.died_at, 'keptUntil', l.keep_until, 'attempts', l.attempts, 'crashes', l.crashes, 'reason', l.reason$list$ end,
    posthorn.letters_where(p_filter))
    into v_json using p_filter, p_limit;
  return v_json;
end $$;

-- letters_count(filter): how many entries a filter finds, and the highest id among them, as JSON { count, upto }.
create or replace function posthorn.letters_count(p_filter json) returns json
language plpgsql stable as $$
declare
  v_json json;
begin
  execute format($sql$
    select json_build_object('count', count(*), 'upto', max(l.id)::text) from posthorn.%1$I l where %2$s $sql$,
    case p_filter ->> 'list' when 'invalid' then 'invalid' else 'dead_letter' end, posthorn.letters_where(p_filter)) into v_json using p_filter;
  return v_json;
end $$;

-- crossed_alerts(): open alerts, and rules that are crossed now although nobody has raised them yet (raisedAt is null), as JSON
--   [{ alert, subscription, value, threshold, raisedAt, detail }]. One of the whole log has no
--   subscription. Without a worker nobody raises alerts; this sees them all the same.
create or replace function posthorn.crossed_alerts() returns json
language sql volatile as $$
  with open as (
    select a.name, a.subscription, a.intake, coalesce(s.name, i.name) as subscription_name, a.value, a.threshold, a.raised_at,
        posthorn.detail_now(a) as detail from posthorn.alert a left join posthorn.subscription s on s.id = a.subscription left join posthorn.intake i on i.id = a.intake
      where a.resolved_at is null
  ), crossed as (
    select * from open
    union all
    select r.name, r.subscription, r.intake, r.subscription_name, r.value, r.threshold, null, r.detail from posthorn.rules_now() r
      where r.value >= r.threshold
        and not exists (select from open o where o.subscription is not distinct from r.subscription and o.intake is not distinct from r.intake and o.name = r.name)
  )
  select coalesce(json_agg(json_build_object('alert', name, 'subscription', subscription_name, 'value', value, 'threshold', threshold,
    'raisedAt', raised_at, 'detail', detail, 'detailAt', case when name = 'circuitOpen' then (
      select c.failed_at[1] from posthorn.circuit c where c.subscription = crossed.subscription and c.state <> 'closed' and c.reason is not null) end)
    order by raised_at, subscription_name, name), '[]') from crossed
$$;

-- recent_alerts(limit): alerts that are resolved, the newest first.
create or replace function posthorn.recent_alerts(p_limit int) returns json
language sql stable as $$
  select coalesce(json_agg(json_build_object('alert', a.name, 'subscription', a.subscription, 'value', a.value, 'threshold', a.threshold,
      'raisedAt', a.raised_at, 'resolvedAt', a.resolved_at, 'detail', a.detail) order by a.resolved_at desc), '[]')
    from (select a.name, a.raised_at, a.resolved_at, a.value, a.threshold, a.detail, coalesce(s.name, i.name) as subscription
      from posthorn.alert a left join posthorn.subscription s on s.id = a.subscription left join posthorn.intake i on i.id = a.intake
      where a.resolved_at is not null order by a.resolved_at desc limit p_limit) a
$$;

-- fleet(): workers that are registered, and why one counts as dead.
create or replace function posthorn.fleet() returns json
language sql volatile as $$
  select coalesce(json_agg(json_build_object('id', w.id::text, 'service', w.service, 'host', w.host, 'pid', w.pid, 'startedAt', w.started_at,
      'heartbeatAt', w.heartbeat_at, 'worksOn', w.works_on, 'dead', d.why) order by w.id), '[]')
    from posthorn.workers w left join posthorn.dead_workers() d on d.worker = w.id
$$;

-- normalised: the text of an error without what differs from message to message: ids, numbers, quoted values. "answered 404" keeps its status,
-- which is another cause than "answered 500".
create or replace function posthorn.normalised(p_text text) returns text
language sql immutable as $$
  select regexp_replace(regexp_replace(regexp_replace(left(p_text, 500),
    '[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}', '#', 'g'),
    '"[^"]*"|''[^'']*''', '"…"', 'g'),
    '(?<![0-9])(?:(?<!\manswered )|(?![1-5][0-9]{2}\M))[0-9]+([.:][0-9]+)*|\m[0-9a-f]*[0-9][0-9a-f]{7,}\M', '#', 'g')
$$;

-- fingerprint(…): names what errors have in common; thrown_at(entry): the first line of the stack without line numbers.
create or replace function posthorn.fingerprint(p_subscription text, p_contract text, p_name text, p_code text, p_message text, p_at text) returns text
language sql immutable as $$
  select left(md5(concat_ws(chr(10), p_subscription, p_contract, p_name, coalesce(p_code, '-'), p_message, coalesce(p_at, '-'))), 12)
$$;

create or replace function posthorn.thrown_at(p_entry json) returns text
language sql immutable as $$
  select regexp_replace(substring(p_entry #>> '{error,stack}' from '\n\s*at ([^\n]+)'), ':[0-9]+:[0-9]+', '')
$$;

-- group_of(subscription, contract, history): the fingerprint of the newest error of a message; null where none is kept.
create or replace function posthorn.group_of(p_subscription int, p_contract int, p_history json) returns text
language plpgsql stable as $$
declare
  v_entry json := (select e.entry from json_array_elements(p_history) with ordinality e(entry, n) where e.entry ->> 'error' is not null order by e.n desc limit 1);
begin
  return posthorn.fingerprint((select s.name from posthorn.subscription s where s.id = p_subscription),
    (select c.name from posthorn.contract c where c.id = p_contract), v_entry #>> '{error,name}', v_entry #>> '{error,code}',
    posthorn.normalised(v_entry #>> '{error,message}'), posthorn.thrown_at(v_entry)) where v_entry is not null;
end $$;

-- error_groups(filter, limit, read): errors of messages that wait or are dead, grouped by what they have in common: queue, contract, name, code,
-- normalised message, and the first line of the stack. Every failed attempt counts. Reads the newest `read` messages of each list. Returns JSON
--   [{ fingerprint, subscription, contract, name, code, message, at, count, messages, firstSeen, lastSeen, example }], the latest first.
create or replace function posthorn.error_groups(p_filter json, p_limit int, p_read int) returns json
language sql stable as $$
  with held as (
    (select d.subscription, d.contract, d.message, d.nonce, d.history from posthorn.deferred d order by d.id desc limit p_read)
    union all
    (select d.subscription, d.contract, d.message, d.nonce, d.history from posthorn.dead_letter d order by d.id desc limit p_read)
  ), failures as (
    select s.name as subscription, c.name as contract, h.message, h.nonce, e.entry #>> '{error,name}' as name, e.entry #>> '{error,code}' as code,
        e.entry #>> '{error,message}' as text, (e.entry ->> 'endedAt')::timestamptz as seen_at, posthorn.thrown_at(e.entry) as at
      from held h join posthorn.subscription s on s.id = h.subscription join posthorn.contract c on c.id = h.contract
      cross join lateral json_array_elements(h.history) e(entry)
      where e.entry ->> 'error' is not null
        and (p_filter ->> 'subscription' is null or s.name = p_filter ->> 'subscription')
        and (p_filter ->> 'contract' is null or c.name = p_filter ->> 'contract')
  ), groups as (
    select subscription, contract, name, code, posthorn.normalised(text) as message, at, count(*) as count, count(distinct (message, nonce)) as messages,
        min(seen_at) as first_seen, max(seen_at) as last_seen,
        (array_agg(posthorn.public_id(message, nonce) order by seen_at desc))[1] as example
      from failures group by 1, 2, 3, 4, 5, 6 order by max(seen_at) desc limit p_limit
  )
  select coalesce(json_agg(json_build_object('fingerprint', posthorn.fingerprint(subscription, contract, name, code, message, at),
      'subscription', subscription, 'contract', contract, 'name', name, 'code', code, 'message', message, 'at', at, 'count', count, 'messages', messages,
      'firstSeen', first_seen, 'lastSeen', last_seen, 'example', example) order by last_seen desc), '[]') from groups
$$;

-- registered_intakes(): those of registered(), in the order of their names.
create or replace function posthorn.registered_intakes() returns json
language sql stable as $$
  select coalesce(json_agg(json_build_object('name', i.name, 'service', i.service, 'broker', i.broker, 'place', i.place, 'keepMs', i.keep_ms,
      'alerts', json_build_object('awayMs', i.away_ms, 'refused', i.refused_bound, 'invalid', i.invalid_bound), 'contracts', array(select c.contract from posthorn.intake_contract c where c.intake = i.id order by c.contract collate "C"))
    order by i.name), '[]') from posthorn.intake i
$$;

-- registered(): what the registry knows, for comparison with code: { subscriptions: [{ name, kind, channel, service, policy }],
-- contracts: [{ name, version, kind, channel, keyed, owner, by }], intakes: [{ name, service, broker, place, keepMs, alerts, contracts }] }.
create or replace function posthorn.registered() returns json
language sql stable as $$
  select json_build_object('subscriptions', (
      select coalesce(json_agg(json_build_object('name', s.name, 'kind', c.kind, 'channel', c.name, 'service', s.service, 'policy', s.policy) order by s.name), '[]')
        from posthorn.subscription s join posthorn.channel c on c.id = s.channel),
    'contracts', (
      select coalesce(json_agg(json_build_object('name', t.name, 'version', t.version, 'kind', t.kind, 'channel', c.name, 'keyed', t.keyed,
          'owner', t.owner, 'by', t.registered_by) order by t.name, t.version), '[]')
        from posthorn.contract t join posthorn.channel c on c.id = t.channel),
    'intakes', posthorn.registered_intakes())
$$;
