-- Begins attempts to sign in: on an account (KEYS[1]) and from an address (KEYS[2]), both or neither.
-- The first two keys hold { failures, blocked until in ms }. An attempt counts as failed until it has succeeded, so that many
-- at once get no further than one after the other; `throttle.rs` explains the delays.
--
-- KEYS     account, address; the accounts that failed from that address, the addresses that failed in the tenant (sets), how many
--          signed in to the tenant, whether the tenant's alarm is on
-- ARGV     now in ms, forget after in ms; then for account and address: free attempts, first delay in ms, longest delay in ms;
--          the account's name in its set, the address's; of one address: how many accounts are too many, first delay, longest
--          delay, forget after; of the tenant: how many addresses are too many, how many times those that signed in, free
--          attempts on an account then, forget after
-- Answers  ms to wait, or 0 where the attempt may go ahead; whether the address's alarm goes off, whether the tenant's does; whether
--          the account makes others wait from this attempt on
local now, forget = tonumber(ARGV[1]), tonumber(ARGV[2])
local wait = 0
local failures, waited = {}, {}
for i = 1, 2 do
  local known = redis.call('HMGET', KEYS[i], 'f', 'u')
  failures[i] = tonumber(known[1]) or 0
  waited[i] = tonumber(known[2]) or 0
  wait = math.max(wait, waited[i] - now)
end
if wait > 0 then return {wait, 0, 0, 0} end

local new = redis.call('SADD', KEYS[3], ARGV[9])
redis.call('PEXPIRE', KEYS[3], ARGV[14])
local accounts, many = redis.call('SCARD', KEYS[3]), tonumber(ARGV[11])

local most, ratio = tonumber(ARGV[15]), tonumber(ARGV[16])
local addresses = redis.call('SCARD', KEYS[4])
-- Past that, more of them would say nothing new and only take memory.
if addresses < 100 * most then
  redis.call('SADD', KEYS[4], ARGV[10])
  if addresses == 0 then redis.call('PEXPIRE', KEYS[4], ARGV[18]) end
  addresses = redis.call('SCARD', KEYS[4])
end
local attacked = addresses >= most and addresses > ratio * (tonumber(redis.call('GET', KEYS[5])) or 0)

local begins = 0
for i = 1, 2 do
  local free, first, longest = tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1]), tonumber(ARGV[3 * i + 2])
  if i == 1 and attacked then free = tonumber(ARGV[17]) end
  local count = failures[i] + 1
  local blocked = 0
  if count >= free then blocked = now + math.min(longest, first * 2 ^ (count - free)) end
  if i == 2 and accounts >= many then
    blocked = math.max(blocked, now + math.min(tonumber(ARGV[13]), tonumber(ARGV[12]) * 2 ^ (accounts - many)))
  end
  if i == 1 and blocked > 0 and waited[i] == 0 then begins = 1 end
  redis.call('HSET', KEYS[i], 'f', count, 'u', string.format('%d', blocked))
  redis.call('PEXPIRE', KEYS[i], forget)
end
local rings = 0
if attacked and redis.call('SET', KEYS[6], 1, 'NX', 'PX', ARGV[18]) then rings = 1 end
return {0, (new == 1 and accounts == many) and 1 or 0, rings, begins}
