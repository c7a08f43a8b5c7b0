//! rust-libp2p on tokio: QUIC, identify, ping, request–response and libp2p-stream, used as their documentation shows.

use std::{
    collections::HashSet,
    future::{Future, poll_fn},
    io,
    pin::pin,
    task::Poll,
    time::Duration,
};

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, StreamExt as _};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, SwarmBuilder, identify, ping, request_response,
    swarm::{
        ConnectionId, NetworkBehaviour, Swarm, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use libp2p_stream::Control;

use crate::node::{Address, CONNECTION_WINDOW, MESSAGE, Node, Outcome, STREAM_WINDOW, Writes, check_len};

const ECHO: StreamProtocol = StreamProtocol::new("/versus/echo/1");
const SINK: StreamProtocol = StreamProtocol::new("/versus/sink/1");
const ASK: StreamProtocol = StreamProtocol::new("/versus/ask/1");

/// A benchmark decides when a connection ends.
const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    request_response: request_response::Behaviour<Messages>,
    stream: libp2p_stream::Behaviour,
}

pub(crate) struct Libp2p {
    swarm: Swarm<Behaviour>,
    address: Address,
}

type Event = SwarmEvent<BehaviourEvent>;

impl Libp2p {
    /// Runs the swarm until an event is what is waited for. Requests are answered meanwhile.
    async fn until<T>(&mut self, mut wanted: impl FnMut(&mut Swarm<Behaviour>, Event) -> Option<T>) -> T {
        loop {
            let event = self.swarm.select_next_some().await;
            if let Some(value) = react(&mut self.swarm, event, &mut wanted) {
                return value;
            }
        }
    }

    /// Runs the swarm until a future has ended.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(value) = work.as_mut().poll(cx) {
                return Poll::Ready(value);
            }
            while let Poll::Ready(Some(event)) = self.swarm.poll_next_unpin(cx) {
                react(&mut self.swarm, event, |_, _| None::<()>);
            }
            Poll::Pending
        })
        .await
    }

    /// The same for a task of its own, whose wake-ups are not the swarm's.
    async fn task<T: Send + 'static>(&mut self, work: impl Future<Output = Outcome<T>> + Send + 'static) -> Outcome<T> {
        let task = tokio::spawn(work);
        self.meanwhile(task).await?
    }

    fn control(&self) -> Control {
        self.swarm.behaviour().stream.new_control()
    }
}

fn react<T>(
    swarm: &mut Swarm<Behaviour>,
    event: Event,
    mut wanted: impl FnMut(&mut Swarm<Behaviour>, Event) -> Option<T>,
) -> Option<T> {
    use request_response::{Event::Message, Message::Request};
    match event {
        SwarmEvent::Behaviour(BehaviourEvent::RequestResponse(Message {
            message: Request { request, channel, .. },
            ..
        })) => {
            // Who asked may be gone.
            let _ = swarm.behaviour_mut().request_response.send_response(channel, request);
            None
        }
        other => wanted(swarm, other),
    }
}

impl Node for Libp2p {
    type Conn = (PeerId, ConnectionId);

    fn run<T>(program: impl Future<Output = T>) -> T {
        run_on_tokio(program)
    }

