//! The test suite of the drivers, on mio.

use peerwork::Config;
use peerwork_driver::{Handle, Options, StartError, suite::Runtime};

struct Mio;

impl Runtime for Mio {
    fn start_with(config: Config, options: Options) -> Result<Handle, StartError> {
        peerwork_mio::spawn_thread_with(config, options)
    }
}

peerwork_driver::parity_suite!(Mio);
