-- Put before the scripts that write state. The hash has one field per name, and one, whose name no text can have,
-- for the bytes of all names and values: the bound costs the same however much is stored.
-- KEYS: 1 record, 2 state.
local TOTAL = '\255'
local TOO_LARGE, WRONG_TYPE = -1, -2

local function total()
  return tonumber(redis.call('HGET', KEYS[2], TOTAL) or '0')
end

local function size(name, value)
  return value and #name + #value or 0
end

-- Keep the total; the hash lives as long as its session, and an empty one is gone.
local function account(session, now, bytes)
  if redis.call('HLEN', KEYS[2]) == redis.call('HEXISTS', KEYS[2], TOTAL) then
    redis.call('DEL', KEYS[2])
    return
  end
  redis.call('HSET', KEYS[2], TOTAL, string.format('%.0f', bytes))
  redis.call('PEXPIRE', KEYS[2], session.expires - now)
  if is(session, 's') then return end
  mark(session, 's')
  redis.call('SET', KEYS[1], text_of(session), 'KEEPTTL')
end

-- Store one value if it fits; the new total, nil if it does not.
local function put(session, now, name, value, max_bytes)
  local bytes = total() - size(name, redis.call('HGET', KEYS[2], name)) + size(name, value)
  if bytes > max_bytes then return nil end
  redis.call('HSET', KEYS[2], name, value)
  account(session, now, bytes)
  return bytes
end
