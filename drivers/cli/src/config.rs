//! The configuration file: one table of keys, from which files are read, checked and written.

use std::{
    fmt::Write as _,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use peerwork::{Config, ConfigError};
use peerwork_sim::units;
use toml::de::{DeTable, DeValue};

use crate::{
    addr::{DialAddr, ListenAddr},
    driver::DriverKind,
    failure::Failure,
};

/// Everything that `peerwork run` can be told.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) listen: Vec<ListenAddr>,
    pub(crate) dial: Vec<DialAddr>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) driver: DriverKind,
    pub(crate) echo: bool,
    pub(crate) node: Config,
}

impl Default for Settings {
    fn default() -> Self {
        let anywhere = "/ip4/0.0.0.0/udp/0/quic-v1".parse::<ListenAddr>();
        Self {
            listen: anywhere.into_iter().collect(),
            dial: Vec::new(),
            key: None,
            driver: DriverKind::default(),
            echo: false,
            node: Config::default(),
        }
    }
}

/// One key of the file.
struct Key {
    /// The table it is in, empty for the top.
    section: &'static str,
    name: &'static str,
    doc: &'static str,
    /// As TOML; `None` if it has no value and cannot be written.
    get: fn(&Settings) -> Option<String>,
    set: fn(&mut Settings, &DeValue<'_>) -> Result<(), String>,
}

impl Key {
    fn path(&self) -> String {
        if self.section.is_empty() { self.name.into() } else { format!("{}.{}", self.section, self.name) }
    }
}

macro_rules! keys {
    ($($section:literal { $($name:ident: $kind:ident $($path:ident).+, $doc:literal;)* })*) => {
        const KEYS: &[Key] = &[$($(
            Key {
                section: $section,
                name: stringify!($name),
                doc: $doc,
                get: |settings| $kind::show(&settings.$($path).+),
                set: |settings, value| {
                    settings.$($path).+ = $kind::read(value)?;
                    Ok(())
                },
            },
        )*)*];
    };
}

keys! {
    "" {
        listen: Plain listen, "Addresses to listen on: multiaddrs or IP:PORT; port 0 means any. None: only dial.";
        key: Plain key, "The file of the private key; made if it is missing. Without it the peer has a new id each time.";
        driver: Plain driver, "What moves the packets: tokio, smol or mio.";
        echo: Plain echo, "Serve /echo/1.0.0: send back whatever comes.";
        serve_perf: Plain node.serve_perf, "Serve /perf/1.0.0: send any peer as many bytes as it asks for.";
        agent_version: Plain node.agent_version, "Software and version, as told to peers. At most 128 bytes.";
        protocol_version: Plain node.protocol_version, "Protocol family, as told to peers. At most 128 bytes.";
    }
    "quic" {
        idle_timeout: Plain node.quic.idle_timeout, "A connection on which nothing is heard for this long is dead. 1s to 24h.";
        keep_alive: Plain node.quic.keep_alive, "Silence after which a keep-alive is sent, less than idle_timeout; \"off\" lets idle connections die.";
        initial_streams: Plain node.quic.initial_streams, "Streams that a peer may have open at once, at the start of a connection.";
        max_streams: Plain node.quic.max_streams, "The same for a peer that uses them: the allowance doubles up to this. At most 65536.";
        stream_window: Bytes node.quic.stream_window, "Bytes that a peer may send on a stream beyond what was read. From 16KiB to 2MiB.";
        connection_window: Bytes node.quic.connection_window, "The same for a connection. At most 1GiB.";
        send_window: Bytes node.quic.send_window, "Bytes written and not yet acknowledged, for each connection. 16KiB to 1GiB.";
        mtu_discovery: Plain node.quic.mtu_discovery, "Search for larger packets than 1200 bytes.";
        retry_above: Plain node.quic.retry_above, "Incoming handshakes from which on newcomers must prove their address first.";
        address_discovery: Plain node.quic.address_discovery, "Tell peers the address that we see them at, and listen to theirs.";
    }
    "limits" {
        pending_in: Plain node.limits.pending_in, "Incoming handshakes under way. At most 65536.";
        pending_out: Plain node.limits.pending_out, "Dials and outgoing handshakes under way.";
        established_in: Plain node.limits.established_in, "Connections that peers opened.";
        established_out: Plain node.limits.established_out, "Connections that this peer opened.";
        established: Plain node.limits.established, "Connections in all.";
        per_peer: Plain node.limits.per_peer, "Connections to one peer.";
    }
    "dial" {
        peers: Plain dial, "Peers to connect to, and to connect to again when they are lost, as with --dial.";
        timeout: Plain node.dial.timeout, "Time for a whole dial, names and all addresses.";
        attempt_timeout: Plain node.dial.attempt_timeout, "Time for one address.";
        stagger: Plain node.dial.stagger, "Head start of an address before the next is tried beside it.";
    }
    "identify" {
        timeout: Plain node.identify.timeout, "Time for one exchange.";
        push_delay: Plain node.identify.push_delay, "Changes of addresses and protocols within this time are told together.";
    }
    "ping" {
        interval: Plain node.ping.interval, "Time between pings on each connection; \"off\" sends none.";
        timeout: Plain node.ping.timeout, "A ping without an answer within this has failed.";
        max_unanswered: Plain node.ping.max_unanswered, "Pings in a row without an answer after which a connection is closed; 0 never closes it.";
    }
}

/// How a value of the type `T` is written in TOML.
trait Kind<T> {
    fn show(value: &T) -> Option<String>;
    fn read(value: &DeValue<'_>) -> Result<T, String>;
}

/// As its type suggests.
enum Plain {}
/// A number of bytes.
enum Bytes {}

fn quoted(text: &str) -> String {
    // JSON's escapes are TOML's, too.
    serde_json::Value::from(text).to_string()
}

fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        other => format!("a {}", other.type_str()),
    }
}

