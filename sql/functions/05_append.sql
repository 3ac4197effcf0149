-- Writing messages into the slot of the ring that is open, in the caller's transaction. In PL/pgSQL, whose plans are kept: an insert that a client
-- sends as text is planned each time, which costs several times the insert.

-- An address is what producers name as the channel of a message: the id of the channel, and above its 21 bits the number of its lanes less one. So a
-- channel with one lane, which most are, is its id.
create or replace function posthorn.address(p_channel int, p_lanes int) returns int
language sql immutable as $$ select p_channel | ((p_lanes - 1) << 21) $$;

-- lane_in(address, key): the lane of a message: the same for all of a key. Inlined where it is called.
create or replace function posthorn.lane_in(p_address int, p_key text) returns int
language sql immutable as $$
  select case when p_address < 2097152 or p_key is null then 0 else (((hashtextextended(p_key, 0) % ((p_address >> 21) + 1)) + (p_address >> 21) + 1) % ((p_address >> 21) + 1))::int end
$$;

-- open_slot(home): the slot that is written to. `home` names the database that the ids of contracts are from, where somebody else brought the
-- transaction; then a number below zero says why nothing may be written: -1 not the home of its log, -2 another database. Null in transactions of the
-- library's own, which must fail as a whole: raises PH003 (moved).
-- A session never changes its server and database, and asking reads a file: the answer is kept in a variable of ours, which is the one thing
-- that is set in a caller's session.
create or replace function posthorn.open_slot(p_home text) returns smallint
language plpgsql as $$
declare
  v_slot smallint;
  v_home text;
begin
  select r.slot, concat(r.system_identifier, '/', r.database) into v_slot, v_home from posthorn.ring r;
  if current_setting('posthorn.home', true) is distinct from v_home then
    if posthorn.is_here(nullif(split_part(v_home, '/', 1), '')::bigint, nullif(split_part(v_home, '/', 2), '')::oid) is not true then
      if p_home is null then
        perform posthorn.raise_away();
      end if;
      return -1;
    end if;
    perform set_config('posthorn.home', v_home, false);
  end if;
  return case when p_home <> v_home then -2 else v_slot end;
end $$;

-- append_one_of: writes one message and returns its id.
select posthorn.by_slot(
  'append_one_of(p_slot smallint, p_nonce bigint, p_channel int, p_contract int, p_key text, p_payload json, p_headers json)', 'bigint', $body$
  declare v_id bigint;
  begin
    insert into posthorn.message_{slot} (xid, id, nonce, published_at, channel, lane, contract, key, payload, headers)
      values (pg_current_xact_id(), nextval('posthorn.message_id'), p_nonce, clock_timestamp(), p_channel & 2097151, posthorn.lane_in(p_channel, p_key), p_contract,
        p_key, p_payload, p_headers)
      returning id into v_id;
    return v_id;
  end;
$body$);

