//! UDP sockets that move many datagrams a system call: GSO, GRO, `recvmmsg`, ECN marks and local addresses.
//!
//! [`UdpPort`] is what is known about a bound socket, all but the socket itself: that one belongs to the runtime,
//! which lends it as an [`UdpSockRef`] for each call. Nothing here waits; `WouldBlock` goes to the caller.
//!
//! *Receiving* fills a set of [`Slots`], which are used again and again; what came is copied out. Handing a slot over
//! instead would save that copy and cost more: fresh memory must be zeroed, which is as much work, and mapped, which is
//! a page fault for each 4 KiB.
//!
//! *Sending* takes batches as the node makes them and cuts them to what the socket takes at the moment. A network
//! card that turns out not to segment makes the rest of the batch, and all that follow, go out one by one.

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr, UdpSocket},
    num::NonZeroUsize,
};

use bytes::BytesMut;
use noq_udp::{EcnCodepoint, RecvMeta, UdpSockRef, UdpSocketState};
use peerwork::io::{BoundSocket, Ecn, IoError, IoErrorKind};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// The largest batch that a kernel delivers: the IP packet length is 16 bits wide.
const BATCH_BYTES: usize = 65_536;

/// Batches received in one system call, at most. A single busy sender fills one or two slots at a time; more are for
/// many senders with a datagram each, and cost 64 KiB of every node.
const SLOTS: usize = 16;

/// Datagrams of one batch to send. The kernel's limit is 64; above half of that no gain is left, and 32 datagrams of
/// an Ethernet's size fit into one IP packet, which is the kernel's other limit.
pub(crate) const MAX_SEGMENTS: NonZeroUsize = NonZeroUsize::new(32).unwrap();

/// The largest batch that Linux segments: one IP packet less the headers.
const MAX_SEND_BYTES: usize = 65_535 - 48;

/// A batch of datagrams that arrived.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) from: SocketAddr,
    pub(crate) to_ip: Option<IpAddr>,
    pub(crate) ecn: Option<Ecn>,
    pub(crate) segment: Option<NonZeroUsize>,
    pub(crate) data: BytesMut,
}

/// A batch of datagrams to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) to: SocketAddr,
    pub(crate) from_ip: Option<IpAddr>,
    pub(crate) ecn: Option<Ecn>,
    pub(crate) segment: Option<NonZeroUsize>,
    pub(crate) data: &'a [u8],
}

/// Buffers that are received into.
pub(crate) struct Slots(Box<[u8]>);

impl Slots {
    pub(crate) fn new() -> Self {
        Self(vec![0; SLOTS * BATCH_BYTES].into())
    }
}

/// A bound socket's properties and abilities.
#[derive(Debug)]
pub(crate) struct UdpPort {
    state: UdpSocketState,
    local: SocketAddr,
}

