//! The file of a node's log, see [`peerwork::record`].
//!
//! The node writes into memory, under the lock that all its calls are made under; a thread takes what is there to the
//! file, a tenth of a second after it came at the latest. A process that is killed thus leaves a log which lacks that
//! much, and may end in the middle of an entry; a replay goes as far as the log does.
//!
//! When the file cannot be written, or not fast enough, the recording ends there and the node goes on.

use std::{
    fmt, fs,
    io::{self, Write as _},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use peerwork::record::Sink;

/// The longest time that the log stays in memory.
const DELAY: Duration = Duration::from_millis(100);

/// Bytes that are written without waiting for more.
const ENOUGH: usize = 256 * 1024;

/// Bytes that may wait. What comes in faster than the disk takes it would fill the memory.
const TOO_MUCH: usize = 64 * 1024 * 1024;

/// To write a node's log into a file, for [`Options::record`](crate::Options::record).
///
/// The file must not exist, and is made for its owner's eyes only: it holds the node's private key.
#[derive(Clone)]
pub struct Record {
    path: PathBuf,
    on_error: Arc<dyn Fn(&RecordError) + Send + Sync>,
}

impl Record {
    /// Writes into this file.
    pub fn to(path: impl Into<PathBuf>) -> Self {
        let on_error = |error: &RecordError| tracing::error!(%error, "recording ends");
        Self { path: path.into(), on_error: Arc::new(on_error) }
    }

    /// Calls this, once and on another thread, if the recording ends early. Without it, there is a line in the log of
    /// `tracing`.
    #[must_use]
    pub fn on_error(mut self, tell: impl Fn(&RecordError) + Send + Sync + 'static) -> Self {
        self.on_error = Arc::new(tell);
        self
    }

    /// Makes the file and the thread that writes it.
    pub(crate) fn start(self) -> Result<(Recorder, Sink), RecordError> {
        let failed = |error| RecordError { path: self.path.clone(), error };
        let file = create(&self.path).map_err(failed)?;
        let shared = Arc::new(Shared::default());
        let writer = Writer { file, shared: Arc::clone(&shared) };
        let (path, on_error) = (self.path.clone(), self.on_error);
        let thread = thread::Builder::new()
            .name("peerwork-record".into())
            .spawn(move || {
                if let Err(error) = writer.run() {
                    on_error(&RecordError { path, error });
                }
            })
            .map_err(failed)?;
        let pen = Pen(Arc::clone(&shared));
        Ok((Recorder { shared, thread }, Box::new(move |piece| pen.write(piece))))
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Record").field(&self.path).finish()
    }
}

/// Why there is no log of a node, or none from here on.
#[derive(Debug, thiserror::Error)]
#[error("{}", words(path, error))]
pub struct RecordError {
    /// The file.
    pub path: PathBuf,
    /// The operating system's reason.
    #[source]
    pub error: io::Error,
}

fn words(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::AlreadyExists => format!("cannot record to {path}: the file exists; choose another name"),
        _ => format!("cannot record to {path}: {error}"),
    }
}

fn create(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something, there is enough, or the end has come.
    wake: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// More comes than can be written.
    overrun: bool,
    /// The file takes no more.
    failed: bool,
    ended: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the node writes with.
struct Pen(Arc<Shared>);

impl Pen {
    fn write(&self, piece: &[u8]) -> ControlFlow<()> {
        let mut state = self.0.lock();
        if state.waiting.len().saturating_add(piece.len()) > TOO_MUCH {
            state.overrun = true;
        }
        if state.overrun || state.failed {
            return ControlFlow::Break(());
        }
        let before = state.waiting.len();
        state.waiting.extend_from_slice(piece);
        if before == 0 || (before < ENOUGH && state.waiting.len() >= ENOUGH) {
            self.0.wake.notify_one();
        }
        ControlFlow::Continue(())
    }
}

impl Drop for Pen {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.wake.notify_one();
    }
}

struct Writer {
    file: fs::File,
    shared: Arc<Shared>,
}

impl Writer {
    fn run(mut self) -> io::Result<()> {
        let mut pieces = Vec::new();
        loop {
            let (ended, overrun) = {
                let (wake, idle) = (&self.shared.wake, |state: &mut State| state.waiting.is_empty() && !state.ended);
                let state = wake.wait_while(self.shared.lock(), idle).unwrap_or_else(PoisonError::into_inner);
                let few = |state: &mut State| state.waiting.len() < ENOUGH && !state.ended;
                let waited = wake.wait_timeout_while(state, DELAY, few);
                let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
                std::mem::swap(&mut state.waiting, &mut pieces);
                (state.ended, state.overrun)
            };
            if let Err(error) = self.file.write_all(&pieces) {
                self.shared.lock().failed = true;
                return Err(error);
            }
            pieces.clear();
            if overrun {
                return Err(io::Error::other("more happens than can be written; it has what came before"));
            }
            if ended {
                return Ok(());
            }
        }
    }
}

/// The recording of a node.
pub(crate) struct Recorder {
    shared: Arc<Shared>,
    thread: thread::JoinHandle<()>,
}

impl Recorder {
    /// Waits until all is in the file.
    pub(crate) fn finish(self) {
        // The node may be out of reach, if it has panicked.
        self.shared.lock().ended = true;
        self.shared.wake.notify_one();
        // A panic of `on_error` is not this thread's.
        let _ = self.thread.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> PathBuf {
        let random = u64::from_le_bytes(crate::clock::random().unwrap());
        std::env::temp_dir().join(format!("peerwork-{name}-{random:016x}.log"))
    }

    #[test]
    fn what_is_written_is_in_the_file_soon_and_all_of_it_at_the_end() {
        let path = file("soon");
        let (recorder, mut sink) = Record::to(&path).start().unwrap();
        assert!(sink(b"one ").is_continue());
        let begun = std::time::Instant::now();
        while fs::read(&path).unwrap().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(10), "nothing was written");
            thread::sleep(Duration::from_millis(5));
        }
        assert!(sink(b"two").is_continue());
        drop(sink);
        recorder.finish();
        assert_eq!(fs::read(&path).unwrap(), b"one two");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_that_exists_is_left_alone() {
        let path = file("exists");
        fs::write(&path, "precious").unwrap();
        let error = Record::to(&path).start().map(drop).unwrap_err();
        assert!(error.to_string().contains("the file exists; choose another name"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_file(path).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_ends_the_recording_and_says_so_once() {
        let shared = Arc::new(Shared::default());
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let pen = Pen(Arc::clone(&shared));
        let writer = Writer { file: full, shared };
        assert!(pen.write(b"something").is_continue());
        let error = writer.run().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(pen.write(b"more").is_break());
    }
}
