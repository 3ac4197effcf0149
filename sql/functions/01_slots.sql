-- slot_branches(body): the body for each slot of the ring, as branches of a CASE.
create or replace function posthorn.slot_branches(p_body text) returns text
language sql immutable as $$
  select string_agg(format('when %s then %s', slot, replace(p_body, '{slot}', slot::text)), E'\n' order by slot) from generate_series(1, 8) slot
$$;

-- by_slot(signature, returns, body): makes posthorn.<signature> from one body for all slots of the ring: {slot} in the body is
-- the number of a slot, and the first argument, p_slot, chooses. The statements inside name their tables directly, so each has a
-- cached plan over one plain table. Not for use at run time.
create or replace function posthorn.by_slot(p_signature text, p_returns text, p_body text) returns void
language plpgsql as $$
begin
  execute format('create or replace function posthorn.%s returns %s language plpgsql as %L', p_signature, p_returns,
    format(E'begin case p_slot\n%s\nelse raise exception ''slot %% does not exist'', p_slot using errcode = ''PH099'';\nend case; end', posthorn.slot_branches(p_body)));
end $$;

-- by_found_slot(signature, returns, declarations, before, body, after): the same for a function that finds the slot by itself: `before` sets v_slot. What
-- is one function costs a third less than two of which one calls the other.
create or replace function posthorn.by_found_slot(p_signature text, p_returns text, p_declarations text, p_before text, p_body text, p_after text) returns void
language plpgsql as $$
begin
  execute format('create or replace function posthorn.%s returns %s language plpgsql as %L', p_signature, p_returns,
    format(E'declare v_slot smallint; %s\nbegin %s\ncase v_slot\n%s\nelse raise exception ''slot %% does not exist'', v_slot using errcode = ''PH099'';\nend case;\n%s end',
      p_declarations, p_before, posthorn.slot_branches(p_body), p_after));
end $$;
