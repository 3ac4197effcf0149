-- How deliveries end. Each delivery ends at most once, whatever the end, in one transaction with its consequence:
--   a delivery from the log in a claim-settling mode: a numbered part of its claim, unique (claim, part), fenced by the claim's token;
--   a delivery from the log in transaction mode: an ending, unique (message, subscription, delivery), fenced by the claim's token;
--   a delivery from `deferred`: the row itself, fenced by its token.
-- A stale holder's success, its failure and a rescue therefore meet on the same row, and the second one loses.

-- settle_part_of: writes one part of a claim. False when it could not be written: the token is not the holder's, the part is there already, or
-- the one before it is missing or closed the claim. Parts leave no number out, and none comes after the one that closes: a stale holder
-- cannot pass by the rescuer's.
-- Plan: probes of claim_N_by_id and settlement_N_by_part.
select posthorn.by_slot(
  'settle_part_of(p_slot smallint, p_claim bigint, p_token bigint, p_part int, p_outcome posthorn.outcome, p_closes boolean, p_messages bigint[])',
  'boolean', $body$
  if p_part = 1 then
    insert into posthorn.settlement_{slot} (claim, part, outcome, closes, at, messages)
      select p_claim, 1, p_outcome, p_closes, clock_timestamp(), p_messages
      where exists (select from posthorn.claim_{slot} c where c.id = p_claim and c.token = p_token offset 0) on conflict do nothing;
  else
    insert into posthorn.settlement_{slot} (claim, part, outcome, closes, at, messages)
      select p_claim, p_part, p_outcome, p_closes, clock_timestamp(), p_messages
      where exists (select from posthorn.claim_{slot} c where c.id = p_claim and c.token = p_token offset 0)
        and exists (select from posthorn.settlement_{slot} t where t.claim = p_claim and t.part = p_part - 1 and not t.closes offset 0)
      on conflict do nothing;
  end if;
  return found;
$body$);

-- end_of: writes the end of one delivery into the slot of its message. False when it had ended already.
select posthorn.by_slot(
  'end_of(p_slot smallint, p_subscription int, p_message bigint, p_delivery int, p_outcome posthorn.outcome, p_claim bigint, p_worker bigint)',
  'boolean', $body$
  insert into posthorn.ending_{slot} (message, claim, worker, at, subscription, delivery, outcome)
    values (p_message, p_claim, p_worker, clock_timestamp(), p_subscription, p_delivery, p_outcome) on conflict do nothing;
  return found;
$body$);

-- claim_of: a claim by its id, whoever holds it; null columns when it is gone.
select posthorn.by_slot('claim_of(p_slot smallint, p_claim bigint)', 'posthorn.claim_1', $body$
  return (select row(c.*)::posthorn.claim_1 from posthorn.claim_{slot} c where c.id = p_claim);
$body$);

-- end_in_transaction: the last statement of a handler's transaction: ends the delivery that the holder's token proves, and writes
-- what the handler said. `p_deferred` is null for a delivery from the log. `p_started` is what the
-- transaction was marked with: posthorn.mark, or now() at BEGIN in seconds as text.
-- Returns [[nonce, id]] of what was said. Raises PH005 (claim lost), PH006 (the handler ended the transaction).
select posthorn.by_found_slot(
  'end_in_transaction(p_subscription int, p_message bigint, p_message_slot smallint, p_delivery int, p_claim bigint, p_claim_slot smallint, p_deferred bigint, p_token bigint, p_started text, p_say json)',
  'json', '', $before$
  if coalesce(nullif(current_setting('posthorn.mark', true), ''), extract(epoch from now())::text) <> p_started then
    raise exception 'the transaction that the handler was given has ended' using errcode = 'PH006';
  elsif p_deferred is not null or p_say is not null or p_message_slot <> p_claim_slot then
    return posthorn.end_with(p_subscription, p_message, p_message_slot, p_delivery, p_claim, p_claim_slot, p_deferred, p_token, p_say);
  end if;
  -- Most messages lie in the slot of their claim, and their handlers said nothing: one statement, whose plan needs no more than this.
  perform set_config('enable_seqscan', 'off', true);
  v_slot := p_claim_slot;
  $before$, $body$
  insert into posthorn.ending_{slot} (message, claim, worker, at, subscription, delivery, outcome)
    select p_message, p_claim, held.worker, clock_timestamp(), p_subscription, p_delivery, 'succeeded'
    from (select c.worker from posthorn.claim_{slot} c where c.id = p_claim and c.token = p_token offset 0) held
    on conflict do nothing;
  $body$, $after$
  if not found then
    perform posthorn.raise_lost(json_build_object('ended', p_message::text));
  end if;
  return null;
  $after$);

