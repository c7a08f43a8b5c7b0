//! peerwork, on each of its drivers.

use std::{
    cell::RefCell,
    future::Future,
    io,
    marker::PhantomData,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{AsyncWriteExt as _, FutureExt as _};
use peerwork::{
    Config, ConnId, ProtocolId,
    config::{QuicConfig, RequestConfig},
};
use peerwork_driver::{Handle, InboundRequests, Incoming, Options, StartError};

use crate::node::{
    Address, CONNECTION_WINDOW, MESSAGE, Node, Outcome, SEND_WINDOW, SOCKET_BUFFER, STREAM_WINDOW, Writes, first_of,
    keep_up,
};

const ECHO: ProtocolId = ProtocolId::from_static("/versus/echo/1");
const SINK: ProtocolId = ProtocolId::from_static("/versus/sink/1");
const ASK: ProtocolId = ProtocolId::from_static("/versus/ask/1");

/// A driver and the loop that it runs in.
pub(crate) trait Driver {
    fn run<T>(program: impl Future<Output = T>) -> T;
    fn start(config: Config, options: Options) -> Result<Handle, StartError>;
    async fn sleep(time: Duration);
}

pub(crate) struct Peerwork<D> {
    handle: Handle,
    address: Address,
    echo: Incoming,
    sink: Incoming,
    ask: InboundRequests,
    driver: PhantomData<D>,
}

impl<D: Driver> Node for Peerwork<D> {
    type Conn = ConnId;

    fn run<T>(program: impl Future<Output = T>) -> T {
        D::run(program)
    }

    async fn start() -> Outcome<Self> {
        let config = Config {
            quic: QuicConfig {
                stream_window: STREAM_WINDOW,
                connection_window: CONNECTION_WINDOW,
                send_window: SEND_WINDOW,
                ..QuicConfig::default()
            },
            ..Config::default()
        };
        let mut options = Options::default();
        options.socket_buffer = SOCKET_BUFFER;
        let handle = D::start(config, options)?;
        let listening = handle.listen("/ip4/127.0.0.1/udp/0/quic-v1".parse()?).await?;
        let socket = Address::socket_of(&listening.to_string())?;
        Ok(Self {
            address: Address { socket, peer: handle.peer_id().to_string() },
            echo: handle.register(&ECHO)?,
            sink: handle.register(&SINK)?,
            ask: handle.serve_requests(&ASK, RequestConfig::default())?,
            handle,
            driver: PhantomData,
        })
    }

    fn address(&self) -> Address {
        self.address.clone()
    }

    async fn serve(&mut self) -> Outcome<()> {
        let echo = async {
            while let Some(mut stream) = self.echo.accept().await {
                if let Ok(Some(chunk)) = stream.read_chunk().await {
                    let _ = stream.write_chunk(chunk).await;
                }
            }
            Ok(())
        };
        let sink = async {
            while let Some(mut stream) = self.sink.accept().await {
                while stream.read_chunk().await?.is_some() {}
                stream.write_chunk(Bytes::from_static(&[1])).await?;
            }
            Ok(())
        };
        let ask = async {
            while let Some(request) = self.ask.recv().await {
                let data = request.data.clone();
                request.respond(data)?;
            }
            Ok(())
        };
        first_of(vec![Box::pin(echo), Box::pin(sink), Box::pin(ask)]).await
    }

    async fn dial(&mut self, to: &Address) -> Outcome<ConnId> {
        let address: peerwork::Multiaddr = to.multiaddr().parse()?;
        Ok(self.handle.dial(address).await?.conn)
    }

    async fn close(&mut self, conn: ConnId) -> Outcome<()> {
        Ok(self.handle.disconnect(conn, 0, "")?)
    }

    async fn echo(&mut self, conn: &ConnId) -> Outcome<()> {
        let mut stream = self.handle.open_stream_lazy(*conn, &ECHO)?;
        stream.write_chunk(Bytes::from_static(&[1])).await?;
        match stream.read_chunk().await? {
            Some(byte) if *byte == [1] => Ok(()),
            other => Err(format!("echo: {other:?}").into()),
        }
    }

    async fn upload(&mut self, conn: &ConnId, bytes: u64, writes: Writes) -> Outcome<()> {
        let mut stream = self.handle.open_stream_lazy(*conn, &SINK)?;
        match writes {
            Writes::Large => {
                let chunk = Bytes::from(vec![0; 64 * 1024]);
                for _ in 0..bytes / chunk.len() as u64 {
                    stream.write_chunk(chunk.clone()).await?;
                }
            }
            Writes::Small => {
                let chunk = [0; 1024];
                for _ in 0..bytes / chunk.len() as u64 {
                    stream.write_all(&chunk).await?;
                }
            }
        }
        stream.finish()?;
        stream.read_chunk().await?.ok_or("the sink has gone")?;
        Ok(())
    }

    async fn requests(&mut self, conn: &ConnId, count: usize, in_flight: usize) -> Outcome<()> {
        let message = Bytes::from(vec![0; MESSAGE]);
        keep_up(count, in_flight, || {
            self.handle.request(*conn, &ASK, message.clone()).map(|response| Ok(response?.len()))
        })
        .await
    }

    async fn idle(&mut self, time: Duration) {
        D::sleep(time).await;
    }
}

pub(crate) struct Tokio;

impl Driver for Tokio {
    fn run<T>(program: impl Future<Output = T>) -> T {
        super::libp2p::run_on_tokio(program)
    }

    fn start(config: Config, options: Options) -> Result<Handle, StartError> {
        peerwork_tokio::spawn_with(config, options)
    }

    async fn sleep(time: Duration) {
        tokio::time::sleep(time).await;
    }
}

pub(crate) struct Smol;

static EXECUTOR: async_executor::Executor<'static> = async_executor::Executor::new();

impl Driver for Smol {
    fn run<T>(program: impl Future<Output = T>) -> T {
        async_io::block_on(EXECUTOR.run(program))
    }

    fn start(config: Config, options: Options) -> Result<Handle, StartError> {
        let (driver, handle) = peerwork_smol::start_with(config, options)?;
        EXECUTOR.spawn(driver).detach();
        Ok(handle)
    }

    async fn sleep(time: Duration) {
        async_io::Timer::after(time).await;
    }
}

/// In a mio loop that also polls the program, as a program with an event loop of its own would be written.
pub(crate) struct Mio;

struct Loop {
    registry: mio::Registry,
    peers: Vec<peerwork_mio::Peer>,
    /// Wakes the nodes.
    waker: Waker,
    /// Who in the program sleeps until when.
    sleepers: Vec<(Instant, Waker)>,
}

/// Half of the loop, the program or the nodes, that has something to do.
struct Half {
    due: AtomicBool,
    alarm: Arc<Alarm>,
}

/// A system call is needed only for waking a loop that waits.
struct Alarm {
    waiting: AtomicBool,
    waker: mio::Waker,
}

impl Half {
    fn new(alarm: &Arc<Alarm>) -> Arc<Self> {
        Arc::new(Self { due: AtomicBool::new(true), alarm: alarm.clone() })
    }

    fn take(&self) -> bool {
        self.due.load(Ordering::SeqCst) && self.due.swap(false, Ordering::SeqCst)
    }

    fn is_due(&self) -> bool {
        self.due.load(Ordering::SeqCst)
    }
}

impl Wake for Half {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.due.swap(true, Ordering::SeqCst) && self.alarm.waiting.load(Ordering::SeqCst) {
            let _ = self.alarm.waker.wake();
        }
    }
}