fn integer<T: TryFrom<i128>>(value: &DeValue<'_>) -> Result<T, String> {
    let refused = || format!("expected a whole number from 0, found {}", found(value));
    let number = value.as_integer().ok_or_else(refused)?;
    let number = i128::from_str_radix(number.as_str(), number.radix()).map_err(|_| refused())?;
    T::try_from(number).map_err(|_| refused())
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Kind<$type> for Plain {
            fn show(value: &$type) -> Option<String> {
                Some(value.to_string())
            }

            fn read(value: &DeValue<'_>) -> Result<$type, String> {
                integer(value)
            }
        }
    )*};
}

integers!(u32, usize);

macro_rules! sizes {
    ($($type:ty),*) => {$(
        impl Kind<$type> for Bytes {
            fn show(value: &$type) -> Option<String> {
                Some(quoted(&units::show_size((*value).into())))
            }

            fn read(value: &DeValue<'_>) -> Result<$type, String> {
                match value.as_str() {
                    Some(text) => units::size(text)?.try_into().map_err(|_| format!("{text} is too much")),
                    None => integer(value),
                }
            }
        }
    )*};
}

sizes!(u32, u64);

impl Kind<bool> for Plain {
    fn show(value: &bool) -> Option<String> {
        Some(value.to_string())
    }

    fn read(value: &DeValue<'_>) -> Result<bool, String> {
        value.as_bool().ok_or_else(|| format!("expected true or false, found {}", found(value)))
    }
}

fn text<'a>(value: &'a DeValue<'_>, what: &str) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| format!("expected {what} in quotation marks, found {}", found(value)))
}

impl Kind<String> for Plain {
    fn show(value: &String) -> Option<String> {
        Some(quoted(value))
    }

    fn read(value: &DeValue<'_>) -> Result<String, String> {
        text(value, "text").map(str::to_owned)
    }
}

impl Kind<DriverKind> for Plain {
    fn show(value: &DriverKind) -> Option<String> {
        Some(quoted(value.name()))
    }

    fn read(value: &DeValue<'_>) -> Result<DriverKind, String> {
        text(value, "tokio, smol or mio")?.parse()
    }
}