impl UdpPort {
    /// Binds a socket. IPv6 ones take no IPv4. Kernel buffers of `buffer` bytes are asked for; what the kernel grants
    /// is up to its limits.
    pub(crate) fn bind(address: SocketAddr, buffer: usize) -> io::Result<(Self, UdpSocket)> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::from(address))?;
        let socket = UdpSocket::from(socket);
        let state = UdpSocketState::new((&socket).into())?;
        enlarge(buffer, state.send_buffer_size((&socket).into()).unwrap_or(0), |bytes| {
            state.set_send_buffer_size((&socket).into(), bytes)
        });
        enlarge(buffer, state.recv_buffer_size((&socket).into()).unwrap_or(0), |bytes| {
            state.set_recv_buffer_size((&socket).into(), bytes)
        });
        let local = socket.local_addr()?;
        Ok((Self { state, local }, socket))
    }

    /// What the node wants to know.
    pub(crate) fn describe(&self) -> BoundSocket {
        BoundSocket { local: self.local, max_segments: self.state.max_gso_segments().min(MAX_SEGMENTS) }
    }

    /// Whether the socket takes datagrams for every address of the machine.
    pub(crate) fn is_wildcard(&self) -> bool {
        self.local.ip().is_unspecified()
    }

    /// One system call's worth of datagrams. Returns the number of batches, of which each goes to `out`.
    pub(crate) fn receive(
        &self,
        socket: UdpSockRef<'_>,
        slots: &mut Slots,
        mut out: impl FnMut(Received),
    ) -> io::Result<usize> {
        let mut metas = [RecvMeta::default(); SLOTS];
        let count = {
            let mut slots = slots.0.chunks_exact_mut(BATCH_BYTES);
            let mut buffers: [IoSliceMut<'_>; SLOTS] = std::array::from_fn(|_| {
                // There are as many chunks as buffers, so the default never comes to pass.
                IoSliceMut::new(slots.next().unwrap_or_default())
            });
            self.state.recv(socket, &mut buffers, &mut metas)?
        };
        for (meta, slot) in metas.iter().zip(slots.0.chunks_exact(BATCH_BYTES)).take(count) {
            let Some(data) = slot.get(..meta.len).filter(|data| !data.is_empty()) else { continue };
            out(Received {
                from: meta.addr,
                to_ip: meta.dst_ip,
                ecn: meta.ecn.map(|ecn| match ecn {
                    EcnCodepoint::Ect0 => Ecn::Ect0,
                    EcnCodepoint::Ect1 => Ecn::Ect1,
                    EcnCodepoint::Ce => Ecn::Ce,
                }),
                segment: NonZeroUsize::new(meta.stride).filter(|stride| stride.get() < meta.len),
                data: BytesMut::from(data),
            });
        }
        Ok(count)
    }

    /// Sends a batch from byte `sent` on, which is moved along. `WouldBlock` leaves it where to go on later; every
    /// other end leaves it at the end: what an error other than that concerns is lost, as packets are.
    ///
    /// `call` lends the socket for one system call.
    pub(crate) fn send(
        &self,
        batch: &Outgoing<'_>,
        sent: &mut usize,
        mut call: impl FnMut(&mut dyn FnMut(UdpSockRef<'_>) -> io::Result<()>) -> io::Result<()>,
    ) -> io::Result<()> {
        send_batch(
            batch,
            sent,
            || self.state.max_gso_segments(),
            |transmit| call(&mut |socket| self.state.try_send(socket, transmit)),
        )
    }
}

fn send_batch(
    batch: &Outgoing<'_>,
    sent: &mut usize,
    max_segments: impl Fn() -> NonZeroUsize,
    mut call: impl FnMut(&noq_udp::Transmit<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let mut failed = Ok(());
    while *sent < batch.data.len() {
        let rest = &batch.data[*sent..];
        let segment = batch.segment.map(NonZeroUsize::get).filter(|&segment| segment < rest.len());
        let max = max_segments().get();
        let len = match segment {
            Some(segment) => (segment * max.min(MAX_SEND_BYTES / segment).max(1)).min(rest.len()),
            None => rest.len(),
        };
        let segmented = segment.filter(|&segment| segment < len);
        let transmit = noq_udp::Transmit {
            destination: batch.to,
            ecn: batch.ecn.map(|ecn| match ecn {
                Ecn::Ect0 => EcnCodepoint::Ect0,
                Ecn::Ect1 => EcnCodepoint::Ect1,
                Ecn::Ce => EcnCodepoint::Ce,
            }),
            contents: &rest[..len],
            segment_size: segmented,
            src_ip: batch.from_ip,
        };
        match call(&transmit) {
            Ok(()) => *sent += len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Segmentation has just turned out not to work and is off from now on: the same again, one by one.
            Err(_) if segmented.is_some() && max_segments().get() < max => {}
            // A probe for a larger packet size; that it is lost is the answer.
            Err(error) if noq_udp::is_msg_size_err(&error) => *sent += len,
            Err(error) => {
                *sent = batch.data.len();
                failed = Err(error);
            }
        }
    }
    failed
}

/// Asks for a larger buffer, and for less where the system refuses instead of granting its maximum.
fn enlarge(wanted: usize, have: usize, set: impl Fn(usize) -> io::Result<()>) {
    let mut bytes = wanted;
    while bytes > have {
        match set(bytes) {
            Ok(()) => return,
            Err(error) => tracing::debug!(%error, bytes, "the system refuses a larger socket buffer"),
        }
        bytes /= 2;
    }
}

/// The node's view of an operating system's error.
pub(crate) fn io_error(error: &io::Error) -> IoError {
    use io::ErrorKind as Kind;
    let kind = match error.kind() {
        Kind::AddrInUse => IoErrorKind::AddressInUse,
        Kind::AddrNotAvailable => IoErrorKind::AddressNotAvailable,
        Kind::PermissionDenied => IoErrorKind::PermissionDenied,
        Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown | Kind::ConnectionRefused => {
            IoErrorKind::Unreachable
        }
        Kind::NotFound => IoErrorKind::NotFound,
        Kind::TimedOut => IoErrorKind::TimedOut,
        _ if is_family_error(error) => IoErrorKind::AddressNotAvailable,
        _ => IoErrorKind::Other,
    };
    IoError::new(kind, error.to_string())
}

/// Whether the system does not speak this family of addresses (IPv6 switched off). std has no kind for it.
fn is_family_error(error: &io::Error) -> bool {
    let code = if cfg!(windows) {
        10_047
    } else if cfg!(any(target_os = "linux", target_os = "android")) {
        97
    } else {
        47
    };
    error.raw_os_error() == Some(code)
}

#[cfg(test)]
mod tests;
