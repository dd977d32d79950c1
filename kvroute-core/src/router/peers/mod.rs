//! Several routers that serve one fleet: what this one tells its peers, and what it takes in from them.
//!
//! [`Router::join_peers`] begins to write down what is booked; [`Router::report_to_peers`] gives it out as bytes, which the
//! embedder carries to the others, and [`Router::apply_peer_report`] takes theirs in. From then on every decision counts
//! what all of them have in flight, what they sent a moment ago, and where their conversations are at home, as if it were
//! its own. Decisions wait for none of that: they read the sums that stand there.
//!
//! What another router has in flight is kept by request, so that nothing is counted twice. A report that comes twice changes
//! nothing; one that is missing is noticed by its number, and the next statement of all that is in flight puts right what it
//! said. A peer of which nothing is heard for [`PeerOptions::silence`] is forgotten with all it had in flight.
//!
//! What stays local: load reports, requests that failed, and comparisons with what engines count. They are what this router
//! saw itself.

mod table;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use serde::Serialize;

pub(super) use table::PeerTable;

use super::Router;
use crate::peer::{MAX_NAME, Report};
use crate::{Error, ErrorKind};

/// Bounds of what routers tell each other. Fill it with `..PeerOptions::default()`: fields may be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerOptions {
    /// How long a peer may say nothing before it is forgotten.
    pub silence: Duration,
    /// Most blocks of a prompt that are told; of a longer one the first. 0: none, so that peers share load and sessions
    /// only.
    pub max_blocks: usize,
    /// Most bytes of what was not given out yet. Beyond them blocks are left out first; where requests are, the next
    /// report states all that is in flight.
    pub max_journal_bytes: usize,
    /// Most peers at one time; others are refused.
    pub max_peers: usize,
}

impl Default for PeerOptions {
    /// Five seconds; 4096 blocks, which are 65 536 tokens in blocks of 16; 16 MiB; 256 peers.
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(5),
            max_blocks: 4096,
            max_journal_bytes: 16 << 20,
            max_peers: 256,
        }
    }
}

/// What [`Router::report_to_peers`] is to give out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// What happened, if anything did.
    News,
    /// What happened, also if nothing did: so that peers hear that this router lives.
    Heartbeat,
    /// What happened and all that is in flight: now and then, and whenever a report may have been lost.
    Statement,
    /// That this router stops, and has nothing in flight any more. Nothing is written down from then on.
    Farewell,
}

/// What became of a peer's report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PeerReport {
    /// Its number among the reports of its sender, from 1.
    pub sequence: u64,
    /// It is this router's own; nothing was done.
    pub is_own: bool,
    /// It was taken in before; nothing was done.
    pub is_repeated: bool,
    /// There is no room for another peer; nothing was done.
    pub is_refused: bool,
    /// Reports of this peer that were lost before it.
    pub lost: u64,
    /// Parts of requests on pods that are not here, which were left out.
    pub unknown_pods: usize,
    /// Prompts whose blocks mean nothing here, because the cache domain is another or hashes differently.
    pub unknown_blocks: usize,
    /// Requests for which there was no room.
    pub over_limit: usize,
}

/// Another router, as this one knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PeerStatus {
    /// What it calls itself.
    pub name: String,
    /// The number that it drew when it started.
    pub life: u64,
    /// How long ago it was heard.
    pub silent_for: Duration,
    /// Whether all that it has in flight is known: it stated it, and no report was lost since.
    pub is_whole: bool,
    /// Requests it has in flight on pods that are here.
    pub in_flight: usize,
    /// Reports that were taken in.
    pub reports: u64,
    /// Reports that were lost.
    pub lost: u64,
}

impl Router {
    /// Begins to write down what peers are to be told. `life` tells this start of this router from all others: draw it at
    /// random. `name` is for people, at most 256 bytes. The first report has to be a [`Telling::Statement`].
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the name is too long.
    pub fn join_peers(&self, life: u64, name: &str, options: PeerOptions) -> Result<(), Error> {
        if name.len() as u64 > MAX_NAME {
            let message = alloc::format!("a name of {} bytes; {MAX_NAME} at most", name.len());
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let mut peers = self.peers.lock();
        peers.join(self, life, name, options);
        self.told_blocks.store(options.max_blocks, core::sync::atomic::Ordering::Relaxed);
        self.tickets.keep_journal(options.max_journal_bytes.max(1));
        Ok(())
    }

    /// The next report for all peers, as bytes to be carried to them as they are; in the order in which they were made.
    /// `None` if there is nothing to tell, or this router joined none.
    ///
    /// If a report may not have arrived, let the next be a [`Telling::Statement`].
    #[must_use]
    pub fn report_to_peers(&self, what: Telling) -> Option<Vec<u8>> {
        let mut peers = self.peers.lock();
        let (life, name) = peers.me().map(|(life, name)| (life, name.to_string()))?;
        let is_last = what == Telling::Farewell;
        let stated = what == Telling::Statement || self.tickets.misses_something();
        let (entries, statement) = self.tickets.tell(stated && !is_last);
        if what == Telling::News && entries.is_empty() && statement.is_none() {
            return None;
        }
        let sequence = peers.next_sequence();
        if is_last {
            self.tickets.keep_journal(0);
            self.told_blocks.store(0, core::sync::atomic::Ordering::Relaxed);
            peers.leave(self);
        }
        let entries = if is_last { Vec::new() } else { entries };
        Some(Report { life, name, sequence, is_last, entries, statement }.to_bytes())
    }

    /// Takes in a report of a peer, which was made `age` ago; `now` is the time that [`dispatch`](Self::dispatch) takes.
    /// Reports of one peer have to come in their order; what comes late is taken for repeated.
    ///
    /// # Errors
    ///
    /// `Decode` if it cannot be read; then nothing was done. `InvalidInput` if this router joined no peers.
    pub fn apply_peer_report(&self, bytes: &[u8], age: Duration, now: Duration) -> Result<PeerReport, Error> {
        let report = Report::from_bytes(bytes)?;
        let mut peers = self.peers.lock();
        if peers.me().is_none() {
            return Err(Error::invalid("this router joined no peers"));
        }
        // Not under the lock of the roster, which decisions may have to take.
        let roster = self.roster.load();
        Ok(peers.apply(self, &roster, report, now.saturating_sub(age), now))
    }

    /// Forgets peers of which nothing was heard for their time, with all they had in flight; answers how many. To be
    /// called now and then, every second, say.
    pub fn expire_peers(&self, now: Duration) -> usize {
        self.peers.lock().expire(self, now)
    }

    /// All peers of which something was heard lately.
    #[must_use]
    pub fn peers(&self, now: Duration) -> Vec<PeerStatus> {
        self.peers.lock().status(now)
    }
}
