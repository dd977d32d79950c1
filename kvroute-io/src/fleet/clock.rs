//! The one clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The time that a router is given everywhere: monotonic, and counted from 1970.
///
/// It begins at the wall clock's time, because session tokens say until when they count and other routers, and this
/// one after a restart, have to read that. From then on it only follows the monotonic clock: when somebody sets the
/// wall clock, no request expires.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    /// Wall-clock time of the start, since 1970.
    anchor: Duration,
}

impl Clock {
    /// A clock that begins now.
    #[must_use]
    pub fn new() -> Self {
        // A wall clock before 1970 is not set; then time begins there.
        let anchor = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), anchor }
    }

    /// The `now` of [`Router::dispatch`](kvroute_core::Router::dispatch) and all others.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.anchor.saturating_add(self.start.elapsed())
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_at_the_wall_clock_and_never_goes_back() {
        let wall = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let before = wall();
        let clock = Clock::new();
        let (first, second) = (clock.now(), clock.now());
        assert!(before <= first && first <= second && second <= wall() + Duration::from_secs(1));
    }
}
