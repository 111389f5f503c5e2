//! Names for the moments between two changes on disk or on the remote, so that tests can end a process at each of them.

/// Whom to tell about every step. Outside of tests: nobody.
#[derive(Clone, Default)]
pub struct Steps {
    #[cfg(any(test, feature = "testing"))]
    told: Option<std::sync::Arc<dyn Fn(&'static str) + Send + Sync>>,
}

impl Steps {
    /// Calls `told` with the name of each step when everything before it has been done.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn telling(told: impl Fn(&'static str) + Send + Sync + 'static) -> Self {
        Self { told: Some(std::sync::Arc::new(told)) }
    }

    #[cfg_attr(
        not(any(test, feature = "testing")),
        expect(clippy::unused_self, reason = "there is nobody to tell outside of tests")
    )]
    pub(crate) fn reached(&self, step: &'static str) {
        #[cfg(any(test, feature = "testing"))]
        if let Some(told) = &self.told {
            told(step);
        }
        #[cfg(not(any(test, feature = "testing")))]
        let _ = step;
    }
}

impl std::fmt::Debug for Steps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Steps")
    }
}
