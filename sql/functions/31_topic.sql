-- Topics that were declared: how long their messages are kept, and in how many lanes they lie.

-- register_topic(name, keep, lanes, service): makes a topic, or holds the caller to its lanes: they say where the messages of a key are, so they are fixed
-- when it is made, which publishing to it does as well. Of two times that are said the newest start wins. Raises PH015, PH020.
create or replace function posthorn.register_topic(p_name text, p_keep_ms float8, p_lanes int, p_service text) returns void
language plpgsql as $$
declare
  v_known posthorn.channel;
begin
  perform posthorn.require_home(), posthorn.check_kept(p_keep_ms);
  if p_lanes not between 1 and 1024 then
    raise exception 'a topic has 1 to 1024 lanes, got %', p_lanes using errcode = 'PH015';
  end if;
  insert into posthorn.channel (kind, name, lanes) values ('event', p_name, coalesce(p_lanes, 1)) on conflict do nothing;
  select * into v_known from posthorn.channel c where c.kind = 'event' and c.name = p_name;
  if v_known.lanes <> p_lanes then
    raise exception 'the topic "%" has % since it was made, and service "%" declares %', p_name,
      case v_known.lanes when 1 then 'one lane' else v_known.lanes || ' lanes' end, p_service, p_lanes using errcode = 'PH020',
      hint = 'The number of lanes is fixed when a topic is made: the messages of a key lie in one of them. Declare the number that it has, or make a topic of another name.';
  end if;
  -- Who says no time leaves what others said.
  if p_keep_ms is not null and v_known.keep_ms is distinct from p_keep_ms then
    update posthorn.channel set keep_ms = p_keep_ms where id = v_known.id;
  end if;
end $$;
