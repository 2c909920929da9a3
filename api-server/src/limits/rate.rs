//! The arithmetic of one rate, in whole numbers and milliseconds. `lua/decide.lua` is the same arithmetic where
//! it is exact across replicas (one Redis, one clock); this is the copy that works while Redis does not, and the
//! two are held together by a test that feeds both the same requests.

/// How many parts a sliding window is counted in. A request is forgotten between `window` and `window + window/16`
/// after it came: never early, so no span of one window ever holds more than the limit.
pub const SLICES: u64 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// The window begins with the key's first request; at its end all of the limit is back at once.
    FixedWindow,
    /// No span of one window holds more than the limit.
    SlidingWindow,
    /// GCRA in its leaky-bucket form: `burst` at once, then evenly `limit` per window.
    TokenBucket { burst: u64 },
}

/// One `limit per window`, as it is counted for every value of its counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub algorithm: Algorithm,
    pub limit: u64,
    pub window_ms: u64,
}

/// What has been spent on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spent {
    Fixed {
        start: u64,
        count: u64,
    },
    /// `(slice, count)`, oldest first.
    Sliding(Vec<(u64, u64)>),
    /// `level` counts in `1 / window_ms` of a token, so that it drains by exactly `limit` per millisecond.
    Bucket {
        level: u64,
        at: u64,
    },
}

/// What one rate says to one request. Times are in milliseconds from now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub allowed: bool,
    /// After this request when it is allowed, without it when it is not.
    pub remaining: u64,
    /// Until all of the limit is back; for a refused request the same as `retry_ms`.
    pub reset_ms: u64,
    /// Until this request would be allowed; 0 when it is.
    pub retry_ms: u64,
}

impl Rate {
    /// The most that can be spent at one moment: what `q` means in `RateLimit-Policy`.
    pub fn quota(&self) -> u64 {
        match self.algorithm {
            Algorithm::TokenBucket { burst } => burst,
            Algorithm::FixedWindow | Algorithm::SlidingWindow => self.limit,
        }
    }

    /// The verdict on `cost` more at `now`, and what will have been spent if the request goes ahead.
    pub fn decide(&self, spent: Option<&Spent>, cost: u64, now: u64) -> (Verdict, Spent) {
        match self.algorithm {
            Algorithm::FixedWindow => self.fixed(spent, cost, now),
            Algorithm::SlidingWindow => self.sliding(spent, cost, now),
            Algorithm::TokenBucket { burst } => self.bucket(burst, spent, cost, now),
        }
    }

    /// So much spent that `cost` more is refused until `retry_ms` from `now` (a sliding window may take a slice longer).
    pub fn used_up(&self, cost: u64, retry_ms: u64, now: u64) -> Spent {
        match self.algorithm {
            Algorithm::FixedWindow => {
                Spent::Fixed { start: (now + retry_ms).saturating_sub(self.window_ms), count: self.limit }
            }
            Algorithm::SlidingWindow => {
                let forgotten = (now + retry_ms).div_ceil(self.window_ms.div_ceil(SLICES));
                Spent::Sliding(vec![(forgotten.saturating_sub(SLICES + 1), self.limit)])
            }
            Algorithm::TokenBucket { burst } => {
                let room = burst.saturating_mul(self.window_ms).saturating_sub(cost.saturating_mul(self.window_ms));
                Spent::Bucket { level: room.saturating_add(retry_ms.saturating_mul(self.limit)), at: now }
            }
        }
    }

    fn fixed(&self, spent: Option<&Spent>, cost: u64, now: u64) -> (Verdict, Spent) {
        let (start, count) = match spent {
            Some(&Spent::Fixed { start, count }) if now < start.saturating_add(self.window_ms) => (start, count),
            _ => (now, 0),
        };
        // A clock that was set back must not make a window longer than it is.
        let reset_ms = (start + self.window_ms).saturating_sub(now).min(self.window_ms);
        let total = count.saturating_add(cost);
        (self.counted(total, cost, reset_ms, reset_ms), Spent::Fixed { start, count: total })
    }

