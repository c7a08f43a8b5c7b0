//! A minimal DNS client for TXT records, which the system's resolver functions do not give.
//!
//! It asks the recursive servers that the system is configured with, over UDP with a random query id from a port of
//! the system's choosing, and over TCP when an answer does not fit (RFC 1035 §4.2, RFC 7766). An answer counts if it
//! comes from the server asked and repeats id and question; anything else on the port is ignored. No caching, no
//! search domains, no DNSSEC: the addresses found lead to peers that prove who they are.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use peerwork::io::{IoError, IoErrorKind};
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE, rdata::RData};

use crate::{clock::random, udp::io_error};

/// Servers asked. `resolv.conf` takes three.
const SERVERS: usize = 3;

/// Times that each server is asked.
const ROUNDS: usize = 2;

/// Records used of one answer.
const RECORDS: usize = 256;

/// Longest record used, its strings joined.
const RECORD_LEN: usize = 4096;

/// Datagrams looked at for one query. More mean that somebody is guessing.
const GUESSES: usize = 64;

/// The TXT records of a name.
pub(crate) fn txt(name: &str, servers: &[SocketAddr], deadline: Instant) -> Result<Vec<String>, IoError> {
    if servers.is_empty() {
        return Err(IoError::new(IoErrorKind::Other, "no name servers are known; is there an /etc/resolv.conf?"));
    }
    let servers = &servers[..servers.len().min(SERVERS)];
    let mut last = IoError::new(IoErrorKind::TimedOut, "the name servers do not answer");
    let attempts = servers.len() * ROUNDS;
    for (done, server) in servers.iter().cycle().take(attempts).enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        // The time left is shared among the attempts left, so a server that is down leaves time for the others.
        let share = left / u32::try_from(attempts - done).unwrap_or(1);
        match ask(name, *server, Instant::now() + share) {
            Ok(records) => return Ok(records),
            Err(error) if error.kind == IoErrorKind::NotFound => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The name servers of this machine.
pub(crate) fn system_servers() -> Vec<SocketAddr> {
    if cfg!(unix) {
        // Without the file, or without a server in it, resolv.conf(5) says to ask the local machine.
        let servers = parse_servers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
        if servers.is_empty() { vec![(Ipv4Addr::LOCALHOST, 53).into()] } else { servers }
    } else {
        Vec::new()
    }
}

fn parse_servers(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
        // A scope names an interface; std takes only numbers, and such servers are rare enough to be left out.
        address.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 53))
    };
    text.lines().filter_map(server).collect()
}

fn ask(name: &str, server: SocketAddr, deadline: Instant) -> Result<Vec<String>, IoError> {
    let id = u16::from_le_bytes(random().map_err(|error| io_error(&error))?);
    let query = query(id, name)?;
    let io = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            IoError::new(IoErrorKind::TimedOut, format!("the name server {server} does not answer"))
        }
        _ => io_error(&error),
    };
    match over_udp(&query, id, name, server, deadline).map_err(io)? {
        Reply::Records(result) => result,
        Reply::Truncated => match over_tcp(&query, id, name, server, deadline).map_err(io)? {
            Reply::Records(result) => result,
            Reply::Truncated | Reply::Foreign => Err(bad_answer(server)),
        },
        Reply::Foreign => Err(bad_answer(server)),
    }
}

fn bad_answer(server: SocketAddr) -> IoError {
    IoError::new(IoErrorKind::Other, format!("the name server {server} does not answer what was asked"))
}

fn query(id: u16, name: &str) -> Result<Vec<u8>, IoError> {
    let bad =
        |error| IoError::new(IoErrorKind::Other, format!("{name:?} is not a name that can be asked for: {error}"));
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(Name::new(name).map_err(bad)?, TYPE::TXT.into(), CLASS::IN.into(), false));
    packet.build_bytes_vec().map_err(bad)
}

fn over_udp(query: &[u8], id: u16, name: &str, server: SocketAddr, deadline: Instant) -> io::Result<Reply> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    // A connected socket receives from this server alone.
    socket.connect(server)?;
    socket.send(query)?;
    let mut buffer = [0; 4096];
    for _ in 0..GUESSES {
        socket.set_read_timeout(Some(remaining(deadline)?))?;
        let len = socket.recv(&mut buffer)?;
        match parse(&buffer[..len], id, name) {
            Reply::Foreign => {}
            reply => return Ok(reply),
        }
    }
    Ok(Reply::Foreign)
}

