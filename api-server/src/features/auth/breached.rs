//! Passwords that are tried first everywhere, because they were stolen somewhere. The list is part of the program: a password
//! is sent nowhere to be looked up. `breached_passwords.txt` says where it is from.

use std::sync::LazyLock;

/// A decorated word shorter than this is not looked up: too many good passwords end like that.
const SHORTEST_STEM: usize = 6;

/// Sorted, as the file is.
static LIST: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let lines = include_str!("breached_passwords.txt").lines();
    lines.filter(|line| !line.starts_with("# ") && *line != "#").collect()
});

/// Whether `password` is on the list, in any case; also where digits and signs were hung on its end, or letters were written
/// as digits that look like them: those are the first things that a program tries.
pub fn is_breached(password: &str) -> bool {
    let password = password.to_lowercase();
    let stem = password.trim_end_matches(|c: char| !c.is_alphabetic());
    let plain: String = password.chars().map(letter).collect();
    let plain_stem: String = stem.chars().map(letter).collect();
    is_listed(&password)
        || is_listed(&plain)
        || [stem, &plain_stem].iter().any(|stem| stem.len() >= SHORTEST_STEM && is_listed(stem))
}

fn is_listed(password: &str) -> bool {
    LIST.binary_search(&password).is_ok()
}

/// The letter that a sign stands for where people write one for the other.
fn letter(c: char) -> char {
    match c {
        '0' => 'o',
        '1' | '!' => 'i',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_in_lower_case_and_of_substance() {
        assert!(LIST.len() > 40_000, "{}", LIST.len());
        assert!(LIST.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(LIST.iter().all(|line| line.len() >= SHORTEST_STEM && line.to_lowercase() == **line));
    }

    #[test]
    fn what_is_tried_first_is_known_in_its_disguises() {
        for bad in [
            "password",
            "Password123",
            "P@ssw0rd",
            "P@ssw0rd2024!",
            "Sunshine-2024!",
            "QWERTY123",
            "Iloveyou1",
            "trustno1",
        ] {
            assert!(is_breached(bad), "{bad}");
        }
        for good in
            ["Correct-Horse-7", "Better-Horse-8", "Zoë-Passwort-1", "xK9#mQ2$vL", "Kartoffel-Salat-im-Mai-3", ""]
        {
            assert!(!is_breached(good), "{good}");
        }
    }
}
