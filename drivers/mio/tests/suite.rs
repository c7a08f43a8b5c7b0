//! The test suite of the drivers, on mio.

use peerwork::Config;
use peerwork_driver::{Handle, StartError, suite::Runtime};

struct Mio;

impl Runtime for Mio {
    fn start(config: Config) -> Result<Handle, StartError> {
        peerwork_mio::spawn_thread(config)
    }
}

peerwork_driver::parity_suite!(Mio);
