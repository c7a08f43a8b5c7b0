//! Sockets and listeners: where the node can be reached, and from where it dials.
//!
//! Every listener has a socket of its own. Dials leave from a listener's socket if one fits, so that the peer sees the
//! address that it can dial back; otherwise from a socket bound for dialling alone.

use core::{
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
};

use multiaddr::Multiaddr;

use super::{
    cx::quic_multiaddr,
    dial::wildcard_for,
    hub::{Hub, Shutdown},
};
use crate::{
    event::{CloseReason, Event, ListenId},
    fault::code,
    io::{BoundSocket, Command, IoError, IoErrorKind, SocketId},
    limits,
    probe::probe,
    transport::addr::{AddrError, Host, Scope, Target, scope},
};

/// Why the node does not listen. Its state is untouched.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The address is no QUIC address.
    #[error(transparent)]
    Address(#[from] AddrError),
    /// A name or a peer id has no place in an address to listen on.
    #[error("listen on an IP address without /p2p, such as /ip4/0.0.0.0/udp/4001/quic-v1")]
    NotLocal,
    /// More listeners than [`LISTENERS`](limits::LISTENERS).
    #[error("{max} listeners are the most that one node has", max = limits::LISTENERS)]
    TooMany,
    /// The node shuts down.
    #[error("the node shuts down")]
    ShuttingDown,
}

/// There is no such listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no such listener")]
pub struct UnknownListener;

struct Socket {
    id: SocketId,
    wanted: SocketAddr,
    bound: Option<BoundSocket>,
    listener: Option<Listener>,
}

struct Listener {
    id: ListenId,
    announced: Vec<Multiaddr>,
}

/// The node's sockets; a handful.
#[derive(Default)]
pub(super) struct Sockets {
    all: Vec<Socket>,
    next_socket: u32,
    next_listener: u64,
    interfaces: Option<Vec<IpAddr>>,
}

impl Sockets {
    fn get(&self, id: SocketId) -> Option<&Socket> {
        self.all.iter().find(|socket| socket.id == id)
    }

    pub(super) fn is_bound(&self, id: SocketId) -> bool {
        self.get(id).is_some_and(|socket| socket.bound.is_some())
    }

    pub(super) fn is_listening(&self, id: SocketId) -> bool {
        self.get(id).is_some_and(|socket| socket.listener.is_some())
    }

    pub(super) fn max_segments(&self, id: SocketId) -> NonZeroUsize {
        self.get(id).and_then(|socket| socket.bound).map_or(NonZeroUsize::MIN, |bound| bound.max_segments)
    }

    /// This socket, or if it cannot send to such an address, one that can.
    pub(super) fn for_family(&self, id: SocketId, to: SocketAddr) -> SocketId {
        let fits = |socket: &Socket| socket.bound.is_some_and(|bound| bound.local.is_ipv4() == to.is_ipv4());
        match self.get(id) {
            Some(socket) if fits(socket) => id,
            _ => self.all.iter().find(|socket| fits(socket)).map_or(id, |socket| socket.id),
        }
    }

    fn add(&mut self, wanted: SocketAddr, listener: Option<Listener>) -> SocketId {
        self.next_socket += 1;
        let id = SocketId(self.next_socket);
        self.all.push(Socket { id, wanted, bound: None, listener });
        id
    }

    fn listeners(&self) -> usize {
        self.all.iter().filter(|socket| socket.listener.is_some()).count()
    }
}

