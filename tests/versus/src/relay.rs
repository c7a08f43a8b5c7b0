//! A relay that delays each UDP datagram, for counting round trips.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{Arc, OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

/// Delays datagrams between one client and `server` by `delay` each way. Gives the address that the client is to use.
/// Lives as long as the process.
pub(crate) fn start(server: SocketAddr, delay: Duration) -> io::Result<SocketAddr> {
    let front = Arc::new(UdpSocket::bind("127.0.0.1:0")?);
    let back = Arc::new(UdpSocket::bind("127.0.0.1:0")?);
    back.connect(server)?;
    let address = front.local_addr()?;
    let client = Arc::new(OnceLock::new());

    let (known, input) = (client.clone(), front.clone());
    let receive = move |buffer: &mut [u8]| {
        let (len, from) = input.recv_from(buffer)?;
        let _ = known.set(from);
        Ok(len)
    };
    let output = back.clone();
    direction(delay, receive, move |data| output.send(data));

    let receive = move |buffer: &mut [u8]| back.recv(buffer);
    direction(delay, receive, move |data| front.send_to(data, client.get().copied().unwrap_or(server)));
    Ok(address)
}

fn direction(
    delay: Duration,
    mut receive: impl FnMut(&mut [u8]) -> io::Result<usize> + Send + 'static,
    mut send: impl FnMut(&[u8]) -> io::Result<usize> + Send + 'static,
) {
    let (queue, due) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        // An error is an ICMP message about a peer that has gone; so is the measurement.
        while let Ok(len) = receive(&mut buffer) {
            if queue.send((Instant::now() + delay, buffer[..len].to_vec())).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        for (at, data) in due {
            thread::sleep(at.saturating_duration_since(Instant::now()));
            let _ = send(&data);
        }
    });
}