fn over_tcp(query: &[u8], id: u16, name: &str, server: SocketAddr, deadline: Instant) -> io::Result<Reply> {
    let mut stream = TcpStream::connect_timeout(&server, remaining(deadline)?)?;
    let len = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.set_write_timeout(Some(remaining(deadline)?))?;
    stream.write_all(&[&len.to_be_bytes(), query].concat())?;
    let mut len = [0; 2];
    read_exact(&mut stream, &mut len, deadline)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
    read_exact(&mut stream, &mut answer, deadline)?;
    Ok(parse(&answer, id, name))
}

/// Unlike the method of this name in std, this ends at a deadline even if bytes keep dripping in.
fn read_exact(stream: &mut TcpStream, mut buffer: &mut [u8], deadline: Instant) -> io::Result<()> {
    while !buffer.is_empty() {
        stream.set_read_timeout(Some(remaining(deadline)?))?;
        match stream.read(buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            len => buffer = &mut buffer[len..],
        }
    }
    Ok(())
}

/// The time left, which is not zero.
fn remaining(deadline: Instant) -> io::Result<Duration> {
    Some(deadline.saturating_duration_since(Instant::now()))
        .filter(|left| !left.is_zero())
        .ok_or_else(|| io::ErrorKind::TimedOut.into())
}

enum Reply {
    /// An answer to the question.
    Records(Result<Vec<String>, IoError>),
    /// The answer does not fit into a datagram.
    Truncated,
    /// Not an answer to the question.
    Foreign,
}

fn parse(data: &[u8], id: u16, name: &str) -> Reply {
    let Ok(packet) = Packet::parse(data) else { return Reply::Foreign };
    let asked = Name::new(name).is_ok_and(|name| {
        matches!(&packet.questions[..], [question] if same_name(&question.qname, &name)
            && question.qtype == TYPE::TXT.into() && question.qclass == CLASS::IN.into())
    });
    if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) || !asked {
        return Reply::Foreign;
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Reply::Truncated;
    }
    let nothing = |text| Err(IoError::new(IoErrorKind::NotFound, format!("{name} {text}")));
    Reply::Records(match packet.rcode() {
        RCODE::NoError => {
            let records = packet.answers.into_iter().filter_map(|record| match record.rdata {
                RData::TXT(txt) => String::try_from(txt).ok().filter(|text| text.len() <= RECORD_LEN),
                _ => None,
            });
            let records: Vec<String> = records.take(RECORDS).collect();
            if records.is_empty() { nothing("has no TXT records") } else { Ok(records) }
        }
        RCODE::NameError => nothing("does not exist"),
        code => Err(IoError::new(IoErrorKind::Other, format!("the name server failed on {name} ({code:?})"))),
    })
}

/// Names are compared without regard to ASCII case (RFC 4343).
fn same_name(a: &Name<'_>, b: &Name<'_>) -> bool {
    a.as_bytes().count() == b.as_bytes().count()
        && a.as_bytes().zip(b.as_bytes()).all(|(a, b)| a.eq_ignore_ascii_case(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_found_between_other_lines() {
        let text =
            "# comment\nsearch example\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 \nnameserver fe80::1%eth0\n";
        let expected: Vec<SocketAddr> = vec!["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap()];
        assert_eq!(parse_servers(text), expected);
    }

    #[test]
    fn only_an_answer_to_the_question_counts() {
        let query = query(7, "a.example").unwrap();
        assert!(matches!(parse(&query, 7, "a.example"), Reply::Foreign), "a query is no answer");
        let reply = Packet::parse(&query).unwrap().into_reply().build_bytes_vec().unwrap();
        assert!(matches!(parse(&reply, 7, "A.Example"), Reply::Records(Err(_))));
        assert!(matches!(parse(&reply, 8, "a.example"), Reply::Foreign));
        assert!(matches!(parse(&reply, 7, "b.example"), Reply::Foreign));
        assert!(matches!(parse(b"garbage", 7, "a.example"), Reply::Foreign));
    }

    #[test]
    fn a_name_that_cannot_be_asked_for_is_refused() {
        assert!(query(1, &"x".repeat(300)).is_err());
    }
}