-- end_with: the same for all others. Nothing of the handler comes after it, so nothing of it is affected by how plans are made. Where the message
-- lies in another slot than its claim, that slot may have been truncated under a stale holder, with the ending that the rescuer wrote. A message
-- and its endings go together, so whoever finds the message finds its end; and while this transaction has looked at it, it cannot go.
create or replace function posthorn.end_with(
  p_subscription int, p_message bigint, p_message_slot smallint, p_delivery int,
  p_claim bigint, p_claim_slot smallint, p_deferred bigint, p_token bigint, p_say json
) returns json
language plpgsql as $$
declare
  v_claim posthorn.claim_1;
begin
  -- What a handler said can be too long for one packet with COMMIT. A process that is stopped between them lets go of the rows' locks soon, however
  -- long a handler may run. Zero: a database without the limit, which PGlite is.
  perform posthorn.plain_plans(), case when current_setting('idle_in_transaction_session_timeout') <> '0'
    then set_config('idle_in_transaction_session_timeout', '5s', true) end;
  if p_deferred is null then
    v_claim := posthorn.claim_of(p_claim_slot, p_claim);
    if v_claim.token is distinct from p_token
      or p_message_slot <> p_claim_slot and not posthorn.is_written_of(p_message_slot, (select s.channel from posthorn.subscription s
        where s.id = p_subscription), v_claim.lane, p_message)
      or not posthorn.end_of(p_message_slot, p_subscription, p_message, p_delivery, 'succeeded', p_claim, v_claim.worker) then
      perform posthorn.raise_lost(json_build_object('ended', p_message::text));
    end if;
  else
    perform posthorn.end_deferred(p_deferred, p_token, 'succeeded');
  end if;
  return case when p_say is null then null else posthorn.append(p_say) end;
end $$;

-- raise_lost(what): PH005; the detail says what is lost: { claims: [id] }, { deferred: id } or { ended: message }.
create or replace function posthorn.raise_lost(p_what json) returns void
language plpgsql as $$
begin
  raise exception 'the holder no longer holds this: it was rescued or ended elsewhere' using errcode = 'PH005', detail = p_what::text;
end $$;

-- end_deferred: ends a delivery that was taken from `deferred`, for good. Raises PH005.
create or replace function posthorn.end_deferred(p_deferred bigint, p_token bigint, p_outcome posthorn.outcome) returns posthorn.deferred
language plpgsql as $$
declare
  v_row posthorn.deferred;
begin
  delete from posthorn.deferred d where d.id = p_deferred and d.token = p_token returning * into v_row;
  if v_row.id is null then
    perform posthorn.raise_lost(json_build_object('deferred', p_deferred::text));
  end if;
  if v_row.once_more then
    perform posthorn.let_go(v_row.id);
  end if;
  -- The fence was the row; the ending is for the history.
  perform posthorn.end_of(posthorn.slot_for_end(v_row), v_row.subscription, v_row.message, v_row.delivery, p_outcome, null, v_row.worker);
  return v_row;
end $$;

-- slot_for_end(row): where the end of a delivery from `deferred` is written: where the log is open now; of a first delivery, which was moved there
-- while it ran, where its message lies, since its first hold may end it there as well. One that was scheduled was in no claim.
create or replace function posthorn.slot_for_end(p_row posthorn.deferred) returns smallint
language plpgsql as $$
begin
  return coalesce(case when p_row.delivery = 1 and p_row.lane >= 0 then (posthorn.where_in_log(p_row.message, p_row.nonce)).slot end, (select slot from posthorn.ring));
