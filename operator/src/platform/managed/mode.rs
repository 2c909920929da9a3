//! Who runs PostgreSQL. Decided where there is no data yet, and kept afterwards: data does not move by itself.

use super::dereference::FoundPostgres;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// CloudNativePG's Cluster.
    Cluster,
    /// One pod with one volume.
    StatefulSet,
}

/// CloudNativePG where it is installed, and from then on whoever began.
pub fn mode(found: &FoundPostgres) -> Mode {
    match (&found.superuser, &found.owner) {
        (None, Some(_)) => Mode::Cluster,
        (None, None) if found.peers.clusters => Mode::Cluster,
        (Some(_), _) | (None, None) => Mode::StatefulSet,
    }
}
