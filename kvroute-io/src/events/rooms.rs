//! libzmq contexts with room for more sockets: each has at most 1023 (`ZMQ_MAX_SOCKETS`), an I/O thread of its own, and
//! one that closes sockets.

use std::cell::Cell;
use std::rc::Rc;

/// Sockets opened in a context. Some below its limit, for closed sockets leave it a moment later.
const SOCKETS: usize = 900;

#[derive(Default)]
pub(super) struct Rooms {
    rooms: Vec<Room>,
    /// Names given so far.
    names: u64,
}

struct Room {
    context: zmq::Context,
    used: Rc<Cell<usize>>,
}

/// Room for some sockets, given back when it is dropped.
pub(super) struct Seats {
    pub(super) context: zmq::Context,
    used: Rc<Cell<usize>>,
    count: usize,
}

impl Rooms {
    /// Room for `count` sockets in one context.
    pub(super) fn take(&mut self, count: usize) -> Seats {
        let free = self.rooms.iter().position(|room| room.used.get() + count <= SOCKETS);
        let at = free.unwrap_or_else(|| {
            self.rooms.push(Room { context: zmq::Context::new(), used: Rc::default() });
            self.rooms.len() - 1
        });
        let Room { context, used } = &self.rooms[at];
        used.set(used.get() + count);
        Seats { context: context.clone(), used: Rc::clone(used), count }
    }

    /// An endpoint inside the process that no other has.
    pub(super) fn name(&mut self) -> String {
        self.names += 1;
        format!("inproc://{}", self.names)
    }
}

impl Drop for Seats {
    fn drop(&mut self) {
        self.used.set(self.used.get() - self.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_context_is_followed_by_another_and_seats_are_given_back() {
        let mut rooms = Rooms::default();
        let seats: Vec<Seats> = (0..300).map(|_| rooms.take(3)).collect();
        assert_eq!(rooms.rooms.len(), 1);
        let more = rooms.take(3);
        assert_eq!(rooms.rooms.len(), 2);
        drop(seats);
        assert_eq!((rooms.rooms[0].used.get(), rooms.rooms[1].used.get()), (0, 3));
        drop(more);
    }
}
