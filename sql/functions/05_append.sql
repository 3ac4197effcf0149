-- append(messages): writes messages into the slot that is open now, in the caller's transaction. The list is JSON:
--   [{ n: nonce, ch: channel, c: contract, k: key, p: payload, h: headers }]; returns [[nonce, id]] as JSON.
-- TypeScript producers send the same insert as plain SQL; this is for statements that do more than publish.
select posthorn.by_slot('append_of(p_slot smallint, p_messages json)', 'json', $body$
  declare v_ids json;
  begin
  with written as (
    insert into posthorn.message_{slot} (xid, id, nonce, published_at, channel, lane, contract, key, payload, headers)
    select pg_current_xact_id(), nextval('posthorn.message_id'), r.n, clock_timestamp(), r.ch, 0, r.c, r.k, coalesce(r.p, 'null'::json), r.h
    from json_to_recordset(p_messages) as r(n bigint, ch int, c int, k text, p json, h json)
    returning nonce, id)
  select json_agg(json_build_array(nonce::text, id::text)) into v_ids from written;
  return v_ids;
  end;
$body$);

create or replace function posthorn.append(p_messages json) returns json
language plpgsql as $$
declare
  v_ring posthorn.ring;
begin
  select * into v_ring from posthorn.ring;
  if not posthorn.is_here(v_ring.system_identifier, v_ring.database) then
    raise exception 'this database was restored or moved: its transaction ids belong to another server' using errcode = 'PH003';
  end if;
  return posthorn.append_of(v_ring.slot, p_messages);
end $$;

-- said(name, kind, payload, key, headers): what send and publish share. Looks the newest version of the contract up and holds the
-- caller to it. Raises PH010 (unknown contract), PH011 (wrong kind), PH012 (key), PH013 (payload is no JSON for us), PH014 (too large).
create or replace function posthorn.said(p_name text, p_kind posthorn.kind, p_payload json, p_key text, p_headers json) returns text
language plpgsql as $$
declare
  v_contract posthorn.contract;
  v_nonce bigint := posthorn.random_bigint();
  v_ids json;
begin
  select * into v_contract from posthorn.contract where name = p_name order by version desc limit 1;
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
  v_ids := posthorn.append(json_build_array(json_build_object('n', v_nonce::text, 'ch', v_contract.channel, 'c', v_contract.id,
    'k', p_key, 'p', p_payload, 'h', p_headers)));
  return posthorn.public_id((v_ids -> 0 ->> 1)::bigint, v_nonce);
end $$;

-- publish(name, payload, key, headers): states a fact in the caller's transaction; returns the message's id. Visible after COMMIT.
create or replace function posthorn.publish(name text, payload json, key text default null, headers json default null) returns text
language sql volatile as $$ select posthorn.said($1, 'event', $2, $3, $4) $$;

-- send(name, payload, key, headers): asks for something in the caller's transaction; returns the message's id.
create or replace function posthorn.send(name text, payload json, key text default null, headers json default null) returns text
language sql volatile as $$ select posthorn.said($1, 'command', $2, $3, $4) $$;