impl Kind<Option<PathBuf>> for Plain {
    fn show(value: &Option<PathBuf>) -> Option<String> {
        value.as_ref().map(|path| quoted(&path.to_string_lossy()))
    }

    fn read(value: &DeValue<'_>) -> Result<Option<PathBuf>, String> {
        text(value, "a path").map(|path| Some(path.into()))
    }
}

impl Kind<Duration> for Plain {
    fn show(value: &Duration) -> Option<String> {
        Some(quoted(&units::show_duration(*value)))
    }

    fn read(value: &DeValue<'_>) -> Result<Duration, String> {
        match value {
            DeValue::String(text) => units::duration(text),
            DeValue::Integer(number) if number.radix() == 10 => units::duration(number.as_str()),
            DeValue::Float(number) => units::duration(number.as_str()),
            other => Err(format!("expected a duration such as \"30s\" or seconds, found {}", found(other))),
        }
    }
}

impl Kind<Option<Duration>> for Plain {
    fn show(value: &Option<Duration>) -> Option<String> {
        value.as_ref().map_or_else(|| Some("\"off\"".into()), Plain::show)
    }

    fn read(value: &DeValue<'_>) -> Result<Option<Duration>, String> {
        if value.as_str() == Some("off") || value.as_bool() == Some(false) {
            return Ok(None);
        }
        Plain::read(value).map(Some)
    }
}

macro_rules! address_lists {
    ($($type:ty),*) => {$(
        impl Kind<Vec<$type>> for Plain {
            fn show(value: &Vec<$type>) -> Option<String> {
                let items: Vec<String> = value.iter().map(|address| quoted(&address.to_string())).collect();
                Some(format!("[{}]", items.join(", ")))
            }

            fn read(value: &DeValue<'_>) -> Result<Vec<$type>, String> {
                let address = |value: &DeValue<'_>| {
                    let address = text(value, "an address")?;
                    address.parse().map_err(|error| format!("{address}: {error}"))
                };
                match value.as_array() {
                    Some(items) => items.iter().map(|item| address(item.get_ref())).collect(),
                    None => Ok(vec![address(value)?]),
                }
            }
        }
    )*};
}

address_lists!(ListenAddr, DialAddr);

/// Where in the file a key was set.
type Places = Vec<(&'static Key, Range<usize>)>;

/// Reads a file over `settings`.
pub(crate) fn load(path: &Path, settings: &mut Settings) -> Result<(), Failure> {
    let shown = path.display();
    let content = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("cannot read the configuration {shown}: {error}")))?;
    apply(&content, settings).map_err(|wrong| {
        let before = content.get(..wrong.at).unwrap_or(&content);
        let line = before.matches('\n').count() + 1;
        Failure::new(format!("{shown}:{line}: {}", wrong.words))
    })
}

/// What is wrong with a file, and at which byte.
#[derive(Debug)]
struct Wrong {
    at: usize,
    words: String,
}

fn apply(content: &str, settings: &mut Settings) -> Result<(), Wrong> {
    let file = DeTable::parse(content).map_err(|error| Wrong {
        at: error.span().map_or(0, |span| span.start),
        words: error.message().lines().collect::<Vec<_>>().join("; "),
    })?;
    let mut places = Places::new();
    for (name, value) in file.get_ref() {
        let (at, name) = (name.span(), name.get_ref().as_ref());
        match (value.get_ref(), sections().find(|section| *section == name && !name.is_empty())) {
            (DeValue::Table(table), Some(section)) => {
                for (name, value) in table {
                    set(settings, section, (name.get_ref(), name.span()), value.get_ref(), &mut places)?;
                }
            }
            (DeValue::Table(_), None) => return Err(unknown_section(name, at.start)),
            (value, _) => set(settings, "", (name, at), value, &mut places)?,
        }
    }
    settings.node.validate().map_err(|error| {
        let place = places.iter().find(|(key, _)| match &error {
            ConfigError::OutOfRange { field, .. } => key.path() == *field,
            _ => false,
        });
        Wrong { at: place.map_or(0, |(_, span)| span.start), words: error.to_string() }
    })
}

