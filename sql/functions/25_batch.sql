-- end_many(ends, started, say): the last statement of a transaction whose handler was given several messages: ends each delivery as
-- end_in_transaction does, and writes what the handler said. All or nothing: effects of one message cannot be undone alone.
--   ends: [[subscription, message, message slot, delivery, claim, claim slot, deferred, token]], in the order in which a rescuer would end them,
--   so that the two wait for each other and do not block each other.
-- Returns [[nonce, id]] of what was said. Raises PH005 (claim lost), whose detail names the one delivery that is lost, PH006.
create or replace function posthorn.end_many(p_ends json, p_started text, p_say json) returns json
language plpgsql as $$
declare
  v_end json;
begin
  for v_end in select * from json_array_elements(p_ends) loop
    perform posthorn.end_in_transaction((v_end ->> 0)::int, (v_end ->> 1)::bigint, (v_end ->> 2)::smallint, (v_end ->> 3)::int, (v_end ->> 4)::bigint,
      (v_end ->> 5)::smallint, (v_end ->> 6)::bigint, (v_end ->> 7)::bigint, p_started, null);
  end loop;
  return case when p_say is null then null else posthorn.append(p_say) end;
end $$;