end $$;

-- ids(list): a JSON list of ids as an array; null for none.
create or replace function posthorn.ids(p_list json) returns bigint[]
language plpgsql immutable strict as $$
begin
  return array(select i::bigint from json_array_elements_text(p_list) i);
end $$;

-- settle_part(part): settle_part_of with a part as conclude takes it. The claim in a list when it could not be written, else null.
create or replace function posthorn.settle_part(p_part json) returns bigint[]
language plpgsql as $$
begin
  if posthorn.settle_part_of((p_part ->> 'slot')::smallint, (p_part ->> 'claim')::bigint, (p_part ->> 'token')::bigint, (p_part ->> 'part')::int,
      (p_part ->> 'outcome')::posthorn.outcome, (p_part ->> 'closes')::boolean, posthorn.ids(p_part -> 'messages')) then
    return null;
  end if;
  return array[(p_part ->> 'claim')::bigint];
end $$;

-- conclude(parts, ends, say): settles what a worker holds, in one transaction of the library's own.
--   parts: parts of claims, those of one claim in their order: [{ claim, token, slot, part, outcome, messages, closes }]; no `messages`: all of it
--   ends:  every delivery that did not simply succeed from the log, with its consequence (see conclude_one)
--   say:   what handlers said, as in append
-- All or nothing. Returns [[nonce, id]] of what was said. Raises PH005 with the lost claim in the detail.
create or replace function posthorn.conclude(p_parts json, p_ends json default null, p_say json default null) returns json
language plpgsql as $$
declare
  v_part json;
  v_lost bigint[];
  v_end json;
begin
  if p_parts is not null then
    -- Where messages come one by one it is one part, and reading it from a query costs as much as writing it.
    if json_array_length(p_parts) = 1 then
      v_lost := posthorn.settle_part(p_parts -> 0);
    else
      for v_part in select * from json_array_elements(p_parts) loop
        v_lost := v_lost || posthorn.settle_part(v_part);
      end loop;
    end if;
    if v_lost is not null then
      perform posthorn.raise_lost(json_build_object('claims', v_lost::text[]));
    end if;
  end if;
  if p_ends is not null then
    for v_end in select * from json_array_elements(p_ends) loop
      perform posthorn.conclude_one(v_end);
    end loop;
  end if;
  return case when p_say is null then null else posthorn.append(p_say) end;
end $$;

-- settle(parts, ends, say): conclude as a statement of its own. What handlers said must not be lost, so then COMMIT waits for the disk. A key of dedupe
-- that a producer holds is waited for a second: 55P03.
create or replace function posthorn.settle(p_parts json, p_ends json, p_say json) returns json
language plpgsql as $$
begin
  perform posthorn.own_transaction(p_say is not null or p_ends is not null);
  if json_typeof(p_say) = 'object' then
    perform set_config('lock_timeout', '1s', true);
  end if;
  return posthorn.conclude(p_parts, p_ends, p_say);
end $$;

-- work(subscription, lane, worker, limit, parts): settles what succeeded and claims the next, in one transaction. Claims of an
-- at-most-once subscription are on disk when it returns. Where a queue has lanes for priorities, or a topic several, the most urgent one is claimed from.
-- Raises what own_transaction, conclude and claim raise.
create or replace function posthorn.work(p_subscription int, p_lane int, p_worker bigint, p_limit int, p_parts json) returns text
language plpgsql as $$
declare
  v_guarded boolean;
  v_limited boolean;
  v_classes boolean;
  v_durable boolean;
  v_home text;
  v_set text;
