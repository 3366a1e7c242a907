-- If every guard holds, execute every write and return the server's clock; else change nothing and return false.
-- ARGV: number of guards; each guard: kind, key, then
--   'hash':  n, field, value, ... (n pairs, the whole hash)
--   'field': field, value        (one field is this)
--   'none':  field               (one field is absent)
-- then for each write: number of arguments (command included), command, arguments.
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
  else
    if redis.call('HEXISTS', key, ARGV[at]) == 1 then return false end
    at = at + 1
  end
end
while at <= #ARGV do
  local n = tonumber(ARGV[at])
  redis.call(unpack(ARGV, at + 1, at + n))
  at = at + n + 1
end
local now = redis.call('TIME')
return now[1] .. '.' .. now[2]
