-- Counts an attempt that failed against the address (KEYS[1]) that it came from; `throttle.rs` explains the delays.
--
-- KEYS     address, the accounts that failed from it (set), the addresses that failed in the tenant (set), how many signed in to
--          the tenant, whether the tenant's alarm is on
-- ARGV     now in ms, forget after in ms; free attempts, first delay in ms, longest delay in ms; the account's name in its set, the
--          address's; of one address: how many accounts are too many, first delay, longest delay, forget after; of the tenant:
--          how many addresses are too many, how many times those that signed in, forget after
-- Answers  whether the address's alarm goes off, whether the tenant's does
local now = tonumber(ARGV[1])
local new = redis.call('SADD', KEYS[2], ARGV[6])
redis.call('PEXPIRE', KEYS[2], ARGV[11])
local accounts, many = redis.call('SCARD', KEYS[2]), tonumber(ARGV[8])

local count, free = redis.call('HINCRBY', KEYS[1], 'f', 1), tonumber(ARGV[3])
local blocked = tonumber(redis.call('HGET', KEYS[1], 'u')) or 0
if count >= free then
  blocked = math.max(blocked, now + math.min(tonumber(ARGV[5]), tonumber(ARGV[4]) * 2 ^ (count - free)))
end
if accounts >= many then
  blocked = math.max(blocked, now + math.min(tonumber(ARGV[10]), tonumber(ARGV[9]) * 2 ^ (accounts - many)))
end
redis.call('HSET', KEYS[1], 'u', string.format('%d', blocked))
redis.call('PEXPIRE', KEYS[1], ARGV[2])

local most = tonumber(ARGV[12])
local addresses = redis.call('SCARD', KEYS[3])
-- Past that, more of them would say nothing new and only take memory.
if addresses < 100 * most then
  redis.call('SADD', KEYS[3], ARGV[7])
  if addresses == 0 then redis.call('PEXPIRE', KEYS[3], ARGV[14]) end
  addresses = redis.call('SCARD', KEYS[3])
end
local attacked = addresses >= most and addresses > tonumber(ARGV[13]) * (tonumber(redis.call('GET', KEYS[4])) or 0)
local rings = attacked and redis.call('SET', KEYS[5], 1, 'NX', 'PX', ARGV[14])
return {(new == 1 and accounts == many) and 1 or 0, rings and 1 or 0}
