//! The test suite of the drivers, on tokio.

use std::sync::LazyLock;

use peerwork::Config;
use peerwork_driver::{Handle, Options, StartError, suite::Runtime};

struct Tokio;

impl Runtime for Tokio {
    fn start_with(config: Config, options: Options) -> Result<Handle, StartError> {
        static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| tokio::runtime::Runtime::new().unwrap());
        let _guard = RUNTIME.enter();
        peerwork_tokio::spawn_with(config, options)
    }
}

peerwork_driver::parity_suite!(Tokio);
