//! What the messages are made of: batches as they are published and as they are replayed, and what sockets tell of
//! their connections.

use zmq::{DONTWAIT, Message, Socket};

/// A published batch.
#[derive(Debug)]
pub(super) struct Batch {
    /// Its number.
    pub(super) sequence: u64,
    /// Its bytes, as they came.
    pub(super) payload: Message,
}

/// Most frames that any message of ours has.
const MOST_FRAMES: usize = 4;

/// A message: its first frames, and how many it had.
#[derive(Debug, Default)]
pub(super) struct Frames {
    first: Vec<Message>,
    count: usize,
}

impl Frames {
    /// Takes the next message from a socket; `None` if there is none.
    pub(super) fn receive(socket: &Socket) -> Option<Self> {
        let mut frames = Self::default();
        loop {
            // The frames of a message arrive together, so only the first can be waited for.
            let frame = socket.recv_msg(DONTWAIT).ok()?;
            let more = frame.get_more();
            if frames.count < MOST_FRAMES {
                frames.first.push(frame);
            }
            frames.count += 1;
            if !more {
                return Some(frames);
            }
        }
    }

    /// Bytes of the frames that are kept.
    pub(super) fn bytes(&self) -> usize {
        self.first.iter().map(|frame| frame.len()).sum()
    }

    /// Reads `[topic, number, payload]`; `None` if it is not that.
    pub(super) fn published(mut self) -> Option<(Message, Batch)> {
        let (3, Some(payload), Some(number)) = (self.count, self.first.pop(), self.first.pop()) else {
            return None;
        };
        let batch = Batch { sequence: sequence(&number)?, payload };
        Some((self.first.pop()?, batch))
    }

    /// Reads what a replay socket sends: `["", topic, number, payload]` (vLLM 0.26, SGLang 0.5.22 and later) or
    /// `["", number, payload]` (before); `None` if it is neither. The number of the end marker is all ones.
    pub(super) fn replayed(mut self) -> Option<Replayed> {
        let is_delimited = self.first.first().is_some_and(|first| first.is_empty());
        let (true, 3 | 4, Some(payload), Some(number)) =
            (is_delimited, self.count, self.first.pop(), self.first.pop())
        else {
            return None;
        };
        match sequence(&number)? {
            u64::MAX => Some(Replayed::End),
            sequence => Some(Replayed::Batch(Batch { sequence, payload })),
        }
    }

    /// Reads what a socket's monitor says: the event's number and value, then the endpoint.
    pub(super) fn connection(&self) -> Option<Connection> {
        let [event @ .., _, _, _, _] = &**self.first.first()? else { return None };
        let event = u16::from_le_bytes(event.try_into().ok()?);
        let is = |other: zmq::SocketEvent| event == other.to_raw();
        if is(zmq::SocketEvent::ACCEPTED) {
            Some(Connection::Accepted)
        } else if is(zmq::SocketEvent::HANDSHAKE_SUCCEEDED) {
            Some(Connection::Ready)
        } else if is(zmq::SocketEvent::DISCONNECTED) {
            Some(Connection::Lost)
        } else if is(zmq::SocketEvent::CONNECT_RETRIED) {
            Some(Connection::Retried)
        } else {
            None
        }
    }
}

/// What a replay socket sent.
#[derive(Debug)]
pub(super) enum Replayed {
    /// One batch.
    Batch(Batch),
    /// There are no more.
    End,
}

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connection {
    /// Somebody connected to a bound endpoint.
    Accepted,
    /// The peer speaks ZeroMQ; messages can flow.
    Ready,
    /// It is gone.
    Lost,
    /// libzmq waits to make it again.
    Retried,
}

fn sequence(frame: &[u8]) -> Option<u64> {
    frame.try_into().ok().map(u64::from_be_bytes)
}

/// Asks a replay socket for all batches from `from` on, and says whether it could be sent.
pub(super) fn ask_replay(socket: &Socket, from: u64) -> bool {
    socket.send_multipart([&b""[..], &from.to_be_bytes()], DONTWAIT).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(parts: &[&[u8]]) -> Frames {
        let first = parts.iter().take(MOST_FRAMES).map(|&part| Message::from(part)).collect();
        Frames { first, count: parts.len() }
    }

    const SEVEN: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 7];
    const END: &[u8] = &[0xff; 8];

    #[test]
    fn a_published_batch_has_topic_number_and_payload() {
        let (topic, batch) = frames(&[b"kv@a@m", SEVEN, b"data"]).published().unwrap();
        assert_eq!((&*topic, batch.sequence, &*batch.payload), (&b"kv@a@m"[..], 7, &b"data"[..]));
        for parts in [
            &[][..],
            &[&b"topic"[..]],
            &[b"topic", SEVEN],
            &[&b"topic"[..], b"7", b"data"],
            &[b"topic", SEVEN, b"data", b"more"],
            &[b"topic", SEVEN, b"data", b"more", b"and", b"more"],
        ] {
            assert!(frames(parts).published().is_none(), "{parts:?}");
        }
    }

    #[test]
    fn replayed_batches_of_both_forms_are_read_and_so_are_their_ends() {
        for parts in [&[b"", SEVEN, b"data"][..], &[b"", b"topic", SEVEN, b"data"]] {
            let Some(Replayed::Batch(batch)) = frames(parts).replayed() else { panic!("{parts:?}") };
            assert_eq!((batch.sequence, &*batch.payload), (7, &b"data"[..]));
        }
        for parts in [&[&b""[..], END, b""][..], &[b"", b"", END, b""]] {
            assert!(matches!(frames(parts).replayed(), Some(Replayed::End)), "{parts:?}");
        }
    }

    #[test]
    fn replies_of_no_known_form_are_none() {
        for parts in [
            &[][..],
            &[SEVEN, b"data"],
            &[b"x", SEVEN, b"data"],
            &[&b""[..], b"7", b"data"],
            &[b"", b"topic", SEVEN, b"data", b"more"],
        ] {
            assert!(frames(parts).replayed().is_none(), "{parts:?}");
        }
    }

    #[test]
    fn what_a_monitor_says_is_read_from_its_first_frame() {
        let of = |event: u16| frames(&[&[event.to_le_bytes().as_slice(), &[9, 0, 0, 0]].concat(), b"tcp://"]);
        assert_eq!(of(0x0020).connection(), Some(Connection::Accepted));
        assert_eq!(of(0x0200).connection(), Some(Connection::Lost));
        assert_eq!(of(0x1000).connection(), Some(Connection::Ready));
        assert_eq!(of(0x0004).connection(), Some(Connection::Retried));
        assert_eq!(of(0x0001).connection(), None);
        assert_eq!(frames(&[b"short"]).connection(), None);
    }
}
