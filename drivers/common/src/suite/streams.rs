//! Streams: bytes there and back, ends, errors, and what a reader that does not read costs.

use std::thread::JoinHandle;

use futures_io::{AsyncRead, AsyncWrite};
use peerwork::StreamError;

use super::*;
use crate::{Incoming, OpenFailure};

/// Bytes of an echo. More than any single buffer on the way.
const ECHO: usize = 100 * 1024;

/// Sends back what comes, one stream after the other, until the node ends.
fn echo(mut incoming: Incoming) -> JoinHandle<()> {
    std::thread::spawn(move || {
        within(LIMIT * 2, async {
            while let Some(mut stream) = incoming.accept().await {
                while let Ok(Some(chunk)) = stream.read_chunk().await {
                    if stream.write_chunk(chunk).await.is_err() {
                        break;
                    }
                }
                // It may have been reset, and then it is finished already.
                let _ = stream.finish();
            }
        });
    })
}

/// Two nodes of which the second echoes, and a stream to it.
fn echo_pair<A: Runtime, B: Runtime>() -> (Pair, Stream) {
    let pair = Pair::new::<A, B>();
    let name = protocol("/echo/1");
    echo(pair.b.register(&name).unwrap());
    let stream = within(LIMIT, pair.a.open_stream(pair.conn.conn, &[name])).unwrap();
    (pair, stream)
}

/// Reading and writing at once, as 100 KiB need it whose window may be smaller.
pub fn an_echo_comes_back_through_the_traits_of_futures_io<A: Runtime, B: Runtime>() {
    let (_pair, mut stream) = echo_pair::<A, B>();
    let (data, mut back, mut sent) = (pattern(ECHO), Vec::new(), 0);
    let mut closed = false;
    within(
        LIMIT,
        poll_fn(|cx| {
            while sent < data.len() {
                match AsyncWrite::poll_write(Pin::new(&mut stream), cx, &data[sent..]) {
                    Poll::Ready(len) => sent += len.unwrap(),
                    Poll::Pending => break,
                }
            }
            if sent == data.len() && !closed {
                assert!(AsyncWrite::poll_flush(Pin::new(&mut stream), cx).is_ready());
                match AsyncWrite::poll_close(Pin::new(&mut stream), cx) {
                    Poll::Ready(result) => result.unwrap(),
                    Poll::Pending => return Poll::Pending,
                }
                closed = true;
            }
            let mut buffer = [0; 1000];
            loop {
                match AsyncRead::poll_read(Pin::new(&mut stream), cx, &mut buffer) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(()),
                    Poll::Ready(len) => back.extend_from_slice(&buffer[..len.unwrap()]),
                    Poll::Pending => return Poll::Pending,
                }
            }
        }),
    );
    assert!(back == data, "{} bytes came back changed", back.len());
}

/// The same with the other traits; without the feature `tokio` there are none and nothing is tested.
pub fn an_echo_comes_back_through_the_traits_of_tokio<A: Runtime, B: Runtime>() {
    #[cfg(feature = "tokio")]
    {
        use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
        let (_pair, mut stream) = echo_pair::<A, B>();
        let (data, mut back, mut sent) = (pattern(ECHO), Vec::new(), 0);
        let mut closed = false;
        within(
            LIMIT,
            poll_fn(|cx| {
                while sent < data.len() {
                    match AsyncWrite::poll_write(Pin::new(&mut stream), cx, &data[sent..]) {
                        Poll::Ready(len) => sent += len.unwrap(),
                        Poll::Pending => break,
                    }
                }
                if sent == data.len() && !closed {
                    match AsyncWrite::poll_shutdown(Pin::new(&mut stream), cx) {
                        Poll::Ready(result) => result.unwrap(),
                        Poll::Pending => return Poll::Pending,
                    }
                    closed = true;
                }
                let mut memory = [0; 1000];
                loop {
                    let mut buffer = ReadBuf::new(&mut memory);
                    match AsyncRead::poll_read(Pin::new(&mut stream), cx, &mut buffer) {
                        Poll::Ready(result) => result.unwrap(),
                        Poll::Pending => return Poll::Pending,
                    }
                    if buffer.filled().is_empty() {
                        return Poll::Ready(());
                    }
                    back.extend_from_slice(buffer.filled());
                }
            }),
        );
        assert!(back == data, "{} bytes came back changed", back.len());
    }
}

/// The native way, without copies.
pub fn an_echo_comes_back_in_chunks<A: Runtime, B: Runtime>() {
    let (_pair, mut stream) = echo_pair::<A, B>();
    let data = pattern(ECHO);
    within(LIMIT, async {
        stream.write_chunk(data.clone().into()).await.unwrap();
        stream.finish().unwrap();
        assert!(read_all(&mut stream).await.unwrap() == data);
        // The end stays the end.
        assert_eq!(stream.read_chunk().await, Ok(None));
        assert_eq!(stream.write_chunk("more".into()).await, Err(StreamError::Finished));
    });
}

