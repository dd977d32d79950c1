//! The socket of one replay: opened to ask, closed at the end, so that no answer is taken for that to another question.

use std::time::Instant;

use super::SubscriberOptions;
use super::message::{Frames, ask_replay};
use super::rooms::{Rooms, Seats};

pub(super) struct ReplaySocket {
    socket: zmq::Socket,
    /// Messages that came.
    received: u64,
    /// When it counts as failed if nothing comes.
    silent_until: Instant,
    /// When it counts as failed in any case.
    ends_by: Instant,
    _seats: Seats,
}

impl ReplaySocket {
    /// Asks the engine at `endpoint` for its batches from `from` on.
    ///
    /// # Errors
    ///
    /// What libzmq says.
    pub(super) fn ask(
        rooms: &mut Rooms,
        endpoint: &str,
        from: u64,
        options: &SubscriberOptions,
        now: Instant,
    ) -> zmq::Result<Self> {
        let seats = rooms.take(1);
        let socket = seats.context.socket(zmq::DEALER)?;
        socket.set_linger(0)?;
        socket.set_rcvhwm(options.replay_high_water_mark.into())?;
        socket.set_maxmsgsize(options.max_message_bytes.into())?;
        socket.set_ipv6(endpoint.contains('['))?;
        socket.connect(endpoint)?;
        // libzmq sends it once it is connected.
        if !ask_replay(&socket, from) {
            return Err(zmq::Error::EAGAIN);
        }
        let (silent_until, ends_by) = (now + options.replay_timeout, now + options.replay_limit);
        Ok(Self { socket, received: 0, silent_until, ends_by, _seats: seats })
    }

    pub(super) fn socket(&self) -> &zmq::Socket {
        &self.socket
    }

    /// The next message that came.
    pub(super) fn receive(&mut self, options: &SubscriberOptions, now: Instant) -> Option<Frames> {
        let frames = Frames::receive(&self.socket)?;
        self.received += 1;
        // Who asked at the last applied batch is further now. Then silence means a replay that was broken off, and
        // asking for the rest is cheap.
        let patience = if self.received < 2 { options.replay_timeout } else { options.replay_timeout / 10 };
        self.silent_until = now + patience;
        Some(frames)
    }

    /// When it counts as failed.
    pub(super) fn deadline(&self) -> Instant {
        self.silent_until.min(self.ends_by)
    }
}
