//! What time it is for a router, where a call does not say.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A clock that never goes backwards.
#[derive(Debug)]
pub(crate) enum Clock {
    /// The system's, and the latest time read from it; nanoseconds.
    System(AtomicU64),
    /// The one that a fleet gives to its router.
    #[cfg(feature = "io")]
    Fleet(kvroute_io::fleet::Clock),
}

impl Default for Clock {
    fn default() -> Self {
        Self::System(AtomicU64::new(0))
    }
}

impl Clock {
    /// Time since 1970.
    pub(crate) fn now(&self) -> Duration {
        match self {
            Self::System(latest) => {
                let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let nanoseconds = u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX);
                let latest = latest.fetch_max(nanoseconds, Ordering::Relaxed);
                Duration::from_nanos(nanoseconds.max(latest))
            }
            #[cfg(feature = "io")]
            Self::Fleet(clock) => clock.now(),
        }
    }
}
