-- Reading the log. Every function reads one slot; the functions without "_of" merge several, which happens only around a rotation.

-- item(…): one message as a claim returns it: [id, nonce, slot, contract, key, payload, headers, published_at in ms], and where it
-- expires, in how many ms. One expression that is inlined where it is called; building it with json_build_array costs half as much again.
create or replace function posthorn.item(
  p_id bigint, p_nonce bigint, p_slot smallint, p_contract int, p_key text, p_payload json, p_headers json, p_published_at timestamptz,
  p_expires_at timestamptz
) returns text
language sql stable as $$
  select concat('["', p_id, '","', p_nonce, '",', p_slot, ',', p_contract, ',', coalesce(to_json(p_key)::text, 'null'), ',', p_payload, ',',
    coalesce(p_headers::text, 'null'), ',', (date_part('epoch', p_published_at) * 1000)::bigint,
    ',' || ceil(date_part('epoch', p_expires_at - statement_timestamp()) * 1000)::bigint, ']')
$$;

-- page_of: committed messages of a lane after an id and up to a ceiling that the ceiling's snapshot sees, by id, as one batch.
-- Plan: message_N_by_id, range on id, stops at the limit.
select posthorn.by_slot(
  'page_of(p_slot smallint, p_channel int, p_lane int, p_after bigint, p_upto bigint, p_snapshot pg_snapshot, p_limit int)',
  'posthorn.batch', $body$
  return (select row(array_agg(m.id), null, string_agg(
      posthorn.item(m.id, m.nonce, {slot}::smallint, m.contract, m.key, m.payload, m.headers, m.published_at, m.expires_at), ','))::posthorn.batch
    from (select * from posthorn.message_{slot} m
      where m.channel = p_channel and m.lane = p_lane and m.id > p_after and m.id <= p_upto and pg_visible_in_snapshot(m.xid, p_snapshot)
      order by m.id limit p_limit) m);
$body$);

-- late_xids_of: the transactions with messages at or below the floor's id that the floor's snapshot did not see and the ceiling's
-- sees. The floor's list of running transactions does not hold those at or above its xmax, hence the second part. Of a list its first message
-- counts: the others have higher ids.
-- Plan: message_N_by_xid; one probe for each transaction, then a range of the index alone.
select posthorn.by_slot(
  'late_xids_of(p_slot smallint, p_channel int, p_lane int, p_floor pg_snapshot, p_floor_id bigint, p_first_id bigint, p_ceiling pg_snapshot)',
  'xid8[]', $body$
  return (select array_agg(distinct late.xid) from (
    select probe.xid from pg_snapshot_xip(p_floor) running(xid)
      cross join lateral (select m.xid from posthorn.message_{slot} m
        where ((m.channel::bigint << 32) | m.lane) = ((p_channel::bigint << 32) | p_lane) and m.reach is not null
          and m.xid = running.xid and m.id >= p_first_id and m.id <= p_floor_id limit 1) probe
      where pg_visible_in_snapshot(running.xid, p_ceiling)
    union all
    select m.xid from posthorn.message_{slot} m
      where ((m.channel::bigint << 32) | m.lane) = ((p_channel::bigint << 32) | p_lane) and m.reach is not null
        and m.xid >= pg_snapshot_xmax(p_floor) and m.xid < pg_snapshot_xmax(p_ceiling)
        and m.id >= p_first_id and m.id <= p_floor_id and pg_visible_in_snapshot(m.xid, p_ceiling)) late);
$body$);

-- late_page_of: messages of the listed transactions after an id and up to the floor's, by id, as one batch. The lists of a transaction do not
-- overlap, so their order is that of their messages; other transactions' messages lie between.
-- Plan: message_N_by_xid, for each transaction one probe for the list that holds the id, then its lists from there on; message_N_by_id for each list.
-- `xid = any(…)` would become a filter over the whole lane.
select posthorn.by_slot(
  'late_page_of(p_slot smallint, p_channel int, p_lane int, p_xids xid8[], p_after bigint, p_upto bigint, p_limit int)',
  'posthorn.batch', $body$
  return (select row(array_agg(m.id), null, string_agg(
      posthorn.item(m.id, m.nonce, {slot}::smallint, m.contract, m.key, m.payload, m.headers, m.published_at, m.expires_at), ','))::posthorn.batch
    from (select late.* from unnest(p_xids) listed(xid)
      cross join lateral (select m.* from posthorn.message_{slot} f
        cross join lateral (select * from posthorn.message_{slot} m
          where m.channel = p_channel and m.lane = p_lane and m.id > greatest(p_after, f.id - 1) and m.id <= least(p_upto, f.id + f.reach) and m.xid = f.xid
          order by m.id limit p_limit) m
        where ((f.channel::bigint << 32) | f.lane) = ((p_channel::bigint << 32) | p_lane) and f.reach is not null and f.xid = listed.xid and f.id <= p_upto
          and f.id >= coalesce((select b.id from posthorn.message_{slot} b
            where ((b.channel::bigint << 32) | b.lane) = ((p_channel::bigint << 32) | p_lane) and b.reach is not null and b.xid = listed.xid and b.id <= p_after
            order by b.id desc limit 1), 0)
        order by f.id, m.id limit p_limit) late
      order by late.id limit p_limit) m);
$body$);

