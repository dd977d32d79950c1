//! Bounds and times of a subscriber.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::SubscribeError;

/// Bounds and times of a [`Subscriber`](super::Subscriber). Fill it with `..SubscriberOptions::default()`: fields may be
/// added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriberOptions {
    /// Threads that poll and apply; streams are spread over them. libzmq adds two for every few hundred
    /// streams.
    pub threads: NonZeroUsize,
    /// Batches a stream may hold while it waits for a replay.
    pub max_held_batches: usize,
    /// Bytes of payload those may have.
    pub max_held_bytes: usize,
    /// Messages that libzmq queues per connection before it stops reading from it (`ZMQ_RCVHWM`). The publisher then
    /// queues on its side, and drops beyond its own mark.
    pub high_water_mark: u16,
    /// The same for a replay. Engines send a replay as fast as they can and drop what does not get through, so this
    /// should be no less than what they keep (`buffer_steps` of vLLM's `KVEventsConfig`: 10 000).
    pub replay_high_water_mark: u16,
    /// Longest frame taken from a peer, bytes; a longer one costs it the connection (`ZMQ_MAXMSGSIZE`). So libzmq
    /// holds at most `high_water_mark` times this for a connection.
    pub max_message_bytes: u32,
    /// First wait before a lost connection, or a socket that could not be opened, is tried again. Doubles.
    pub reconnect_first: Duration,
    /// Longest such wait.
    pub reconnect_longest: Duration,
    /// How often an idle connection is asked whether its peer lives.
    pub heartbeat: Duration,
    /// How long a peer may leave that unanswered before the connection is given up.
    pub heartbeat_timeout: Duration,
    /// How long a replay socket may be silent before the replay counts as failed. Once batches come, a tenth of it:
    /// then the rest is asked for again.
    pub replay_timeout: Duration,
    /// How long a whole replay may take.
    pub replay_limit: Duration,
    /// After a failed replay, how long gaps of this stream are given up without asking again. Doubles with every
    /// failure in a row. A new connection is always asked.
    pub replay_pause_first: Duration,
    /// Longest such pause.
    pub replay_pause_longest: Duration,
}

impl Default for SubscriberOptions {
    /// Two threads; 4096 batches or 8 MiB held; 1000 messages queued, 16 384 of a
    /// replay, of at most 8 MiB (a batch about a million new tokens); waits of 0.1 s to 5 s; heartbeats every 5 s, 15 s of patience; replays of 5 s silence
    /// (vLLM's idle publisher looks for requests every 0.1 s) and 60 s in all; pauses of 1 s to 60 s.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            threads: NonZeroUsize::MIN.saturating_add(1),
            max_held_batches: 4096,
            max_held_bytes: 8 << 20,
            high_water_mark: 1000,
            replay_high_water_mark: 16_384,
            max_message_bytes: 8 << 20,
            reconnect_first: Duration::from_millis(100),
            reconnect_longest: seconds(5),
            heartbeat: seconds(5),
            heartbeat_timeout: seconds(15),
            replay_timeout: seconds(5),
            replay_limit: seconds(60),
            replay_pause_first: seconds(1),
            replay_pause_longest: seconds(60),
        }
    }
}

impl SubscriberOptions {
    /// Longest time that any option takes: what libzmq's heartbeat can tell its peer.
    const LONGEST: Duration = Duration::from_secs(6000);

    /// # Errors
    ///
    /// The option that is out of range.
    pub(super) fn check(&self) -> Result<(), SubscribeError> {
        let times = [
            ("reconnect_first", self.reconnect_first),
            ("reconnect_longest", self.reconnect_longest),
            ("heartbeat", self.heartbeat),
            ("heartbeat_timeout", self.heartbeat_timeout),
            ("replay_timeout", self.replay_timeout),
            ("replay_limit", self.replay_limit),
            ("replay_pause_first", self.replay_pause_first),
            ("replay_pause_longest", self.replay_pause_longest),
        ];
        for (name, time) in times {
            if time < Duration::from_millis(1) || time > Self::LONGEST {
                return Err(SubscribeError::Option(format!(
                    "{name} is {time:?}; 1 ms to 6000 s are possible"
                )));
            }
        }
        let counts = [
            ("max_held_batches", self.max_held_batches),
            ("max_held_bytes", self.max_held_bytes),
            ("high_water_mark", usize::from(self.high_water_mark)),
            ("replay_high_water_mark", usize::from(self.replay_high_water_mark)),
            ("max_message_bytes", self.max_message_bytes as usize),
        ];
        match counts.iter().find(|(_, count)| *count == 0) {
            Some((name, _)) => Err(SubscribeError::Option(format!("{name} is 0"))),
            None => Ok(()),
        }
    }
}

/// Waits that double: after the first failure `first`, at most `longest`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// How long to wait after one more failure.
    pub(super) fn failed(&mut self) -> Duration {
        let wait = self.next.min(self.longest);
        self.next = wait.saturating_mul(2);
        wait
    }

    pub(super) fn succeeded(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew_after_a_success() {
        let seconds = Duration::from_secs;
        let mut backoff = Backoff::new(seconds(1), seconds(5));
        assert_eq!([(); 4].map(|()| backoff.failed()), [1, 2, 4, 5].map(seconds));
        backoff.succeeded();
        assert_eq!(backoff.failed(), seconds(1));
    }

    #[test]
    fn an_option_out_of_range_is_named() {
        assert_eq!(SubscriberOptions::default().check(), Ok(()));
        let silent = SubscriberOptions { heartbeat: Duration::ZERO, ..Default::default() };
        assert!(silent.check().unwrap_err().to_string().contains("heartbeat is 0ns"));
        let none = SubscriberOptions { max_held_batches: 0, ..Default::default() };
        assert!(none.check().unwrap_err().to_string().contains("max_held_batches is 0"));
    }
}
