//! What a start of the server can choose.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// How to start a [`Server`](crate::Server). The default listens on a free loopback port and forgets everything at the end.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub addr: SocketAddr,
    /// Where objects are kept between starts; `None` keeps them in memory only.
    pub data_dir: Option<PathBuf>,
    /// Where each kind of request is noted as a line of JSON when it is first seen; [`Handle::audit`](crate::Handle::audit) has it too.
    pub audit: Option<PathBuf>,
    /// Where the node keeps what containers print: `<namespace>/<pod>/<container>.log`. Without it `kubectl logs` is refused.
    pub logs: Option<PathBuf>,
    /// How many changes per resource a watch may lie behind before it is told `410 Gone`.
    pub history: usize,
    /// How often an idle watch that asked for bookmarks gets one (about a minute on a real server).
    pub bookmark_interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            data_dir: None,
            audit: None,
            logs: None,
            history: 10_000,
            bookmark_interval: Duration::from_secs(30),
        }
    }
}