    fn sliding(&self, spent: Option<&Spent>, cost: u64, now: u64) -> (Verdict, Spent) {
        let slice_ms = self.window_ms.div_ceil(SLICES);
        let mut slices = match spent {
            Some(Spent::Sliding(slices)) => slices.clone(),
            _ => Vec::new(),
        };
        let newest = (now / slice_ms).max(slices.last().map_or(0, |(slice, _)| *slice));
        slices.retain(|(slice, _)| slice + SLICES >= newest);
        let total = slices.iter().fold(cost, |sum, (_, count)| sum.saturating_add(*count));
        let forgotten_in = |slice: u64| ((slice + SLICES + 1) * slice_ms).saturating_sub(now);
        let mut excess = total.saturating_sub(self.limit);
        let retry_ms = slices.iter().find_map(|(slice, count)| {
            excess = excess.saturating_sub(*count);
            (excess == 0).then(|| forgotten_in(*slice))
        });
        let verdict = self.counted(total, cost, forgotten_in(newest), retry_ms.unwrap_or(forgotten_in(newest)));
        match slices.last_mut() {
            Some((slice, count)) if *slice == newest => *count += cost,
            _ => slices.push((newest, cost)),
        }
        (verdict, Spent::Sliding(slices))
    }

    fn counted(&self, total: u64, cost: u64, reset_ms: u64, retry_ms: u64) -> Verdict {
        match self.limit.checked_sub(total) {
            Some(remaining) => Verdict { allowed: true, remaining, reset_ms, retry_ms: 0 },
            None => Verdict {
                allowed: false,
                remaining: self.limit.saturating_sub(total - cost),
                reset_ms: retry_ms,
                retry_ms,
            },
        }
    }

    fn bucket(&self, burst: u64, spent: Option<&Spent>, cost: u64, now: u64) -> (Verdict, Spent) {
        let (level, at) = match spent {
            Some(&Spent::Bucket { level, at }) => (level, at.max(now)),
            _ => (0, now),
        };
        let drained = match spent {
            Some(&Spent::Bucket { at, .. }) => now.saturating_sub(at).saturating_mul(self.limit),
            _ => 0,
        };
        let (before, capacity) = (level.saturating_sub(drained), burst.saturating_mul(self.window_ms));
        let after = before.saturating_add(cost.saturating_mul(self.window_ms));
        let verdict = if after <= capacity {
            let remaining = (capacity - after) / self.window_ms;
            Verdict { allowed: true, remaining, reset_ms: after.div_ceil(self.limit), retry_ms: 0 }
        } else {
            let remaining = capacity.saturating_sub(before) / self.window_ms;
            let retry_ms = (after - capacity).div_ceil(self.limit);
            Verdict { allowed: false, remaining, reset_ms: retry_ms, retry_ms }
        };
        (verdict, Spent::Bucket { level: after, at })
    }
}

