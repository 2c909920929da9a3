//! A wire that can be cut: what one dependency of the API is reached through.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Nobody listens, and what was connected is cut: a process that stopped.
    Refuses,
    /// Everything is taken, and nothing answered: a network that swallows, or a process that hangs.
    IsSilent,
}

#[derive(Debug)]
pub struct Proxy {
    pub address: SocketAddr,
    fault: watch::Sender<Fault>,
    listening: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// In front of `target`, well.
    pub async fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (fault, faults) = watch::channel(Fault::None);
        let (listens, listening) = watch::channel(true);
        let task = tokio::spawn(serve(listener, target, faults, listens));
        Self { address, fault, listening, task }
    }

    pub async fn set(&mut self, fault: Fault) {
        self.fault.send_replace(fault);
        self.listening.wait_for(|listens| *listens == (fault != Fault::Refuses)).await.unwrap();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    listener: TcpListener,
    target: SocketAddr,
    mut faults: watch::Receiver<Fault>,
    listens: watch::Sender<bool>,
) {
    let address = listener.local_addr().unwrap();
    let mut listener = Some(listener);
    loop {
        if *faults.borrow_and_update() == Fault::Refuses {
            listener = None;
            listens.send_replace(false);
            if faults.changed().await.is_err() {
                return;
            }
            continue;
        }
        let open = match listener.take() {
            Some(open) => open,
            None => TcpListener::bind(address).await.unwrap(),
        };
        listens.send_replace(true);
        tokio::select! {
            accepted = open.accept() => {
                if let Ok((stream, _)) = accepted {
                    tokio::spawn(carry(stream, target, faults.clone()));
                }
            }
            _ = faults.changed() => {}
        }
        listener = Some(open);
    }
}

/// Carries bytes both ways while all is well.
async fn carry(mut near: TcpStream, target: SocketAddr, mut faults: watch::Receiver<Fault>) {
    let mut far = None;
    loop {
        let fault = *faults.borrow_and_update();
        match fault {
            Fault::Refuses => return,
            // What was swallowed is lost: afterwards the two ends would not understand each other any more.
            Fault::IsSilent => {
                let _ = faults.changed().await;
                return;
            }
            Fault::None => {}
        }
        let far = match &mut far {
            Some(far) => far,
            None => match TcpStream::connect(target).await {
                Ok(stream) => far.insert(stream),
                Err(_) => return,
            },
        };
        tokio::select! {
            _ = copy_bidirectional(&mut near, far) => return,
            changed = faults.changed() => if changed.is_err() { return },
        }
    }
}
