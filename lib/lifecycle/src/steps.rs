//! Names for the moments between two changes on disk, so that tests can end the process at each of them.

/// Whom to tell in a test that runs for this alone.
#[cfg(test)]
pub(crate) static TOLD: std::sync::OnceLock<Box<dyn Fn(&'static str) + Send + Sync>> = std::sync::OnceLock::new();

/// Everything before this step has been done.
pub(crate) fn reached(step: &'static str) {
    #[cfg(test)]
    if let Some(told) = TOLD.get() {
        told(step);
    }
    #[cfg(not(test))]
    let _ = step;
}
