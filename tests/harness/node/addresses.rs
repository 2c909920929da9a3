//! A loopback address for each pod, in place of a network namespace: 127.0.0.0/8 is all ours, without privileges.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Result, bail};
use uuid::Uuid;

/// An address on which all of the pod's ports are free. Chosen at random, as other worlds choose at the same time.
pub fn allocate(ports: &[u16]) -> Result<Ipv4Addr> {
    let mut refusal = None;
    for _ in 0..16 {
        let [a, b, c, ..] = Uuid::new_v4().into_bytes();
        let address = Ipv4Addr::new(127, a.max(1), b, c.clamp(1, 254));
        match ports.iter().find_map(|port| TcpListener::bind((address, *port)).err().map(|error| (*port, error))) {
            None => return Ok(address),
            taken => refusal = taken,
        }
    }
    match refusal {
        Some((port, error)) => bail!(
            "port {port} is free on no loopback address ({error}): does some other program listen on 0.0.0.0:{port}? \
             `ss -ltnp sport = :{port}` names it"
        ),
        None => bail!("no loopback address is free"),
    }
}
