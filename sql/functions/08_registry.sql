-- The registry: names are registered by whoever declares or says them first; a second party that disagrees is refused, and both are named.

-- new_lanes: the first positions of a subscription. A queue starts at the beginning of its channel; a subscription to a topic starts
-- now: what commits from here on is delivered, also what is in flight. The id is read before the snapshot, as in claim.
create or replace function posthorn.new_lanes(p_subscription int, p_lanes int, p_from_start boolean) returns void
language plpgsql as $$
declare
  v_slot smallint := (select r.slots[cardinality(r.slots)] from posthorn.ring r);
  v_tick bigint := nextval('posthorn.tick_id');
  v_ceiling bigint := 0;
  v_snapshot pg_snapshot := '3:3:';
begin
  if not p_from_start then
    v_ceiling := coalesce(pg_sequence_last_value('posthorn.message_id'), 0);
    select pg_current_snapshot() into v_snapshot;
  end if;
  perform posthorn.write_tick(v_slot, v_tick, v_ceiling, v_snapshot);
  insert into posthorn.lane (subscription, lane, slot, n, floor, ceiling, last_id, late, late_xids)
    select p_subscription, lane, v_slot, 0, v_tick, v_tick, v_ceiling, false, null from generate_series(0, p_lanes - 1) lane;
end $$;

-- every_of(subscription, contracts): the contracts that a list names. 0 in it stands for all of the channel, also those that are registered later: a
-- relay takes whatever is said.
create or replace function posthorn.every_of(p_subscription int, p_contracts int[]) returns int[]
language plpgsql stable as $$
begin
  if p_contracts is null or not 0 = any (p_contracts) then
    return p_contracts;
  end if;
  return array(select c.id from posthorn.subscription s join posthorn.contract c on c.channel = s.channel where s.id = p_subscription);
end $$;

-- register_channel(kind, name): the channel's id. A new queue gets its reader at once, so that what is sent before any worker
-- exists is kept for it.
create or replace function posthorn.register_channel(p_kind posthorn.kind, p_name text) returns int
language plpgsql as $$
declare
  v_channel int := (select id from posthorn.channel where kind = p_kind and name = p_name);
  v_subscription int;
begin
  if v_channel is not null then
    return v_channel;
  end if;
  insert into posthorn.channel (kind, name) values (p_kind, p_name) on conflict do nothing returning id into v_channel;
  if v_channel is null then
    return (select id from posthorn.channel where kind = p_kind and name = p_name);
  end if;
  if p_kind = 'command' then
    insert into posthorn.subscription (name, channel) values (p_name, v_channel) on conflict do nothing returning id into v_subscription;
    if v_subscription is null then
      raise exception 'the queue "%" cannot be made: a subscription has this name', p_name using errcode = 'PH020',
        hint = 'Queues and subscriptions share one set of names. Rename one of them.';
    end if;
    perform posthorn.new_lanes(v_subscription, 1, true);
  end if;
  return v_channel;
end $$;

-- register_contract(…): the ids of a contract and its channel as JSON { contract, channel, lanes }; raises PH020 on a conflict.
-- The first service that publishes an event owns it, unless its contract names the owner. Only who owns it can give it away, by naming another.
create or replace function posthorn.register_contract(
  p_name text, p_version int, p_kind posthorn.kind, p_channel text, p_keyed boolean, p_owner text, p_service text, p_publishes boolean
) returns json
language plpgsql as $$
declare
  v_channel int;
  v_known record;
  v_owner text := coalesce(p_owner, case when p_kind = 'event' and p_publishes then p_service end);
begin
  perform posthorn.require_home();
  select c.*, h.name as channel_name, h.kind as channel_kind, h.lanes into v_known from posthorn.contract c join posthorn.channel h on h.id = c.channel
    where c.name = p_name order by (c.version = p_version) desc, c.version desc limit 1;
  if v_known.id is not null then
    if v_known.owner = p_service and v_known.kind = p_kind and p_owner <> p_service then
      update posthorn.contract set owner = p_owner where name = p_name and owner = p_service;
      v_known.owner := p_owner;
    end if;
    perform posthorn.check_contract(v_known.name, v_known.kind, v_known.channel_name, v_known.keyed, v_known.owner, v_known.registered_by,
      p_kind, p_channel, p_keyed, v_owner, p_service);
    if v_known.owner is null and v_owner is not null then
      perform posthorn.check_source(p_name, p_owner, p_service);
      update posthorn.contract set owner = v_owner where name = p_name and owner is null;
    end if;
    if v_known.version = p_version then
      return json_build_object('contract', v_known.id, 'channel', v_known.channel, 'lanes', v_known.lanes);
    end if;
  end if;
  v_channel := posthorn.register_channel(p_kind, p_channel);
  insert into posthorn.contract (name, version, kind, channel, keyed, owner, registered_by)
    values (p_name, p_version, p_kind, v_channel, p_keyed, v_owner, p_service) on conflict do nothing;
  if not found then
    -- Somebody registered it in this moment: hold us to what they said.
    return posthorn.register_contract(p_name, p_version, p_kind, p_channel, p_keyed, p_owner, p_service, p_publishes);
  end if;
  return (select json_build_object('contract', c.id, 'channel', c.channel, 'lanes', h.lanes) from posthorn.contract c join posthorn.channel h on h.id = c.channel
    where c.name = p_name and c.version = p_version);
end $$;

-- check_source(name, owner, service): an event that an intake brings in has its source outside. Raises PH020 for who publishes it and is not named as its owner.
create or replace function posthorn.check_source(p_name text, p_owner text, p_service text) returns void
language plpgsql as $$
declare
  v_intake text := (select i.name from posthorn.intake_contract c join posthorn.intake i on i.id = c.intake where c.contract = p_name order by i.name limit 1);