-- append_of: writes messages, whose columns are lists of the same length, and returns their ids in that order. Null for `keys` or `headers` means none
-- has any; one channel and contract stand for all. Messages of one lane are a list: their ids are drawn before, within the transaction, so that the
-- first row can say how far it reaches. Elsewhere each draws its id when it is made, in the order of the lists, and reaches over itself alone.
select posthorn.by_slot(
  'append_of(p_slot smallint, p_nonces bigint[], p_channels int[], p_contracts int[], p_keys json, p_payloads json, p_headers json)', 'bigint[]', $body$
  declare
    v_xid xid8 := pg_current_xact_id();
    v_ids bigint[];
    v_first bigint;
    v_reach int;
  begin
    -- Above its 21 bits an address has the number of lanes.
    if cardinality(p_channels) = 1 and p_channels[1] < 2097152 then
      v_ids := array(select nextval('posthorn.message_id') from generate_series(1, cardinality(p_nonces)));
      v_first := v_ids[1];
      v_reach := v_ids[cardinality(v_ids)] - v_first;
      if p_keys is null and p_headers is null and cardinality(p_contracts) = 1 then
        insert into posthorn.message_{slot} (xid, id, nonce, published_at, channel, lane, contract, key, payload, headers, reach)
          select v_xid, r.id, r.nonce, clock_timestamp(), p_channels[1], 0, p_contracts[1], null, r.payload, null, case when r.id = v_first then v_reach end
            from rows from (unnest(v_ids), unnest(p_nonces), json_array_elements(p_payloads)) r(id, nonce, payload);
      else
        insert into posthorn.message_{slot} (xid, id, nonce, published_at, channel, lane, contract, key, payload, headers, reach)
          select v_xid, r.id, r.nonce, clock_timestamp(), p_channels[1], 0, coalesce(r.contract, p_contracts[1]), r.key, r.payload,
              case when json_typeof(r.headers) <> 'null' then r.headers end, case when r.id = v_first then v_reach end
            from rows from (unnest(v_ids), unnest(p_nonces), unnest(p_contracts), json_array_elements_text(p_keys), json_array_elements(p_payloads),
              json_array_elements(p_headers)) r(id, nonce, contract, key, payload, headers);
      end if;
    else
      with written as (
        insert into posthorn.message_{slot} (xid, id, nonce, published_at, channel, lane, contract, key, payload, headers)
          select v_xid, nextval('posthorn.message_id'), r.nonce, clock_timestamp(), coalesce(r.channel, p_channels[1]) & 2097151,
            posthorn.lane_in(coalesce(r.channel, p_channels[1]), r.key), coalesce(r.contract, p_contracts[1]), r.key, r.payload, case when json_typeof(r.headers) <> 'null' then r.headers end
          from rows from (unnest(p_nonces), unnest(p_channels), unnest(p_contracts), json_array_elements_text(p_keys), json_array_elements(p_payloads),
            json_array_elements(p_headers)) r(nonce, channel, contract, key, payload, headers)
          returning id)
        select array_agg(id) into v_ids from written;
    end if;
    return v_ids;
  end;
$body$);

-- write_one(home, nonce, channel, contract, key, payload, headers): appends one message, as a producer does. Returns its id and the id of the
-- transaction as text, separated by a blank; or why nothing was written: a refusal fails no transaction of a caller who named a home.
select posthorn.by_found_slot(
  'write_one(p_home text, p_nonce bigint, p_channel int, p_contract int, p_key text, p_payload json, p_headers json)', 'text', $declarations$
  v_home text;
  v_id bigint;
  $declarations$, $before$
  select r.slot, concat(r.system_identifier, '/', r.database) into v_slot, v_home from posthorn.ring r;
  -- As in open_slot, which is asked where the answer is not plain.
  if p_home <> v_home or current_setting('posthorn.home', true) is distinct from v_home then
    v_slot := posthorn.open_slot(p_home);
    if v_slot < 0 then
      return case v_slot when -1 then posthorn.moved_away() else 'elsewhere' end;
    end if;
  end if;
  $before$, $body$
    insert into posthorn.message_{slot} (xid, id, nonce, published_at, channel, lane, contract, key, payload, headers)
      values (pg_current_xact_id(), nextval('posthorn.message_id'), p_nonce, clock_timestamp(), p_channel & 2097151, posthorn.lane_in(p_channel, p_key), p_contract,
        p_key, p_payload, p_headers)
      returning id into v_id;
  $body$, $after$
  return concat(v_id, ' ', pg_current_xact_id());
  $after$);

-- write_many(home, lists): appends many messages. Returns their ids in the order given and the id of the transaction, separated by blanks. Ids
-- without a gap come back as first:last.
create or replace function posthorn.write_many(
  p_home text, p_nonces bigint[], p_channels int[], p_contracts int[], p_keys json, p_payloads json, p_headers json
) returns text
language plpgsql as $$
declare
  v_slot smallint := posthorn.open_slot(p_home);
  v_ids bigint[];
  v_count int := cardinality(p_nonces);
