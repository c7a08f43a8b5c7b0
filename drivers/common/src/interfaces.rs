//! The addresses of this machine, which turn a wildcard listener into addresses that others can dial.
//!
//! Operating systems tell of changes in incompatible ways; reading the list every [`INTERVAL`] costs less than it
//! takes to explain them, and is done only while a socket is bound to a wildcard address.

use std::{net::IpAddr, time::Duration};

use if_addrs::IfOperStatus;
use peerwork::Time;

/// Time between two readings of the list.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);

/// Watches the list of addresses.
#[derive(Debug, Default)]
pub(crate) struct Interfaces {
    last: Option<Vec<IpAddr>>,
    next: Time,
}

impl Interfaces {
    /// When the list is due to be read again.
    pub(crate) fn due(&self) -> Time {
        self.next
    }

    /// Makes the next [`poll`](Self::poll) read the list.
    pub(crate) fn expire(&mut self) {
        self.next = Time::ZERO;
    }

    /// Reads the list if it is due. Returns it if it is not what it was.
    pub(crate) fn poll(&mut self, now: Time) -> Option<Vec<IpAddr>> {
        if now < self.next {
            return None;
        }
        self.next = now + INTERVAL;
        match read() {
            Ok(list) => self.changed(list),
            Err(error) => {
                tracing::debug!(%error, "cannot list the addresses of this machine");
                None
            }
        }
    }

    fn changed(&mut self, list: Vec<IpAddr>) -> Option<Vec<IpAddr>> {
        if self.last.as_ref() == Some(&list) {
            return None;
        }
        self.last = Some(list.clone());
        Some(list)
    }
}

/// All addresses of interfaces that are not down, sorted so that an order which changes is not a change. Many virtual
/// interfaces and some systems' loopback do not say that they are up.
fn read() -> std::io::Result<Vec<IpAddr>> {
    let down = |status: &IfOperStatus| {
        matches!(status, IfOperStatus::Down | IfOperStatus::NotPresent | IfOperStatus::LowerLayerDown)
    };
    let interfaces = if_addrs::get_if_addrs()?;
    let mut list: Vec<IpAddr> = interfaces.into_iter().filter(|i| !down(&i.oper_status)).map(|i| i.ip()).collect();
    list.sort_unstable();
    list.dedup();
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_told() {
        let mut interfaces = Interfaces::default();
        let one = vec![IpAddr::from([127, 0, 0, 1])];
        assert_eq!(interfaces.changed(one.clone()), Some(one.clone()));
        assert_eq!(interfaces.changed(one), None);
        assert_eq!(interfaces.changed(vec![]), Some(vec![]));
    }

    #[test]
    fn the_list_is_read_once_an_interval() {
        let mut interfaces = Interfaces::default();
        interfaces.poll(Time::from_secs(1));
        assert_eq!(interfaces.due(), Time::from_secs(1) + INTERVAL);
        assert_eq!(interfaces.poll(Time::from_secs(2)), None);
    }
}
