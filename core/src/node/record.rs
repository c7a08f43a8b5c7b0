//! Where calls meet the pen that writes them down, see [`record`](crate::record).
//!
//! Every method of [`Node`](super::Node) that can change anything begins with `log!`, which costs a branch where nobody
//! records, and nothing without the feature `record`. Those that answer something end in `told!`.

#![cfg_attr(not(feature = "record"), allow(unused_macros))]

use super::Node;
use crate::time::Time;

/// Writes a call down before it is made: `log!(node, time, Variant(..))`, a variant of `record::Call`.
macro_rules! log {
    ($node:expr, $now:expr, $($call:tt)*) => {
        #[cfg(feature = "record")]
        if $node.recorder.is_some() {
            #[allow(unused_imports)]
            use crate::record::Held;
            $node.log($now, &crate::record::Call::$($call)*);
        }
    };
}

/// Takes note of the result of a call.
macro_rules! told {
    ($node:expr, $result:expr) => {{
        let result = $result;
        #[cfg(feature = "record")]
        if let Some(recorder) = &mut $node.recorder {
            recorder.told(&result);
        }
        result
    }};
}

impl Node {
    /// What calls begin with that may come to nothing. The time alone needs no entry, as long as the next one has it.
    pub(crate) fn touch(&mut self, now: Time) {
        #[cfg(feature = "record")]
        if now < self.hub.now {
            log!(self, now, Touch);
        }
        self.hub.advance(now);
    }
}

#[cfg(feature = "record")]
mod recording {
    use bytes::Bytes;

    use crate::{
        config::{Config, ConfigError},
        entropy::{Entropy, Root},
        event::{Read, StreamError, StreamId},
        io::{Output, Transmit, TransmitBuf},
        node::Node,
        record::{Blob, Call, Held, LEFT, Recorder, Sink, Start, hash_of},
        time::{Time, UnixTime},
        transport::stream::Outgoing,
    };

