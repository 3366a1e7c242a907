-- If every guard holds, execute every write and return the server's clock; else change nothing and return false.
-- ARGV: number of guards; each guard: kind, key, then
--   'hash':  n, field, value, ... (n pairs, the whole hash)
--   'field': field, value        (one field is this)
--   'none':  field               (one field is absent)
--   'there':                     (the key exists)
-- then for each write: number of arguments (command included), command, arguments. 'HSETNOW key field' sets the field
-- to the server's clock in ms.
-- Everything is compared before anything is written, so a refused call leaves no trace.
local at = 2
for _ = 1, tonumber(ARGV[1]) do
  local kind, key = ARGV[at], ARGV[at + 1]
  at = at + 2
  if kind == 'hash' then
    local n = tonumber(ARGV[at])
    at = at + 1
    if redis.call('HLEN', key) ~= n then return false end
    for _ = 1, n do
      if redis.call('HGET', key, ARGV[at]) ~= ARGV[at + 1] then return false end
      at = at + 2
    end
  elseif kind == 'field' then
    if redis.call('HGET', key, ARGV[at]) ~= ARGV[at + 1] then return false end
    at = at + 2
  elseif kind == 'none' then
    if redis.call('HEXISTS', key, ARGV[at]) == 1 then return false end
    at = at + 1
  else
    if redis.call('EXISTS', key) == 0 then return false end
  end
end
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
while at <= #ARGV do
  local n = tonumber(ARGV[at])
  if ARGV[at + 1] == 'HSETNOW' then
    redis.call('HSET', ARGV[at + 2], ARGV[at + 3], string.format('%.0f', now_ms))
  else
    redis.call(unpack(ARGV, at + 1, at + n))
  end
  at = at + n + 1
end
return string.format('%.0f', now_ms)