begin
  if v_intake is not null and p_owner is null then
    raise exception 'the event "%" comes in from outside by the intake "%", and service "%" wants to publish it', p_name, v_intake, p_service
      using errcode = 'PH020',
        hint = format('A fact has one source. Leave it out of the intake, or make an event of your own. An intake that is gone from the code is removed by posthorn intakes remove %s.', v_intake);
  end if;
end $$;

create or replace function posthorn.check_contract(
  p_name text, p_kind posthorn.kind, p_channel text, p_keyed boolean, p_owner text, p_by text,
  p_new_kind posthorn.kind, p_new_channel text, p_new_keyed boolean, p_new_owner text, p_new_by text
) returns void
language plpgsql as $$
begin
  if p_kind <> p_new_kind then
    raise exception '"%" is registered as % by service "%", and service "%" declares it as %', p_name,
      case p_kind when 'event' then 'an event' else 'a command' end, p_by, p_new_by,
      case p_new_kind when 'event' then 'an event' else 'a command' end using errcode = 'PH020', hint = 'Give one of the two another name.';
  end if;
  if p_channel <> p_new_channel then
    raise exception '"%" is carried by "%" since service "%" registered it, and service "%" declares "%"', p_name, p_channel, p_by, p_new_by,
      p_new_channel using errcode = 'PH020', hint = 'A contract has one queue or topic in the whole fleet.';
  end if;
  if p_keyed <> p_new_keyed then
    raise exception 'service "%" registered "%" % a key, and service "%" declares it % one', p_by, p_name,
      case when p_keyed then 'with' else 'without' end, p_new_by, case when p_new_keyed then 'with' else 'without' end using errcode = 'PH020',
      hint = 'Whether a contract has a key is the same for everybody; make a new contract to change it.';
  end if;
  if p_owner <> p_new_owner then
    raise exception 'the event "%" is owned by service "%", and service "%" wants to publish it', p_name, p_owner, p_new_owner
      using errcode = 'PH020', hint = 'A fact has one source. Let the owner publish it, or make an event of your own. The owner gives it away by naming another as `owner` in its own contract.';
  end if;
end $$;

-- register_subscription(name, kind, channel, idempotency, policy, service, by, start from): the subscription's id and its channel's as JSON.
-- The newest start wins for the policy. `by` as in takes_policy. A new reader of a topic starts now, or where `start from` is "oldest" with the oldest
-- message that is kept. Raises PH020 when the name reads another channel, PH020 and PH021 as takes_policy.
create or replace function posthorn.register_subscription(
  p_name text, p_kind posthorn.kind, p_channel text, p_idempotency posthorn.idempotency, p_policy json, p_service text,
  p_by json default null, p_start_from text default 'now'
) returns json
language plpgsql as $$
declare
  v_channel int;
  v_row posthorn.subscription;
  v_new boolean := false;
begin
  perform posthorn.require_home();
  v_channel := posthorn.register_channel(p_kind, p_channel);
  select * into v_row from posthorn.subscription where name = p_name for update;
  if v_row.id is null then
    insert into posthorn.subscription (name, channel) values (p_name, v_channel) on conflict do nothing returning * into v_row;
    v_new := v_row.id is not null;
    if not v_new then
      select * into v_row from posthorn.subscription where name = p_name for update;
    end if;
  end if;
  if exists (select from posthorn.intake i where i.name = p_name) then
    raise exception 'an intake is called "%" already, and service "%" declares it as a queue or subscription', p_name, p_service using errcode = 'PH020',
      hint = format('Queues, subscriptions and intakes share one set of names. Rename one of them; an intake that is gone from the code is removed by posthorn intakes remove %s.', p_name);
  end if;
  if v_row.channel <> v_channel then
    raise exception '"%" already reads the % "%"%, and service "%" declares it on the % "%"', p_name,
      (select case kind when 'event' then 'topic' else 'queue' end from posthorn.channel where id = v_row.channel),
      (select name from posthorn.channel where id = v_row.channel), coalesce(' for service "' || v_row.service || '"', ''), p_service,
      case p_kind when 'event' then 'topic' else 'queue' end, p_channel using errcode = 'PH020',
      hint = 'Queues and subscriptions share one set of names. Rename one of them.'
        || case p_kind when 'event' then format(' Where this one is to read another topic than it did, remove what it was first: posthorn subscriptions remove %s.', p_name) else '' end;
  end if;
  if v_new then
    perform posthorn.new_lanes(v_row.id, (select lanes from posthorn.channel where id = v_channel), p_start_from = 'oldest');
  end if;
  if not posthorn.takes_policy(v_row, p_idempotency, p_policy, p_service, p_by) then
    return json_build_object('subscription', v_row.id, 'channel', v_channel);
  end if;
  update posthorn.subscription set idempotency = p_idempotency, policy = p_policy, service = p_service, declared_at = clock_timestamp(),
      redelivery_ms = posthorn.longest_redelivery(p_policy), ordering = p_policy #>> '{ordering,whenDead}'
    where id = v_row.id;
  if v_row.ordering is not null and p_policy #>> '{ordering,whenDead}' is null then
    perform posthorn.order_ends(v_row.id);
  end if;
  -- What opened it said that of another broker.
  if v_row.policy ->> 'relay' is distinct from p_policy ->> 'relay' then
    perform posthorn.circuit_due(v_row.id);
  end if;
  perform posthorn.set_limits(v_row.id, p_policy), posthorn.set_backlog_limit(v_row.id, p_policy);
  return json_build_object('subscription', v_row.id, 'channel', v_channel);
end $$;
