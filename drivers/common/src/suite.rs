//! The tests that every driver has to pass, as functions over a [`Runtime`].
//!
//! A driver's test implements [`Runtime`] for itself and calls [`parity_suite!`](crate::parity_suite), which makes a
//! `#[test]` of each function here. Nothing here names a runtime or waits for ever: futures run on [`within`], which
//! panics when its time is over.
//!
//! Two nodes in a test can come from two drivers: each function takes the runtime of both.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::Thread,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use peerwork::{Config, Event, Multiaddr, ProtocolId};

use crate::{Connection, Handle, Options, StartError, Stream, Subscription};

mod connections;
mod recording;
mod requests;
mod streams;

pub use connections::*;
pub use recording::*;
pub use requests::*;
pub use streams::*;

/// The time that anything may take. Generous: it is reached only by what fails.
pub const LIMIT: Duration = Duration::from_secs(20);

/// A driver, and what it runs on.
pub trait Runtime {
    /// Starts a node that is driven in the background from then on.
    fn start_with(config: Config, options: Options) -> Result<Handle, StartError>;

    /// The same without options.
    fn start(config: Config) -> Result<Handle, StartError> {
        Self::start_with(config, Options::default())
    }
}

/// Makes a test of each function of the suite: `parity_suite!(Mine)` with two nodes of the same driver, or
/// `parity_suite!(Mine, Other)`.
#[macro_export]
macro_rules! parity_suite {
    ($runtime:ty) => {
        $crate::parity_suite!($runtime, $runtime);
    };
    ($a:ty, $b:ty) => {
        $crate::parity_suite!(
            @tests $a, $b:
            a_dial_connects_and_both_sides_identify
            a_wildcard_listener_has_addresses_to_dial
            another_peer_than_expected_is_refused
            a_dial_to_nobody_fails_and_names_the_address
            a_dropped_dial_is_cancelled
            a_peer_can_be_pinged
            a_slow_subscriber_lags
            a_shutdown_is_seen_as_such_by_the_peer
            the_last_handle_ends_the_node
            a_peer_that_vanishes_is_noticed_after_the_idle_timeout
            nothing_waits_for_a_node_that_is_gone
            an_address_in_use_is_an_error_with_its_reason
            an_echo_comes_back_through_the_traits_of_futures_io
            an_echo_comes_back_through_the_traits_of_tokio
            an_echo_comes_back_in_chunks
            one_side_can_finish_and_still_read
            a_finished_stream_is_known_to_be_delivered
            a_reset_is_seen_with_its_code
            a_stop_is_seen_with_its_code
            a_protocol_that_the_peer_lacks_is_refused
            the_first_protocol_that_the_peer_speaks_is_used
            a_writer_waits_for_a_reader_that_does_not_read
            many_streams_at_once
            streams_let_go_early_make_room_for_others
            many_small_packets_wait_for_a_slow_reader
            streams_beyond_the_backlog_are_reset
            halves_can_be_used_by_two_threads
            requests_64_in_flight
            a_request_that_is_not_answered_fails
            a_request_that_is_too_large_is_refused
            a_recorded_node_is_replayed_bit_for_bit
            a_node_that_vanishes_leaves_a_complete_log
            a_recording_never_overwrites
        );
    };
    (@tests $a:ty, $b:ty: $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                $crate::suite::$name::<$a, $b>();
            }
        )*
    };
}

/// Runs a future on this thread.
///
/// # Panics
///
/// If it has not ended in time.
#[track_caller]
pub fn within<F: Future>(limit: Duration, future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let deadline = Instant::now() + limit;
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "nothing happened within {limit:?}");
        std::thread::park_timeout(left);
    }
}

/// What the future gives, or `None` if that takes longer than `time`.
async fn unless_after<F: Future>(time: Duration, future: F) -> Option<F::Output> {
    let deadline = Instant::now() + time;
    let mut future = pin!(future);
    let mut sleeping = false;
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Poll::Ready(None);
        }
        if !std::mem::replace(&mut sleeping, true) {
            let waker = cx.waker().clone();
            std::thread::spawn(move || {
                std::thread::sleep(left);
                waker.wake();
            });
        }
        Poll::Pending
    })
    .await
}

/// The results of several futures that run at once, in their order.
async fn all<T>(futures: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<(Pin<Box<_>>, Option<T>)> = futures.into_iter().map(|f| (Box::pin(f), None)).collect();
    poll_fn(|cx| {
        let mut pending = false;
        for (future, output) in &mut futures {
            if output.is_none() {
                match future.as_mut().poll(cx) {
                    Poll::Ready(value) => *output = Some(value),
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    futures.into_iter().filter_map(|(_, output)| output).collect()
}

/// A configuration for nodes on one machine.
fn config() -> Config {
    let mut config = Config::default();
    config.dial.timeout = Duration::from_secs(10);
    config.dial.attempt_timeout = Duration::from_secs(5);
    config.ping.interval = None;
    config
}

fn protocol(name: &str) -> ProtocolId {
    ProtocolId::new(name).unwrap()
}

fn loopback() -> Multiaddr {
    "/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()
}

/// Two nodes, of which the first has dialled the second.
struct Pair {
    a: Handle,
    b: Handle,
    /// The connection as `a` knows it.
    conn: Connection,
    /// The events of `b` from its start.
    events: Subscription,
    address: Multiaddr,
}

impl Pair {
    #[track_caller]
    fn new<A: Runtime, B: Runtime>() -> Self {
        Self::with::<A, B>(config(), config())
    }

    #[track_caller]
    fn with<A: Runtime, B: Runtime>(a: Config, b: Config) -> Self {
        let (a, b) = (A::start(a).unwrap(), B::start(b).unwrap());
        let events = b.events();
        within(LIMIT, async {
            let address = b.listen(loopback()).await.unwrap();
            let conn = a.dial(with_peer(&address, &b)).await.unwrap();
            assert_eq!(conn.peer, b.peer_id());
            Self { a, b, conn, events, address }
        })
    }

    /// Opens a stream from `a`, and takes it at `b`.
    async fn stream(&self, name: &str) -> (Stream, Stream) {
        let protocol = protocol(name);
        let mut incoming = self.b.register(&protocol).unwrap();
        let outbound = self.a.open_stream(self.conn.conn, &[protocol]).await.unwrap();
        // Some negotiations end at the other side only with the first data.
        let inbound = incoming.accept().await.unwrap();
        assert_eq!((inbound.peer(), outbound.peer()), (self.a.peer_id(), self.b.peer_id()));
        // Dropping `incoming` unregisters the protocol and leaves the stream alone.
        (outbound, inbound)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // Threads of a test may still hold handles, and the nodes must not outlive the test.
        drop((self.a.shutdown(), self.b.shutdown()));
    }
}

/// An address with the peer that lives there.
fn with_peer(address: &Multiaddr, node: &Handle) -> Multiaddr {
    format!("{address}/p2p/{}", node.peer_id()).parse().unwrap()
}

/// The first event that `wanted` makes something of.
async fn event<T>(events: &mut Subscription, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
    loop {
        match events.recv().await {
            Some(Ok(event)) => {
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
            other => panic!("the event did not come, but {other:?}"),
        }
    }
}

/// Reads to the end.
async fn read_all(stream: &mut Stream) -> Result<Bytes, peerwork::StreamError> {
    let mut data = BytesMut::new();
    while let Some(chunk) = stream.read_chunk().await? {
        data.extend_from_slice(&chunk);
    }
    Ok(data.freeze())
}

/// Bytes that tell when a part is missing, doubled or moved.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(31) ^ (i >> 8)) as u8).collect()
}