impl Spent {
    /// When there is nothing left to remember, in milliseconds since the epoch.
    pub fn forgotten_at(&self, rate: &Rate) -> u64 {
        match self {
            Self::Fixed { start, .. } => start + rate.window_ms,
            Self::Sliding(slices) => {
                let newest = slices.last().map_or(0, |(slice, _)| *slice);
                (newest + SLICES + 1) * rate.window_ms.div_ceil(SLICES)
            }
            Self::Bucket { level, at } => at + level.div_ceil(rate.limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spends one at `now` and says whether that was allowed.
    fn spend(rate: &Rate, spent: &mut Option<Spent>, now: u64) -> Verdict {
        let (verdict, after) = rate.decide(spent.as_ref(), 1, now);
        if verdict.allowed {
            *spent = Some(after);
        }
        verdict
    }

    #[test]
    fn a_fixed_window_begins_with_its_first_request_and_ends_whole() {
        let rate = Rate { algorithm: Algorithm::FixedWindow, limit: 2, window_ms: 1_000 };
        let mut spent = None;
        assert_eq!(
            spend(&rate, &mut spent, 700),
            Verdict { allowed: true, remaining: 1, reset_ms: 1_000, retry_ms: 0 }
        );
        assert_eq!(spend(&rate, &mut spent, 900), Verdict { allowed: true, remaining: 0, reset_ms: 800, retry_ms: 0 });
        assert_eq!(
            spend(&rate, &mut spent, 1_500),
            Verdict { allowed: false, remaining: 0, reset_ms: 200, retry_ms: 200 }
        );
        assert_eq!(spend(&rate, &mut spent, 1_700).remaining, 1, "the next window begins with the next request");
    }

    #[test]
    fn no_span_of_a_sliding_window_holds_more_than_the_limit() {
        let rate = Rate { algorithm: Algorithm::SlidingWindow, limit: 5, window_ms: 1_600 };
        let (mut spent, mut admitted) = (None, Vec::new());
        for now in (10_000..20_000).step_by(37) {
            if spend(&rate, &mut spent, now).allowed {
                admitted.push(now);
            }
        }
        for pair in admitted.windows(6) {
            assert!(pair[5] - pair[0] >= 1_600, "six within one window: {pair:?}");
        }
        assert!(admitted.len() >= 25, "10 s hold six windows of five, with one slice lost at each: {}", admitted.len());
    }

    #[test]
    fn retry_is_the_first_moment_at_which_it_is_allowed() {
        for algorithm in [Algorithm::FixedWindow, Algorithm::SlidingWindow, Algorithm::TokenBucket { burst: 3 }] {
            let rate = Rate { algorithm, limit: 3, window_ms: 1_000 };
            let mut spent = None;
            for now in [5_000, 5_210, 5_390] {
                assert!(spend(&rate, &mut spent, now).allowed);
            }
            let refused = spend(&rate, &mut spent, 5_400);
            let refused = if refused.allowed { spend(&rate, &mut spent, 5_400) } else { refused };
            assert!(!refused.allowed, "{algorithm:?}");
            assert!(!rate.decide(spent.as_ref(), 1, 5_400 + refused.retry_ms - 1).0.allowed, "{algorithm:?}: too late");
            assert!(rate.decide(spent.as_ref(), 1, 5_400 + refused.retry_ms).0.allowed, "{algorithm:?}: too early");
        }
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_evenly() {
        let rate = Rate { algorithm: Algorithm::TokenBucket { burst: 4 }, limit: 7, window_ms: 1_000 };
        let mut spent = None;
        let admitted = (0..10_000).filter(|ms| spend(&rate, &mut spent, 1_000_000 + ms).allowed).count();
        assert_eq!(admitted, 4 + 69, "burst + 7/s for 9.999 s, with nothing lost to rounding");
    }

    #[test]
    fn what_is_known_to_be_used_up_is_refused_until_it_is_not() {
        for algorithm in [Algorithm::FixedWindow, Algorithm::SlidingWindow, Algorithm::TokenBucket { burst: 3 }] {
            let rate = Rate { algorithm, limit: 3, window_ms: 1_600 };
            let spent = rate.used_up(1, 500, 7_777);
            assert!(!rate.decide(Some(&spent), 1, 7_777 + 499).0.allowed, "{algorithm:?}");
            assert!(rate.decide(Some(&spent), 1, 7_777 + 500 + 100).0.allowed, "{algorithm:?}");
        }
    }

    #[test]
    fn a_clock_set_back_gives_nothing_away() {
        for algorithm in [Algorithm::FixedWindow, Algorithm::SlidingWindow, Algorithm::TokenBucket { burst: 2 }] {
            let rate = Rate { algorithm, limit: 2, window_ms: 1_000 };
            let mut spent = None;
            assert!(spend(&rate, &mut spent, 50_000).allowed);
            assert!(spend(&rate, &mut spent, 49_000).allowed);
            let refused = spend(&rate, &mut spent, 49_000);
            assert!(!refused.allowed && refused.retry_ms <= 2_100, "{algorithm:?}: {refused:?}");
        }
    }
}
