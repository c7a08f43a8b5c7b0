//! The test suite of the drivers, on smol.

use peerwork::Config;
use peerwork_driver::{Handle, StartError, suite::Runtime};

struct Smol;

impl Runtime for Smol {
    fn start(config: Config) -> Result<Handle, StartError> {
        peerwork_smol::spawn_thread(config)
    }
}

peerwork_driver::parity_suite!(Smol);
