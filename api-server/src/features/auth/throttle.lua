-- Begins attempts to sign in: on an account (KEYS[1]) and from an address (KEYS[2]), both or neither.
-- Each key holds { failures, blocked until in ms }. An attempt counts as failed until it has succeeded, so that many at once
-- get no further than one after the other; `throttle.rs` explains the delays.
--
-- ARGV     now in ms, forget after in ms; then for each key: free attempts, first delay in ms, longest delay in ms
-- Answers  ms to wait; 0 where the attempt may go ahead
local now, forget = tonumber(ARGV[1]), tonumber(ARGV[2])
local wait = 0
local failures = {}
for i, key in ipairs(KEYS) do
  local known = redis.call('HMGET', key, 'f', 'u')
  failures[i] = tonumber(known[1]) or 0
  wait = math.max(wait, (tonumber(known[2]) or 0) - now)
end
if wait > 0 then return wait end
for i, key in ipairs(KEYS) do
  local free, first, longest = tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1]), tonumber(ARGV[3 * i + 2])
  local count = failures[i] + 1
  local blocked = 0
  if count >= free then blocked = now + math.min(longest, first * 2 ^ (count - free)) end
  redis.call('HSET', key, 'f', count, 'u', string.format('%d', blocked))
  redis.call('PEXPIRE', key, forget)
end
return 0
