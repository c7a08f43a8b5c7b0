//! Nodes that are recorded, and run again.

use std::{
    fs,
    path::{Path, PathBuf},
};

use peerwork::{
    Output,
    config::RequestConfig,
    record::{Ending, Replay},
};

use super::*;
use crate::{Options, Record, clock::random, platform};

/// A file that goes away with the test.
struct File(PathBuf);

impl File {
    fn new() -> Self {
        let name = format!("peerwork-suite-{:016x}.log", u64::from_le_bytes(random().unwrap()));
        Self(std::env::temp_dir().join(name))
    }

    fn options(&self) -> Options {
        Options { record: Some(Record::to(&self.0)), ..Options::default() }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Runs a log to its end; gives the events and commands that came out.
#[track_caller]
fn replay(path: &Path, ending: Ending) -> (Vec<Event>, u64) {
    let log = fs::read(path).unwrap();
    let mut replay = Replay::new(&log, platform()).unwrap();
    let mut events = Vec::new();
    while let Some(step) = replay.step().unwrap_or_else(|error| panic!("{error}")) {
        events.extend(step.outputs.into_iter().filter_map(|output| match output {
            Output::Event(event) => Some(event),
            Output::Command(_) => None,
        }));
    }
    assert_eq!(replay.ending(), Some(ending));
    assert!(replay.totals().marks >= 2, "{:?}", replay.totals());
    (events, replay.totals().datagrams_in)
}

/// All that has come so far, and what comes until the node ends.
async fn rest(events: &mut Subscription) -> Vec<Event> {
    let mut all = Vec::new();
    while let Some(event) = events.recv().await {
        all.push(event.unwrap());
    }
    all
}

/// Dials, pings, streams and requests between two recorded nodes; then both logs give the same events again.
pub fn a_recorded_node_is_replayed_bit_for_bit<A: Runtime, B: Runtime>() {
    let files = [File::new(), File::new()];
    let a = A::start_with(config(), files[0].options()).unwrap();
    let b = B::start_with(config(), files[1].options()).unwrap();
    let (echo, ask) = (protocol("/echo/1"), protocol("/ask/1"));
    let mut events = [a.events_with_capacity(100_000), b.events_with_capacity(100_000)];
    within(LIMIT, async {
        let mut incoming = b.register(&echo).unwrap();
        let mut asked = b.serve_requests(&ask, RequestConfig::default()).unwrap();
        a.register_requests(&ask, RequestConfig::default()).unwrap();
        let address = b.listen(loopback()).await.unwrap();
        let conn = a.dial(with_peer(&address, &b)).await.unwrap().conn;
        a.ping(conn).await.unwrap();

        let mut here = a.open_stream(conn, &[echo]).await.unwrap();
        let data = Bytes::from(pattern(3_000_000));
        let mut there = incoming.accept().await.unwrap();
        let sender = std::thread::spawn(move || {
            within(LIMIT, async {
                here.write_chunk(data.clone()).await.unwrap();
                here.finish().unwrap();
                (read_all(&mut here).await.unwrap(), data)
            })
        });
        let received = read_all(&mut there).await.unwrap();
        for piece in received.chunks(700).take(500) {
            there.write_chunk(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        there.finish().unwrap();
        let (echoed, data) = sender.join().unwrap();
        assert_eq!(received, data);
        assert_eq!(echoed, data.slice(..echoed.len()));

        let request = a.request(conn, &ask, Bytes::from_static(b"question"));
        let question = asked.recv().await.unwrap();
        question.respond(Bytes::from_static(b"answer")).unwrap();
        assert_eq!(request.await.unwrap(), Bytes::from_static(b"answer"));
        a.shutdown().await;
        b.shutdown().await;
        for (file, events) in files.iter().zip(&mut events) {
            let seen = rest(events).await;
            assert!(seen.iter().any(|event| matches!(event, Event::Identified { .. })));
            let (replayed, datagrams) = replay(&file.0, Ending::Complete);
            assert!(datagrams > 50, "{datagrams}");
            // What concerns one stream or request went to whom it concerned, and all else to the subscriber.
            let mut replayed = replayed.iter();
            for event in &seen {
                assert!(replayed.any(|replayed| replayed == event), "{event:?} was not replayed in its place");
            }
        }
    });
}

/// Without a goodbye, too, all is in the file when the node has ended.
pub fn a_node_that_vanishes_leaves_a_complete_log<A: Runtime, B: Runtime>() {
    let file = File::new();
    let a = A::start_with(config(), file.options()).unwrap();
    let b = B::start(config()).unwrap();
    let mut events = b.events();
    within(LIMIT, async {
        let address = b.listen(loopback()).await.unwrap();
        a.dial(with_peer(&address, &b)).await.unwrap();
        drop(a);
        event(&mut events, |event| matches!(event, Event::Disconnected { .. }).then_some(())).await;
    });
    // The last handle is gone, so nobody can be asked when the driver has.
    let deadline = Instant::now() + LIMIT;
    let complete = || {
        let log = fs::read(&file.0).unwrap();
        // In its first moments it is in memory only.
        let Ok(mut replay) = Replay::new(&log, platform()) else { return false };
        while replay.step().unwrap().is_some() {}
        replay.ending() == Some(Ending::Complete)
    };
    while !complete() {
        assert!(Instant::now() < deadline, "the log was not ended");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(b);
}

/// A file that exists is not a place for a log.
pub fn a_recording_never_overwrites<A: Runtime, B: Runtime>() {
    let file = File::new();
    fs::write(&file.0, "precious").unwrap();
    let error = A::start_with(config(), file.options()).unwrap_err();
    assert!(error.to_string().contains("the file exists"), "{error}");
    assert_eq!(fs::read(&file.0).unwrap(), b"precious");
    let _ = B::start_with(config(), file.options()).unwrap_err();
}
