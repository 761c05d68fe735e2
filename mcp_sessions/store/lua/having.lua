-- Which of some records are in an index. A script so that every call has the same shape.
-- KEYS: 1 index.
-- ARGV: 1 now or '' (not used), then fingerprints.
-- Returns: {fingerprint...}.
local members, found = {unpack(ARGV, 2)}, {}
for n, score in ipairs(redis.call('ZMSCORE', KEYS[1], unpack(members))) do
  if score then found[#found + 1] = members[n] end
end
return found
