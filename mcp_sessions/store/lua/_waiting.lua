-- Put before the scripts that pass a standalone stream from one connection to another. The open connections that do not
-- deliver it wait in a text, oldest first: `node:token;` for each.
local MOST_WAITING = 32

-- The connection that delivers until now waits; if too many do, the oldest is forgotten.
local function wait_too(stream)
  local waiting = stream.waiting .. stream.node .. ':' .. whole(stream.token) .. ';'
  local _, count = string.gsub(waiting, ';', ';')
  if count > MOST_WAITING then waiting = string.gsub(waiting, '^[^;]*;', '') end
  redis.call('HSET', KEYS[3], 'waiting', waiting)
end

-- The newest that waits, and the others; nil if none does.
local function newest(waiting)
  local rest, node, token = string.match(waiting, '^(.-)([^:;]*):(%d+);$')
  return node, token, rest
end

-- Those that wait, without one.
local function waiting_without(waiting, token)
  return (string.gsub(waiting, '[^;]*:' .. whole(token) .. ';', ''))
end
