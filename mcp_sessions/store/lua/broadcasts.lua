-- Read the broadcasts after a place. Atomic so that the reader's place is compared with what is there.
-- KEYS: 1 broadcasts.
-- ARGV: 1 now or '' (not used), 2 after which id, or '' for the last ones, 3 of how long ms, 4 how many at most.
-- Returns: {the place after them, {broadcast, broadcast...}}.
local after = ARGV[2]
-- The ids are times of the server, whatever clock tests inject.
if after == '' then after = string.format('%.0f-0', clock('') - tonumber(ARGV[3])) end

local function parts(id)
  local milliseconds, number = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(milliseconds), tonumber(number)
end

-- The newest may be older than the reader's place: nothing came since, or the server has lost data. Either way the reader
-- has read all of it.
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local last = newest and newest[1] or '0-0'
local place, number = parts(after)
local last_place, last_number = parts(last)
if place > last_place or (place == last_place and number >= last_number) then return {last, {}} end

local found = {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '(' .. after, '+', 'COUNT', ARGV[4])) do
  after = entry[1]
  found[#found + 1] = entry[2][2]
end
return {after, found}