begin
  if v_slot < 0 then
    return case v_slot when -1 then posthorn.moved_away() else 'elsewhere' end;
  end if;
  v_ids := posthorn.append_of(v_slot, p_nonces, p_channels, p_contracts, p_keys, p_payloads, p_headers);
  -- They grow, so these two ends leave no room for a gap.
  if v_ids[v_count] - v_ids[1] = v_count - 1 then
    return concat(v_ids[1], ':', v_ids[v_count], ' ', pg_current_xact_id());
  end if;
  return concat(array_to_string(v_ids, ' '), ' ', pg_current_xact_id());
end $$;

-- append(messages): what handlers said, as one JSON list [{ n: nonce, ch: channel, c: contract, k: key, p: payload, h: headers }]; returns
-- [[nonce, id]] as JSON. Where some have options, the list comes as append_said takes it, and a third element names the nonce that the id has.
create or replace function posthorn.append(p_messages json) returns json
language plpgsql as $$
declare
  v_slot smallint := posthorn.open_slot(null);
  v_first json := p_messages -> 0;
begin
  if v_first is null then
    return posthorn.append_said(v_slot, p_messages);
  end if;
  if json_array_length(p_messages) = 1 then
    return json_build_array(json_build_array(v_first ->> 'n', posthorn.append_one_of(v_slot, (v_first ->> 'n')::bigint, (v_first ->> 'ch')::int,
      (v_first ->> 'c')::int, v_first ->> 'k', v_first -> 'p', v_first -> 'h')::text));
  end if;
  return posthorn.append_list_of(v_slot, p_messages);
end $$;

select posthorn.by_slot('append_list_of(p_slot smallint, p_messages json)', 'json', $body$
  declare v_ids json;
  begin
  with written as (
    insert into posthorn.message_{slot} (xid, id, nonce, published_at, channel, lane, contract, key, payload, headers)
    select pg_current_xact_id(), nextval('posthorn.message_id'), r.n, clock_timestamp(), r.ch & 2097151, posthorn.lane_in(r.ch, r.k), r.c, r.k, coalesce(r.p, 'null'::json), r.h
    from json_to_recordset(p_messages) as r(n bigint, ch int, c int, k text, p json, h json)
    returning nonce, id)
  select json_agg(json_build_array(nonce::text, id::text)) into v_ids from written;
  return v_ids;
  end;
$body$);

-- said(name, kind, payload, key, headers, options, version): what send and publish share. Looks the contract up, the newest version where none is
-- named, and holds the caller to it. Raises PH010 (unknown contract), PH011 (wrong kind), PH012 (key), PH013 (payload is no JSON for us), PH014 (too large), PH015 (options),
-- PH040 (the queue is full).
create or replace function posthorn.said(
  p_name text, p_kind posthorn.kind, p_payload json, p_key text, p_headers json, p_options json default null,
  p_version int default null
) returns text
language plpgsql as $$
declare
  v_contract posthorn.contract;
  v_nonce bigint := posthorn.random_bigint();
  v_place json;
