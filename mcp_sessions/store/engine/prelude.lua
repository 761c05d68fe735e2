-- What scripts of the embedded engine see: Redis' `redis`, `KEYS` and `ARGV`, and of Lua what Redis allows and they use.
-- Called with three functions of Python: `dispatch` runs a command, `listed` makes or extends a list, `failure` an error.
-- Returns: a function that compiles a script, one that runs it, one that makes the table of an error.
local dispatch, listed, failure = ...
local lua_pcall = pcall
-- How many values one call of a function may have is bounded.
local MOST_VALUES = 1000

local redis = {}

local function refused(text) return {err = text} end

function redis.pcall(...)
  local reply = dispatch(...)
  if reply == true then return {ok = 'OK'} end
  return reply
end

function redis.call(...)
  local reply = dispatch(...)
  if reply == true then return {ok = 'OK'} end
  if type(reply) == 'table' and reply.err then error(reply) end
  return reply
end

function redis.error_reply(text)
  text = string.gsub(text, '^%-', '')
  return refused(string.find(text, ' ', 1, true) and text or 'ERR ' .. text)
end

function redis.status_reply(text) return {ok = text} end

-- Errors of Python are the engine's own and no script's business. Errors of commands are tables only until here.
local function caught(done, problem, ...)
  if done then return true, problem, ... end
  if type(problem) == 'userdata' then error(problem, 0) end
  if type(problem) == 'table' and problem.err then return false, problem.err end
  return false, problem, ...
end

local globals = {
  redis = redis, assert = assert, error = error, ipairs = ipairs, math = math, next = next, pairs = pairs,
  pcall = function(...) return caught(lua_pcall(...)) end, select = select, string = string, table = table,
  tonumber = tonumber, tostring = tostring, type = type, unpack = unpack, KEYS = {}, ARGV = {},
}
setmetatable(globals, {
  __index = function(_, name)
    error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
  end,
  __newindex = function() error('Attempt to modify a readonly table', 2) end,
})

-- A number as Redis replies with it: cut off to an integer of 64 bits.
local function integer(number)
  if number ~= number or number >= 2 ^ 63 or number < -2 ^ 63 then return -2 ^ 63 end
  return number < 0 and math.ceil(number) or math.floor(number)
end

-- What Redis would reply for a value that a script returns, for Python.
local function replied(value)
  local kind = type(value)
  if kind == 'string' then return value end
  if kind == 'number' then return integer(value) end
  if kind == 'boolean' then return value and 1 or nil end
  if kind ~= 'table' then return nil end
  if type(value.err) == 'string' then return failure(value.err) end
  if type(value.ok) == 'string' then return value.ok end
  local items, count = {}, 0
  for i, item in ipairs(value) do items[i], count = replied(item), i end
  local list = listed(nil, unpack(items, 1, math.min(count, MOST_VALUES)))
  for first = MOST_VALUES + 1, count, MOST_VALUES do
    listed(list, unpack(items, first, math.min(count, first + MOST_VALUES - 1)))
  end
  return list
end

local function compile(text)
  local script, problem = loadstring(text, '@user_script')
  if not script then return failure('ERR Error compiling script (new function): ' .. problem) end
  return setfenv(script, globals)
end

local function run(script, keys, arguments)
  globals.KEYS, globals.ARGV = keys, arguments
  local done, value = lua_pcall(script)
  if done then return replied(value) end
  if type(value) == 'userdata' then error(value, 0) end
  return failure(type(value) == 'table' and value.err or 'ERR ' .. tostring(value))
end

return compile, run, refused
