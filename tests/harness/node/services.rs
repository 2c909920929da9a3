//! kube-proxy: each Service has an address of its own for as long as it lives, and its ports there lead to its ready pods.

use std::{
    collections::{BTreeMap, HashMap},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::Result;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use parking_lot::Mutex;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener as Listener, TcpStream},
};
use tokio_util::task::AbortOnDropHandle;

use super::{Settings, addresses, endpoints, names};

#[derive(Default)]
pub struct Services {
    /// By uid.
    known: HashMap<String, Known>,
}

struct Known {
    address: Ipv4Addr,
    doors: BTreeMap<u16, Door>,
}

/// One port of a Service. It is open while a pod is behind it: else a connection is refused, as kube-proxy does.
struct Door {
    targets: Arc<Mutex<Vec<SocketAddr>>>,
    _task: AbortOnDropHandle<()>,
}

impl Services {
    pub fn sync(&mut self, settings: &Settings, services: &[Service], pods: &[Pod]) -> Result<()> {
        let mut addresses = Vec::new();
        for service in services {
            let Some(spec) = service.spec.as_ref().filter(|spec| spec.selector.is_some()) else { continue };
            if spec.cluster_ip.as_deref() == Some("None") {
                continue;
            }
            let uid = service.uid().unwrap_or_default();
            if !self.known.contains_key(&uid) {
                self.known.insert(uid.clone(), Known { address: addresses::allocate(&[])?, doors: BTreeMap::new() });
            }
            let Some(known) = self.known.get_mut(&uid) else { continue };
            addresses.push((service, known.address));
            for port in spec.ports.iter().flatten() {
                let Ok(number) = u16::try_from(port.port) else { continue };
                let targets = endpoints::ready(service, pods, |candidate| candidate.port == port.port);
                known.lead(number, targets);
            }
        }
        self.known.retain(|uid, _| services.iter().any(|service| service.metadata.uid.as_ref() == Some(uid)));
        names::write(settings, services, &addresses, pods)
    }
}

impl Known {
    fn lead(&mut self, port: u16, targets: Vec<SocketAddr>) {
        if targets.is_empty() {
            self.doors.remove(&port);
        } else if let Some(door) = self.doors.get(&port) {
            *door.targets.lock() = targets;
        } else {
            match Door::open(SocketAddr::from((self.address, port)), targets) {
                Ok(door) => drop(self.doors.insert(port, door)),
                // A port below 1024, where we are not root. People come by the ingress, which needs no such port.
                Err(error) => tracing::debug!("the Service's port {port} is closed: {error:#}"),
            }
        }
    }
}

impl Door {
    fn open(address: SocketAddr, targets: Vec<SocketAddr>) -> Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let listener = Listener::from_std(listener)?;
        let targets = Arc::new(Mutex::new(targets));
        let task = tokio::spawn(serve(listener, targets.clone()));
        Ok(Self { targets, _task: AbortOnDropHandle::new(task) })
    }
}

/// A connection stays with its pod, also when the door closes behind it.
async fn serve(listener: Listener, targets: Arc<Mutex<Vec<SocketAddr>>>) {
    let turn = AtomicUsize::default();
    loop {
        let Ok((mut inside, _)) = listener.accept().await else { continue };
        let target = {
            let targets = targets.lock();
            targets.get(turn.fetch_add(1, Ordering::Relaxed) % targets.len().max(1)).copied()
        };
        let Some(target) = target else { continue };
        tokio::spawn(async move {
            if let Ok(mut pod) = TcpStream::connect(target).await {
                // A database's small questions and answers wait for nothing.
                let _ = (inside.set_nodelay(true), pod.set_nodelay(true));
                // Either side may end the conversation.
                let _ = copy_bidirectional(&mut inside, &mut pod).await;
            }
        });
    }
}