fn sections() -> impl Iterator<Item = &'static str> {
    let mut last = "";
    KEYS.iter().map(|key| key.section).filter(move |section| {
        let new = *section != last;
        last = section;
        new
    })
}

fn set(
    settings: &mut Settings,
    section: &'static str,
    (name, at): (&str, Range<usize>),
    value: &DeValue<'_>,
    places: &mut Places,
) -> Result<(), Wrong> {
    let Some(key) = KEYS.iter().find(|key| key.section == section && key.name == name) else {
        return Err(unknown_key(section, name, at.start));
    };
    (key.set)(settings, value).map_err(|words| Wrong { at: at.start, words: format!("`{name}`: {words}") })?;
    places.push((key, at));
    Ok(())
}

fn place(section: &str) -> String {
    if section.is_empty() { "at the top of the file".into() } else { format!("in [{section}]") }
}

fn unknown_key(section: &str, name: &str, at: usize) -> Wrong {
    // The same name elsewhere is the nearest; then a similar one here; then a similar one anywhere.
    let rank = |key: &&Key| (distance(key.name, name), key.section != section);
    let nearest = KEYS.iter().min_by_key(rank).filter(|key| distance(key.name, name) <= 1 + name.len() / 3);
    let hint = match nearest {
        Some(key) if key.section == section => format!("did you mean `{}`?", key.name),
        Some(key) => format!("did you mean `{}` {}?", key.name, place(key.section)),
        None => "`peerwork run --print-config` lists all keys".into(),
    };
    Wrong { at, words: format!("unknown key `{name}` {}; {hint}", place(section)) }
}

fn unknown_section(name: &str, at: usize) -> Wrong {
    let named = sections().filter(|section| !section.is_empty());
    let nearest = named.min_by_key(|section| distance(section, name)).unwrap_or_default();
    let hint = if distance(nearest, name) <= 1 + name.len() / 3 {
        format!("did you mean [{nearest}]?")
    } else {
        "`peerwork run --print-config` lists all tables and keys".into()
    };
    Wrong { at, words: format!("unknown table [{name}]; {hint}") }
}

/// Letters to insert, delete or replace to make one word the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in b.iter().enumerate() {
            let cost = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// The settings as a file that explains itself.