begin
  select * into v_contract from posthorn.contract where name = p_name and (p_version is null or version = p_version) order by version desc limit 1;
  if v_contract.id is null and exists (select from posthorn.contract where name = p_name) then
    raise exception '"%" has no version %; known are %', p_name, p_version, (select string_agg(version::text, ', ' order by version) from posthorn.contract
      where name = p_name) using errcode = 'PH010', hint = 'A version is registered by the first TypeScript process that says it or works on it.';
  end if;
  if v_contract.id is null then
    raise exception 'no contract is called "%"', left(p_name, 80) using errcode = 'PH010',
      hint = 'Contracts are registered by the first TypeScript process that declares or says them. See select name, kind from posthorn.contract.';
  end if;
  if v_contract.kind <> p_kind then
    raise exception '"%" is % % and cannot be %', p_name, case v_contract.kind when 'event' then 'an' else 'a' end, v_contract.kind,
      case p_kind when 'event' then 'published' else 'sent' end using errcode = 'PH011',
      hint = case v_contract.kind when 'event' then 'Use posthorn.publish.' else 'Use posthorn.send.' end;
  end if;
  if v_contract.keyed and (p_key is null or p_key = '') then
    raise exception 'every "%" has a key, and this one has none', p_name using errcode = 'PH012', hint = 'Pass key => ….';
  end if;
  if p_key is not null and (p_key = '' or octet_length(p_key) > 512) then
    raise exception 'the key of "%" is empty or longer than 512 bytes', p_name using errcode = 'PH012';
  end if;
  if p_payload is null then
    raise exception 'the payload of "%" is null', p_name using errcode = 'PH013', hint = 'Pass ''null''::json to say nothing in JSON.';
  end if;
  if octet_length(p_payload::text) > 1048576 or octet_length(coalesce(p_headers::text, '')) > 8192 then
    raise exception 'the payload or headers of "%" are too large', p_name using errcode = 'PH014';
  end if;
  -- json takes what no reader can decode (\u0000, half surrogate pairs); jsonb does not.
  begin
    perform p_payload::jsonb, p_headers::jsonb;
  exception when others then
    raise exception 'the payload of "%" cannot be decoded: %', p_name, sqlerrm using errcode = 'PH013';
  end;
  if p_headers is not null and (json_typeof(p_headers) <> 'object' or exists (
      select from json_each(case when json_typeof(p_headers) = 'object' then p_headers else '{}' end) h where json_typeof(h.value) <> 'string')) then
    raise exception 'the headers of "%" are not an object of strings', p_name using errcode = 'PH013';
  end if;
  if p_kind = 'command' then
    perform posthorn.check_backlog(v_contract.channel);
  end if;
  if p_options is not null then
    v_place := posthorn.say_one(posthorn.open_slot(null), json_build_object('n', v_nonce::text, 'ch', v_contract.channel, 'c', v_contract.id, 'k', p_key,
      'p', p_payload, 'h', p_headers), p_options, null);
    return posthorn.public_id((v_place ->> 1)::bigint, (v_place ->> 2)::bigint);
  end if;
  return posthorn.public_id(posthorn.append_one_of(posthorn.open_slot(null), v_nonce,
    posthorn.address(v_contract.channel, (select c.lanes from posthorn.channel c where c.id = v_contract.channel)), v_contract.id, p_key, p_payload, p_headers), v_nonce);
end $$;

-- publish(name, payload, key, headers, version): states a fact in the caller's transaction; returns the message's id. Visible after COMMIT. Without a
-- version the payload counts as one of the newest that is registered: name it, so that a deployment does not change what yours is taken for.
create or replace function posthorn.publish(name text, payload json, key text default null, headers json default null, version int default null) returns text
language sql volatile as $$ select posthorn.said($1, 'event', $2, $3, $4, null, $5) $$;

-- send(name, payload, key, headers, options, version): asks for something in the caller's transaction; returns the message's id, or that of the message that
-- stands for it. Options are JSON { delayMs, runAt, expiresInMs, priority, dedupe: { key, mode, windowMs, maxWaitMs } }; see options_of. The
-- version as in publish.
create or replace function posthorn.send(
  name text, payload json, key text default null, headers json default null, options json default null, version int default null
) returns text
language sql volatile as $$ select posthorn.said($1, 'command', $2, $3, $4, $5, $6) $$;

-- Those with fewer parameters would make every short call ambiguous. Who had been granted one gets the new one.
do $do$
declare
  v_old record;
  v_role name;
begin
  for v_old in select o.old::regprocedure as old, o.new from (values
      (to_regprocedure('posthorn.send(text,json,text,json)'), 'posthorn.send(text, json, text, json, json, int)'),
      (to_regprocedure('posthorn.send(text,json,text,json,json)'), 'posthorn.send(text, json, text, json, json, int)'),
      (to_regprocedure('posthorn.publish(text,json,text,json)'), 'posthorn.publish(text, json, text, json, int)')) o(old, new)
      where o.old is not null loop
    for v_role in select r.rolname from pg_proc p cross join lateral aclexplode(p.proacl) a join pg_roles r on r.oid = a.grantee
        where p.oid = v_old.old and a.privilege_type = 'EXECUTE' and a.grantee <> p.proowner loop
      execute format('grant execute on function %s to %I', v_old.new, v_role);
    end loop;
    execute format('drop function %s', v_old.old);
  end loop;
end $do$;
