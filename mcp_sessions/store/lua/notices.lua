-- Read the notices after a place. Atomic because the place of a reader must be compared with what is there.
-- KEYS: 1 notices.
-- ARGV: 1 after which id, or '' for those of some time past, 2 of how long ms, 3 how many at most.
-- Returns: {the place after them, {notice, notice...}}.
local after = ARGV[1]
-- The ids are times of this server, whatever clock tests inject.
if after == '' then after = string.format('%.0f-0', clock('') - tonumber(ARGV[2])) end

local function parts(id)
  local milliseconds, number = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(milliseconds), tonumber(number)
end

-- What is there may be older than the reader's place: nothing was posted since, or the server has lost data. Either way
-- the reader has read all of it.
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local last = newest and newest[1] or '0-0'
local place, number = parts(after)
local last_place, last_number = parts(last)
if place > last_place or (place == last_place and number >= last_number) then return {last, {}} end

local notices = {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '(' .. after, '+', 'COUNT', ARGV[3])) do
  after = entry[1]
  notices[#notices + 1] = entry[2][2]
end
return {after, notices}
