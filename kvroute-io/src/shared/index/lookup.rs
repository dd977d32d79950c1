//! One lookup: pipelines that grow, until no pod goes on.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Range;
use std::time::{Duration, Instant};

use kvroute_core::Tier;
use redis::{Pipeline, Value};

use crate::shared::connection::{Connection, ConnectionError};

/// Blocks asked for at once: few first, for most prompts of which nobody has much end there.
const SIZES: [usize; 4] = [32, 128, 512, 1024];

/// Holders asked for at once, as far as they can be foreseen: what an answer may take is bounded by it.
const MOST_HOLDERS: usize = 1 << 16;

/// What is asked, and how answers are read.
pub(super) trait Question {
    /// What holds blocks.
    type Holder: Eq + Hash;

    /// The number of blocks.
    fn blocks(&self) -> usize;

    /// Asks who holds these.
    fn ask(&self, blocks: Range<usize>) -> Pipeline;

    /// Who holds a block, by the answer.
    fn holders(&self, answer: &Value) -> impl Iterator<Item = (Self::Holder, Tier)>;
}

/// How many leading blocks each holder has in each tier or nearer ones.
#[derive(Debug)]
pub(super) struct Walk<H> {
    reached: HashMap<H, [u32; Tier::ALL.len()]>,
    visited: u32,
}

impl<H: Eq + Hash> Walk<H> {
    pub(super) fn new() -> Self {
        Self { reached: HashMap::new(), visited: 0 }
    }

    /// Takes in who holds the next block; answers whether anybody holds all so far.
    pub(super) fn visit(&mut self, holders: impl Iterator<Item = (H, Tier)>) -> bool {
        let (before, mut goes_on) = (self.visited, false);
        self.visited += 1;
        for (holder, tier) in holders {
            let reached = match before {
                0 => self.reached.entry(holder).or_default(),
                _ => match self.reached.get_mut(&holder) {
                    Some(reached) => reached,
                    None => continue,
                },
            };
            // One that is in several tiers is there from the nearest on.
            for reached in &mut reached[tier as usize..] {
                if *reached == before {
                    *reached = self.visited;
                    goes_on = true;
                }
            }
        }
        goes_on
    }

    /// Holders that have all blocks so far.
    fn going_on(&self) -> usize {
        self.reached.values().filter(|reached| reached.last() == Some(&self.visited)).count()
    }

    /// What each has: leading blocks that lie in a tier or nearer, by tier.
    pub(super) fn into_reached(self) -> HashMap<H, [u32; Tier::ALL.len()]> {
        self.reached
    }
}

/// The tiers in which something is added, with the leading blocks that are there or nearer.
pub(super) fn steps(reached: [u32; Tier::ALL.len()]) -> impl Iterator<Item = (Tier, u32)> {
    let mut before = 0;
    Tier::ALL.into_iter().zip(reached).filter(move |&(_, blocks)| {
        let is_step = blocks > before;
        before = before.max(blocks);
        is_step
    })
}

/// Asks until nobody goes on. Each answer may take `limit`, and when that is over no more is asked.
pub(super) async fn walk<Q: Question>(
    connection: &Connection,
    question: &Q,
    limit: Duration,
) -> Result<Walk<Q::Holder>, ConnectionError> {
    let (begun, mut walk, mut at) = (Instant::now(), Walk::new(), 0);
    let mut sizes = SIZES.into_iter().chain(std::iter::repeat(SIZES[SIZES.len() - 1]));
    while at < question.blocks() {
        // Holder sets are mostly nested along a prompt: who went on so far bounds those to come.
        let fit = MOST_HOLDERS / walk.going_on().max(1);
        let size = sizes.next().unwrap_or(SIZES[0]).min(fit.max(SIZES[0]));
        let end = (at + size).min(question.blocks());
        let answers = connection.pipeline_within(&question.ask(at..end), limit).await?;
        for answer in &answers {
            if !walk.visit(question.holders(answer)) {
                return Ok(walk);
            }
        }
        at = end;
        if begun.elapsed() > limit {
            break;
        }
    }
    Ok(walk)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visit(walk: &mut Walk<char>, holders: &[(char, Tier)]) -> bool {
        walk.visit(holders.iter().copied())
    }

    #[test]
    fn a_hole_ends_a_holders_prefix_and_a_late_one_has_none() {
        let mut walk = Walk::new();
        assert!(visit(&mut walk, &[('a', Tier::Gpu), ('b', Tier::Gpu)]));
        assert!(visit(&mut walk, &[('a', Tier::Gpu), ('c', Tier::Gpu)]));
        assert!(visit(&mut walk, &[('a', Tier::Gpu), ('b', Tier::Gpu)]));
        assert_eq!(walk.going_on(), 1);
        assert!(!visit(&mut walk, &[('b', Tier::Gpu), ('c', Tier::Gpu)]));
        let reached = walk.into_reached();
        assert_eq!((reached[&'a'][3], reached[&'b'][3], reached.len()), (3, 1, 2));
    }

    #[test]
    fn farther_tiers_go_on_where_nearer_ones_end() {
        let mut walk = Walk::new();
        visit(&mut walk, &[('a', Tier::Gpu), ('a', Tier::Cpu)]);
        visit(&mut walk, &[('a', Tier::Cpu)]);
        visit(&mut walk, &[('a', Tier::Disk), ('a', Tier::Gpu)]);
        assert!(visit(&mut walk, &[('a', Tier::Disk)]));
        let reached = walk.into_reached()[&'a'];
        assert_eq!(reached, [1, 3, 4, 4]);
        let steps: Vec<_> = steps(reached).collect();
        assert_eq!(steps, [(Tier::Gpu, 1), (Tier::Cpu, 3), (Tier::Disk, 4)]);
    }
}