    /// Data that a stream may take.
    pub(in crate::node) struct Offer<'a> {
        check: u16,
        data: Offered<'a>,
    }

    enum Offered<'a> {
        Slice(&'a [u8]),
        Bytes(Bytes),
    }

    impl Node {
        /// A node as [`Node::new`] makes it that writes down everything which happens to it, for
        /// [`Replay`](crate::record::Replay).
        ///
        /// The recording ends, and is complete, with [`stop_recording`](Self::stop_recording) or when the node is
        /// dropped. What it wrote contains the node's private key.
        pub fn recorded(
            config: Config,
            mut entropy: Box<dyn Entropy>,
            now: Time,
            wall: UnixTime,
            sink: Sink,
        ) -> Result<Self, ConfigError> {
            config.validate()?;
            let platform = config.platform.clone().ok_or(ConfigError::NoPlatform)?;
            let root = Root::draw(&mut *entropy);
            let identity = config.identity.as_ref().map(crate::identity::Keypair::encode_protobuf);
            let mut node = Self::with_root(config, &platform, &root, now, wall)?;
            let start = Start {
                library: env!("CARGO_PKG_VERSION").into(),
                config: Held::Ref(&node.hub.config),
                identity: identity.as_ref().map(|bytes| Blob::from(bytes.as_slice())),
                root: root.to_bytes(),
                now,
                wall,
            };
            let recorder = Recorder::new(sink, &start);
            node.begin(recorder);
            node.mark();
            Ok(node)
        }

        /// The node that a log begins with.
        pub(crate) fn replayed(start: &Start<'_>, recorder: Recorder) -> Result<Self, ConfigError> {
            start.config.validate()?;
            let platform = start.config.platform.clone().ok_or(ConfigError::NoPlatform)?;
            let root = Root::from_bytes(start.root);
            let mut node = Self::with_root(Config::clone(&start.config), &platform, &root, start.now, start.wall)?;
            node.begin(recorder);
            Ok(node)
        }

        fn begin(&mut self, mut recorder: Recorder) {
            recorder.told(&self.hub.local.peer_id);
            self.recorder = Some(Box::new(recorder));
        }

        /// Whether the node writes down what happens to it. It stops doing so when the sink wants no more.
        pub fn is_recording(&self) -> bool {
            self.recorder.as_ref().is_some_and(|recorder| recorder.is_on())
        }

        /// Ends a recording. The sink has all of it, and has been dropped, when this returns.
        pub fn stop_recording(&mut self) {
            self.mark();
            self.recorder = None;
        }

        pub(crate) fn recorder(&mut self) -> Option<&mut Recorder> {
            self.recorder.as_deref_mut()
        }

        /// Writes down where the node stands.
        pub(crate) fn mark(&mut self) {
            if self.recorder.is_some() {
                self.log_late(Time::ZERO);
                let state = (self.stats(), self.census(), self.poll_timeout());
                if let Some(recorder) = &mut self.recorder {
                    recorder.mark(hash_of(&mut String::new(), &state, 0));
                }
            }
        }

        /// Writes down what was put off, as far as an entry at `now` would not say it.
        fn log_late(&mut self, now: Time) {
            let Some(recorder) = &mut self.recorder else { return };
            recorder.settle();
            if self.hub.now > recorder.seen() && now < self.hub.now {
                recorder.entry(recorder.check(), self.hub.now, &Call::Touch);
            }
        }

        /// Makes room for an entry at `now`.
        fn prepare(&mut self, now: Time) {
            if self.recorder.as_ref().is_some_and(|recorder| recorder.is_due()) {
                self.mark();
            }
            self.log_late(now);
            if !self.is_recording() {
                self.recorder = None;
            }
        }

        #[cold]
        pub(in crate::node) fn log(&mut self, now: Time, call: &Call<'_>) {
            self.prepare(now);
            if let Some(recorder) = &mut self.recorder {
                recorder.entry(recorder.check(), now, call);
            }
        }

        pub(in crate::node) fn log_output(&mut self, output: Option<&Output>) {
            if let Some(recorder) = &mut self.recorder {
                recorder.output(output);
            }
        }

        pub(in crate::node) fn log_poll_transmit(&mut self, now: Time, buf: &TransmitBuf<'_>) {
            let Some(recorder) = &mut self.recorder else { return };
            let max_segments = buf.max_segments.get() as u64;
            if recorder.transmit_goes_on(now, max_segments) {
                return;
            }
            self.prepare(now);
            if let Some(recorder) = &mut self.recorder {
                recorder.transmit_begins(now, max_segments);
            }
        }

        pub(in crate::node) fn log_transmit(&mut self, transmit: Option<&Transmit>, buf: &TransmitBuf<'_>) {
            if let Some(recorder) = &mut self.recorder {
                recorder.transmitted(transmit, buf.data);
            }
        }

        pub(in crate::node) fn log_read(&mut self, result: &Result<Read, StreamError>) {
            if let Some(recorder) = &mut self.recorder {
                match result {
                    Ok(Read::Data(data)) => recorder.told_bytes(data),
                    other => recorder.told(other),
                }
            }
        }

        pub(in crate::node) fn log_taken(&mut self, taken: Option<&Bytes>) {
            if let Some(recorder) = &mut self.recorder {
                recorder.told(&taken.is_some());
                recorder.told_bytes(taken.map(AsRef::as_ref).unwrap_or_default());
            }
        }

        /// Before a write, of which the log is to have what was taken and not all that was offered, again and again.
        pub(in crate::node) fn log_offer<'a>(&mut self, data: &Outgoing<'a>) -> Option<Offer<'a>> {
            self.recorder.as_ref()?;
            self.prepare(self.hub.now);
            let check = self.recorder.as_ref()?.check();
            let data = match data {
                Outgoing::Slice(slice) => Offered::Slice(slice),
                Outgoing::Bytes(bytes) => Offered::Bytes(Bytes::clone(bytes)),
            };
            Some(Offer { check, data })
        }

        /// After it.
        pub(in crate::node) fn log_write(
            &mut self,
            stream: StreamId,
            offer: Option<Offer<'_>>,
            result: &Result<usize, StreamError>,
        ) {
            let (Some(recorder), Some(Offer { check, data })) = (&mut self.recorder, offer) else { return };
            let (data, shared) = match &data {
                Offered::Slice(slice) => (*slice, false),
                Offered::Bytes(bytes) => (bytes.as_ref(), true),
            };
            let taken = result.as_ref().map_or(0, |taken| *taken);
            let (taken, left) = data.split_at_checked(taken).unwrap_or((&[], data));
            let call = Call::Write { stream, shared, taken: taken.into(), left: left.len().min(LEFT) as u64 };
            recorder.entry(check, self.hub.now, &call);
            recorder.told(result);
        }
    }
}
