//! The tests of [`udp`](super): loopback batches, and how batches are cut when the kernel will not have them whole.

use std::{
    cell::{Cell, RefCell},
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::*;

const BUFFER: usize = 256 * 1024;

fn loopback() -> (UdpPort, UdpSocket) {
    UdpPort::bind((Ipv4Addr::LOCALHOST, 0).into(), BUFFER).unwrap()
}

/// Receives until `bytes` bytes have come. Fails the test after five seconds.
fn receive(port: &UdpPort, socket: &UdpSocket, slots: &mut Slots, bytes: usize) -> Vec<Received> {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut all = Vec::new();
    while all.iter().map(|batch: &Received| batch.data.len()).sum::<usize>() < bytes {
        match port.receive(socket.into(), slots, |batch| all.push(batch)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => panic!("{error}"),
        }
        assert!(Instant::now() < deadline, "only {all:?} arrived");
    }
    all
}

fn send(port: &UdpPort, socket: &UdpSocket, batch: &Outgoing<'_>) -> io::Result<()> {
    let mut sent = 0;
    port.send(batch, &mut sent, |op| op(socket.into()))?;
    assert_eq!(sent, batch.data.len());
    Ok(())
}

/// Datagrams as the receiver of a batch has to cut them.
fn cut(batches: &[Received]) -> Vec<Vec<u8>> {
    batches
        .iter()
        .flat_map(|batch| batch.data.chunks(batch.segment.map_or(batch.data.len(), NonZeroUsize::get)))
        .map(<[u8]>::to_vec)
        .collect()
}

#[test]
fn a_batch_arrives_as_its_datagrams_with_mark_and_addresses() {
    let ((a, a_socket), (b, b_socket)) = (loopback(), loopback());
    let segments = a.describe().max_segments.get().min(10);
    let data: Vec<u8> = (0..segments * 1200 - 100).map(|i| (i / 1200) as u8).collect();
    let batch = Outgoing {
        to: b.describe().local,
        from_ip: None,
        ecn: Some(Ecn::Ect0),
        segment: NonZeroUsize::new(1200),
        data: &data,
    };
    send(&a, &a_socket, &batch).unwrap();
    let received = receive(&b, &b_socket, &mut Slots::new(), data.len());
    assert_eq!(cut(&received), data.chunks(1200).map(<[u8]>::to_vec).collect::<Vec<_>>());
    for batch in &received {
        assert_eq!(batch.from, a.describe().local);
        if cfg!(target_os = "linux") {
            assert_eq!(batch.ecn, Some(Ecn::Ect0));
            assert_eq!(batch.to_ip, Some(Ipv4Addr::LOCALHOST.into()));
        }
    }
}

#[test]
fn what_was_received_stays_as_it_was_when_the_slots_are_used_again() {
    let ((a, a_socket), (b, b_socket)) = (loopback(), loopback());
    let mut slots = Slots::new();
    let sent: Vec<Vec<u8>> = (0..20).map(|i| vec![i; if i % 2 == 0 { 1000 } else { 30_000 }]).collect();
    let mut received = Vec::new();
    for data in &sent {
        let to = b.describe().local;
        send(&a, &a_socket, &Outgoing { to, from_ip: None, ecn: None, segment: None, data }).unwrap();
        received.extend(receive(&b, &b_socket, &mut slots, data.len()));
    }
    assert_eq!(cut(&received), sent);
}

#[test]
fn ipv6_sockets_take_no_ipv4() {
    let Ok((six, _six)) = UdpPort::bind("[::]:0".parse().unwrap(), BUFFER) else { return };
    assert!(six.is_wildcard());
    let port = six.describe().local.port();
    UdpPort::bind((Ipv4Addr::UNSPECIFIED, port).into(), BUFFER).unwrap();
}

#[test]
fn bind_errors_have_their_kind() {
    let (taken, _socket) = loopback();
    let error = UdpPort::bind(taken.describe().local, BUFFER).unwrap_err();
    assert_eq!(io_error(&error).kind, IoErrorKind::AddressInUse);
    let error = UdpPort::bind("192.0.2.1:0".parse().unwrap(), BUFFER).unwrap_err();
    assert_eq!(io_error(&error).kind, IoErrorKind::AddressNotAvailable);
}

/// Contents and segment size of one call.
type Call = (Vec<u8>, Option<usize>);

/// Sends `data` in segments of 10 bytes through calls that `answer` decides on. Returns what was passed to each call.
fn script(
    data: &[u8],
    sent: &mut usize,
    max: &Cell<usize>,
    mut answer: impl FnMut(usize) -> io::Result<()>,
) -> (io::Result<()>, Vec<Call>) {
    let calls = RefCell::new(Vec::new());
    let batch = Outgoing {
        to: (Ipv4Addr::LOCALHOST, 1).into(),
        from_ip: None,
        ecn: None,
        segment: NonZeroUsize::new(10),
        data,
    };
    let result = send_batch(
        &batch,
        sent,
        || NonZeroUsize::new(max.get()).unwrap(),
        |transmit| {
            calls.borrow_mut().push((transmit.contents.to_vec(), transmit.segment_size));
            answer(calls.borrow().len())
        },
    );
    (result, calls.into_inner())
}

#[test]
fn a_blocked_batch_goes_on_where_it_stopped() {
    let data: Vec<u8> = (0..35).collect();
    let (mut sent, max) = (0, Cell::new(2));
    let block = |call| if call == 2 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) };
    let (result, calls) = script(&data, &mut sent, &max, block);
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert_eq!((sent, calls.len()), (20, 2));
    let (result, calls) = script(&data, &mut sent, &max, |_| Ok(()));
    result.unwrap();
    assert_eq!(calls, [(data[20..].to_vec(), Some(10))]);
    assert_eq!(sent, data.len());
}

#[test]
fn a_card_that_cannot_segment_gets_single_datagrams() {
    let data: Vec<u8> = (0..35).collect();
    let (mut sent, max) = (0, Cell::new(8));
    let (result, calls) = script(&data, &mut sent, &max, |call| {
        if call == 1 {
            max.set(1);
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(())
    });
    result.unwrap();
    assert_eq!(calls[0], (data.clone(), Some(10)));
    assert_eq!(calls[1..], *data.chunks(10).map(|chunk| (chunk.to_vec(), None)).collect::<Vec<_>>());
}

#[test]
fn a_lasting_error_ends_the_batch() {
    let (mut sent, max) = (0, Cell::new(1));
    let refuse = |_| Err(io::ErrorKind::HostUnreachable.into());
    let (result, calls) = script(&[0; 35], &mut sent, &max, refuse);
    assert_eq!(io_error(&result.unwrap_err()).kind, IoErrorKind::Unreachable);
    assert_eq!((sent, calls.len()), (35, 1));
}

#[cfg(target_os = "linux")]
#[test]
fn a_datagram_that_is_too_large_is_lost_in_silence() {
    let (mut sent, max) = (0, Cell::new(1));
    let (result, calls) = script(&[0; 20], &mut sent, &max, |_| Err(io::Error::from_raw_os_error(90)));
    result.unwrap();
    assert_eq!((sent, calls.len()), (20, 2));
}
