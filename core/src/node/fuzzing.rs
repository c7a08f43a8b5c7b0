//! A node that answers nothing by itself, so that an application can play every protocol, and play it badly.

use super::Node;
use crate::time::Time;

impl Node {
    /// Forgets every registered protocol, those of the node's own machines too.
    pub fn forget_protocols(&mut self, now: Time) {
        self.hub.advance(now);
        for protocol in self.hub.local.protocols.clone() {
            self.hub.remove_protocol(&protocol);
        }
        self.run();
    }
}
