//! Name lookups, which block, on threads of their own.
//!
//! At most [`WORKERS`] threads exist, and only while there is something to look up; [`QUEUE`] lookups may wait for
//! them. Addresses come from the system's resolver, which knows about hosts files, mDNS and the like; TXT records
//! from the client in `dns.rs`. A lookup that waited longer than the node does is answered without being done.

use std::{
    collections::VecDeque,
    fmt,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use peerwork::{
    io::{Answer, IoError, IoErrorKind, Query},
    limits::RESOLVE_TIMEOUT,
};

use crate::{dns, udp::io_error};

/// Threads at once. The system's resolver can hang for half a minute, so one would not do.
const WORKERS: usize = 4;

/// Lookups waiting for a thread. The node dials few addresses at once.
const QUEUE: usize = 256;

/// Kept free of [`RESOLVE_TIMEOUT`], for the answer to be in time.
const MARGIN: Duration = Duration::from_millis(500);

/// Looks up names.
///
/// Cloning shares the threads.
#[derive(Clone)]
pub struct Resolver(Arc<Inner>);

struct Inner {
    servers: Option<Vec<SocketAddr>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    workers: usize,
}

struct Job {
    query: Query,
    deadline: Instant,
    deliver: Box<dyn FnOnce(Result<Answer, IoError>) + Send>,
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("servers", &self.0.servers).finish_non_exhaustive()
    }
}

impl Resolver {
    /// A resolver that asks for TXT records where the system is configured to.
    pub fn new() -> Self {
        Self(Arc::new(Inner { servers: None, state: Mutex::default() }))
    }

    /// A resolver that asks these servers for TXT records. Addresses still come from the system.
    pub fn with_servers(servers: Vec<SocketAddr>) -> Self {
        Self(Arc::new(Inner { servers: Some(servers), state: Mutex::default() }))
    }

    /// Starts a lookup. `deliver` is called once, on another thread or, if there are too many lookups, on this one.
    pub fn resolve(&self, query: Query, deliver: impl FnOnce(Result<Answer, IoError>) + Send + 'static) {
        let deadline = Instant::now() + RESOLVE_TIMEOUT.saturating_sub(MARGIN);
        let mut state = self.0.lock();
        if state.queue.len() >= QUEUE {
            drop(state);
            return deliver(Err(IoError::new(IoErrorKind::Other, "too many name lookups at once")));
        }
        state.queue.push_back(Job { query, deadline, deliver: Box::new(deliver) });
        if state.workers >= WORKERS {
            return;
        }
        state.workers += 1;
        drop(state);
        let inner = Arc::clone(&self.0);
        let spawned = std::thread::Builder::new().name("peerwork-resolve".into()).spawn(move || inner.work());
        if let Err(error) = spawned {
            let mut state = self.0.lock();
            state.workers -= 1;
            // With no thread left there is nobody to do it later.
            let jobs = if state.workers == 0 { std::mem::take(&mut state.queue) } else { VecDeque::new() };
            drop(state);
            for job in jobs {
                (job.deliver)(Err(io_error(&error)));
            }
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        loop {
            let job = {
                let mut state = self.lock();
                let Some(job) = state.queue.pop_front() else {
                    state.workers -= 1;
                    return;
                };
                job
            };
            let result = if Instant::now() < job.deadline {
                self.look_up(&job.query, job.deadline)
            } else {
                Err(IoError::new(IoErrorKind::TimedOut, "other name lookups took too long"))
            };
            (job.deliver)(result);
        }
    }

    fn look_up(&self, query: &Query, deadline: Instant) -> Result<Answer, IoError> {
        match query {
            Query::Ip(name) => addresses(name, |_| true),
            Query::Ip4(name) => addresses(name, IpAddr::is_ipv4),
            Query::Ip6(name) => addresses(name, IpAddr::is_ipv6),
            Query::Txt(name) => {
                let system;
                let servers = match &self.servers {
                    Some(servers) => servers,
                    None => {
                        system = dns::system_servers();
                        &system
                    }
                };
                dns::txt(name, servers, deadline).map(Answer::Txt)
            }
        }
    }
}

fn addresses(name: &str, wanted: impl Fn(&IpAddr) -> bool) -> Result<Answer, IoError> {
    let found = (name, 0).to_socket_addrs().map_err(|error| {
        let mut error = io_error(&error);
        if error.kind == IoErrorKind::Other && means_not_found(&error.message) {
            error.kind = IoErrorKind::NotFound;
        }
        error
    })?;
    let mut list: Vec<IpAddr> = Vec::new();
    for ip in found.map(|address| address.ip()).filter(wanted) {
        if !list.contains(&ip) {
            list.push(ip);
        }
    }
    if list.is_empty() {
        return Err(IoError::new(IoErrorKind::NotFound, format!("{name} has no address of the wanted family")));
    }
    Ok(Answer::Ips(list))
}

/// std has no kind for the errors of `getaddrinfo`, only the texts of the C library (glibc, musl, Apple, Windows).
fn means_not_found(message: &str) -> bool {
    [
        "Name or service not known",
        "No address associated",
        "Name does not resolve",
        "nodename nor servname",
        "11001",
        "11004",
    ]
    .iter()
    .any(|text| message.contains(text))
}

#[cfg(test)]
mod tests;
