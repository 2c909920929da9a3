//! What to do about a Lease as it was just read: pure, so that every case can be looked at.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;

/// The next step of one contender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// No Lease is there: make it. Two who try are told apart by the API server.
    Create,
    /// It is ours: renew it.
    Renew,
    /// It was released, or its holder fell silent: replace exactly the version that was read.
    Take,
    /// Somebody else holds it: look again when it may have run out.
    Wait(Duration),
}

/// Decides for `me`. `unchanged_for` is how long this version of the Lease has been known by our own monotonic clock:
/// wall clocks of different machines are never compared.
pub fn decide(me: &str, lease: Option<&Lease>, unchanged_for: Duration) -> Step {
    let Some(lease) = lease else {
        return Step::Create;
    };
    let spec = lease.spec.as_ref();
    let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    match (holder, Duration::from_secs(seconds).checked_sub(unchanged_for)) {
        ("", _) => Step::Take,
        (holder, _) if holder == me => Step::Renew,
        (_, None | Some(Duration::ZERO)) => Step::Take,
        (_, Some(left)) => Step::Wait(left),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::coordination::v1::LeaseSpec;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn held_by(holder: &str) -> Lease {
        let spec =
            LeaseSpec { holder_identity: Some(holder.into()), lease_duration_seconds: Some(5), ..LeaseSpec::default() };
        Lease { spec: Some(spec), ..Lease::default() }
    }

    #[test]
    fn a_missing_lease_is_created_and_a_released_one_is_taken() {
        assert_eq!(decide("a", None, Duration::ZERO), Step::Create);
        assert_eq!(decide("a", Some(&held_by("")), Duration::ZERO), Step::Take);
        assert_eq!(decide("a", Some(&Lease::default()), Duration::ZERO), Step::Take);
    }

    #[test]
    fn the_holder_renews() {
        assert_eq!(decide("a", Some(&held_by("a")), 9 * SECOND), Step::Renew);
    }

    #[test]
    fn another_waits_until_the_holder_has_been_silent_for_the_whole_duration() {
        assert_eq!(decide("b", Some(&held_by("a")), 2 * SECOND), Step::Wait(3 * SECOND));
        assert_eq!(decide("b", Some(&held_by("a")), 5 * SECOND), Step::Take);
        assert_eq!(decide("b", Some(&held_by("a")), 50 * SECOND), Step::Take);
    }
}