/// Each direction ends on its own.
pub fn one_side_can_finish_and_still_read<A: Runtime, B: Runtime>() {
    let pair = Pair::new::<A, B>();
    within(LIMIT, async {
        let (mut near, mut far) = pair.stream("/half/1").await;
        near.write_chunk("question".into()).await.unwrap();
        near.finish().unwrap();
        assert_eq!(read_all(&mut far).await.unwrap(), "question");
        far.write_chunk("answer".into()).await.unwrap();
        drop(far);
        assert_eq!(read_all(&mut near).await.unwrap(), "answer");
    });
}

/// Even if nobody has read it.
pub fn a_finished_stream_is_known_to_be_delivered<A: Runtime, B: Runtime>() {
    let pair = Pair::new::<A, B>();
    within(LIMIT, async {
        let (mut near, mut far) = pair.stream("/sure/1").await;
        near.write_chunk("data".into()).await.unwrap();
        assert!(unless_after(Duration::from_millis(200), near.finished()).await.is_none());
        near.finish().unwrap();
        near.finished().await.unwrap();
        assert_eq!(read_all(&mut far).await.unwrap(), "data");
    });
}

/// The reader gets the code, in the native error and as the source of an `io::Error`.
pub fn a_reset_is_seen_with_its_code<A: Runtime, B: Runtime>() {
    let pair = Pair::new::<A, B>();
    within(LIMIT, async {
        let (mut near, mut far) = pair.stream("/reset/1").await;
        near.reset(42);
        assert_eq!(far.read_chunk().await, Err(StreamError::Reset(42)));
        let mut buffer = [0; 8];
        let error = poll_fn(|cx| AsyncRead::poll_read(Pin::new(&mut far), cx, &mut buffer)).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        let source = error.get_ref().and_then(|source| source.downcast_ref::<StreamError>());
        assert_eq!(source, Some(&StreamError::Reset(42)));
    });
}

/// The writer gets the code.
pub fn a_stop_is_seen_with_its_code<A: Runtime, B: Runtime>() {
    let pair = Pair::new::<A, B>();
    within(LIMIT, async {
        let (mut near, mut far) = pair.stream("/stop/1").await;
        far.stop(43);
        let error = loop {
            if let Err(error) = near.write_chunk(pattern(1000).into()).await {
                break error;
            }
            // The next one may be refused: the word has to travel.
            unless_after(Duration::from_millis(10), std::future::pending::<()>()).await;
        };
        assert_eq!(error, StreamError::Stopped(43));
    });
}

/// At once when the peer is waited for, and with the first use when it is not.
pub fn a_protocol_that_the_peer_lacks_is_refused<A: Runtime, B: Runtime>() {
    let pair = Pair::new::<A, B>();
    within(LIMIT, async {
        let name = protocol("/nobody/1");
        let opened = pair.a.open_stream(pair.conn.conn, std::slice::from_ref(&name)).await;
        assert_eq!(opened.unwrap_err(), OpenFailure::Failed(StreamError::Unsupported));
        let mut lazy = pair.a.open_stream_lazy(pair.conn.conn, &name).unwrap();
        // The refusal may come before this write or after it.
        let written = lazy.write_chunk("hello?".into()).await;
        assert!(matches!(written, Ok(()) | Err(StreamError::Unsupported)), "{written:?}");
        assert_eq!(lazy.read_chunk().await, Err(StreamError::Unsupported));
    });
}

/// In the order of the proposal.
pub fn the_first_protocol_that_the_peer_speaks_is_used<A: Runtime, B: Runtime>() {
    let pair = Pair::new::<A, B>();
    let names = ["/new/2", "/mid/1", "/old/1"].map(protocol);
    let mut incoming = pair.b.register(&names[1]).unwrap();
    let _old = pair.b.register(&names[2]).unwrap();
    within(LIMIT, async {
        let mut stream = pair.a.open_stream(pair.conn.conn, &names).await.unwrap();
        assert_eq!(stream.protocol(), &names[1]);
        stream.write_chunk("x".into()).await.unwrap();
        assert_eq!(incoming.accept().await.unwrap().protocol(), &names[1]);
    });
}