begin
  select s.has_breaker or s.paused_at is not null, s.limited, exists (select from posthorn.lane l where l.subscription = s.id and l.lane > 0), s.idempotency = 'at-most-once',
      concat(r.system_identifier, '/', r.database),
      concat(set_config('synchronous_commit', case s.idempotency when 'at-most-once' then 'on' else 'off' end, true), set_config('enable_seqscan', 'off', true),
        set_config('enable_bitmapscan', 'off', true), set_config('enable_sort', 'off', true), set_config('jit', 'off', true),
        set_config('plan_cache_mode', 'force_generic_plan', true))
    into v_guarded, v_limited, v_classes, v_durable, v_home, v_set
    from posthorn.ring r left join posthorn.subscription s on s.id = p_subscription;
  -- The rest of what own_transaction sees to: it was found so where this session has been here before.
  if current_setting('posthorn.home', true) is distinct from v_home or current_setting('transaction_isolation') <> 'read committed' then
    perform posthorn.own_transaction(v_durable);
  end if;
  if p_parts is not null then
    perform posthorn.conclude(p_parts);
  end if;
  if v_guarded then
    return posthorn.claim_guarded(p_subscription, case when not v_classes then p_lane end, p_worker, p_limit, v_limited);
  elsif v_limited then
    return posthorn.claim_limited(p_subscription, case when not v_classes then p_lane end, p_worker, p_limit);
  elsif v_classes then
    return posthorn.claim_by_priority(p_subscription, p_worker, p_limit);
  end if;
  return posthorn.claim(p_subscription, p_lane, p_worker, p_limit);
end $$;

-- conclude_one(end): one delivery's end and its consequence:
--   { subscription, message, nonce, messageSlot, delivery, outcome, entry, ends?, deferred?, token?, claim?, claimSlot?,
--     next: { defer: { delayMs, attempts, crashes } } | { dead: { reason, keepMs, attempts, crashes } } | { invalid: issues } | { result: { text, keepMs } } | null }
-- `ends` true writes an ending for a delivery from the log (transaction mode); otherwise a part in the same call has ended it.
-- `stepped`: it succeeded in a run with steps, which are not needed any more.
create or replace function posthorn.conclude_one(p_end json) returns void
language plpgsql as $$
declare
  v_claim posthorn.claim_1;
  v_row posthorn.deferred;
  v_outcome posthorn.outcome := (p_end ->> 'outcome')::posthorn.outcome;
