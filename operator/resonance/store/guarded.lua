-- If every guard holds, execute every write and return the server's clock; else change nothing and return false.
-- ARGV: number of guards; each guard: kind, key, then
--   'hash':  n, field, value, ... (n pairs, the whole hash)
--   'field': field, value        (one field is this)
--   'none':  field               (one field is absent)
--   'there':                     (the key exists)
--   'items':  n                   (the list has so many items)
--   'fields': n                   (the hash has so many fields)
-- then for each write: number of arguments (command included), command, arguments. 'HSETNOW key field' sets the field
-- to the server's clock in ms. 'METRICS shown exact text' puts JSON at `shown` where the server has it, and then the very
-- text at `exact`, because such a server alters numbers; else the text at `shown`. ' text' after the clock says that
-- the server has no JSON for us at all.
-- Everything is compared before anything is written, and every key must hold the type that its command needs, because a
-- script that fails in its middle is not undone: a refused call leaves no trace.
local function type_of(key)
  local found = redis.call('TYPE', key)
  return found.ok or found
end
local wrong
local function holds(key, needed)
  local found = type_of(key)
  if found == 'none' or found == needed then return true end
  wrong = redis.error_reply('WRONGTYPE ' .. key .. ' is a ' .. found .. ' where a ' .. needed .. ' belongs')
  return false
end
local needs = {HSET = 'hash', HSETNOW = 'hash', HDEL = 'hash', LPUSH = 'list', LTRIM = 'list', SETRANGE = 'string'}
local at = 2
for _ = 1, tonumber(ARGV[1]) do
  local kind, key = ARGV[at], ARGV[at + 1]
  at = at + 2
  if kind == 'hash' then
    local n = tonumber(ARGV[at])
    at = at + 1
    if not holds(key, 'hash') then return wrong end
    if redis.call('HLEN', key) ~= n then return false end
    for _ = 1, n do
      if redis.call('HGET', key, ARGV[at]) ~= ARGV[at + 1] then return false end
      at = at + 2
    end
  elseif kind == 'field' then
    if not holds(key, 'hash') then return wrong end
    if redis.call('HGET', key, ARGV[at]) ~= ARGV[at + 1] then return false end
    at = at + 2
  elseif kind == 'none' then
    if not holds(key, 'hash') then return wrong end
    if redis.call('HEXISTS', key, ARGV[at]) == 1 then return false end
    at = at + 1
  elseif kind == 'items' then
    if not holds(key, 'list') then return wrong end
    if redis.call('LLEN', key) ~= tonumber(ARGV[at]) then return false end
    at = at + 1
  elseif kind == 'fields' then
    if not holds(key, 'hash') then return wrong end
    if redis.call('HLEN', key) ~= tonumber(ARGV[at]) then return false end
    at = at + 1
  else
    if redis.call('EXISTS', key) == 0 then return false end
  end
end
local first, known = at, {}
while at <= #ARGV do
  local command, key = ARGV[at + 1], ARGV[at + 2]
  if command == 'RENAME' then known[ARGV[at + 3]] = true end
  if needs[command] and not known[key] and not holds(key, needs[command]) then return wrong end
  known[key] = true
  at = at + tonumber(ARGV[at]) + 1
end
local no_json = ''
local function show_metrics(shown, exact, text)
  redis.call('UNLINK', shown, exact)
  local said = redis.pcall('JSON.SET', shown, '$', text)
  if type(said) ~= 'table' or not said.err then return redis.call('SET', exact, text) end
  redis.call('SET', shown, text)
  if said.err:find('Unknown') or said.err:find('NOPERM') or said.err:find('permission') then no_json = ' text' end
end
at = first
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
while at <= #ARGV do
  local n = tonumber(ARGV[at])
  if ARGV[at + 1] == 'HSETNOW' then
    redis.call('HSET', ARGV[at + 2], ARGV[at + 3], string.format('%.0f', now_ms))
  elseif ARGV[at + 1] == 'METRICS' then
    show_metrics(ARGV[at + 2], ARGV[at + 3], ARGV[at + 4])
  else
    redis.call(unpack(ARGV, at + 1, at + n))
  end
  at = at + n + 1
end
return string.format('%.0f', now_ms) .. no_json
