-- Begins an attempt to sign in to an account, unless the account (KEYS[1]) or the address (KEYS[2]) has to wait.
-- Both keys hold { f = failures, u = blocked until in ms }. The attempt counts as the account's failure until it has succeeded, so
-- that many at once get no further than one after the other. Of the address it counts when it has failed: those of an office are
-- many at once every morning.
--
-- KEYS     account, address, the addresses that failed in the tenant (set), how many signed in to the tenant
-- ARGV     now in ms, forget after in ms; the account's free attempts, first delay in ms, longest delay in ms; how many
--          addresses are too many, how many times those that signed in, free attempts then
-- Answers  ms to wait, or 0 where the attempt may go ahead; whether the account makes others wait from this attempt on
local now = tonumber(ARGV[1])
local account = redis.call('HMGET', KEYS[1], 'f', 'u')
local waited = tonumber(account[2]) or 0
local wait = math.max(waited, tonumber(redis.call('HGET', KEYS[2], 'u')) or 0) - now
if wait > 0 then return {wait, 0} end

local addresses = redis.call('SCARD', KEYS[3])
local attacked = addresses >= tonumber(ARGV[6]) and addresses > tonumber(ARGV[7]) * (tonumber(redis.call('GET', KEYS[4])) or 0)
local free = tonumber(attacked and ARGV[8] or ARGV[3])
local count = (tonumber(account[1]) or 0) + 1
local blocked = 0
if count >= free then blocked = now + math.min(tonumber(ARGV[5]), tonumber(ARGV[4]) * 2 ^ (count - free)) end
redis.call('HSET', KEYS[1], 'f', count, 'u', string.format('%d', blocked))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {0, (blocked > 0 and waited == 0) and 1 or 0}