begin
  if p_end ->> 'deferred' is null and not coalesce((p_end ->> 'ends')::boolean, false) then
    perform posthorn.check_parted(p_end, v_outcome);
  end if;
  if p_end #> '{next,result}' is not null and p_end ->> 'deferred' is null then
    perform posthorn.keep_result((p_end ->> 'subscription')::int, (p_end ->> 'message')::bigint, (p_end ->> 'nonce')::bigint, p_end #> '{next,result}');
    if p_end -> 'stepped' is not null then
      perform posthorn.forget_steps((p_end ->> 'subscription')::int, (p_end ->> 'message')::bigint);
    end if;
    return;
  end if;
  if p_end ->> 'deferred' is not null then
    if p_end #>> '{next,defer}' is not null then
      select * into v_row from posthorn.deferred d where d.id = (p_end ->> 'deferred')::bigint and d.token = (p_end ->> 'token')::bigint for update;
      if v_row.id is null then
        perform posthorn.raise_lost(json_build_object('deferred', p_end ->> 'deferred'));
      end if;
    else
      v_row := posthorn.end_deferred((p_end ->> 'deferred')::bigint, (p_end ->> 'token')::bigint, v_outcome);
    end if;
  else
    v_claim := posthorn.claim_of((p_end ->> 'claimSlot')::smallint, (p_end ->> 'claim')::bigint);
    if v_claim.token is distinct from (p_end ->> 'token')::bigint then
      perform posthorn.raise_lost(json_build_object('claims', json_build_array(p_end ->> 'claim')));
    elsif coalesce((p_end ->> 'ends')::boolean, false) and (not posthorn.is_written_of((p_end ->> 'messageSlot')::smallint,
        (select s.channel from posthorn.subscription s where s.id = v_claim.subscription), v_claim.lane, (p_end ->> 'message')::bigint)
      or not posthorn.end_of((p_end ->> 'messageSlot')::smallint, v_claim.subscription,
        (p_end ->> 'message')::bigint, 1, v_outcome, v_claim.id, v_claim.worker)) then
      perform posthorn.raise_lost(json_build_object('ended', p_end ->> 'message'));
    end if;
    if p_end -> 'stepped' is not null then
      -- It succeeded, and a part has ended it.
      perform posthorn.forget_steps(v_claim.subscription, (p_end ->> 'message')::bigint);
      return;
    end if;
    v_row := posthorn.delivery_of(v_claim.subscription, v_claim.lane, (p_end ->> 'message')::bigint, (p_end ->> 'messageSlot')::smallint);
  end if;
  if p_end -> 'stepped' is not null then
    perform posthorn.forget_steps(v_row.subscription, v_row.message);
  end if;
  if p_end ->> 'entry' is not null then
    v_row.history := posthorn.with_entry(v_row.history, p_end -> 'entry');
  end if;
  perform posthorn.follow(v_row, v_outcome, p_end -> 'next');
end $$;

-- check_parted: that a part of its claim has ended a delivery so: the part was fenced, and the claim's row and token outlive a rescue, whose part says
-- otherwise. Raises PH005.
create or replace function posthorn.check_parted(p_end json, p_outcome posthorn.outcome) returns void
language plpgsql as $$
begin
  if not exists (select from posthorn.parts_of((p_end ->> 'claimSlot')::smallint, (p_end ->> 'claim')::bigint) t
      where t.outcome = p_outcome and (t.messages is null or (p_end ->> 'message')::bigint = any (t.messages))) then
    perform posthorn.raise_lost(json_build_object('claims', json_build_array(p_end ->> 'claim')));
  end if;
end $$;

-- delivery_of: the first delivery of a message of the log, as a row that can wait.
create or replace function posthorn.delivery_of(p_subscription int, p_lane int, p_message bigint, p_slot smallint) returns posthorn.deferred
language plpgsql as $$
declare
  v_channel int := (select channel from posthorn.subscription where id = p_subscription);
  v_message posthorn.stored := posthorn.message_of(p_slot, v_channel, p_lane, p_message);
  v_row posthorn.deferred;
begin
  if v_message.id is null then
    raise exception 'message % is not in slot %', p_message, p_slot using errcode = 'PH099';
  end if;
  v_row.subscription := p_subscription;
  v_row.delivery := 1;
  v_row.attempts := 0;
  v_row.crashes := 0;
  v_row.message := v_message.id;
  v_row.nonce := v_message.nonce;
  v_row.channel := v_channel;
  v_row.lane := p_lane;
  v_row.contract := v_message.contract;
  v_row.key := v_message.key;
  v_row.payload := v_message.payload;
  v_row.headers := v_message.headers;
  v_row.published_at := v_message.published_at;
  v_row.history := '[]';
  v_row.expires_at := v_message.expires_at;
  v_row.priority := posthorn.priority_of(p_lane);
  v_row.once_more := false;
  return v_row;
end $$;

-- with_entry: the history with one more attempt; of a long one the first and the newest stay. A handler that puts its message off again and
-- again has one entry for all of it, which counts the times: it does not push the failures out.
create or replace function posthorn.with_entry(p_history json, p_entry json) returns json
language sql immutable as $$
  select case when p_entry ->> 'outcome' = 'postponed' and p_history -> -1 ->> 'outcome' = 'postponed'
    then ((p_history::jsonb - -1) || jsonb_build_array(p_entry::jsonb || jsonb_build_object(
      'times', coalesce((p_history -> -1 ->> 'times')::int, 1) + 1,
      'firstAt', coalesce(p_history -> -1 ->> 'firstAt', p_history -> -1 ->> 'endedAt'))))::json
    when json_array_length(p_history) >= 50
    then ((p_history::jsonb - 1) || jsonb_build_array(p_entry::jsonb))::json
    else (p_history::jsonb || jsonb_build_array(p_entry::jsonb))::json end
$$;

-- follow(row, outcome, next): the consequence of an ended delivery. The next delivery exists only once this one has ended.
create or replace function posthorn.follow(p_row posthorn.deferred, p_outcome posthorn.outcome, p_next json) returns void
language plpgsql as $$
declare
  v_defer json := p_next -> 'defer';
  v_dead json := p_next -> 'dead';
  v_ordering text := case when p_row.key is not null then (select s.ordering from posthorn.subscription s where s.id = p_row.subscription) end;
  v_cancelled boolean;
begin
  v_cancelled := posthorn.cancel_instead(p_row, p_next);
  -- Whatever became of it, it does not run any more.
  if p_row.once_more and p_row.id is not null then
    perform posthorn.let_go(p_row.id);
  end if;
  if v_cancelled then
    return;
  end if;
  if v_defer is not null then
    p_row.due_at := least(clock_timestamp() + (v_defer ->> 'delayMs')::float8 * interval '1 ms', p_row.expires_at);
    -- What comes from outside of its key's order enters it when it is due.
    if v_ordering is not null and (p_row.place is not null or v_defer -> 'outside' is null) then
      p_row := posthorn.turn_of(p_row);
    end if;
    insert into posthorn.deferred (subscription, due_at, delivery, attempts, crashes, reason, message, nonce, channel, lane, contract, key, payload,
        headers, published_at, history, place, expires_at, priority, once_more)
      values (p_row.subscription, p_row.due_at, p_row.delivery + 1,
        (v_defer ->> 'attempts')::int, (v_defer ->> 'crashes')::int, p_outcome, p_row.message, p_row.nonce, p_row.channel, p_row.lane,
        p_row.contract, p_row.key, p_row.payload, p_row.headers, p_row.published_at, p_row.history, p_row.place, p_row.expires_at,
        coalesce(p_row.priority, 0), coalesce(p_row.once_more, false))
      on conflict (subscription, message) do update set due_at = excluded.due_at, delivery = excluded.delivery, attempts = excluded.attempts,
        crashes = excluded.crashes, reason = excluded.reason, history = excluded.history, place = excluded.place, token = null, worker = null, taken_at = null;
    return;
  end if;
  if p_next -> 'result' is not null then
    perform posthorn.keep_result(p_row.subscription, p_row.message, p_row.nonce, p_next -> 'result');
    return;
  end if;
  if v_dead is null and p_next -> 'invalid' is null then
    return;
  end if;
  -- One that ended badly lies in the way of those behind it, or does not.
  p_row.place := case v_ordering when 'park' then coalesce(p_row.place, nextval('posthorn.place')) end;
  if p_row.place is not null then
    perform posthorn.park(p_row.subscription, p_row.key);
  end if;
  if v_dead is not null then
    insert into posthorn.dead_letter (subscription, died_at, keep_until, reason, delivery, attempts, crashes, message, nonce, channel, lane,
        contract, key, payload, headers, published_at, history, place, priority)
      values (p_row.subscription, clock_timestamp(), clock_timestamp() + (v_dead ->> 'keepMs')::float8 * interval '1 ms', v_dead ->> 'reason',
        p_row.delivery, (v_dead ->> 'attempts')::int, (v_dead ->> 'crashes')::int, p_row.message, p_row.nonce, p_row.channel, p_row.lane,
        p_row.contract, p_row.key, p_row.payload, p_row.headers, p_row.published_at, p_row.history, p_row.place, p_row.priority);
  elsif p_next -> 'invalid' is not null then
    insert into posthorn.invalid (subscription, found_at, issues, delivery, message, nonce, channel, lane, contract, key, payload, headers,
        published_at, history, place, priority)
      values (p_row.subscription, clock_timestamp(), p_next -> 'invalid', p_row.delivery, p_row.message, p_row.nonce, p_row.channel, p_row.lane,
        p_row.contract, p_row.key, p_row.payload, p_row.headers, p_row.published_at, p_row.history, p_row.place, p_row.priority);
  end if;
end $$;
