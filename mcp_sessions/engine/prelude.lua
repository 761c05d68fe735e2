-- What scripts of the embedded engine see: Redis' `redis`, `KEYS` and `ARGV`, and of Lua what Redis allows and they use.
-- Called with the function of Python that runs a command.
-- Returns: a function that compiles a script, and one that runs it.
local dispatch = ...
local lua_pcall = pcall
local redis = {}
-- The clock of the script that runs, in microseconds.
local now

-- What a command replies. The time is here already: to ask Python for it is a tenth of what a request costs.
function redis.pcall(name, ...)
  if name == 'TIME' then return {string.format('%.0f', math.floor(now / 1e6)), string.format('%.0f', now % 1e6)} end
  local reply = dispatch(name, ...)
  if reply == true then return {ok = 'OK'} end
  return reply
end

function redis.call(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then error(reply) end
  return reply
end

function redis.error_reply(text) return {err = text} end

-- A number as a reply: cut off to an integer of 64 bits.
local function integer(number)
  if not (number > -2 ^ 63 and number < 2 ^ 63) then return ':-9223372036854775808\r\n' end
  return string.format(':%.0f\r\n', number < 0 and math.ceil(number) + 0 or math.floor(number))
end

local function problem(text) return '-' .. string.gsub(text, '[\r\n]', ' ') .. '\r\n' end

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

-- Write what Redis replies for a value that a script returns, in Redis' protocol.
local function write(parts, value)
  local kind = type(value)
  if kind == 'boolean' and value then kind, value = 'number', 1 end
  if kind == 'string' then
    parts[#parts + 1] = string.format('$%d\r\n', #value)
    parts[#parts + 1] = value
    parts[#parts + 1] = '\r\n'
  elseif kind == 'number' then
    parts[#parts + 1] = integer(value)
  elseif kind ~= 'table' then
    parts[#parts + 1] = '$-1\r\n'
  elseif type(value.err) == 'string' then
    parts[#parts + 1] = problem(value.err)
  elseif type(value.ok) == 'string' then
    write(parts, value.ok)
  else
    local head, count = #parts + 1, 0
    parts[head] = ''
    for i, item in ipairs(value) do
      write(parts, item)
      count = i
    end
    parts[head] = string.format('*%d\r\n', count)
  end
end

-- The script as a function.
local function compile(text) return setfenv(assert(loadstring(text, '@user_script')), globals) end

-- Returns: the reply in Redis' protocol.
local function run(script, time, keys, arguments)
  now, globals.KEYS, globals.ARGV = time, keys, arguments
  local done, value = lua_pcall(script)
  if done then
    local parts = {}
    write(parts, value)
    return table.concat(parts)
  end
  if type(value) == 'userdata' then error(value, 0) end
  return problem(type(value) == 'table' and value.err or 'ERR ' .. tostring(value))
end

return compile, run
