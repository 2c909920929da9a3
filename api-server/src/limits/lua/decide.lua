-- Decides one request against all the rates that apply to it, at once: it goes ahead only if every enforced rate
-- allows it, and a request that is refused spends nothing anywhere. `rate.rs` explains the arithmetic.
--
-- KEYS[i]  what has been spent on rate i
-- ARGV     now in ms, or '' for this server's clock; then for each rate: kind, limit, window in ms, burst, cost, enforced
-- Answers  for each rate: allowed, remaining, reset in ms, retry in ms
local SLICES = 16
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local function counted(limit, total, cost, reset, retry)
  if total <= limit then return 1, limit - total, reset, 0 end
  return 0, math.max(0, limit - (total - cost)), retry, retry
end

-- Each returns allowed, remaining, reset, retry; then what to remember, and for how long.
local decide = {
  F = function(spent, limit, window, _, cost)
    local start, count = now, 0
    if spent and now < spent[1] + window then start, count = spent[1], spent[2] end
    local reset = math.min(math.max(start + window - now, 0), window)
    local total = count + cost
    local allowed, remaining, after, retry = counted(limit, total, cost, reset, reset)
    return allowed, remaining, after, retry, { start, total }, start + window - now
  end,

  S = function(spent, limit, window, _, cost)
    local slice = math.ceil(window / SLICES)
    local newest = math.floor(now / slice)
    if spent then newest = math.max(newest, spent[#spent - 1]) end
    local kept, total = {}, cost
    for i = 1, spent and #spent or 0, 2 do
      if spent[i] + SLICES >= newest then
        kept[#kept + 1] = spent[i]
        kept[#kept + 1] = spent[i + 1]
        total = total + spent[i + 1]
      end
    end
    local function forgotten_in(index) return math.max((index + SLICES + 1) * slice - now, 0) end
    local excess, retry = math.max(total - limit, 0), forgotten_in(newest)
    for i = 1, #kept, 2 do
      excess = math.max(excess - kept[i + 1], 0)
      if excess == 0 then retry = forgotten_in(kept[i]) break end
    end
    local allowed, remaining, reset, wait = counted(limit, total, cost, forgotten_in(newest), retry)
    if kept[#kept - 1] == newest then
      kept[#kept] = kept[#kept] + cost
    else
      kept[#kept + 1] = newest
      kept[#kept + 1] = cost
    end
    return allowed, remaining, reset, wait, kept, forgotten_in(newest)
  end,

  B = function(spent, limit, window, burst, cost)
    local level, at = 0, now
    if spent then
      level = math.max(spent[1] - math.max(now - spent[2], 0) * limit, 0)
      at = math.max(spent[2], now)
    end
    local capacity, after = burst * window, level + cost * window
    local empty_in = math.ceil(after / limit)
    if after <= capacity then
      return 1, math.floor((capacity - after) / window), empty_in, 0, { after, at }, at - now + empty_in
    end
    local retry = math.ceil((after - capacity) / limit)
    return 0, math.max(0, math.floor((capacity - level) / window)), retry, retry
  end,
}

local stored = redis.call('MGET', unpack(KEYS))
local answer, writes, admitted = {}, {}, true
for i = 1, #KEYS do
  local kind, limit, window, burst, cost, enforced = unpack(ARGV, i * 6 - 4, i * 6 + 1)
  local spent = stored[i] and cmsgpack.unpack(stored[i])
  local allowed, remaining, reset, retry, after, ttl =
    decide[kind](spent, tonumber(limit), tonumber(window), tonumber(burst), tonumber(cost))
  if allowed == 1 then
    writes[#writes + 1] = { KEYS[i], after, ttl }
  elseif enforced == '1' then
    admitted = false
  end
  for _, number in ipairs({ allowed, remaining, reset, retry }) do answer[#answer + 1] = number end
end
if admitted then
  for _, write in ipairs(writes) do
    redis.call('SET', write[1], cmsgpack.pack(write[2]), 'PX', math.max(write[3], 1))
  end
end
return answer
