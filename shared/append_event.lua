-- Append events of one message to its log and publish them: one atomic step, the only way into a log.
--
-- KEYS[1]  stream   chatrelay:log:{<messageId>}; entry id = event id "<attempt>-<n>", field "e" = the event's JSON
-- ARGV[1]  integer  seconds after this append until the log expires
-- ARGV[2]  channel  chatrelay:message:{<messageId>}
-- ARGV[3]  integer  number of events, one after the other inside one attempt
-- then per event    id, JSON
-- then              pairs of channel, JSON to publish as well (a project's channel, the operators')
--
-- Answers {word, id of the log's last entry or ""}:
--   "ok"     appended and published
--   "there"  every one of these events stands in the log with these bytes (a repeated append)
--   "stale"  the log holds a newer attempt; nothing is appended, nothing is published
--   "lost"   the log does not end with the event before the first new one, or holds other bytes under an id: it was
--            emptied, trimmed or written by somebody else. Nothing is appended, nothing is published
--
-- What is published is exactly what was appended, in the same order.

local function split(id)
  local attempt, n = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(attempt), tonumber(n)
end

local log, retention, channel, count = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local last_attempt, last_n, last_id = 0, 0, ''
local tail = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)
if tail[1] then
  last_id = tail[1][1]
  last_attempt, last_n = split(last_id)
end

-- skip what a repeated append brings again
local first = 1
while first <= count do
  local id, payload = ARGV[2 + first * 2], ARGV[3 + first * 2]
  local attempt, n = split(id)
  if attempt < last_attempt then return {'stale', last_id} end
  if attempt > last_attempt or n > last_n then break end
  local known = redis.call('XRANGE', log, id, id)
  if not known[1] or known[1][2][2] ~= payload then return {'lost', last_id} end
  first = first + 1
end
if first > count then return {'there', last_id} end

local attempt, n = split(ARGV[2 + first * 2])
if n > 0 and (attempt ~= last_attempt or n ~= last_n + 1) then return {'lost', last_id} end

for i = first, count do
  last_id = ARGV[2 + i * 2]
  redis.call('XADD', log, last_id, 'e', ARGV[3 + i * 2])
end
redis.call('EXPIRE', log, retention)
for i = first, count do
  redis.call('PUBLISH', channel, ARGV[3 + i * 2])
end
for i = 4 + count * 2, #ARGV, 2 do
  redis.call('PUBLISH', ARGV[i], ARGV[i + 1])
end
return {'ok', last_id}