impl Hub {
    pub(super) fn listen(&mut self, address: &Multiaddr) -> Result<ListenId, ListenError> {
        if self.shutdown != Shutdown::No {
            return Err(ListenError::ShuttingDown);
        }
        let Target::Quic(quic) = Target::parse(address)? else { return Err(ListenError::NotLocal) };
        let (Host::Ip(ip), None) = (quic.host, quic.peer) else { return Err(ListenError::NotLocal) };
        if self.sockets.listeners() >= limits::LISTENERS {
            return Err(ListenError::TooMany);
        }
        let wanted = SocketAddr::new(ip, quic.port);
        // A socket that stayed for its connections' sake has the address still.
        let has_it = |socket: &Socket| {
            socket.listener.is_none() && socket.bound.map_or(socket.wanted, |bound| bound.local) == wanted
        };
        let stayed = self.sockets.all.iter().position(has_it).filter(|_| quic.port != 0);
        if stayed.is_none() && self.sockets.all.len() >= limits::SOCKETS {
            return Err(ListenError::TooMany);
        }
        self.sockets.next_listener += 1;
        let id = ListenId(self.sockets.next_listener);
        let listener = Some(Listener { id, announced: Vec::new() });
        if let Some(socket) = stayed.and_then(|at| self.sockets.all.get_mut(at)) {
            socket.listener = listener;
            probe!(self.probes, ListenSocketReused);
            self.announce();
            return Ok(id);
        }
        let socket = self.sockets.add(wanted, listener);
        self.command(Command::UdpBind { socket, address: wanted });
        Ok(id)
    }

    /// Takes in newcomers no longer. Connections stay, and so does the socket that they use; one that nobody uses goes.
    pub(super) fn unlisten(&mut self, id: ListenId) -> Result<(), UnknownListener> {
        let listening = |socket: &Socket| socket.listener.as_ref().is_some_and(|listener| listener.id == id);
        let at = self.sockets.all.iter().position(listening).ok_or(UnknownListener)?;
        let Some(socket) = self.sockets.all.get_mut(at) else { return Err(UnknownListener) };
        socket.listener = None;
        let socket = socket.id;
        if !self.dials.wait_for(socket) && !self.quic.conns.values().any(|conn| conn.socket == socket) {
            self.sockets.all.remove(at);
            self.quic.forget_socket(socket);
            self.command(Command::UdpClose { socket });
        } else {
            probe!(self.probes, ListenSocketKept);
        }
        self.announce();
        Ok(())
    }

    /// The socket to dial an address from; it may not be bound yet.
    pub(super) fn socket_to_dial(&mut self, to: SocketAddr) -> Result<SocketId, IoError> {
        let reaches = |socket: &Socket| {
            let from = socket.bound.map_or(socket.wanted, |bound| bound.local);
            from.is_ipv4() == to.is_ipv4()
                && (from.ip().is_unspecified() || from.ip().is_loopback() == to.ip().is_loopback())
        };
        // Listeners were added first or are preferred in the order in which they were asked for.
        let listener = self.sockets.all.iter().find(|socket| socket.listener.is_some() && reaches(socket));
        if let Some(socket) = listener.or_else(|| self.sockets.all.iter().find(|socket| reaches(socket))) {
            return Ok(socket.id);
        }
        if self.sockets.all.len() >= limits::SOCKETS {
            return Err(IoError::new(IoErrorKind::Other, "too many sockets"));
        }
        let wanted = wildcard_for(to);
        let socket = self.sockets.add(wanted, None);
        self.command(Command::UdpBind { socket, address: wanted });
        Ok(socket)
    }

    /// The driver has bound a socket, or could not.
    pub(super) fn on_bound(&mut self, id: SocketId, result: Result<BoundSocket, IoError>) {
        let waiting = |socket: &Socket| socket.id == id && socket.bound.is_none();
        let Some(at) = self.sockets.all.iter().position(waiting) else {
            self.stats.inputs_ignored += 1;
            return;
        };
        match result {
            Ok(bound) => {
                if let Some(socket) = self.sockets.all.get_mut(at) {
                    socket.bound = Some(bound);
                }
                self.announce();
                self.dial_from(id, None);
            }
            Err(error) => {
                let socket = self.sockets.all.remove(at);
                if let Some(listener) = socket.listener {
                    probe!(self.probes, ListenFailed);
                    self.emit(Event::ListenFailed { listener: listener.id, error });
                    // Dials only hoped to leave from there.
                    self.dial_from_another(id);
                } else {
                    self.dial_from(id, Some(&error));
                }
            }
        }
    }