-- newest_claim_of: the position a lane has reached in a slot; null columns when the slot has no claim of the lane.
select posthorn.by_slot('newest_claim_of(p_slot smallint, p_subscription int, p_lane int)', 'posthorn.position stable', $body$
  return (select row({slot}::smallint, c.n, c.floor, c.ceiling, c.last_id, c.late, c.late_xids)::posthorn.position from posthorn.claim_{slot} c
    where c.subscription = p_subscription and c.lane = p_lane order by c.n desc limit 1);
$body$);

select posthorn.by_slot('tick_of(p_slot smallint, p_id bigint)', 'posthorn.tick', $body$
  return (select row(t.id, t.ceiling_id, t.snapshot)::posthorn.tick from posthorn.tick_{slot} t where t.id = p_id);
$body$);

-- message_of: one message by its place; the caller compares the nonce.
select posthorn.by_slot('message_of(p_slot smallint, p_channel int, p_lane int, p_id bigint)', 'posthorn.stored', $body$
  return (select row(m.id, m.nonce, m.contract, m.key, m.payload, m.headers, m.published_at, {slot}::smallint, m.expires_at)::posthorn.stored
    from posthorn.message_{slot} m where m.channel = p_channel and m.lane = p_lane and m.id = p_id);
$body$);

-- page: page_of over several slots. The pages of all slots are merged by id, and what is over the limit is left for the next claim.
create or replace function posthorn.page(p_slots smallint[], p_channel int, p_lane int, p_after bigint, p_upto bigint, p_snapshot pg_snapshot, p_limit int)
returns posthorn.batch language plpgsql as $$
begin
  if array_length(p_slots, 1) = 1 then
    return posthorn.page_of(p_slots[1], p_channel, p_lane, p_after, p_upto, p_snapshot, p_limit);
  end if;
  return posthorn.merged(p_slots, array(select posthorn.page_of(s.slot, p_channel, p_lane, p_after, p_upto, p_snapshot, p_limit) from unnest(p_slots) s(slot)), p_limit);
end $$;

-- merged: a batch of each slot as one, by id, cut at the limit.
create or replace function posthorn.merged(p_slots smallint[], p_batches posthorn.batch[], p_limit int) returns posthorn.batch
language plpgsql as $$
begin
  return (select row(array_agg(m.id), array_agg(m.slot), string_agg(m.item::text, ','))::posthorn.batch
    from (select i.id, b.slot, i.item from unnest(p_slots, p_batches) b(slot, ids, slots, items)
        cross join lateral rows from (unnest(b.ids), json_array_elements(('[' || b.items || ']')::json)) i(id, item)
      order by i.id limit p_limit) m);
end $$;

create or replace function posthorn.late_page(p_slots smallint[], p_channel int, p_lane int, p_xids xid8[], p_after bigint, p_upto bigint, p_limit int)
returns posthorn.batch language plpgsql as $$
begin
  if array_length(p_slots, 1) = 1 then
    return posthorn.late_page_of(p_slots[1], p_channel, p_lane, p_xids, p_after, p_upto, p_limit);
  end if;
  return posthorn.merged(p_slots, array(select posthorn.late_page_of(s.slot, p_channel, p_lane, p_xids, p_after, p_upto, p_limit) from unnest(p_slots) s(slot)), p_limit);
end $$;

create or replace function posthorn.late_xids(p_slots smallint[], p_channel int, p_lane int, p_floor pg_snapshot, p_floor_id bigint, p_first_id bigint, p_ceiling pg_snapshot)
returns xid8[] language plpgsql as $$
begin
  if array_length(p_slots, 1) = 1 then
    return posthorn.late_xids_of(p_slots[1], p_channel, p_lane, p_floor, p_floor_id, p_first_id, p_ceiling);
  end if;
  return (select array_agg(distinct x.xid) from unnest(p_slots) s(slot)
    cross join lateral unnest(posthorn.late_xids_of(s.slot, p_channel, p_lane, p_floor, p_floor_id, p_first_id, p_ceiling)) x(xid));
end $$;
