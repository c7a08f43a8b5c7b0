//! The drivers, each as a [`Runtime`] that tests can be written over.

use std::sync::LazyLock;

use peerwork::Config;
use peerwork_driver::{Handle, Options, StartError, suite::Runtime};

/// `peerwork-tokio`, on a runtime of several threads that all tests of a process share.
#[derive(Debug)]
pub struct Tokio;

impl Runtime for Tokio {
    fn start_with(config: Config, options: Options) -> Result<Handle, StartError> {
        static RUNTIME: LazyLock<tokio::runtime::Runtime> =
            LazyLock::new(|| tokio::runtime::Runtime::new().expect("a tokio runtime"));
        let _guard = RUNTIME.enter();
        peerwork_tokio::spawn_with(config, options)
    }
}

/// `peerwork-smol`, each node on a thread of its own.
#[derive(Debug)]
pub struct Smol;

impl Runtime for Smol {
    fn start_with(config: Config, options: Options) -> Result<Handle, StartError> {
        peerwork_smol::spawn_thread_with(config, options)
    }
}

/// `peerwork-mio`, each node on a thread of its own.
#[derive(Debug)]
pub struct Mio;

impl Runtime for Mio {
    fn start_with(config: Config, options: Options) -> Result<Handle, StartError> {
        peerwork_mio::spawn_thread_with(config, options)
    }
}
