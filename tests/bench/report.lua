-- wrk's summary as one line of JSON, for `cargo dev bench me`.
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format('{"requests":%d,"micros":%d,"bytes":%d,"errors":%d,"p99Micros":%d}\n',
    summary.requests, summary.duration, summary.bytes,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout, latency:percentile(99)))
end