pub(crate) fn print(settings: &Settings) -> String {
    let mut text = String::from(
        "# Configuration of `peerwork run --config FILE`. Every key may be left out; what is given on the command line\n\
         # counts more. Durations are seconds or \"250ms\", \"30s\", \"5m\", \"1h\"; sizes are bytes or \"64KiB\", \"10MB\".\n",
    );
    let mut section = "";
    for key in KEYS {
        if key.section != section {
            section = key.section;
            let _ = write!(text, "\n[{section}]\n");
        } else if section.is_empty() {
            text.push('\n');
        }
        let value = (key.get)(settings);
        let _ = match value {
            Some(value) => writeln!(text, "# {}\n{} = {value}", key.doc, key.name),
            None => writeln!(text, "# {}\n# {} = \"peerwork.key\"", key.doc, key.name),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(content: &str) -> Result<Settings, Wrong> {
        let mut settings =
            Settings { node: Config { agent_version: "x".into(), ..Config::default() }, ..Settings::default() };
        apply(content, &mut settings).map(|()| settings)
    }

    fn same(a: &Settings, b: &Settings) {
        for key in KEYS {
            assert_eq!((key.get)(a), (key.get)(b), "{}", key.path());
        }
    }

    #[test]
    fn what_is_printed_parses_back_to_the_default() {
        same(&applied(&print(&Settings::default())).unwrap(), &Settings::default());
    }

    #[test]
    fn what_is_printed_parses_back_to_what_it_was() {
        let mut settings = Settings { key: Some("a \"file\"\\name".into()), ..Settings::default() };
        settings.dial = vec!["127.0.0.1:4001".parse().unwrap(), "[::1]:4001".parse().unwrap()];
        settings.listen.clear();
        settings.driver = DriverKind::Mio;
        settings.echo = true;
        settings.node.quic.keep_alive = None;
        settings.node.ping.interval = Some(Duration::from_millis(1_500));
        settings.node.quic.stream_window = 70_001;
        same(&applied(&print(&settings)).unwrap(), &settings);
    }

    #[test]
    fn every_field_of_the_configuration_has_a_key() {
        // A field that is added makes this fail to compile; then it needs a key.
        let Config {
            platform: _,
            identity: _,
            agent_version: _,
            protocol_version: _,
            quic,
            limits,
            dial,
            identify,
            ping,
            serve_perf: _,
        } = Config::default();
        let peerwork::config::QuicConfig {
            idle_timeout: _,
            keep_alive: _,
            initial_streams: _,
            max_streams: _,
            stream_window: _,
            connection_window: _,
            send_window: _,
            mtu_discovery: _,
            retry_above: _,
            address_discovery: _,
        } = quic;
        let peerwork::config::ConnectionLimits {
            pending_in: _,
            pending_out: _,
            established_in: _,
            established_out: _,
            established: _,
            per_peer: _,
        } = limits;
        let peerwork::config::DialConfig { timeout: _, attempt_timeout: _, stagger: _ } = dial;
        let peerwork::config::IdentifyConfig { timeout: _, push_delay: _ } = identify;
        let peerwork::config::PingConfig { interval: _, timeout: _, max_unanswered: _ } = ping;
        let of = |section| KEYS.iter().filter(|key| key.section == section).count();
        assert_eq!([of("quic"), of("limits"), of("dial"), of("identify"), of("ping")], [10, 6, 4, 2, 3]);
    }

    #[test]
    fn values_can_be_written_in_several_ways() {
        let settings = applied(
            "listen = \"127.0.0.1:0\"\n[quic]\nidle_timeout = 20.5\nkeep_alive = false\nstream_window = 65_536\n\
             send_window = \"1MiB\"\n[ping]\ninterval = \"2m\"\ntimeout = 3\n",
        )
        .unwrap();
        assert_eq!(settings.listen[0].to_string(), "/ip4/127.0.0.1/udp/0/quic-v1");
        let quic = &settings.node.quic;
        assert_eq!((quic.idle_timeout, quic.keep_alive), (Duration::from_millis(20_500), None));
        assert_eq!((quic.stream_window, quic.send_window), (65_536, 1 << 20));
        assert_eq!(settings.node.ping.interval, Some(Duration::from_secs(120)));
        assert_eq!(settings.node.ping.timeout, Duration::from_secs(3));
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let cases = [
            ("\n\necho = 1", 2, "`echo`: expected true or false, found 1"),
            ("[quic]\nidle_timout = 5", 1, "unknown key `idle_timout` in [quic]; did you mean `idle_timeout`?"),
            (
                "idle_timeout = 5",
                0,
                "unknown key `idle_timeout` at the top of the file; did you mean `idle_timeout` in [quic]?",
            ),
            ("[quick]\n", 0, "unknown table [quick]; did you mean [quic]?"),
            (
                "zzzzzzzz = 5",
                0,
                "unknown key `zzzzzzzz` at the top of the file; `peerwork run --print-config` lists all keys",
            ),
            ("[ping]\ninterval = \"1ms\"", 1, "Config::ping.interval is Some(1ms), but must be from 10 ms to 1 day"),
            ("[dial]\n\ntimeout = 0", 2, "Config::dial.timeout is 0ns, but must be above 0 and at most 1 day"),
            ("driver = \"glommio\"", 0, "`driver`: there is no driver `glommio`; use tokio, smol or mio"),
            ("echo = true\necho = true", 1, "duplicate key"),
            ("[dial]\npeers = [\"127.0.0.1\"]", 1, "`peers`: 127.0.0.1: neither a multiaddr nor host:port"),
        ];
        for (content, line, words) in cases {
            let wrong = applied(content).unwrap_err();
            assert_eq!(content[..wrong.at].matches('\n').count(), line, "{content}");
            assert!(wrong.words.starts_with(words), "{content}: {}", wrong.words);
        }
    }
}
