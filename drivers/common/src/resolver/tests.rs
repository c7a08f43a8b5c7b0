//! The tests of [`resolver`](super) and of the DNS client under it, against servers on loopback.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, UdpSocket},
    sync::mpsc,
};

use simple_dns::{
    CLASS, Packet, PacketFlag, RCODE, ResourceRecord,
    rdata::{RData, TXT},
};

use super::*;

fn look_up(resolver: &Resolver, query: Query) -> Result<Answer, IoError> {
    let (sender, receiver) = mpsc::channel();
    resolver.resolve(query, move |result| sender.send(result).unwrap());
    receiver.recv_timeout(Duration::from_secs(10)).unwrap()
}

fn txt(resolver: &Resolver, name: &str) -> Result<Answer, IoError> {
    look_up(resolver, Query::Txt(name.into()))
}

/// A server whose answers are the datagrams that `answer` makes of a query.
fn server(mut answer: impl FnMut(Packet<'_>) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            for datagram in answer(Packet::parse(&buffer[..len]).unwrap()) {
                socket.send_to(&datagram, from).unwrap();
            }
        }
    });
    address
}

/// An answer to `query` with these records, each of several strings.
fn reply(query: Packet<'_>, records: &[&[&str]]) -> Vec<u8> {
    let mut reply = query.into_reply();
    let name = reply.questions[0].qname.clone();
    for strings in records {
        let mut txt = TXT::new();
        strings.iter().for_each(|text| txt.add_string(text).unwrap());
        reply.answers.push(ResourceRecord::new(name.clone(), CLASS::IN, 60, RData::TXT(txt)));
    }
    reply.build_bytes_vec().unwrap()
}

#[test]
fn txt_records_come_with_their_strings_joined() {
    let resolver = Resolver::with_servers(vec![server(|query| vec![reply(query, &[&["dnsaddr=", "/ip4/1"], &["x"]])])]);
    let expected = Answer::Txt(vec!["dnsaddr=/ip4/1".into(), "x".into()]);
    assert_eq!(txt(&resolver, "_dnsaddr.example.org"), Ok(expected));
}

#[test]
fn a_forged_answer_is_passed_over() {
    let resolver = Resolver::with_servers(vec![server(|query| {
        let id = query.id();
        let mut wrong_id = query.clone();
        wrong_id.set_id(id.wrapping_add(1));
        let mut wrong_name = Packet::new_query(id);
        wrong_name.questions = vec![simple_dns::Question::new(
            simple_dns::Name::new("other.example").unwrap(),
            simple_dns::TYPE::TXT.into(),
            CLASS::IN.into(),
            false,
        )];
        vec![reply(wrong_id, &[&["forged"]]), reply(wrong_name, &[&["forged"]]), reply(query, &[&["true"]])]
    })]);
    assert_eq!(txt(&resolver, "name.example"), Ok(Answer::Txt(vec!["true".into()])));
}

#[test]
fn missing_names_and_records_are_told_from_failing_servers() {
    let with_code = |code| {
        Resolver::with_servers(vec![server(move |query| {
            let mut reply = query.into_reply();
            *reply.rcode_mut() = code;
            vec![reply.build_bytes_vec().unwrap()]
        })])
    };
    assert_eq!(txt(&with_code(RCODE::NameError), "a.example").unwrap_err().kind, IoErrorKind::NotFound);
    assert_eq!(txt(&with_code(RCODE::NoError), "a.example").unwrap_err().kind, IoErrorKind::NotFound);
    assert_eq!(txt(&with_code(RCODE::ServerFailure), "a.example").unwrap_err().kind, IoErrorKind::Other);
}

#[test]
fn a_lost_query_is_repeated_and_a_second_server_asked() {
    let mut seen = 0;
    let forgetful = server(move |query| {
        seen += 1;
        if seen == 1 { vec![] } else { vec![reply(query, &[&["second"]])] }
    });
    assert_eq!(txt(&Resolver::with_servers(vec![forgetful]), "a.example"), Ok(Answer::Txt(vec!["second".into()])));
    let (dead, alive) = (server(|_| vec![]), server(|query| vec![reply(query, &[&["alive"]])]));
    assert_eq!(txt(&Resolver::with_servers(vec![dead, alive]), "a.example"), Ok(Answer::Txt(vec!["alive".into()])));
}

#[test]
fn silence_times_out_before_the_node_stops_waiting() {
    let start = Instant::now();
    let error = txt(&Resolver::with_servers(vec![server(|_| vec![])]), "a.example").unwrap_err();
    assert_eq!(error.kind, IoErrorKind::TimedOut);
    // Half a second on top of the margin, for a busy machine.
    let limit = RESOLVE_TIMEOUT + Duration::from_millis(500);
    assert!(start.elapsed() <= limit, "{:?}", start.elapsed());
}

#[test]
fn an_answer_that_does_not_fit_comes_over_tcp() {
    let truncate = |query: Packet<'_>| {
        let mut reply = query.into_reply();
        reply.set_flags(PacketFlag::TRUNCATION);
        vec![reply.build_bytes_vec().unwrap()]
    };
    // The system picks the UDP port; the TCP port of the same number is free but for bad luck.
    let (address, listener) = (0..10)
        .map(|_| server(truncate))
        .find_map(|address| TcpListener::bind(address).ok().map(|listener| (address, listener)))
        .unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut len = [0; 2];
        stream.read_exact(&mut len).unwrap();
        let mut query = vec![0; usize::from(u16::from_be_bytes(len))];
        stream.read_exact(&mut query).unwrap();
        let long = "long ".repeat(40);
        let answer = reply(Packet::parse(&query).unwrap(), &vec![&[long.as_str()][..]; 20]);
        stream.write_all(&u16::try_from(answer.len()).unwrap().to_be_bytes()).unwrap();
        stream.write_all(&answer).unwrap();
    });
    let Ok(Answer::Txt(records)) = txt(&Resolver::with_servers(vec![address]), "a.example") else { panic!() };
    assert_eq!((records.len(), records[0].len()), (20, 200));
}

#[test]
fn literal_addresses_need_no_server_and_families_are_kept_apart() {
    let resolver = Resolver::with_servers(vec![]);
    let ip = IpAddr::from([127, 0, 0, 1]);
    assert_eq!(look_up(&resolver, Query::Ip("127.0.0.1".into())), Ok(Answer::Ips(vec![ip])));
    let error = look_up(&resolver, Query::Ip6("127.0.0.1".into())).unwrap_err();
    assert_eq!(error.kind, IoErrorKind::NotFound);
    assert_eq!(txt(&resolver, "a.example").unwrap_err().kind, IoErrorKind::Other);
}

#[test]
fn many_lookups_share_few_threads_and_too_many_are_refused() {
    let resolver = Resolver::with_servers(vec![server(|_| vec![])]);
    let (sender, receiver) = mpsc::channel();
    for _ in 0..WORKERS + QUEUE + 10 {
        let sender = sender.clone();
        resolver.resolve(Query::Txt("a.example".into()), move |result| drop(sender.send(result)));
        assert!(resolver.0.lock().workers <= WORKERS);
    }
    assert_eq!(receiver.try_recv().unwrap().unwrap_err().message, "too many name lookups at once");
}