/// Memory is bounded by the windows; when the reader reads, the writer goes on.
pub fn a_writer_waits_for_a_reader_that_does_not_read<A: Runtime, B: Runtime>() {
    let mut small = config();
    small.quic.stream_window = 128 * 1024;
    small.quic.connection_window = 256 * 1024;
    small.quic.send_window = 128 * 1024;
    let windows = 128 * 1024 + 128 * 1024;
    let pair = Pair::with::<A, B>(small.clone(), small);
    within(LIMIT, async {
        let (near, mut far) = pair.stream("/flood/1").await;
        let (mut unread, mut near) = near.split();
        let data = Bytes::from(pattern(4 * windows));
        let mut rest = data.clone();
        assert!(unless_after(Duration::from_millis(500), near.write_part(&mut rest)).await.is_none());
        let taken = data.len() - rest.len();
        assert!(taken > 0 && taken <= windows, "{taken} bytes were taken");
        // It does not creep on, either.
        assert!(unless_after(Duration::from_millis(200), near.write_part(&mut rest)).await.is_none());
        assert!(data.len() - rest.len() <= windows);
        let writer = std::thread::spawn(move || {
            within(LIMIT, near.write_part(&mut rest)).unwrap();
            near.finish().unwrap();
            near
        });
        assert!(read_all(&mut far).await.unwrap() == data);
        drop(far);
        assert_eq!(unread.read_chunk().await, Ok(None));
        drop(writer.join().unwrap());
    });
}

/// More streams than a peer may have open at once: those that do not fit wait their turn.
pub fn many_streams_at_once<A: Runtime, B: Runtime>() {
    let (pair, _first) = echo_pair::<A, B>();
    // The echo serves one stream after the other; the first is in its way.
    drop(_first);
    let name = protocol("/echo/1");
    within(LIMIT, async {
        let echoes = (0..200usize).map(|i| {
            let (pair, name) = (&pair, &name);
            async move {
                let mut stream = pair.a.open_stream(pair.conn.conn, std::slice::from_ref(name)).await?;
                let data = pattern(1000 + i);
                stream.write_chunk(data.clone().into()).await?;
                stream.finish()?;
                assert!(read_all(&mut stream).await? == data);
                Ok::<_, OpenFailure>(())
            }
        });
        let results = all(echoes).await;
        assert_eq!(results.iter().filter(|result| result.is_err()).count(), 0, "{results:?}");
    });
}

/// What nobody takes is turned away instead of kept.
pub fn streams_beyond_the_backlog_are_reset<A: Runtime, B: Runtime>() {
    let pair = Pair::new::<A, B>();
    let name = protocol("/busy/1");
    let mut incoming = pair.b.register_with_backlog(&name, 2).unwrap();
    within(LIMIT, async {
        let mut streams = Vec::new();
        for _ in 0..5 {
            // Refused while it is opened or after that, depending on how fast the word travels.
            if let Ok(mut stream) = pair.a.open_stream(pair.conn.conn, std::slice::from_ref(&name)).await {
                let _ = stream.write_chunk("x".into()).await;
                streams.push(stream);
            }
        }
        let mut alive = 0;
        for stream in &mut streams {
            alive += usize::from(unless_after(Duration::from_millis(200), stream.read_chunk()).await.is_none());
        }
        assert_eq!(alive, 2);
        for _ in 0..2 {
            assert!(incoming.accept().await.unwrap().read_chunk().await.unwrap().is_some());
        }
    });
}

/// Reading does not hold up writing.
pub fn halves_can_be_used_by_two_threads<A: Runtime, B: Runtime>() {
    let (_pair, stream) = echo_pair::<A, B>();
    let data = Bytes::from(pattern(ECHO * 10));
    let (mut read, mut write) = stream.split();
    let expected = data.clone();
    let reader = std::thread::spawn(move || {
        within(LIMIT, async {
            let mut back = BytesMut::new();
            while let Some(chunk) = read.read_chunk().await.unwrap() {
                back.extend_from_slice(&chunk);
            }
            assert!(back == expected);
        });
    });
    within(LIMIT, write.write_chunk(data)).unwrap();
    // Finishes this side; the other half lives on.
    drop(write);
    reader.join().unwrap();
}

/// A stream that is dropped before the peer has ended it is over all the same, and more than a peer may have open at
/// once can come and go.
pub fn streams_let_go_early_make_room_for_others<A: Runtime, B: Runtime>() {
    let (pair, first) = echo_pair::<A, B>();
    drop(first);
    let name = protocol("/echo/1");
    within(LIMIT, async {
        for _ in 0..600 {
            let mut stream = pair.a.open_stream(pair.conn.conn, std::slice::from_ref(&name)).await.unwrap();
            stream.write_chunk("hello".into()).await.unwrap();
            assert_eq!(stream.read_chunk().await.unwrap().unwrap(), "hello");
        }
    });
}

/// A reader that is slow costs a window of memory and never the connection, whatever the size of the packets.
pub fn many_small_packets_wait_for_a_slow_reader<A: Runtime, B: Runtime>() {
    const COUNT: usize = 3000;
    let pair = Pair::new::<A, B>();
    within(LIMIT, async {
        let (mut near, mut far) = pair.stream("/slow/1").await;
        for _ in 0..COUNT {
            near.write_chunk(vec![1; 100].into()).await.unwrap();
            // Time for each to leave in a packet of its own.
            std::thread::sleep(Duration::from_micros(200));
        }
        near.finish().unwrap();
        assert_eq!(read_all(&mut far).await.unwrap().len(), COUNT * 100);
    });
}
