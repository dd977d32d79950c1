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

/// Leading blocks of each holder, taken in block by block.
///
/// The rule is the index's: the blocks of the nearest tier first, then, from where those end, those that lie in the next,
/// and so on; a farther tier is not left again for a nearer one.
#[derive(Debug)]
pub(super) struct Walk<H> {
    places: HashMap<H, u32>,
    standing: Vec<Standing>,
    /// Places of those that have all blocks so far.
    going_on: Vec<u32>,
    visited: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    /// Leading blocks that are in this tier or were in a nearer one.
    reached: Reached,
    /// The tier it is at.
    tier: u8,
    /// Tiers that have the block at hand, as bits.
    has: u8,
}

/// Leading blocks in each tier or nearer ones, in the order of [`Tier::ALL`].
pub(super) type Reached = [u32; Tier::ALL.len()];

impl<H: Eq + Hash> Walk<H> {
    pub(super) fn new() -> Self {
        Self { places: HashMap::new(), standing: Vec::new(), going_on: Vec::new(), visited: 0 }
    }

    /// Takes in who holds the next block; answers whether anybody holds all so far.
    pub(super) fn visit(&mut self, holders: impl Iterator<Item = (H, Tier)>) -> bool {
        let Self { places, standing, going_on, visited } = self;
        for (holder, tier) in holders {
            let place = if *visited == 0 {
                *places.entry(holder).or_insert_with(|| {
                    going_on.push(standing.len() as u32);
                    standing.push(Standing::default());
                    standing.len() as u32 - 1
                })
            } else {
                let Some(&place) = places.get(&holder) else { continue };
                place
            };
            standing[place as usize].has |= 1 << tier as u8;
        }
        *visited += 1;
        going_on.retain(|&place| {
            let standing = &mut standing[place as usize];
            // The tier it is at, or the next that goes on from here.
            let has = std::mem::take(&mut standing.has) >> standing.tier;
            if has == 0 {
                return false;
            }
            standing.tier += has.trailing_zeros() as u8;
            standing.reached[standing.tier as usize..].fill(*visited);
            true
        });
        !going_on.is_empty()
    }

    /// What each has.
    pub(super) fn into_reached(self) -> impl Iterator<Item = (H, Reached)> {
        let standing = self.standing;
        self.places.into_iter().map(move |(holder, place)| (holder, standing[place as usize].reached))
    }
}

/// The tiers in which something is added, with the leading blocks that are there or nearer.
pub(super) fn steps(reached: Reached) -> impl Iterator<Item = (Tier, u32)> {
    let mut before = 0;
    Tier::ALL.into_iter().zip(reached).filter(move |&(_, blocks)| {
        let is_step = blocks > before;
        before = before.max(blocks);
        is_step
    })
}

/// Asks until nobody goes on. Each answer may take `limit`; what cannot be answered within `enough`, as fast as answers
/// came so far, is not asked, so that long prompts are known in part and not too late.
pub(super) async fn walk<Q: Question>(
    connection: &Connection,
    question: &Q,
    limit: Duration,
    enough: Duration,
) -> Result<Walk<Q::Holder>, ConnectionError> {
    let (begun, mut walk, mut at) = (Instant::now(), Walk::new(), 0);
    let mut sizes = SIZES.into_iter().chain(std::iter::repeat(SIZES[SIZES.len() - 1]));
    while at < question.blocks() {
        // Holder sets are mostly nested along a prompt: who went on so far bounds those to come.
        let fit = MOST_HOLDERS / walk.going_on.len().max(1);
        let size = sizes.next().unwrap_or(SIZES[0]).min(fit.max(SIZES[0]));
        let size = if at == 0 {
            size
        } else {
            let spent = begun.elapsed();
            let left = enough.saturating_sub(spent).as_secs_f64();
            let in_time = at as f64 * left / spent.as_secs_f64().max(1e-9);
            if in_time < SIZES[0] as f64 / 2.0 {
                break;
            }
            size.min(in_time as usize)
        };
        let end = (at + size).min(question.blocks());
        let answers = connection.pipeline_within(&question.ask(at..end), limit).await?;
        for answer in &answers {
            if !walk.visit(question.holders(answer)) {
                return Ok(walk);
            }
        }
        at = end;
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
        assert_eq!(walk.going_on.len(), 1);
        assert!(!visit(&mut walk, &[('b', Tier::Gpu), ('c', Tier::Gpu)]));
        let reached: HashMap<_, _> = walk.into_reached().collect();
        assert_eq!((reached[&'a'][3], reached[&'b'][3], reached.len()), (3, 1, 2));
    }

    #[test]
    fn farther_tiers_go_on_where_nearer_ones_end() {
        let mut walk = Walk::new();
        visit(&mut walk, &[('a', Tier::Gpu), ('a', Tier::Cpu)]);
        visit(&mut walk, &[('a', Tier::Cpu)]);
        visit(&mut walk, &[('a', Tier::Gpu), ('a', Tier::Cpu)]);
        visit(&mut walk, &[('a', Tier::Disk), ('a', Tier::Gpu)]);
        assert!(!visit(&mut walk, &[('a', Tier::Cpu)]), "farther tiers are not left again");
        let reached = walk.into_reached().next().unwrap().1;
        assert_eq!(reached, [1, 3, 4, 4]);
        let steps: Vec<_> = steps(reached).collect();
        assert_eq!(steps, [(Tier::Gpu, 1), (Tier::Cpu, 3), (Tier::Disk, 4)]);
    }
}
