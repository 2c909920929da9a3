//! The time, passed in, so that a test can say what it is.

use std::sync::Arc;

use jiff::Timestamp;

/// Where the time comes from: the system, or a hand that a test moves.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
    pub fn system() -> Self {
        Self(Arc::new(Timestamp::now))
    }

    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

/// A clock that stands still until it is moved.
#[cfg(test)]
#[derive(Clone)]
pub struct FakeClock(Arc<parking_lot::Mutex<Timestamp>>);

#[cfg(test)]
impl FakeClock {
    pub fn at(now: Timestamp) -> Self {
        Self(Arc::new(parking_lot::Mutex::new(now)))
    }

    pub fn advance(&self, by: jiff::SignedDuration) {
        *self.0.lock() += by;
    }

    pub fn now(&self) -> Timestamp {
        *self.0.lock()
    }

    pub fn clock(&self) -> Clock {
        let hand = self.clone();
        Clock(Arc::new(move || hand.now()))
    }
}
