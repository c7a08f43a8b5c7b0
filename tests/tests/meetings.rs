//! Nodes on different drivers meet: the drivers' own suite, once for each pair of them.

mod tokio_and_smol {
    peerwork_driver::parity_suite!(peerwork_tests::drivers::Tokio, peerwork_tests::drivers::Smol);
}

mod smol_and_mio {
    peerwork_driver::parity_suite!(peerwork_tests::drivers::Smol, peerwork_tests::drivers::Mio);
}

mod mio_and_tokio {
    peerwork_driver::parity_suite!(peerwork_tests::drivers::Mio, peerwork_tests::drivers::Tokio);
}