    /// A socket died.
    pub(super) fn on_socket_failed(&mut self, id: SocketId, error: &IoError) {
        let Some(at) = self.sockets.all.iter().position(|socket| socket.id == id) else {
            self.stats.inputs_ignored += 1;
            return;
        };
        let socket = self.sockets.all.remove(at);
        probe!(self.probes, SocketLost);
        self.quic.forget_socket(id);
        if let Some(listener) = socket.listener {
            self.emit(Event::ListenFailed { listener: listener.id, error: error.clone() });
        }
        self.dial_from(id, Some(error));
        let hit = self.quic.conns.iter().filter(|(_, conn)| conn.socket == id).map(|(id, _)| *id);
        let mut hit: Vec<_> = hit.collect();
        hit.sort_unstable();
        for conn in hit {
            self.abandon_handshake(conn, code::OK);
            self.attempt_failed(conn, crate::event::AttemptError::Bind(error.clone()));
            self.close(conn, code::OK, "socket failed", CloseReason::SocketLost);
        }
        self.announce();
    }

    /// A socket's send buffer is full.
    pub(super) fn on_socket_blocked(&mut self, id: SocketId) {
        if self.sockets.is_bound(id) {
            probe!(self.probes, SocketBlocked);
            self.quic.socket_blocked(id);
        } else {
            self.stats.inputs_ignored += 1;
        }
    }

    /// A socket takes datagrams again.
    pub(super) fn on_socket_ready(&mut self, id: SocketId) {
        if self.sockets.is_bound(id) {
            self.quic.socket_ready(id);
        } else {
            self.stats.inputs_ignored += 1;
        }
    }

    pub(super) fn on_interfaces(&mut self, mut interfaces: Vec<IpAddr>) {
        interfaces.truncate(limits::INTERFACE_ADDRESSES);
        self.sockets.interfaces = Some(interfaces);
        self.announce();
    }

    /// Works out the addresses on which the node can be reached, and tells of new ones.
    fn announce(&mut self) {
        let mut all = Vec::new();
        let mut fresh = Vec::new();
        for socket in &mut self.sockets.all {
            let (Some(bound), Some(listener)) = (socket.bound, &mut socket.listener) else { continue };
            let expanded = expand(bound.local, self.sockets.interfaces.as_deref());
            for address in &expanded {
                if !listener.announced.contains(address) {
                    fresh.push((listener.id, address.clone()));
                }
            }
            all.extend(expanded.iter().cloned());
            listener.announced = expanded;
        }
        for (listener, address) in fresh {
            self.emit(Event::Listening { listener, address });
        }
        if all != self.local.listen_addrs {
            self.local.listen_addrs = all;
            self.local_changed();
        }
    }

    /// Gives all sockets back.
    pub(super) fn close_sockets(&mut self) {
        for socket in core::mem::take(&mut self.sockets.all) {
            self.command(Command::UdpClose { socket: socket.id });
        }
    }
}

/// The addresses behind a bound one: itself, or those of the interfaces if it is the wildcard and they are known.
fn expand(local: SocketAddr, interfaces: Option<&[IpAddr]>) -> Vec<Multiaddr> {
    let Some(interfaces) = interfaces.filter(|_| local.ip().is_unspecified()) else {
        return vec![quic_multiaddr(local)];
    };
    let usable =
        |ip: &&IpAddr| ip.is_ipv4() == local.is_ipv4() && !matches!(scope(**ip), Scope::LinkLocal | Scope::Unusable);
    interfaces.iter().filter(usable).map(|ip| quic_multiaddr(SocketAddr::new(*ip, local.port()))).collect()
}