thread_local! {
    static LOOP: RefCell<Option<Loop>> = const { RefCell::new(None) };
}

fn with_loop<T>(f: impl FnOnce(&mut Loop) -> T) -> T {
    LOOP.with_borrow_mut(|inner| f(inner.as_mut().expect("inside the loop")))
}

impl Loop {
    /// Lets all nodes have a turn, and says when the next is due.
    fn turn(&mut self) -> Option<Instant> {
        let turns = self.peers.iter_mut().filter_map(|peer| {
            peer.turn(&self.registry);
            peer.deadline()
        });
        turns.min()
    }
}

/// The token of the waker; nodes have those below.
const WAKE: mio::Token = mio::Token(usize::MAX - 1);

/// Times that the program and the nodes may wake each other before the sockets are looked at.
const BACK_AND_FORTH: usize = 4;

impl Driver for Mio {
    fn run<T>(program: impl Future<Output = T>) -> T {
        let mut poll = mio::Poll::new().expect("an event loop");
        let registry = poll.registry().try_clone().expect("a registry");
        let waker = mio::Waker::new(&registry, WAKE).expect("a waker");
        let alarm = Arc::new(Alarm { waiting: AtomicBool::new(false), waker });
        let (ours, nodes) = (Half::new(&alarm), Half::new(&alarm));
        LOOP.set(Some(Loop { registry, peers: Vec::new(), waker: Waker::from(nodes.clone()), sleepers: Vec::new() }));
        let woken = Waker::from(ours.clone());
        let mut cx = Context::from_waker(&woken);
        let mut program = pin!(program);
        let mut events = mio::Events::with_capacity(256);
        let mut deadline = None;
        loop {
            for _ in 0..BACK_AND_FORTH {
                if ours.take()
                    && let Poll::Ready(value) = program.as_mut().poll(&mut cx)
                {
                    return value;
                }
                if nodes.take() || deadline.is_some_and(|at| at <= Instant::now()) {
                    deadline = with_loop(Loop::turn);
                }
                if !ours.is_due() && !nodes.is_due() {
                    break;
                }
            }
            alarm.waiting.store(true, Ordering::SeqCst);
            let asleep = with_loop(|inner| inner.sleepers.iter().map(|(at, _)| *at).min());
            let next = deadline.into_iter().chain(asleep).min();
            let timeout = if ours.is_due() || nodes.is_due() {
                Some(Duration::ZERO)
            } else {
                next.map(|at| at.saturating_duration_since(Instant::now()))
            };
            match poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => result.expect("the event loop works"),
            }
            alarm.waiting.store(false, Ordering::SeqCst);
            with_loop(|inner| {
                for event in events.iter().filter(|event| event.token() != WAKE) {
                    if inner.peers.iter_mut().any(|peer| peer.on_event(event)) {
                        nodes.due.store(true, Ordering::SeqCst);
                    }
                }
                inner.sleepers.retain(|(at, waker)| {
                    let asleep = *at > Instant::now();
                    if !asleep {
                        waker.wake_by_ref();
                    }
                    asleep
                });
            });
        }
    }

    fn start(config: Config, options: Options) -> Result<Handle, StartError> {
        with_loop(|inner| {
            let start = inner.peers.len() * peerwork_mio::TOKENS;
            let tokens = start..start + peerwork_mio::TOKENS;
            let mut peer = peerwork_mio::Peer::with_waker(config, options, tokens, inner.waker.clone())?;
            let handle = peer.handle();
            peer.release();
            inner.peers.push(peer);
            Ok(handle)
        })
    }

    async fn sleep(time: Duration) {
        let until = Instant::now() + time;
        std::future::poll_fn(|cx| {
            if Instant::now() >= until {
                return Poll::Ready(());
            }
            with_loop(|inner| inner.sleepers.push((until, cx.waker().clone())));
            Poll::Pending
        })
        .await;
    }
}
