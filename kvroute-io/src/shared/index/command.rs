//! The commands of the shared index.

use std::time::Duration;

use redis::{Cmd, Pipeline, Value};

use super::keys::{Keys, Life, Named};
use kvroute_core::{BlockHash, Tier};

/// Begins a life: if nobody else writes of the pod, its last life ends and this one begins.
///
/// KEYS: lease, new life, last life; ARGV: the lease as we left it, the lease as it will be, the pod, milliseconds.
const BEGIN: &str = "local held = redis.call('GET', KEYS[1]) \
    if held and held ~= ARGV[1] then return 0 end \
    redis.call('DEL', KEYS[3]) \
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[4]) \
    redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4]) \
    return 1";

/// Goes on with a life, if it is ours still. Only what went missing is written, so that it works where no memory is left.
///
/// KEYS: lease, life; ARGV: the lease, the pod, milliseconds.
const KEEP: &str = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end \
    redis.call('PEXPIRE', KEYS[1], ARGV[3]) \
    if redis.call('PEXPIRE', KEYS[2], ARGV[3]) == 0 then redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3]) end \
    return 1";

/// Ends a life, if it is ours still.
///
/// KEYS: lease, life; ARGV: the lease.
const END: &str = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end \
    return redis.call('DEL', KEYS[1], KEYS[2])";

fn script(text: &str, keys: &[String]) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(text).arg(keys.len()).arg(keys);
    command
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX >> 1).max(1)
}

/// What a lease says: who writes, and in which life.
pub(super) fn lease_of(owner: &str, life: Option<Life>) -> String {
    life.map_or_else(String::new, |life| format!("{owner} {:013x}", life.0))
}

/// `last` is our own last life of the pod, if it had one.
pub(super) fn begin(
    keys: &Keys,
    pod: &Named,
    owner: &str,
    last: Option<Life>,
    life: Life,
    lease: Duration,
) -> Cmd {
    let last_key = keys.life(last.unwrap_or(life));
    let mut command = script(BEGIN, &[keys.lease(pod), keys.life(life), last_key]);
    command.arg(lease_of(owner, last)).arg(lease_of(owner, Some(life)));
    command.arg(pod.to_value()).arg(milliseconds(lease));
    command
}

pub(super) fn keep(keys: &Keys, pod: &Named, owner: &str, life: Life, lease: Duration) -> Cmd {
    let mut command = script(KEEP, &[keys.lease(pod), keys.life(life)]);
    command.arg(lease_of(owner, Some(life))).arg(pod.to_value()).arg(milliseconds(lease));
    command
}

pub(super) fn end(keys: &Keys, pod: &Named, owner: &str, life: Life) -> Cmd {
    let mut command = script(END, &[keys.lease(pod), keys.life(life)]);
    command.arg(lease_of(owner, Some(life)));
    command
}

/// Whether a script did what it is for.
pub(super) fn did(answer: &Value) -> bool {
    matches!(answer, Value::Int(1..))
}

/// A block is held.
pub(super) fn add(pipeline: &mut Pipeline, key: &str, life: Life, tier: Tier, ttl: Duration) {
    pipeline.cmd("SADD").arg(key).arg(life.member(tier));
    pipeline.cmd("PEXPIRE").arg(key).arg(milliseconds(ttl));
}

/// A block is held no more.
pub(super) fn remove(pipeline: &mut Pipeline, key: &str, life: Life, tier: Tier) {
    pipeline.cmd("SREM").arg(key).arg(life.member(tier));
}

/// Who holds these blocks.
pub(super) fn holders(keys: &Keys, domain: u64, blocks: &[BlockHash]) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(blocks.len());
    for &block in blocks {
        pipeline.cmd("SMEMBERS").arg(keys.block(domain, block));
    }
    pipeline
}

/// The members of a set of integers; what is none is passed over.
pub(super) fn members(answer: &Value) -> impl Iterator<Item = u64> {
    let values = match answer {
        Value::Array(values) | Value::Set(values) => &**values,
        _ => &[],
    };
    values.iter().filter_map(|value| match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        other => text(other)?.parse().ok(),
    })
}

/// Whose lives these are.
pub(super) fn names(keys: &Keys, lives: &[Life]) -> Cmd {
    let mut command = redis::cmd("MGET");
    for &life in lives {
        command.arg(keys.life(life));
    }
    command
}

/// A string in an answer.
pub(super) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// The values of an answer that is a list of them.
pub(super) fn list(value: &Value) -> &[Value] {
    match value {
        Value::Array(values) | Value::Set(values) => values,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvroute_core::{BlockHasher, CacheDomain, OwnScheme};

    /// The keys that a command names.
    fn keys_of(command: &Cmd) -> Vec<String> {
        let args: Vec<_> = command
            .args_iter()
            .map(|arg| match arg {
                redis::Arg::Simple(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
                _ => String::new(),
            })
            .collect();
        match &*args[0] {
            "EVAL" => args[3..3 + args[2].parse::<usize>().unwrap()].to_vec(),
            "MGET" => args[1..].to_vec(),
            _ => vec![args[1].clone()],
        }
    }

    /// A key's slot, as clusters reckon it (Redis Cluster specification): CRC16-CCITT (XMODEM) of its hash tag.
    fn slot(key: &str) -> u16 {
        let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
        let tag = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
        let crc = tag.bytes().fold(0_u16, |crc, byte| {
            (0..8)
                .fold(crc ^ u16::from(byte) << 8, |crc, _| crc << 1 ^ if crc >> 15 == 1 { 0x1021 } else { 0 })
        });
        crc % 16_384
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(slot("123456789"), 0x31c3);
        assert_eq!(slot("{user1000}.following"), slot("{user1000}.followers"));
        assert_ne!(slot("foo{}{bar}"), slot("bar"), "an empty tag is none");
    }

    #[test]
    fn keys_of_one_command_and_of_one_index_share_a_slot() {
        let keys = Keys::new("kvroute");
        let domain = CacheDomain::new("model", BlockHasher::new(OwnScheme::default(), 16).unwrap()).unwrap();
        let pod = Named { domain: domain.fingerprint(), rank: 2, name: "a{b}c".to_owned() };
        let (one, other, ttl) = (Life::draw(), Life::draw(), Duration::from_secs(1));
        let mut pipeline = Pipeline::new();
        add(&mut pipeline, &keys.block(pod.domain, BlockHash(5)), one, Tier::Gpu, ttl);
        remove(&mut pipeline, &keys.block(pod.domain, BlockHash(6)), one, Tier::Gpu);
        let blocks: Vec<_> = (0..100).map(BlockHash).collect();
        let commands = [
            begin(&keys, &pod, "me", Some(other), one, ttl),
            keep(&keys, &pod, "me", one, ttl),
            end(&keys, &pod, "me", one),
            names(&keys, &[one, other]),
        ];
        let asked = holders(&keys, pod.domain, &blocks);
        let all: Vec<_> =
            commands.iter().chain(pipeline.cmd_iter()).chain(asked.cmd_iter()).map(keys_of).collect();
        assert!(all[0].len() == 3 && all[3].len() == 2 && all.len() == 4 + 3 + 100);
        let all: Vec<_> = all.into_iter().flatten().collect();
        assert!(all.iter().all(|key| slot(key) == slot("kvroute")), "{all:?}");
        assert_ne!(slot(&Keys::new("other").life(one)), slot("kvroute"));
    }
}
