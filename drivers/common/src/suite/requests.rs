//! Requests and responses.

use std::sync::atomic::{AtomicUsize, Ordering};

use peerwork::{config::RequestConfig, protocol::request::RequestError};

use super::*;
use crate::RequestFailure;

/// Each of 64 requests at once gets its own response, answered in another order than they came.
pub fn requests_64_in_flight<A: Runtime, B: Runtime>() {
    let pair = Pair::new::<A, B>();
    let name = protocol("/sum/1");
    let mut served = pair.b.serve_requests(&name, RequestConfig::default()).unwrap();
    pair.a.register_requests(&name, RequestConfig::default()).unwrap();
    let most = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    let server = std::thread::spawn(move || {
        within(LIMIT, async {
            for _ in 0..4 {
                let mut batch = Vec::new();
                while batch.len() < 64 {
                    batch.push(served.recv().await.unwrap());
                }
                seen.fetch_max(batch.len(), Ordering::Relaxed);
                while let Some(request) = batch.pop() {
                    let mut response = request.data.to_vec();
                    response.reverse();
                    request.respond(response.into()).unwrap();
                }
            }
        });
    });
    within(LIMIT, async {
        for round in 0..4u8 {
            let responses = all((0..64u8).map(|i| pair.a.request(pair.conn.conn, &name, vec![round, i].into()))).await;
            for (i, response) in responses.into_iter().enumerate() {
                assert_eq!(response.unwrap(), [i as u8, round][..]);
            }
        }
    });
    server.join().unwrap();
    assert_eq!(most.load(Ordering::Relaxed), 64);
}

/// A server that drops a request has refused it, and the client does not wait for the timeout.
pub fn a_request_that_is_not_answered_fails<A: Runtime, B: Runtime>() {
    let pair = Pair::new::<A, B>();
    let name = protocol("/refuse/1");
    let mut served = pair.b.serve_requests(&name, RequestConfig::default()).unwrap();
    pair.a.register_requests(&name, RequestConfig::default()).unwrap();
    within(LIMIT, async {
        let request = pair.a.request(pair.conn.conn, &name, "please".into());
        let inbound = served.recv().await.unwrap();
        assert_eq!((&inbound.data[..], inbound.peer), (&b"please"[..], pair.a.peer_id()));
        drop(inbound);
        let error = request.await.unwrap_err();
        assert!(!matches!(error, RequestFailure::Failed(RequestError::TimedOut)), "{error}");
        // The same after the server has let go of the protocol.
        drop(served);
        pair.a.request(pair.conn.conn, &name, "please".into()).await.unwrap_err();
    });
}

/// The limit holds where the request is made.
pub fn a_request_that_is_too_large_is_refused<A: Runtime, B: Runtime>() {
    let pair = Pair::new::<A, B>();
    let name = protocol("/small/1");
    let config = RequestConfig { max_request: 100, ..RequestConfig::default() };
    pair.a.register_requests(&name, config).unwrap();
    within(LIMIT, async {
        let error = pair.a.request(pair.conn.conn, &name, vec![0; 101].into()).await.unwrap_err();
        assert_eq!(error, RequestFailure::Failed(RequestError::TooLarge { len: 101, max: 100 }));
        let error = pair.a.request(pair.conn.conn, &protocol("/unknown/1"), Bytes::new()).await.unwrap_err();
        assert_eq!(error, RequestFailure::Failed(RequestError::UnknownProtocol));
    });
}
