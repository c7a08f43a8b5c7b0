//! Bugs that the simulator plants to see whether it finds them. Without the feature `simulation` there are none, and asking
//! for one costs nothing.

#![cfg_attr(not(feature = "simulation"), expect(unreachable_pub, reason = "they are shown with the feature only"))]

/// A bug that can be planted. Each stands for a kind that has happened in stacks like this.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Bug {
    /// A connection sets no timer for a deadline that is more than five seconds away.
    LostWakeUp = 1,
    /// Pings that time out leave an entry behind for ever.
    UnboundedQueue = 2,
    /// A request that arrives while another is being served is delivered twice.
    DoubleDelivery = 4,
    /// A node with three connections or more takes ten times as long to give a dial up.
    WrongTimeout = 8,
}

/// The bugs of a node.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Bugs {
    #[cfg(feature = "simulation")]
    planted: u8,
}

impl Bugs {
    /// Whether this one is planted.
    #[cfg_attr(not(feature = "simulation"), expect(clippy::unused_self))]
    pub(crate) const fn has(self, bug: Bug) -> bool {
        #[cfg(feature = "simulation")]
        return self.planted & bug as u8 != 0;
        #[cfg(not(feature = "simulation"))]
        {
            let _ = bug;
            false
        }
    }
}

#[cfg(feature = "simulation")]
impl Bugs {
    /// These, and one more.
    #[must_use]
    pub const fn and(self, bug: Bug) -> Self {
        Self { planted: self.planted | bug as u8 }
    }
}
