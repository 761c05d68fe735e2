-- Append to a list in a session's state. Atomic so that the items of two nodes are both in the list.
-- KEYS: 1 record, 2 state.
-- ARGV: 1 now or '', 2 maximum bytes, 3 name, 4 JSON text of a list that has nothing but the item.
-- Returns: nil for no session; a string if the record cannot be read; -1 too large; -2 no list; else {list}.
local now = clock(ARGV[1])
local session, unreadable = load(KEYS[1], now)
if not session then return unreadable end
local inside = string.match(redis.call('HGET', KEYS[2], ARGV[3]) or '[]', '^%s*%[(.*)%]%s*$')
if not inside then return WRONG_TYPE end
local comma = string.match(inside, '%S') and ',' or ''
local list = '[' .. inside .. comma .. string.sub(ARGV[4], 2, -2) .. ']'
if not put(session, now, ARGV[3], list, tonumber(ARGV[2])) then return TOO_LARGE end
return {list}
