//! The test suite of the drivers, on smol.

use peerwork::Config;
use peerwork_driver::{Handle, Options, StartError, suite::Runtime};

struct Smol;

impl Runtime for Smol {
    fn start_with(config: Config, options: Options) -> Result<Handle, StartError> {
        peerwork_smol::spawn_thread_with(config, options)
    }
}

peerwork_driver::parity_suite!(Smol);
