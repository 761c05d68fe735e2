-- Read the notices after a place. Atomic because the place of a reader must be compared with what is there.
-- KEYS: 1 notices.
-- ARGV: 1 after which id, or '' for the place after all, 2 how many at most.
-- Returns: {the place after them, {notice, notice...}}.
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local last = newest and newest[1] or '0-0'
if ARGV[1] == '' then return {last, {}} end

local function parts(id)
  local milliseconds, number = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(milliseconds), tonumber(number)
end

-- A server that is behind its reader has lost data: what it holds may be new.
local after = ARGV[1]
local place, number = parts(after)
local last_place, last_number = parts(last)
if place > last_place or (place == last_place and number > last_number) then after = '0-0' end

local notices = {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '(' .. after, '+', 'COUNT', ARGV[2])) do
  after = entry[1]
  notices[#notices + 1] = entry[2][2]
end
return {after, notices}