    async fn start() -> Outcome<Self> {
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_quic_config(|mut config| {
                config.max_stream_data = STREAM_WINDOW;
                config.max_connection_data = CONNECTION_WINDOW;
                config
            })
            .with_behaviour(|keypair| Behaviour {
                identify: identify::Behaviour::new(identify::Config::new("versus/1".into(), keypair.public())),
                ping: ping::Behaviour::default(),
                request_response: request_response::Behaviour::new(
                    [(ASK, request_response::ProtocolSupport::Full)],
                    request_response::Config::default(),
                ),
                stream: libp2p_stream::Behaviour::new(),
            })?
            .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE_CONNECTION_TIMEOUT))
            .build();
        swarm.listen_on("/ip4/127.0.0.1/udp/0/quic-v1".parse()?)?;
        let listening = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        let socket = Address::socket_of(&listening.to_string())?;
        let address = Address { socket, peer: swarm.local_peer_id().to_string() };
        Ok(Self { swarm, address })
    }

    fn address(&self) -> Address {
        self.address.clone()
    }

    async fn serve(&mut self) -> Outcome<()> {
        let mut echoes = self.control().accept(ECHO)?;
        let mut sinks = self.control().accept(SINK)?;
        tokio::spawn(async move {
            while let Some((_, mut stream)) = echoes.next().await {
                let mut byte = [0];
                if stream.read_exact(&mut byte).await.is_ok() && stream.write_all(&byte).await.is_ok() {
                    let _ = stream.close().await;
                }
            }
        });
        tokio::spawn(async move {
            let mut buffer = vec![0; 64 * 1024];
            while let Some((_, mut stream)) = sinks.next().await {
                while stream.read(&mut buffer).await? != 0 {}
                stream.write_all(&[1]).await?;
                stream.close().await?;
            }
            io::Result::Ok(())
        });
        self.until(|_, _| None).await
    }

    async fn dial(&mut self, to: &Address) -> Outcome<Self::Conn> {
        let address: Multiaddr = to.multiaddr().parse()?;
        let peer: PeerId = to.peer.parse()?;
        let dial = DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(vec![address]).build();
        let id = dial.connection_id();
        self.swarm.dial(dial)?;
        self.until(|_, event| match event {
            SwarmEvent::ConnectionEstablished { connection_id, .. } if connection_id == id => Some(Ok((peer, id))),
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } if connection_id == id => {
                Some(Err(error.into()))
            }
            _ => None,
        })
        .await
    }

    async fn close(&mut self, (_, id): Self::Conn) -> Outcome<()> {
        if self.swarm.close_connection(id) {
            self.until(|_, event| match event {
                SwarmEvent::ConnectionClosed { connection_id, .. } if connection_id == id => Some(()),
                _ => None,
            })
            .await;
        }
        Ok(())
    }

    async fn echo(&mut self, (peer, _): &Self::Conn) -> Outcome<()> {
        let (mut control, peer) = (self.control(), *peer);
        self.task(async move {
            let mut stream = control.open_stream(peer, ECHO).await?;
            let mut byte = [1];
            stream.write_all(&byte).await?;
            stream.flush().await?;
            stream.read_exact(&mut byte).await?;
            Ok(stream.close().await?)
        })
        .await
    }

    async fn upload(&mut self, (peer, _): &Self::Conn, bytes: u64, writes: Writes) -> Outcome<()> {
        let (mut control, peer) = (self.control(), *peer);
        self.task(async move {
            let mut stream = control.open_stream(peer, SINK).await?;
            let chunk = match writes {
                Writes::Large => vec![0; 64 * 1024],
                Writes::Small => vec![0; 1024],
            };
            for _ in 0..bytes / chunk.len() as u64 {
                stream.write_all(&chunk).await?;
            }
            stream.close().await?;
            Ok(stream.read_exact(&mut [0]).await?)
        })
        .await
    }

    async fn requests(&mut self, (peer, _): &Self::Conn, count: usize, in_flight: usize) -> Outcome<()> {
        let message = vec![0; MESSAGE];
        let ask =
            |swarm: &mut Swarm<Behaviour>| swarm.behaviour_mut().request_response.send_request(peer, message.clone());
        let mut waiting: HashSet<_> = (0..in_flight.min(count)).map(|_| ask(&mut self.swarm)).collect();
        let mut asked = waiting.len();
        self.until(|swarm, event| {
            use request_response::{Event, Message};
            match event {
                SwarmEvent::Behaviour(BehaviourEvent::RequestResponse(Event::Message {
                    message: Message::Response { request_id, response },
                    ..
                })) if waiting.remove(&request_id) => {
                    if let Err(error) = check_len(response.len()) {
                        return Some(Err(error));
                    }
                    if asked < count {
                        asked += 1;
                        waiting.insert(ask(swarm));
                    }
                    waiting.is_empty().then_some(Ok(()))
                }
                SwarmEvent::Behaviour(BehaviourEvent::RequestResponse(Event::OutboundFailure { error, .. })) => {
                    Some(Err(error.into()))
                }
                _ => None,
            }
        })
        .await
    }

    async fn idle(&mut self, time: Duration) {
        self.meanwhile(tokio::time::sleep(time)).await;
    }
}

/// One thread, IO and time.
pub(crate) fn run_on_tokio<T>(program: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(program)
}

/// Frames as peerwork's request–response has them: the length as an unsigned varint, then that many bytes. Here a
/// length takes one byte.
#[derive(Clone, Default)]
struct Messages;

impl request_response::Codec for Messages {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, data: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &data).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, data: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &data).await
    }
}

async fn read(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut len = [0];
    io.read_exact(&mut len).await?;
    let mut data = vec![0; usize::from(len[0])];
    io.read_exact(&mut data).await?;
    Ok(data)
}

async fn write(io: &mut (impl AsyncWrite + Unpin), data: &[u8]) -> io::Result<()> {
    const { assert!(MESSAGE < 128) };
    let mut frame = [0; 1 + MESSAGE];
    frame[0] = MESSAGE as u8;
    frame[1..].copy_from_slice(data);
    io.write_all(&frame).await?;
    io.flush().await
}
