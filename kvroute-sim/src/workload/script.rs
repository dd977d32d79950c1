//! What clients will ask, written down before a run: requests that come at times of their own, and requests
//! that wait for an answer.

use super::{FleetRequest, Load};

/// All requests of a load, whose ids are their places. Clients arrive at times of their own; a client with
/// more to ask sends its next request some time after the answer to the one before it: a *partly open* load
/// (Schroeder, Wierman and Harchol-Balter, "Open Versus Closed: A Cautionary Tale", NSDI 2006). So slow pods
/// delay what a conversation asks next, as they do in life, and every policy gets the same requests.
///
/// A conversation whose request fails ends there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Script {
    turns: Vec<Turn>,
    /// Places of the requests that wait for no answer, in order of arrival.
    openings: Vec<u32>,
}

/// One request of a conversation.
#[derive(Clone, Debug, PartialEq)]
struct Turn {
    request: FleetRequest,
    /// What the client asks after the answer, and the seconds it takes to.
    next: Option<(u32, f64)>,
}

/// A request of a conversation that is being written down.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Draft {
    /// Seconds between the answer before it and this request; of no account for the first.
    pub(super) think: f64,
    pub(super) token_ids: Vec<u32>,
    pub(super) output_tokens: u32,
}

impl Script {
    /// The id that the next request will have.
    pub(super) fn next_id(&self) -> u64 {
        self.turns.len() as u64
    }

    /// A conversation that begins at `start`.
    pub(super) fn converse(&mut self, session: u64, start: f64, turns: Vec<Draft>) {
        let first = self.turns.len();
        let last = (first + turns.len()).saturating_sub(1);
        let thinks: Vec<f64> = turns.iter().map(|turn| turn.think).collect();
        for (n, Draft { token_ids, output_tokens, .. }) in turns.into_iter().enumerate() {
            let place = first + n;
            let next = (place < last).then(|| (place as u32 + 1, thinks[n + 1]));
            let id = place as u64;
            let request = FleetRequest {
                id,
                arrival: start,
                token_ids: token_ids.into(),
                output_tokens,
                session,
                ..FleetRequest::default()
            };
            self.turns.push(Turn { request, next });
        }
        if first < self.turns.len() {
            self.openings.push(first as u32);
        }
    }

    /// To be called when all conversations are there.
    pub(super) fn finished(mut self) -> Self {
        let arrival = |&place: &u32| self.turns[place as usize].request.arrival;
        self.openings.sort_by(|one, other| arrival(one).total_cmp(&arrival(other)));
        self
    }

    /// How many requests there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.turns.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// The load, to be run once.
    #[must_use]
    pub fn play(&self) -> Playing<'_> {
        Playing { script: self, next: 0 }
    }

    /// All requests in the order in which they would arrive if every answer took `request` seconds and
    /// `token` seconds a token. Arrivals are those times.
    #[must_use]
    pub fn requests_if(&self, request: f64, token: f64) -> Vec<FleetRequest> {
        let mut arrivals: Vec<f64> = self.turns.iter().map(|turn| turn.request.arrival).collect();
        for (place, turn) in self.turns.iter().enumerate() {
            if let Some((next, think)) = turn.next {
                let answer = request + token * f64::from(turn.request.output_tokens);
                arrivals[next as usize] = arrivals[place] + answer + think;
            }
        }
        let turns = self.turns.iter().zip(arrivals);
        let mut requests: Vec<_> =
            turns.map(|(turn, arrival)| FleetRequest { arrival, ..turn.request.clone() }).collect();
        requests.sort_by(|one, other| one.arrival.total_cmp(&other.arrival));
        requests
    }
}

impl FromIterator<FleetRequest> for Script {
    /// Requests that wait for no answer; they are numbered anew.
    fn from_iter<I: IntoIterator<Item = FleetRequest>>(requests: I) -> Self {
        let number = |(id, request)| Turn { request: FleetRequest { id, ..request }, next: None };
        let turns: Vec<_> = (0..).zip(requests).map(number).collect();
        let openings = (0..turns.len() as u32).collect();
        Self { turns, openings }.finished()
    }
}

/// A [`Script`] being run.
#[derive(Clone, Debug)]
pub struct Playing<'a> {
    script: &'a Script,
    /// Openings that were given out.
    next: usize,
}

impl Load for Playing<'_> {
    fn next_arrival(&mut self) -> Option<FleetRequest> {
        let &place = self.script.openings.get(self.next)?;
        self.next += 1;
        Some(self.script.turns[place as usize].request.clone())
    }

    fn follow_up(&mut self, answered: u64, now: f64) -> Option<FleetRequest> {
        let (next, think) = self.script.turns.get(answered as usize)?.next?;
        let request = self.script.turns[next as usize].request.clone();
        Some(FleetRequest { arrival: now + think, ..request })
    }
}
