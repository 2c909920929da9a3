//! What it costs to check a password, so that an attempt that fails costs the same whoever was meant.
//!
//! A tenant's accounts may have hashes of several costs: brought along from other systems, or made before the tenant's
//! parameters were changed. An attempt that fails does the work of each once: of the account's own hash, if there is one, and of
//! a decoy for every other, which is a hash of that cost whose password nobody knows. With the last account that has a cost its
//! work goes too.

use super::foreign::Scheme;

/// As many as the accounts of one tenant may have: what an attempt that fails costs is paid by all who wait for a place.
pub const MOST_COSTS: usize = 4;

/// A hash without its salt and outcome, as `auth.users.password_cost` has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost(String);

impl Cost {
    /// As PostgreSQL says it.
    pub fn stored(cost: String) -> Self {
        Self(cost)
    }

    /// What a check of this hash costs.
    pub fn of(hash: &str) -> Self {
        if hash.starts_with("$2") {
            // The marks of bcrypt differ in name alone.
            return Self(format!("$2b{}", hash.get(3..6).unwrap_or_default()));
        }
        Self(hash.rsplitn(3, '$').nth(2).unwrap_or(hash).to_owned())
    }

    /// What argon2id costs with these parameters: KiB, passes, lanes.
    pub fn of_argon2id(memory: u32, passes: u32, lanes: u32) -> Self {
        Self(format!("$argon2id$v=19$m={memory},t={passes},p={lanes}"))
    }

    /// A hash of this cost that no password has.
    fn decoy(&self) -> String {
        let cost = &self.0;
        if cost.starts_with("$2") {
            return format!("{cost}${}", ".".repeat(53));
        }
        format!("{cost}$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY")
    }
}

/// The hashes to check in vain besides an account's own, given the costs that there are in its tenant: the own one and these
/// together cost the same for every account, and for none.
pub fn decoys(own: Option<&str>, costs: Vec<Cost>) -> Vec<String> {
    let (own, mut costs) = (own.map(Cost::of), costs);
    costs.sort_unstable();
    costs.dedup();
    let others = costs.iter().filter(|cost| own.as_ref() != Some(cost)).map(Cost::decoy);
    // One that cannot be checked costs its own account nothing either.
    others.filter(|decoy| Scheme::of(decoy).is_ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRYPT: &str = "$scrypt$ln=4,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg$jU+wVnnRO8xMJ6kk2pn2W1IFgOT9r8PK+dHZ+HH3bt4";
    const OLD: &str =
        "$argon2id$v=19$m=65536,t=3,p=4$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY";

    fn bcrypt(mark: &str, cost: u32) -> String {
        format!("${mark}${cost:02}$DCq7YPn5Rq63x1Lad4cll.d.LDdhiA4IgbK.oJt3ASoyWKM.yG2ZW")
    }

    #[test]
    fn the_work_is_the_same_for_every_account_and_for_none() {
        let current = Cost::of_argon2id(19_456, 2, 1);
        let accounts =
            [bcrypt("2b", 12), bcrypt("2y", 12), bcrypt("2a", 10), SCRYPT.into(), OLD.into(), current.decoy()];
        // As PostgreSQL says: each once; and the tenant's own, whether anybody has it or not.
        let there: Vec<_> = accounts.iter().map(|hash| Cost::of(hash)).chain([current]).collect();
        let work = |own: Option<&str>| {
            let mut work: Vec<_> = decoys(own, there.clone()).iter().map(|decoy| Cost::of(decoy)).collect();
            work.extend(own.map(Cost::of));
            work.sort_unstable();
            work
        };
        let unknown = work(None);
        assert_eq!(unknown.len(), 5, "{unknown:?}");
        for hash in &accounts {
            assert_eq!(work(Some(hash)), unknown, "{hash}");
        }
    }

    #[test]
    fn a_decoy_costs_what_it_stands_for_and_can_be_checked() {
        for hash in [bcrypt("2b", 12), SCRYPT.into(), OLD.into()] {
            let decoy = Cost::of(&hash).decoy();
            assert_eq!(Cost::of(&decoy), Cost::of(&hash));
            assert_eq!(Scheme::of(&decoy), Scheme::of(&hash), "{decoy}");
        }
        // What is no hash has no decoy.
        for damaged in ["", "damaged", "$2b$xx$", "$unknown$a$b$c"] {
            assert_eq!(decoys(None, vec![Cost::of(damaged)]), Vec::<String>::new(), "{damaged}");
        }
    }
}
