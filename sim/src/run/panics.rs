//! Panics as findings: caught, with the place where they happened.

use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    sync::Once,
};

/// A panic that was caught.
pub(super) struct Caught {
    /// `file:line`.
    pub(super) place: String,
    pub(super) message: String,
}

thread_local! {
    /// Set while a run is guarded on this thread. It has no influence on the run.
    static GUARDED: RefCell<Option<Option<Caught>>> = const { RefCell::new(None) };
}

/// Runs `work`; a panic in it is caught and not printed.
pub(super) fn guard<R>(work: impl FnOnce() -> R) -> Result<R, Caught> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            let guarded = GUARDED.with(|cell| {
                let mut cell = cell.borrow_mut();
                let Some(caught) = cell.as_mut() else { return false };
                let place = info.location().map_or_else(String::new, |place| {
                    // The folder depends on where the source was built; the end of the path does not.
                    let parts: Vec<&str> = place.file().rsplit(['/', '\\']).take(3).collect();
                    format!("{}:{}", parts.into_iter().rev().collect::<Vec<_>>().join("/"), place.line())
                });
                let payload = info.payload();
                let words = payload.downcast_ref::<&str>().copied();
                let words = words.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
                let message = words.unwrap_or("a panic without words").to_owned();
                *caught = Some(Caught { place, message });
                true
            });
            if !guarded {
                before(info);
            }
        }));
    });
    GUARDED.with(|cell| *cell.borrow_mut() = Some(None));
    let result = catch_unwind(AssertUnwindSafe(work));
    let caught = GUARDED.with(|cell| cell.borrow_mut().take()).flatten();
    result.map_err(|_| caught.unwrap_or_else(|| Caught { place: "an unknown place".into(), message: String::new() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_caught_with_its_place_and_words() {
        let caught = guard(|| assert_eq!(1, 2, "so it is")).err().unwrap();
        assert!(caught.place.contains("run/panics.rs:"), "{}", caught.place);
        assert!(caught.message.contains("so it is"));
        assert!(guard(|| 7).is_ok_and(|seven| seven == 7));
    }
}
